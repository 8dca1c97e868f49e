"""Sparse products on the paths that the tests of losses do not cover."""

from unittest import mock

import numpy as np
import pytest
import torch

from recsys.nn import products
from recsys.nn.products import add_gradient_buffers, add_transposed, affine, sampled_products, weighted_rows
from tests.contract import batch_of, random_cells


def problem(seed=0):
    rng = np.random.default_rng(seed)
    cells = random_cells(rng, 7, 9, 0.4)
    return batch_of(cells), torch.from_numpy(np.nan_to_num(cells)), torch.from_numpy(rng.normal(size=(9, 3)))


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("blas", [True, False])
def test_the_transposed_product_with_and_without_sparse_blas(blas, beta):
    batch, dense, _ = problem()
    right = torch.from_numpy(np.random.default_rng(1).normal(size=(7, 4)))
    out = torch.full((9, 4), 2.0 if beta else torch.nan, dtype=torch.float64)
    with mock.patch.object(products, "_has_sparse_blas", return_value=blas):
        add_transposed(out, beta, batch, batch.values, right)
    torch.testing.assert_close(out, dense.T @ right + 2.0 * beta, rtol=0, atol=1e-12)


def test_gradients_without_sparse_blas_are_the_same():
    batch, dense, table = problem(2)
    hidden = torch.from_numpy(np.random.default_rng(3).normal(size=(7, 3)))
    leaves = [hidden.requires_grad_(), table.requires_grad_()]

    def loss(h, w):
        return (weighted_rows(w, batch, batch.values) * h).sum() + sampled_products(h, w, batch).square().sum()

    stored = torch.zeros_like(dense)
    stored[batch.segments, batch.columns] = 1.0
    expected = torch.autograd.grad(
        ((dense @ table) * hidden).sum() + (stored * (hidden @ table.T)).square().sum(), leaves
    )
    with mock.patch.object(products, "_has_sparse_blas", return_value=False):
        found = torch.autograd.grad(loss(*leaves), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(70, 1100), (70, 1024), (64, 1025), (63, 1100), (3, 5)])
def test_scores_in_pieces_are_the_product(shape, with_bias):
    rows, columns = shape
    hidden, weight = torch.randn(rows, 4), torch.randn(columns, 4)
    bias = torch.randn(columns) if with_bias else None
    expected = hidden @ weight.T + (bias if with_bias else 0.0)
    space = torch.full((rows, columns), torch.nan)
    for out in (None, space):
        torch.testing.assert_close(affine(hidden, weight, bias, out=out), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 4, 37, 64])
@pytest.mark.parametrize("columns", [1, 7, 16, 100, 511, 600, 1024, 1300])
def test_a_score_has_the_same_bits_whatever_stands_beside_it(columns, width):
    hidden, weight, bias = torch.randn(200, width), torch.randn(1300, width), torch.randn(1300)
    for own in (None, bias[:columns]):
        whole = affine(hidden, weight[:columns], own)
        for rows in (1, 2, 3, 9, 63, 64, 65):
            for start in (0, 5, 100):
                assert torch.equal(
                    affine(hidden[start : start + rows], weight[:columns], own), whole[start : start + rows]
                )
    assert torch.equal(affine(hidden, weight[:columns]), affine(hidden, weight)[:, :columns])


def test_only_large_parameters_get_a_gradient_buffer():
    network = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 3))
    add_gradient_buffers(network)
    kept = [hasattr(parameter, "gradient_buffer") for parameter in network.parameters()]
    assert kept == [True, False, False, False]
