"""Metrics beyond accuracy: how much of the catalog is recommended, how evenly, how popular and how varied it is.

`ids` are (B, N) item indices in rank order, -1 in empty slots. Only ranks are read, never scores, so ties do not
matter. No metric here reads the held-out items.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError

Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.integer]
PerUser = npt.NDArray[np.float64]


def recommendation_counts(ids: Ids, n_items: int, k: int) -> npt.NDArray[np.int64]:
    """Return how often each item is among the first k of a list, (n_items,).

    The counts of several blocks of users may be added up.
    """
    top = ids[:, :k]
    return np.bincount(top[top >= 0], minlength=n_items).astype(np.int64)


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

    Args:
        counts: (n_items,) from `recommendation_counts`.
    """
    return float(np.count_nonzero(counts) / len(counts))


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

    Args:
        counts: (n_items,) from `recommendation_counts`.
    """
    n, total = len(counts), float(counts.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * total))


def novelty(ids: Ids, popularity: Counts, n_users: int, k: int) -> PerUser:
    """Mean self-information of a user's first k items, in bits.

    Formula: mean of -log2(p_i), where p_i = max(popularity_i, 1) / n_users is the share of users who have the item.
    Denominator: the filled slots of the first k; NaN where there is none.
    Range: 0 to log2(n_users); rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: Zhou et al. 2010. An item that no user has counts as if one user had it, so that no value is infinite.

    Args:
        popularity: (n_items,) number of users with each item in training.
        n_users: number of users in training.
    """
    return _mean_of_items(ids, np.log2(n_users) - np.log2(np.maximum(popularity, 1)), k)


def average_popularity(ids: Ids, popularity: Counts, k: int) -> PerUser:
    """Mean number of training interactions of a user's first k items.

    Formula: mean of popularity_i.
    Denominator: the filled slots of the first k; NaN where there is none.
    Range: 0 to the interactions of the most popular item; rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: ARP of Abdollahpouri et al. 2019.

    Args:
        popularity: (n_items,) number of training interactions of each item.
    """
    return _mean_of_items(ids, popularity.astype(np.float64), k)


def unit_rows(vectors: Any, n_items: int) -> Any:
    """Return the item vectors scaled to length 1 in their own floating-point type; zero vectors stay zero.

    Args:
        vectors: (n_items, d) array or sparse matrix: a model's embeddings, or features such as one-hot genres.

    Raises:
        DataError: there is not one row of finite numbers per item.
    """
    sparse = bool(sp.issparse(vectors))
    table = vectors.tocsr() if sparse else np.asarray(vectors)
    if table.ndim != 2 or table.shape[0] != n_items or table.dtype.kind not in "biuf":
        raise DataError(
            f"item vectors must be numbers of shape (n_items, d) with one row for each of the {n_items} items, "
            f"got {table.dtype} of shape {table.shape}"
        )
    table = table.astype(table.dtype if table.dtype in (np.float32, np.float64) else np.float64)
    values = table.data if sparse else table
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong:
        raise DataError(f"{wrong} numbers in the item vectors are NaN or infinite")
    lengths = np.sqrt(_squares(table))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(table.dtype)
    return sp.diags_array(scale).tocsr() @ table if sparse else table * scale[:, None]


def diversity(ids: Ids, units: Any, k: int) -> PerUser:
    """Intra-list diversity: how different the first k items are from each other.

    Formula: mean of 1 - cos(v_i, v_j) over all pairs i < j of the items, v the item vectors given to `evaluate`.
    Denominator: n · (n - 1) / 2, the pairs of the n filled slots of the first k; NaN below two.
    Range: 0 to 2, to 1 where no vector has negative numbers; rises or falls with k.
    Cut-off: ranks beyond k are not read; empty slots are not counted.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean: no list is made for such users.
    Paper: Smyth and McClave 2001; 1 minus the mean of the intra-list similarity of Ziegler et al. 2005. An item
        with a zero vector has distance 1 to all others.

    Args:
        units: (n_items, d) from `unit_rows`.
    """
    # With unit vectors, |Σ v|² = Σ |v|² + 2 · Σ_{i<j} cos: one sum per list, without forming any pair.
    top = ids[:, :k]
    filled = top >= 0
    n = np.count_nonzero(filled, axis=1)
    starts = np.append(0, np.cumsum(n))
    chosen = sp.csr_matrix(
        (np.ones(starts[-1], dtype=units.dtype), top[filled], starts), shape=(len(ids), units.shape[0])
    )
    twice = _squares(chosen @ units) - chosen @ _squares(units)
    cosine = np.full(len(ids), np.nan)
    np.divide(twice, n * (n - 1), out=cosine, where=n > 1)
    distance: PerUser = np.clip(1 - cosine, 0.0, 2.0)  # only rounding leaves these bounds
    return distance


def _squares(table: Any) -> PerUser:
    """Return the squared length of each row."""
    if bool(sp.issparse(table)):
        return np.asarray(table.multiply(table).sum(axis=1), dtype=np.float64).ravel()
    squares: PerUser = np.einsum("ij,ij->i", table, table, dtype=np.float64)
    return squares


def _mean_of_items(ids: Ids, values: npt.NDArray[np.float64], k: int) -> PerUser:
    top = ids[:, :k]
    filled = top >= 0
    count = np.count_nonzero(filled, axis=1)
    mean = np.full(len(ids), np.nan)
    np.divide(np.where(filled, values[top], 0.0).sum(axis=1), count, out=mean, where=count > 0)
    return mean
