"""Tables of interactions: their columns checked, and their rows sorted into the entries of a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import RATING, TIMESTAMP
from recsys.errors import DataError, did_you_mean
from recsys.ids import IdMap

Duplicates = Literal["error", "last", "sum", "max"]
"""What to do with several rows of one user and item: refuse them, keep the latest, sum them, keep the largest."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a table: one for each user and item that occur together."""

    matrix: sp.csr_matrix
    """(n_users, n_items) float32, indices sorted within each row."""
    users: IdMap
    items: IdMap
    timestamps: npt.NDArray[np.int64] | None
    """(n_stored,) seconds since 1970, in the order of `matrix.data`."""
    columns: Mapping[str, npt.NDArray[Any]]
    """The kept columns, each (n_stored,), in the order of `matrix.data`."""


def entries_of(
    frame: Any,
    user: str,
    item: str,
    rating: str | None,
    timestamp: str | None,
    duplicates: Duplicates,
    keep: tuple[str, ...],
) -> Entries:
    """Return the entries of a table with one row per interaction; see `Interactions.from_frame`.

    Raises:
        DataError: as `Interactions.from_frame`.
    """
    if duplicates not in get_args(Duplicates):
        raise DataError(f"duplicates must be one of {', '.join(get_args(Duplicates))}, got {duplicates!r}")
    table = _as_pandas(frame)
    for wanted in (user, item, *keep):
        _require(table, wanted)
    has_rating = rating is not None and (rating in table or rating != RATING)
    has_time = timestamp is not None and (timestamp in table or timestamp != TIMESTAMP)
    if not len(table):
        raise DataError("the frame has no rows; expected at least one interaction")

    users, rows = IdMap.factorize(table[user])
    items, cols = IdMap.factorize(table[item])
    values = _ratings(table, str(rating)) if has_rating else np.ones(len(table), dtype=np.float32)
    times = _times(table, str(timestamp)) if has_time else None

    # One stable sort by (user, item[, time]) gives CSR order, with the latest row of a pair last.
    keys = (cols, rows) if times is None else (times, cols, rows)
    order = np.lexsort(keys)
    rows, cols, values = rows[order], cols[order], values[order]
    last = np.ones(len(rows), dtype=bool)
    last[:-1] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
    if not last.all():
        if duplicates == "error":
            first = int(np.flatnonzero(~last)[0])
            pair = (*users.ids([rows[first]]).tolist(), *items.ids([cols[first]]).tolist())
            raise DataError(
                f"{int((~last).sum())} rows repeat a user and item, for instance {pair}; "
                "choose duplicates='last', 'sum' or 'max'"
            )
        values = _merge(values, last, duplicates)
    picked = order[last]
    indptr = np.zeros(len(users) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows[last], minlength=len(users)), out=indptr[1:])
    matrix = sp.csr_matrix((values, cols[last], indptr.astype(np.int32)), shape=(len(users), len(items)))
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return Entries(
        matrix,
        users,
        items,
        None if times is None else times[picked],
        {name: table[name].to_numpy()[picked] for name in keep},
    )


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
    if raw.dtype.kind in "cmM":  # pandas would cast them silently
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
    values: npt.NDArray[np.float32], last: npt.NDArray[np.bool_], policy: Literal["last", "sum", "max"]
) -> npt.NDArray[np.float32]:
    """Return one value per pair from sorted rows; `last` marks the last row of each pair."""
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    if policy == "sum":
        return np.add.reduceat(values, starts).astype(np.float32)
    return np.maximum.reduceat(values, starts) if policy == "max" else values[last]
