"""Autoencoders with an adversary: AAE (Makhzani et al. 2016), VAE/GAN (Larsen et al. 2016), ALI (Dumoulin et al. 2017).

Two players take turns on every batch. A discriminator's layers have spectral norm 1 (Miyato et al. 2018), so that it
cannot win outright. Reported for each epoch beside the loss:

- `discriminator_loss`: its mean logistic loss; log 2 = 0.693 at chance, 0.637 in VAE/GAN, with two made to a real one.
- `discriminator_accuracy`: share that it classifies correctly, real and made ones weighted equally; 0.5 at chance.
- `code_variance`: variance of the codes μ(x) over the users of a batch, mean over the latents; 0 if all are the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from recsys import ranks
from recsys.models import spaces
from recsys.models.autoencoder import GENERATES, Autoencoder
from recsys.models.fitting import FitOptions
from recsys.models.registry import register
from recsys.models.variational import Decoding
from recsys.models.whole_rows import Multinomial, WholeRow
from recsys.nn.adversarial import Discriminator, RowDiscriminator
from recsys.nn.gaussian import reparameterized
from recsys.nn.layers import standard_normal
from recsys.nn.losses import MultinomialNLL, gaussian_kl
from recsys.nn.networks import MultVAENetwork
from recsys.params import Count, NotNegative, Rate, Widths
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Record, Turn

WON = 0.05
"""Mean loss of a discriminator below which it has won: it is certain about nearly every row."""
COLLAPSED = 1e-3
"""Variance of the codes below which all users count as having the same code."""
ENOUGH_USERS = 100
"""Number of training users from which either figure means something."""


@dataclass(kw_only=True, eq=False)
class Adversarial(Decoding, Autoencoder):
    """Base of the three: Mult-VAE's encoder and decoder, a discriminator, and a warning if training has collapsed.

    Encoder and decoder are `MultVAE`'s; z = μ(x) + ε · σ(x), in prediction μ(x). Training ends with a warning if, in
    the epoch whose weights are kept, the discriminator's loss was below 0.05 or the variance of the codes below 0.001;
    not with fewer than 100 training users, for whom neither figure means anything.
    """

    capabilities = GENERATES

    hidden: Count = 600
    """Width of the hidden layers of encoder and decoder."""
    latent: Count = 200
    """Width of z."""
    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""
    discriminator: Annotated[Widths, MinLen(1)] = (128, 128)
    """Widths of the hidden layers of the discriminator."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        network = MultVAENetwork(n_in, self.hidden, self.latent, self.dropout, generator, decoder=self.decoder)
        network.add_module("discriminator", self._discriminator(n_in, generator))
        return network

    def _discriminator(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return RowDiscriminator(n_in, self.discriminator, generator)

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        record = super()._fit(matrix, options)
        if self.n_users_ >= ENOUGH_USERS:
            self._warn_of_collapse(record.epochs[(record.best_epoch or len(record.epochs)) - 1])
        return record

    def _warn_of_collapse(self, epoch: dict[str, float]) -> None:
        name = type(self).__name__
        if epoch["discriminator_loss"] < WON:
            warnings.warn(
                f"the discriminator of {name} has won: its loss is {epoch['discriminator_loss']:.4f} in epoch "
                f"{epoch['epoch']:.0f} (chance above 0.6, won below {WON}), so that the other player learns little "
                "from it; take a narrower `discriminator` or a lower learning_rate",
                stacklevel=4,
            )
        if epoch["code_variance"] < COLLAPSED:
            warnings.warn(
                f"the codes of {name} have collapsed: their variance over users is {epoch['code_variance']:.2e} in "
                f"epoch {epoch['epoch']:.0f} (collapsed below {COLLAPSED}), so that all users get the same list; "
                "give the reconstruction more weight against prior and discriminator, or a lower learning_rate",
                stacklevel=4,
            )


@register
class AAE(WholeRow, Adversarial):
    """Adversarial autoencoder: a variational autoencoder whose KL term is a discriminator's judgment of the codes.

    Makhzani, Shlens, Jaitly, Goodfellow and Frey 2016, §2. Per batch, in turns:

    1. reconstruction: encoder and decoder minimize −log p(x|z), z from q(z|x) (the `likelihood` of whole rows);
    2. regularization: the discriminator learns to tell samples of p(z) = N(0, I) from codes z;
    3. the encoder maximizes log D(z), times `adversarial_weight`: the aggregated posterior q(z) = E_x q(z|x) moves
       toward p(z), where the KL of a VAE would move each q(z|x).

    q(z|x) is Gaussian, the second of the three choices in §2. Differs from the paper in: the discriminator has spectral
    norm 1; `adversarial_weight`, since Adam keeps one pair of moments per parameter and the encoder's two turns share
    them; reconstruction and regularization take their steps on the same batch.
    """

    search_space = spaces.AAE

    adversarial_weight: NotNegative = 1.0
    """Weight of the encoder's log D(z) against the log-likelihood of a row; 0: an autoencoder without prior."""

    def _discriminator(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return Discriminator((self.latent, *self.discriminator), generator)

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        nll, discriminator, output = self._likelihood(), network.discriminator, network.output

        def reconstruction(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            hidden = network.decode(reparameterized(mean, log_variance, noise))
            return Loss(nll(hidden, output.weight, output.bias, batch), len(batch), _spread(mean))

        def discrimination(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            with torch.no_grad():
                made = _code(network, batch, noise)
            return judged(discriminator(standard_normal(made, noise)), discriminator(made))

        def deception(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            made = _code(network, batch, noise)
            return Loss(self.adversarial_weight * taken_for(True, discriminator(made)), len(batch))

        encoder, decoder = _players(network)
        second = Turn(discrimination, list(discriminator.parameters()))
        turns = (Turn(reconstruction, [*encoder, *decoder]), second, Turn(deception, encoder))
        return Alternation(lambda epoch: turns)


@register
class VAEGAN(Multinomial, Adversarial):
    """VAE/GAN: a variational autoencoder whose error is measured in a hidden layer of a discriminator of rows.

    Larsen, Sønderby, Larochelle and Winther 2016, algorithm 1. With x̃ the row that the decoder expects of z from
    q(z|x), x_p that of z from N(0, I), and Dis_l(x) the discriminator's last hidden layer:

        L_prior = KL(q(z|x) ‖ N(0, I));  L_like = ½ ‖Dis_l(x) − Dis_l(x̃)‖² (eq. 6 and 7)
        L_GAN = log Dis(x) + log(1 − Dis(x̃)) + log(1 − Dis(x_p))

    and per batch, in turns: the encoder minimizes `beta` · L_prior + L_like, the decoder `gamma` · L_like − L_GAN, the
    discriminator −L_GAN. No error of the GAN reaches the encoder, and none of the likelihood the discriminator.

    A real row is sparse, a made one has a probability for every item (`RowDiscriminator` lays the two beside each
    other), so that a step costs users × items × the discriminator's first width on top.

    Differs from the paper in: `likelihood_weight` · −log p(x|z), multinomial, joins L_like for encoder and decoder, for
    without it the model ranks below popularity; spectral norm 1 in the discriminator, no batch normalization; the
    decoder maximizes log Dis(x̃) + log Dis(x_p) in place of −L_GAN, whose gradient vanishes where the discriminator is
    sure (Goodfellow et al. 2014, §3); `beta`, since a layer of bounded slope keeps L_like far below the nats of a
    likelihood: `beta` / `likelihood_weight` is what `MultVAE` calls β.
    """

    search_space = spaces.VAE_GAN

    beta: NotNegative = 2e-3
    """Weight of L_prior."""
    gamma: NotNegative = 1.0
    """Weight of L_like against the GAN's loss in the decoder."""
    likelihood_weight: NotNegative = 0.01
    """Weight of the multinomial log-likelihood of a row beside L_like; 0 in the paper."""

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        nll, discriminator, output = MultinomialNLL(), network.discriminator, network.output

        def like(batch: Batch, hidden: Tensor, made: Tensor) -> Tensor:
            """L_like, eq. 6 and 7, and what `likelihood_weight` adds."""
            apart = discriminator.features(discriminator.real(batch)) - discriminator.features(made)
            error: Tensor = 0.5 * apart.square().sum()
            if self.likelihood_weight:
                error = error + self.likelihood_weight * nll(hidden, output.weight, output.bias, batch)
            return error

        def rows_of(latent: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
            hidden = network.decode(latent)
            return hidden, discriminator.made(hidden, output.weight, output.bias, batch)

        def encoding(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            error = like(batch, *rows_of(reparameterized(mean, log_variance, noise), batch))
            prior = gaussian_kl(mean, log_variance).sum()
            return Loss(self.beta * prior + error, len(batch), {"kl": prior, **_spread(mean)})

        def decoding(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            with torch.no_grad():
                latent = _code(network, batch, noise)
            hidden, made = rows_of(latent, batch)
            _, invented = rows_of(standard_normal(latent, noise), batch)
            deception = taken_for(True, discriminator(made)) + taken_for(True, discriminator(invented))
            return Loss(self.gamma * like(batch, hidden, made) + deception, len(batch))

        def discrimination(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            with torch.no_grad():
                latent = _code(network, batch, noise)
            made = [discriminator(rows_of(z, batch)[1]) for z in (latent, standard_normal(latent, noise))]
            return judged(discriminator(discriminator.real(batch)), *made)

        encoder, decoder = _players(network)
        third = Turn(discrimination, list(discriminator.parameters()))
        turns = (Turn(encoding, encoder), Turn(decoding, decoder), third)
        return Alternation(lambda epoch: turns)


@register
class ALI(Multinomial, Adversarial):
    """Adversarially learned inference: one discriminator of pairs, row and code, for encoder and decoder together.

    Dumoulin, Belghazi, Poole, Mastropietro, Lamb, Arjovsky and Courville 2017, algorithm 1. The pairs of the encoder
    are (x, ẑ) with ẑ from q(z|x), those of the decoder (x̃, z) with z from N(0, I) and x̃ the row it expects of z. Per
    batch, in turns: encoder and decoder minimize −log(1 − D(x, ẑ)) − log D(x̃, z), the loss of their swapped labels;
    the discriminator minimizes −log D(x, ẑ) − log(1 − D(x̃, z)).

    Differs from the paper in: `reconstruction_weight` · −log p(x|ẑ), multinomial, joins the first turn, as in ALICE
    (Li, Liu, Chen, Pu, Chen, Henao and Carin 2017, §3.2, explicit cycle consistency): equal joint distributions alone
    leave open which code belongs to which row. The discriminator has spectral norm 1 and no dropout; lengths and blocks
    of rows as in `VAEGAN`.
    """

    search_space = spaces.ALI

    reconstruction_weight: NotNegative = 0.01
    """Weight of the log-likelihood of a row against the adversarial loss; 0: ALI as published."""

    def _discriminator(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return RowDiscriminator(n_in, self.discriminator, generator, latent=self.latent)

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        nll, discriminator, output = MultinomialNLL(), network.discriminator, network.output

        def decoders_pair(like: Batch, latent: Tensor) -> Tensor:
            made = discriminator.made(network.decode(latent), output.weight, output.bias, like, latent)
            logits: Tensor = discriminator(made)
            return logits

        def deception(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            mean, log_variance = network.posterior(batch, noise)
            latent = reparameterized(mean, log_variance, noise)
            total = taken_for(False, discriminator(discriminator.real(batch, latent)))
            total = total + taken_for(True, decoders_pair(batch, standard_normal(mean, noise)))
            if self.reconstruction_weight:
                error = nll(network.decode(latent), output.weight, output.bias, batch)
                total = total + self.reconstruction_weight * error
            return Loss(total, len(batch), _spread(mean))

        def discrimination(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            with torch.no_grad():
                latent = _code(network, batch, noise)
            real = discriminator(discriminator.real(batch, latent))
            return judged(real, decoders_pair(batch, standard_normal(latent, noise)))

        encoder, decoder = _players(network)
        turns = (Turn(deception, [*encoder, *decoder]), Turn(discrimination, list(discriminator.parameters())))
        return Alternation(lambda epoch: turns)


def taken_for(real: bool, logits: Tensor) -> Tensor:
    """Return the logistic loss Σ −log D of logits that shall count as real, or Σ −log(1 − D)."""
    return F.softplus(-logits if real else logits).sum()


def judged(real: Tensor, *made: Tensor) -> Loss:
    """Return a discriminator's loss on (n,) logits of real ones and of several kinds of made ones, and its figures."""
    total = taken_for(True, real) + torch.stack([taken_for(False, logits) for logits in made]).sum()
    right = torch.stack([(logits < 0).sum() for logits in made]).sum() / len(made)
    parts = {
        "discriminator_loss": total / (1 + len(made)),
        "discriminator_accuracy": 0.5 * ((real > 0).sum() + right),
    }
    return Loss(total, len(real), parts)


def _code(network: Any, batch: Batch, noise: torch.Generator) -> Tensor:
    mean, log_variance = network.posterior(batch, noise)
    return reparameterized(mean, log_variance, noise)


def _spread(mean: Tensor) -> dict[str, Tensor]:
    codes = mean.detach()
    if ranks.size() == 1:
        return {"code_variance": len(codes) * codes.var(0, unbiased=False).mean()}
    n, sums, squares = ranks.totals([len(codes)])[0], codes.sum(0), codes.square().sum(0)
    ranks.add_up([sums, squares])
    return {"code_variance": len(codes) * (squares / n - (sums / n).square()).mean()}


def _players(network: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of encoder and decoder."""
    encoder, decoder = (network.input, network.posterior_layer), (network.decoder, network.output)
    return [p for layer in encoder for p in layer.parameters()], [p for layer in decoder for p in layer.parameters()]
