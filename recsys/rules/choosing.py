"""The greedy choice of lists: of a user's candidates the best that still may, again and again.

All functions take a block of users, R rows of P candidates, best first. They compute a row from that row alone, in
double precision, so that a list does not depend on who shares the block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.rules.bound import Groups

Ids = npt.NDArray[np.integer]
Places = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
ALPHA: Final = 0.01
"""Share of the history's mix in the mix of a list, so that the divergence is finite (Steck 2018, equation 7)."""


class Objective(Protocol):
    """What the next item of each list is chosen by."""

    def values(self) -> Doubles:
        """Return the value of each candidate after what was chosen, (R, P)."""

    def add(self, rows: Places, places: Places) -> None:
        """Take note that these rows have chosen the candidates at these places."""


def choose(ids: Ids, n: int, groups: Groups | None, objective: Objective | None) -> Places:
    """Return the places of the candidates that are chosen, in the order of their choice.

    Args:
        ids: (R, P) items, best first; -1 in empty slots.
        n: length of each list.
        groups: values of items that a list may hold so many times.
        objective: what is largest for the next item, equal values by place; None: the first that may.

    Returns:
        (R, n) places, -1 where no candidate may be chosen.
    """
    free = ids >= 0
    chosen = np.full((len(ids), n), -1, dtype=np.int64)
    own = None if groups is None else np.where(free[:, :, None], groups.of_items[ids], -1)
    held = None if own is None else np.full((len(ids), n, own.shape[2]), -1, dtype=own.dtype)
    for step in range(n):
        rows = np.flatnonzero(free.any(axis=1))
        if not len(rows):
            break
        wanted = free if objective is None else np.where(free, objective.values(), -np.inf)
        places = wanted.argmax(axis=1)[rows]
        chosen[rows, step] = places
        free[rows, places] = False
        if objective is not None:
            objective.add(rows, places)
        if own is not None and held is not None and groups is not None:
            held[rows, step] = own[rows, places]
            _close(free, own, held[:, : step + 1], rows, groups.caps)
    return chosen


def _close(free: npt.NDArray[np.bool_], own: Ids, held: Ids, rows: Places, caps: Places) -> None:
    """Take out the candidates whose values the lists of these rows now hold as often as they may."""
    for value in held[rows, -1].T:  # of the item chosen last, one after the other
        of, value = rows[value >= 0], value[value >= 0]
        full = (held[of] == value[:, None, None]).sum(axis=(1, 2)) >= caps[value]
        of, value = of[full], value[full]
        free[of] &= ~(own[of] == value[:, None, None]).any(axis=2)


