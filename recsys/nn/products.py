"""Products with a sparse batch, forward and backward, at a cost of stored entries × width.

Three primitives: sparse × dense, its transpose (the gradient of a table), and a dense product sampled at the entries.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.devices import is_apart
from recsys.nn.lazy import is_lazy, read_rows
from recsys.sparse import Batch, DenseRows

# Above this share of stored entries, one dense product is faster than products at the stored entries alone. Measured
# forward and backward on two AVX2 cores, 500 rows at width 500, dense / sampled: 296 / 140 ms at 4.5 % of 20,108
# columns, 301 / 319 at 10 %; 44 / 26 at 10 % of 3,706. Dense products are cheaper on a GPU; its value is an estimate.
DENSE_ABOVE = {"cpu": 0.1, "cuda": 0.02}


def weighted_rows(table: Tensor, batch: Batch | DenseRows, values: Tensor) -> Tensor:
    """Return X @ `table`, (len(batch), width), where X is the batch with `values` as its entries.

    `table` is (n_columns, width); `values` are (n_stored,), or (n_rows, n_columns) for dense rows.
    """
    if isinstance(batch, DenseRows):
        return values @ table
    table, batch = read_rows(table, batch)
    rows: Tensor = _WeightedRows.apply(table, values, batch)  # type: ignore[no-untyped-call]
    return rows


def row_sums(batch: Batch, values: Tensor) -> Tensor:
    """Return the sum of `values` (n_stored,) over the stored entries of each row, (len(batch),)."""
    return values.new_zeros(len(batch)).index_add_(0, batch.segments, values)


def apply_exactly(function: type[torch.autograd.Function], hidden: Tensor, weight: Tensor, *others: Any) -> Tensor:
    """Apply an autograd function outside of autocast, to `hidden` in the precision of `weight`."""
    with torch.autocast(hidden.device.type, enabled=False):
        result: Tensor = function.apply(hidden.to(weight.dtype), weight, *others)  # type: ignore[no-untyped-call]
    return result


def stored_products(hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
    """Return `hidden @ weight.T + bias` at the stored entries of the batch, (n_stored,)."""
    if batch.density > DENSE_ABOVE["cuda" if is_apart(hidden) else "cpu"]:
        products = apply_exactly(_DenseProducts, hidden, weight, batch)
    else:
        products = sampled_products(hidden, weight, batch)
    biases: Tensor = _Bias.apply(bias, batch)  # type: ignore[no-untyped-call]
    return products + biases


def sampled_products(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
    """Return `hidden @ weight.T` at the stored entries, (n_stored,), without computing any other entry."""
    return apply_exactly(_SampledProducts, hidden, weight, batch)


def affine(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return `hidden @ weight.T + bias`, (n_rows, n_columns), for scoring; it has no gradient.

    On a CPU each number has the same bits whatever other rows and columns stand beside it. BLAS alone does not give
    that: what is left beside its tiles it adds up in another order. Zeros fill them here, so that nothing is left.

    `out` is memory of that shape that may be used for the result. On a CPU narrow contiguous pieces of columns are
    computed and then copied into place: this reached 118 billion operations per second on two AVX2 cores, one large
    product 83 billion (1,024 rows, width 200, 20,108 columns).
    """
    if is_apart(hidden):
        return hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    n_rows, n_columns = len(hidden), len(weight)
    hidden, weight = _filled_up(hidden, _ROWS), _filled_up(weight, _COLUMNS if n_columns < _PIECE else 1)
    if n_columns <= 2 * _PIECE:
        own = bias if bias is None or len(weight) == n_columns else F.pad(bias, (0, len(weight) - n_columns))
        product = hidden @ weight.T if own is None else torch.addmm(own, hidden, weight.T)
        return product[:n_rows, :n_columns].contiguous()
    if n_rows < _FEW_ROWS:
        product = hidden @ weight.T
        return (product if bias is None else product.add_(bias))[:n_rows]
    out = hidden.new_empty(n_rows, n_columns) if out is None else out
    piece = hidden.new_empty(len(hidden), _PIECE)
    for start in range(0, n_columns, _PIECE):
        some, place = weight[start : start + _PIECE], out[:, start : start + _PIECE]
        if len(some) == _PIECE:
            product = torch.mm(hidden, some.T, out=piece)[:n_rows]
        else:
            product = torch.mm(hidden, _filled_up(some, _COLUMNS).T)[:n_rows, : len(some)]
        place.copy_(product) if bias is None else torch.add(product, bias[start : start + _PIECE], out=place)
    return out


