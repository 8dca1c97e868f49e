"""Variational autoencoders with a choice of likelihood and prior (Kingma and Welling 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.models.autoencoder import WholeRow
from recsys.models.variational import Annealed
from recsys.nn.gaussian import CompositePrior, VampPrior, log_normal, reparameterised
from recsys.nn.layers import Output
from recsys.nn.losses import gaussian_kl
from recsys.nn.networks import Dense
from recsys.nn.variational import GaussianEncoder, TanhLayers, VariationalNetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective

PriorName = Literal["standard", "vamp", "composite"]


@dataclass(kw_only=True, eq=False)
class VAE(WholeRow, Annealed):
    """Variational autoencoder: any likelihood of whole rows, several samples, several priors.

    Minimises, per user, −1/L Σ_l log p(x|z_l) + β · KL(q(z|x) ‖ p(z)), z_l = μ(x) + ε_l · σ(x), ε_l ~ N(0, I)
    (Kingma and Welling 2014, eq. 7 with β = 1), and predicts from z = μ(x). With the multinomial likelihood, one sample
    and the standard prior this is Mult-VAE. Priors:

    - `standard`: N(0, I), the KL in closed form (their appendix B);
    - `vamp`: a mixture of posteriors of learned pseudo-inputs (Tomczak and Welling 2018), which costs about as much
      again as `pseudo_inputs` further users per step, encoded densely;
    - `composite`: RecVAE's, the posterior of the epoch before among its parts.

    The KL to a prior other than N(0, I) is estimated as the mean over samples of log q(z_l|x) − log p(z_l) (their eq.
    6). I → `hidden` → 2·`latent`, `latent` → `hidden` reversed → I, tanh, rows divided by their length, then dropout.
    Differs from the papers in: pseudo-inputs are divided by their length as the encoder does with every row.
    """

    hidden: tuple[int, ...] = (600,)
    """Widths between input and latent layer; the decoder has them in reverse."""
    latent: int = 200
    """Width of z."""
    dropout: float = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""
    samples: int = 1
    """L: samples of z per user and step; each costs a pass through the output layer."""
    prior: PriorName = "standard"
    """`standard`, `vamp` or `composite`."""
    pseudo_inputs: int = 500
    """Components of the `vamp` prior."""

    def _check_params(self) -> None:
        super()._check_params()
        if not self.hidden:
            raise ConfigError("hidden must name at least one width, got ()")
        for name in ("samples", "pseudo_inputs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prior not in get_args(PriorName):
            raise ConfigError(f"prior must be {', '.join(map(repr, get_args(PriorName)))}, got {self.prior!r}")

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        encoder = GaussianEncoder(n_in, TanhLayers(self.hidden, generator), self.latent, self.dropout, generator)
        decoder = Dense([self.latent, *reversed(self.hidden)], "tanh", generator)
        output = Output(self.hidden[0], n_in, generator)
        prior: VampPrior | CompositePrior | None = None
        if self.prior == "vamp":
            prior = VampPrior(self.pseudo_inputs, n_in, generator)
        elif self.prior == "composite":
            prior = CompositePrior(encoder)
        return VariationalNetwork(encoder, decoder, output, prior)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        nll_of, beta = self._likelihood(), self._annealing(rows)
        output, prior = network.output, network.prior
        steps_per_epoch = -(-len(rows) // self.batch_size)

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            if self.prior == "composite" and step % steps_per_epoch == 0:
                prior.remember(network.encoder)
            mean, log_variance = network.posterior(batch, noise)
            nll, kl = mean.new_zeros(()), mean.new_zeros(())
            for _ in range(self.samples):
                latent = reparameterised(mean, log_variance, noise)
                nll = nll + nll_of(network.decode(latent), output.weight, output.bias, batch)
                if prior is None:
                    kl = kl + gaussian_kl(mean, log_variance).sum()
                else:
                    posterior = log_normal(latent, mean, log_variance).sum(1)
                    kl = kl + (posterior - prior.log_density(latent, batch, network.encoder)).sum()
            nll, kl = nll / self.samples, kl / self.samples
            return Loss(nll + beta(step) * kl, len(batch), {"nll": nll, "kl": kl})

        return objective
