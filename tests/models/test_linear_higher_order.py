"""Higher-order EASE against regressions with the features it may use, and against the paper's own algorithm."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.models import EASE, HigherOrderEASE
from recsys.models.pairs import frequent_pairs
from tests.contract import cells_of, csr, random_cells, ratings

RATINGS = ratings(n_users=24, n_items=13, density=0.4)
UNSEEN = ratings(n_users=7, n_items=13, density=0.3, seed=1)
OPTIONS = {"regularization": 2.0, "pairs": 9, "pair_regularization": 3.0}


def fit(matrix=RATINGS, **changes):
    return HigherOrderEASE(**{**OPTIONS, **changes}).fit(matrix, show_progress=False)


def dense(matrix):
    return np.nan_to_num(cells_of(matrix)).astype(np.float64)


def features(x, pairs):
    return np.hstack([x, x[:, pairs[:, 0]] * x[:, pairs[:, 1]]])


def allowed(n_items, pairs):
    """(n_features, n_items): whether a feature may predict an item, which is in none of a feature's own items."""
    own = np.vstack([np.eye(n_items, dtype=bool), np.zeros((len(pairs), n_items), bool)])
    for row, pair in enumerate(pairs):
        own[n_items + row, pair] = True
    return ~own


def regressions(inputs, outputs, penalty, mask):
    """Column j by ridge regression on the features that may predict item j."""
    weights = np.zeros(mask.shape)
    for j in range(mask.shape[1]):
        use = mask[:, j]
        own = inputs[:, use]
        weights[use, j] = np.linalg.solve(own.T @ own + np.diag(penalty[use]), own.T @ outputs[:, j])
    return weights


@pytest.mark.parametrize("pairs", [1, 9, 60])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_each_column_is_the_ridge_regression_on_all_features_without_the_item(pairs, precision):
    model, x = fit(pairs=pairs, precision=precision), dense(RATINGS)
    inputs, penalty = features(x, model.pairs_), np.repeat([2.0, 3.0], [13, pairs])
    expected = regressions(inputs, x, penalty, allowed(13, model.pairs_))
    np.testing.assert_allclose(model.weights_.numpy(), expected, rtol=0, atol=1e-6 if precision == "float64" else 1e-4)
    assert not model.weights_.numpy()[~allowed(13, model.pairs_)].any()
    assert np.abs(expected[13:]).max() > 0.01


def test_the_paper_s_algorithm_ends_at_the_same_weights():
    """Section 4: alternate between B, in closed form, and C, by the method of multipliers with step ρ."""
    model, x, rho = fit(), dense(RATINGS), 20.0
    z = features(x, model.pairs_)[:, 13:]
    mask = allowed(13, model.pairs_)[13:]
    p = np.linalg.inv(x.T @ x + 2.0 * np.eye(13))
    q = np.linalg.inv(z.T @ z + (3.0 + rho) * np.eye(9))
    c, d, gamma = np.zeros((3, 9, 13))
    for _ in range(3000):
        b = p @ (x.T @ x - x.T @ z @ c)
        b -= p * (np.diag(b) / np.diag(p))
        c = q @ (z.T @ x - z.T @ x @ b + rho * (d - gamma))
        d = c * mask
        gamma += c - d
    np.testing.assert_allclose(model.weights_.numpy(), np.vstack([b, d]), rtol=0, atol=2e-5)


def test_without_pairs_it_is_ease():
    plain = EASE(regularization=2.0, item_exponent=0.2, user_exponent=0.3).fit(RATINGS, show_progress=False)
    torch.testing.assert_close(
        fit(pairs=0, item_exponent=0.2, user_exponent=0.3).weights_, plain.weights_, rtol=0, atol=1e-7
    )
    plain = EASE(regularization=2.0).fit(RATINGS, show_progress=False)
    much = fit(pair_regularization=1e9).weights_
    torch.testing.assert_close(much[:13], plain.weights_, rtol=0, atol=1e-5)
    assert much[13:].abs().max() < 1e-5


def test_normalised_weights_minimise_the_normalised_objective():
    model, x = fit(item_exponent=0.4, user_exponent=0.7), dense(RATINGS)
    inputs = features(x, model.pairs_)
    users = (inputs != 0).sum(0)
    inputs = (x != 0).sum(1)[:, None] ** -0.35 * inputs * users**-0.4
    penalty = np.repeat([2.0, 3.0], [13, 9]) * users**-0.8
    expected = regressions(inputs, inputs[:, :13], penalty, allowed(13, model.pairs_))
    np.testing.assert_allclose(model.weights_.numpy(), expected, rtol=0, atol=2e-6)


def test_scores_add_what_the_pairs_of_the_history_say():
    model = fit()
    expected = features(dense(UNSEEN), model.pairs_) @ model.weights_.numpy()
    ids, scores = model.recommend(np.arange(7), UNSEEN, N=13, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-4)
    plain = dense(UNSEEN) @ model.weights_.numpy()[:13]
    assert np.abs(expected - plain).max() > 0.05
    ids, scores = model.recommend(np.arange(7), UNSEEN, items=[11, 0, 5], filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-4)


def test_similar_items_go_by_the_weights_there_and_back():
    model = fit()
    b = model.weights_.numpy()[:13]
    expected = np.sign(b) * np.sqrt(np.maximum(b * b.T, 0))
    np.fill_diagonal(expected, 1.0)
    ids, scores = model.similar_items(np.arange(13), N=13)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-5)


# Pairs


@given(
    n_users=st.integers(1, 12),
    n_items=st.integers(1, 9),
    number=st.integers(0, 40),
    columns=st.integers(1, 10),
    seed=st.integers(0, 9999),
)
@settings(max_examples=80, deadline=None)
def test_the_pairs_are_those_that_most_users_have(n_users, n_items, number, columns, seed):
    cells = random_cells(np.random.default_rng(seed), n_users, n_items, 0.5)
    together = Counter(pair for row in cells for pair in combinations(np.flatnonzero(~np.isnan(row)).tolist(), 2))
    expected = sorted(together, key=lambda pair: (-together[pair], pair))[:number]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.models.pairs._COLUMNS", columns)
        found = frequent_pairs(csr(cells), number)
    assert found.tolist() == [list(pair) for pair in expected]
    assert (found.dtype, found.shape) == (np.int32, (len(expected), 2))


def test_more_pairs_than_occur_are_all_pairs():
    assert len(fit(csr(np.ones((3, 4))), pairs=100).pairs_) == 6


def test_a_loaded_model_reads_the_same_pairs(tmp_path):
    model = fit()
    model.save(tmp_path / "model")
    again = HigherOrderEASE.load(tmp_path / "model")
    np.testing.assert_array_equal(again.pairs_, model.pairs_)
    assert torch.equal(again.weights_, model.weights_)


@pytest.mark.parametrize(("option", "value"), [("pairs", -1), ("pair_regularization", 0.0), ("regularization", -2.0)])
def test_options_out_of_range_are_refused_by_name(option, value):
    with pytest.raises(ConfigError, match=f"{option} of HigherOrderEASE must be .*, got {value}"):
        fit(**{option: value})
