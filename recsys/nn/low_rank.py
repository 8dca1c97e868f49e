"""A linear autoencoder of low rank with a zero diagonal: its network and its loss (Vančura et al. 2022)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.layers import xavier
from recsys.nn.products import weighted_rows
from recsys.sparse import Batch


class Tied(NamedTuple):
    """An output layer made of the input layer's weights."""

    weight: Tensor
    bias: Tensor


class UnitRowsNetwork(nn.Module):
    """x ↦ x A Aᵀ, linear, with a row of A for each column of x, divided by its length: the diagonal of A Aᵀ is 1."""

    def __init__(self, n_in: int, latent: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, latent, generator))

    @property
    def output(self) -> Tied:
        """A with its rows of length 1, and no bias."""
        return Tied(F.normalize(self.weight, eps=1e-12), self.weight.new_zeros(len(self.weight)))

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return x A, (len(batch), latent); there is no noise."""
        del noise
        return weighted_rows(self.output.weight, batch, batch.values)

    def decode(self, latent: Tensor) -> Tensor:
        """Return the code itself: the output layer reads it."""
        return latent


def zero_diagonal_cosine(weight: Tensor, batch: Batch) -> Tensor:
    """Return Σ_u 1 − cos(x_u, y_u) with y = x W Wᵀ − x and the rows of W of length 1.

    That is half the squared error between rows divided by their length. Neither y nor dense targets are made: with
    h = x W, x·y = ‖h‖² − ‖x‖² and ‖y‖² = h WᵀW hᵀ − 2 ‖h‖² + ‖x‖².

    Args:
        weight: (n_columns, width), W.

    Returns:
        Scalar; a row x or y of zeros counts 1. Cost stored × width + (rows + columns) × width².
    """
    hidden = weighted_rows(weight, batch, batch.values)
    with torch.autocast(hidden.device.type, enabled=False):
        squares = torch.zeros_like(hidden[:, 0]).index_add_(0, batch.segments, batch.values.square())
        lengths = hidden.square().sum(1)
        whole: Tensor = _RowSquares.apply(hidden, weight)  # type: ignore[no-untyped-call]
        target = squares.clamp_min(1e-12)
        # What rounding leaves of a y of zeros must not become a direction.
        predicted = (whole - 2.0 * lengths + squares).clamp_min(1e-6 * target)
        return (1.0 - (lengths - squares) * (target * predicted).rsqrt()).sum()


class _RowSquares(torch.autograd.Function):
    """‖h Wᵀ‖² of each row h, as h (WᵀW) hᵀ; autograd's own gradient of WᵀW would be two products instead of one."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        through = hidden @ (weight.T @ weight)
        ctx.save_for_backward(hidden, weight, through)
        return (through * hidden).sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        hidden, weight, through = ctx.saved_tensors
        twice = 2.0 * grads[0][:, None]
        return through * twice, weight @ (hidden.T @ (hidden * twice))
