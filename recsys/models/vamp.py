"""The hierarchical VampPrior autoencoder with gates (Kim and Suh 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recsys.models.autoencoder import Autoencoder
from recsys.models.params import Count, NotNegative, Positive
from recsys.models.registry import register
from recsys.models.variational import Annealed, Multinomial
from recsys.nn.gaussian import gaussian_log_density, kl_between, reparameterized
from recsys.nn.losses import MultinomialNLL
from recsys.nn.variational import HVampNetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective


@register
class HVamp(Multinomial, Annealed, Autoencoder):
    """H+Vamp (gated): two levels of latents, a learned prior over the upper one, gated layers throughout.

    Minimizes, per user, −Σ_i x_i log π_i(z_1, z_2) + β · KL(q(z_1, z_2|x) ‖ p(z_1, z_2)) with q(z_2|x) q(z_1|x, z_2)
    against p(z_1|z_2) p(z_2), p(z_2) = 1/K Σ_k q(z_2|u_k) a VampPrior (Tomczak and Welling 2018). Every hidden
    layer is (A x + a) ⊙ σ(B x + b), the sparse first ones too. One sample of z_2 and of z_1 per step; prediction uses
    their means, side by side as a user's embedding.

    A step encodes `pseudo_inputs` dense rows besides the batch. Differs from the authors' code in: the KL of z_1 given
    z_2 is in closed form, which has the same mean and less variance; pseudo-inputs are divided by their length as all
    rows are, and not dropped out; plain Adam, its gradients not normalized; `anneal_steps` counts from the training's
    own length by default (100 of at most 400 epochs there).
    """

    hidden: Count = 600
    """Width of every hidden layer."""
    latent: Count = 200
    """Width of z_1 and of z_2."""
    pseudo_inputs: Count = 1000
    """K: components of the prior."""
    beta: NotNegative = 0.3
    learning_rate: Positive = 5e-4
    batch_size: Count = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return HVampNetwork(n_in, self.hidden, self.latent, self.pseudo_inputs, self.dropout, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll, output = MultinomialNLL(), network.output
        beta = self._annealing(self.epochs, self._steps_per_epoch(rows))

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            upper_mean, upper_log_variance = network.upper(batch, noise)
            upper = reparameterized(upper_mean, upper_log_variance, noise)  # z_2 ~ q(z_2|x)
            lower_mean, lower_log_variance = network.lower(batch, upper, noise)
            lower = reparameterized(lower_mean, lower_log_variance, noise)  # z_1 ~ q(z_1|x, z_2)
            hidden = network.decode(torch.cat([lower, upper], 1))
            nll = multinomial_nll(hidden, output.weight, output.bias, batch)
            prior = network.prior.log_density(upper, batch, network.upper)
            upper_kl = (gaussian_log_density(upper, upper_mean, upper_log_variance).sum(1) - prior).sum()
            lower_kl = kl_between(lower_mean, lower_log_variance, *network.conditional(upper)).sum()
            parts = {"nll": nll, "upper_kl": upper_kl, "lower_kl": lower_kl}
            return Loss(nll + beta(step) * (upper_kl + lower_kl), len(batch), parts)

        return objective
