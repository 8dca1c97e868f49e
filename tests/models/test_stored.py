"""What a model takes from a bundle is what it needs, or the bundle is refused with the reason."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recsys.artifacts import read_bundle, sha256_of_json, write_bundle
from recsys.errors import BundleError, DataError
from recsys.models import EASE, MODELS, Autoencoder, IAutoRec, ItemKNN, MultVAE, load
from recsys.models.stored import Stored
from recsys.nn.networks import AutoRecNetwork
from recsys.params import modern
from recsys.training import Loss
from tests.contract import CASES, checkerboard, fitted, new_model, ratings


def changed(folder, state=(), params=(), **arrays):
    """Write a bundle again, checksums included, with other numbers and arrays in it."""
    bundle = read_bundle(folder)
    bundle.state.update(state)
    bundle.params.update(params)
    bundle.arrays.update(arrays)
    write_bundle(bundle, folder)


@pytest.fixture
def saved(tmp_path):
    def save(name, **changes):
        fitted(name, **changes).save(tmp_path / name)
        return tmp_path / name

    return save


def test_the_error_says_what_was_expected_and_what_is_there(saved):
    folder = saved("EASE")
    changed(folder, weights=np.zeros((20, 19)))
    expected = r"EASE does not fit .*EASE: weights must be float32 \(20, 20\), got float64 \(20, 19\)"
    with pytest.raises(BundleError, match=expected):
        load(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("EASE", {"weights": np.full((20, 20), np.nan, np.float32)}, "weights holds values that are NaN or infinite"),
        ("EASE", {"popularity": np.full(20, 2, np.float32)}, r"popularity must lie in 0\.\.1, got 2\.0\.\.2\.0"),
        ("EASE", {"more": np.zeros(1)}, "it has no arrays more"),
        ("EASE", {"state": {"n_users": True}}, "n_users must be a whole number ≥ 1 and < .*, got True"),
        ("EASE", {"state": {"record": {"epochs": 5}}}, "must hold `epochs`, a list of numbers by name"),
        ("EASE", {"state": {"record": {"best_epoch": 4}}}, "the best epoch of 0 cannot be 4"),
        ("EASE", {"params": {"regularization": -1.0}}, "regularization of EASE must be a finite number > 0, got -1.0"),
        ("MultVAE", {"params": {"hidden": 5_000_000}}, "ask for a network far larger than the weights"),
        ("MultVAE", {"params": {"hidden": 17}}, r"network.input.weight must be float32 \(20, 17\), got .* \(20, 16\)"),
        ("FLVAE", {"params": {"layers": 10**9}}, "ask for a network far larger than the weights"),
        ("InfiniteAE", {"state": {"ridge": 0.0}}, "ridge must be a finite number > 0"),
        (
            "InfiniteAE",
            {"params": {"bias_std": 1e300}},
            "bias_std of InfiniteAE must be a finite number > 0 and ≤ 1000000",
        ),
        ("UAutoRec", {"state": {"rating_range": [5.0, 1.0]}}, "smallest rating cannot be 5.0 and the largest 1.0"),
        (
            "HigherOrderEASE",
            {"pairs": np.zeros((20, 2), np.int32)},
            "the first item of each of the pairs must lie below",
        ),
        ("SANSA", {"data": np.zeros(120, np.float32)}, "each row of the encoder must have a length above 0"),
    ],
)
def test_what_no_model_has_is_refused(saved, name, change, message):
    folder = saved(name)
    if name == "SANSA":
        change = {"data": np.zeros_like(read_bundle(folder).arrays["data"])}
    changed(folder, **change)
    with pytest.raises(BundleError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("part", "place", "value"),
    [
        ("indices", 5, 20),
        ("indices", 5, -1),
        ("indices", 1, 0),
        ("indptr", 1, -1),
        ("indptr", 3, 10**6),
        ("indptr", 0, 1),
    ],
)
def test_indices_that_no_csr_matrix_has_are_refused(saved, part, place, value):
    folder = saved("ItemKNN")
    array = read_bundle(folder).arrays[part].copy()
    array[place] = value
    changed(folder, **{part: array})
    with pytest.raises(BundleError, match=r"indices must lie in 0\.\.19|no CSR matrix: rows must follow one another"):
        ItemKNN.load(folder)


def test_item_vectors_too_large_to_solve_with_are_an_error_of_the_package(saved):
    folder = saved("IAutoRec")
    vectors = np.full_like(read_bundle(folder).arrays["item_vectors"], 1e20)
    changed(folder, item_vectors=vectors)
    model = IAutoRec.load(folder)
    with pytest.raises(DataError, match="a user's vector cannot be solved for: the item vectors are so large"):
        model.recommend(-1, checkerboard()[:1])


def test_a_damping_beyond_32_bits_is_a_number_like_others(saved):
    folder = saved("IAutoRec", biases=2, unobserved_weight=0.0, matrix=ratings())
    changed(folder, params={"biases": 2**40})
    ids, _ = IAutoRec.load(folder).recommend(-1, ratings()[:1])
    assert (ids >= 0).any()


def test_what_save_writes_can_be_loaded(tmp_path):
    model = fitted("EASE")
    deep = []
    for _ in range(200):
        deep = [deep]
    for about, message in (
        ({"x": deep}, "nested deeper than 100 levels"),
        ({"x": "\ud800"}, "surrogates not allowed"),
    ):
        with pytest.raises(BundleError, match=message):
            model.save(tmp_path / "model", about=about)
    for value in ("x", True, float("inf"), None):
        with pytest.raises(BundleError, match=r"must hold numbers by name, got .* for 'ndcg@10'"):
            model.save(tmp_path / "model", metrics={"ndcg@10": value})
    assert list(tmp_path.iterdir()) == []


class Masked(Autoencoder):
    """A model of one's own whose network holds a mask of −inf, a type of its own, and what it makes of numpy."""

    def _network(self, n_in, generator):
        network = AutoRecNetwork(n_in, 4, generator)
        network.register_buffer("mask", torch.full((n_in, n_in), -torch.inf))
        network.register_buffer("codes", torch.from_numpy(np.arange(n_in)))
        network.register_buffer("rate", torch.tensor(0.5, dtype=torch.float64))
        return network

    def _objective(self, network, rows):
        return lambda batch, step, noise: Loss(network.decode(network.encode(batch)).square().sum(), len(batch))


