"""The tangent kernel against wide networks' own gradients and against quadrature."""

import numpy as np
import pytest
import torch

from recsys.nn.tangent import relu_tangent_kernel

ROWS = torch.tensor(np.random.default_rng(0).integers(0, 4, (5, 9)).astype(np.float64))
ROWS[3] = 0.0


def kernel(one, other, bias_std=0.3):
    products = one @ other.T
    return relu_tangent_kernel(products, one.square().sum(1), other.square().sum(1), one.shape[1], bias_std)


def network(parameters, row, bias_std, width):
    """The output of a finite network with the same parameterization."""
    first, first_bias, second, second_bias = parameters
    hidden = torch.relu((2 / len(row)) ** 0.5 * first @ row + bias_std * first_bias)
    return (2 / width) ** 0.5 * second @ hidden + bias_std * second_bias


@pytest.mark.parametrize("bias_std", [0.1, 1.0])
def test_it_is_the_limit_of_wide_networks(bias_std):
    width, n_in = 40_000, ROWS.shape[1]
    rng = torch.Generator().manual_seed(1)
    shapes = ((width, n_in), (width,), (width,), ())
    parameters = tuple(torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes)
    gradients = [torch.func.grad(network)(parameters, row, bias_std, width) for row in ROWS]
    flat = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients])
    found = kernel(ROWS, ROWS, bias_std)
    torch.testing.assert_close(found, flat @ flat.T, rtol=0, atol=0.02 * float(found.max()))
    assert float((found - found[0, 1]).abs().max()) > 0.3 * float(
        found.max()
    )  # the tolerance is smaller than the differences


def test_it_is_the_recursion_of_covariances():
    """b² + 2 E[relu relu] + Σ · 2 E[relu' relu'] over the Gaussian of the hidden layer, summed over its directions."""
    angles = np.arange(100_000) * (2 * np.pi / 100_000)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    for one, other in ((0, 1), (2, 4), (3, 1)):
        rows = ROWS[[one, other]].numpy()
        covariance = 2 * rows @ rows.T / rows.shape[1] + 0.09 * np.ones((2, 2))
        left, right = np.linalg.cholesky(covariance) @ directions
        outer = 2 * 2 * (np.maximum(left, 0) * np.maximum(right, 0)).mean()  # the mean square of the length is 2
        inner = 2 * ((left > 0) & (right > 0)).mean()
        expected = 0.09 + outer + covariance[0, 1] * inner
        assert float(kernel(ROWS, ROWS)[one, other]) == pytest.approx(expected, rel=1e-4)


def test_diagonal_empty_rows_and_homogeneity():
    found = kernel(ROWS, ROWS)
    q = 2 * ROWS.square().sum(1) / 9 + 0.09
    torch.testing.assert_close(found.diagonal(), 0.09 + 2 * q, rtol=1e-7, atol=0)
    assert not kernel(0 * ROWS[:1], ROWS, 0.0).any()  # without biases an empty row gives zeros
    torch.testing.assert_close(kernel(3 * ROWS, ROWS, 0.0), 3 * kernel(ROWS, ROWS, 0.0))


def test_it_is_positive_definite_and_symmetric():
    rows = torch.tensor(np.random.default_rng(1).normal(size=(30, 4)))
    found = kernel(rows, rows)
    torch.testing.assert_close(found, found.T)
    assert torch.linalg.eigvalsh(found).min() > 1e-6  # of 30 rows in 4 dimensions


def test_it_overwrites_the_products():
    products = ROWS @ ROWS[:2].T
    squares = ROWS.square().sum(1)
    found = relu_tangent_kernel(products, squares, squares[:2], 9, 0.3)
    assert found.data_ptr() == products.data_ptr()
    torch.testing.assert_close(found, kernel(ROWS, ROWS)[:, :2])
