"""ELSA (Vančura, Alves, Kasalický and Kordík 2022): EASE's zero diagonal at the price of a factor model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.models import spaces
from recsys.models.autoencoder import Autoencoder
from recsys.models.codes import Doubles
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.nn.graphs import LessOwnScores
from recsys.nn.losses import zero_diagonal_cosine
from recsys.nn.networks import UnitRowsNetwork
from recsys.params import Count, Positive
from recsys.sparse import Rows
from recsys.training import Loss, Objective
from recsys.training.config import Schedule


@register
class ELSA(Autoencoder):
    """Scalable linear shallow autoencoder: low rank with a zero diagonal, for ranking.

    Scores are x (A Aᵀ − I) with the rows of A, one per item, of length 1, so that no item explains itself. Minimizes
    per user the squared error between prediction and history, each divided by its length: twice 1 − cos(x, y), which is
    the reported loss. A user's embedding is x A; a score also subtracts the history, so `recommend_users` needs
    histories.

    Training never computes the predictions: a step costs stored entries × factors + (users + items) × factors². Differs
    from the paper in: Adam in place of Nadam; no ReLU on the prediction, as in the authors' later PyTorch code (with it
    all predictions would have to be computed).
    """

    capabilities = replace(Autoencoder.capabilities, decodes=False, keeps_users=False, popularity_fallback=True)
    search_space = spaces.ELSA

    def _copies(self) -> int:
        return 4  # A is divided by its lengths in every step

    factors: Count = 256
    """Columns of A: the width of item vectors and user embeddings."""
    epochs: Count = 20
    batch_size: Count = 256
    learning_rate: Positive = 0.01
    schedule: Schedule = "cosine"

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return UnitRowsNetwork(n_in, self.factors, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        return lambda batch, step, noise: Loss(zero_diagonal_cosine(network.output.weight, batch), len(batch))

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        scores = super()._scores(histories, userid, items, out)
        own = Rows(histories if items is None else sp.csr_matrix(histories[:, items]), scores.device)
        batch = own.slice(0, len(own))
        scores[batch.segments, batch.columns] -= batch.values
        return scores

    def _vectors_for_new(self) -> tuple[Tensor, Tensor]:
        table = self.network_.output.weight
        return table, torch.zeros(len(table))

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        vectors = self.network_.output.weight.detach().double().cpu().numpy()
        shares: Doubles = vectors[history.indices] @ vectors[items].T
        shares -= history.indices[:, None] == items
        return history.data[:, None] * shares

    def _graph(self) -> nn.Module:
        return LessOwnScores(self.network_)
