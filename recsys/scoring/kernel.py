"""The scoring kernel: histories of any users in, their lists out. Every engine scores by it.

The list of a user does not depend on who shares a block, so that engines may cut their blocks as they like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from recsys.approximate import SAMPLE, ItemIndex
from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.errors import DataError, ScoringError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.mapped import ROWS
from recsys.matching import Known, known_of
from recsys.models import Recommender, load
from recsys.params import check_count
from recsys.ranking import Ids, Scores
from recsys.rules import BoundRules, Ruled
from recsys.scoring.output import arrow_ids
from recsys.scoring.rows import Reading, interactions_of, whole_users
from recsys.shards import Stored, StoredIds

Rows = npt.NDArray[np.int32]
"""Users as rows of the histories."""

BATCH_ROWS: Final = 2**16
"""Most rows of a batch of lists."""


class Lists(NamedTuple):
    """The lists of some users, one after the other: four arrays of equal length."""

    rows: Rows
    """Users, as rows of their histories."""
    items: Ids
    """Columns of the model."""
    scores: Scores
    ranks: Rows
    """From 1."""


@dataclass
class Counts:
    """What a kernel has read and written, to be added up over workers."""

    users: int = 0
    rows: int = 0
    """Recommendations."""
    entries: int = 0
    """Of the histories."""
    kept: int = 0
    """Entries with items of the model."""
    with_entries: int = 0
    """Users with entries."""
    having: int = 0
    """Users with entries with items of the model."""
    seen: int = 0
    """Entries of what users have seen, where that is something else than the histories."""
    seen_kept: int = 0
    """Those of them with items of the model."""
    trained: int = 0
    """Users on whom the model was trained."""

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the counts."""
        return [field.name for field in fields(cls)]

    def add(self, other: Counts) -> None:
        """Add other counts to these."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Source:
    """Histories beside the items and users of a model; they are aligned block by block, and never copied as a whole."""

    def __init__(self, model: Recommender, histories: Interactions, seen: Interactions | None) -> None:
        """Match ids.

        Raises:
            DataError: ids are of types that cannot mean the same, or `seen` lacks a user of the histories.
        """
        items = _items_of(model)
        on_disk = histories.shards.users_on_disk if isinstance(histories, Stored) and seen is None else None
        self.users: IdMap | StoredIds = histories.users if on_disk is None else on_disk
        """Whose the rows are; of shards they stay on disk."""
        self._model, self._matrix, self._n_items = model, histories.matrix, len(items)
        self.place = None if histories.items == items else items.codes_of(histories.items, "item")
        """(n_items of the histories,) columns of the model, -1 for unknown items; None: the same items."""
        self._seen = None if seen is None else seen.matrix
        self._seen_rows = None if seen is None else _rows_of_seen(seen, histories.users)
        self._seen_place = None if seen is None else items.codes_of(seen.items, "item")
        self._trained = training_index(model, next(self.user_parts()))  # of those on disk, to see that types agree

    def user_parts(self) -> Iterator[IdMap]:
        """Yield the ids of all users in their order, in parts where they are on disk."""
        if isinstance(self.users, IdMap):
            yield self.users
        else:
            yield from self.users.parts(ROWS)

    def trained(self, rows: npt.ArrayLike | None = None) -> Rows:
        """Return the index of each of these users, of all by default, among the training users, -1 for others."""
        if isinstance(self.users, IdMap):
            return self._trained if rows is None else self._trained[np.asarray(rows)]
        if rows is None:
            return np.concatenate([training_index(self._model, part) for part in self.user_parts()])
        return training_index(self._model, self.users.take(rows))

    def count_trained(self) -> int:
        """Return how many of the users are among the training users."""
        if isinstance(self.users, IdMap):
            return int(np.count_nonzero(self._trained >= 0))
        return sum(int(np.count_nonzero(training_index(self._model, part) >= 0)) for part in self.user_parts())

    def block(self, rows: Rows) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        """Return the histories of these users and all that they have seen, None where that is the same.

        Both are (len(rows), items of the model).
        """
        history = _aligned(self._matrix, rows, self.place, self._n_items)
        if self._seen is None or self._seen_rows is None:
            return history, None
        return history, _aligned(self._seen, self._seen_rows[rows], self._seen_place, self._n_items)

    def known(self) -> Known:
        """Return how much of the histories is with items of the model."""
        return known_of(self._matrix, self.place)

    def known_seen(self) -> Known:
        """Return how much of what users have seen is with items of the model; nothing where that is the histories."""
        return Known(0, 0, 0, 0) if self._seen is None else known_of(self._seen, self._seen_place)


class Kernel:
    """A fitted model that turns the histories of any users into their lists, as `Recommender.recommend` does."""

    def __init__(
        self, model: Recommender, n: int = 10, exclude_seen: bool = True, rules: BoundRules | None = None
    ) -> None:
        """Check the model, the length of the lists and their rules.

        Raises:
            NotFittedError: the model is not fitted.
            ScoringError: it does not know its item ids.
            ConfigError: `n` is no count.
            DataError: the rules are bound to other items.
            UnsupportedError: the rules ask for diversity, and the model does not compare items.
        """
        model._check_fitted()
        self.items = _items_of(model)
        self.model, self.n, self.exclude_seen, self.rules = model, check_count("n", n), exclude_seen, rules
        self._ruled = None if rules is None else Ruled(model, rules)
        self.index: ItemIndex | None = None
        """What finds the items, where lists may be approximate."""

    @classmethod
    def open(cls, folder: str | Path, n: int = 10, exclude_seen: bool = True, rules: BoundRules | None = None) -> Self:
        """Return the kernel of a saved model, which computes on a CPU; a BundleError where there is none."""
        return cls(load(folder, device="cpu"), n, exclude_seen, rules)

    def lists(self, source: Source, rows: Rows) -> Lists:
        """Return the `n` best items of each of these users, fewer where a user has fewer candidates."""
        histories, seen = source.block(rows)
        filters = self.exclude_seen
        if self.rules is not None and self.rules.hidden is not None:
            shown = (histories if seen is None else seen) if filters else None
            seen, filters = self.rules.hide(source.users.ids(rows).tolist(), shown), True
        ids, scores = (self.index or self._ruled or self.model).recommend(
            source.trained(rows),
            histories,
            N=min(self.n, len(self.items)),
            filter_already_liked_items=filters,
            seen=seen,
        )
        filled = ids >= 0
        ranks = np.broadcast_to(np.arange(1, ids.shape[1] + 1, dtype=np.int32), ids.shape)
        return Lists(np.repeat(rows, filled.sum(axis=1)), ids[filled], scores[filled], ranks[filled])

    def approximate(self, source: Source, rows: Rows, recall: float) -> dict[str, float | int]:
        """Find items by an index from now on; return how much of the exact lists it finds, and where it looks.

        Args:
            rows: of the users to score; up to `SAMPLE` of them are for measuring.
            recall: the least share.

        Raises:
            UnsupportedError: the model's scores are no products of vectors.
        """
        index = ItemIndex(self.model)
        some = np.sort(np.random.default_rng(0).permutation(rows)[:SAMPLE])
        histories, seen = source.block(some)
        length = min(self.n, len(self.items))
        found = index.calibrate(source.trained(some), histories, recall, length, self.exclude_seen, seen=seen)
        self.index = index
        return {"measured_recall": found, "index_lists": index.lists, "index_probes": index.probes}

    def table(self, lists: Lists, users: pa.Array) -> pa.Table:
        """Return lists as `user_id, item_id, score, rank`, with external ids; `users` has those of the rows."""
        ids = users.take(pa.array(lists.rows)), self.item_ids.take(pa.array(lists.items))
        return pa.table({USER: ids[0], ITEM: ids[1], SCORE: lists.scores, RANK: lists.ranks})

    @cached_property
    def item_ids(self) -> pa.Array:
        """The item ids of the model; a ScoringError where Parquet does not store such ids."""
        return arrow_ids(self.items, "item")

    def batches(
        self, rows: Iterable[pa.RecordBatch], reading: Reading | None = None, counts: Counts | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Turn batches of long rows, the rows of a user one after the other, into batches of lists.

        Args:
            rows: sorted by user: `user_id, item_id`, and perhaps `rating`, `timestamp` and a boolean `seen`. A row that
                is `seen` is no part of the history; with such a column, what it marks is filtered in place of the
                histories.
            reading: how rows become histories.
            counts: where to add what was read and written.

        Returns:
            `user_id, item_id, score, rank`, as `score` writes them; within a block by user.

        Raises:
            DataError: what `Interactions.from_frame` refuses, ids of types that cannot mean the same, rows that are not
                sorted by user, or a user of whom nothing is `seen`.
        """
        for table in whole_users(rows):
            found = interactions_of(table, Reading() if reading is None else reading)
            if found is None:
                continue
            source = Source(self.model, *found)
            users = arrow_ids(found[0].users, "user")
            lists = self.lists(source, np.arange(len(source.users), dtype=np.int32))
            if counts is not None:
                seen, trained = source.known_seen(), source.count_trained()
                of_block = len(source.users), len(lists.rows), *source.known(), seen.entries, seen.kept, trained
                counts.add(Counts(*of_block))
            yield from self.table(lists, users).to_batches(max_chunksize=BATCH_ROWS)


