"""Tables of interactions: their columns checked, and their rows sorted into the entries of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE
from recsys.errors import DataError, did_you_mean
from recsys.ids import IdMap
from recsys.times import Times, TimeUnit, seconds_of

Duplicates = Literal["error", "last", "sum", "max"]
"""What to do with several rows of one user and item: refuse them, keep the latest, sum them, keep the largest."""


MOST_INT32: Final = 2**31 - 1
"""Offsets up to this are int32, beyond it int64."""


def index_type(most: int) -> type[np.integer[Any]]:
    """Return the type of offsets of up to `most` entries."""
    return np.int32 if most <= MOST_INT32 else np.int64


class Entries(NamedTuple):
    """The entries of a table in the order of a CSR matrix."""

    matrix: sp.csr_matrix
    users: IdMap
    items: IdMap
    times: Times | None
    columns: dict[str, npt.NDArray[Any]]


class Names(NamedTuple):
    """Names of the columns of a table, as `Interactions.from_frame` takes them."""

    user: str
    item: str
    rating: str | None
    timestamp: str | None
    keep: tuple[str, ...]


def entries_of(
    frame: Any, names: Names, duplicates: Duplicates, time_unit: TimeUnit, weights: Mapping[str, float] | None
) -> Entries:
    """Return the entries of a table, all checked as `Interactions.from_frame` says."""
    if duplicates not in get_args(Duplicates):
        raise DataError(f"duplicates must be one of {', '.join(get_args(Duplicates))}, got {duplicates!r}")
    if time_unit not in get_args(TimeUnit):
        raise DataError(f"time_unit must be one of {', '.join(get_args(TimeUnit))}, got {time_unit!r}")
    table = as_table(frame, [name for name in (*names[:4], *names.keep) if name is not None])
    for wanted in (names.user, names.item, *names.keep):
        column_of(table, wanted)
    if not len(table):
        raise DataError("the frame has no rows; expected at least one interaction")
    if weights is None:
        values = _ratings(table, names.rating)
    else:
        values = _weighted(table, names.rating, weights)
        kept = values != 0
        table, values = table[kept], values[kept]

    users, rows = IdMap.factorize(table[names.user])
    items, cols = IdMap.factorize(table[names.item])
    times, exact = _times(table, names.timestamp, time_unit)

    # One stable sort by (user, item[, time]) gives CSR order, with the latest row of a pair last.
    order = np.lexsort((cols, rows) if exact is None else (exact, cols, rows))
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
    indptr = np.searchsorted(rows[last], np.arange(len(users) + 1)).astype(index_type(len(picked)))
    matrix = sp.csr_matrix((values, cols[last], indptr), shape=(len(users), len(items)))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    columns = {name: table[name].to_numpy()[picked] for name in names.keep}
    return Entries(matrix, users, items, None if times is None else times[picked], columns)


def as_table(frame: Any, wanted: Iterable[str]) -> pd.DataFrame:
    """Return a pandas frame of anything with `to_pandas()`; wanted levels of its index become columns."""
    table = frame
    while hasattr(table, "to_pandas"):
        table = table.to_pandas()
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"expected a pandas frame or something with to_pandas(), got {type(frame).__name__}")
    levels = [name for name in dict.fromkeys(wanted) if name in table.index.names and name not in table]
    return table.reset_index(levels) if levels else table


def about_items(
    items: Any, column: str, known: IdMap
) -> tuple[npt.NDArray[np.object_] | None, dict[str, npt.NDArray[Any]]]:
    """Return titles and further columns of the known items from a table as `Interactions.from_frame(items=)` takes it.

    Titles are None if the table has none.
    """
    table = as_table(items, [column, ITEM])
    name = column if column in table or ITEM not in table else ITEM
    ids = IdMap(column_of(table, name))
    codes = known.codes_of(ids, "item")
    row = np.full(len(known), -1, dtype=np.int64)
    row[codes[codes >= 0]] = np.flatnonzero(codes >= 0)
    absent = row < 0
    if absent.all():
        raise DataError(f"no item of the table of items is in the interactions: {ids!r} there, {known!r} here")
    titles = None
    if TITLE in table:
        shown = column_of(table, TITLE).iloc[row].to_numpy(dtype=object)
        titles = np.where(absent | pd.isna(shown), known.ids().astype(object), shown)
        titles = np.array([str(title) for title in titles], dtype=object)
    columns = {}
    for other in (str(other) for other in table if other not in (name, TITLE)):
        values = column_of(table, other).iloc[row]
        found = values.mask(absent).to_numpy()
        if found.dtype.kind not in "biufM":
            found = values.to_numpy(dtype=object)
            found[absent | pd.isna(values).to_numpy()] = None
        columns[other] = found
    return titles, columns


def column_of(table: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return a column; a DataError if there is none of that name, or several."""
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
    raw = column_of(table, column)
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


def _weighted(table: pd.DataFrame, column: str | None, weights: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Return the weight of each row's event; 0 for those that are to be left out."""
    if column is None:
        raise DataError("weights need a column of events; name it with rating=")
    numbers = [
        w for w in weights.values() if isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w < np.inf
    ]
    if not weights or len(numbers) < len(weights):
        raise DataError(f"weights must be numbers of at least 0 by event, got {dict(weights)!r}")
    codes, events = pd.factorize(column_of(table, column), use_na_sentinel=False)
    counts = np.bincount(codes, minlength=len(events))
    known = {str(event): float(weight) for event, weight in weights.items()}
    unknown = {str(event): int(n) for event, n in zip(events, counts, strict=True) if str(event) not in known}
    if unknown:
        raise DataError(
            f"column {column!r} holds events without a weight: {_listed(unknown)}; "
            "give each a weight, 0 to leave its rows out"
        )
    values: npt.NDArray[np.float32] = np.array([known[str(event)] for event in events], dtype=np.float32)[codes]
    if not values.any():
        raise DataError(f"every row of {column!r} has the weight 0: nothing is left")
    return values


def _listed(counts: Mapping[str, int], most: int = 5) -> str:
    named = [f"{name!r} ({count:,} rows)" for name, count in counts.items()]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def _times(table: pd.DataFrame, column: str | None, unit: TimeUnit) -> tuple[Times | None, npt.NDArray[Any] | None]:
    if column is None or (column == TIMESTAMP and column not in table):
        return None, None
    return seconds_of(column_of(table, column), column, unit)
