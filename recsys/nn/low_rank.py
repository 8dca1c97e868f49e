"""Network and loss of a low-rank linear autoencoder with a zero diagonal (Vančura et al. 2022)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.layers import xavier
from recsys.nn.networks import Autoencoding
from recsys.nn.products import row_sums, weighted_rows
from recsys.sparse import Batch


class Tied(NamedTuple):
    """An output layer that shares the weights of the input layer."""

    weight: Tensor
    bias: Tensor


class UnitRowsNetwork(Autoencoding):
    """x ↦ x A Aᵀ with one row of A per column of x. Rows of A have length 1, so the diagonal of A Aᵀ is 1."""

    def __init__(self, n_in: int, latent: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, latent, generator))

    @property
    def output(self) -> Tied:
        """A with rows of length 1, and a bias of zeros."""
        return Tied(F.normalize(self.weight, eps=1e-12), self.weight.new_zeros(len(self.weight)))

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return x A, (len(batch), latent)."""
        return weighted_rows(self.output.weight, batch, batch.values)


def zero_diagonal_cosine(weight: Tensor, batch: Batch) -> Tensor:
    """Return Σ_u 1 − cos(x_u, y_u) with y = x W Wᵀ − x, where the rows of W have length 1.

    This is half the squared error between rows divided by their lengths. It needs neither y nor dense targets: with
    h = x W, x·y = ‖h‖² − ‖x‖² and ‖y‖² = h WᵀW hᵀ − 2 ‖h‖² + ‖x‖².

    Args:
        weight: (n_columns, width), W.

    Returns:
        Scalar; if x or y is all zeros, the row counts as 1. Cost: stored × width + (rows + columns) × width².
    """
    hidden = weighted_rows(weight, batch, batch.values)
    with torch.autocast(hidden.device.type, enabled=False):
        squares = row_sums(batch, batch.values.square())
        lengths = hidden.square().sum(1)
        whole: Tensor = _RowSquares.apply(hidden, weight)  # type: ignore[no-untyped-call]
        target = squares.clamp_min(1e-12)
        # If y is zero up to rounding, its direction has no meaning.
        predicted = (whole - 2.0 * lengths + squares).clamp_min(1e-6 * target)
        return (1.0 - (lengths - squares) * (target * predicted).rsqrt()).sum()


class _RowSquares(torch.autograd.Function):
    """‖h Wᵀ‖² of each row h as h (WᵀW) hᵀ. Its gradient takes one product; autograd's gradient of WᵀW takes two."""

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
