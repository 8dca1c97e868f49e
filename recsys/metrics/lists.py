"""What a metric can read of recommendation lists: each attribute is computed when it is first read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.metrics import beyond, popularity_adjusted, ranking
from recsys.metrics.beyond import Counts, Ids, PerUser
from recsys.metrics.ranking import Hits


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
        return np.bincount(self.user_items.indices, minlength=self.user_items.shape[1])

    @cached_property
    def popularity_weights(self) -> PerUser:
        """(n_items,) weights of `stratified_recall`."""
        return popularity_adjusted.weights(self.popularity)

    @cached_property
    def popularity_ranks(self) -> npt.NDArray[np.int64]:
        """(n_items,) place of each item, from 0, among all items by falling popularity."""
        return popularity_adjusted.popular_first(self.popularity)

    @cached_property
    def unit_vectors(self) -> Any:
        """(n_items, d) item vectors of length 1."""
        return beyond.unit_rows(self.item_vectors, self.user_items.shape[1])


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
        """(B, N) bool, whether each recommended item is relevant."""
        return ranking.hits(self.ids, self.relevant)

    @cached_property
    def n_relevant(self) -> Counts:
        """(B,) number of each user's relevant items."""
        return np.asarray(np.diff(self.relevant.indptr))

    @cached_property
    def popular_places(self) -> Ids:
        """(B, N) place of each recommended item, from 0, in the user's list of the most popular unseen items."""
        return popularity_adjusted.popular_places(self.ids, self.catalog.popularity_ranks, self.seen)


def _attributes(cls: type) -> frozenset[str]:
    lazy = {name for name, value in vars(cls).items() if isinstance(value, cached_property)}
    return frozenset(lazy | set(cls.__annotations__) - {"catalog"})


OF_CATALOG = _attributes(Catalog)
OF_LISTS = _attributes(Lists)
