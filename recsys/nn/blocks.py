"""Output layers processed in blocks of columns, so that the logits of one block fit in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from recsys.devices import is_apart
from recsys.nn.products import accumulate_grad
from recsys.sparse import Batch


def column_blocks(
    batch: Batch, width: int | None = None, *, cpu_width: int = 1024
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield all columns in blocks: each block's columns, and its stored entries as places and values.

    Places are flat indices into the row-major (n_rows, block width) array. A block has `width` columns, by default
    `cpu_width` on a CPU and all on a GPU; the last one may be narrower.
    """
    width = width or (batch.n_columns if is_apart(batch.values) else cpu_width)
    by_column = batch.by_column
    values, columns = batch.values[by_column.order], batch.columns[by_column.order]
    starts = range(0, batch.n_columns, width)
    inner = by_column.offsets[list(starts[1:])].tolist() if len(starts) > 1 else []  # a GPU would have to be waited for
    for start, (first, last) in zip(starts, pairwise([0, *inner, len(values)]), strict=True):
        block = slice(start, min(start + width, batch.n_columns))
        stored = slice(first, last)
        places = by_column.segments[stored] * (block.stop - start) + (columns[stored] - start)
        yield block, places, values[stored]


class OutputGradients:
    """Gradients of a loss with respect to an output layer's input, weight and bias, built block by block."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor, wanted: Sequence[bool]) -> None:
        """`wanted` says which of the three are needed; the others stay None."""
        self.hidden = torch.zeros_like(hidden) if wanted[0] else None
        self.weight = torch.empty_like(weight) if wanted[1] else None
        self.bias = torch.empty_like(bias) if wanted[2] else None

    def add(self, block: slice, slopes: Tensor, hidden: Tensor, weight: Tensor) -> None:
        """Add one block of columns; `slopes` (n_rows, block width) is the derivative with respect to its logits."""
        if self.hidden is not None:
            self.hidden.addmm_(slopes, weight[block])
        if self.weight is not None:
            torch.mm(slopes.T, hidden, out=self.weight[block])
        if self.bias is not None:
            torch.sum(slopes, 0, out=self.bias[block])

    def scaled(self, scale: Tensor, parameter: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return all three times `scale`; the weight's goes to the buffer of `parameter`, where it has one."""
        of_weight = self.weight

        def write(out: Tensor, beta: float) -> None:
            assert of_weight is not None
            torch.mul(of_weight, scale, out=out) if not beta else out.mul_(beta).add_(of_weight * scale)

        return (
            None if self.hidden is None else self.hidden * scale,
            None if of_weight is None else accumulate_grad(parameter, write),
            None if self.bias is None else self.bias * scale,
        )


class GradientsInForward(torch.autograd.Function):
    """A loss whose forward pass computes its gradients too; the backward pass scales them.

    `forward` saves the weight, sets `ctx.gradients`, and sets `ctx.others` to the gradients, or None, of the inputs
    after hidden, weight and bias.
    """

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        others = (None if other is None else other * grads[0] for other in ctx.others)
        return *ctx.gradients.scaled(grads[0], *ctx.saved_tensors), *others
