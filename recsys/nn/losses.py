"""Losses over sparse targets, as sums over a batch: the caller keeps the count and divides once.

The last layer of a network is affine. Each loss takes that layer's input `hidden` (n_rows, width), its `weight`
(n_columns, width) and `bias` (n_columns,), and computes only the products it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recsys.nn.blocks import GradientsInForward, OutputGradients, column_blocks
from recsys.nn.products import accumulate_grad, apply_exactly, row_sums, stored_products, weighted_rows
from recsys.sparse import Batch

Likelihood = Callable[[Tensor, Tensor, Tensor, Batch], Tensor]
"""Maps `hidden`, `weight`, `bias` and a batch to the negative log-likelihood of its whole rows, stored and unstored
entries alike: the sum over the batch, up to terms that do not depend on the parameters; scalar."""

LikelihoodName = Literal["multinomial", "bernoulli", "gaussian"]
_MEANS: Final[dict[LikelihoodName, Callable[[Tensor], Tensor]]] = {
    "multinomial": lambda logits: torch.softmax(logits, dim=1),
    "bernoulli": torch.sigmoid,
    "gaussian": lambda logits: logits,
}


def likelihood(name: LikelihoodName, unobserved_weight: float = 1.0) -> Likelihood:
    """Return the negative log-likelihood called `name`. Make one per training: some keep memory between batches.

    `multinomial`: cross-entropy with the softmax of each row (Liang et al. 2018, eq. 2); `bernoulli`: logistic loss of
    every entry (their eq. 4 and Kingma and Welling 2014, appendix C.1); `gaussian`: ½ squared error (Liang et al.,
    eq. 3), where unstored entries are zeros of weight `unobserved_weight`.
    """
    if name == "multinomial":
        return MultinomialNLL()
    if name == "bernoulli":
        return bernoulli_nll
    return lambda hidden, weight, bias, batch: (
        0.5 * masked_squared_error(hidden, weight, bias, batch, unobserved_weight)
    )


def masked_squared_error(
    hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, unobserved_weight: float = 0.0
) -> Tensor:
    """Return Σ over stored entries of (x − p)², plus `unobserved_weight` · Σ over all other entries of p².

    With weight 0 this is the first term of eq. 1 and 3 of Sedhain et al. (2015). With a positive weight, unstored
    entries count as zeros. Their sum needs no dense product (as in iALS, Hu et al. 2008): Σ p² over all entries follows
    from HᵀH and WᵀW, and the p² of stored entries are subtracted. Cost: stored × width, plus (rows + columns) × width²
    if the weight is positive.
    """
    predicted = stored_products(hidden, weight, bias, batch)
    loss = (batch.values - predicted).square().sum()
    if unobserved_weight:
        whole = apply_exactly(_WholeSquares, hidden, weight, bias)
        loss = loss + unobserved_weight * (whole - predicted.square().sum())
    return loss


class MultinomialNLL:
    """−Σ_u Σ_i x_ui log softmax_i(h_u Wᵀ + b): eq. 2 of Liang et al. (2018), summed over the batch.

    The logits are kept in contiguous blocks of columns, which suit the processor's cache. Each block is replaced by its
    exponentials in the forward pass and by the gradient (n_u · softmax − x) in the backward pass. The next batch reuses
    the memory. A batch whose logits would exceed `memory` is processed in parts, gradients in the forward pass.
    """

    def __init__(self, memory: int = 2**30, width: int | None = None) -> None:
        """`memory` bounds the logits in bytes; `width` is columns per block, 1,024 or 2,048 on a CPU, all on a GPU."""
        self.memory, self.width = memory, width
        self._free: Tensor | None = None

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
        """Return the sum over the batch, scalar."""
        rows = max(1, self.memory // (weight.shape[0] * weight.element_size()))
        function = _MultinomialNLL if rows >= len(hidden) else _MultinomialNLLInParts
        return apply_exactly(function, hidden, weight, bias, batch, self, rows)

    def _take(self, rows: int, like: Tensor) -> Tensor:
        # A second loss computed before the first one's backward pass gets its own memory.
        size, memory, self._free = rows * like.shape[0], self._free, None
        if memory is None or len(memory) < size or (memory.dtype, memory.device) != (like.dtype, like.device):
            memory = torch.empty(size, dtype=like.dtype, device=like.device)
        return memory


def bernoulli_nll(hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, width: int | None = None) -> Tensor:
    """Return Σ_u Σ_i softplus(l_ui) − x_ui l_ui with logits l = h Wᵀ + b: the logistic loss of every entry.

    This is −log of Π σ(l)^x (1 − σ(l))^(1 − x) for x in 0..1. The loss and the gradients of a block of `width` columns
    (see `column_blocks`) are computed while it is in the processor's cache, so the logits never take more memory.
    """
    return apply_exactly(_BernoulliNLL, hidden, weight, bias, batch, width)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(0, 1)) of each row, (n_rows,): Kingma and Welling (2014), appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)


def zero_diagonal_cosine(weight: Tensor, batch: Batch) -> Tensor:
    """Return Σ_u 1 − cos(x_u, y_u) with y = x W Wᵀ − x, where rows of W have length 1 (Vančura et al. 2022).

    This is half the squared error between rows divided by their lengths. It needs neither y nor dense targets: with
    h = x W, x·y = ‖h‖² − ‖x‖² and ‖y‖² = h WᵀW hᵀ − 2 ‖h‖² + ‖x‖². A row counts as 1 if x or y is all zeros. W is
    (n_columns, width); the cost is stored × width + (rows + columns) × width².
    """
    hidden = weighted_rows(weight, batch, batch.values)
    with torch.autocast(hidden.device.type, enabled=False):
        squares = row_sums(batch, batch.values.square())
        lengths = hidden.square().sum(1)
        whole = apply_exactly(_RowSquares, hidden, weight)
        target = squares.clamp_min(1e-12)
        # If y is zero up to rounding, its direction has no meaning.
        predicted = (whole - 2.0 * lengths + squares).clamp_min(1e-6 * target)
        return (1.0 - (lengths - squares) * (target * predicted).rsqrt()).sum()


def project_means(
    hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor, name: LikelihoodName, *, memory: int = 2**28
) -> Tensor:
    """Return x̄ · `table`, (n_rows, n_out), with x̄ the rows expected given the logits `hidden` Wᵀ + b, of length 1.

    `table` (n_columns, n_out) is the first layer of a network that reads normalized rows. The rows x̄ are dense. If they
    would exceed `memory` bytes, they are processed in parts, and each part is recomputed in the backward pass.
    """

    def project(part: Tensor) -> Tensor:
        with torch.autocast(part.device.type, enabled=False):
            means = _MEANS[name](torch.addmm(bias, part.to(weight.dtype), weight.T))
            lengths = means.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
            return (means @ table) / lengths

    rows = max(1, memory // (weight.shape[0] * weight.element_size()))
    if rows >= len(hidden):
        return project(hidden)
    parts = [
        checkpoint(project, hidden[start : start + rows], use_reentrant=False, preserve_rng_state=False)
        for start in range(0, len(hidden), rows)
    ]
    return torch.cat(parts)


class _WholeSquares(torch.autograd.Function):
    """Σ over all rows and columns of (h·w + b)² = ⟨HᵀH, WᵀW⟩ + 2 (Σh)·(Wᵀb) + rows · bᵀb."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        gram, cross, total = weight.T @ weight, bias @ weight, hidden.sum(0)
        ctx.save_for_backward(hidden, weight, bias, gram, cross, total)
        return ((hidden @ gram) * hidden).sum() + 2.0 * total.dot(cross) + len(hidden) * bias.dot(bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, gram, cross, total = ctx.saved_tensors
        twice = 2.0 * grads[0]

        def write(out: Tensor, beta: float) -> None:
            torch.addmm(out, weight, (hidden.T @ hidden) * twice, beta=beta, out=out)
            out.addr_(bias, total * twice)

        return (
            torch.addmm(cross, hidden, gram) * twice if ctx.needs_input_grad[0] else None,
            accumulate_grad(weight, write) if ctx.needs_input_grad[1] else None,
            (weight @ total + len(hidden) * bias) * twice if ctx.needs_input_grad[2] else None,
        )


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


class _MultinomialNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL, _rows: int
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias)
        softmax = _Softmax(hidden, weight, bias, batch, owner)
        ctx.softmax, ctx.batch, ctx.owner = softmax, batch, owner
        return softmax.loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        # In a second backward through a retained graph, another batch may have overwritten the memory.
        softmax = ctx.softmax or _Softmax(hidden, weight, bias, ctx.batch, ctx.owner)
        ctx.softmax = None
        gradients = softmax.gradients(hidden, weight, bias, ctx.needs_input_grad, grads[0])
        ctx.owner._free = softmax.memory
        return *gradients, None, None, None


