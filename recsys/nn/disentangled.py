"""MacridVAE's network: items belong to concepts in part, and a user has a code for each concept (Ma et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.devices import is_apart
from recsys.nn.blocks import OutputGradients
from recsys.nn.layers import SparseLinear, dropout, standard_gumbel, xavier
from recsys.nn.networks import Autoencoding, Tied
from recsys.nn.paths import whole_values
from recsys.nn.products import affine, apply_exactly, row_sums, sampled_products, weighted_rows
from recsys.nn.variational import GaussianLayer
from recsys.sparse import Batch, DenseRows


class ConceptNetwork(Autoencoding):
    """K encoders that share their weights, each reading the items of one concept, and a mixture of K decoders.

    Where a method returns rows of all concepts, those of the first concept come first: (K · n, width).
    """

    def __init__(
        self,
        n_items: int,
        concepts: int,
        hidden: int,
        latent: int,
        temperature: float,
        prior_scale: float,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        """`temperature` is τ of both softmaxes, `prior_scale` σ_0, the standard deviation of the prior."""
        super().__init__()
        self.temperature, self.prior_scale, self.dropout = temperature, prior_scale, dropout
        self.input = SparseLinear(n_items, hidden, generator)
        self.posterior_layer = GaussianLayer(hidden, latent, generator)
        self.items = nn.Parameter(xavier(n_items, latent, generator))
        self.prototypes = nn.Parameter(xavier(concepts, latent, generator))

    @property
    def output(self) -> Tied:
        """The vectors of the items with length 1, and a bias of zeros."""
        return Tied(F.normalize(self.items, dim=1), self.items.new_zeros(len(self.items)))

    def log_concepts(self, noise: torch.Generator | None = None) -> Tensor:
        """Return log c_ik, (n_items, K): each item's shares in the concepts, or with `noise` a relaxed draw of one."""
        logits = self.output.weight @ F.normalize(self.prototypes, dim=1).T / self.temperature
        return F.log_softmax(logits if noise is None else logits + standard_gumbel(logits, noise), 1)

    def posterior(self, rows: Batch | DenseRows, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean of q(z_k|x), of length 1, and the logarithm of its variance in units of σ_0²; both (n, d).

        `rows` are x ⊙ c_k, of any concepts; `noise` draws the input dropout.
        """
        values = rows.values
        squares = values.square().sum(1) if isinstance(rows, DenseRows) else row_sums(rows, whole_values(rows).square())
        # The division by the length comes after the product: then its gradient is one number per row.
        summed = weighted_rows(self.input.weight, rows, dropout(values, self.dropout, noise))
        first = summed * squares.clamp_min(1e-24).rsqrt()[:, None] + self.input.bias
        mean, log_ratio = self.posterior_layer(torch.tanh(first))
        return F.normalize(mean, dim=1), log_ratio

    def encode(self, batch: Batch | DenseRows, noise: torch.Generator | None = None) -> Tensor:
        """Return the K posterior means of each row side by side, (len(batch), K · d)."""
        mean, _ = self.posterior(batch.copies(self.log_concepts().exp().T), noise)
        return mean.view(len(self.prototypes), -1, mean.shape[1]).transpose(0, 1).flatten(1)

    def scores(
        self,
        codes: Tensor,
        items: Tensor | None = None,
        product: Callable[[Tensor, Tensor, Tensor], Tensor] = affine,
    ) -> Tensor:
        """Return log Σ_k c_ik exp(cos(z_k, h_i) / τ) of all items or `items`, (n, n_items).

        `codes` (n, K · d) hold the z_k of each row side by side, of length 1; `product` computes h Wᵀ + b.
        """
        vectors, logs = self.output.weight / self.temperature, self.log_concepts()
        if items is not None:
            vectors, logs = vectors[items], logs[items]
        each = zip(codes.chunk(len(self.prototypes), 1), logs.T, strict=True)
        return reduce(log_add_exp, (product(code, vectors, shares) for code, shares in each))


def log_add_exp(left: Tensor, right: Tensor) -> Tensor:
    """Return log(exp(left) + exp(right)); torch's own computes the last few values of a block in another way."""
    largest = torch.maximum(left, right)
    return largest + torch.log(torch.exp(left - largest) + torch.exp(right - largest))


def mixture_nll(
    latent: Tensor, vectors: Tensor, log_concepts: Tensor, batch: Batch, copies: Batch, *, memory: int = 2**30
) -> Tensor:
    """Return −Σ_u Σ_i x_ui log p_ui with p_ui ∝ Σ_k c_ik exp(z_uk · v_i), summed over the batch; scalar.

    The normalizer is one softmax over the items of all concepts, Σ_k Σ_i exp(z_uk · v_i + log c_ik); log Σ_k is taken
    at the stored entries alone. Cost: K · rows · columns · width, K times that of a multinomial likelihood.

    Args:
        latent: (K · n_rows, width), those of the first concept first.
        vectors: (n_columns, width), divided by the temperature.
        log_concepts: (n_columns, K).
        copies: the batch once per concept (`Batch.copies`), with any values.
        memory: bytes of logits beyond which rows are processed in parts, each computed again in the backward pass.
    """
    n_concepts = log_concepts.shape[1]
    # A column of `log_concepts` per concept beside the vectors, and a 1 at its place beside the code: no bias per row.
    places = torch.eye(n_concepts, dtype=latent.dtype, device=latent.device).repeat_interleave(len(batch), 0)
    codes = torch.cat([latent.to(vectors.dtype), places.to(vectors.dtype)], 1)
    table = torch.cat([vectors, log_concepts], 1)
    at_stored = sampled_products(codes, table, copies).view(n_concepts, len(batch.columns)).logsumexp(0)
    normalizers = log_sum_exp(codes, table, memory).view(n_concepts, len(batch)).logsumexp(0)
    return row_sums(batch, batch.values).dot(normalizers) - batch.values.dot(at_stored)


def log_sum_exp(hidden: Tensor, weight: Tensor, memory: int = 2**30) -> Tensor:
    """Return log Σ_i exp(h · w_i) of each row h, (n_rows,)."""
    rows = max(1, memory // (len(weight) * weight.element_size()))
    parts = torch.split(hidden, rows)
    return torch.cat([apply_exactly(_LogSumExp, part, weight, len(parts) == 1) for part in parts])


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, keep: bool) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        softmax = _Exponentials(hidden, weight)
        ctx.softmax = softmax if keep else None
        return softmax.log_sum_exp

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        softmax, ctx.softmax = ctx.softmax or _Exponentials(hidden, weight), None  # what is kept is overwritten below
        gradients = OutputGradients(hidden, weight, weight[:, 0], (*ctx.needs_input_grad[:2], False))
        for block, exponentials, factors in softmax.blocks:
            gradients.add(block, exponentials.mul_((factors * grads[0])[:, None]), hidden, weight)
        return gradients.hidden, gradients.weight, None


class _Exponentials:
    """exp(l − m) of the logits l of blocks of columns, with m the row's largest there, and exp(m − log Σ exp(l))."""

    def __init__(self, hidden: Tensor, weight: Tensor) -> None:
        n, n_columns = len(hidden), len(weight)
        width = n_columns if is_apart(hidden) else max(128, _BLOCK // max(1, n))
        columns = [slice(start, min(start + width, n_columns)) for start in range(0, n_columns, width)]
        memory = hidden.new_empty(n * n_columns)
        blocks = [memory[n * block.start : n * block.stop].view(n, block.stop - block.start) for block in columns]
        largest, sums = hidden.new_empty(2, len(columns), n)
        for number, (block, logits) in enumerate(zip(columns, blocks, strict=True)):
            torch.mm(hidden, weight[block].T, out=logits)
            torch.amax(logits, 1, out=largest[number])
            logits.sub_(largest[number][:, None]).exp_()
            torch.sum(logits, 1, out=sums[number])
        self.log_sum_exp = torch.logsumexp(largest + sums.log(), 0)
        self.blocks = list(zip(columns, blocks, (largest - self.log_sum_exp).exp_(), strict=True))


_BLOCK = 2**20
"""Logits of a block of columns on a CPU: 4 MiB."""
