"""What the models with a multinomial likelihood share, and how they train on catalogues of millions of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.models.autoencoder import Autoencoder, check_entries
from recsys.models.codes import Distribution
from recsys.nn.lazy import make_lazy
from recsys.nn.losses import MultinomialNLL
from recsys.nn.sampled import Negatives, Proposals, SampledMultinomialNLL
from recsys.params import Count, Rate
from recsys.sparse import Batch, Rows

NLL = Callable[[Tensor, Batch, torch.Generator], Tensor]
"""Maps the input of the output layer, a batch and noise to −Σ_u Σ_i x_ui log π_i(z_u), scalar."""


@dataclass(kw_only=True, eq=False)
class Multinomial:
    """Mixin of the models whose likelihood is multinomial: histories are counts, so no entry may be negative."""

    dropout: Rate = 0.5
    """Share of a history's entries hidden from the encoder in each training step."""

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        return check_entries(self, matrix, "multinomial")

    def _distribution(self) -> Distribution:
        return Distribution("multinomial", 1.0)


@dataclass(kw_only=True, eq=False)
class SampledSoftmax(Multinomial, Autoencoder):
    """Base of the models that may train with an estimate of the softmax, for catalogues of millions of items.

    Then neither the loss nor a step of the optimizer goes over all items: the tables of items have sparse gradients,
    Adam moves only the rows that a step has read, and `weight_decay` acts on a row in the steps that read it.
    """

    negatives: Count | None = None
    """Items that each step draws to estimate the softmax (`recsys.nn.sampled`), so that its cost does not grow with
    the catalogue; None: the softmax over all items. Scores are of all items either way."""
    negatives_from: Proposals = "popularity"
    """How items are drawn: by their `popularity`, all alike (`uniform`), or among the entries of the `batch`."""

    def _tables(self, network: Any) -> list[torch.nn.Parameter]:
        """Return the network's parameters with one row per item."""
        return [network.input.weight, network.output.weight, network.output.bias]

    def _initialize(self, network: Any, rows: Rows) -> None:
        super()._initialize(network, rows)
        if self.negatives is not None:
            make_lazy(self._tables(network))
            rows.compact = True

    def _nll(self, network: Any, rows: Rows) -> NLL:
        """Return the negative log-likelihood of whole rows, or its estimate."""
        output = network.output
        if self.negatives is None:
            exact = MultinomialNLL()
            return lambda hidden, batch, noise: exact(hidden, output.weight, output.bias, batch)
        counts = torch.from_numpy(np.rint(self.popularity_.astype(np.float64) * self.n_users_)).to(rows.device)
        estimate = SampledMultinomialNLL(Negatives(counts, self.negatives_from, self.negatives))
        return lambda hidden, batch, noise: estimate(hidden, output.weight, output.bias, batch, noise)

    def _copies(self) -> int:
        return super()._copies() - (self.negatives is not None)  # no gradients of the size of the tables

    def _logits(self) -> int:
        return super()._logits() if self.negatives is None else self.batch_size * self.negatives
