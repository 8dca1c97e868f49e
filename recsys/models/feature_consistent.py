"""The deep feature consistent variational autoencoder (Hou, Shen, Sun and Qiu 2017), over rows of interactions."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import nn

from recsys.errors import ConfigError
from recsys.models import spaces
from recsys.models.autoencoder import GENERATES, Autoencoder
from recsys.models.registry import register
from recsys.models.variational import Decoding
from recsys.models.whole_rows import WholeRow
from recsys.nn.gaussian import reparameterized
from recsys.nn.losses import gaussian_kl, project_means
from recsys.nn.networks import DeepNetwork, MultVAENetwork
from recsys.params import Count, NotNegative, Positive, Rate, Widths
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Turn
from recsys.training.config import Schedule


@register
class FeatureConsistentAE(WholeRow, Decoding, Autoencoder):
    """Variational autoencoder whose reconstruction is compared with the row in a frozen network's hidden layers.

    Minimizes, per user, Σ_l ‖Φ_l(x) − Φ_l(x̄)‖² / (2 · width_l) + `beta` · KL(q(z|x) ‖ N(0, I)) (Hou et al. 2017,
    §3.2 and §3.3, their α : β as `beta`), plus `likelihood_weight` times the negative log-likelihood of x. x̄ are the
    means of the likelihood (softmax, sigmoid or values), one sample of z per step; Φ_l are the activations of layer l
    of an encoder whose widths are `perceptual`. The first `pretraining_share` of the epochs train that encoder as a
    plain autoencoder; then it stays as it is. Prediction uses the mean of z and draws nothing.

    Differs from the paper in: Φ is an autoencoder of the same rows, as no pretrained network reads interactions, and it
    divides x and x̄ by their length; fully connected layers in place of convolutions; input dropout as in Mult-VAE;
    `likelihood_weight`, 0 in the paper, because features alone tell little of the order of items that few users have.
    x̄ is dense, rows × items, for the time of a step: see `recsys.nn.losses.project_means`.
    """

    capabilities = GENERATES
    search_space = spaces.FEATURE_CONSISTENT

    hidden: Count = 600
    """Width of the hidden layers of encoder and decoder."""
    latent: Count = 200
    """Width of z."""
    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""
    perceptual: Annotated[Widths, MinLen(1)] = (600, 200)
    """Widths of the frozen encoder's layers; the activations of each are compared."""
    pretraining_share: Rate = 0.2
    """Share of the epochs that train the encoder to be frozen; 0 leaves it at random weights."""
    beta: NotNegative = 2e-4
    """Weight of the KL term."""
    likelihood_weight: NotNegative = 1e-3
    """Weight of the negative log-likelihood."""
    epochs: Count = 50
    batch_size: Count = 250
    learning_rate: Positive = 2e-3
    schedule: Schedule = "cosine"

    def _check_params(self) -> None:
        super()._check_params()
        if self.patience is not None and self.patience <= self._pretraining_epochs():
            above = f"the {self._pretraining_epochs()} epochs of pretraining, in which nothing that ranks is trained"
            raise ConfigError(f"patience must be above {above}, got {self.patience}")

    def _pretraining_epochs(self) -> int:
        return int(self.pretraining_share * self.epochs)

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        network = MultVAENetwork(n_in, self.hidden, self.latent, self.dropout, generator, decoder=self.decoder)
        network.add_module("perceptual", DeepNetwork(n_in, self.perceptual[:-1], self.perceptual[-1], generator))
        return network

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        likelihood, frozen = self._likelihood(), network.perceptual
        own = [p for name, p in network.named_parameters() if not name.startswith("perceptual.")]

        def pretrain(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            hidden, output = frozen.decode(frozen.encode(batch)), frozen.output
            return Loss(likelihood(hidden, output.weight, output.bias, batch), len(batch))

        def match(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            hidden, output = network.decode(reparameterized(mean, log_variance, noise)), network.output
            rebuilt = project_means(hidden, output.weight, output.bias, frozen.input.weight, self.likelihood)
            found, wanted = frozen.layers(rebuilt + frozen.input.bias), frozen.layers(frozen.project(batch))
            features = sum(0.5 * (a - b).square().mean(1).sum() for a, b in zip(found, wanted, strict=True))
            divergence = gaussian_kl(mean, log_variance).sum()
            total = features + self.beta * divergence
            parts = {"features": features, "kl": divergence}
            if self.likelihood_weight:
                parts["nll"] = likelihood(hidden, output.weight, output.bias, batch)
                total = total + self.likelihood_weight * parts["nll"]
            return Loss(total, len(batch), parts)

        first, then = Turn(pretrain, list(frozen.parameters())), Turn(match, own)
        return Alternation(lambda epoch: (first if epoch < self._pretraining_epochs() else then,))
