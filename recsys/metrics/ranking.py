"""Metrics of top-N lists: how many of a user's relevant items are found, and what is recommended to whom.

The parameters of a function are attributes of `Lists`, for a block of B users, and of `Catalog`, and the cut-off k; it
returns (B,) float64. Columns beyond k are ignored; a list shorter than k counts as if it were padded with misses. Only
ranks are read, never scores, so ties keep the order of the list; models of this package break them by item index. Users
without a value have NaN, left out of means and of their n. Metrics of all lists together read `counts` (n_items,), how
often each item is recommended, and return one number. |T| is a user's number of relevant items.

All docstrings state the same fields in the same order; docs/metrics.md is generated from them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.metrics.lists import Counts, Hits, Ids, PerUser, squared_lengths
from recsys.metrics.registry import metric


@metric("ndcg", "hits, the higher in the list the more, against the best possible list")
def ndcg(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Normalized discounted cumulative gain at k.

    Formula: Σ_{r=1..k} hit_r / log2(r + 1), divided by the same sum of an ideal list.
    Denominator: Σ_{r=1..min(k, |T|)} 1 / log2(r + 1); the ideal is cut at min(k, |T|), so that users with fewer than k
        relevant items can reach 1. LensKit weighs rank r by 1 / max(log2(r), 1), here and in the formula, so that the
        first two ranks weigh the same.
    Range: 0 to 1; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Järvelin and Kekäläinen 2002, with the binary gain and the cut of Liang et al. 2018.
    """
    top = hits[:, :k]
    longest = min(k, max(top.shape[1], int(n_relevant.max(initial=0))))  # k may lie far beyond every list
    discounts = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.append(0.0, np.cumsum(discounts))[np.minimum(n_relevant, k)]
    return divide(top @ discounts[: top.shape[1]], ideal)


@metric("recall", "share of a user's held-out items that are in the list")
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
    return divide(hits[:, :k].sum(axis=1), n_relevant)


@metric("truncated_recall", "share of a user's held-out items that are in the list, of no more than it can hold")
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
    return divide(hits[:, :k].sum(axis=1), np.minimum(n_relevant, k))


@metric("precision", "share of the list that is held out")
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
    return divide(hits[:, :k].sum(axis=1), np.where(n_relevant > 0, k, 0))


@metric("map", "precision at each hit, averaged")
def average_precision(hits: Hits, n_relevant: Counts, k: int) -> PerUser:
    """Average precision at k; its mean over users is MAP.

    Formula: Σ_{r=1..k} hit_r · (hits in the first r) / r, divided by min(k, |T|).
    Denominator: min(k, |T|), so that a perfect list scores 1; trec_eval divides by |T|, torchmetrics by the hits in the
        first k, so that one hit at rank 1 scores 1 there, whatever else is missed.
    Range: 0 to 1; rises or falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Manning et al. 2008, §8.4, with a cut-off.
    """
    top = hits[:, :k]
    precisions = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return divide((precisions * top).sum(axis=1), np.minimum(n_relevant, k))


@metric("mrr", "1 / rank of the first hit")
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


@metric("hit_rate", "share of users with a hit")
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


@metric("stratified_recall", "recall in which rare items count more")
def stratified_recall(hits: Hits, ids: Ids, relevant: sp.csr_matrix, popularity_weights: PerUser, k: int) -> PerUser:
    """Popularity-stratified recall at k: recall in which a rare item weighs more than a popular one.

    Formula: Σ w_i over the hits in the first k, divided by Σ w_i over T, with w_i = max(popularity_i, 1)^-γ, γ = 0.5.
    Denominator: Σ_{i in T} w_i; if all items are equally popular it is `recall`.
    Range: 0 to 1; never falls with k.
    Cut-off: ranks beyond k are not read; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: Steck 2011, where users are weighted by Σ_{i in T} w_i; here all users weigh the same, as in other metrics.
    """
    weights, n = popularity_weights, np.diff(relevant.indptr)
    found = np.where(hits[:, :k], weights[ids[:, :k]], 0.0).sum(axis=1)
    total = np.bincount(np.repeat(np.arange(len(n)), n), weights=weights[relevant.indices], minlength=len(n))
    return np.minimum(divide(found, total), 1.0)  # rounding: the two sums add the weights in different orders


@metric("serendipity", "hits that the most popular items would not have given")
def serendipity(hits: Hits, popular_places: Ids, n_relevant: Counts, k: int) -> PerUser:
    """Serendipity at k: hits that the list of the most popular items would have missed.

    Formula: number of hits in the first k that are not among the k most popular items the user has not seen, divided
        by k.
    Denominator: k. Ge et al. divide by the number of unexpected items, so that a list with only one could score 1.
    Range: 0 to `precision`; rises or falls with k.
    Cut-off: ranks beyond k are not read, here and in the popular list; a shorter list counts as padded with misses.
    Ties: rank based, so ties do not matter; equally popular items are ordered by index.
    No relevant items: NaN, left out of the mean.
    Paper: Ge et al. 2010, with popularity as the primitive model of Murakami et al. 2008.
    """
    found = np.count_nonzero(hits[:, :k] & (popular_places[:, :k] >= k), axis=1) / k
    return np.where(n_relevant > 0, found, np.nan)


