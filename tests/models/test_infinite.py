"""∞-AE against ridge regression by brute force, and against the very wide network that it is the limit of."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.models import InfiniteAE, infinite
from recsys.nn.tangent import relu_tangent_kernel
from tests.contract import cells_of, checkerboard, ratings

N_USERS, N_ITEMS = 24, 13
MATRIX = ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.4)
UNSEEN = ratings(n_users=7, n_items=N_ITEMS, density=0.3, seed=1)


def fit(matrix=MATRIX, **options):
    return InfiniteAE(**options).fit(matrix, show_progress=False)


def dense(matrix):
    return np.nan_to_num(cells_of(matrix)).astype(np.float64)


def kernel(one, other, bias_std=0.1):
    left, right = torch.from_numpy(one), torch.from_numpy(other)
    squares = left.square().sum(1), right.square().sum(1)
    return relu_tangent_kernel(left @ right.T, *squares, one.shape[1], bias_std).numpy()


def dual(regularization=5.0, bias_std=0.1):
    x = dense(MATRIX)
    own = kernel(x, x, bias_std)
    return np.linalg.solve(own + regularization * np.trace(own) / len(x) * np.eye(len(x)), x)


def scores_of(model, histories):
    """All scores as a (users, items) table, by way of the lists."""
    users, width = np.arange(histories.shape[0]), histories.shape[1]
    ids, scores = model.recommend(users, histories, N=width, filter_already_liked_items=False)
    table = np.empty(histories.shape, dtype=np.float32)
    np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
    return table


@pytest.mark.parametrize("histories", [MATRIX, UNSEEN], ids=["training users", "strangers"])
@pytest.mark.parametrize("options", [{}, {"regularization": 0.1}, {"bias_std": 0.7}], ids=str)
def test_scores_are_kernel_ridge_regression(options, histories):
    x = dense(MATRIX)
    expected = kernel(dense(histories), x, options.get("bias_std", 0.1)) @ dual(**options)
    np.testing.assert_allclose(scores_of(fit(**options), histories), expected, rtol=0, atol=1e-5)


def test_no_other_weights_have_a_smaller_objective():
    """‖X − Kα‖² + λ' ⟨α, Kα⟩, whose gradient is 2 K ((K + λ' I) α − X)."""
    x = dense(MATRIX)
    own = torch.from_numpy(kernel(x, x))
    ridge = 0.5 * float(own.diagonal().mean())

    def objective(alpha):
        return (torch.from_numpy(x) - own @ alpha).square().sum() + ridge * (alpha * (own @ alpha)).sum()

    alpha = fit(regularization=0.5).dual_.T.double().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(alpha), alpha)
    (at_zero,) = torch.autograd.grad(objective(torch.zeros_like(alpha).requires_grad_()), alpha, allow_unused=True)
    assert at_zero is None
    assert gradient.abs().max() < 1e-5 * (2 * own @ torch.from_numpy(x)).abs().max()


def test_without_ridge_it_repeats_its_users_and_with_much_it_says_nothing_of_them():
    x = dense(MATRIX)
    np.testing.assert_allclose(scores_of(fit(regularization=1e-9), MATRIX), x, rtol=0, atol=1e-3)
    alike = scores_of(fit(regularization=1e9), MATRIX) * 1e9
    mean = np.mean(np.diag(kernel(x, x)))
    np.testing.assert_allclose(alike, kernel(x, x) @ x / mean, rtol=1e-3)


def test_it_is_the_prediction_of_a_very_wide_network_trained_to_the_end():
    """Linearised at its start: f(x) = J(x) Jᵀ (J Jᵀ + λ' I)⁻¹ X with J the gradients of the finite network."""
    width, rng = 30_000, np.random.default_rng(3)
    first, first_bias, second = (rng.normal(size=shape) for shape in ((N_ITEMS, width), width, width))

    def features(x):
        """The gradients' inner products with those of the training rows, layer by layer."""
        before = np.sqrt(2 / N_ITEMS) * x @ first + 0.1 * first_bias
        return np.sqrt(2 / width) * np.maximum(before, 0), np.sqrt(2 / width) * (before > 0) * second

    def finite_kernel(one, other):
        (hidden, slope), (hidden_other, slope_other) = features(one), features(other)
        inner = slope @ slope_other.T
        return hidden @ hidden_other.T + inner * (2 / N_ITEMS * one @ other.T + 0.01) + 0.01

    x = dense(MATRIX)
    own = finite_kernel(x, x)
    expected = finite_kernel(dense(UNSEEN), x) @ np.linalg.solve(
        own + 0.3 * np.trace(own) / N_USERS * np.eye(N_USERS), x
    )
    found = scores_of(fit(regularization=0.3), UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.03 * np.abs(expected).max())


def test_pieces_change_nothing(monkeypatch):
    whole = fit()
    monkeypatch.setattr(infinite, "_BLOCK_BYTES", 8 * N_USERS * 5)
    pieces = fit()
    np.testing.assert_allclose(pieces.dual_.numpy(), whole.dual_.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores_of(pieces, UNSEEN), scores_of(whole, UNSEEN), rtol=0, atol=1e-5)


def test_similar_items_go_by_the_inner_product_of_their_functions():
    x, alpha = dense(MATRIX), dual(0.1)
    inner = alpha.T @ kernel(x, x) @ alpha
    expected = inner / np.sqrt(np.outer(np.diag(inner), np.diag(inner)))
    ids, scores = fit(regularization=0.1).similar_items(np.arange(N_ITEMS), N=N_ITEMS)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-4)
    assert expected.min() < -0.01


def test_an_item_that_nobody_has_is_similar_to_none():
    model = fit(sp.csr_matrix(sp.hstack([MATRIX, sp.csr_matrix((N_USERS, 1), dtype=np.float32)])))
    _, scores = model.similar_items(N_ITEMS, N=3)
    assert scores.tolist() == [1, 0, 0]


def test_a_history_of_nothing_gets_what_the_biases_say():
    model = fit()
    empty = sp.csr_matrix((1, N_ITEMS), dtype=np.float32)
    expected = kernel(np.zeros((1, N_ITEMS)), dense(MATRIX)) @ dual()
    np.testing.assert_allclose(scores_of(model, empty), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1e-3


def test_it_has_no_embeddings():
    for call in (lambda: fit().encode(MATRIX), lambda: fit().similar_users(0, user_items=MATRIX)):
        with pytest.raises(UnsupportedError, match="InfiniteAE has no embeddings of users"):
            call()


@pytest.mark.parametrize("name", ["regularization", "bias_std"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} of InfiniteAE must be a finite number > 0.*, got {value}"):
        fit(**{name: value})


def test_the_defaults():
    assert InfiniteAE().params() == {"regularization": 5.0, "bias_std": 0.1, "device": "auto"}


def test_more_users_than_memory_are_refused_with_the_figures(monkeypatch):
    monkeypatch.setenv("RECSYS_MEMORY", "8")
    many = sp.csr_matrix((163_840, 1), dtype=np.float32)
    with pytest.raises(DataError, match=r"163,840 users and 1 items needs 201\.9 GiB .* 8\.0 .* sample of the users"):
        InfiniteAE().check_memory(many)
    fit(checkerboard())
