"""Training, validation and test parts of a data set.

A held-out part has a *context* (the history that a model reads of each user) and a *target* (the items it must find).
The context of the test part holds the training and the validation entries: everything known before the test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.mapped import rows_of

Entries = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """Held-out users: the history of each, and the entries to predict.

    Row i of `context`, `target` and `seen` is the same user; columns are the items of the training part.

    Raises:
        DataError: shapes disagree, an entry is stored twice, or target entries are in the context or in `seen` too.
    """

    context: sp.csr_matrix
    """(n_rows, n_items) float32: the histories that a model reads; their items are not recommended."""
    target: sp.csr_matrix
    """(n_rows, n_items) float32: the held-out entries, to be predicted."""
    users: IdMap
    """External ids of the rows."""
    user_index: npt.NDArray[np.int32]
    """(n_rows,) row of each user in the training matrix, -1 for users who are not in it."""
    seen: sp.csr_matrix | None = None
    """(n_rows, n_items): items not to recommend, if these are more than the model may read; by default the context."""
    allow_overlap: bool = False
    """Accept target entries that are in the context or in `seen` too. They are never recommended: each is a miss."""
    candidates: npt.NDArray[np.int64] | None = None
    """(n,) the only items that lists may hold, ascending, such as those that training never saw; None: all items."""

    def __post_init__(self) -> None:
        if self.context.shape != self.target.shape or self.context.shape[0] != len(self.users):
            raise DataError(
                f"context {self.context.shape}, target {self.target.shape} and {len(self.users)} users must agree"
            )
        if self.seen is not None and self.seen.shape != self.context.shape:
            raise DataError(f"seen must have the shape of the context {self.context.shape}, got {self.seen.shape}")
        stored = {"context": self.context, "target": self.target, "seen": self.seen}
        for name, matrix in stored.items():
            if matrix is not None and (twice := matrix.nnz - _marks(matrix).nnz):
                raise DataError(f"{twice} entries of the {name} are stored twice; store each user and item once")
        if self.candidates is not None:
            object.__setattr__(self, "candidates", _checked_items(self.candidates, self.target.shape[1]))
            outside = int(np.count_nonzero(~np.isin(self.target.indices, self.candidates)))
            if outside:
                raise DataError(f"{outside} target entries are of items that no list may hold; see of_items")
        for name in () if self.allow_overlap else ("context", "seen"):
            matrix = stored[name]
            if matrix is not None and (both := count_shared(matrix, self.target)):
                raise DataError(
                    f"{both} of the {self.target.nnz} target entries are in the {name} too: a model cannot be tested "
                    "on what it reads; remove them from one of the two, or pass allow_overlap=True"
                )

    def of_items(self, targets: npt.ArrayLike, candidates: npt.ArrayLike | None = None) -> Part:
        """Return the part with the target entries of some items alone, found among some items or all.

        Args:
            targets: item indices whose entries are to be predicted.
            candidates: item indices that lists may hold, which must contain the targets; None: those of this part.

        Raises:
            DataError: no target entry is left, or one is not among the candidates.
        """
        kept = np.isin(self.target.indices, _checked_items(targets, self.target.shape[1]))
        if not kept.any():
            raise DataError("no target entry is of these items")
        indptr = np.append(0, np.cumsum(kept))[self.target.indptr]
        target = sp.csr_matrix((self.target.data[kept], self.target.indices[kept], indptr), shape=self.target.shape)
        able = self.candidates if candidates is None else _checked_items(candidates, self.target.shape[1])
        return replace(self, target=target, candidates=able)

    def __repr__(self) -> str:
        return f"Part({len(self.users):,} users, {self.context.nnz:,} context, {self.target.nnz:,} target)"


@dataclass(frozen=True, eq=False)
class Split:
    """Training interactions, a validation part for making choices, and a test part that is evaluated once.

    Raises:
        DataError: a part has other items than training, its target holds training entries (of the same external user
            and item, whatever `user_index` says), or the test target holds validation entries.
    """

    train: Interactions
    validation: Part | None
    test: Part
    first_test_time: float | None = None
    """Time of the earliest test entry, if every training and validation entry is earlier; None otherwise."""
    allow_overlap: bool = False
    """Accept targets that share entries with training or with each other; their metrics are then not a test."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know of how the split was made; jobs print it, the report shows it."""

    def __post_init__(self) -> None:
        for name, part in self._held_out().items():
            if part.target.shape[1] != len(self.train.items):
                raise DataError(
                    f"the columns of the {name} part must be the {len(self.train.items)} training items, "
                    f"got {part.target.shape[1]}"
                )
        for (target, source), both in () if self.allow_overlap else self._shared().items():
            if both:
                raise DataError(
                    f"{both} entries of the {target} target are {source} entries too: a model cannot be tested on what "
                    "it was fitted or chosen on; remove them from one of the two, or pass allow_overlap=True"
                )

    def overlaps(self) -> dict[tuple[str, str], int]:
        """Return how many target entries are also elsewhere in the split, compared by external user and item.

        Keys are (`validation` or `test`, `context` or `training`), and (`test`, `validation`).
        """
        parts = self._held_out().items()
        return {(name, "context"): count_shared(part.context, part.target) for name, part in parts} | self._shared()

    def _held_out(self) -> dict[str, Part]:
        return {"test": self.test} if self.validation is None else {"validation": self.validation, "test": self.test}

    def _shared(self) -> dict[tuple[str, str], int]:
        train, validation = self.train, self.validation
        counts = {}
        for name, part in self._held_out().items():
            counts[name, "training"] = _shared_of_users(train.matrix, train.users, part)
        if validation is not None:
            counts["test", "validation"] = _shared_of_users(validation.target, validation.users, self.test)
        return counts

    def refit(self) -> Interactions:
        """Return training plus validation entries, for a final fit once every choice has been made.

        Raises:
            DataError: there is no validation part, or its users are not training users.
        """
        if self.validation is None or (self.validation.user_index < 0).any():
            raise DataError("refit needs a validation part made of the training users' own entries")
        parts = [self.train.matrix.tocoo(), self.validation.target.tocoo()]
        values, rows, cols = (np.concatenate([getattr(m, of) for m in parts]) for of in ("data", "row", "col"))
        # Not their sum, which would lose stored zeros.
        matrix = sp.csr_matrix((values, (rows, cols)), shape=self.train.shape, dtype=np.float32)
        about = {name: getattr(self.train, name) for name in ("titles", "item_columns", "user_columns")}
        return Interactions(matrix, self.train.users, self.train.items, **about)


