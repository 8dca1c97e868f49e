"""Parts of adversarial training: discriminators with a bounded slope, and the expected rows of a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.devices import is_apart
from recsys.nn.blocks import OutputGradients
from recsys.nn.layers import Layer, l2_normalized, linear, xavier
from recsys.nn.products import apply_exactly, row_sums, weighted_rows
from recsys.sparse import Batch


class SpectralNorm(Layer):
    """Divides a weight by its largest singular value (Miyato, Kataoka, Koyama and Yoshida 2018, eq. 8 and algorithm 1).

    The left singular vector is a buffer, so a resumed training continues with it. One step of the power method updates
    it each time the weight is trained; at other times it does not change.
    """

    direction: Tensor

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        """`weight` (n, m) is the initial weight."""
        super().__init__()
        start = torch.randn(len(weight), generator=generator, dtype=weight.dtype)
        self.register_buffer("direction", F.normalize(start, dim=0))
        for _ in range(20):  # after this good start, one step per update is enough
            self.direction.copy_(self._power_step(weight.detach())[0])

    def forward(self, weight: Tensor) -> Tensor:
        """Return σ ≈ uᵀ W v, with the gradient u vᵀ (their eq. 10); scalar."""
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                left, right = self._power_step(weight)
                if self.training and weight.requires_grad:
                    self.direction.copy_(left)
            return (left @ weight @ right).clamp_min(1e-12)  # a zero weight stays zero

    def _power_step(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        right = F.normalize(weight.T @ self.direction, dim=0)
        return F.normalize(weight @ right, dim=0), right


class SpectralLinear(Layer):
    """A dense layer whose weight is divided by its spectral norm: (n, n_in) to (n, n_out)."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear(n_in, n_out, generator)
        self.norm = SpectralNorm(self.linear.weight, generator)

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.linear.weight / self.norm(self.linear.weight), self.linear.bias)


class Discriminator(Layer):
    """Tells real vectors from generated ones: dense layers of spectral norm 1 with ReLU between, and a final logit.

    The logit changes by at most as much as the vector does, so the discriminator cannot win outright and the generator
    always gets a gradient.
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        """`widths` are the width of the vectors, then those of the hidden layers."""
        super().__init__()
        self.hidden = nn.ModuleList(SpectralLinear(n_in, n_out, generator) for n_in, n_out in pairwise(widths))
        self.last = SpectralLinear(widths[-1], 1, generator)

    def features(self, values: Tensor) -> Tensor:
        """Return the last hidden layer, (n, widths[-1]), of `values` (n, widths[0])."""
        for layer in self.hidden:
            values = torch.relu(layer(values))
        return values

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits of being real, (n,)."""
        features = self.features(values)
        with torch.autocast(values.device.type, enabled=False):  # like output layers and losses
            return self.last(features.to(self.last.linear.weight.dtype))[:, 0]


class RowDiscriminator(Layer):
    """Tells real rows, or pairs of a row and a code, from generated ones: a first layer, then a `Discriminator`.

    Real rows are sparse and cost stored entries × width. Generated rows are the decoder's expectations; they are dense,
    and the first layer processes them in blocks of columns. A row x is read as x / ‖x‖, the generated row in its place
    as N π / ‖x‖: the mean of N = Σ x draws from the decoder's softmax π, divided by the same length. A code is divided
    by the square root of its width, so both parts of a pair have a length of about 1.
    """

    def __init__(
        self, n_columns: int, widths: Sequence[int], generator: torch.Generator, *, latent: int | None = None
    ) -> None:
        """`widths` are those of the hidden layers; `latent` is the width of the codes, None to judge rows alone."""
        super().__init__()
        self.table = nn.Parameter(xavier(n_columns, widths[0], generator))
        self.bias = nn.Parameter(torch.zeros(widths[0]))
        self.norm = SpectralNorm(self.table.T, generator)
        self.codes = None if latent is None else SpectralLinear(latent, widths[0], generator)
        self.rest = Discriminator(widths, generator)

    def real(self, batch: Batch, latent: Tensor | None = None) -> Tensor:
        """Return the first hidden layer of real rows, (n, widths[0])."""
        return self._first_layer(weighted_rows(self.table, batch, l2_normalized(batch)), latent)

    def made(self, hidden: Tensor, weight: Tensor, bias: Tensor, like: Batch, latent: Tensor | None = None) -> Tensor:
        """Return the first hidden layer of generated rows, (n, widths[0]).

        The decoder's softmax is that of `hidden @ weight.T + bias`; N and ‖x‖ are those of the real rows `like`.
        """
        draws = row_sums(like, l2_normalized(like))  # N / ‖x‖
        return self._first_layer(expected_rows(hidden, weight, bias, self.table) * draws[:, None], latent)

    def _first_layer(self, sums: Tensor, latent: Tensor | None) -> Tensor:
        sums = sums / self.norm(self.table.T) + self.bias
        if self.codes is not None:
            assert latent is not None
            sums = sums + self.codes(latent / latent.shape[1] ** 0.5)
        return torch.relu(sums)

    def features(self, first: Tensor) -> Tensor:
        """Return the last hidden layer, (n, widths[-1]), given the first."""
        return self.rest.features(first)

    def forward(self, first: Tensor) -> Tensor:
        """Return the logits of being real, (n,), from the first hidden layer."""
        return self.rest(first)


def expected_rows(hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor) -> Tensor:
    """Return softmax(hidden @ weight.T + bias) @ table, (n_rows, n_out), in the memory of one block of columns.

    This is attention (Dao et al. 2022, algorithm 1, and appendix B.2 for the gradient) with the columns as keys.
    """
    return apply_exactly(_ExpectedRows, hidden, weight, bias, table)


class _ExpectedRows(torch.autograd.Function):
    width = 1024

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor) -> Tensor:
        largest = hidden.new_full((len(hidden),), -torch.inf)
        total, sums = hidden.new_zeros(len(hidden)), hidden.new_zeros(len(hidden), table.shape[1])
        for block, logits in _logits(hidden, weight, bias):
            before, largest = largest, torch.maximum(largest, logits.amax(1))
            shrink = (before - largest).exp_()
            exponentials = logits.sub_(largest[:, None]).exp_()
            total = total.mul_(shrink).add_(exponentials.sum(1))
            sums.mul_(shrink[:, None]).addmm_(exponentials, table[block])
        sums.div_(total[:, None])
        ctx.save_for_backward(hidden, weight, bias, table, largest + total.log(), sums)
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, table, log_sum_exp, sums = ctx.saved_tensors
        grad = grads[0]
        gradients = OutputGradients(hidden, weight, bias, ctx.needs_input_grad)
        of_table = torch.empty_like(table) if ctx.needs_input_grad[3] else None
        inner = (grad * sums).sum(1, keepdim=True)
        for block, logits in _logits(hidden, weight, bias):
            probabilities = logits.sub_(log_sum_exp[:, None]).exp_()
            if of_table is not None:
                torch.mm(probabilities.T, grad, out=of_table[block])
            slopes = torch.mm(grad, table[block].T).sub_(inner).mul_(probabilities)
            gradients.add(block, slopes, hidden, weight)
        return gradients.hidden, gradients.weight, gradients.bias, of_table


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of columns with their logits, (n_rows, block width)."""
    step = _ExpectedRows.width if not is_apart(hidden) else max(1, 2**28 // (4 * max(1, len(hidden))))
    for start in range(0, weight.shape[0], step):
        block = slice(start, start + step)
        yield block, torch.addmm(bias[block], hidden, weight[block].T)
