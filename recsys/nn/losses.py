"""Losses over sparse targets, as sums over a batch: the caller carries the count and divides once.

A network's last layer is affine, so each loss takes the representation before it, `hidden` (n_rows, width), and the
layer's `weight` (n_columns, width) and `bias` (n_columns,), and computes only the products it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.products import deliver, sampled_products
from recsys.sparse import Batch

# Above this share of stored entries one dense product beats the products at stored entries alone. Measured forward and
# backward on two AVX2 cores, 500 rows at width 500, dense / sampled: 296 / 140 ms at 4.5 % of 20,108 columns, 301 / 319
# at 10 %; 44 / 26 at 10 % of 3,706. A GPU's matrix units make dense products cheaper; there the figure is an estimate.
DENSE_ABOVE = {"cpu": 0.1, "cuda": 0.02}


class Likelihood(Protocol):
    """A negative log-likelihood of whole rows."""

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
        """Return its sum over the batch, up to terms without parameters."""


LikelihoodName = Literal["multinomial", "bernoulli", "gaussian"]


def likelihood(name: LikelihoodName, unobserved_weight: float = 1.0) -> Likelihood:
    """Return the negative log-likelihood of that name, of which each training has one: some keep memory.

    `multinomial`: cross-entropy with the softmax of a row (Liang et al. 2018, eq. 2); `bernoulli`: logistic loss of
    every entry (their eq. 4 and Kingma and Welling 2014, appendix C.1); `gaussian`: ½ squared error (Liang et al.,
    eq. 3), unstored entries as zeros with `unobserved_weight`.
    """
    if name == "multinomial":
        return MultinomialNLL()
    if name == "bernoulli":
        return BernoulliNLL()
    return lambda hidden, weight, bias, batch: (
        0.5 * masked_squared_error(hidden, weight, bias, batch, unobserved_weight)
    )


def masked_squared_error(
    hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, unobserved_weight: float = 0.0
) -> Tensor:
    """Return Σ over stored entries of (x − p)², plus `unobserved_weight` · Σ over all other entries of p².

    With weight 0 this is the first term of eq. 1 and 3 of Sedhain et al. (2015). With a weight the unstored entries
    count as zeros, and their sum needs no dense product (as in iALS, Hu et al. 2008): Σ over all of p² follows from
    HᵀH and WᵀW, and the stored entries' p² is taken away.

    Returns:
        Scalar sum; cost stored × width, and (rows + columns) × width² where the weight is positive.
    """
    predicted = stored_products(hidden, weight, bias, batch)
    loss = (batch.values - predicted).square().sum()
    if unobserved_weight:
        with torch.autocast(hidden.device.type, enabled=False):
            whole: Tensor = _WholeSquares.apply(hidden.to(weight.dtype), weight, bias)  # type: ignore[no-untyped-call]
        loss = loss + unobserved_weight * (whole - predicted.square().sum())
    return loss


class MultinomialNLL:
    """−Σ_u Σ_i x_ui log softmax_i(h_u Wᵀ + b): eq. 2 of Liang et al. (2018), summed over the batch.

    The logits stand in blocks of columns, each (rows, `width`) and contiguous, which products and passes over a
    processor's cache both like; each block becomes its exponentials at once, and the gradient (n_u · softmax − x) in
    the same place on the way back. The next batch uses the same memory. Where a batch's logits would exceed `memory`,
    its rows go through in parts, whose gradients are made on the way forward instead of kept.
    """

    def __init__(self, memory: int = 2**30, width: int | None = None) -> None:
        """`memory` bounds the logits, in bytes; `width` is that of a block: 1,024 or 2,048 on a CPU, all on a GPU."""
        self.memory = memory
        self.width = width
        self._free: Tensor | None = None

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of `hidden` (n_rows, width) under `weight` (n_columns, width) and `bias`."""
        rows = max(1, self.memory // (weight.shape[0] * weight.element_size()))
        function = _MultinomialNLL if rows >= len(hidden) else _MultinomialNLLInParts
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(weight.dtype)
            loss: Tensor = function.apply(hidden, weight, bias, batch, self, rows)  # type: ignore[no-untyped-call]
        return loss

    def take(self, rows: int, like: Tensor) -> Tensor:
        """Return memory for (rows, columns of `like`) values that nobody uses.

        A second loss before the first one's backward gets memory of its own.
        """
        size, memory, self._free = rows * like.shape[0], self._free, None
        if memory is None or len(memory) < size or (memory.dtype, memory.device) != (like.dtype, like.device):
            memory = torch.empty(size, dtype=like.dtype, device=like.device)
        return memory

    def give_back(self, memory: Tensor) -> None:
        """Offer memory to the next batch."""
        self._free = memory


class BernoulliNLL:
    """Σ_u Σ_i softplus(l_ui) − x_ui l_ui with logits l = h Wᵀ + b: the logistic loss of every entry of the rows.

    −log of Π σ(l)^x (1 − σ(l))^(1 − x) for x in 0..1. Each block of columns gives its loss and its gradients while it
    is in the processor's cache, so that one block is all the memory that logits take.
    """

    def __init__(self, width: int | None = None) -> None:
        """`width` is that of a block: 1,024 on a CPU, all on a GPU."""
        self.width = width

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of `hidden` (n_rows, width) under `weight` (n_columns, width) and `bias`."""
        width = self.width or (weight.shape[0] if hidden.is_cuda else 1024)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(weight.dtype)
            loss: Tensor = _BernoulliNLL.apply(hidden, weight, bias, batch, width)  # type: ignore[no-untyped-call]
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
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.to(weight.dtype)
        if batch.density > DENSE_ABOVE["cuda" if hidden.is_cuda else "cpu"]:
            products: Tensor = _DenseProducts.apply(hidden, weight, batch)  # type: ignore[no-untyped-call]
        else:
            products = sampled_products(hidden, weight, batch)
    biases: Tensor = _Bias.apply(bias, batch)  # type: ignore[no-untyped-call]
    return products + biases


class _Bias(torch.autograd.Function):
    """Each stored entry's bias; autograd's own gradient of indexing sorts, this one adds."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return bias[batch.columns]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].new_zeros(ctx.batch.n_columns).index_add_(0, ctx.batch.columns, grads[0]), None


class _DenseProducts(torch.autograd.Function):
    """All products by one GEMM, of which the stored ones are read."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        block = hidden @ weight.T
        flat = batch.segments * weight.shape[0] + batch.columns
        products = block.view(-1)[flat]
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(hidden, weight)
            ctx.block, ctx.flat = block, flat  # rewritten by backward, so not among the tensors that autograd watches
        return products

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        block = ctx.block.zero_()
        block.view(-1)[ctx.flat] = grads[0]

        def write(out: Tensor, beta: float) -> None:
            torch.addmm(out, block.T, hidden, beta=beta, out=out)

        return (
            block @ weight if ctx.needs_input_grad[0] else None,
            deliver(weight, write) if ctx.needs_input_grad[1] else None,
            None,
        )


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
            deliver(weight, write) if ctx.needs_input_grad[1] else None,
            (weight @ total + len(hidden) * bias) * twice if ctx.needs_input_grad[2] else None,
        )


class _MultinomialNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL, _rows: int
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.softmax, ctx.batch, ctx.owner = _Softmax(hidden, weight, bias, batch, owner), batch, owner
        loss: Tensor = ctx.softmax.loss
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        # A second backward through a retained graph finds its memory gone to another batch.
        softmax = ctx.softmax or _Softmax(hidden, weight, bias, ctx.batch, ctx.owner)
        ctx.softmax = None
        made = softmax.gradients(hidden, weight, bias, ctx.needs_input_grad, grads[0])
        ctx.owner.give_back(softmax.memory)
        return *made, None, None, None


class _MultinomialNLLInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL, rows: int
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        loss, one = hidden.new_zeros(()), hidden.new_ones(())
        tensors = (hidden, weight, bias)
        made = [torch.zeros_like(tensor) if want else None for tensor, want in zip(tensors, wanted, strict=True)]
        for start in range(0, len(hidden), rows):
            own = slice(start, start + rows)
            softmax = _Softmax(hidden[own], weight, bias, batch.part(start, start + rows), owner)
            loss += softmax.loss
            if any(wanted):
                # Away from the parameter, whose kept gradient waits for the factor that only backward knows.
                parts = softmax.gradients(hidden[own], weight.detach(), bias, wanted, one)
                for total, part, where in zip(made, parts, (own, slice(None), slice(None)), strict=True):
                    if total is not None and part is not None:
                        total[where] += part
            owner.give_back(softmax.memory)
        ctx.made = made
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if made is None else made * grads[0] for made in ctx.made), None, None, None


class _BernoulliNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, width: int) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        made = [torch.zeros_like(hidden), torch.empty_like(weight), torch.empty_like(bias)]
        n, loss = len(hidden), hidden.new_zeros(())
        pieces = column_pieces(weight.shape[0], width)
        memory = hidden.new_empty(n * min(width, weight.shape[0]))
        for piece, (places, values) in zip(pieces, entries_by_piece(batch, pieces), strict=True):
            block = memory[: n * (piece.stop - piece.start)].view(n, -1)
            torch.mm(hidden, weight[piece].T, out=block)
            block.add_(bias[piece])
            loss += F.softplus(block).sum() - block.view(-1)[places].dot(values)
            if any(wanted):
                block.sigmoid_().view(-1)[places] -= values
                if wanted[0]:
                    made[0].addmm_(block, weight[piece])
                if wanted[1]:
                    torch.mm(block.T, hidden, out=made[1][piece])
                if wanted[2]:
                    torch.sum(block, 0, out=made[2][piece])
        ctx.save_for_backward(weight)
        ctx.made = made
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        of_hidden, of_weight, of_bias = ctx.made

        def write(out: Tensor, beta: float) -> None:
            torch.mul(of_weight, grads[0], out=out) if not beta else out.mul_(beta).add_(of_weight * grads[0])

        return (
            of_hidden * grads[0] if ctx.needs_input_grad[0] else None,
            deliver(weight, write) if ctx.needs_input_grad[1] else None,
            of_bias * grads[0] if ctx.needs_input_grad[2] else None,
            None,
            None,
        )


def column_pieces(n_columns: int, width: int) -> list[slice]:
    """Return all columns in pieces of `width`, the last one perhaps narrower."""
    return [slice(start, min(start + width, n_columns)) for start in range(0, n_columns, width)]


def entries_by_piece(batch: Batch, pieces: Sequence[slice]) -> list[tuple[Tensor, Tensor]]:
    """Return the stored entries of each piece of the columns: their places in it, row by row, and their values."""
    turned = batch.by_column
    values, columns = batch.values[turned.order], batch.columns[turned.order]
    starts = [0]
    if len(pieces) > 1:
        starts = turned.offsets[[piece.start for piece in pieces]].tolist()
    found = []
    for piece, start, stop in zip(pieces, starts, [*starts[1:], len(values)], strict=True):
        own = slice(start, stop)
        places = turned.segments[own] * (piece.stop - piece.start) + (columns[own] - piece.start)
        found.append((places, values[own]))
    return found


class _Softmax:
    """Exponentials of the logits of some rows, and what turns them into probabilities and gradients.

    Block by block exp(l − m) is kept, m the largest logit of the row in that block: probabilities are
    exp(l − m) · exp(m − lse), with lse the row's log-sum-exp over all blocks.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, owner: MultinomialNLL) -> None:
        n, n_columns = len(hidden), weight.shape[0]
        width = owner.width or (n_columns if hidden.is_cuda else 1024 if n_columns < 2**14 else 2048)
        self.memory = owner.take(n, weight)
        self.pieces = column_pieces(n_columns, width)
        self.blocks = [self.memory[n * piece.start : n * piece.stop].view(n, -1) for piece in self.pieces]
        self.entries = entries_by_piece(batch, self.pieces)
        self.largest = hidden.new_empty(len(self.pieces), n)
        sums, stored = torch.empty_like(self.largest), hidden.new_zeros(())
        for number, (piece, block) in enumerate(zip(self.pieces, self.blocks, strict=True)):
            torch.mm(hidden, weight[piece].T, out=block)
            block.add_(bias[piece])
            places, values = self.entries[number]
            stored += block.view(-1)[places].dot(values)
            torch.amax(block, 1, out=self.largest[number])
            block.sub_(self.largest[number][:, None]).exp_()
            torch.sum(block, 1, out=sums[number])
        self.normaliser = torch.logsumexp(self.largest + sums.log(), 0)
        self.totals = hidden.new_zeros(n).index_add_(0, batch.segments, batch.values)
        self.loss = self.totals.dot(self.normaliser) - stored

    def gradients(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, wanted: Sequence[bool], scale: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of hidden, weight and bias, times `scale`; the blocks are used up."""
        factors = self.totals * (self.largest - self.normaliser).exp_()
        of_hidden = torch.zeros_like(hidden) if wanted[0] else None
        of_bias = torch.empty_like(bias) if wanted[2] else None
        scaled = hidden * scale  # the scale meets the small factor, so that no pass over the blocks is spent on it

        def write(out: Tensor | None, beta: float) -> None:
            for number, (piece, block) in enumerate(zip(self.pieces, self.blocks, strict=True)):
                places, values = self.entries[number]
                block.mul_(factors[number][:, None])
                block.view(-1)[places] -= values
                if of_hidden is not None:
                    of_hidden.addmm_(block, weight[piece])
                if of_bias is not None:
                    torch.sum(block, 0, out=of_bias[piece])
                if out is not None:
                    torch.addmm(out[piece], block.T, scaled, beta=beta, out=out[piece])

        of_weight = None
        if wanted[1]:
            of_weight = deliver(weight, write)
        else:
            write(None, 0.0)
        if of_hidden is not None:
            of_hidden *= scale
        if of_bias is not None:
            of_bias *= scale
        return of_hidden, of_weight, of_bias
