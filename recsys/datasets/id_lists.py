"""Files that list ids: text with one a line, or a column of a csv or parquet file."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from recsys.datasets.encoding import bare, content
from recsys.datasets.layouts import columns_of
from recsys.datasets.text import Request, table
from recsys.errors import DataError
from recsys.ids import IdMap


def read_ids(path: Path, column: str, known: IdMap) -> list[Hashable]:
    """Return the ids that a file lists: in this column of a csv or parquet file, one a line of any other.

    Args:
        column: `user_id` or `item_id`.
        known: ids that are expected; spaces around a line count where they hold such an id.

    Raises:
        DataError: the file cannot be read, has no such column, or lacks an id.
    """
    what = column.removesuffix("_id")
    try:
        kind = bare(path).suffix
        if kind == ".parquet":
            return _column_of_parquet(path, column)
        return _column_of_csv(path, column) if kind == ".csv" else _lines(path, known)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"the list of {what}s {path} cannot be read: {error}") from None


def _request(column: str) -> Request:
    return Request(user=column, item=column)


def _column_of_parquet(path: Path, column: str) -> list[Hashable]:
    """Return the column, which may be the index of a pandas frame."""
    found = columns_of(path, _request(column))
    if column not in found.column_names:
        raise DataError(f"{path} has no column {column}; it has {', '.join(found.column_names)}")
    ids: list[Hashable] = found[column].to_pandas(integer_object_nulls=True).tolist()
    if missing := sum(id_ is None for id_ in ids):
        raise DataError(f"{path} lacks {missing} ids in the column {column}")
    return ids


def _column_of_csv(path: Path, column: str) -> list[Hashable]:
    """Return the column."""
    try:
        found = table(content(path), _request(column))
    except DataError as error:
        raise DataError(f"{path} must be a csv file with a header and a column {column}: {error}") from None
    if column not in found:
        raise DataError(f"{path} has no column {column}; it has {', '.join(map(str, found))}")
    values = found[column]
    if values.isna().any():
        raise DataError(f"{path} lacks {int(values.isna().sum())} ids in the column {column}")
    ids: list[Hashable] = values.tolist()
    return ids


def _lines(path: Path, known: IdMap) -> list[Hashable]:
    """Return one id a line as text; spaces around it count where such an id is known."""
    text = bytes(content(path)).decode().replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip()]
    exact = known.codes(lines, on_unknown="mark") >= 0
    return [line if found else line.strip() for line, found in zip(lines, exact, strict=True)]
