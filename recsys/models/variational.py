"""Variational autoencoders: Mult-VAE and Mult-DAE, a VAE with a choice of likelihood and prior, RecVAE, H+Vamp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import nn

from recsys.models import spaces
from recsys.models.autoencoder import GENERATES, Autoencoder
from recsys.models.registry import register
from recsys.models.whole_rows import Multinomial, SampledSoftmax, WholeRow
from recsys.nn.gaussian import gaussian_log_density, kl_between, reparameterized
from recsys.nn.layers import Output
from recsys.nn.losses import MultinomialNLL, gaussian_kl
from recsys.nn.networks import DecoderName, Dense, MultDAENetwork, MultVAENetwork
from recsys.nn.variational import (
    CompositePrior,
    DenseResidual,
    GaussianEncoder,
    HVampNetwork,
    TanhLayers,
    VampPrior,
    VariationalNetwork,
)
from recsys.params import Count, Natural, NotNegative, Positive, Rate, Widths
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Objective, Turn

ENCODER_EPOCHS = 3
"""Epochs of RecVAE's encoder before each epoch of the decoder, in the paper and the authors' code."""
_COMPOSITE = "with its composite prior has a prior of codes that reads the user's history"
_COPIES = 5
"""Copies of the pseudo-inputs, cut to 0..1 and divided by their lengths, that a step and its gradient make."""


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


@dataclass(kw_only=True, eq=False)
class Decoding:
    """Mixin of the variational autoencoders with Mult-VAE's layers, whose decoder may do without hidden ones."""

    decoder: DecoderName = "deep"
    """`deep`: the encoder's hidden layers in reverse, as in the papers; `affine`: none, so that scores are affine in z,
    as in RecVAE, and `hidden` tells of the encoder alone."""


@register
class MultVAE(SampledSoftmax, Annealed, Decoding, Autoencoder):
    """Variational autoencoder with a multinomial likelihood, for ranking.

    Liang, Krishnan, Hoffman and Jebara 2018. Minimizes, per user, −Σ_i x_i log π_i(z) + β · KL(q(z|x) ‖ N(0, I))
    (eq. 6), one sample z = μ(x) + ε · σ(x), ε ~ N(0, I), per step. The KL is a sum over latents and a mean over users;
    β grows linearly from 0 to `beta` over `anneal_steps` steps (§2.2.2). Prediction uses z = μ(x) and draws nothing.

    Architecture of §4.3 and the authors' code: I → `hidden` → 2·`latent`, `latent` → `hidden` → I, tanh, rows divided
    by their Euclidean length, then dropout. Differs from the paper in: `anneal_steps` is by default a share of the
    training's steps; the authors' 200,000 steps on ML-20M lead to β = 1, so that β = 0.2 is reached after 40,000; with
    `decoder="affine"`, which is not the paper's, `latent` → I.
    """

    capabilities = GENERATES
    search_space = spaces.MULT_VAE
    leans = True

    hidden: Count = 600
    """Width of the hidden layers of encoder and decoder."""
    latent: Count = 200
    """Width of z."""
    epochs: Count = 200
    weight_decay: NotNegative | None = 0.0
    """c in c/2 · Σ w² over all weight matrices, added to the mean loss per user; 0 in the paper, None: by the data."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultVAENetwork(n_in, self.hidden, self.latent, self.dropout, generator, decoder=self.decoder)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll = self._nll(network, rows)
        beta = self._annealing(self.epochs, self._steps_per_epoch(rows))

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            nll = multinomial_nll(network.decode(reparameterized(mean, log_variance, noise)), batch, noise)
            return Loss(nll + beta(step) * gaussian_kl(mean, log_variance).sum(), len(batch))

        return objective


@register
class MultDAE(SampledSoftmax, Autoencoder):
    """Denoising autoencoder with a multinomial likelihood, for ranking: I → `latent` → I with tanh.

    Liang et al. 2018. Minimizes, per user, −Σ_i x_i log π_i (eq. 7), with dropout on the input. As in the authors'
    code, `weight_decay` · (‖V‖² + ‖W‖²) is added to the mean over users.
    """

    search_space = spaces.MULT_DAE
    leans = True

    latent: Count = 200
    """Width of the hidden layer."""
    weight_decay: NotNegative | None = 0.01 / 500
    """λ in λ · Σ w² (not halved, unlike in MultVAE) added to the mean loss per user; authors' code: 0.01 / 500."""
    epochs: Count = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return MultDAENetwork(n_in, self.latent, self.dropout, generator)

    def _decay(self, rows: Rows) -> float:
        return super()._decay(rows) * (1.0 if self.weight_decay is None else 2.0)  # the loop adds c/2 · Σ w²

    def _objective(self, network: Any, rows: Rows) -> Objective:
        multinomial_nll = self._nll(network, rows)

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            return Loss(multinomial_nll(network.encode(batch, noise), batch, noise), len(batch))

        return objective


