"""Tables of interactions: their columns checked, and their rows sorted into the entries of a matrix."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.errors import DataError, did_you_mean, warn
from recsys.ids import IdMap
from recsys.matching import FEW_KNOWN
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
    table = as_table(frame, [*names[:4], *names.keep])
    for wanted in (names.user, names.item, *names.keep):
        column = column_of(table, wanted)
        if wanted not in names.keep and (missing := column.isna()).any():
            raise DataError(
                f"{int(missing.sum())} of the {len(table):,} ids in {wanted!r} must not be missing, the first in row "
                f"{int(missing.to_numpy().argmax()) + 1}; drop those rows"
            )
    if not len(table):
        raise DataError("the frame has no rows; expected at least one interaction")
    if weights is None:
        values = _ratings(table, names.rating)
    else:
        values = weighted(table, names.rating, weights)
        kept = values != 0
        if not kept.any():
            raise DataError(f"every row of {names.rating!r} has the weight 0: nothing is left")
        table, values = table[kept], values[kept]

    users, rows = IdMap.factorize(table[names.user])
    items, cols = IdMap.factorize(table[names.item])
    times, exact = _times(table, names.timestamp, time_unit)
    for name, known in ((names.rating, RATING), (names.timestamp, TIMESTAMP)):
        if name == known:
            note_like(known, table.columns)

    # One stable sort by (user, item[, time]) gives CSR order, with the latest row of a pair last.
    order = np.lexsort((cols, rows) if exact is None else (exact, cols, rows))
    rows, cols, values = rows[order], cols[order], values[order]
    last = np.ones(len(rows), dtype=bool)
    last[:-1] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
    if not last.all():
        if duplicates == "error":
            first = int(np.flatnonzero(~last)[0])
            pair = (*users.ids([rows[first]]).tolist(), *items.ids([cols[first]]).tolist())
            raise repeated(int((~last).sum()), pair)
        values = merged(values, last, duplicates)
    picked = order[last]
    indptr = np.searchsorted(rows[last], np.arange(len(users) + 1)).astype(index_type(len(picked)))
    matrix = sp.csr_matrix((values, cols[last], indptr), shape=(len(users), len(items)))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    columns = {name: table[name].to_numpy()[picked] for name in names.keep}
    return Entries(matrix, users, items, None if times is None else times[picked], columns)


def repeated(count: int, pair: tuple[Any, ...]) -> DataError:
    """Return the error for rows that repeat a user and item, and one such pair."""
    return DataError(
        f"{count} rows repeat a user and item, for instance {pair}; choose duplicates='last', 'sum' or 'max'"
    )


def merged(
    values: npt.NDArray[np.float32], last: npt.NDArray[np.bool_], duplicates: Duplicates
) -> npt.NDArray[np.float32]:
    """Return one value for each run of rows of a user and item, of which `last` marks the ends."""
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    merge = {"sum": np.add, "max": np.maximum}.get(duplicates)
    return values[last] if merge is None else merge.reduceat(values, starts)


def as_table(frame: Any, wanted: Iterable[str | None]) -> pd.DataFrame:
    """Return a pandas frame of anything with `to_pandas()`; wanted levels of its index become columns."""
    table = frame
    while hasattr(table, "to_pandas"):
        table = table.to_pandas()
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"expected a pandas frame or something with to_pandas(), got {type(frame).__name__}")
    if isinstance(table.columns, pd.MultiIndex):
        raise DataError(f"the columns of the frame have {table.columns.nlevels} levels; give each one name")
    wanted = list(wanted)
    levels = [name for name in table.index.names if name is not None and name in wanted and name not in table]
    if len(set(levels)) < len(levels):
        raise DataError(f"the index of the frame has several levels {levels[0]!r}; rename or drop the others")
    return table.reset_index(levels) if levels else table


def note_like(name: str, columns: Iterable[Any]) -> None:
    """Warn of a column that looks like an optional one of the default name, which is not there."""
    columns = list(columns)
    alike = [column for column in columns if str(column).strip().lower().rstrip("s") == name]
    if name not in columns and alike:
        warn(f"there is no column {name!r}, but {alike[0]!r}: pass {name}={alike[0]!r} to read it")


About = tuple[npt.NDArray[np.object_] | None, dict[str, npt.NDArray[Any]]]
"""Titles, None if there are none, and further columns by name."""


def about(what: Literal["items", "users"], table: Any, column: str, known: IdMap) -> About:
    """Return what a table of items or users says, as `Interactions.from_frame` takes it; nothing without a table."""
    if table is None:
        return None, {}
    try:
        return about_items(table, column, known) if what == "items" else _about(table, column, known, "user", USER)
    except DataError as error:
        raise DataError(f"the table of {what}: {error}") from None


def about_items(items: Any, column: str, known: IdMap) -> About:
    """Return titles and further columns of the known items from a table as `Interactions.from_frame(items=)` takes it.

    Titles are None if the table has none.
    """
    return _about(items, column, known, "item", ITEM)


def _about(given: Any, column: str, known: IdMap, what: str, usual: str) -> About:
    table = as_table(given, [column, usual])
    name = column if column in table or usual not in table else usual
    ids = IdMap(column_of(table, name))
    codes = known.codes_of(ids, what)
    row = np.full(len(known), -1, dtype=np.int64)
    row[codes[codes >= 0]] = np.flatnonzero(codes >= 0)
    absent = row < 0
    if absent.all():
        raise DataError(f"no {what} of the table of {what}s is in the interactions: {ids!r} there, {known!r} here")
    if absent.mean() > 1 - FEW_KNOWN:
        warn(
            f"the table of {what}s describes {int((~absent).sum()):,} of the {len(known):,} {what}s: ids there are "
            f"like {next(iter(ids))!r}, those without a row like {next(iter(known.take(np.flatnonzero(absent)[:1])))!r}"
        )
    titles = None
    if what == "item" and TITLE in table:
        shown = column_of(table, TITLE).iloc[row].to_numpy(dtype=object)
        titles = np.where(absent | pd.isna(shown), known.ids().astype(object), shown)
        titles = np.array([str(title) for title in titles], dtype=object)
    columns = {}
    for other in (str(other) for other in table if other != name and (other, what) != (TITLE, "item")):
        values = column_of(table, other)
        if absent.any() or not isinstance(values.dtype, np.dtype) or values.dtype.kind not in "biufM":
            found = np.full(len(known), None, dtype=object)
            found[~absent] = values.to_numpy(dtype=object)[row[~absent]]
            found[pd.isna(pd.Series(found, dtype=object)).to_numpy()] = None
        else:
            found = values.to_numpy()[row]
        columns[other] = found
    return titles, columns


LISTS: Final = list | tuple | set | frozenset | np.ndarray
"""Types of a cell that holds several values."""


def is_missing(value: Any) -> bool:
    """Return whether a cell holds nothing: None, NaN or NaT; an empty list is a value."""
    return not isinstance(value, LISTS) and bool(pd.isna(value))


def in_words(values: Iterable[Any], most: int = 3, longest: int = 40) -> str:
    """Return what is known of an item as one line: the first `most` values, each cut to `longest` characters."""
    found = []
    for value in values:
        if isinstance(value, LISTS):
            value = ", ".join(map(str, value))
        elif is_missing(value):
            continue
        text = f"{value:g}" if isinstance(value, float | np.floating) else str(value)
        found.append(text if len(text) <= longest else f"{text[: longest - 1]}…")
    return " · ".join(text for text in found[:most] if text)


def column_of(table: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return a column; a DataError if there is none of that name, or several."""
    if column is None or not isinstance(column, Hashable):
        raise DataError(f"expected the name of a column, got {column!r}")
    if column not in table:
        raise DataError(
            f"column {column!r} is not in the table{did_you_mean(str(column), map(str, table.columns))} "
            "(name columns with user=, item=, rating=, timestamp=)"
        )
    if not table.columns.is_unique and list(table.columns).count(column) > 1:
        raise DataError(f"the table has more than one column {column!r}; rename or drop the others")
    return table[column]


