"""Losses over sparse targets, as sums over a batch: the caller carries the count and divides once.

A network's last layer is affine, so each loss takes the representation before it, `hidden` (n_rows, width), and the
layer's `weight` (n_columns, width) and `bias` (n_columns,), and computes only the products it needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recsys.nn.layers import weighted_rows
from recsys.sparse import Batch

# Above this share of stored entries one dense product beats gathering a weight row per stored entry: on two AVX2
# cores, 500 rows at width 500, dense / sampled took 0.19 / 0.93 s at 4.5 %, 0.63 / 0.81 s at 1 %, 1.1 / 0.5 s at 0.3 %.
DENSE_ABOVE = 0.008


def masked_squared_error(
    hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, unobserved_weight: float = 0.0
) -> Tensor:
    """Return Σ over stored entries of (x − p)², plus `unobserved_weight` · Σ over all other entries of p².

    With weight 0 this is the first term of eq. 1 and 3 of Sedhain et al. (2015). With a weight the unstored entries
    count as zeros, and their sum needs no dense product (as in iALS, Hu et al. 2008): with ĥ = [h, 1], ŵ = [w, b],
    Σ over all of p² = ⟨ĤᵀĤ, ŴᵀŴ⟩, from which the stored entries' p² is taken away.

    Returns:
        Scalar sum; cost stored × width, and (rows + columns) × width² where the weight is positive.
    """
    predicted = stored_products(hidden, weight, bias, batch)
    loss = (batch.values - predicted).square().sum()
    if unobserved_weight:
        everywhere = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        outputs = torch.cat([weight, bias[:, None]], 1)
        total = ((everywhere.T @ everywhere) * (outputs.T @ outputs)).sum()
        loss = loss + unobserved_weight * (total - predicted.square().sum())
    return loss


def multinomial_nll(hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
    """Return −Σ_u Σ_i x_ui log softmax_i(h_u Wᵀ + b): eq. 2 of Liang et al. (2018), summed over the batch.

    One (rows, columns) buffer holds the logits, then the gradient (n_u · softmax − x) in the same place.
    """
    loss: Tensor = _MultinomialNLL.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, batch.columns, batch.values, batch.segments
    )
    return loss


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(0, 1)) of each row, summed over its latents.

    Kingma and Welling (2014), appendix B.

    Returns:
        (n_rows,)
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)


def stored_products(hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
    """Return (n_stored,) values of `hidden @ weight.T + bias` at the stored entries of the batch."""
    product = _DenseProducts if batch.density > DENSE_ABOVE else _SampledProducts
    products: Tensor = product.apply(hidden, weight, batch)  # type: ignore[no-untyped-call]
    return products + bias[batch.columns]


class _DenseProducts(torch.autograd.Function):
    """All products by one GEMM, of which the stored ones are read."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.batch = batch
        return (hidden @ weight.T).view(-1)[batch.segments * weight.shape[0] + batch.columns]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        batch: Batch = ctx.batch
        dense = torch.zeros(len(hidden), weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        dense.view(-1)[batch.segments * weight.shape[0] + batch.columns] = grads[0]
        return dense @ weight, dense.T @ hidden, None


class _SampledProducts(torch.autograd.Function):
    """Only the products at stored entries: cost stored × width, forward and both gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.batch = batch
        out = hidden.new_empty(len(batch.columns))
        step = max(1, 2**24 // hidden.shape[1])  # two gathered blocks of 64 MiB at most
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            out[part] = (hidden[batch.segments[part]] * weight[batch.columns[part]]).sum(1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        batch: Batch = ctx.batch
        (grad,) = grads
        order = torch.argsort(batch.columns, stable=True)
        counts = torch.bincount(batch.columns, minlength=weight.shape[0])
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        by_column = Batch(
            torch.arange(weight.shape[0]),
            offsets,
            batch.segments[order],
            grad[order],
            batch.columns[order],
            len(hidden),
        )
        return weighted_rows(weight, batch, grad.contiguous()), weighted_rows(hidden, by_column, by_column.values), None


class _MultinomialNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, columns: Tensor, values: Tensor, segments: Tensor
    ) -> Tensor:
        logits = torch.addmm(bias, hidden, weight.T)
        flat = segments * logits.shape[1] + columns
        totals = torch.zeros(len(hidden), dtype=hidden.dtype, device=hidden.device).index_add_(0, segments, values)
        stored = (logits.view(-1)[flat] * values).sum()
        largest = logits.amax(1, keepdim=True)
        logits.sub_(largest).exp_()
        sums = logits.sum(1, keepdim=True)
        loss = (totals * (largest + sums.log())[:, 0]).sum() - stored
        if any(ctx.needs_input_grad[:3]):
            logits.mul_(totals[:, None] / sums)
            logits.view(-1)[flat] -= values
            ctx.save_for_backward(hidden, weight, logits)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        (scale,) = grads
        # The scale meets the two small factors, so that the (rows, columns) buffer is read and never copied.
        return (gradient @ weight) * scale, gradient.T @ (hidden * scale), gradient.sum(0) * scale, None, None, None
