"""Metrics beyond accuracy: how much of the catalog is recommended, how evenly, how popular and how varied it is.

`ids` are (B, N) item indices in rank order, -1 in empty slots; `counts` (n_items,) says how often each item is
recommended, `popularity` (n_items,) how many users have it in training. Only ranks are read, never scores, so ties do
not matter. No metric here reads the held-out items.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.metrics.lists import Counts, Ids, PerUser, squared_lengths
from recsys.metrics.ranking import divide
from recsys.metrics.registry import metric


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
