"""FLVAE and VASP (Vančura and Kordík 2021): a deep variational autoencoder with a focal loss, alone and beside EASE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.errors import DataError
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.autoencoder import Autoencoder, encode_rows
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.variational import Annealed
from recsys.nn.focal import FocalLoss
from recsys.nn.gaussian import reparameterized
from recsys.nn.graphs import ParallelScores
from recsys.nn.layers import Output
from recsys.nn.losses import gaussian_kl
from recsys.nn.variational import DenseResidual, GaussianEncoder, ResidualDecoder, VariationalNetwork, VASPNetwork
from recsys.params import Count, NotNegative, OpenFraction, Rate
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective

EPS = 1e-3
"""Added to the variance in each layer normalization, as in Keras, the authors' framework."""


@register
class FLVAE(Annealed, Autoencoder):
    """Focal-loss variational autoencoder: deep dense-residual encoder and decoder, for ranking.

    Minimizes, per user, Σ_i FL(p_i) + β · KL(q(z|x) ‖ N(0, I)), p = σ(W h(z) + b), with the focal loss of every entry
    (Lin et al. 2017): −α (1 − p)^γ log p of a positive and −(1 − α) p^γ log(1 − p) of any other item. The network
    reads one random half of a history and must find the other half (`halves`), so that copying
    the input gains nothing. Prediction reads the whole history, uses z = μ(x), and draws nothing.

    Layers are dense-residual with swish and layer normalization. Differs from the authors' notebook in: rows are
    divided by their length; one output layer, where the notebook multiplies its sigmoid by that of a second one on z
    itself; an epoch reads one half of each history, there each in turn; β grows over `anneal_steps`, where theirs is
    the same in all steps (`anneal_steps=0`); Adam in place of Nadam; `latent`, `hidden` and β for smaller data (2048,
    4096, and 1/2048 of the summed KL there).
    """

    search_space = spaces.FLVAE

    hidden: Count = 600
    """Width of all layers."""
    latent: Count = 200
    """Width of z."""
    layers: Count = 7
    """Layers of the encoder."""
    decoder_layers: Count = 5
    """Layers of the decoder."""
    dropout: Rate = 0.0
    """Share of the input's entries hidden from the encoder in each training step; the notebook has none."""
    alpha: OpenFraction = 0.25
    """α: weight of positives, against 1 − α of the others."""
    focus: NotNegative = 2.0
    """γ: the larger, the less an entry that is predicted well already counts; 0 is a weighted logistic loss."""
    halves: bool = True
    """Read one half of a history to find the other; False: read all of it to find all of it."""
    beta: NotNegative = 0.005

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        if matrix.nnz and matrix.data.min() < 0:
            raise DataError(
                f"{type(self).__name__} reads entries as counts of positives: {int((matrix.data < 0).sum())} are "
                "negative; use .binarized(), or keep ratings above a threshold"
            )
        return matrix

    def _parts(self, n_in: int, generator: torch.Generator) -> tuple[GaussianEncoder, ResidualDecoder, Output]:
        body = DenseResidual(self.hidden, self.layers, generator, eps=EPS)
        encoder = GaussianEncoder(n_in, body, self.latent, self.dropout, generator)
        decoder = ResidualDecoder(self.latent, self.hidden, self.decoder_layers, generator, eps=EPS)
        return encoder, decoder, Output(self.hidden, n_in, generator)

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return VariationalNetwork(*self._parts(n_in, generator))

    def _objective(self, network: Any, rows: Rows) -> Objective:
        focal_loss, output = FocalLoss(self.alpha, self.focus), network.output
        beta = self._annealing(self.epochs, self._steps_per_epoch(rows))

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            given, wanted = batch.halves(noise) if self.halves else (batch, batch)
            mean, log_variance = network.posterior(given, noise)
            hidden = network.decode(reparameterized(mean, log_variance, noise))
            focal = focal_loss(hidden, output.weight, output.bias, wanted, self._beside(network, given))
            kl = gaussian_kl(mean, log_variance).sum()
            return Loss(focal + beta(step) * kl, len(batch), {"focal": focal, "kl": kl})

        return objective

    def _beside(self, network: Any, batch: Batch) -> Tensor | None:
        """Return the logits of a second path, whose sigmoids multiply the first one's."""
        return None


@register
class VASP(FLVAE):
    """FLVAE and a shallow path in parallel: p = σ(W h(z) + b) ⊙ σ(x B), diag(B) = 0 (Neural EASE), learned jointly.

    Objective, input and targets are FLVAE's, with this p. Scores are log p: the sum of two log-sigmoids, of which the
    second reads the history itself. So it keeps no vectors of its users, and `recommend_users` needs the histories. The
    similarity of items i and j is tanh of the mean of B_ij and B_ji. B holds n_items² weights, and the optimizer twice
    as many numbers again. On ML-20M the authors restrict all layers, not B alone, to the most popular items, and
    score all others 0; here they cover all.
    """

    capabilities = replace(FLVAE.capabilities, decodes=False, keeps_users=False)
    search_space = spaces.VASP

    regularization: NotNegative = 0.0
    """λ of λ/2 · ‖B‖² on the mean loss per user; the notebook has none."""

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        need = super()._memory(matrix)
        return need and need._replace(instead="use FLVAE, which is VASP without B, SANSA or ELSA, or keep fewer items")

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return VASPNetwork(n_in, *self._parts(n_in, generator))

    def _objective(self, network: Any, rows: Rows) -> Objective:
        of_data = super()._objective(network, rows)
        if not self.regularization:
            return of_data

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            loss = of_data(batch, step, noise)
            penalty = 0.5 * self.regularization * network.item_weights.square().sum()
            return Loss(loss.total + len(batch) * penalty, loss.count, loss.parts)

        return objective

    def _beside(self, network: Any, batch: Batch) -> Tensor | None:
        logits: Tensor = network.shallow(batch)
        return logits

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        rows = Rows(self._prepare(histories), self._device)
        deep = self._decode_scores(encode_rows(self.network_.encode, rows), items, out)
        shallow = self.network_.shallow(rows.slice(0, len(rows)))
        if items is not None:
            shallow = shallow[:, torch.from_numpy(items).to(self._device)]
        return F.logsigmoid(deep) + F.logsigmoid(shallow)

    def _path_scores(self, network: Any, batch: Batch, userid: Indices) -> Tensor:
        scores: Tensor = ParallelScores(network)(batch)
        return scores

    def _graph(self) -> nn.Module:
        return ParallelScores(self.network_)

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        weights = self.network_.item_weights.detach()
        rows, columns = (torch.from_numpy(index).to(weights.device) for index in (asked, among))
        there, back = weights[rows][:, columns], weights[:, rows][columns].T
        return torch.tanh(0.5 * (there + back))