def by_entries(data: Interactions, is_validation: Entries | None, is_test: Entries) -> Split:
    """Return the split of stored entries into training, validation and test; all parts share users and items.

    Both are (n_stored,) marks in the order of `matrix.data`; without `is_validation` there is no validation part.

    Raises:
        DataError: a part would be empty.
    """
    is_known = ~is_test
    is_train = is_known if is_validation is None else is_known & ~is_validation
    for name, marked in (("training", is_train), ("test", is_test), ("validation", is_validation)):
        if marked is not None and not marked.any():
            raise DataError(f"the {name} part would be empty: {data.nnz} entries are too few for this split")
    index = np.arange(data.shape[0], dtype=np.int32)
    train, known, test = (data.select(entries) for entries in (is_train, is_known, is_test))
    validation = None
    if is_validation is not None:
        validation = Part(train.matrix, data.select(is_validation).matrix, data.users, index)
    return Split(train, validation, Part(known.matrix, test.matrix, data.users, index))


def _checked_items(items: npt.ArrayLike, n_items: int) -> npt.NDArray[np.int64]:
    """Return distinct item indices, ascending."""
    given = np.asarray(items)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n_items:
        raise DataError(f"items must be indices of 0..{n_items - 1}, at least one, in a flat array")
    return np.unique(given).astype(np.int64)


def count_shared(a: sp.csr_matrix, b: sp.csr_matrix) -> int:
    """Return how many entries are stored in both of two matrices of one shape; values do not matter."""
    return int(_marks(a).multiply(_marks(b)).nnz)


def _shared_of_users(matrix: sp.csr_matrix, users: IdMap, part: Part) -> int:
    """Return how many target entries of a part are stored in a matrix with these users as rows."""
    if users == part.users:
        blocks = rows_of(matrix)
        return sum(count_shared(rows, part.target[first : first + rows.shape[0]]) for first, rows in blocks)
    row = users.codes_of(part.users, "user")
    known = np.flatnonzero(row >= 0)
    return count_shared(matrix[row[known]], part.target[known])


def _marks(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return a matrix of ones with the entries of another, each once."""
    entries = (np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr)
    marks = sp.csr_matrix(entries, shape=matrix.shape, copy=not matrix.has_canonical_format)
    marks.sum_duplicates()
    return marks
