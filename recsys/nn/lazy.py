"""Tables of which a step reads and moves some rows only, so that its cost does not grow with the number of columns.

Their gradients are sparse tensors of those rows, and the optimizer is one that leaves all other rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from recsys.sparse import Batch


def make_lazy(parameters: Iterable[nn.Parameter]) -> None:
    """Mark parameters, one row per column of the data, as tables whose gradients are sparse."""
    for parameter in parameters:
        parameter.lazy = True  # type: ignore[attr-defined]


def is_lazy(parameter: Tensor) -> bool:
    """Return whether the gradients of a parameter are sparse."""
    return getattr(parameter, "lazy", False)


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """Return rows of a table, or entries of a vector, with a gradient that is sparse where the table is lazy.

    Args:
        rows: (n,) int64, ascending and distinct.
    """
    if not is_lazy(table):
        return table[rows]
    taken: Tensor = _Rows.apply(table, rows)  # type: ignore[no-untyped-call]
    return taken


def read_rows(table: Tensor, batch: Batch) -> tuple[Tensor, Batch]:
    """Return what a training step reads of the table, and the batch with these as its columns.

    That is all of it and the batch as it is, unless the table is lazy and a gradient wanted.
    """
    if not (is_lazy(table) and torch.is_grad_enabled()):
        return table, batch
    columns, local = batch.compact
    return rows_of(table, columns), local


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, table.shape
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        places = ctx.rows[None]
        return torch.sparse_coo_tensor(places, grads[0], ctx.shape, is_coalesced=True, check_invariants=False), None
