"""Mult-VAE and Mult-DAE (Liang, Krishnan, Hoffman and Jebara 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import scipy.sparse as sp
import torch
from torch import nn

from recsys.models.autoencoder import Autoencoder, check_entries
from recsys.models.params import Count, Natural, NotNegative, Rate
from recsys.models.registry import register
from recsys.nn.gaussian import reparameterized
from recsys.nn.losses import MultinomialNLL, gaussian_kl
from recsys.nn.networks import MultDAENetwork, MultVAENetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective


@dataclass(kw_only=True, eq=False)
class Multinomial:
    """Mixin of the models whose likelihood is multinomial: histories are counts, so no entry may be negative."""

    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        return check_entries(self, matrix, "multinomial")


@dataclass(kw_only=True, eq=False)
class Annealed:
    """Mixin of the variational autoencoders whose KL term is annealed: its weight β grows linearly from 0."""

    beta: NotNegative = 0.2
    """Largest weight of the KL term, per user."""
    anneal_steps: Natural | None = None
    """Optimizer steps until β is reached; None: 85 % of all steps, as in the authors' run of Mult-VAE on ML-20M."""

    def _annealing(self, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
        """Return β as a function of the step, for a training of that length."""
        steps = int(0.85 * epochs * steps_per_epoch) if self.anneal_steps is None else self.anneal_steps
        return lambda step: self.beta * min(1.0, step / steps) if steps else self.beta


@register
class MultVAE(Multinomial, Annealed, Autoencoder):
    """Variational autoencoder with a multinomial likelihood, for ranking.

    Minimizes, per user, −Σ_i x_i log π_i(z) + β · KL(q(z|x) ‖ N(0, I)) (eq. 6), one sample of z per step:
    z = μ(x) + ε · σ(x), ε ~ N(0, I). The KL is a sum over latents and a mean over users. β grows linearly from 0 to
    `beta` over `anneal_steps` steps and stays there (§2.2.2). Prediction uses z = μ(x) and draws nothing.

    Architecture of §4.3 and the authors' code: I → `hidden` → 2·`latent`, `latent` → `hidden` → I, tanh, rows divided
    by their length, then dropout. Differs from the paper in: `anneal_steps` counts from the training's own length by
    default; the authors' 200,000 steps are the slope to β = 1 on ML-20M, which reaches 0.2 after 40,000.
    """

    hidden: Count = 600
    """Width of the hidden layers of encoder and decoder."""
    latent: Count = 200
    """Width of z."""
    epochs: Count = 200
    weight_decay: NotNegative = 0.0
    """c of c/2 · Σ w² over all weight matrices, on the mean loss per user; 0 in the paper."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultVAENetwork(n_in, self.hidden, self.latent, self.dropout, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll, output = MultinomialNLL(), network.output
        beta = self._annealing(self.epochs, self._steps_per_epoch(rows))

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            hidden = network.decode(reparameterized(mean, log_variance, noise))
            nll = multinomial_nll(hidden, output.weight, output.bias, batch)
            return Loss(nll + beta(step) * gaussian_kl(mean, log_variance).sum(), len(batch))

        return objective


@register
class MultDAE(Multinomial, Autoencoder):
    """Denoising autoencoder with a multinomial likelihood, for ranking: I → `latent` → I with tanh.

    Minimizes, per user, −Σ_i x_i log π_i (eq. 7), input dropped out, plus `weight_decay` · (‖V‖² + ‖W‖²) on
    the mean over users, as the authors' code does.
    """

    latent: Count = 200
    """Width of the hidden layer."""
    weight_decay: NotNegative = 0.01 / 500
    """λ of λ · Σ w² (not halved, unlike in MultVAE) on the mean loss per user; 0.01 / 500 in the authors' code."""
    epochs: Count = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultDAENetwork(n_in, self.latent, self.dropout, generator)

    def _decay(self, rows: Rows) -> float:
        return 2.0 * self.weight_decay  # the loop's coefficient c stands for c/2 · Σ w²

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll, output = MultinomialNLL(), network.output

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            hidden = network.encode(batch, noise)
            return Loss(multinomial_nll(hidden, output.weight, output.bias, batch), len(batch))

        return objective
