"""Variational autoencoders with a choice of likelihood and prior (Kingma and Welling 2014)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import nn

from recsys.models.autoencoder import Autoencoder, WholeRow
from recsys.models.params import Count, Rate, Widths
from recsys.models.registry import register
from recsys.models.variational import Annealed
from recsys.nn.gaussian import gaussian_log_density, reparameterized
from recsys.nn.layers import Output
from recsys.nn.losses import gaussian_kl
from recsys.nn.networks import Dense
from recsys.nn.variational import CompositePrior, GaussianEncoder, TanhLayers, VampPrior, VariationalNetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective

PriorName = Literal["standard", "vamp", "composite"]


@register
class VAE(WholeRow, Annealed, Autoencoder):
    """Variational autoencoder: any likelihood of whole rows, several samples, several priors.

    Minimizes, per user, −1/L Σ_l log p(x|z_l) + β · KL(q(z|x) ‖ p(z)), z_l = μ(x) + ε_l · σ(x), ε_l ~ N(0, I)
    (Kingma and Welling 2014, eq. 7 with β = 1), and predicts from z = μ(x). With the multinomial likelihood, one sample
    and the standard prior this is Mult-VAE. Priors:

    - `standard`: N(0, I), the KL in closed form (their appendix B);
    - `vamp`: a mixture of posteriors of learned pseudo-inputs (Tomczak and Welling 2018); each step costs as much more
      as `pseudo_inputs` further users would, encoded densely;
    - `composite`: RecVAE's, one part of which is the posterior as it was an epoch ago.

    The KL to a prior other than N(0, I) is estimated as the mean over samples of log q(z_l|x) − log p(z_l) (their eq.
    6). I → `hidden` → 2·`latent`, `latent` → `hidden` reversed → I, tanh, rows divided by their length, then dropout.
    Differs from the papers in: pseudo-inputs are divided by their length as the encoder does with every row.
    """

    hidden: Annotated[Widths, MinLen(1)] = (600,)
    """Widths between input and latent layer; the decoder has them in reverse."""
    latent: Count = 200
    """Width of z."""
    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""
    samples: Count = 1
    """L: samples of z per user and step; each costs a pass through the output layer."""
    prior: PriorName = "standard"
    """`standard`, `vamp` or `composite`."""
    pseudo_inputs: Count = 500
    """Components of the `vamp` prior."""

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
        nll_of, output, prior = self._likelihood(), network.output, network.prior
        steps_per_epoch = self._steps_per_epoch(rows)
        beta = self._annealing(self.epochs, steps_per_epoch)

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            if self.prior == "composite" and step % steps_per_epoch == 0:
                prior.remember(network.encoder)
            mean, log_variance = network.posterior(batch, noise)
            nll, kl = mean.new_zeros(()), mean.new_zeros(())
            for _ in range(self.samples):
                latent = reparameterized(mean, log_variance, noise)
                nll = nll + nll_of(network.decode(latent), output.weight, output.bias, batch)
                if prior is None:
                    kl = kl + gaussian_kl(mean, log_variance).sum()
                else:
                    posterior = gaussian_log_density(latent, mean, log_variance).sum(1)
                    kl = kl + (posterior - prior.log_density(latent, batch, network.encoder)).sum()
            nll, kl = nll / self.samples, kl / self.samples
            return Loss(nll + beta(step) * kl, len(batch), {"nll": nll, "kl": kl})

        return objective