class Keeper(EASE):
    """A model of one's own that writes more than it reads."""

    def _arrays(self):
        return {**super()._arrays(), "log": np.array([-np.inf])}


@pytest.mark.parametrize("cls", [Masked, Keeper])
def test_a_model_of_ones_own_is_read_as_it_wrote(tmp_path, cls):
    model = cls(epochs=1) if cls is Masked else cls()
    model.fit(checkerboard(), show_progress=False).save(tmp_path / "own")
    found, expected = (m.recommend(np.arange(20), checkerboard()) for m in (cls.load(tmp_path / "own"), model))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_as_a_mapping_arrays_come_unchecked_and_what_is_read_is_known():
    arrays = Stored({"a": np.array([np.nan]), "b": np.zeros(2)})
    assert (len(arrays), list(arrays), "c" in arrays, arrays.get("c")) == (2, ["a", "b"], False, None)
    assert "a" in arrays
    assert arrays.unread == {"a", "b"}
    assert np.isnan(arrays["a"]).all()
    assert arrays.unread == {"b"}


def test_making_a_network_takes_no_memory_beyond_the_weights(saved):
    folder = saved("MultVAE")
    changed(folder, params={"latent": 2**40})  # 64 TiB, which no machine would grant
    with pytest.raises(BundleError, match="ask for a network far larger"):
        MultVAE.load(folder)


@pytest.mark.parametrize("name", CASES)
def test_hyperparameters_are_checked_as_fit_checks_them(saved, name):
    folder = saved(name)
    params = read_bundle(folder).params
    assert modern(MODELS[name], params) == params
    if not params:
        return
    last = sorted(params)[-1]
    changed(folder, params={last: [[]]})
    with pytest.raises(BundleError, match=f"{last} of {name} must be"):
        load(folder)
    assert new_model(name).params().keys() == params.keys()


def test_a_served_bundle_is_checked_before_its_class_is_looked_for(saved):
    from recsys.tracking.adapter import BUNDLE, RecommendationModel

    folder = saved("Popularity")
    config = json.loads((folder / "config.json").read_text())
    for change in ({"model": ["x"]}, {"module": "a..b"}, {"module": 5}):
        body = {**{key: value for key, value in config.items() if key != "checksum"}, **change}
        (folder / "config.json").write_text(json.dumps({**body, "checksum": sha256_of_json(body)}))
        with pytest.raises(BundleError, match="is not a saved model of this package"):
            RecommendationModel().load_context(SimpleNamespace(artifacts={BUNDLE: str(folder)}))
