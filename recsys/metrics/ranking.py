"""Accuracy of top-N lists with binary relevance: each metric is a function of hits, per user.

Every metric takes `hits` (B, N) bool in rank order, `n_relevant` (B,) the number |T| of relevant items of each user,
found or not, and the cut-off k, and returns (B,) float64. Columns beyond k are ignored; a list shorter than k counts as
if it were padded with misses. Only ranks are read, never scores, so ties keep the order of the list; models of this
package break them by item index. A user without relevant items has no value: NaN, left out of means and of their n.

All docstrings state the same fields in the same order; docs/metrics.md is generated from them.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError, OutOfRangeError

Hits = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.integer]
PerUser = npt.NDArray[np.float64]


def hits(ids: npt.NDArray[np.integer], target: sp.csr_matrix) -> Hits:
    """Return which recommended items are relevant: stored in `target`, with any value.

    Args:
        ids: (B, N) item indices in rank order, -1 in empty slots.
        target: (B, n_items) csr of the same users' relevant items.

    Returns:
        (B, N) bool; an empty slot is never a hit.

    Raises:
        DataError: the numbers of rows differ, or a list holds a relevant item twice.
        OutOfRangeError: an id lies outside -1..n_items-1.
    """
    n_rows, n_items = target.shape
    if ids.ndim != 2 or len(ids) != n_rows:
        raise DataError(f"ids must have shape (n_users, N) with one row per target row ({n_rows}), got {ids.shape}")
    if ids.size and (ids.min() < -1 or ids.max() >= n_items):
        raise OutOfRangeError(f"item ids must lie in -1..{n_items - 1}, got {ids.min()}..{ids.max()}")
    # One sorted key per (row, item) makes membership a single search over all users.
    starts = np.arange(n_rows, dtype=np.int64) * n_items
    known = np.repeat(starts, np.diff(target.indptr)) + target.indices
    if not target.has_sorted_indices:
        known = np.sort(known)
    asked = starts[:, None] + ids
    place = np.searchsorted(known, asked)
    found: Hits = (ids >= 0) & (np.append(known, -1)[place] == asked)
    if len(np.unique(asked[found])) != np.count_nonzero(found):
        raise DataError("a list of recommendations holds an item more than once; each item may be recommended once")
    return found


def ndcg(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Normalized discounted cumulative gain at k.

    Formula: Σ_{r=1..k} hit_r / log2(r + 1), divided by the same sum of an ideal list.
    Denominator: Σ_{r=1..min(k, |T|)} 1 / log2(r + 1); the ideal is cut at min(k, |T|), so that users with fewer than k
        relevant items can reach 1.
    Range: 0 to 1; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Järvelin and Kekäläinen 2002, with the binary gain and the cut of Liang et al. 2018.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.append(0.0, np.cumsum(discounts))[np.minimum(n_relevant, k)]
    top = hits[:, :k]
    return _divide(top @ discounts[: top.shape[1]], ideal)


def recall(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Recall at k.

    Formula: hits in the first k, divided by |T|.
    Denominator: |T|; users with more than k relevant items cannot reach 1 (`truncated_recall` can).
    Range: 0 to min(k, |T|) / |T|; never falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Manning et al. 2008, §8.3, with the cut-off of LightGCN (He et al. 2020) and its successors.
    """
    return _divide(_found(hits, k), n_relevant)


def truncated_recall(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Truncated recall at k, also called calibrated recall.

    Formula: hits in the first k, divided by min(k, |T|).
    Denominator: min(k, |T|): 1 when all the first k are relevant, or all relevant items are among them.
    Range: 0 to 1; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: "Recall@R" of Liang et al. 2018 and the papers that follow its protocol.
    """
    return _divide(_found(hits, k), np.minimum(n_relevant, k))


def precision(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Precision at k.

    Formula: hits in the first k, divided by k.
    Denominator: k, even where the list is shorter; users with fewer than k relevant items cannot reach 1.
    Range: 0 to min(k, |T|) / k; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Manning et al. 2008, §8.4.
    """
    return _divide(_found(hits, k), np.where(n_relevant > 0, k, 0))


def average_precision(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Average precision at k; its mean over users is MAP.

    Formula: Σ_{r=1..k} hit_r · (hits in the first r) / r, divided by min(k, |T|).
    Denominator: min(k, |T|), so that a perfect list scores 1; trec_eval divides by |T|.
    Range: 0 to 1; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Manning et al. 2008, §8.4, with a cut-off.
    """
    top = hits[:, :k]
    precisions = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return _divide((precisions * top).sum(axis=1), np.minimum(n_relevant, k))


def mrr(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Reciprocal rank at k; its mean over users is MRR.

    Formula: 1 / r for the first hit at rank r, 0 without a hit in the first k.
    Denominator: the rank of the first hit.
    Range: 0 to 1; never falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Voorhees 1999, with a cut-off.
    """
    top = hits[:, :k]
    ranks = np.arange(1, top.shape[1] + 1)
    return np.where(n_relevant > 0, (top / ranks).max(axis=1, initial=0.0), np.nan)


def hit_rate(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Hit rate at k.

    Formula: 1 if at least one of the first k is relevant, else 0.
    Denominator: none; with one held-out item per user it equals recall.
    Range: 0 or 1; never falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Deshpande and Karypis 2004, who hold out one item per user.
    """
    return np.where(n_relevant > 0, hits[:, :k].any(axis=1).astype(np.float64), np.nan)


def _found(hits: Hits, k: int) -> Counts:
    return np.asarray(np.count_nonzero(hits[:, :k], axis=1))


def _divide(numerator: npt.NDArray[np.number], denominator: npt.NDArray[np.number]) -> PerUser:
    """Divide, with NaN where the denominator is 0."""
    quotient = np.full(len(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
