"""Mult-VAE and Mult-DAE (Liang, Krishnan, Hoffman and Jebara 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import scipy.sparse as sp
import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.models.autoencoder import Autoencoder, check_entries
from recsys.nn.layers import standard_normal
from recsys.nn.losses import MultinomialNLL, gaussian_kl
from recsys.nn.networks import MultDAENetwork, MultVAENetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective


@dataclass(kw_only=True, eq=False)
class Multinomial(Autoencoder):
    """What both share: histories are counts of a multinomial, so no entry may be negative."""

    dropout: float = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        return check_entries(self, matrix, "multinomial")


@dataclass(kw_only=True, eq=False)
class Annealed(Autoencoder):
    """What the variational autoencoders with an annealed KL term share: its weight β grows linearly from 0."""

    beta: float = 0.2
    """Largest weight of the KL term."""
    anneal_steps: int | None = None
    """Optimiser steps until β is reached; None: 85 % of all steps, as in the authors' run of Mult-VAE on ML-20M."""

    def _check_params(self) -> None:
        super()._check_params()
        if self.beta < 0:
            raise ConfigError(f"beta must not be negative, got {self.beta}")
        if self.anneal_steps is not None and self.anneal_steps < 0:
            raise ConfigError(f"anneal_steps must not be negative, got {self.anneal_steps}")

    def _annealing(self, rows: Rows) -> Callable[[int], float]:
        """Return β as a function of the step."""
        steps = self.anneal_steps
        if steps is None:
            steps = int(0.85 * self.epochs * -(-len(rows) // self.batch_size))
        return lambda step: self.beta * min(1.0, step / steps) if steps else self.beta


@dataclass(kw_only=True, eq=False)
class MultVAE(Multinomial, Annealed):
    """Variational autoencoder with a multinomial likelihood, for ranking.

    Minimises, per user, −Σ_i x_i log π_i(z) + β · KL(q(z|x) ‖ N(0, I)) (eq. 6), one sample of z per step:
    z = μ(x) + ε · σ(x), ε ~ N(0, I). The KL is a sum over latents and a mean over users. β grows linearly from 0 to
    `beta` over `anneal_steps` steps and stays there (§2.2.2). Prediction uses z = μ(x) and draws nothing.

    Architecture of §4.3 and the authors' code: I → `hidden` → 2·`latent`, `latent` → `hidden` → I, tanh, rows divided
    by their length, then dropout. `weight_decay` is c of c/2 · Σ w² over all weight matrices on the mean loss per user,
    0 in the paper. Differs from the paper in: `anneal_steps` counts from the training's own length by default; the
    authors' 200,000 steps are the slope to β = 1 on ML-20M, which reaches 0.2 after 40,000.
    """

    hidden: int = 600
    """Width of the hidden layers of encoder and decoder."""
    latent: int = 200
    """Width of z."""
    epochs: int = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultVAENetwork(n_in, self.hidden, self.latent, self.dropout, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll, beta = MultinomialNLL(), self._annealing(rows)

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            latent = mean + standard_normal(mean, noise) * (0.5 * log_variance).exp()
            output = network.output
            nll = multinomial_nll(network.decode(latent), output.weight, output.bias, batch)
            return Loss(nll + beta(step) * gaussian_kl(mean, log_variance).sum(), len(batch))

        return objective


@dataclass(kw_only=True, eq=False)
class MultDAE(Multinomial):
    """Denoising autoencoder with a multinomial likelihood, for ranking: I → `latent` → I with tanh.

    Minimises, per user, −Σ_i x_i log π_i (eq. 7), input dropped out, plus `weight_decay` · (‖V‖² + ‖W‖²) on
    the mean over users, as the authors' code does.
    """

    latent: int = 200
    """Width of the hidden layer."""
    weight_decay: float = 0.01 / 500
    """λ on the mean loss per user; 0.01 / 500 in the authors' code."""
    epochs: int = 200

    def _check_params(self) -> None:
        super()._check_params()
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}")

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultDAENetwork(n_in, self.latent, self.dropout, generator)

    def _decay(self, rows: Rows) -> float:
        return 2.0 * self.weight_decay  # the loop's coefficient c stands for c/2 · Σ w²

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll = MultinomialNLL()

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            output = network.output
            hidden = network.encode(batch, noise)
            return Loss(multinomial_nll(hidden, output.weight, output.bias, batch), len(batch))

        return objective
