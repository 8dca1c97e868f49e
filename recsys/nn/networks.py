"""The networks: an encoder and decoder of sparse rows, and an affine output layer that losses and ranking read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.gaussian import drawn, gaussian_log_density
from recsys.nn.layers import (
    ACTIVATIONS,
    ActivationName,
    Layer,
    Output,
    Scale,
    SparseLinear,
    as_stored,
    dropout,
    l2_normalized,
    linear,
    sigmoid,
    xavier,
)
from recsys.nn.products import weighted_rows
from recsys.sparse import Batch


class Autoencoding(nn.Module):
    """What training, ranking and embeddings need of a network; `output` is its last layer, affine (see `Output`)."""

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return (len(batch), latent) embeddings; `noise` draws the input dropout, if the network has any."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """Return the input of the output layer, (n, width): the code itself unless a network has more layers."""
        return latent


class Generating(Autoencoding):
    """An autoencoder with q(z|x), here a diagonal Gaussian, and a prior of codes, here N(0, I)."""

    latent: int
    """Width of z."""

    def posterior(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (len(batch), latent); `noise` draws the input dropout."""
        raise NotImplementedError

    def draw_posterior(self, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z ~ q(z|x), without input dropout, (len(batch), latent), and log q(z|x), (len(batch),) float64."""
        return drawn(*self.posterior(batch), noise)

    def draw_prior(self, n: int, noise: torch.Generator) -> Tensor:
        """Return z ~ p(z), (n, latent)."""
        return torch.randn(n, self.latent, generator=noise, device=noise.device)

    def log_prior(self, latent: Tensor) -> Tensor:
        """Return log p(z) of each row, (n,) float64."""
        values = latent.double()
        return gaussian_log_density(values, 0.0, torch.zeros_like(values)).sum(1)


class Dense(Layer):
    """Dense layers in sequence, each followed by the activation; with no layers, the identity."""

    def __init__(self, widths: Sequence[int], activation: ActivationName, generator: torch.Generator) -> None:
        """`widths` are the width of the input, then those of the layers."""
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(linear(n_in, n_out, generator) for n_in, n_out in pairwise(widths))

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, widths[-1])."""
        for layer in self.layers:
            values = self.activation(layer(values))
        return values


class DeepNetwork(Autoencoding):
    """I → hidden… → latent → …hidden → I, with the activation after every layer except the last, which is affine.

    The stored entries of input rows are scaled, by default divided by the row's Euclidean length, then dropped out.
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        latent: int,
        generator: torch.Generator,
        *,
        activation: ActivationName = "tanh",
        dropout: float = 0.0,
        scale: Scale = l2_normalized,
    ) -> None:
        """`hidden` are the widths between the input and the latent layer; the decoder has them in reverse."""
        super().__init__()
        self.dropout, self.scale = dropout, scale
        self.activation = ACTIVATIONS[activation]
        widths = [*hidden, latent]
        self.input = SparseLinear(n_in, widths[0], generator)
        self.encoder = Dense(widths, activation, generator)
        self.decoder = Dense(widths[::-1], activation, generator)
        self.output = Output(widths[0], n_in, generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        return self.layers(self.project(batch, noise))[-1]

    def project(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the first layer before its activation, (len(batch), width)."""
        return self.input(batch, dropout(self.scale(batch), self.dropout, noise))

    def layers(self, projected: Tensor) -> list[Tensor]:
        """Return the activations of all encoder layers, the code last, given the first layer before its activation."""
        activations = [self.activation(projected)]
        for layer in self.encoder.layers:
            activations.append(self.activation(layer(activations[-1])))
        return activations

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)


class UserNodeNetwork(DeepNetwork):
    """A deep network that adds a vector of the user to its first layer (Wu et al. 2016, §3.1)."""

    def __init__(
        self,
        n_users: int,
        n_in: int,
        hidden: Sequence[int],
        latent: int,
        generator: torch.Generator,
        *,
        activation: ActivationName,
        dropout: float,
    ) -> None:
        super().__init__(n_in, hidden, latent, generator, activation=activation, dropout=dropout)
        self.users = nn.Parameter(torch.zeros(n_users, [*hidden, latent][0]))  # V

    def encode(self, batch: Batch, noise: torch.Generator | None = None, users: Tensor | None = None) -> Tensor:
        """Return (len(batch), latent) activations.

        `users` (len(batch),) int64 is each row's training user; -1, or None for all, is an unknown user, who gets the
        mean vector.
        """
        node = self.users.mean(0)
        if users is not None:
            node = torch.where((users >= 0)[:, None], self.users[users.clamp_min(0)], node)
        return self.layers(self.project(batch, noise) + node)[-1]


