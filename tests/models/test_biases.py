"""Biases of ratings against a ridge regression, and what the rating models make of them."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.errors import ConfigError
from recsys.models import DeepRecommender, GLocalK, IAutoRec, SparseFC, UAutoRec, load
from recsys.models.least_squares import Biases
from tests.contract import ratings

MATRIX = ratings(n_users=18, n_items=11, density=0.35)
TINY = {"hidden": 4, "epochs": 3, "batch_size": 7, "learning_rate": 0.05, "weight_decay": 2.0, "biases": 3.0}

both = pytest.mark.parametrize("model_class", [UAutoRec, IAutoRec])


def fit(model_class, matrix=MATRIX, **changes):
    return model_class(**{**TINY, **changes}).fit(matrix, show_progress=False)


def everything(model, matrix=MATRIX, users=None):
    users = np.arange(matrix.shape[0]) if users is None else users
    return model.predict(users, matrix, np.tile(np.arange(matrix.shape[1]), (matrix.shape[0], 1)))


@pytest.mark.parametrize("damping", [0.5, 5.0])
def test_the_biases_are_those_of_a_ridge_regression(damping):
    rows, columns = MATRIX.nonzero()
    design = np.zeros((MATRIX.nnz, 18 + 11))
    design[np.arange(MATRIX.nnz), rows] = 1
    design[np.arange(MATRIX.nnz), 18 + columns] = 1
    target = MATRIX.data - MATRIX.data.mean(dtype=np.float64)
    expected = np.linalg.solve(design.T @ design + damping * np.eye(29), design.T @ target)
    found = Biases.of(MATRIX, damping)
    np.testing.assert_allclose(found.users(MATRIX), expected[:18], atol=2e-3)
    np.testing.assert_allclose(found.items, expected[18:], atol=2e-3)


def test_without_ratings_there_is_no_bias_and_no_division_by_zero():
    matrix = MATRIX.copy().tolil()
    matrix[3], matrix[:, 5] = 0, 0
    found = Biases.of(sp.csr_matrix(matrix), 0.0)
    assert found.users(sp.csr_matrix(matrix))[3] == 0
    assert found.items[5] == 0


def test_residuals_keep_every_entry_and_add_up_again():
    found = Biases.of(MATRIX, 2.0)
    left = found.residuals(MATRIX)
    rows, columns = MATRIX.nonzero()
    assert left.nnz == MATRIX.nnz
    np.testing.assert_allclose(left.data + found.base(found.users(MATRIX)[rows], columns), MATRIX.data, atol=1e-5)


@both
def test_the_network_learns_what_the_biases_leave(model_class, monkeypatch):
    """The same as biases taken off by hand before a model without any, and added by hand after it."""
    model = fit(model_class, clip=False)
    monkeypatch.setattr(model_class, "_unit", lambda self, matrix: 1.0)  # that of the ratings
    biases = Biases.of(MATRIX, 3.0)
    plain = fit(model_class, biases.residuals(MATRIX), biases=None, center=False, clip=False, cold_rating=0.0)
    base = biases.mean + biases.users(MATRIX)[:, None] + biases.items
    np.testing.assert_allclose(everything(model), base + everything(plain, biases.residuals(MATRIX)), rtol=0, atol=1e-5)


@both
def test_a_scoring_without_ratings_is_the_predicted_rating_less_the_mean(model_class):
    model = fit(model_class, clip=False)
    users = np.arange(18)
    with torch.inference_mode():
        scores = model._scores(MATRIX, users, None, None).numpy()
        trained = model._scores(None, users, np.arange(11), None).numpy()
    np.testing.assert_allclose(scores + model.mean_, everything(model), atol=1e-5)
    np.testing.assert_allclose(trained, scores, atol=1e-5)


@both
def test_new_users_get_the_bias_of_their_history(model_class):
    model = fit(model_class, clip=False)
    high = MATRIX.copy()
    high.data = np.minimum(high.data + 2, 5).astype(np.float32)
    strangers = np.full(18, -1)
    low, up = everything(model, users=strangers), everything(model, high, users=strangers)
    assert (up - low).mean() > 0.3


@both
def test_without_ratings_the_prediction_is_the_mean_and_the_biases(model_class):
    matrix = MATRIX.copy().tolil()
    matrix[3], matrix[:, 5] = 0, 0
    matrix = sp.csr_matrix(matrix)
    model = fit(model_class, matrix)
    biases, found = model.biases_, everything(model, matrix)
    np.testing.assert_allclose(found[3], biases.mean + biases.items, atol=1e-6)
    np.testing.assert_allclose(found[:, 5], biases.mean + biases.users(matrix), atol=1e-6)
    assert everything(fit(model_class, matrix, cold_rating=3.0), matrix)[3] == pytest.approx(3.0)


@pytest.mark.parametrize("model_class", [UAutoRec, IAutoRec, SparseFC, GLocalK, DeepRecommender])
def test_they_are_saved(model_class, tmp_path):
    hidden = 4 if model_class in (UAutoRec, IAutoRec) else (4,)
    model = fit(model_class, hidden=hidden)
    model.save(tmp_path / "bundle")
    again = load(tmp_path / "bundle")
    np.testing.assert_array_equal(everything(model), everything(again))
    for mine, its in zip(model.recommend(np.arange(18), MATRIX), again.recommend(np.arange(18), MATRIX), strict=True):
        np.testing.assert_array_equal(mine, its)


@both
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"biases": -1.0}, "must be a finite number ≥ 0 or None, got -1.0"),
        ({"center": False}, "leave center=None, or set biases=None"),
        ({"unobserved_weight": 0.1}, "biases with unobserved_weight > 0"),
    ],
)
def test_what_biases_do_not_go_with_is_refused(model_class, changes, message):
    with pytest.raises(ConfigError, match=message):
        fit(model_class, **changes)


def test_a_network_learns_little_where_biases_say_all():
    rng = np.random.default_rng(0)
    users, items = rng.normal(0, 0.5, 60), rng.normal(0, 0.5, 30)
    cells = 3.0 + users[:, None] + items
    kept = rng.random((60, 30)) < 0.5
    matrix = sp.csr_matrix(np.where(kept, cells, 0).astype(np.float32))
    options = {"hidden": 8, "epochs": 20, "weight_decay": 20.0, "clip": False}
    with_biases = fit(IAutoRec, matrix, **options, biases=0.1)
    without = fit(IAutoRec, matrix, **options, biases=None)
    error = [np.sqrt(np.mean((everything(m, matrix) - cells)[~kept] ** 2)) for m in (with_biases, without)]
    assert error[0] < 0.05 < error[1]
