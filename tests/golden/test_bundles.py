"""Models saved by version 0.1.0 load and answer as they did."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recsys.models import MODELS, FeatureConsistentAE, ItemKNN, UAutoRec, load
from recsys.params import check, modern
from tests.contract import ratings

ARCHIVE = Path(__file__).with_name("bundles-0.1.0.zip")
HISTORIES = ratings(n_users=24, n_items=15, density=0.3)
USERS = np.arange(24)
with zipfile.ZipFile(ARCHIVE) as archive:
    EXPECTED = json.loads(archive.read("0.1.0/expected.json"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder / "0.1.0"


def test_there_is_one_of_every_model_of_that_version():
    assert len(EXPECTED) == 35
    assert set(EXPECTED) <= set(MODELS)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_bundle_answers_as_before(bundles, name):
    model = load(bundles / name, device="cpu")
    assert type(model) is MODELS[name]
    assert model.titles_[3] == "Title 3"
    for which, users in (("new", np.full(24, -1)), ("own", USERS)):
        if (name, which) == ("BPR", "new"):
            continue  # whom that version gave vectors by another objective, on another scale than the trained ones
        ids, scores = model.recommend(users, HISTORIES, N=5)
        expected_ids, expected_scores = map(np.array, EXPECTED[name][which])
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)
        moved = ids != expected_ids  # where two scores agree but for rounding, either order will do
        assert moved.mean() < 0.02
    assert model.fit(HISTORIES, show_progress=False).n_items_ == 15


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [
        (ItemKNN, "neighbours", "neighbors"),
        (FeatureConsistentAE, "pretraining", "pretraining_share"),
        (UAutoRec, "centre", "center"),
        (UAutoRec, "normalise", "normalize"),
    ],
)
def test_old_names_of_hyperparameters_are_translated(bundles, cls, old, new):
    stored = json.loads((bundles / cls.__name__ / "config.json").read_text())["params"]
    assert old in stored
    assert cls.load(bundles / cls.__name__).params()[new] == stored[old]


@pytest.mark.parametrize("name", ["MultVAE", "VAE", "AAE", "VAEGAN", "ALI", "FeatureConsistentAE"])
def test_a_bundle_without_the_choice_of_a_decoder_has_the_deep_one(bundles, name):
    assert "decoder" not in json.loads((bundles / name / "config.json").read_text())["params"]
    assert load(bundles / name, device="cpu").decoder == "deep"


def test_the_bundle_of_a_job_tells_its_configuration(bundles):
    model = load(bundles / "trained", device="cpu")
    stored = dict(model.about_["config"]["model"])
    assert MODELS[stored.pop("name")] is type(model)
    assert check(type(model), modern(type(model), stored)) == {
        key: model.params()[key] for key in modern(type(model), stored)
    }