class _MultinomialNLLInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL, rows: int
    ) -> Tensor:
        wanted, loss, one = ctx.needs_input_grad[:3], hidden.new_zeros(()), hidden.new_ones(())
        inputs = zip((hidden, weight, bias), wanted, strict=True)
        totals = [torch.zeros_like(tensor) if want else None for tensor, want in inputs]
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            softmax = _Softmax(hidden[part], weight, bias, batch.part(start, start + rows), owner)
            loss += softmax.loss
            if any(wanted):
                # Detached: a weight with a buffer would get its gradient now, without the factor from backward.
                gradients = softmax.gradients(hidden[part], weight.detach(), bias, wanted, one)
                for total, gradient, where in zip(totals, gradients, (part, slice(None), slice(None)), strict=True):
                    if total is not None and gradient is not None:
                        total[where] += gradient
            owner._free = softmax.memory
        ctx.totals = totals
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if total is None else total * grads[0] for total in ctx.totals), None, None, None


class _BernoulliNLL(GradientsInForward):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, width: int | None) -> Tensor:
        n, loss = len(hidden), hidden.new_zeros(())
        gradients = OutputGradients(hidden, weight, bias, ctx.needs_input_grad)
        memory = None
        for block, places, values in column_blocks(batch, width):
            size = n * (block.stop - block.start)
            memory = hidden.new_empty(size) if memory is None else memory[:size]  # the first block is the widest
            logits = memory.view(n, block.stop - block.start)
            torch.mm(hidden, weight[block].T, out=logits)
            logits.add_(bias[block])
            loss += F.softplus(logits).sum() - memory[places].dot(values)
            slopes = logits.sigmoid_()
            memory[places] -= values
            gradients.add(block, slopes, hidden, weight)
        ctx.save_for_backward(weight)
        ctx.gradients, ctx.others = gradients, (None, None)
        return loss