@register
class VAE(WholeRow, Annealed, Decoding, Autoencoder):
    """Variational autoencoder with a choice of likelihood, number of samples and prior.

    Minimizes, per user, −1/L Σ_l log p(x|z_l) + β · KL(q(z|x) ‖ p(z)), z_l = μ(x) + ε_l · σ(x), ε_l ~ N(0, I)
    (Kingma and Welling 2014, eq. 7 with β = 1), and predicts from z = μ(x). With the multinomial likelihood, one sample
    and the standard prior this is Mult-VAE. Priors:

    - `standard`: N(0, I), the KL in closed form (Kingma and Welling, appendix B);
    - `vamp`: a mixture of posteriors of learned pseudo-inputs (Tomczak and Welling 2018), which `weight_decay` leaves
      alone; each step encodes them too, as `pseudo_inputs` further users with dense rows;
    - `composite`: RecVAE's mixture, which includes the posterior of the encoder as it was when the epoch began.

    The KL to a prior other than N(0, I) is estimated as the mean over samples of log q(z_l|x) − log p(z_l) (Kingma
    and Welling, eq. 6). Architecture: I → `hidden` → 2·`latent`, `latent` → `hidden` reversed → I, tanh, rows divided
    by their Euclidean length, then dropout. Differs from the papers in: pseudo-inputs are divided by their length too;
    the choice of an affine decoder.
    """

    capabilities = GENERATES
    search_space = spaces.VAE

    hidden: Annotated[Widths, MinLen(1)] = (600,)
    """Widths between input and latent layer; the decoder has them in reverse."""
    latent: Count = 200
    """Width of z."""
    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""
    samples: Count = 1
    """L: samples of z per user and step; each costs a pass through the output layer."""
    prior: Literal["standard", "vamp", "composite"] = "standard"
    """`standard`, `vamp` or `composite`."""
    pseudo_inputs: Count = 500
    """Components of the `vamp` prior."""

    def why_no_prior(self) -> str:
        return _COMPOSITE if self.prior == "composite" else ""

    def _dense_rows(self) -> int:
        return _COPIES * self.pseudo_inputs if self.prior == "vamp" else 0

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        encoder = GaussianEncoder(n_in, TanhLayers(self.hidden, generator), self.latent, self.dropout, generator)
        widths = [self.latent, *(reversed(self.hidden) if self.decoder == "deep" else ())]
        decoder, output = Dense(widths, "tanh", generator), Output(widths[-1], n_in, generator)
        if self.prior == "vamp":
            return VariationalNetwork(encoder, decoder, output, VampPrior(self.pseudo_inputs, n_in, generator))
        return VariationalNetwork(
            encoder, decoder, output, CompositePrior(encoder) if self.prior == "composite" else None
        )

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


