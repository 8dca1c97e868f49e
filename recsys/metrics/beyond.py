"""What is recommended, beyond whether it was right: how much of the catalogue, how evenly, how popular.

`ids` are (B, N) item indices in rank order, -1 in empty slots. Only ranks are read: ties are whatever order the list
came in. No metric here reads the held-out items.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.integer]
PerUser = npt.NDArray[np.float64]
CatalogueMetric = Callable[[Counts], float]


def recommendation_counts(ids: Ids, n_items: int, k: int) -> npt.NDArray[np.int64]:
    """Return how often each item is among the first k of a list, (n_items,); counts of blocks of users add up."""
    top = ids[:, :k]
    return np.bincount(top[top >= 0], minlength=n_items).astype(np.int64)


def coverage(counts: Counts) -> float:
    """Catalogue coverage: share of the items that are recommended to anyone.

    The denominator is the whole catalogue (every item of training), also where the lists together have fewer slots
    than the catalogue has items. Ge et al. 2010.

    Args:
        counts: (n_items,) from `recommendation_counts`.
    """
    return float(np.count_nonzero(counts) / len(counts))


def gini(counts: Counts) -> float:
    """Gini index of how often each item of the catalogue is recommended.

    G = Σ_{j=1..n} (2j - n - 1) · c_(j) / (n · Σ c) with the n counts in ascending order, items never recommended
    included: 0 when all are recommended equally often, 1 - 1/n when one item takes every slot. NaN when nothing is
    recommended. As used for sales of recommended goods by Fleder and Hosanagar 2009.

    Args:
        counts: (n_items,) from `recommendation_counts`.
    """
    n, total = len(counts), float(counts.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * total))


def novelty(ids: Ids, popularity: Counts, n_users: int, k: int) -> PerUser:
    """Mean self-information of a user's first k items, in bits.

    -log2(p_i) with p_i = popularity_i / n_users, the share of users who have the item; the mean is over the filled
    slots. An item that no user has counts as if one had it, so that no value is infinite. NaN for users whose list
    is empty. Zhou et al. 2010.

    Args:
        popularity: (n_items,) number of users with each item in training.
        n_users: number of users in training.
    """
    return _mean_of_items(ids, np.log2(n_users) - np.log2(np.maximum(popularity, 1)), k)


def average_popularity(ids: Ids, popularity: Counts, k: int) -> PerUser:
    """Mean number of training interactions of a user's first k items.

    The mean is over the filled slots; NaN for users whose list is empty. ARP of Abdollahpouri et al. 2019.

    Args:
        popularity: (n_items,) number of training interactions of each item.
    """
    return _mean_of_items(ids, popularity.astype(np.float64), k)


def _mean_of_items(ids: Ids, values: npt.NDArray[np.float64], k: int) -> PerUser:
    top = ids[:, :k]
    filled = top >= 0
    count = np.count_nonzero(filled, axis=1)
    mean = np.full(len(ids), np.nan)
    np.divide(np.where(filled, values[top], 0.0).sum(axis=1), count, out=mean, where=count > 0)
    return mean