class _Softmax:
    """Exponentials exp(l − m) of the logits of some rows, with m the row's largest logit in the block.

    Probabilities are exp(l − m) · exp(m − lse), where lse is the row's log-sum-exp over all blocks.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL) -> None:
        n = len(hidden)
        self.memory = owner._take(n, weight)
        self.blocks = list(column_blocks(batch, owner.width, cpu_width=1024 if batch.n_columns < 2**14 else 2048))
        self.largest = hidden.new_empty(len(self.blocks), n)
        sums, stored = torch.empty_like(self.largest), hidden.new_zeros(())
        for number, (block, places, values) in enumerate(self.blocks):
            logits = self._view(block, n)
            torch.mm(hidden, weight[block].T, out=logits)
            logits.add_(bias[block])
            stored += logits.view(-1)[places].dot(values)
            torch.amax(logits, 1, out=self.largest[number])
            logits.sub_(self.largest[number][:, None]).exp_()
            torch.sum(logits, 1, out=sums[number])
        self.log_sum_exp = torch.logsumexp(self.largest + sums.log(), 0)
        self.totals = row_sums(batch, batch.values)
        self.loss = self.totals.dot(self.log_sum_exp) - stored

    def _view(self, block: slice, n: int) -> Tensor:
        return self.memory[n * block.start : n * block.stop].view(n, block.stop - block.start)

    def gradients(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, wanted: Sequence[bool], scale: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of hidden, weight and bias, times `scale`; the blocks are overwritten."""
        factors = self.totals * (self.largest - self.log_sum_exp).exp_()
        others = OutputGradients(hidden, weight, bias, (wanted[0], False, wanted[2]))
        scaled = hidden * scale  # saves a pass over the blocks

        def write(out: Tensor | None, beta: float) -> None:
            for number, (block, places, values) in enumerate(self.blocks):
                slopes = self._view(block, len(hidden))
                slopes.mul_(factors[number][:, None])
                slopes.view(-1)[places] -= values
                others.add(block, slopes, hidden, weight)
                if out is not None:
                    torch.addmm(out[block], slopes.T, scaled, beta=beta, out=out[block])

        of_weight = None
        if wanted[1]:
            of_weight = accumulate_grad(weight, write)
        else:
            write(None, 0.0)
        of_hidden, _, of_bias = others.scaled(scale, weight)
        return of_hidden, of_weight, of_bias
