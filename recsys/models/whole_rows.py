"""Likelihoods of whole rows: what their models share, and how some train on catalogues of millions of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import DataError
from recsys.models.autoencoder import Autoencoder
from recsys.models.codes import Distribution
from recsys.nn.lazy import make_lazy
from recsys.nn.losses import Likelihood, LikelihoodName, MultinomialNLL, likelihood
from recsys.nn.sampled import Negatives, Proposals, SampledMultinomialNLL
from recsys.params import Count, Positive, Rate
from recsys.sparse import Batch, Rows

NLL = Callable[[Tensor, Batch, torch.Generator], Tensor]
"""Maps the input of the output layer, a batch and noise to −Σ_u Σ_i x_ui log π_i(z_u), scalar."""


@dataclass(kw_only=True, eq=False)
class WholeRow:
    """Mixin of the autoencoders that explain whole rows, unstored entries included: they rank and do not rate."""

    likelihood: LikelihoodName = "multinomial"
    """`multinomial`: counts; `bernoulli`: entries of 0 to 1; `gaussian`: squared error."""
    unobserved_weight: Positive = 1.0
    """Weight of the unstored entries as zeros in the `gaussian` likelihood; the others have no such weight. Above 0,
    since a loss over stored entries alone does not learn to rank."""

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        return check_entries(self, matrix, self.likelihood)

    def _likelihood(self) -> Likelihood:
        return likelihood(self.likelihood, self.unobserved_weight)

    def _distribution(self) -> Distribution:
        return Distribution(self.likelihood, self.unobserved_weight)


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


def check_entries(model: object, matrix: sp.csr_matrix, name: LikelihoodName) -> sp.csr_matrix:
    """Return the histories as they are; a DataError names entries that the likelihood cannot have made."""
    if name == "gaussian" or not matrix.nnz:
        return matrix
    if matrix.data.min() < 0:
        raise DataError(
            f"{type(model).__name__} has a {name} likelihood and reads entries as counts: "
            f"{int((matrix.data < 0).sum())} are negative; use .binarized(), or keep ratings above a threshold"
        )
    if name == "bernoulli" and matrix.data.max() > 1:
        raise DataError(
            f"{type(model).__name__} has a bernoulli likelihood and reads entries as chances of 0 to 1: "
            f"{int((matrix.data > 1).sum())} are above 1; use .binarized()"
        )
    return matrix
