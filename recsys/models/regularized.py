"""Autoencoders kept from copying their input: by a narrow code, a penalty, a corruption, noise or a vector per user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.models import spaces
from recsys.models.autoencoder import Autoencoder, encode_rows
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.whole_rows import WholeRow
from recsys.nn.corruption import masked, projected_gaussian, salt_and_pepper
from recsys.nn.layers import ActivationName, l2_normalized, standard_normal
from recsys.nn.networks import AcquisitionNetwork, DeepNetwork, UserNodeNetwork
from recsys.nn.penalties import activation_kl, squared_jacobian, squared_jacobian_of_one_layer
from recsys.params import Count, NotNegative, OpenFraction, Positive, Rate, Widths
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Objective
from recsys.training.config import Schedule


@register
class BottleneckAE(WholeRow, Autoencoder):
    """Undercomplete autoencoder, for ranking: a code narrower than the row is all that the decoder reads.

    Minimizes, per user, the negative log-likelihood of the whole row (Bank, Koenigstein and Giryes 2020, eq. 1, with
    `likelihood` as Δ) over I → `hidden` → `latent` → `hidden` reversed → I, rows divided by their length. Nothing else
    keeps it from copying its input, so that `latent`, `weight_decay` and the epochs decide how well it ranks.
    """

    search_space = spaces.BOTTLENECK

    hidden: Widths = ()
    """Widths of the layers between input and code; the decoder has them in reverse."""
    latent: Count = 100
    """Width of the code."""
    activation: ActivationName = "tanh"
    """Activation function of every layer but the last, the code included."""
    epochs: Count = 40
    batch_size: Count = 250
    learning_rate: Positive = 5e-3
    weight_decay: NotNegative | None = None
    """c of c/2 · Σ w² over all weight matrices, on the mean loss per user; None: as much as chance may give the weights
    (`recsys.nn.penalties.chance_decay`), 0.005 on MovieLens-1M."""
    schedule: Schedule = "cosine"

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return DeepNetwork(n_in, self.hidden, self.latent, generator, activation=self.activation)

    def _objective(self, network: Any, rows: Rows) -> Objective | Alternation:
        likelihood = self._likelihood()

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            code, parts = self._code(network, batch, noise)
            output = network.output
            total = likelihood(network.decode(code), output.weight, output.bias, batch)
            return Loss(sum(parts.values(), total), len(batch), parts)

        return objective

    def _code(self, network: Any, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the code to decode in training, and the terms to add to the loss, summed over rows."""
        return network.encode(batch), {}


