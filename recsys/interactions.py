"""Interactions of users with items: a frozen users × items matrix with the external ids of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.errors import DataError, warn
from recsys.frames import Duplicates, Names, about, entries_of, in_words, index_type
from recsys.ids import IdMap
from recsys.matching import few_known, known_of
from recsys.times import Times, TimeUnit


@dataclass(frozen=True, eq=False)
class Interactions:
    """A sparse users × items matrix with external ids, and optional times, further columns and titles.

    A stored entry is an observation whatever its value: a stored 0.0 is a rating of zero, an entry that is not stored
    is no rating. Treat the arrays as read-only.

    Raises:
        DataError: shapes disagree, a value is not finite, or an entry is stored twice.
    """

    matrix: sp.csr_matrix
    """(n_users, n_items), float32, int32 indices sorted within each row."""
    users: IdMap
    """External ids of the rows."""
    items: IdMap
    """External ids of the columns."""
    timestamps: Times | None = None
    """(n_stored,) seconds since 1970, in the order of `matrix.data`: int64, or float64 if some are not whole; None if
    the source has no times."""
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further columns of the source, such as a published split; each (n_stored,), in the order of `matrix.data`."""
    titles: npt.NDArray[np.object_] | None = None
    """(n_items,) readable names of the items; None if unknown."""
    item_columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further columns of the items, such as a category or a price; each (n_items,), None or NaN where unknown."""
    user_columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further columns of the users, such as a country; each (n_users,), None or NaN where unknown."""

    def __post_init__(self) -> None:
        matrix = self.matrix
        aligned = {TIMESTAMP: self.timestamps, **self.columns} if self.timestamps is not None else self.columns
        stored = getattr(matrix, "nnz", 0)
        if aligned and getattr(matrix, "format", None) != "csr":
            raise DataError("a matrix with timestamps or columns must be CSR: they follow the order of its entries")
        if not isinstance(matrix, sp.csr_matrix) or matrix.dtype != np.float32:
            matrix = sp.csr_matrix(matrix, dtype=np.float32)
        if matrix.shape != (len(self.users), len(self.items)):
            raise DataError(
                f"the matrix must have one row per user and one column per item, "
                f"got {matrix.shape} for {len(self.users)} users and {len(self.items)} items"
            )
        if not matrix.has_canonical_format:
            if aligned:
                raise DataError("a matrix with timestamps or columns must come with sorted, distinct indices")
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if matrix.nnz < stored:  # summed above, or by scipy when it converted to CSR
            raise DataError(f"{stored - matrix.nnz} entries are stored twice; store each once, as from_frame does")
        if not np.isfinite(matrix.data).all():
            raise DataError(f"{int((~np.isfinite(matrix.data)).sum())} stored values are NaN or infinite")
        if matrix.indices.dtype != np.int32 and matrix.nnz < 2**31:
            indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
            matrix = sp.csr_matrix((matrix.data, indices, indptr), shape=matrix.shape)
        object.__setattr__(self, "matrix", matrix)
        for name, values in aligned.items():
            if len(values) != matrix.nnz:
                raise DataError(
                    f"column {name!r} must have one value per stored entry ({matrix.nnz}), got {len(values)}"
                )
        if self.titles is not None and len(self.titles) != len(self.items):
            raise DataError(f"titles must name every item: {len(self.items)} items, {len(self.titles)} titles")
        for what, ids, columns in (("item", self.items, self.item_columns), ("user", self.users, self.user_columns)):
            for name, values in columns.items():
                if len(values) != len(ids):
                    raise DataError(f"column {name!r} must have one value per {what} ({len(ids)}), got {len(values)}")

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = USER,
        item: str = ITEM,
        rating: str | None = RATING,
        timestamp: str | None = TIMESTAMP,
        duplicates: Duplicates = "error",
        time_unit: TimeUnit = "auto",
        weights: Mapping[str, float] | None = None,
        keep: Iterable[str] = (),
        titles: Mapping[Any, str] | None = None,
        items: Any = None,
        users: Any = None,
    ) -> Interactions:
        """Build interactions from a table with one row per interaction.

        Args:
            frame: a pandas frame, or anything with `to_pandas()` (polars, Arrow).
            user: column of user ids: integers, strings, or any hashable of one type.
            item: column of item ids.
            rating: column of values. A column of the default name may be absent: every interaction then counts 1. None
                ignores the column.
            timestamp: column of times: datetimes, dates, ISO 8601 text, or numbers since 1970. Times without a zone
                are UTC. Optional like `rating`.
            duplicates: what to do with several rows of one user and item; `last` goes by time, then by row.
            time_unit: what numbers in the column of times count: s, ms, us or ns; `auto` goes by their size, with a
                warning unless they are seconds.
            weights: value of each event where the column of values holds events, such as
                `{"view": 1, "cart": 3, "purchase": 5}`; rows of an event of weight 0 are left out.
            keep: further columns to carry along, such as a published split.
            titles: readable name of each item id; an item without one is shown by its id.
            items: a table with a row per item: its id in a column named as `item`, perhaps a `title`, and any further
                columns, which are kept as `item_columns`. Items that nobody has met are left out.
            users: a table with a row per user: the id in a column named as `user`, and further columns, which are kept
                as `user_columns`. Users without interactions are left out.

        Raises:
            DataError: a column is missing, the frame is empty, an id is missing or of mixed types, a rating is NaN or
                infinite, a time is none, an event has no weight, a user and item repeat under `duplicates="error"`, or
                `items` or `users` name one twice or none of the frame's.
        """
        kept = (keep,) if isinstance(keep, str) or not isinstance(keep, Iterable) else tuple(keep)
        if titles is not None and not isinstance(titles, Mapping):
            raise DataError(f"titles must be a mapping of item ids to names, got {type(titles).__name__}")
        found = entries_of(frame, Names(user, item, rating, timestamp, kept), duplicates, time_unit, weights)
        shown = None if titles is None else np.array([str(titles.get(id, id)) for id in found.items], dtype=object)
        named, described = about("items", items, item, found.items)
        shown = named if shown is None else shown
        _, of_users = about("users", users, user, found.users)
        return cls(found.matrix, found.users, found.items, found.times, found.columns, shown, described, of_users)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return (len(self.users), len(self.items))

    @property
    def nnz(self) -> int:
        """Number of stored interactions."""
        return int(self.matrix.nnz)

    def __len__(self) -> int:
        return self.nnz

    def __repr__(self) -> str:
        return (
            f"Interactions({self.shape[0]:,} users × {self.shape[1]:,} items, {self.nnz:,} stored, "
            f"density {self.nnz / max(1, self.shape[0] * self.shape[1]):.3%})"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a row per stored entry: `user_id, item_id, rating`, `timestamp` if known, and the kept columns."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.matrix.indptr))
        table = {USER: self.users.ids(rows), ITEM: self.items.ids(self.matrix.indices), RATING: self.matrix.data}
        times = {} if self.timestamps is None else {TIMESTAMP: self.timestamps}
        return pd.DataFrame({**table, **times, **self.columns})

    def select(self, entries: npt.NDArray[np.bool_], *, keep_shape: bool = True) -> Interactions:
        """Return only the stored entries marked True, by (n_stored,) booleans in the order of `matrix.data`.

        Users and items without any entry left are dropped unless `keep_shape`. DataError for other arrays.
        """
        if entries.dtype != bool or entries.shape != (self.nnz,):
            raise DataError(
                f"entries must be one boolean per stored entry ({self.nnz}), got {entries.dtype} {entries.shape}"
            )
        dtype = index_type(self.nnz)
        indptr = np.append(dtype(0), np.cumsum(entries, dtype=dtype))[self.matrix.indptr]
        matrix = sp.csr_matrix((self.matrix.data[entries], self.matrix.indices[entries], indptr), shape=self.shape)
        kept = self._with_entries(matrix, entries)
        if keep_shape:
            return kept
        kept = kept.take_users(np.flatnonzero(np.diff(indptr)))
        return kept.take_items(np.flatnonzero(np.bincount(kept.matrix.indices, minlength=self.shape[1])))

    def take_users(self, codes: npt.ArrayLike) -> Interactions:
        """Return the rows of these users, in this order."""
        users = self.users.take(codes)
        codes = np.asarray(codes, dtype=np.int64)
        positions = sp.csr_matrix((np.arange(self.nnz), self.matrix.indices, self.matrix.indptr), shape=self.shape)
        columns = {name: values[codes] for name, values in self.user_columns.items()}
        return self._with_entries(self.matrix[codes], positions[codes].data, users=users, user_columns=columns)

    def take_items(self, codes: npt.ArrayLike) -> Interactions:
        """Return the columns of these items, in ascending order of `codes`; all users stay, with or without entries."""
        codes = np.unique(np.asarray(codes))
        items = self.items.take(codes)
        codes = codes.astype(np.int64)
        place = np.full(self.shape[1], -1, dtype=np.int32)
        place[codes] = np.arange(len(codes), dtype=np.int32)
        kept, matrix = self._placed(place, len(codes))
        titles = None if self.titles is None else self.titles[codes]
        columns = {name: values[codes] for name, values in self.item_columns.items()}
        return replace(kept, matrix=matrix, items=items, titles=titles, item_columns=columns)

    def histories(self, items: IdMap) -> sp.csr_matrix:
        """Return the matrix with the columns of another item map, such as that of a fitted model.

        It is (n_users, len(items)), csr float32. Interactions with items that are not in the map are left out; a
        `DataWarning` says how many, if they are more than half or if more than half of the users lose all of theirs.

        Raises:
            DataError: no interaction is with an item of the map.
        """
        if items == self.items:
            return self.matrix
        matrix, warning = self.matched(items)
        if warning:
            warn(warning)
        return matrix

    def matched(self, items: IdMap) -> tuple[sp.csr_matrix, str]:
        """Return `histories` and its warning, not given yet: empty where enough is known."""
        place = items.codes_of(self.items, "item")
        warning = few_known(known_of(self.matrix, place), self.items, items)
        _, matrix = self._placed(place, len(items))
        matrix.sort_indices()
        return matrix, warning

    def _with_entries(self, matrix: sp.csr_matrix, entries: npt.NDArray[Any], **changes: Any) -> Interactions:
        """Return interactions with another matrix, which holds these entries."""
        times = None if self.timestamps is None else self.timestamps[entries]
        columns = {name: values[entries] for name, values in self.columns.items()}
        return replace(self, matrix=matrix, timestamps=times, columns=columns, **changes)

    def _placed(self, place: npt.NDArray[np.int32], n_items: int) -> tuple[Interactions, sp.csr_matrix]:
        """Return the entries of items with a place of at least 0, and their matrix with the items in these places."""
        kept = self.select(place[self.matrix.indices] >= 0)
        columns = place[kept.matrix.indices]
        return kept, sp.csr_matrix((kept.matrix.data, columns, kept.matrix.indptr), shape=(self.shape[0], n_items))

    def filter(
        self, *, min_rating: float | None = None, min_user: int = 0, min_item: int = 0, repeat_counts: bool = False
    ) -> Interactions:
        """Return the interactions of at least `min_rating`, with items and users that have enough of these.

        Items are filtered before users, and not again afterwards (Liang et al. 2018, §4.1), unless `repeat_counts`.

        Args:
            min_rating: smallest value to keep; None keeps all.
            min_user: smallest number of interactions of a user to keep.
            min_item: smallest number of interactions of an item to keep.
            repeat_counts: filter items and users again until all that are left have enough, which may leave none.

        Raises:
            DataError: nothing is left.
        """
        kept = self
        if min_rating is not None:
            kept = kept.select(kept.matrix.data >= min_rating, keep_shape=False)
        before = -1
        while kept.nnz and (before < 0 or (repeat_counts and kept.nnz < before)):
            before = kept.nnz
            if min_item > 0:
                counts = np.bincount(kept.matrix.indices, minlength=kept.shape[1])
                kept = kept.select(counts[kept.matrix.indices] >= min_item, keep_shape=False)
            if min_user > 0:
                counts = np.diff(kept.matrix.indptr)
                kept = kept.select(np.repeat(counts >= min_user, counts), keep_shape=False)
        if not kept.nnz:
            raise nothing_left(min_rating, min_item, min_user)
        return kept

    def binarized(self) -> Interactions:
        """Return the same interactions, each with the value 1."""
        matrix = self.matrix.copy()
        matrix.data[:] = 1.0
        return replace(self, matrix=matrix)

    def fingerprint(self) -> str:
        """Return a SHA-256 of ids, entries, values and times; equal data have equal fingerprints. Computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        matrix, times = self.matrix, self.timestamps
        arrays = [matrix.indptr.astype(np.int64)], [matrix.indices], [matrix.data], None if times is None else [times]
        return fingerprint_of(arrays, [ids.ids() for ids in (self.users, self.items)])

    def summary(self) -> dict[str, Any]:
        """Return numbers of users, items and interactions, the density, and the fingerprint."""
        return {
            "users": self.shape[0],
            "items": self.shape[1],
            "interactions": self.nnz,
            "density": self.nnz / max(1, self.shape[0] * self.shape[1]),
            "fingerprint": self.fingerprint(),
        }

    def title(self, code: int) -> str:
        """Return the readable name of an item, or its id if it has none; OutOfRangeError for a code of no item."""
        own = self.items.ids([code])[0]
        return str(own if self.titles is None else self.titles[code])

    def details(self, code: int) -> str:
        """Return the first further columns of an item as one line; empty if nothing is known of it."""
        return in_words(values[code] for values in self.item_columns.values())


def nothing_left(min_rating: float | None, min_item: int, min_user: int) -> DataError:
    """Return the error for filters that keep nothing."""
    return DataError(f"no interaction is left after min_rating={min_rating}, min_item={min_item}, min_user={min_user}")


Parts = Iterable[npt.NDArray[Any]]
"""An array in parts that follow one another."""


def fingerprint_of(arrays: tuple[Parts, Parts, Parts, Parts | None], ids: Iterable[npt.NDArray[Any] | Parts]) -> str:
    """Return the fingerprint of interactions whose arrays come in parts.

    Args:
        arrays: the offsets as int64, the columns, the values, and the times or None.
        ids: those of the users, and those of the items.
    """
    digest = hashlib.sha256()
    for parts in arrays:
        for part in () if parts is None else parts:
            digest.update(np.ascontiguousarray(part).data)
        digest.update(b"|")
    for values in ids:
        joint = b""
        for part in [values] if isinstance(values, np.ndarray) else values:
            if part.dtype.kind == "i":
                digest.update(np.ascontiguousarray(part).data)
            elif len(part):
                digest.update(joint + "\x1f".join(map(repr, part.tolist())).encode())
                joint = b"\x1f"
        digest.update(b"|")
    return digest.hexdigest()
