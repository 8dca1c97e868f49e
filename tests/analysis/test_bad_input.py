"""What every analysis refuses: a model that is not fitted, and rows of other items."""

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import analysis
from recsys.analysis import labels_findings
from recsys.errors import ConfigError, DataError, NotFittedError
from recsys.splits import hold_out_users

DATA = recsys.datasets.synthetic(users=150, items=60, interactions=3000, seed=1).binarized()
SPLIT = hold_out_users(DATA, n_users=30, seed=0)
TRAIN = SPLIT.train
GROUPS = pd.Series(np.where(np.arange(TRAIN.shape[0]) % 2, "a", "b"), index=TRAIN.users.ids())
OPTIONS = {"hidden": 8, "latent": 4, "epochs": 1}
CALLS = {
    "anomalies": lambda model, rows: analysis.anomalies(model, rows),
    "odd_entries": lambda model, rows: analysis.odd_entries(model, rows),
    "odd_items": lambda model, rows: analysis.odd_items(model, rows),
    "log_likelihood": lambda model, rows: analysis.log_likelihood(model, rows),
    "compare_likelihoods": lambda model, rows: analysis.compare_likelihoods({"it": model}, rows),
    "popularity_likelihood": lambda model, rows: analysis.popularity_likelihood(model, rows),
    "complete_users": lambda model, rows: analysis.complete_users(model, rows),
    "interpolate_users": lambda model, rows: analysis.interpolate_users(model, rows),
    "map": lambda model, rows: analysis.map(model, rows),
    "map of users": lambda model, rows: analysis.map(model, rows, of="users"),
    "reduction": lambda model, rows: analysis.reduction(model, rows, rows),
    "coverage": lambda model, rows: analysis.coverage(model, rows, SPLIT.test),
    "inverse_density_weights": lambda model, rows: analysis.inverse_density_weights(model, rows),
    "walk": lambda model, rows: analysis.walk(model, rows, 0, 1),
}


@pytest.fixture(scope="module")
def model():
    return recsys.MultVAE(**OPTIONS).fit(TRAIN, show_progress=False)


@pytest.mark.parametrize("rows", [TRAIN, TRAIN.matrix], ids=["interactions", "matrix"])
@pytest.mark.parametrize("name", CALLS)
def test_a_model_that_is_not_fitted_is_refused(name, rows):
    with pytest.raises(NotFittedError):
        CALLS[name](recsys.MultVAE(**OPTIONS), rows)


def test_so_is_one_that_is_to_segment_label_or_draw():
    model = recsys.MultVAE(**OPTIONS)
    for call in (
        lambda: analysis.segments(model, TRAIN),
        lambda: analysis.labels(model, TRAIN, GROUPS),
        lambda: analysis.sample_users(model, 3),
    ):
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize("name", analysis.ANALYSES)
def test_seeds_may_be_as_large_as_those_of_models(name, model, monkeypatch):
    monkeypatch.setattr(labels_findings, "SHARES", (1.0,))
    findings = analysis.ANALYSES[name].findings
    users = GROUPS.to_frame("group")
    assert findings(analysis.Subject(model=model, split=SPLIT, users=users, seed=2**40 + 7)).tables
    with pytest.raises(ConfigError, match="seed"):
        findings(analysis.Subject(model=model, split=SPLIT, users=users, seed=-1))


@pytest.mark.parametrize("name", CALLS)
def test_rows_of_other_items_are_refused(name, model):
    with pytest.raises(DataError):
        CALLS[name](model, TRAIN.matrix[:, :50])


def test_a_map_of_users_takes_a_matrix_too(model):
    one, other = analysis.map(model, TRAIN, of="users"), analysis.map(model, TRAIN.matrix, of="users")
    assert one["x"].equals(other["x"])
    assert other["user_id"].equals(other["index"].rename("user_id"))
