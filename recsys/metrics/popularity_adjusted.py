"""Accuracy of top-N lists, adjusted for popularity: rare hits weigh more, or hits on popular items do not count.

`ids` (B, N), `hits` (B, N) and `n_relevant` (B,) are as in `recsys.metrics.ranking`; the popularity of an item is the
number of users who have it in training.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ids = npt.NDArray[np.integer]
Hits = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.integer]
PerUser = npt.NDArray[np.float64]

GAMMA: Final = 0.5
"""Exponent of `stratified_recall`: halfway between recall (0) and a weight that cancels popularity (1)."""


def weights(popularity: Counts) -> PerUser:
    """Return the weight max(popularity_i, 1)^-γ of each item in `stratified_recall`, (n_items,)."""
    return np.maximum(popularity, 1).astype(np.float64) ** -GAMMA


def stratified_recall(hits: Hits, ids: Ids, relevant: sp.csr_matrix, weight: PerUser, k: int) -> PerUser:
    """Popularity-stratified recall at k: recall in which a rare item weighs more than a popular one.

    Formula: Σ w_i over the hits in the first k, divided by Σ w_i over T, with w_i = max(popularity_i, 1)^-γ, γ = 0.5.
    Denominator: Σ_{i in T} w_i; if all items are equally popular it is `recall`.
    Range: 0 to 1; never falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Steck 2011, where users are weighted by Σ_{i in T} w_i; here all users weigh the same, as in other metrics.

    Args:
        relevant: (B, n_items) csr of the same users' relevant items.
        weight: (n_items,) from `weights`.
    """
    top = ids[:, :k]
    found = np.where(hits[:, :k], weight[top], 0.0).sum(axis=1)
    n = np.diff(relevant.indptr)
    total = np.bincount(np.repeat(np.arange(len(n)), n), weights=weight[relevant.indices], minlength=len(n))
    value = np.full(len(n), np.nan)
    np.divide(found, total, out=value, where=n > 0)
    bounded: PerUser = np.minimum(value, 1.0)  # rounding: the two sums add the weights in different orders
    return bounded


def popular_first(popularity: Counts) -> npt.NDArray[np.int64]:
    """Return each item's place, from 0, among all items by falling popularity, ties by item index; (n_items,)."""
    place = np.empty(len(popularity), dtype=np.int64)
    place[np.argsort(-popularity.astype(np.int64), kind="stable")] = np.arange(len(popularity))
    return place


def popular_places(ids: Ids, place: npt.NDArray[np.int64], seen: sp.csr_matrix) -> npt.NDArray[np.int64]:
    """Return the place, from 0, of each recommended item in the user's list of the most popular unseen items.

    Args:
        place: (n_items,) from `popular_first`.
        seen: (B, n_items) csr of the items that are never recommended to these users.

    Returns:
        (B, N); the places of empty slots have no meaning.
    """
    # Place among all items, minus the seen items before it: one search in the sorted (row, place) keys of seen items.
    n_rows, n_items = seen.shape
    starts = np.arange(n_rows, dtype=np.int64) * n_items
    keys = np.sort(np.repeat(starts, np.diff(seen.indptr)) + place[seen.indices])
    own = place[ids]
    before = np.searchsorted(keys, starts[:, None] + own) - seen.indptr[:-1, None]
    return np.asarray(own - before, dtype=np.int64)


def serendipity(hits: Hits, places: Ids, n_relevant: Counts, k: int) -> PerUser:
    """Serendipity at k: hits that the list of the most popular items would have missed.

    Formula: number of hits in the first k that are not among the k most popular items the user has not seen, divided
        by k.
    Denominator: k. Ge et al. divide by the number of unexpected items, so that a list with only one could score 1.
    Range: 0 to `precision`; rises or falls with k.
    Cut-off: ranks beyond k are not read, here and in the popular list; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter; equally popular items are ordered by index.
    No relevant items: NaN, left out of the mean.
    Paper: Ge et al. 2010, with popularity as the primitive model of Murakami et al. 2008.

    Args:
        places: (B, N) from `popular_places`.
    """
    found = np.count_nonzero(hits[:, :k] & (places[:, :k] >= k), axis=1) / k
    return np.where(n_relevant > 0, found, np.nan)
