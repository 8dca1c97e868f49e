"""Parts of adversarial training: discriminators whose slope is bounded, and the rows that a decoder expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.layers import l2_normalised, linear, xavier
from recsys.nn.products import weighted_rows
from recsys.sparse import Batch

_FIRST_STEPS = 20
"""Steps of the power method on new weights: a start near the truth, which one step per update then follows."""


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value (Miyato, Kataoka, Koyama and Yoshida 2018, eq. 8 and algorithm 1).

    The left singular vector is a buffer, so that a training that is continued goes on with it. It follows the weight by
    one step of the power method each time the weight is trained, and stays where it is at all other times.
    """

    direction: Tensor

    def __init__(self, weight: Tensor, generator: torch.Generator | None = None) -> None:
        """`weight` (n, m) is that of the start."""
        super().__init__()
        start = torch.randn(len(weight), generator=generator, dtype=weight.dtype)
        self.register_buffer("direction", F.normalize(start, dim=0))
        for _ in range(_FIRST_STEPS):
            self.direction.copy_(self._step(weight.detach())[0])

    def forward(self, weight: Tensor) -> Tensor:
        """Return σ ≈ uᵀ W v, with the gradient u vᵀ (their eq. 10); scalar."""
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                left, right = self._step(weight)
                if self.training and weight.requires_grad:
                    self.direction.copy_(left)
            sigma: Tensor = left @ weight @ right
        return sigma.clamp_min(1e-12)  # a weight of zeros stays one

    def _step(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        right = F.normalize(weight.T @ self.direction, dim=0)
        return F.normalize(weight @ right, dim=0), right


class SpectralLinear(nn.Module):
    """A dense layer with a weight of spectral norm 1."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.linear = linear(n_in, n_out, generator)
        self.norm = SpectralNorm(self.linear.weight, generator)

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, n_out)."""
        return F.linear(values, self.linear.weight / self.norm(self.linear.weight), self.linear.bias)


class Discriminator(nn.Module):
    """Tells real vectors from made ones: dense layers of spectral norm 1, ReLU between, a logit at the end.

    Its logit changes by no more than the vector does, so that it can neither win outright nor leave the other player
    without a gradient.
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator | None = None) -> None:
        """`widths` begins with that of the vectors."""
        super().__init__()
        self.hidden = nn.ModuleList(SpectralLinear(n_in, n_out, generator) for n_in, n_out in pairwise(widths))
        self.last = SpectralLinear(widths[-1], 1, generator)

    def features(self, values: Tensor) -> Tensor:
        """Return the last hidden layer, (n, widths[-1])."""
        for layer in self.hidden:
            values = torch.relu(layer(values))
        return values

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits of being real, (n,)."""
        features = self.features(values)
        with torch.autocast(values.device.type, enabled=False):  # as output layers and losses go without it
            logits: Tensor = self.last(features.to(self.last.linear.weight.dtype))
        return logits[:, 0]


class RowDiscriminator(nn.Module):
    """Tells real rows, or pairs of a row and a code, from made ones, as `Discriminator` does from its first layer on.

    Real rows are sparse and cost stored entries × width; of made ones, as the decoder expects them, the first layer
    needs every column, and takes them in blocks. A row x is read as x / ‖x‖; the row that a decoder makes in its place
    as N π / ‖x‖, the mean of N = Σ x draws from its softmax π over the same length. A code is read divided by the root
    of its width, so that both parts of a pair have a length of about 1.
    """

    def __init__(
        self,
        n_columns: int,
        widths: Sequence[int],
        generator: torch.Generator | None = None,
        *,
        latent: int | None = None,
    ) -> None:
        """`widths` are those of the hidden layers; `latent` that of the codes where pairs are judged."""
        super().__init__()
        self.table = nn.Parameter(xavier(n_columns, widths[0], generator))
        self.bias = nn.Parameter(torch.zeros(widths[0]))
        self.norm = SpectralNorm(self.table.T, generator)
        self.codes = None if latent is None else SpectralLinear(latent, widths[0], generator)
        self.rest = Discriminator(widths, generator)

    def real(self, batch: Batch, latent: Tensor | None = None) -> Tensor:
        """Return the first hidden layer of real rows, (n, widths[0])."""
        return self._first(weighted_rows(self.table, batch, l2_normalised(batch)), latent)

    def made(self, hidden: Tensor, weight: Tensor, bias: Tensor, like: Batch, latent: Tensor | None = None) -> Tensor:
        """Return the first hidden layer of the rows of softmax(hidden @ weight.T + bias), of the lengths of `like`."""
        draws = like.values.new_zeros(len(like)).index_add_(0, like.segments, l2_normalised(like))  # N / ‖x‖
        return self._first(expected_rows(hidden, weight, bias, self.table) * draws[:, None], latent)

    def _first(self, sums: Tensor, latent: Tensor | None) -> Tensor:
        sums = sums / self.norm(self.table.T) + self.bias
        if self.codes is not None:
            assert latent is not None
            sums = sums + self.codes(latent / latent.shape[1] ** 0.5)
        return torch.relu(sums)

    def features(self, first: Tensor) -> Tensor:
        """Return the last hidden layer, (n, widths[-1])."""
        features: Tensor = self.rest.features(first)
        return features

    def forward(self, first: Tensor) -> Tensor:
        """Return the logits of being real, (n,), from the first hidden layer."""
        logits: Tensor = self.rest(first)
        return logits


def expected_rows(hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor) -> Tensor:
    """Return softmax(hidden @ weight.T + bias) @ table without the whole softmax.

    Forward and backward go through the columns in blocks, of which one is all the memory that probabilities take: the
    products of attention (Dao et al. 2022, algorithm 1, and appendix B.2 for the gradient) with columns as keys.

    Args:
        hidden: (n_rows, width).
        weight: (n_columns, width), with `bias` (n_columns,).
        table: (n_columns, n_out).

    Returns:
        (n_rows, n_out)
    """
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.to(weight.dtype)
        found: Tensor = _ExpectedRows.apply(hidden, weight, bias, table)  # type: ignore[no-untyped-call]
    return found


class _ExpectedRows(torch.autograd.Function):
    width = 1024

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor) -> Tensor:
        largest = hidden.new_full((len(hidden),), -torch.inf)
        normaliser, sums = hidden.new_zeros(len(hidden)), hidden.new_zeros(len(hidden), table.shape[1])
        for piece, logits in _logits(hidden, weight, bias):
            before, largest = largest, torch.maximum(largest, logits.amax(1))
            shrink = (before - largest).exp_()
            exponentials = logits.sub_(largest[:, None]).exp_()
            normaliser = normaliser.mul_(shrink).add_(exponentials.sum(1))
            sums.mul_(shrink[:, None]).addmm_(exponentials, table[piece])
        sums.div_(normaliser[:, None])
        ctx.save_for_backward(hidden, weight, bias, table, largest + normaliser.log(), sums)
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, table, normaliser, sums = ctx.saved_tensors
        (grad,), wanted = grads, ctx.needs_input_grad
        of_hidden, of_bias = torch.zeros_like(hidden), torch.empty_like(bias)
        of_weight = torch.empty_like(weight) if wanted[1] else None
        of_table = torch.empty_like(table) if wanted[3] else None
        inner = (grad * sums).sum(1, keepdim=True)
        for piece, logits in _logits(hidden, weight, bias):
            shares = logits.sub_(normaliser[:, None]).exp_()
            if of_table is not None:
                torch.mm(shares.T, grad, out=of_table[piece])
            of_logits = torch.mm(grad, table[piece].T).sub_(inner).mul_(shares)
            of_hidden.addmm_(of_logits, weight[piece])
            torch.sum(of_logits, 0, out=of_bias[piece])
            if of_weight is not None:
                torch.mm(of_logits.T, hidden, out=of_weight[piece])
        return (
            of_hidden if wanted[0] else None,
            of_weight,
            of_bias if wanted[2] else None,
            of_table,
        )


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
    step = _ExpectedRows.width if not hidden.is_cuda else max(1, 2**28 // (4 * max(1, len(hidden))))
    for start in range(0, weight.shape[0], step):
        piece = slice(start, start + step)
        yield piece, torch.addmm(bias[piece], hidden, weight[piece].T)