class AcquisitionNetwork(Autoencoding):
    """I → acquisition… → latent, an affine code of unscaled rows, and latent → …hidden → I with tanh between.

    Grover and Ermon 2019, §2: without acquisition layers, the code is a linear measurement of the row.
    """

    def __init__(
        self, n_in: int, acquisition: Sequence[int], latent: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        """`acquisition` are the widths between input and code; `hidden` are those of the decoder, in reverse order."""
        super().__init__()
        widths = [*acquisition, latent]
        self.input = SparseLinear(n_in, widths[0], generator)
        self.acquisition = nn.ModuleList(linear(n, m, generator) for n, m in pairwise(widths))
        decoder = [latent, *hidden[::-1]]
        self.decoder = Dense(decoder, "tanh", generator)
        self.output = Output(decoder[-1], n_in, generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the measurements before noise, (len(batch), latent)."""
        measured: Tensor = self.input(batch)
        for layer in self.acquisition:
            measured = layer(torch.tanh(measured))
        return measured

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)


class AutoRecNetwork(Autoencoding):
    """h(r) = f(W · g(V r + μ) + b), where f is the identity and g the sigmoid (Sedhain et al. 2015, §2)."""

    def __init__(self, n_in: int, hidden: int, generator: torch.Generator, *, scale: Scale = as_stored) -> None:
        super().__init__()
        self.scale = scale
        self.input = SparseLinear(n_in, hidden, generator)  # V, μ
        self.output = Output(hidden, n_in, generator)  # W, b

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return g(V r + μ), (len(batch), hidden)."""
        return sigmoid(self.input(batch, self.scale(batch)))


DecoderName = Literal["deep", "affine"]
"""What stands between a code and the output layer: the encoder's hidden layers in reverse, or nothing."""


class MultVAENetwork(Generating):
    """I → hidden → 2·latent, latent → hidden → I with tanh between (Liang et al. 2018, §4.3).

    The stored entries of an input row are divided by its Euclidean length, then dropped out. An affine decoder is
    latent → I, as in RecVAE (Shenbin et al. 2020, §3.2).
    """

    def __init__(
        self,
        n_items: int,
        hidden: int,
        latent: int,
        dropout: float,
        generator: torch.Generator,
        *,
        decoder: DecoderName = "deep",
    ) -> None:
        super().__init__()
        self.latent, self.dropout = latent, dropout
        self.input = SparseLinear(n_items, hidden, generator)
        self.posterior_layer = linear(hidden, 2 * latent, generator)
        self.deep = decoder == "deep"
        self.decoder = linear(latent, hidden, generator) if self.deep else nn.Identity()
        self.output = Output(hidden if self.deep else latent, n_items, generator)
        for parameter in self.parameters():
            if parameter.ndim == 1:
                nn.init.trunc_normal_(parameter, std=0.001, a=-0.002, b=0.002, generator=generator)

    def posterior(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        values = dropout(l2_normalized(batch), self.dropout, noise)
        mean, log_variance = self.posterior_layer(torch.tanh(self.input(batch, values))).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the posterior mean, (len(batch), latent); `noise` draws the input dropout only."""
        return self.posterior(batch, noise)[0]

    def decode(self, latent: Tensor) -> Tensor:
        return torch.tanh(self.decoder(latent)) if self.deep else latent


class MultDAENetwork(Autoencoding):
    """I → latent → I with tanh (Liang et al. 2018, §2.3); input normalized and dropped out as in Mult-VAE."""

    def __init__(self, n_items: int, latent: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = dropout
        self.input = SparseLinear(n_items, latent, generator)
        self.output = Output(latent, n_items, generator)
        for bias in (self.input.bias, self.output.bias):
            nn.init.trunc_normal_(bias, std=0.001, a=-0.002, b=0.002, generator=generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        return torch.tanh(self.input(batch, dropout(l2_normalized(batch), self.dropout, noise)))


class Tied(NamedTuple):
    """An output layer that shares the weights of the input layer."""

    weight: Tensor
    bias: Tensor


class UnitRowsNetwork(Autoencoding):
    """x ↦ x A Aᵀ, one row of A per column of x (Vančura et al. 2022). Rows of length 1 make the diagonal of A Aᵀ 1."""

    def __init__(self, n_in: int, latent: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, latent, generator))

    @property
    def output(self) -> Tied:
        """A with rows of length 1, and a bias of zeros."""
        return Tied(F.normalize(self.weight, eps=1e-12), self.weight.new_zeros(len(self.weight)))

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return x A, (len(batch), latent)."""
        return weighted_rows(self.output.weight, batch, batch.values)
