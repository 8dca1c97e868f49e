"""The networks: sparse rows in, a representation out, and an affine output layer that losses and ranking read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from recsys.nn.layers import (
    ACTIVATIONS,
    ActivationName,
    Output,
    SparseLinear,
    dropout,
    l2_normalised,
    linear,
)
from recsys.sparse import Batch


class Autoencoding(Protocol):
    """What training, ranking and embeddings need of a network."""

    output: Output

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return (len(batch), latent) embeddings; deterministic without `noise`."""

    def decode(self, latent: Tensor) -> Tensor:
        """Return (n, width): what the output layer reads."""


class Dense(nn.Module):
    """Dense layers one after the other, each followed by the activation; none at all is the identity."""

    def __init__(
        self, widths: Sequence[int], activation: ActivationName, generator: torch.Generator | None = None
    ) -> None:
        """`widths` begins with that of what comes in."""
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(linear(n_in, n_out, generator) for n_in, n_out in pairwise(widths))

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, widths[-1])."""
        for layer in self.layers:
            values = self.activation(layer(values))
        return values


class DeepNetwork(nn.Module):
    """I → hidden… → latent → …hidden → I, the activation after every layer but the last, which is affine.

    Input rows are divided by their Euclidean length (`normalise`), then dropped out, both on the stored entries.
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        latent: int,
        generator: torch.Generator | None = None,
        *,
        activation: ActivationName = "tanh",
        dropout: float = 0.0,
        normalise: bool = True,
    ) -> None:
        """`hidden` are the widths between input and latent layer; the decoder has them in reverse."""
        super().__init__()
        self.dropout, self.normalise = dropout, normalise
        self.activation = ACTIVATIONS[activation]
        widths = [*hidden, latent]
        self.input = SparseLinear(n_in, widths[0], generator)
        self.encoder = Dense(widths, activation, generator)
        self.decoder = Dense(widths[::-1], activation, generator)
        self.output = Output(widths[0], n_in, generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return (len(batch), latent) activations; `noise` draws the input dropout."""
        values = l2_normalised(batch) if self.normalise else batch.values
        code: Tensor = self.encoder(self.activation(self.input(batch, dropout(values, self.dropout, noise))))
        return code

    def decode(self, latent: Tensor) -> Tensor:
        """Return the decoder's last hidden layer, (n, hidden[0]), or the code itself where there is no other."""
        hidden: Tensor = self.decoder(latent)
        return hidden


class AutoRecNetwork(nn.Module):
    """h(r) = f(W · g(V r + μ) + b) with f the identity and g the sigmoid (Sedhain et al. 2015, §2)."""

    def __init__(self, n_in: int, hidden: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.input = SparseLinear(n_in, hidden, generator)  # V, μ
        self.output = Output(hidden, n_in, generator)  # W, b

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return g(V r + μ), (len(batch), hidden); AutoRec has no noise."""
        del noise
        return torch.sigmoid(self.input(batch))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the hidden activations themselves: the output layer reads them."""
        return latent


class MultVAENetwork(nn.Module):
    """I → hidden → 2·latent, latent → hidden → I with tanh between (Liang et al. 2018, §4.3).

    The input row is divided by its Euclidean length, then dropped out, both on the stored entries.
    """

    def __init__(
        self, n_items: int, hidden: int, latent: int, dropout: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.latent = latent
        self.dropout = dropout
        self.input = SparseLinear(n_items, hidden, generator)
        self.posterior_layer = linear(hidden, 2 * latent, generator)
        self.decoder = linear(latent, hidden, generator)
        self.output = Output(hidden, n_items, generator)
        for bias in (self.input.bias, self.posterior_layer.bias, self.decoder.bias, self.output.bias):
            nn.init.trunc_normal_(bias, std=0.001, a=-0.002, b=0.002, generator=generator)

    def posterior(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (len(batch), latent); `noise` draws the input dropout."""
        values = dropout(l2_normalised(batch), self.dropout, noise)
        mean, log_variance = self.posterior_layer(torch.tanh(self.input(batch, values))).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the posterior mean: prediction draws nothing."""
        return self.posterior(batch, noise)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """Return the decoder's hidden layer, (n, hidden)."""
        return torch.tanh(self.decoder(latent))


class MultDAENetwork(nn.Module):
    """I → latent → I with tanh (Liang et al. 2018, §2.3), input normalised and dropped out as in Mult-VAE."""

    def __init__(self, n_items: int, latent: int, dropout: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.dropout = dropout
        self.input = SparseLinear(n_items, latent, generator)
        self.output = Output(latent, n_items, generator)
        for bias in (self.input.bias, self.output.bias):
            nn.init.trunc_normal_(bias, std=0.001, a=-0.002, b=0.002, generator=generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the hidden activations, (len(batch), latent); `noise` draws the input dropout."""
        return torch.tanh(self.input(batch, dropout(l2_normalised(batch), self.dropout, noise)))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the hidden activations themselves."""
        return latent
