"""Lists without the scores of all items: an index finds the items whose vectors have the largest products (faiss)."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.extras import check_installed
from recsys.models import Recommender
from recsys.models.fallback import readable
from recsys.models.selection import Indices, check_length, indices
from recsys.params import Seed, check_count, check_value
from recsys.ranking import Ids, Scores

_BLOCK: Final = 4096
"""Users searched for at a time."""
_POINTS: Final = 64
"""Vectors of items per list by which the lists are chosen."""
SAMPLE: Final = 1000
"""Users on whom `calibrate` measures."""


class ItemIndex:
    """An index of a model's items, which recommends as the model does, but looks at a part of the items.

    For models whose score of an item is q · w + b, with a vector q of the history and a vector w and an offset b of the
    item: autoencoders with an affine last layer, ALS and BPR. The items are divided into lists by k-means of their
    vectors (Sivic and Zisserman 2003; `IndexIVFFlat` of faiss), and a search reads the `probes` lists whose means have
    the largest products with the vector of the user. What it finds has the model's scores up to rounding; what it
    misses is in other lists. With as many probes as lists nothing is missed.

    Users whom the model gives the most popular items, and those for whom too few items are found, get the exact lists.
    """

    def __init__(self, model: Recommender, *, lists: int | None = None, seed: int = 0) -> None:
        """Build the index; it holds a copy of the items' vectors.

        Args:
            lists: into how many the items are divided; by default twice the root of their number.
            seed: of the k-means.

        Raises:
            NotFittedError: the model is not fitted.
            UnsupportedError: its scores are no products of vectors.
            ConfigError: faiss is not installed, or `lists` are not from 1 to the number of items.
        """
        model._check_fitted()
        check_faiss()
        import faiss

        weights, offsets = item_table(model)
        vectors = torch.cat([weights, offsets[:, None]], 1).detach().cpu().numpy()
        n_items, width = vectors.shape
        lists = min(n_items, round(2.0 * math.sqrt(n_items))) if lists is None else check_count("lists", lists)
        if lists > n_items:
            raise ConfigError(f"lists must be at most the number of items ({n_items:,}), got {lists:,}")
        self.model, self.lists, self.probes = model, lists, max(1, lists // 16)
        self._faiss = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        self._faiss.cp.seed = check_value("seed", Seed, seed)
        self._faiss.cp.max_points_per_centroid = _POINTS
        self._faiss.cp.min_points_per_centroid = 1  # few items are no mistake
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._faiss.train(vectors)
        self._faiss.add(vectors)

    def recommend(
        self,
        userid: npt.ArrayLike,
        user_items: Any,
        N: int = 10,
        filter_already_liked_items: bool = True,
        recalculate_user: bool = False,
        *,
        seen: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the best items that the index finds for one user or for several, as `Recommender.recommend` does.

        As many more items are looked for as a user has seen.

        Raises:
            DataError: the histories are missing or have another shape.
        """
        users = indices(userid, "userid")
        if recalculate_user:
            users = np.full_like(users, -1)
        scored_as, history, known, hidden = self._read(users, user_items, filter_already_liked_items, seen)
        ids, scores, popular, few = self._lists(scored_as, history, hidden, check_length(N))
        if len(left := np.concatenate([popular, few])):
            own = None if seen is None else known[left]
            ids[left], scores[left] = self.model.recommend(
                users[left], history[left], N, filter_already_liked_items, seen=own
            )
        return (ids[0], scores[0]) if np.ndim(userid) == 0 else (ids, scores)

    def calibrate(
        self,
        userid: npt.ArrayLike,
        user_items: Any,
        recall: float = 0.95,
        N: int = 10,
        filter_already_liked_items: bool = True,
        *,
        seen: Any = None,
        seed: int = 0,
    ) -> float:
        """Set `probes` to the smallest power of two with which lists hold enough of the exact ones; return the share.

        It is measured on `SAMPLE` of the users, drawn by `seed`. A list for which too little is found counts as empty.

        Args:
            recall: the share of the items of exact lists, above 0, at most 1.

        Raises:
            ConfigError: `recall` is out of range.
        """
        check_recall(recall)
        users = indices(userid, "userid")
        some = np.sort(np.random.default_rng(seed).permutation(len(users))[:SAMPLE])
        own = [None if matrix is None else self.model._matrix(matrix)[some] for matrix in (user_items, seen)]
        exact, _ = self.model.recommend(users[some], own[0], N, filter_already_liked_items, seen=own[1])
        scored_as, history, _, hidden = self._read(users[some], own[0], filter_already_liked_items, own[1])
        self.probes = 1
        while True:
            ids, _, popular, few = self._lists(scored_as, history, hidden, check_length(N))
            ids[popular], ids[few] = exact[popular], -1
            found = share_found(exact, ids)
            if found >= recall or self.probes == self.lists:
                return found
            self.probes = min(self.lists, 2 * self.probes)

    def _read(
        self, users: Indices, user_items: Any, filter_seen: bool, seen: Any
    ) -> tuple[Indices, sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
        """Return the indices by which users are scored, their histories, what they have seen, and what stays hidden."""
        scored_as, history = self.model._histories(user_items, users, needed=True)
        assert history is not None
        known = history if seen is None else self.model._matrix(seen)
        if known.shape[0] != len(users):
            raise DataError(f"seen must have one row per userid ({len(users)}), got {known.shape[0]} rows")
        return scored_as, history, known, known if filter_seen else known[:, np.zeros(known.shape[1], dtype=bool)]

    def _lists(
        self, users: Indices, history: sp.csr_matrix, hidden: sp.csr_matrix, length: int
    ) -> tuple[Ids, Scores, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return lists, and the rows that `_search` returns, of which these are not the lists."""
        ids = np.full((len(users), length), -1, dtype=np.int32)
        scores = np.full((len(users), length), -np.finfo(np.float32).max, dtype=np.float32)
        popular, few = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for start in range(0, len(users), _BLOCK):
            rows = slice(start, start + _BLOCK)
            left = self._search(users[rows], history[rows], hidden[rows], ids[rows], scores[rows])
            for of_all, of_block in zip((popular, few), left, strict=True):
                of_all.append(of_block + start)
        return ids, scores, np.concatenate(popular), np.concatenate(few)

    def _search(
        self, users: Indices, history: sp.csr_matrix, hidden: sp.csr_matrix, ids: Ids, scores: Scores
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Write the lists of a block of users into `ids` and `scores`.

        Returns:
            The rows whose users may get the most popular items, and those for which too little was found.
        """
        model, length = self.model, ids.shape[1]
        read = readable(history, model.popularity_)
        with torch.inference_mode():
            vectors = model._queries(read, users).float().cpu().numpy()
        queries = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
        popular = (np.diff(read.indptr) == 0) | ~vectors.any(axis=1)
        few = np.zeros(len(users), dtype=bool)
        self._faiss.nprobe = self.probes
        # Users who have seen about as much are searched for together: the search finds equally many for all of them.
        wanted = length + np.diff(hidden.indptr)
        groups = np.ceil(np.log2(wanted)).astype(int)
        for group in np.unique(groups[~popular]):
            rows = np.flatnonzero((groups == group) & ~popular)
            most = min(int(wanted[rows].max()), model.n_items_)
            values, found = self._faiss.search(np.ascontiguousarray(queries[rows]), most)
            best, items, enough = _best(values, found, hidden[rows], length, model.n_items_)
            fit = items.shape[1]
            ids[rows, :fit], scores[rows, :fit] = items, best
            few[rows[~enough]] = True
        return np.flatnonzero(popular), np.flatnonzero(few)


def item_table(model: Recommender) -> tuple[Tensor, Tensor]:
    """Return a model's vectors and offsets of items; an UnsupportedError where its scores are no products of these."""
    table = model._item_table()
    if table is None:
        raise UnsupportedError(
            f"{type(model).__name__} scores items by more than products of vectors, so that no index finds the "
            "best; use MultVAE, MultDAE, RecVAE or ALS, or leave the index out"
        )
    return table


def check_faiss() -> None:
    """Check that faiss is installed; a ConfigError says how to install it."""
    check_installed("an index of items", "faiss", extra="faiss")


def check_recall(recall: float) -> float:
    """Return a share of exact lists; a ConfigError unless it is above 0 and at most 1."""
    if not 0.0 < check_value("recall", float, recall) <= 1.0:
        raise ConfigError(f"recall must be above 0 and at most 1, got {recall}")
    return recall


def share_found(exact: Ids, found: Ids) -> float:
    """Return the share of the items of exact lists (n, N) that other lists of the same users hold."""
    wanted = exact >= 0
    hits = (exact[:, :, None] == found[:, None, :]).any(2) & wanted
    return float(hits.sum() / max(1, wanted.sum()))


def _best(
    values: Scores, found: npt.NDArray[np.int64], hidden: sp.csr_matrix, length: int, n_items: int
) -> tuple[Scores, Ids, npt.NDArray[np.bool_]]:
    """Return the first `length` of what was found that is not hidden, equal scores by index, and which rows have all.

    A row has all if it has `length` items, or all that are not hidden.
    """
    rows = np.arange(len(found))[:, None]
    keys = np.sort(np.repeat(np.arange(len(found)), np.diff(hidden.indptr)) * n_items + hidden.indices)
    own = rows * n_items + found
    known = np.zeros(found.shape, dtype=bool)
    if len(keys):
        known = keys[np.minimum(np.searchsorted(keys, own), len(keys) - 1)] == own
    free = (found >= 0) & ~known
    values = np.where(free, values, -np.finfo(np.float32).max)
    order = np.lexsort((found, -values, ~free), axis=1)[:, :length]
    counts = np.minimum(free.sum(1), length)
    ids = np.where(np.take_along_axis(free, order, 1), np.take_along_axis(found, order, 1), -1).astype(np.int32)
    return np.take_along_axis(values, order, 1), ids, counts >= np.minimum(length, n_items - np.diff(hidden.indptr))