@register
class SparseAE(BottleneckAE):
    """Sparse autoencoder, for ranking: few units of the code are active for a user.

    Adds `sparsity` times, per user, Σ_j |a_j| over the code's activations, or Σ_j KL(ρ ‖ ρ̂_j) with ρ = `target` and
    ρ̂_j the mean activation of unit j (Bank, Koenigstein and Giryes 2020, §2.1; Ng 2011).

    Differs from the source in: ρ̂_j is the mean over the batch in place of all rows, whose penalty is on average too
    large, by about `sparsity` · Var(a_j) / (2 · `batch_size` · ρ(1 − ρ)) near the target; the penalty is on the code
    alone. Small codes and a large decoder evade it: keep `weight_decay` above 0.
    """

    search_space = spaces.SPARSE

    penalty: Literal["l1", "kl"] = "l1"
    """`l1` on the activations, or `kl` between the units' mean activations and `target`."""
    sparsity: NotNegative = 0.5
    """Weight of the penalty."""
    target: OpenFraction = 0.05
    """Mean activation that `kl` asks of each unit."""
    latent: Count = 200
    activation: ActivationName = "tanh"
    """Activation function of every layer but the last, the code included; `kl` needs `sigmoid`."""

    def _check_params(self) -> None:
        super()._check_params()
        if self.penalty == "kl" and self.activation != "sigmoid":
            reason = "'sigmoid' with penalty='kl', which reads activations as chances"
            raise ConfigError(f"activation must be {reason}, got {self.activation!r}; use penalty='l1'")

    def _code(self, network: Any, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        code = network.encode(batch)
        penalty = code.abs().sum() if self.penalty == "l1" else len(batch) * activation_kl(code, self.target)
        return code, {"penalty": self.sparsity * penalty}


@register
class DenoisingAE(BottleneckAE):
    """Denoising autoencoder, for ranking: the row is rebuilt from a corrupted copy of it.

    Minimizes E over x̃ ~ q(x̃|x) of the likelihood of the clean x (Vincent et al. 2008, §2.3; corruptions of
    Vincent et al. 2010, §3.3), one x̃ per user and step. x̃ is made of the row divided by its length:
    `masking` removes a share `level` of the stored entries; `salt-and-pepper` sends a share `level` of all entries to 0
    or to the row's largest value, with even chances; `gaussian` adds N(0, `level`²) to every entry. None makes a dense
    row: see `recsys.nn.corruption`.

    Differs from the paper in: what masking leaves is scaled by 1 / (1 − `level`), with which `masking` is Mult-DAE's
    dropout; encoder and decoder weights are not tied; the loss gives corrupted entries no greater weight.
    """

    search_space = spaces.DENOISING

    corruption: Literal["masking", "gaussian", "salt-and-pepper"] = "masking"
    """Kind of noise."""
    level: NotNegative = 0.5
    """Share of entries that are corrupted, or the standard deviation of `gaussian`."""
    latent: Count = 200

    def _check_params(self) -> None:
        super()._check_params()
        if self.corruption != "gaussian" and self.level >= 1:
            raise ConfigError(f"level must be below 1 as a share of entries ({self.corruption}), got {self.level}")

    def _code(self, network: Any, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self.corruption == "gaussian":
            projected = network.project(batch)
            projected = projected + projected_gaussian(network.input.weight, len(batch), self.level, noise)
            return network.layers(projected)[-1], {}
        corrupt = masked if self.corruption == "masking" else salt_and_pepper
        corrupted = corrupt(replace(batch, values=l2_normalized(batch)), self.level, noise)
        return network.layers(network.input(corrupted))[-1], {}


@register
class ContractiveAE(BottleneckAE):
    """Contractive autoencoder, for ranking: the code should hardly move when the row moves.

    Adds `contraction` · ‖J(x)‖²_F per user, J = ∂code/∂x (Rifai et al. 2011, eq. 1), x the row divided by its length:
    the penalty then weighs long and short histories alike. Through one layer it has a closed form; through several it
    is estimated along `probes` random directions.

    Differs from the paper in: encoder and decoder weights are not tied, so that a small encoder with a large decoder
    would evade the penalty (keep `weight_decay` above 0); the penalty is on the whole encoder, not on stacked layers.
    """

    search_space = spaces.CONTRACTIVE

    def _copies(self) -> int:
        return 1  # the gradient of the penalty

    contraction: NotNegative = 0.003
    """λ, the weight of the penalty."""
    probes: Count | None = 1
    """Random directions for `hidden` layers; None: exact, by one backward pass per unit of the code."""
    latent: Count = 200

    def _code(self, network: Any, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        projected = network.project(batch)
        code = network.layers(projected)[-1]
        if self.hidden:
            squares = squared_jacobian(code, projected, network.input.weight, self.probes, noise)
        else:
            squares = squared_jacobian_of_one_layer(code, projected, network.input.weight)
        return code, {"penalty": self.contraction * squares.sum()}


@register
class CDAE(BottleneckAE):
    """Collaborative denoising autoencoder, for ranking: every training user has a vector beside their history.

    h = f(Wᵀ x̃ + V_u + b) with x̃ the row after dropout, ŷ = W′ᵀ h + b′ (Wu, DuBois, Zheng and Ester 2016, §3.1);
    minimizes the mean over users of the likelihood of the clean row, plus `weight_decay`/2 · (‖W‖² + ‖W′‖² + ‖V‖²).

    A training user is scored from their V_u and the history given, or that of training where none is given. Any other
    user, also one without training entries, gets the mean of all learned V_u, since training may put what the vectors
    have in common there or into b.

    Differs from the paper in: the loss reads whole rows in place of sampled negatives; `bernoulli` is its logistic
    loss and `gaussian` its square loss, the default `multinomial` is not in it; rows are divided by their length;
    offsets have no penalty; tanh by default, as the paper's sigmoid learns more slowly from such rows.
    """

    capabilities = replace(BottleneckAE.capabilities, scores_known_users=True)
    search_space = spaces.CDAE

    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step; q in the paper."""
    latent: Count = 200

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        shape = self.n_users_, n_in, self.hidden, self.latent
        return UserNodeNetwork(*shape, generator, activation=self.activation, dropout=self.dropout)

    def _code(self, network: Any, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return network.encode(batch, noise, batch.rows), {}

    def _refresh(self, rows: Rows) -> None:
        trained, vectors = torch.from_numpy(self.user_counts_ > 0).to(rows.device), self.network_.users
        if not trained.all():  # at zero, where they began, they would pull the mean there
            with torch.no_grad():
                vectors[~trained] = vectors[trained].mean(0)

    def _keep_users(self, rows: Rows) -> None:
        users = np.where(self.user_counts_ > 0, np.arange(len(rows)), -1)
        self.embeddings_ = self._encode_users(rows, torch.from_numpy(users).to(rows.device)).cpu()

    def _codes(self, histories: Histories, userid: Indices) -> Tensor:
        if histories is None:
            return super()._codes(None, userid)
        users = torch.from_numpy(np.where(self._known(userid), userid, -1)).to(self._device)
        return self._encode_users(Rows(self._prepare(histories), self._device), users)

    def _path_scores(self, network: Any, batch: Batch, userid: Indices) -> Tensor:
        known = int(np.where(self._known(userid), userid, -1)[0])
        users = torch.full((len(batch),), known, device=batch.values.device)
        scores: Tensor = network.output(network.decode(network.encode(batch, users=users)))
        return scores

    def _encode_users(self, rows: Rows, users: Tensor) -> Tensor:
        """Return the embeddings of rows of training users, -1 for those of whom training had no entries."""
        return encode_rows(lambda batch: self.network_.encode(batch, users=users[batch.rows]), rows)


@register
class UAE(WholeRow, Autoencoder):
    """Uncertainty autoencoder: a few noisy measurements of a row, and a decoder that recovers the row from them.

    Grover and Ermon 2019. A row x is measured as y = f(x) + ε, ε ~ N(0, `noise`² I), with m = `latent` measurements.
    Acquisition f and decoder are trained together to maximize E log q(x|y), the decoder's log-likelihood, which plus
    the constant H(X) is a lower bound of the mutual information I(X; Y) (Barber and Agakov 2003). There is no prior on
    y. The acquisition is linear, as in compressed sensing, or a network; the decoder, with hidden layers of the widths
    `hidden` (none: linear), recovers a row in one pass.

    It ranks by the decoder's output for y = f(x), without noise. To recover rows, use `likelihood="gaussian"` (the
    output is the row) or `"bernoulli"` (its sigmoid is the probability of each entry). Rows are not divided by their
    length, so that it can be recovered too. Without `weight_decay` the acquisition can outgrow its noise. Differs from
    the paper in: the acquisition has an offset, which carries no information about x; a multinomial likelihood by
    default, to rank. Differs from the authors' code in: the decoder has one hidden layer of 600 tanh with offsets,
    theirs two of 500 ReLU without; `gaussian` is the squared error of an affine output, theirs that of a sigmoid, whose
    likelihood is `bernoulli` here; `weight_decay` is on all weights, theirs on those of the acquisition.
    """

    search_space = spaces.UAE

    acquisition: Literal["linear", "network"] = "linear"
    """`linear`: y is an affine function of the row; `network`: through the widths of `hidden` reversed."""
    hidden: Widths = (600,)
    """Widths of the decoder's hidden layers, from the row's side inwards; none: a linear decoder."""
    latent: Count = 200
    """Number of measurements m."""
    noise: NotNegative = 0.1
    """Standard deviation σ of the measurements' noise in training."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        acquisition = self.hidden if self.acquisition == "network" else ()
        return AcquisitionNetwork(n_in, acquisition, self.latent, self.hidden, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        nll, output = self._likelihood(), network.output

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            measured = network.encode(batch)
            measured = measured + self.noise * standard_normal(measured, noise)
            return Loss(nll(network.decode(measured), output.weight, output.bias, batch), len(batch))

        return objective
