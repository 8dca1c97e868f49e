"""Integrated gradients: how much each entry of a row adds to a network's output (Sundararajan et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.sparse import Batch


@dataclass(frozen=True, eq=False)
class OnPath(Batch):
    """Points between the empty row and a row: shares of its values, with the length of the whole row.

    A layer that divides rows by their length would read the same at every point of a line of plain values.
    """

    whole: Tensor
    """(n_stored,) the values of the whole row, whose length divides `values`."""

    def copies(self, factors: Tensor) -> OnPath:
        """Return the points once per row of `factors`, as `Batch.copies` does."""
        more = super().copies(factors)
        whole = (self.whole * factors.index_select(1, self.columns)).flatten()
        return OnPath(more.rows, more.offsets, more.columns, more.values, more.segments, more.n_columns, whole)


def whole_values(batch: Batch) -> Tensor:
    """Return the values that a row's length is taken of, (n_stored,)."""
    return batch.whole if isinstance(batch, OnPath) else batch.values


def integrated_gradients(
    scores: Callable[[Batch], Tensor], row: Batch, items: Tensor, *, steps: int = 128, memory: int = 2**22
) -> Tensor:
    """Return x_k ∫₀¹ ∂s_i(αx)/∂x_k dα for each stored entry k of a row x and each of `items`, (n_stored, len(items)).

    Equation 1 of Sundararajan, Taly and Yan (2017) with the empty row as the baseline. The integral is taken by the
    midpoint rule, so that its error falls with `steps`². x is what the first layer reads: a row that is divided by its
    length is divided by that of the whole x at every point of the line.

    Args:
        scores: gives (n, n_columns) outputs of a batch, with gradients with respect to its values.
        row: one row.
        steps: points of the line.
        memory: most numbers of the points, and of their outputs, that are held at a time.
    """
    stored = len(row.columns)
    total = torch.zeros(stored, len(items), dtype=torch.float64, device=row.values.device)
    if not stored:
        return total
    points = (torch.arange(steps, device=row.values.device) + 0.5) / steps
    for shares in torch.split(points, max(1, memory // max(stored, row.n_columns))):
        times = len(shares)
        values = (shares[:, None] * row.values).flatten().requires_grad_()
        numbers = torch.arange(times, device=values.device)
        offsets = torch.arange(times + 1, device=values.device) * stored
        columns, segments = row.columns.repeat(times), numbers.repeat_interleave(stored)
        batch = OnPath(numbers, offsets, columns, values, segments, row.n_columns, row.values.repeat(times))
        with torch.enable_grad():
            of_items = scores(batch)[:, items].sum(0)
        for place, score in enumerate(of_items):
            (slopes,) = torch.autograd.grad(score, values, retain_graph=place + 1 < len(items))
            total[:, place] += slopes.view(times, stored).double().sum(0)
    return total * row.values.double()[:, None] / steps


def without_gradients(network: nn.Module) -> nn.Module:
    """Return the network over the same memory, with weights that take no gradients and buffer none."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor.detach() for tensor in tensors})
