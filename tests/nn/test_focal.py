"""The focal loss against its formula, entry by entry, and against autograd."""

import numpy as np
import pytest
import torch

from recsys.nn.focal import FocalLoss
from recsys.nn.losses import bernoulli_nll
from tests.contract import batch_of, random_cells

N, ITEMS, WIDTH = 6, 11, 3


def problem(seed=0, scale=1.0, values="binary"):
    """Random hidden, weight, bias, other logits and targets."""
    generator, draws = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    shapes = (N, WIDTH), (ITEMS, WIDTH), (ITEMS,), (N, ITEMS)
    tensors = [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    cells = random_cells(draws, N, ITEMS, 0.4, counts=True)
    if values == "binary":
        cells = np.where(np.isnan(cells), np.nan, 1.0)
    elif values == "shares":
        cells = np.where(np.isnan(cells), np.nan, draws.random(cells.shape))
    return [tensor.requires_grad_() for tensor in tensors], cells


def by_formula(chance, target, alpha, focus):
    """Lin et al. (2017), eq. 5, one entry at a time; counts above 1 repeat the positive."""
    total = 0.0
    for p, x in zip(chance.ravel(), target.ravel(), strict=True):
        total += alpha * x * (1 - p) ** focus * -np.log(p)
        total += (1 - alpha) * max(0.0, 1 - x) * p**focus * -np.log1p(-p)
    return total


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("values", ["binary", "shares", "counts"])
@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize(("alpha", "focus"), [(0.25, 2.0), (0.5, 0.0), (0.7, 0.5), (0.3, 1.0)])
def test_it_is_the_formula_entry_by_entry(alpha, focus, product, values):
    (hidden, weight, bias, other_logits), cells = problem(values=values)
    found = FocalLoss(alpha, focus, width=4)(hidden, weight, bias, batch_of(cells), other_logits if product else None)
    chance = sigmoid((hidden @ weight.T + bias).detach().numpy())
    if product:
        chance = chance * sigmoid(other_logits.detach().numpy())
    assert float(found.detach()) == pytest.approx(by_formula(chance, np.nan_to_num(cells), alpha, focus), rel=1e-12)


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("width", [None, 4])
def test_gradients_are_those_of_autograd(focus, product, width):
    (hidden, weight, bias, other_logits), cells = problem(values="shares")
    wanted = [hidden, weight, bias, *([other_logits] if product else [])]
    loss = FocalLoss(0.25, focus, width)(hidden, weight, bias, batch_of(cells), other_logits if product else None)
    target = torch.from_numpy(np.nan_to_num(cells))
    p = torch.sigmoid(hidden @ weight.T + bias) * (torch.sigmoid(other_logits) if product else 1.0)
    dense = 0.25 * target * (1 - p) ** focus * -p.log() + 0.75 * (1 - target) * p**focus * -(1 - p).log()
    for found, expected in zip(
        torch.autograd.grad(3.0 * loss, wanted), torch.autograd.grad(3.0 * dense.sum(), wanted), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_without_focus_it_is_half_the_bernoulli_loss():
    (hidden, weight, bias, _), cells = problem(values="shares")
    batch = batch_of(cells)
    found = FocalLoss(0.5, 0.0)(hidden, weight, bias, batch)
    torch.testing.assert_close(2 * found, bernoulli_nll(hidden, weight, bias, batch))


def test_extreme_logits_give_finite_losses_and_gradients():
    for dtype in (torch.float32, torch.float64):
        for scale in (30.0, 300.0):
            tensors, cells = problem(scale=scale)
            tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
            for product in (False, True):
                loss = FocalLoss(0.25, 2.0)(*tensors[:3], batch_of(cells, dtype), tensors[3] if product else None)
                gradients = torch.autograd.grad(loss, tensors[: 3 + product])
                assert torch.isfinite(loss)
                assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_well_predicted_entries_count_less():
    """The purpose of the focus: the weight of an easy negative is multiplied by p^γ."""
    hidden, weight, bias = torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([-3.0, -3.0])
    nobody = batch_of([[np.nan, np.nan]], torch.float32)
    easy = [float(FocalLoss(0.5, focus)(hidden, weight, bias, nobody)) for focus in (0.0, 2.0)]
    assert easy[1] / easy[0] == pytest.approx(sigmoid(-3.0) ** 2, rel=1e-5)
