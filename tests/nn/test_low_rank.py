"""ELSA's network and loss against dense arithmetic."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys.nn.losses import zero_diagonal_cosine
from recsys.nn.networks import UnitRowsNetwork
from tests.contract import batch_of, random_cells

CELLS = random_cells(np.random.default_rng(2), 8, 11, 0.4)
CELLS[2] = np.nan
CELLS[3] = np.nan
CELLS[3, 4] = 2.0  # a single item has no other item to predict it


def weights(seed=0, width=3):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(11, width, generator=rng, dtype=torch.float64).requires_grad_()


def dense_loss(raw, cells):
    x = torch.from_numpy(np.nan_to_num(cells))
    unit = F.normalize(raw, dim=1)
    y = x @ (unit @ unit.T - torch.eye(len(raw), dtype=raw.dtype))
    return (1 - F.cosine_similarity(x, y, dim=1, eps=1e-8)).sum()


@pytest.mark.parametrize(
    "cells", [CELLS, CELLS[:1], np.where(np.isnan(CELLS), np.nan, 1.0)], ids=["all", "one", "ones"]
)
def test_loss_and_gradient_are_those_of_dense_rows(cells):
    ours, theirs = weights(), weights()
    loss = zero_diagonal_cosine(F.normalize(ours), batch_of(cells))
    expected = dense_loss(theirs, cells)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert theirs.grad.abs().max() > 0.01


def test_it_is_half_the_squared_error_of_unit_rows():
    cells = CELLS[np.count_nonzero(np.nan_to_num(CELLS), axis=1) > 1]
    assert len(cells) > 3
    x, unit = torch.from_numpy(np.nan_to_num(cells)), F.normalize(weights())
    y = x @ unit @ unit.T - x
    expected = 0.5 * (F.normalize(x) - F.normalize(y)).square().sum()
    torch.testing.assert_close(zero_diagonal_cosine(unit, batch_of(cells)), expected)


def test_its_gradient_is_exact():
    assert torch.autograd.gradcheck(lambda raw: zero_diagonal_cosine(F.normalize(raw), batch_of(CELLS)), weights())


def test_a_zero_prediction_has_no_direction():
    """In float32 rounding leaves a small remainder, which must not count as right or wrong."""
    raw = torch.eye(11).requires_grad_()  # all items are orthogonal
    loss = zero_diagonal_cosine(F.normalize(raw), batch_of(CELLS, torch.float32))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(8, abs=0.01)
    assert raw.grad.isfinite().all()


def test_the_network_multiplies_by_unit_rows_and_their_transpose():
    network = UnitRowsNetwork(11, 3, torch.Generator().manual_seed(0))
    batch = batch_of(CELLS, torch.float32)
    x = torch.from_numpy(np.nan_to_num(CELLS)).float()
    unit = F.normalize(network.weight.detach())
    assert torch.equal(network.output.weight.norm(dim=1).round(decimals=5), torch.ones(11))
    torch.testing.assert_close(network.encode(batch), x @ unit)
    assert torch.equal(network.decode(x), x)
    assert not network.output.bias.any()
    again = UnitRowsNetwork(11, 3, torch.Generator().manual_seed(0))
    assert torch.equal(again.weight, network.weight)
