"""What a metric can read of recommendation lists: each attribute is computed when it is first read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError, OutOfRangeError
from recsys.mapped import column_counts

Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.integer]
Hits = npt.NDArray[np.bool_]
PerUser = npt.NDArray[np.float64]

GAMMA: Final = 0.5
"""Exponent of `stratified_recall`: halfway between recall (0) and a weight that cancels popularity (1)."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """What is known of the items, the same for every list."""

    user_items: sp.csr_matrix
    """(n_users, n_items) csr of the users and items from which popularity is counted."""
    item_vectors: Any = None
    """(n_items, d) array or sparse matrix, as given to `evaluate`."""

    @cached_property
    def n_users(self) -> int:
        """Number of users from which popularity is counted."""
        return int(self.user_items.shape[0])

    @cached_property
    def popularity(self) -> Counts:
        """(n_items,) number of users who have each item."""
        return column_counts(self.user_items)

    @cached_property
    def popularity_weights(self) -> PerUser:
        """(n_items,) weight max(popularity_i, 1)^-γ of each item in `stratified_recall`."""
        return np.maximum(self.popularity, 1).astype(np.float64) ** -GAMMA

    @cached_property
    def popularity_ranks(self) -> npt.NDArray[np.int64]:
        """(n_items,) place of each item, from 0, among all items by falling popularity; ties by item index."""
        return np.argsort(np.argsort(-self.popularity, kind="stable"))

    @cached_property
    def unit_vectors(self) -> Any:
        """(n_items, d) item vectors of length 1."""
        return unit_rows(self.item_vectors, self.user_items.shape[1])


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of a block of B users, and what they are measured by."""

    catalog: Catalog
    ids: Ids
    """(B, N) item indices in rank order, -1 in empty slots; columns beyond the cut-off k are to be ignored."""
    relevant: sp.csr_matrix
    """(B, n_items) csr of each user's relevant items."""
    seen: sp.csr_matrix
    """(B, n_items) csr of the items that are never recommended to each user."""

    @cached_property
    def hits(self) -> Hits:
        """(B, N) bool, whether each recommended item is relevant: stored in `relevant`, with any value."""
        ids, (n_rows, n_items) = self.ids, self.relevant.shape
        if ids.ndim != 2 or len(ids) != n_rows:
            raise DataError(f"ids must have shape (n_users, N) with one row per target row ({n_rows}), got {ids.shape}")
        if ids.size and (ids.min() < -1 or ids.max() >= n_items):
            raise OutOfRangeError(f"item ids must lie in -1..{n_items - 1}, got {ids.min()}..{ids.max()}")
        # One sorted key per (row, item) makes membership a single search over all users.
        starts = np.arange(n_rows, dtype=np.int64) * n_items
        known = np.repeat(starts, self.n_relevant) + self.relevant.indices
        if not self.relevant.has_sorted_indices:
            known = np.sort(known)
        asked = starts[:, None] + ids
        found: Hits = (ids >= 0) & (np.append(known, -1)[np.searchsorted(known, asked)] == asked)
        if len(np.unique(asked[found])) != np.count_nonzero(found):
            raise DataError("a list of recommendations holds an item more than once; each item may be recommended once")
        return found

    @cached_property
    def n_relevant(self) -> Counts:
        """(B,) number of each user's relevant items."""
        return np.asarray(np.diff(self.relevant.indptr))

    @cached_property
    def popular_places(self) -> Ids:
        """(B, N) place of each recommended item, from 0, in the user's list of the most popular unseen items."""
        # Place among all items, minus the seen items before it: one search in the sorted (row, place) keys of these.
        # The places of empty slots have no meaning.
        place, (n_rows, n_items) = self.catalog.popularity_ranks, self.seen.shape
        starts = np.arange(n_rows, dtype=np.int64) * n_items
        keys = np.sort(np.repeat(starts, np.diff(self.seen.indptr)) + place[self.seen.indices])
        own = place[self.ids]
        return np.asarray(own - np.searchsorted(keys, starts[:, None] + own) + self.seen.indptr[:-1, None])


def recommendation_counts(ids: Ids, n_items: int, k: int) -> npt.NDArray[np.int64]:
    """Return how often each item is among the first k of a list, (n_items,); counts of several blocks add up."""
    top = ids[:, :k]
    return np.bincount(top[top >= 0], minlength=n_items).astype(np.int64)


def unit_rows(vectors: Any, n_items: int) -> Any:
    """Return the item vectors scaled to length 1 in their own floating-point type; zero vectors stay zero."""
    sparse = bool(sp.issparse(vectors))
    table = vectors.tocsr() if sparse else np.asarray(vectors)
    if table.ndim != 2 or table.shape[0] != n_items or table.dtype.kind not in "biuf":
        raise DataError(
            f"item vectors must be numbers of shape (n_items, d) with one row for each of the {n_items} items, "
            f"got {table.dtype} of shape {table.shape}"
        )
    table = table.astype(table.dtype if table.dtype in (np.float32, np.float64) else np.float64)
    wrong = np.count_nonzero(~np.isfinite(table.data if sparse else table))
    if wrong:
        raise DataError(f"{wrong} numbers in the item vectors are NaN or infinite")
    lengths = np.sqrt(squared_lengths(table))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(table.dtype)
    return sp.diags_array(scale).tocsr() @ table if sparse else table * scale[:, None]


def squared_lengths(table: Any) -> PerUser:
    """Return the squared length of each row."""
    if bool(sp.issparse(table)):
        return np.asarray(table.multiply(table).sum(axis=1), dtype=np.float64).ravel()
    squares: PerUser = np.einsum("ij,ij->i", table, table, dtype=np.float64)
    return squares


def _attributes(cls: type) -> frozenset[str]:
    lazy = {name for name, value in vars(cls).items() if isinstance(value, cached_property)}
    return frozenset(lazy | set(cls.__annotations__) - {"catalog"})


OF_CATALOG = _attributes(Catalog)
OF_LISTS = _attributes(Lists)