@metric("coverage", "share of the catalog recommended to anyone", unit="share of the catalog")
def coverage(counts: Counts) -> float:
    """Catalog coverage: share of the items that are recommended to anyone.

    Formula: number of items in at least one list, divided by the number of items.
    Denominator: all items of the catalog (every item of training), even where the lists together have fewer slots than
        the catalog has items.
    Range: 0 to 1; never falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: no list is made for such users.
    Paper: Ge et al. 2010.
    """
    return float(np.count_nonzero(counts) / len(counts))


@metric("gini", "how unevenly items are recommended; 0 is evenly", higher_is_better=False, unit="index, 0 to 1")
def gini(counts: Counts) -> float:
    """Gini index of how often each item of the catalog is recommended.

    Formula: Σ_{j=1..n} (2j - n - 1) · c_(j) / (n · Σ c) with the n counts in ascending order, items never recommended
        included.
    Denominator: n · Σ c, items times filled slots; NaN where nothing is recommended.
    Range: 0 when all are recommended equally often, 1 - 1/n when one item takes every slot; rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: no list is made for such users.
    Paper: Fleder and Hosanagar 2009, who apply it to the sales of recommended products.
    """
    n, total = len(counts), float(counts.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * total))


@metric("novelty", "surprise at a recommended item, in bits", unit="bits")
def novelty(ids: Ids, popularity: Counts, n_users: int, k: int) -> PerUser:
    """Mean self-information of a user's first k items, in bits.

    Formula: mean of -log2(p_i), where p_i = max(popularity_i, 1) / n_users is the share of users who have the item.
    Denominator: the filled slots of the first k; NaN where there is none.
    Range: 0 to log2(n_users); rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: Zhou et al. 2010. An item that no user has counts as if one user had it, so that no value is infinite.
    """
    return _mean_of_items(ids, np.log2(n_users) - np.log2(np.maximum(popularity, 1)), k)


@metric(
    "average_popularity",
    "training interactions of a recommended item",
    higher_is_better=False,
    unit="training interactions",
)
def average_popularity(ids: Ids, popularity: Counts, k: int) -> PerUser:
    """Mean number of training interactions of a user's first k items.

    Formula: mean of popularity_i.
    Denominator: the filled slots of the first k; NaN where there is none.
    Range: 0 to the interactions of the most popular item; rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: ARP of Abdollahpouri et al. 2019.
    """
    return _mean_of_items(ids, popularity.astype(np.float64), k)


@metric("diversity", "how little the items of a list are alike", unit="mean of 1 - cosine")
def diversity(ids: Ids, unit_vectors: Any, k: int) -> PerUser:
    """Intra-list diversity: how different the first k items are from each other.

    Formula: mean of 1 - cos(v_i, v_j) over all pairs i < j of the items, v the item vectors given to `evaluate`.
    Denominator: n · (n - 1) / 2, the pairs of the n filled slots of the first k; NaN below two.
    Range: 0 to 2, to 1 where no vector has negative numbers; rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: Smyth and McClave 2001; 1 minus the mean of the intra-list similarity of Ziegler et al. 2005. An item
        with a zero vector has distance 1 to all others.
    """
    # With unit vectors, |Σ v|² = Σ |v|² + 2 · Σ_{i<j} cos: one sum per list, without forming any pair.
    top = ids[:, :k]
    n = np.count_nonzero(top >= 0, axis=1)
    starts = np.append(0, np.cumsum(n))
    ones = np.ones(starts[-1], dtype=unit_vectors.dtype)
    chosen = sp.csr_matrix((ones, top[top >= 0], starts), shape=(len(ids), unit_vectors.shape[0]))
    twice = squared_lengths(chosen @ unit_vectors) - chosen @ squared_lengths(unit_vectors)
    distance: PerUser = np.clip(1 - divide(twice, n * (n - 1)), 0.0, 2.0)  # only rounding leaves these bounds
    return distance


def _mean_of_items(ids: Ids, values: npt.NDArray[np.float64], k: int) -> PerUser:
    top = ids[:, :k]
    return divide(np.where(top >= 0, values[top], 0.0).sum(axis=1), np.count_nonzero(top >= 0, axis=1))


def divide(numerator: npt.NDArray[np.number], denominator: npt.NDArray[np.number]) -> PerUser:
    """Divide, with NaN where the denominator is 0."""
    quotient = np.full(len(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
