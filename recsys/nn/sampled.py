"""The softmax over a large catalogue, estimated from the entries of each row and some items drawn at random."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recsys.nn.lazy import rows_of
from recsys.nn.products import row_sums, stored_products
from recsys.sparse import Batch

Proposals = Literal["popularity", "uniform", "batch"]
"""From which distribution negatives are drawn."""


class Negatives:
    """Draws items, with replacement, and knows how probable each is.

    `popularity`: in proportion to the item's training entries plus 1; `uniform`: all alike; `batch`: entries of the
    batch at random, so that their rows of the tables are read anyway, with the item's share of all training entries for
    its probability, which is what a draw has over all batches (Yi et al. 2019, §3).
    """

    def __init__(self, counts: Tensor, how: Proposals, number: int) -> None:
        """`counts` (n_items,) are the training entries of each item; `number` of items are drawn each time."""
        self.how, self.number = how, number
        weights = {"popularity": counts + 1.0, "uniform": torch.ones_like(counts), "batch": counts.clamp_min(1.0)}[how]
        weights = weights.double()
        self._cumulated = weights.cumsum(0)
        self.log_probability = weights.log() - self._cumulated[-1].log()
        """(n_items,) float64."""

    def draw(self, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the distinct items of a draw, ascending, and the logarithm of each one's weight, (n,) float32.

        The weight is times drawn / (number · probability): its mean over draws is 1, so that a weighted sum over the
        items of a draw is an unbiased estimate of the sum over all items.
        """
        device = self._cumulated.device
        if self.how == "batch":
            places = torch.randint(len(batch.columns), (self.number,), generator=noise, device=device)
            drawn = batch.columns[places]
        else:
            at = torch.rand(self.number, generator=noise, device=device, dtype=torch.float64) * self._cumulated[-1]
            drawn = torch.searchsorted(self._cumulated, at, right=True).clamp_max_(len(self._cumulated) - 1)
        items, times = torch.unique(drawn, return_counts=True)
        log_weight = (times / self.number).log() - self.log_probability[items]
        return items, log_weight.float()


class SampledMultinomialNLL:
    """−Σ_u Σ_i x_ui log softmax_i(h_u Wᵀ + b), eq. 2 of Liang et al. (2018), with an estimate of the softmax's sum.

    The sum over items of exp(l_i) is that over the stored entries of the row, exactly, plus that over the drawn items
    which are no entries of the row, each divided by how often it was to be expected: sampled softmax with the logQ
    correction (Bengio and Senécal 2008, §3; Jean et al. 2015, §3.1). That estimate is unbiased; its logarithm, and so
    the loss, is too small by about half its relative variance, which falls with the number of items drawn. All rows of
    a batch share one draw. The cost is (stored entries + rows × items drawn) × width, whatever the catalogue.
    """

    def __init__(self, negatives: Negatives) -> None:
        self.negatives = negatives

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, noise: torch.Generator) -> Tensor:
        """Return the sum over the batch, scalar; `noise` draws the items."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self._sum(hidden.to(weight.dtype), weight, bias, batch, noise)

    def _sum(self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, noise: torch.Generator) -> Tensor:
        columns, local = batch.compact
        if not len(columns):  # no term of the sum; the gradients are there all the same, for other processes
            return 0.0 * (hidden.sum() + rows_of(weight, columns).sum() + rows_of(bias, columns).sum())
        stored = stored_products(hidden, rows_of(weight, columns), rows_of(bias, columns), local)
        items, log_weight = self.negatives.draw(batch, noise)
        drawn = torch.addmm(rows_of(bias, items) + log_weight, hidden, rows_of(weight, items).T)
        place = torch.searchsorted(items, columns).clamp_max_(len(items) - 1)
        entries = torch.nonzero((items[place] == columns)[local.columns])[:, 0]
        own = batch.segments[entries], place[local.columns[entries]]
        drawn = drawn.index_put(own, drawn.new_tensor(-torch.inf))
        with torch.no_grad():
            largest = drawn.amax(1).scatter_reduce(0, batch.segments, stored, "amax")
        sums = (drawn - largest[:, None]).exp().sum(1) + row_sums(batch, (stored - largest[batch.segments]).exp())
        log_sum_exp = largest + sums.log()
        return row_sums(batch, batch.values).dot(log_sum_exp) - batch.values.dot(stored)