def _ratings(table: pd.DataFrame, column: str | None) -> npt.NDArray[np.float32]:
    if column is None or (column == RATING and column not in table):
        return np.ones(len(table), dtype=np.float32)
    raw = column_of(table, column)
    kind = pd.api.types.infer_dtype(raw)
    if raw.dtype.kind in "cmM" or kind in ("complex", "period", "interval", "datetime", "date", "timedelta", "time"):
        raise DataError(f"column {column!r} must hold numbers, got {raw.dtype if raw.dtype.kind != 'O' else kind}")
    try:
        values = pd.to_numeric(raw).to_numpy(dtype=np.float64, na_value=np.nan)
        with np.errstate(over="ignore", under="ignore"):
            values = values.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"column {column!r} must hold numbers: {error}") from None
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(values)} values in {column!r} are NaN or infinite, the first in row "
            f"{int(bad.argmax())}; drop those rows, or pass rating=None to count every row as 1"
        )
    return values


def weighted(table: pd.DataFrame, column: str | None, weights: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Return the weight of each row's event; 0 for those that are to be left out.

    Raises:
        DataError: there is no such column, an event is missing or has no weight, or the weights are none.
    """
    if column is None:
        raise DataError("weights need a column of events; name it with rating=")
    events_of_rows = column_of(table, column)
    if events_of_rows.isna().any():
        raise DataError(f"{int(events_of_rows.isna().sum())} events in {column!r} are missing; drop those rows")
    try:
        codes, events = pd.factorize(events_of_rows)
    except TypeError:
        raise DataError(f"column {column!r} must hold events, got {events_of_rows.iloc[0]!r}") from None
    counts = np.bincount(codes, minlength=len(events))
    return weights_of_events(dict(zip(events, counts.tolist(), strict=True)), column, weights)[codes]


def weights_of_events(counts: Mapping[Any, int], column: str, weights: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Return the weight of each event that a column holds; a DataError if one has none.

    Args:
        counts: rows of each event.
    """
    if not isinstance(weights, Mapping):
        raise DataError(f"weights must be numbers by event, got {type(weights).__name__}")
    numbers = [weight for weight in weights.values() if _is_weight(weight)]
    if not weights or len(numbers) < len(weights):
        raise DataError(f"weights must be numbers of at least 0 by event, got {dict(weights)!r}")
    known = {_event(event): float(weight) for event, weight in weights.items()}
    if len(known) < len(weights):
        raise DataError(f"weights name an event twice: {list(weights)!r}")
    unknown = {_event(event): count for event, count in counts.items() if _event(event) not in known}
    if unknown:
        raise DataError(
            f"column {column!r} holds events without a weight: {_listed(unknown)}; "
            "give each a weight, 0 to leave its rows out"
        )
    found: npt.NDArray[np.float32] = np.array([known[_event(event)] for event in counts], dtype=np.float32)
    return found


def _is_weight(weight: Any) -> bool:
    if isinstance(weight, bool | np.bool_) or not isinstance(weight, int | float | np.integer | np.floating):
        return False
    return bool(weight == 0 or 1e-30 <= weight <= 1e30)  # what float32 holds, sums included


def _event(event: Any) -> str:
    """Return an event as text: 1, 1.0 and "1" are the same."""
    return str(int(event)) if isinstance(event, float | np.floating) and float(event).is_integer() else str(event)


def _listed(counts: Mapping[str, int], most: int = 5) -> str:
    named = [f"{name!r} ({count:,} rows)" for name, count in counts.items()]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def _times(table: pd.DataFrame, column: str | None, unit: TimeUnit) -> tuple[Times | None, npt.NDArray[Any] | None]:
    if column is None or (column == TIMESTAMP and column not in table):
        return None, None
    return seconds_of(column_of(table, column), column, unit)