def scaled(scores: npt.NDArray[np.float32], ids: Ids) -> Doubles:
    """Return the scores of each row brought to 0..1, over the candidates that there are; 0 where all are equal."""
    there, values = ids >= 0, scores.astype(np.float64)
    low = np.where(there, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(there, values, -np.inf).max(axis=1, keepdims=True)
    width = high - low
    with np.errstate(invalid="ignore"):  # of rows without candidates
        found = np.where(there & (width > 0), (values - low) / np.where(width > 0, width, 1.0), 0.0)
    return np.asarray(found)


class Marginal:
    """Maximal marginal relevance: (1 − λ) s_i − λ max_j sim(i, j), over the j that were chosen; 0 before there are any.

    Carbonell and Goldstein, SIGIR 1998, with the weight on the other term.
    """

    def __init__(self, scores: Doubles, weight: float, similarity: Callable[[Places, Places], Doubles]) -> None:
        """`similarity(rows, places)` returns those of all candidates of these rows to the ones at these places."""
        self._relevance, self._weight, self._similarity = (1.0 - weight) * scores, weight, similarity
        self._nearest: Doubles | None = None

    def values(self) -> Doubles:
        return self._relevance if self._nearest is None else self._relevance - self._weight * self._nearest

    def add(self, rows: Places, places: Places) -> None:
        found = self._similarity(rows, places)
        if self._nearest is None:
            self._nearest = np.full_like(self._relevance, -np.inf)
        self._nearest[rows] = np.maximum(self._nearest[rows], found)


class Calibrated:
    """Calibration: (1 − λ) s(I) − λ KL(p, q̃(I)) of the list I with the candidate (Steck, RecSys 2018, equation 8).

    p is the mix of values in the history, the mean of the shares of its items, q that of the list, and
    q̃ = (1 − α) q + α p. Items without a value are in no mix. Scores of what was chosen are the same for all candidates
    and left out. A user without a mix has the plain ranking.
    """

    def __init__(
        self, scores: Doubles, weight: float, ids: Ids, histories: sp.csr_matrix, shares: sp.csr_matrix
    ) -> None:
        """Take the mix of the histories, (R, n_items), and the shares of the candidates."""
        self._relevance, self._weight = (1.0 - weight) * scores, weight
        ones = sp.csr_matrix((np.ones(histories.nnz), histories.indices, histories.indptr), shape=histories.shape)
        mix = np.asarray((ones @ shares).toarray(), dtype=np.float64)
        total = mix.sum(axis=1, keepdims=True)
        self._mix = mix / np.where(total > 0, total, 1.0)
        self._has_mix: npt.NDArray[np.bool_] = np.asarray(total[:, 0] > 0)
        self._values, self._shares = _padded(shares, ids)
        self._valued: npt.NDArray[np.bool_] = np.asarray((self._shares > 0).any(axis=2))
        self._sums = np.zeros_like(mix)
        """Σ of the shares of what was chosen, (R, values)."""
        self._count = np.zeros(len(mix))
        """Chosen items that have a value."""
        place = np.arange(len(mix))[:, None, None]
        self._own_mix = self._mix[place, self._values]

    def values(self) -> Doubles:
        with np.errstate(divide="ignore", invalid="ignore"):
            without = self._divergence(np.maximum(self._count, 1.0))
            grown = self._count + 1.0
            base = self._divergence(grown)
        sums = self._sums[np.arange(len(self._sums))[:, None, None], self._values]
        counted = (self._shares > 0) & (self._own_mix > 0)
        before = (1 - ALPHA) * sums / grown[:, None, None] + ALPHA * self._own_mix
        after = (1 - ALPHA) * (sums + self._shares) / grown[:, None, None] + ALPHA * self._own_mix
        ratio = np.where(counted, after, 1.0) / np.where(counted, before, 1.0)
        with_it = base[:, None] - (self._own_mix * np.log(ratio)).sum(axis=2)
        divergence = np.where(self._valued, with_it, without[:, None])
        return self._relevance - self._weight * np.where(self._has_mix[:, None], divergence, 0.0)

    def add(self, rows: Places, places: Places) -> None:
        values, shares = self._values[rows, places], self._shares[rows, places]
        np.add.at(self._sums, (np.repeat(rows, values.shape[1]), values.ravel()), shares.ravel())
        self._count[rows] += self._valued[rows, places]

    def _divergence(self, count: Doubles) -> Doubles:
        """Return KL(p, q̃) where the shares that were chosen are divided by this count, (R,)."""
        other = (1 - ALPHA) * self._sums / count[:, None] + ALPHA * self._mix
        terms = self._mix * np.log(np.where(self._mix > 0, self._mix / np.where(other > 0, other, 1.0), 1.0))
        return np.asarray(terms.sum(axis=1))


def _padded(shares: sp.csr_matrix, ids: Ids) -> tuple[Places, Doubles]:
    """Return the values of the candidates and their shares, each (R, P, width); shares of 0 fill up."""
    rows = shares[np.maximum(ids, 0).ravel()]
    lengths = np.diff(rows.indptr)
    width = max(1, int(np.diff(shares.indptr).max(initial=0)))
    values = np.zeros((len(lengths), width), dtype=np.int64)
    found = np.zeros((len(lengths), width))
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(rows.indptr[:-1], lengths)
    values[row, place], found[row, place] = rows.indices, rows.data
    found[(ids < 0).ravel()] = 0.0
    return values.reshape(*ids.shape, width), found.reshape(*ids.shape, width)
