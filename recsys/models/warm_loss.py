"""What known items may lose where new ones take places in lists, and how far new items' scores are held back for it.

What a ridge says of a new item is a guess, and the highest of thousands of guesses are too high. Of what a new item
scores beyond the user's 20th best known item only a share counts (`pressed`): new items enter the lists that they would
enter, and stand further behind in them. Their order among themselves stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.models.base import Recommender
from recsys.models.new_items import NewItems
from recsys.models.selection import Indices
from recsys.splits import Part

LENGTH: Final = 20
"""Items of the lists that are looked at."""
PATH: Final = (
    *((1.0, share) for share in (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)),
    *((trust, 0.02) for trust in (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0)),
)
"""Shares of the trust and of the excess that are tried, in this order, until known items lose little enough."""
_POWER: Final = 1.5
"""Of gains, see `Places`."""
_MOST_USERS, _ENOUGH, _ROWS = 2000, 100, 512
"""Users that are looked at, the fewest whose held-out entries say anything, and rows of a block."""


def level(scores: Tensor, known: Tensor, histories: sp.csr_matrix | None) -> Tensor:
    """Return each user's 20th best score among known items outside of the history, (rows, 1).

    Args:
        scores: (rows, n_items) of all items of the model.
        known: items that training had entries of.
        histories: (rows, n_items); None: nothing is left out.
    """
    return _best(scores, known, histories).values[:, -1:]


def pressed(scores: Tensor, at: Tensor, share: float) -> Tensor:
    """Return scores of which what lies beyond `at` counts by a share; `at` is (rows, 1), -inf where there is none."""
    beyond = scores - at
    return torch.where((beyond > 0) & at.isfinite(), at + share * beyond, scores)


@dataclass(frozen=True)
class Places:
    """The first places of users' lists of known items, and what an item that is wanted would be worth in each.

    Where known items have entries that were held out, these are what is wanted, and the loss is that of the mean
    nDCG@20. Elsewhere the gain of an item is (score − the user's mean score)^1.5, and the loss is the users' mean share
    of Σ gain / log2(place + 1). Entries of training would not do, for they are found far too well. On the validation
    part of citeulike-a that is 1.0 to 1.3 times the loss measured there (power 1: 1.1 to 1.6 times, 2: 0.8 to 1).
    """

    scores: Tensor
    """(rows, 20) scores of known items, descending."""
    gains: Tensor
    """(rows, 20) of the same items."""
    worth: Tensor
    """(rows,) weight of each user: one over the best possible sum, or over that of the list of known items alone."""

    def lost(self, new: Tensor, share: float) -> float:
        """Return the share that known items lose to new ones.

        Args:
            new: (rows, some) the best scores of new items.
            share: of what these score beyond the last known item.
        """
        width = self.scores.shape[1]
        both = torch.cat([self.scores, pressed(new, self.scores[:, -1:], share)], dim=1)
        order = both.sort(dim=1, descending=True, stable=True).indices[:, :width]
        gains = torch.where(order < width, self.gains.gather(1, order.clamp_max(width - 1)), 0.0)
        before, after = ((table * _discounts(width)).sum(1) @ self.worth for table in (self.gains, gains))
        return float(1.0 - after / before) if float(before) > 0 else 0.0


def press(
    model: Recommender,
    known: Indices,
    derive: Callable[[float], NewItems],
    histories: sp.csr_matrix,
    most: float,
    target: sp.csr_matrix | None = None,
) -> tuple[float, float]:
    """Return the shares of the trust and of the excess with which known items lose at most the share `most`.

    Args:
        known: items that training had entries of.
        derive: returns what new items score at a share of the trust.
        histories: (rows, n_items of the model).
        target: (rows, n_items of the model) held-out entries of known items; None: see `Places`.
    """
    rows = np.linspace(0, histories.shape[0] - 1, min(_MOST_USERS, histories.shape[0])).astype(np.int64)
    histories, target = histories[rows], None if target is None else target[rows]
    if most >= 1.0 or not len(rows) or not len(known):
        return 1.0, 1.0
    with torch.no_grad():
        places = _places(model, torch.from_numpy(known), histories, target)
        tops: dict[float, Tensor] = {}
        for trust, share in PATH:
            if trust not in tops:
                tops[trust] = _top_of_new(derive(trust), model, histories)
            if places.lost(tops[trust], share) <= most:
                return trust, share
    return PATH[-1]


def held_out(part: Part | None, known: Indices, n_items: int) -> tuple[sp.csr_matrix, sp.csr_matrix] | None:
    """Return histories and held-out entries of known items of a part; None where there are too few."""
    if part is None:
        return None
    kept = np.zeros(part.target.shape[1], np.float32)
    kept[known] = 1.0
    target = sp.csr_matrix(part.target @ sp.diags_array(kept))
    target.eliminate_zeros()
    rows = np.flatnonzero((np.diff(target.indptr) > 0) & (np.diff(part.context.indptr) > 0))
    return (part.context[rows], target[rows, :n_items]) if len(rows) >= _ENOUGH else None


def _places(model: Recommender, known: Tensor, histories: sp.csr_matrix, target: sp.csr_matrix | None) -> Places:
    scores, gains, worth = [], [], []
    for start in range(0, histories.shape[0], _ROWS):
        some = histories[start : start + _ROWS]
        whole = model._checked(some, np.full(some.shape[0], -1), None, None).cpu()
        best = _best(whole, known, some)
        if target is None:
            gain = (best.values - whole[:, known].mean(1, keepdim=True)).clamp_min(0.0) ** _POWER
            ideal = (gain * _discounts(gain.shape[1])).sum(1)
        else:
            wanted = torch.from_numpy(target[start : start + _ROWS].toarray()) > 0
            gain = wanted.gather(1, best.indices).float()
            ideal = _discounts(LENGTH).cumsum(0)[wanted.sum(1).clamp_max(LENGTH) - 1]
        scores.append(best.values)
        gains.append(gain)
        worth.append(torch.where(ideal > 0, 1.0 / ideal, 0.0))
    return Places(torch.cat(scores), torch.cat(gains), torch.cat(worth))


def _top_of_new(new: NewItems, model: Recommender, histories: sp.csr_matrix) -> Tensor:
    tops = []
    for start in range(0, histories.shape[0], _ROWS):
        some = histories[start : start + _ROWS]
        scores = new.scores(model, some, np.full(some.shape[0], -1)).cpu()
        tops.append(scores.topk(min(LENGTH, scores.shape[1]), dim=1).values)
    return torch.cat(tops)


def _best(scores: Tensor, known: Tensor, histories: sp.csr_matrix | None) -> torch.return_types.topk:
    """Return the best known items outside of the histories: their scores, and their places among all items."""
    able = torch.full((scores.shape[1],), -torch.inf, device=scores.device)
    able[known.to(scores.device)] = 0.0
    masked = scores + able
    if histories is not None:
        rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
        masked[torch.from_numpy(rows), torch.from_numpy(histories.indices.astype(np.int64))] = -torch.inf
    return masked.topk(min(LENGTH, len(known)), dim=1)


def _discounts(n: int) -> Tensor:
    return 1.0 / torch.log2(torch.arange(2.0, n + 2.0))
