"""Scores of dense histories, (n, n_items), as modules that an exporter can turn into graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.products import weighted_rows
from recsys.sparse import DenseRows


class NetworkScores(nn.Module):
    """The scores of an autoencoder: encode, decode, output."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: DenseRows) -> Tensor:
        output = self.network.output
        return F.linear(self.network.decode(self.network.encode(rows)), output.weight, output.bias)


class CenteredScores(NetworkScores):
    """The scores of a network that reads ratings less their mean, in units."""

    def __init__(self, network: Any, mean: float, unit: float) -> None:
        super().__init__(network)
        self.mean, self.unit = mean, unit

    def forward(self, rows: DenseRows) -> Tensor:
        values = rows.values
        return self.unit * super().forward(DenseRows(torch.where(values != 0, values - self.mean, 0.0) / self.unit))


class UnbiasedScores(NetworkScores):
    """The scores of a network that reads ratings less their mean and biases, in units, with the biases added again."""

    items: Tensor

    def __init__(self, network: Any, mean: float, damping: float, items: Tensor, unit: float) -> None:
        """Take μ, the damping in ratings, the items' biases b_i, (n_items,), and the unit."""
        super().__init__(network)
        self.mean, self.damping, self.unit = mean, damping, unit
        self.register_buffer("items", items.to(network.output.bias))

    def forward(self, rows: DenseRows) -> Tensor:
        stored = (rows.values != 0).to(self.items)
        rest = rows.values - stored * (self.mean + self.items)
        count = stored.sum(1, keepdim=True) + self.damping
        users = rest.sum(1, keepdim=True) / torch.where(count > 0, count, torch.ones_like(count))
        return self.unit * super().forward(DenseRows((rest - stored * users) / self.unit)) + self.items + users


class LessOwnScores(NetworkScores):
    """The scores of a network, less the history itself."""

    def forward(self, rows: DenseRows) -> Tensor:
        return super().forward(rows) - rows.values


class ParallelScores(NetworkScores):
    """log σ(deep) + log σ(linear): a network's logits beside those of a linear path."""

    def forward(self, rows: DenseRows) -> Tensor:
        shallow = weighted_rows(self.network.item_weights, rows, rows.values)
        return F.logsigmoid(super().forward(rows)) + F.logsigmoid(shallow)


class ConceptScores(NetworkScores):
    """The scores of a network that mixes a decoder for each concept."""

    def forward(self, rows: DenseRows) -> Tensor:
        scores: Tensor = self.network.scores(self.network.encode(rows), product=F.linear)
        return scores


class LinearScores(nn.Module):
    """One product of the history, and of products of pairs of its columns, with a table."""

    weights: Tensor
    pairs: Tensor

    def __init__(self, weights: Tensor, pairs: Tensor | None = None) -> None:
        """`weights` (n_items + n_pairs, n_items); `pairs` (n_pairs, 2) int64."""
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("pairs", torch.empty(0, 2, dtype=torch.int64) if pairs is None else pairs)

    def forward(self, rows: DenseRows) -> Tensor:
        values = rows.values
        if len(self.pairs):
            values = torch.cat([values, values[:, self.pairs[:, 0]] * values[:, self.pairs[:, 1]]], 1)
        return values @ self.weights


class SameScores(nn.Module):
    """The same scores, `values` (n_items,), for every history."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, rows: DenseRows) -> Tensor:
        return self.values.expand(rows.values.shape[0], -1)


class BlendedScores(nn.Module):
    """The weighted sum of the scores of several modules."""

    def __init__(self, parts: Sequence[nn.Module], weights: Sequence[float], standardize: bool) -> None:
        """With `standardize` each row of scores is brought to one scale first: see `standardized`."""
        super().__init__()
        self.parts, self.weights, self.standardize = nn.ModuleList(parts), list(weights), standardize

    def forward(self, rows: DenseRows) -> Tensor:
        total = torch.zeros_like(rows.values)
        for part, weight in zip(self.parts, self.weights, strict=True):
            scores = part(rows)
            total = total + weight * (standardized(scores) if self.standardize else scores)
        return total


def standardized(scores: Tensor) -> Tensor:
    """Return the (n, n_items) scores less their mean over the items of each row, over their standard deviation.

    A row of equal scores becomes 0: it says nothing.
    """
    rest = scores - scores.mean(1, keepdim=True)
    spread = rest.square().mean(1, keepdim=True).sqrt()
    return rest / torch.where(spread > 0, spread, torch.ones_like(spread))
