"""Long rows, one per interaction, as Arrow batches: cut into whole users, and read as interactions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.datasets.text import labels
from recsys.errors import DataError, DataWarning
from recsys.frames import Duplicates, weighted
from recsys.interactions import Interactions
from recsys.times import TimeUnit

SEEN: Final = "seen"
"""Column that marks the rows that are not read, but filtered."""
BLOCK_USERS, BLOCK_ROWS = 8_192, 2**21
"""A block ends where one user ends and so many users or rows are in it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows become histories: what `Interactions.from_frame` and `[data]` call these names."""

    duplicates: Duplicates = "error"
    """What to do with several rows of one user and item; `last` goes by time, then by row."""
    time_unit: TimeUnit = "auto"
    weights: Mapping[str, float] | None = None
    """Value of each event where the ratings are events."""
    min_rating: float | None = None
    """Rows below it are not read, and filtered all the same."""
    binary: bool = False
    """Give every interaction the value 1."""


def whole_users(
    batches: Iterable[pa.RecordBatch], users: int = BLOCK_USERS, rows: int = BLOCK_ROWS
) -> Iterator[pa.Table]:
    """Cut batches, whose rows are sorted by user, into tables of whole users.

    A table ends with the last whole user of the batch with which it has `users` users or `rows` rows. The rows of a
    user of many batches are kept in a list and joined once.

    Raises:
        DataError: a user id is missing, or the rows are not sorted.
    """
    whole: list[pa.RecordBatch] = []
    last: list[pa.RecordBatch] = []
    n_users, n_rows = 0, 0
    for batch in batches:
        if not batch.num_rows:
            continue
        ids = batch[USER]
        if ids.null_count:
            raise DataError(f"{ids.null_count} ids in {USER!r} are missing; drop those rows")
        borders = np.flatnonzero(_differ(ids[1:], ids[:-1])) + 1
        if last and ids[0] != last[0][USER][0]:
            borders = np.append(0, borders)
        _check_sorted(pa.concat_arrays([(last or [batch])[0][USER][:1], ids.take(pa.array(borders))]))
        if not len(borders):
            last.append(batch)
            continue
        whole += [*last, batch.slice(0, borders[-1])]
        n_rows += sum(piece.num_rows for piece in last) + int(borders[-1])
        n_users += len(borders)
        last = [batch.slice(borders[-1])]
        if n_users >= users or n_rows >= rows:
            yield pa.Table.from_batches(whole)
            whole, n_users, n_rows = [], 0, 0
    if whole or last:
        yield pa.Table.from_batches([*whole, *last])


def interactions_of(table: pa.Table, reading: Reading) -> tuple[Interactions, Interactions | None] | None:
    """Return the histories of a table of rows, and all that their users have seen where that is something else.

    None where no row is read, because all have the weight 0 or are `seen`.

    Raises:
        DataError: what `Interactions.from_frame` refuses.
    """
    seen = None
    if SEEN in table.column_names:
        marked = table[SEEN]
        if marked.null_count or not pa.types.is_boolean(marked.type):
            raise DataError(
                f"column {SEEN!r} must hold true or false, got {marked.type} with {marked.null_count} nulls"
            )
        rows = table.filter(marked)
        table = table.filter(pc.invert(marked))
        if rows.num_rows and table.num_rows:
            seen = Interactions.from_frame(_frame(rows, ()), duplicates="last")
        elif table.num_rows:
            raise DataError(f"{SEEN} must hold every user of the histories, and holds none of this block")
    if not table.num_rows:
        return None
    frame = _frame(table, (RATING, TIMESTAMP))
    if reading.weights is not None:
        values = weighted(frame, RATING, reading.weights)
        frame = frame.assign(**{RATING: values})[values != 0]
        if not len(frame):
            return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # units of times are guessed block by block, and only order rows
        read = Interactions.from_frame(frame, duplicates=reading.duplicates, time_unit=reading.time_unit)
    if reading.min_rating is not None:
        seen = read if seen is None else seen
        read = read.select(read.matrix.data >= reading.min_rating)
    return (read.binarized() if reading.binary else read), seen


def _check_sorted(starts: pa.Array) -> None:
    """Refuse users of whom one does not come after the one before."""
    wrong = np.flatnonzero(pc.less_equal(starts[1:], starts[:-1]).to_numpy(zero_copy_only=False))
    if len(wrong):
        pair = starts[int(wrong[0])].as_py(), starts[int(wrong[0]) + 1].as_py()
        raise DataError(f"rows must be sorted by user, got {pair[1]!r} after {pair[0]!r}")


def _differ(left: pa.Array, right: pa.Array) -> Any:
    return pc.not_equal(left, right).to_numpy(zero_copy_only=False)


def _frame(table: pa.Table, further: tuple[str, ...]) -> pd.DataFrame:
    """Return the ids, text as categories, and those further columns that are there."""
    columns: dict[str, Any] = {}
    for name in (USER, ITEM):
        if name not in table.column_names:
            raise DataError(f"column {name!r} is not in the rows; they have {', '.join(table.column_names)}")
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            columns[name] = labels(column.cast(pa.string()), as_text=True)
        else:
            columns[name] = column.to_pandas()
    columns |= {name: table[name].to_pandas() for name in further if name in table.column_names}
    return pd.DataFrame(columns, copy=False)