def training_index(model: Recommender, users: IdMap) -> Rows:
    """Return the index of each user among the training users, -1 for others.

    Raises:
        DataError: the model has vectors of its users, and ids of the two types cannot mean the same.
    """
    assert model.users_ is not None
    if not len(model.users_):  # none were kept
        return np.full(len(users), -1, dtype=np.int32)
    try:
        return model.users_.codes_of(users, "user")
    except DataError:
        if model.capabilities.scores_known_users and model.capabilities.personal:
            raise
        return np.full(len(users), -1, dtype=np.int32)  # strangers, whom such a model serves as well


def _items_of(model: Recommender) -> IdMap:
    if model.items_ is None or model.users_ is None:
        raise ScoringError(
            f"this {type(model).__name__} does not know its item ids; fit it on Interactions, not on a matrix"
        )
    return model.items_


def _rows_of_seen(seen: Interactions, users: IdMap) -> Rows:
    """Return the row of each of these users in what they have seen."""
    place = seen.users.codes_of(users, "user")
    missing = np.flatnonzero(place < 0)
    if len(missing):
        first = list(users.take(missing[:3]))
        raise DataError(f"seen must hold every user of the histories, {len(missing)} are missing, such as {first}")
    return place


def _aligned(matrix: sp.csr_matrix, rows: Rows, place: Rows | None, n_items: int) -> sp.csr_matrix:
    """Return these rows with their items in these places, without items that have none: (len(rows), n_items)."""
    block = matrix[rows]
    if place is None:
        return block
    columns = place[block.indices]
    kept = columns >= 0
    indptr = np.append(0, np.cumsum(kept))[block.indptr]
    block = sp.csr_matrix((block.data[kept], columns[kept], indptr), shape=(len(rows), n_items))
    block.sort_indices()
    return block
