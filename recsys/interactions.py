"""Who did what: a frozen users × items matrix with the external ids of both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.errors import DataError, did_you_mean
from recsys.ids import IdMap

Duplicates = Literal["error", "last", "sum", "max"]
"""What happens to several rows of one user and item: refuse them, keep the latest, add up, keep the largest."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """A users × items matrix of stored interactions, its external ids, and what came with each entry.

    A stored entry is an observation whatever its value: a stored 0.0 is a rating of zero, an unstored entry
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
    timestamps: npt.NDArray[np.int64] | None = None
    """(n_stored,) seconds since 1970, in the order of `matrix.data`; None where the source had none."""
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further columns of the source, such as a published split, each (n_stored,) in the order of `matrix.data`."""
    titles: npt.NDArray[np.object_] | None = None
    """(n_items,) readable names of the items; None where unknown."""

    def __post_init__(self) -> None:
        matrix = self.matrix
        beside = any(values is not None for values in (self.timestamps, *self.columns.values()))
        stored = getattr(matrix, "nnz", 0)
        if beside and getattr(matrix, "format", None) != "csr":
            raise DataError("a matrix with timestamps or columns must be CSR: they follow the order of its entries")
        if not isinstance(matrix, sp.csr_matrix) or matrix.dtype != np.float32:
            matrix = sp.csr_matrix(matrix, dtype=np.float32)
        if matrix.shape != (len(self.users), len(self.items)):
            raise DataError(
                f"the matrix must have one row per user and one column per item, "
                f"got {matrix.shape} for {len(self.users)} users and {len(self.items)} items"
            )
        if not matrix.has_sorted_indices or not matrix.has_canonical_format:
            if beside:
                raise DataError("a matrix with timestamps or columns must come with sorted, distinct indices")
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if matrix.nnz < stored:  # summed here, or by scipy on its way to CSR
            raise DataError(f"{stored - matrix.nnz} entries are stored twice; use from_frame(duplicates=...)")
        if not np.isfinite(matrix.data).all():
            raise DataError(f"{int((~np.isfinite(matrix.data)).sum())} stored values are NaN or infinite")
        if matrix.indices.dtype != np.int32 and matrix.nnz < 2**31:
            matrix = sp.csr_matrix(
                (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)),
                shape=matrix.shape,
            )
        object.__setattr__(self, "matrix", matrix)
        for name, values in {TIMESTAMP: self.timestamps, **self.columns}.items():
            if values is not None and len(values) != matrix.nnz:
                raise DataError(
                    f"column {name!r} must have one value per stored entry ({matrix.nnz}), got {len(values)}"
                )
        if self.titles is not None and len(self.titles) != len(self.items):
            raise DataError(f"titles must name every item: {len(self.items)} items, {len(self.titles)} titles")

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
        keep: Iterable[str] = (),
        titles: Mapping[Any, str] | None = None,
    ) -> Interactions:
        """Build interactions from a table with one row per interaction.

        Args:
            frame: a pandas frame, or anything with `to_pandas()` (polars, Arrow).
            user: column of user ids: ints, strings, or any hashable of one type.
            item: column of item ids.
            rating: column of values. Under its default name it may be absent, and every interaction then counts 1.
                None ignores the column.
            timestamp: column of times (datetimes, or numbers in seconds since 1970); optional in the same way.
            duplicates: policy for several rows of one pair; `last` goes by time where there is one, else by row.
            keep: further columns to carry along, such as a published split.
            titles: readable name of each item id; items it does not name show their id.

        Raises:
            DataError: a column is missing, the frame is empty, an id is missing or of a mixed type,
                a rating is NaN or infinite, or a pair repeats under `duplicates="error"`.
        """
        if duplicates not in get_args(Duplicates):
            raise DataError(f"duplicates must be one of {', '.join(get_args(Duplicates))}, got {duplicates!r}")
        table = _as_pandas(frame)
        names = [keep] if isinstance(keep, str) else list(keep)
        for wanted in (user, item, *names):
            _require(table, wanted)
        has_rating = rating is not None and (rating in table or rating != RATING)
        has_time = timestamp is not None and (timestamp in table or timestamp != TIMESTAMP)
        if not len(table):
            raise DataError("the frame has no rows; expected at least one interaction")

        users, rows = IdMap.factorize(table[user])
        items, cols = IdMap.factorize(table[item])
        values = _ratings(table, str(rating)) if has_rating else np.ones(len(table), dtype=np.float32)
        times = _times(table, str(timestamp)) if has_time else None
        extra = {name: table[name].to_numpy() for name in names}

        # One stable sort by (user, item[, time]): CSR order, and the latest row of a pair comes last.
        keys = (cols, rows) if times is None else (times, cols, rows)
        order = np.lexsort(keys)
        rows, cols, values = rows[order], cols[order], values[order]
        last = np.ones(len(rows), dtype=bool)
        last[:-1] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
        if not last.all():
            values = _merge(values, last, duplicates, users, items, rows, cols)
        picked = order[last]
        indptr = np.zeros(len(users) + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows[last], minlength=len(users)), out=indptr[1:])
        matrix = sp.csr_matrix((values, cols[last], indptr.astype(np.int32)), shape=(len(users), len(items)))
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return cls(
            matrix,
            users,
            items,
            timestamps=None if times is None else times[picked],
            columns={name: column[picked] for name, column in extra.items()},
            titles=None if titles is None else _titles(items, titles),
        )

    @classmethod
    def from_file(cls, path: str | Path, *, layout: Any = "auto", **options: Any) -> Interactions:
        """Read a file or folder in one of the public layouts (see `recsys.datasets.read`)."""
        from recsys.datasets import read  # the readers build Interactions, so they come after this module

        return read(path, layout=layout, **options)

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
        """Return one row per stored entry: `user_id, item_id, rating`, and `timestamp` and kept columns if any."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.matrix.indptr))
        table = {
            USER: self.users.ids(rows),
            ITEM: self.items.ids(self.matrix.indices),
            RATING: self.matrix.data,
        }
        if self.timestamps is not None:
            table[TIMESTAMP] = self.timestamps
        return pd.DataFrame({**table, **self.columns})

    def select(self, entries: npt.NDArray[np.bool_], *, keep_shape: bool = True) -> Interactions:
        """Return only the stored entries marked True; `keep_shape=False` also drops users and items left without any.

        Args:
            entries: (n_stored,) booleans in the order of `matrix.data`.

        Raises:
            DataError: `entries` is not such an array.
        """
        if entries.dtype != bool or entries.shape != (self.nnz,):
            raise DataError(
                f"entries must be one boolean per stored entry ({self.nnz}), got {entries.dtype} {entries.shape}"
            )
        counts = np.add.reduceat(np.append(entries, False), self.matrix.indptr[:-1]) if self.shape[0] else entries
        counts = np.where(np.diff(self.matrix.indptr) > 0, counts, 0)
        indptr = np.zeros(self.shape[0] + 1, dtype=np.int32)
        np.cumsum(counts, out=indptr[1:])
        matrix = sp.csr_matrix((self.matrix.data[entries], self.matrix.indices[entries], indptr), shape=self.shape)
        kept = replace(
            self,
            matrix=matrix,
            timestamps=None if self.timestamps is None else self.timestamps[entries],
            columns={name: values[entries] for name, values in self.columns.items()},
        )
        if keep_shape:
            return kept
        kept = kept.take_users(np.flatnonzero(counts))
        return kept.take_items(np.flatnonzero(np.bincount(kept.matrix.indices, minlength=self.shape[1])))

    def take_users(self, codes: npt.ArrayLike) -> Interactions:
        """Return the rows of these users, in this order."""
        users = self.users.take(codes)
        codes = np.asarray(codes, dtype=np.int64)
        positions = sp.csr_matrix((np.arange(self.nnz), self.matrix.indices, self.matrix.indptr), shape=self.shape)
        entries = positions[codes].data.astype(np.int64)
        return replace(
            self,
            matrix=self.matrix[codes],
            users=users,
            timestamps=None if self.timestamps is None else self.timestamps[entries],
            columns={name: values[entries] for name, values in self.columns.items()},
        )

    def take_items(self, codes: npt.ArrayLike) -> Interactions:
        """Return the columns of these items, in ascending order of `codes`; users keep their rows, empty or not."""
        codes = np.unique(np.asarray(codes))
        items = self.items.take(codes)
        codes = codes.astype(np.int64)
        place = np.full(self.shape[1], -1, dtype=np.int32)
        place[codes] = np.arange(len(codes), dtype=np.int32)
        kept = self.select(place[self.matrix.indices] >= 0)
        matrix = sp.csr_matrix(
            (kept.matrix.data, place[kept.matrix.indices], kept.matrix.indptr),
            shape=(self.shape[0], len(codes)),
        )
        titles = None if self.titles is None else self.titles[codes]
        return replace(kept, matrix=matrix, items=items, titles=titles)

    def histories(self, items: IdMap) -> sp.csr_matrix:
        """Return the matrix with the columns of another item map, such as a fitted model's.

        Interactions with items that the map does not hold are left out: no model can read them.

        Returns:
            (n_users, len(items)) csr, float32.
        """
        if items == self.items:
            return self.matrix
        place = items.codes(self.items.ids(), on_unknown="mark")
        cols = place[self.matrix.indices]
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.matrix.indptr))
        known = cols >= 0
        matrix = sp.csr_matrix(
            (self.matrix.data[known], (rows[known], cols[known])),
            shape=(self.shape[0], len(items)),
            dtype=np.float32,
        )
        matrix.sort_indices()
        return matrix

    def filter(self, *, min_rating: float | None = None, min_user: int = 0, min_item: int = 0) -> Interactions:
        """Return the interactions of at least `min_rating`, then of items, then of users with enough of them.

        The item filter comes first and is not applied again after the user filter (Liang et al. 2018, §4.1).

        Raises:
            DataError: nothing is left.
        """
        kept = self
        if min_rating is not None:
            kept = kept.select(kept.matrix.data >= min_rating, keep_shape=False)
        if min_item > 0:
            counts = np.bincount(kept.matrix.indices, minlength=kept.shape[1])
            kept = kept.select(counts[kept.matrix.indices] >= min_item, keep_shape=False)
        if min_user > 0:
            counts = np.diff(kept.matrix.indptr)
            kept = kept.select(np.repeat(counts >= min_user, counts), keep_shape=False)
        if not kept.nnz:
            raise DataError(
                f"no interaction is left after min_rating={min_rating}, min_item={min_item}, min_user={min_user}"
            )
        return kept

    def binarized(self) -> Interactions:
        """Return the same interactions, each with the value 1."""
        matrix = self.matrix.copy()
        matrix.data[:] = 1.0
        return replace(self, matrix=matrix)

    def fingerprint(self) -> str:
        """Return a SHA-256 of ids, entries, values and times: equal data, equal fingerprint. Computed once."""
        if "_fingerprint" not in vars(self):
            object.__setattr__(self, "_fingerprint", self._digest())
        return str(vars(self)["_fingerprint"])

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for array in (
            self.matrix.indptr.astype(np.int64),
            self.matrix.indices,
            self.matrix.data,
            self.timestamps,
        ):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(b"|")
        for ids in (self.users, self.items):
            values = ids.ids()
            joined = values.tobytes() if ids.kind == "int" else "\x1f".join(map(repr, values.tolist())).encode()
            digest.update(joined + b"|")
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return counts that describe the data, with its fingerprint."""
        return {
            "users": self.shape[0],
            "items": self.shape[1],
            "interactions": self.nnz,
            "density": self.nnz / max(1, self.shape[0] * self.shape[1]),
            "fingerprint": self.fingerprint(),
        }

    def title(self, code: int) -> str:
        """Return the readable name of an item, or its id where it has none."""
        return str(self.items.ids([code])[0]) if self.titles is None else str(self.titles[code])


def _as_pandas(frame: Any) -> pd.DataFrame:
    if isinstance(frame, pd.DataFrame):
        return frame
    if hasattr(frame, "to_pandas"):
        return _as_pandas(frame.to_pandas())
    raise DataError(f"expected a pandas frame or something with to_pandas(), got {type(frame).__name__}")


def _require(table: pd.DataFrame, column: str) -> pd.Series[Any]:
    if column not in table:
        raise DataError(
            f"column {column!r} is not in the table{did_you_mean(column, map(str, table.columns))} "
            "(name columns with user=, item=, rating=, timestamp=)"
        )
    if not table.columns.is_unique and list(table.columns).count(column) > 1:
        raise DataError(f"the table has more than one column {column!r}; rename or drop the others")
    return table[column]


def _ratings(table: pd.DataFrame, column: str) -> npt.NDArray[np.float32]:
    raw = _require(table, column)
    if raw.dtype.kind in "cmM":  # pandas would cast them without a word
        raise DataError(f"column {column!r} must hold numbers, got {raw.dtype}")
    try:
        values = pd.to_numeric(raw).to_numpy(dtype=np.float32, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {column!r} must hold numbers: {error}") from None
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(values)} values in {column!r} are NaN or infinite, the first in row "
            f"{int(bad.argmax())}; drop those rows, or pass rating=None to count every row as 1"
        )
    return values


def _times(table: pd.DataFrame, column: str) -> npt.NDArray[np.int64]:
    raw = _require(table, column)
    if raw.isna().any():
        raise DataError(f"{int(raw.isna().sum())} values in {column!r} are missing; drop them, or pass timestamp=None")
    if pd.api.types.is_datetime64_any_dtype(raw):
        if raw.dt.tz is not None:
            raw = raw.dt.tz_convert("UTC").dt.tz_localize(None)
        return raw.to_numpy().astype("datetime64[s]").astype(np.int64)
    try:
        seconds = pd.to_numeric(raw).to_numpy()
    except (TypeError, ValueError) as error:
        raise DataError(f"column {column!r} must hold datetimes or seconds: {error}") from None
    infinite = int(np.isinf(seconds).sum())
    if infinite:
        raise DataError(f"{infinite} values in {column!r} are infinite; expected datetimes or seconds since 1970")
    return seconds.astype(np.int64)


def _merge(
    values: npt.NDArray[np.float32],
    last: npt.NDArray[np.bool_],
    policy: Duplicates,
    users: IdMap,
    items: IdMap,
    rows: npt.NDArray[np.int32],
    cols: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    if policy == "error":
        first = int(np.flatnonzero(~last)[0])
        pair = (*users.ids([rows[first]]).tolist(), *items.ids([cols[first]]).tolist())
        raise DataError(
            f"{int((~last).sum())} rows repeat a user and item, for instance {pair}; "
            "choose duplicates='last', 'sum' or 'max'"
        )
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    if policy == "sum":
        return np.add.reduceat(values, starts).astype(np.float32)
    return np.maximum.reduceat(values, starts) if policy == "max" else values[last]


def _titles(items: IdMap, titles: Mapping[Any, str]) -> npt.NDArray[np.object_]:
    return np.array([str(titles.get(item, item)) for item in items], dtype=object)
