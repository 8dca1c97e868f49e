"""Products with a sparse batch, forward and backward, at a cost of stored entries × width.

Three primitives carry everything: the sum of table rows at a batch's stored entries (sparse × dense), the dense product
read only at stored entries (sampled dense × dense), and the transpose of the first (the gradient of a table).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.sparse import Batch, DenseRows


def weighted_rows(table: Tensor, batch: Batch | DenseRows, values: Tensor) -> Tensor:
    """Return, for each row of the batch, the sum of `values` times the table's rows at its stored columns.

    Args:
        table: (n_columns, width).
        values: (n_stored,); of dense rows (n_rows, n_columns).

    Returns:
        (len(batch), width); rows without entries are zero.
    """
    if isinstance(batch, DenseRows):
        return values @ table
    rows: Tensor = _WeightedRows.apply(table, values, batch)  # type: ignore[no-untyped-call]
    return rows


def sampled_products(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
    """Return (n_stored,) values of `hidden @ weight.T` at the stored entries, and compute no others.

    Args:
        hidden: (len(batch), width).
        weight: (n_columns, width).
    """
    products: Tensor = _SampledProducts.apply(hidden, weight, batch)  # type: ignore[no-untyped-call]
    return products


def affine(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return `hidden @ weight.T + bias`, (rows, columns), for scoring: no gradient is kept.

    On a CPU the columns come in narrow contiguous pieces, which are then put in their place: two AVX2 cores made 118
    billion operations per second that way and 83 in one product (1,024 rows, width 200, 20,108 columns).
    """
    n_columns = weight.shape[0]
    if hidden.is_cuda or n_columns <= 2 * _PIECE or len(hidden) < _FEW_ROWS:
        return hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    if out is None:
        out = hidden.new_empty(len(hidden), n_columns)
    piece = hidden.new_empty(len(hidden), _PIECE)
    for start in range(0, n_columns, _PIECE):
        some = weight[start : start + _PIECE]
        product = torch.mm(hidden, some.T, out=piece if len(some) == _PIECE else None)
        if bias is None:
            out[:, start : start + _PIECE] = product
        else:
            torch.add(product, bias[start : start + _PIECE], out=out[:, start : start + _PIECE])
    return out


_PIECE, _FEW_ROWS = 512, 64


def keep_gradients(network: nn.Module) -> None:
    """Give each large parameter a buffer for its gradient, so that no step asks for that memory anew.

    The products of this module write the gradient of a parameter straight into it: fresh pages cost about as much as
    the writing. What accumulates is what autograd would; only `torch.autograd.grad` does not see it, so a network that
    needs gradients of gradients goes without.
    """
    for parameter in network.parameters():
        if parameter.numel() >= LARGE and parameter.requires_grad:
            parameter.gradient_buffer = torch.empty_like(parameter)  # type: ignore[attr-defined]


LARGE = 2**18
"""Elements from which a buffer is worth its name: smaller ones are recycled by the allocator anyway."""


def deliver(parameter: Tensor, write: Callable[[Tensor, float], None]) -> Tensor | None:
    """Return the gradient that `write(out, beta)` makes, or put it where `keep_gradients` said and return None.

    Args:
        write: sets `out` to `beta * out + gradient`.
    """
    buffer = getattr(parameter, "gradient_buffer", None)
    if buffer is None:
        out = torch.empty_like(parameter)
        write(out, 0.0)
        return out
    if parameter.grad is None:
        write(buffer, 0.0)
        parameter.grad = buffer
    else:
        write(parameter.grad, 1.0)
    return None


def add_transposed(out: Tensor, beta: float, batch: Batch, values: Tensor, dense: Tensor) -> None:
    """Set `out` (n_columns, width) to `beta * out + Xᵀ @ dense`, X the batch with `values` at its stored entries."""
    turned = batch.by_column
    if _has_sparse_blas(out.device.type):
        matrix = _csr(turned.offsets, turned.segments, values[turned.order], (batch.n_columns, len(batch)))
        torch.addmm(out, matrix, dense, beta=beta, out=out)
    else:
        part = _sum_rows(turned.offsets, turned.segments, values[turned.order], dense)
        torch.add(part, out, alpha=beta, out=out) if beta else out.copy_(part)


class _WeightedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, values: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(table, values)
        ctx.batch = batch
        return _sum_rows(batch.offsets, batch.columns, values, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, values = ctx.saved_tensors
        (grad,) = grads
        grad = grad.contiguous()
        table_grad = values_grad = None
        if ctx.needs_input_grad[0]:
            table_grad = deliver(table, lambda out, beta: add_transposed(out, beta, ctx.batch, values, grad))
        if ctx.needs_input_grad[1]:
            values_grad = _sample(ctx.batch, grad, table)
        return table_grad, values_grad, None


class _SampledProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.batch = batch
        return _sample(batch, hidden, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        batch: Batch = ctx.batch
        grad = grads[0].contiguous()
        hidden_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            hidden_grad = _sum_rows(batch.offsets, batch.columns, grad, weight)
        if ctx.needs_input_grad[1]:
            weight_grad = deliver(weight, lambda out, beta: add_transposed(out, beta, batch, grad, hidden))
        return hidden_grad, weight_grad, None


def _sum_rows(offsets: Tensor, columns: Tensor, values: Tensor, table: Tensor) -> Tensor:
    if not len(columns):
        return table.new_zeros(len(offsets) - 1, table.shape[1])
    return F.embedding_bag(columns, table, offsets, per_sample_weights=values, mode="sum", include_last_offset=True)


def _sample(batch: Batch, left: Tensor, right: Tensor) -> Tensor:
    pattern = _csr(batch.offsets, batch.columns, left.new_zeros(len(batch.columns)), (len(batch), batch.n_columns))
    sampled: Tensor = torch.sparse.sampled_addmm(pattern, left, right.t(), beta=0.0)
    return sampled.values()


def _csr(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    _acknowledge_beta()
    return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)


@functools.cache
def _acknowledge_beta() -> None:
    # torch says once per process that CSR tensors are in beta; the tests of this module are our answer.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1))


@functools.cache
def _has_sparse_blas(device: str) -> bool:
    """Whether products of CSR and dense matrices are there: on CPU they come with MKL."""
    return device == "cuda" or bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