@register
class RecVAE(SampledSoftmax, Autoencoder):
    """Recommender VAE: a deep encoder and a linear decoder, trained in turns, and a prior with an old posterior.

    Shenbin, Alekseev, Tutubalina, Malykh and Nikolenko 2020. Minimizes, per user, −Σ_i x_i log π_i(z)
    + γ Σ_i x_i · (log q(z|x) − log p(z|x)) at one sample z of q(z|x): the KL is weighted by the history's sum,
    and the prior mixes N(0, I), the posterior of an older copy of the encoder, and a wide Gaussian (`CompositePrior`).
    The encoder has `layers` dense-residual layers with swish and layer normalization, over rows divided by their
    Euclidean length; the decoder is affine in z. Prediction uses the posterior mean.

    Encoder and decoder take turns: three epochs update the encoder, with input dropout; then it is copied into the
    prior as the old encoder, and one epoch updates the decoder, without dropout. `epochs` counts all of them. Adam
    keeps its moments per parameter, so one optimizer does the same as the two of the authors' code.

    Differs from the paper, as the authors' published code does, in: each latent dimension has its own mixture in the
    prior. Differs from that code in: the old encoder starts as a copy of the encoder, not with other random weights.
    """

    capabilities = replace(GENERATES, has_prior=False)
    search_space = spaces.REC_VAE

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

    def why_no_prior(self) -> str:
        return _COMPOSITE

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        body = DenseResidual(self.hidden, self.layers, generator)
        encoder = GaussianEncoder(n_in, body, self.latent, self.dropout, generator)
        output = Output(self.latent, n_in, generator)
        return VariationalNetwork(encoder, nn.Identity(), output, CompositePrior(encoder))

    def _tables(self, network: Any) -> list[nn.Parameter]:
        return [network.encoder.input.weight, network.output.weight, network.output.bias]

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        multinomial_nll = self._nll(network, rows)

        def loss(batch: Batch, noise: torch.Generator, denoising: bool) -> Loss:
            mean, log_variance = network.posterior(batch, noise if denoising else None)
            latent = reparameterized(mean, log_variance, noise)
            nll = multinomial_nll(network.decode(latent), batch, noise)
            length = latent.new_zeros(len(batch)).index_add_(0, batch.segments, batch.values)
            posterior = gaussian_log_density(latent, mean, log_variance).sum(1)
            kl = posterior - network.prior.log_density(latent, batch, network.encoder)
            return Loss(nll + self.gamma * length.dot(kl), len(batch), {"nll": nll, "kl": kl.sum()})

        encoder = Turn(lambda batch, step, noise: loss(batch, noise, True), list(network.encoder.parameters()))
        decoder = Turn(lambda batch, step, noise: loss(batch, noise, False), list(network.output.parameters()))

        def turns(epoch: int) -> Sequence[Turn]:
            if epoch % (ENCODER_EPOCHS + 1) < ENCODER_EPOCHS:
                return (encoder,)
            network.prior.remember(network.encoder)  # fixed in this epoch, so a resumed epoch copies the same
            return (decoder,)

        return Alternation(turns)


@register
class HVamp(Multinomial, Annealed, Autoencoder):
    """H+Vamp (gated): two levels of latents, a learned prior of the upper one, and gated hidden layers.

    Kim and Suh 2019. Minimizes, per user, −Σ_i x_i log π_i(z_1, z_2) + β · KL(q(z_1, z_2|x) ‖ p(z_1, z_2)), where
    q is q(z_2|x) q(z_1|x, z_2) and p is p(z_1|z_2) p(z_2), p(z_2) = 1/K Σ_k q(z_2|u_k) a VampPrior (Tomczak and Welling
    2018). Every hidden layer is (A x + a) ⊙ σ(B x + b), sparse input layers included. One sample of z_2 and of z_1
    per step; prediction uses their means, which joined are a user's embedding.

    Each step encodes `pseudo_inputs` dense rows in addition to the batch. Differs from the authors' code in: the KL of
    z_1 given z_2 is in closed form, which has the same mean and less variance; pseudo-inputs are divided by their
    Euclidean length like all rows, without dropout; Adam's gradients are not normalized; the layers next to the items
    and the Gaussians start as Glorot and Bengio (2010), where all of theirs start as He et al. (2015); `anneal_steps`
    is by default a share of the training's steps (theirs: 100 of at most 400 epochs). `weight_decay`, which they do
    without, leaves the pseudo-inputs alone.
    """

    capabilities = GENERATES
    search_space = spaces.HVAMP

    hidden: Count = 600
    """Width of every hidden layer."""
    latent: Count = 200
    """Width of z_1 and of z_2."""
    pseudo_inputs: Count = 1000
    """K: components of the prior."""
    beta: NotNegative = 0.3
    learning_rate: Positive = 5e-4
    batch_size: Count = 200

    def _dense_rows(self) -> int:
        return _COPIES * self.pseudo_inputs

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
