"""RecVAE (Shenbin, Alekseev, Tutubalina, Malykh and Nikolenko 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from recsys.models.autoencoder import Autoencoder
from recsys.models.params import Count, NotNegative, Positive
from recsys.models.registry import register
from recsys.models.variational import Multinomial
from recsys.nn.gaussian import gaussian_log_density, reparameterized
from recsys.nn.layers import Output
from recsys.nn.losses import MultinomialNLL
from recsys.nn.variational import CompositePrior, DenseResidual, GaussianEncoder, VariationalNetwork
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Turn

ENCODER_EPOCHS = 3
"""Epochs of the encoder before each epoch of the decoder, in the paper and the authors' code."""


@register
class RecVAE(Multinomial, Autoencoder):
    """Recommender VAE: a deep encoder, a linear decoder, a prior that holds the last posterior, trained in turns.

    Minimizes, per user, −Σ_i x_i log π_i(z) + γ Σ_i x_i · (log q(z|x) − log p(z|x)) at one sample z of q(z|x): the KL
    is weighted by the length of the history, and the prior mixes N(0, I), the posterior of the encoder as it was
    before, and a wide Gaussian (`CompositePrior`). The encoder has `layers` dense-residual layers with swish and layer
    normalization, over rows divided by their length; the decoder is affine in z, so that items have vectors of the
    width of z. Prediction uses the posterior mean.

    Encoder and decoder take turns: three epochs move the encoder, with input dropout; then its copy becomes the
    prior's old posterior, and one epoch moves the decoder, without dropout. `epochs` counts all of them. Adam
    keeps its moments per parameter, so that the turns equal the two optimizers of the authors' code.

    Differs from the paper, as the authors' published code does, in: the prior mixes each latent on its own. Differs
    from that code in: the first old posterior is the encoder's start, not another random one.
    """

    hidden: Count = 600
    """Width of the encoder's layers."""
    layers: Count = 5
    """Number of the encoder's layers."""
    latent: Count = 200
    """Width of z, and of the item vectors."""
    gamma: NotNegative = 0.005
    """γ: weight of the KL term per interaction of the user; 0.005 on ML-20M, 0.0035 on Netflix, 0.01 on MSD."""
    learning_rate: Positive = 5e-4
    epochs: Count = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        body = DenseResidual(self.hidden, self.layers, generator)
        encoder = GaussianEncoder(n_in, body, self.latent, self.dropout, generator)
        output = Output(self.latent, n_in, generator)
        return VariationalNetwork(encoder, nn.Identity(), output, CompositePrior(encoder))

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        multinomial_nll, output = MultinomialNLL(), network.output

        def loss(batch: Batch, noise: torch.Generator, denoising: bool) -> Loss:
            mean, log_variance = network.posterior(batch, noise if denoising else None)
            latent = reparameterized(mean, log_variance, noise)
            nll = multinomial_nll(network.decode(latent), output.weight, output.bias, batch)
            length = latent.new_zeros(len(batch)).index_add_(0, batch.segments, batch.values)
            posterior = gaussian_log_density(latent, mean, log_variance).sum(1)
            kl = posterior - network.prior.log_density(latent, batch, network.encoder)
            return Loss(nll + self.gamma * length.dot(kl), len(batch), {"nll": nll, "kl": kl.sum()})

        encoder = Turn(lambda batch, step, noise: loss(batch, noise, True), list(network.encoder.parameters()))
        decoder = Turn(lambda batch, step, noise: loss(batch, noise, False), list(output.parameters()))

        def turns(epoch: int) -> Sequence[Turn]:
            if epoch % (ENCODER_EPOCHS + 1) < ENCODER_EPOCHS:
                return (encoder,)
            network.prior.remember(network.encoder)  # the encoder does not move now: a resumed epoch finds the same
            return (decoder,)

        return Alternation(turns)
