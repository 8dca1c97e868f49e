"""Tables of interactions: their columns checked, and their rows sorted into the entries of a matrix."""

from __future__ import annotations

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


def entries_of(
    frame: Any,
    user: str,
    item: str,
    rating: str | None,
    timestamp: str | None,
    duplicates: Duplicates,
    keep: tuple[str, ...],
) -> tuple[sp.csr_matrix, IdMap, IdMap, npt.NDArray[np.int64] | None, dict[str, npt.NDArray[Any]]]:
    """Return matrix, users, items, times and kept columns of a table, all checked as `Interactions.from_frame` says."""
    if duplicates not in get_args(Duplicates):
        raise DataError(f"duplicates must be one of {', '.join(get_args(Duplicates))}, got {duplicates!r}")
    table = frame
    while hasattr(table, "to_pandas"):
        table = table.to_pandas()
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"expected a pandas frame or something with to_pandas(), got {type(frame).__name__}")
    for wanted in (user, item, *keep):
        _require(table, wanted)
    if not len(table):
        raise DataError("the frame has no rows; expected at least one interaction")

    users, rows = IdMap.factorize(table[user])
    items, cols = IdMap.factorize(table[item])
    values, times = _ratings(table, rating), _times(table, timestamp)

    # One stable sort by (user, item[, time]) gives CSR order, with the latest row of a pair last.
    order = np.lexsort((cols, rows) if times is None else (times, cols, rows))
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
        starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
        merge = {"sum": np.add, "max": np.maximum}.get(duplicates)
        values = values[last] if merge is None else merge.reduceat(values, starts)
    picked = order[last]
    indptr = np.searchsorted(rows[last], np.arange(len(users) + 1)).astype(np.int32)
    matrix = sp.csr_matrix((values, cols[last], indptr), shape=(len(users), len(items)))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    columns = {name: table[name].to_numpy()[picked] for name in keep}
    return matrix, users, items, None if times is None else times[picked], columns


def _require(table: pd.DataFrame, column: str) -> pd.Series[Any]:
    if column not in table:
        raise DataError(
            f"column {column!r} is not in the table{did_you_mean(column, map(str, table.columns))} "
            "(name columns with user=, item=, rating=, timestamp=)"
        )
    if not table.columns.is_unique and list(table.columns).count(column) > 1:
        raise DataError(f"the table has more than one column {column!r}; rename or drop the others")
    return table[column]


def _ratings(table: pd.DataFrame, column: str | None) -> npt.NDArray[np.float32]:
    if column is None or (column == RATING and column not in table):
        return np.ones(len(table), dtype=np.float32)
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


def _times(table: pd.DataFrame, column: str | None) -> npt.NDArray[np.int64] | None:
    if column is None or (column == TIMESTAMP and column not in table):
        return None
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
    if infinite := int(np.isinf(seconds).sum()):
        raise DataError(f"{infinite} values in {column!r} are infinite; expected datetimes or seconds since 1970")
    return seconds.astype(np.int64)
