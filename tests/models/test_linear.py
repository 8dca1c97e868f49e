"""EASE against its closed form, brute-force regressions, and its limits."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, TrainingError, UnsupportedError
from recsys.models import EASE, inverse
from tests.contract import cells_of, csr, random_cells, ratings

RATINGS = ratings(n_users=24, n_items=13, density=0.4)
BINARY = sp.csr_matrix((np.ones_like(RATINGS.data), RATINGS.indices, RATINGS.indptr), shape=RATINGS.shape)
UNSEEN = ratings(n_users=7, n_items=13, density=0.3, seed=1)
MATRICES = {"ratings": RATINGS, "binary": BINARY}

either = pytest.mark.parametrize("kind", MATRICES)


def fit(matrix=RATINGS, regularization=2.0, **options):
    return EASE(regularization=regularization, **options).fit(matrix, show_progress=False)


def dense(matrix):
    return np.nan_to_num(cells_of(matrix)).astype(np.float64)


def precision_matrix(matrix, regularization):
    x = dense(matrix)
    return np.linalg.inv(x.T @ x + regularization * np.eye(x.shape[1]))


def closed_form(matrix, regularization):
    """B = I − P · diagMat(1 ⊘ diag(P)), eq. 8."""
    p = precision_matrix(matrix, regularization)
    return np.eye(len(p)) - p @ np.diag(1 / np.diag(p))


def regressions(x, regularization):
    """Column j by the ridge regression of item j on all other items: the diagonal constraint, taken literally."""
    n = x.shape[1]
    b = np.zeros((n, n))
    for j in range(n):
        others = np.delete(np.arange(n), j)
        own = x[:, others]
        b[others, j] = np.linalg.solve(own.T @ own + regularization * np.eye(n - 1), own.T @ x[:, j])
    return b


# Weights


@either
@pytest.mark.parametrize("regularization", [0.5, 20.0, 500.0])
def test_the_weights_are_the_closed_form(kind, regularization):
    expected = closed_form(MATRICES[kind], regularization)
    np.testing.assert_allclose(np.diag(expected), 0, atol=1e-12)
    found = fit(MATRICES[kind], regularization).weights_
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(2, 8),
    regularization=st.sampled_from([0.1, 1.0, 30.0]),
    counts=st.booleans(),
    seed=st.integers(0, 9999),
)
@settings(max_examples=80, deadline=None)
def test_each_column_is_the_ridge_regression_of_an_item_on_the_others(n_users, n_items, regularization, counts, seed):
    cells = random_cells(np.random.default_rng(seed), n_users, n_items, 0.6, counts=counts)
    cells[0, 0] = 1.0
    matrix = csr(cells)
    found = fit(matrix, regularization).weights_.numpy()
    np.testing.assert_allclose(found, regressions(dense(matrix), regularization), rtol=0, atol=2e-6)


def test_no_other_weights_have_a_smaller_objective():
    x = torch.from_numpy(dense(RATINGS))
    free = ~torch.eye(13, dtype=torch.bool)

    def objective(b):
        return (x - x @ b).square().sum() + 2.0 * b.square().sum()

    b = fit().weights_.double().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(b), b)
    scale = float((2 * x.T @ x).abs().max())
    assert gradient[free].abs().max() < 1e-5 * scale
    assert gradient[~free].abs().min() > 1e-2 * scale  # only the constraint holds the diagonal


def test_the_diagonal_is_exactly_zero_and_rows_lie_together():
    for options in ({}, {"precision": "float32"}):
        weights = fit(**options).weights_
        assert (weights.dtype, weights.shape) == (torch.float32, (13, 13))
        assert not weights.diagonal().any()
        assert weights.is_contiguous()
        assert not torch.allclose(weights, weights.T, atol=1e-3)  # so that a transposed layout would show


def test_values_count_unless_they_are_all_ones():
    ratings_, binary = fit(RATINGS).weights_, fit(BINARY).weights_
    assert (ratings_ - binary).abs().max() > 0.05
    # c · X with c² · λ is the same problem.
    torch.testing.assert_close(fit(BINARY * np.float32(3), 18.0).weights_, binary, rtol=0, atol=1e-6)


def test_a_stored_zero_weighs_nothing():
    cells = cells_of(RATINGS)
    filled = csr(np.nan_to_num(cells))
    assert filled.nnz > RATINGS.nnz
    torch.testing.assert_close(fit(filled).weights_, fit().weights_, rtol=0, atol=1e-7)


def test_the_order_of_users_does_not_matter_and_their_number_scales_the_regularisation():
    order = np.random.default_rng(0).permutation(24)
    torch.testing.assert_close(fit(RATINGS[order]).weights_, fit().weights_, rtol=0, atol=1e-6)
    doubled = sp.csr_matrix(sp.vstack([RATINGS, RATINGS]))
    torch.testing.assert_close(fit(doubled, 4.0).weights_, fit().weights_, rtol=0, atol=1e-6)


def test_float32_is_close_and_float64_is_closer():
    matrix, regularization = ratings(n_users=300, n_items=30, density=0.5), 0.01
    expected = closed_form(matrix, regularization)
    errors = {
        precision: np.abs(fit(matrix, regularization, precision=precision).weights_.numpy() - expected).max()
        for precision in ("float64", "float32")
    }
    assert errors["float64"] < errors["float32"] / 2
    assert errors["float32"] < 1e-4 * np.abs(expected).max()


# Regularisation


def test_without_regularisation_it_is_least_squares():
    x = dense(RATINGS)
    assert np.linalg.matrix_rank(x) == 13
    found = fit(regularization=1e-9).weights_.numpy()
    for j in range(13):
        others = np.delete(np.arange(13), j)
        expected = np.linalg.lstsq(x[:, others], x[:, j])[0]
        np.testing.assert_allclose(found[others, j], expected, rtol=0, atol=1e-5)


def test_with_much_regularisation_it_is_co_occurrence():
    x = dense(RATINGS)
    gram = x.T @ x
    np.fill_diagonal(gram, 0)
    found = fit(regularization=1e8).weights_.numpy()
    np.testing.assert_allclose(found * 1e8, gram, rtol=0, atol=1e-4 * gram.max())


def test_more_regularisation_gives_smaller_weights():
    norms = [float(fit(regularization=value).weights_.norm()) for value in (0.1, 1, 10, 100, 1000)]
    assert all(larger > 1.05 * smaller for larger, smaller in pairwise(norms))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_regularisation_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match=f"regularization of EASE must be a finite number > 0, got {value}"):
        fit(regularization=value)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="precision of EASE must be 'float64' or 'float32', got 'float16'"):
        fit(precision="float16")


def test_the_defaults():
    assert EASE().params() == {
        "regularization": 500.0,
        "item_exponent": 0.0,
        "user_exponent": 0.0,
        "precision": "float64",
        "keep_rows": False,
        "device": "auto",
    }


# Scores


@pytest.mark.parametrize("histories", [RATINGS, UNSEEN], ids=["training users", "strangers"])
def test_scores_are_the_history_times_the_weights(histories):
    n = histories.shape[0]
    expected = dense(histories) @ closed_form(RATINGS, 2.0)
    for users in (np.arange(n), np.arange(n) - 100, np.arange(n) + 10**6):
        ids, scores = fit().recommend(users, histories, N=13, filter_already_liked_items=False)
        np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.arange(13), (n, 1)))
        np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-5)
        assert (np.diff(scores, axis=1) <= 0).all()


def test_some_items_and_best_users_are_scored_alike():
    model = fit()
    expected = dense(UNSEEN) @ closed_form(RATINGS, 2.0)
    chosen = [11, 0, 5]
    ids, scores = model.recommend(np.arange(7), UNSEEN, items=chosen, filter_already_liked_items=False)
    assert np.sort(ids, axis=1).tolist() == [[0, 5, 11]] * 7
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-5)
    ids, scores = model.recommend_users(chosen, UNSEEN, N=7, filter_already_liked_users=False)
    for row, item in enumerate(chosen):
        np.testing.assert_allclose(scores[row], expected[ids[row], item], rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores[row], np.sort(expected[:, item])[::-1], rtol=0, atol=1e-5)


def test_an_empty_history_gets_what_is_popular():
    model = fit()
    ids, scores = model.recommend(0, sp.csr_matrix((1, 13), dtype=np.float32), N=13)
    shares = np.diff(RATINGS.tocsc().indptr) / RATINGS.shape[0]
    assert ids.tolist() == np.argsort(-shares, kind="stable").tolist()
    np.testing.assert_allclose(scores, shares[ids], rtol=1e-6)


def test_scores_do_not_depend_on_the_training_users():
    """It keeps none: the same Gram matrix from other people is the same model."""
    root = np.linalg.cholesky(dense(RATINGS).T @ dense(RATINGS)).T
    other = fit(csr(np.where(root == 0, np.nan, root)))
    assert other.n_users_ == 13 != fit().n_users_
    torch.testing.assert_close(other.weights_, fit().weights_, rtol=0, atol=1e-5)


# Similarity


@either
@pytest.mark.parametrize("regularization", [0.5, 50.0])
def test_similar_items_go_by_partial_correlation(kind, regularization):
    p = precision_matrix(MATRICES[kind], regularization)
    expected = -p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    np.fill_diagonal(expected, 1.0)
    ids, scores = fit(MATRICES[kind], regularization).similar_items(np.arange(13), N=13)
    np.testing.assert_array_equal(ids[:, 0], np.arange(13))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), rtol=0, atol=1e-5)
    assert expected.min() < -0.01  # of either sign


def test_partial_correlation_is_the_correlation_of_what_the_other_items_leave():
    x = dense(RATINGS)
    ids, scores = fit(regularization=1e-9).similar_items(2, N=13)
    for item, score in zip(ids[1:], scores[1:], strict=True):
        rest = np.delete(x, [2, item], axis=1)
        one, other = (x[:, j] - rest @ np.linalg.lstsq(rest, x[:, j])[0] for j in (2, item))
        assert score == pytest.approx(one @ other / np.sqrt(one @ one * (other @ other)), abs=1e-4)


def test_it_has_no_embeddings():
    model = fit()
    for call in (lambda: model.encode(RATINGS), lambda: model.similar_users(0, user_items=RATINGS)):
        with pytest.raises(UnsupportedError, match="EASE has no embeddings of users"):
            call()
    with pytest.raises(UnsupportedError, match="EASE keeps no vectors of its training users"):
        model.similar_users(0)


def test_a_loaded_model_has_the_same_weights(tmp_path):
    model = fit()
    model.save(tmp_path / "ease")
    again = EASE.load(tmp_path / "ease")
    assert torch.equal(again.weights_, model.weights_)
    assert again.weights_.is_contiguous()
    assert again.params() == model.params()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_singular_gram_matrix_is_named(precision):
    with pytest.raises(TrainingError, match="raise regularization"):
        EASE(regularization=1e-30, precision=precision).fit(csr(np.ones((4, 3))), show_progress=False)


# Algebra


@given(
    n=st.integers(1, 12),
    panel=st.integers(1, 5),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=80, deadline=None)
def test_a_matrix_is_inverted_in_its_own_memory_panel_by_panel(n, panel, dtype, seed):
    root = torch.randn(n, n + 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    matrix = root @ root.T + 0.5 * torch.eye(n)
    expected = torch.linalg.inv(matrix)
    found = matrix.to(dtype)
    place = found.data_ptr()
    inverse.invert(found, panel)
    assert found.data_ptr() == place
    assert torch.equal(found, found.T)
    atol = (1e-11 if dtype == torch.float64 else 1e-3) * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_matrix_that_is_not_positive_definite_is_refused_in_any_panel(place):
    matrix = torch.eye(7, dtype=torch.float64)
    matrix[place, place] = -1.0
    with pytest.raises(torch.linalg.LinAlgError):
        inverse.invert(matrix, 2)


def test_the_gram_matrix_does_not_depend_on_the_blocks_it_is_made_in(monkeypatch):
    x = dense(RATINGS)
    whole = inverse.gram_matrix(RATINGS, np.dtype("float64"))
    np.testing.assert_allclose(whole, x.T @ x, rtol=1e-12)
    monkeypatch.setattr(inverse, "_BLOCK_BYTES", 12 * 13 * 5)
    assert np.array_equal(inverse.gram_matrix(RATINGS, np.dtype("float64")), whole)


@given(
    n_rows=st.integers(1, 12),
    n_columns=st.integers(1, 12),
    fewer=st.sampled_from([0.0, 0.8, 99.0]),
    block=st.sampled_from([1, 400, 10**6]),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=80, deadline=None)
def test_the_inverse_is_the_same_from_the_gram_matrix_of_rows_or_columns(n_rows, n_columns, fewer, block, dtype, seed):
    rng = np.random.default_rng(seed)
    matrix = csr(random_cells(rng, n_rows, n_columns, 0.6))
    x, penalty = dense(matrix), rng.uniform(0.5, 4.0, n_columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverse, "_FEWER", fewer)
        patch.setattr(inverse, "_BLOCK_BYTES", block)
        found = inverse.regularized_inverse(
            matrix.astype(np.float64), torch.from_numpy(penalty), np.dtype(dtype), torch.device("cpu")
        )
    expected = np.linalg.inv(x.T @ x + np.diag(penalty))
    assert found.dtype == getattr(torch, dtype)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12 if dtype == "float64" else 3e-5)


def test_fewer_users_than_items_take_the_gram_matrix_of_the_users(monkeypatch):
    shapes = []
    whole = inverse.gram_matrix
    monkeypatch.setattr(inverse, "gram_matrix", lambda m, dtype: shapes.append(m.shape[1]) or whole(m, dtype))
    for rows in (5, 10, 11, 24):
        fit(RATINGS[:rows])
    assert shapes == [5, 10, 13, 13]