def _filled_up(table: Tensor, rows: int) -> Tensor:
    """Return the table with zeros around it, up to a multiple of `rows` and of `_INNER` columns."""
    below, beside = -len(table) % rows, max(_LEAST_INNER - table.shape[1], -table.shape[1] % _INNER)
    if not table.numel():  # which torch 2.6 does not pad
        return table.new_zeros(len(table) + below, table.shape[1] + beside)
    return F.pad(table, (0, beside, 0, below)) if below or beside else table


_PIECE, _FEW_ROWS = 512, 64
_ROWS, _COLUMNS, _INNER, _LEAST_INNER = 8, 16, 4, 8
"""Sizes that leave nothing beside the tiles of MKL 2024.2 on an AMD EPYC (Zen 4), with 1 to 16 threads; from `_PIECE`
columns on their number does not matter."""


def add_gradient_buffers(network: nn.Module) -> None:
    """Give each large parameter a buffer for its gradient, so that steps do not allocate that memory again.

    New memory pages cost about as much as the writing. Gradients accumulate as in autograd, but `torch.autograd.grad`
    does not see them, so do not call this on a network that needs gradients of gradients.
    """
    for parameter in network.parameters():
        if parameter.numel() >= LARGE and parameter.requires_grad and not is_lazy(parameter):
            parameter.gradient_buffer = torch.empty_like(parameter)  # type: ignore[attr-defined]


LARGE = 2**18
"""Smallest number of elements for which a buffer pays off: the allocator recycles smaller tensors anyway."""


def accumulate_grad(parameter: Tensor, write: Callable[[Tensor, float], object]) -> Tensor | None:
    """Return the gradient of `parameter`, or add it to the parameter's buffer (`add_gradient_buffers`) and return None.

    `write(out, beta)` sets `out` to `beta * out + gradient`.
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
    """Set `out` (n_columns, width) to `beta * out + Xᵀ @ dense`, where X is the batch with `values` as its entries."""
    by_column = batch.by_column
    if _has_sparse_blas(is_apart(out)):
        matrix = _csr(by_column.offsets, by_column.segments, values[by_column.order], (batch.n_columns, len(batch)))
        torch.addmm(out, matrix, dense, beta=beta, out=out)
    else:
        part = _sum_rows(by_column.offsets, by_column.segments, values[by_column.order], dense)
        torch.add(part, out, alpha=beta, out=out) if beta else out.copy_(part)


class _Bias(torch.autograd.Function):
    """The bias of each stored entry. Its gradient is a scatter-add; autograd's gradient of indexing sorts first."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return bias[batch.columns]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].new_zeros(ctx.batch.n_columns).index_add_(0, ctx.batch.columns, grads[0]), None


class _DenseProducts(torch.autograd.Function):
    """All products by one GEMM; only those at stored entries are read."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        block = hidden @ weight.T
        flat = batch.segments * weight.shape[0] + batch.columns
        products = block.view(-1)[flat]
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(hidden, weight)
            ctx.block, ctx.flat = block, flat  # not saved_tensors, since backward overwrites the block
        return products

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        block = ctx.block.zero_()
        block.view(-1)[ctx.flat] = grads[0]
        hidden_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            hidden_grad = block @ weight
        if ctx.needs_input_grad[1]:
            weight_grad = accumulate_grad(
                weight, lambda out, beta: torch.addmm(out, block.T, hidden, beta=beta, out=out)
            )
        return hidden_grad, weight_grad, None


class _WeightedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, values: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(table, values)
        ctx.batch = batch
        return _sum_rows(batch.offsets, batch.columns, values, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, values = ctx.saved_tensors
        batch, grad = ctx.batch, grads[0].contiguous()
        table_grad = values_grad = None
        if ctx.needs_input_grad[0]:
            table_grad = accumulate_grad(table, lambda out, beta: add_transposed(out, beta, batch, values, grad))
        if ctx.needs_input_grad[1]:
            values_grad = _sample(batch, grad, table)
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
        batch, grad = ctx.batch, grads[0].contiguous()
        hidden_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            hidden_grad = _sum_rows(batch.offsets, batch.columns, grad, weight)
        if ctx.needs_input_grad[1]:
            weight_grad = accumulate_grad(weight, lambda out, beta: add_transposed(out, beta, batch, grad, hidden))
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
    # torch warns once per process that CSR tensors are in beta; we rely on the tests of this module instead.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1))


@functools.cache
def _has_sparse_blas(apart: bool) -> bool:
    """Whether torch can multiply CSR by dense matrices on a device beside the host, or on it; there this needs MKL."""
    return apart or bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
