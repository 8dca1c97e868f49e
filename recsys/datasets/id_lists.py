"""Lists of ids: text with one a line, or a column of a csv or parquet table; from a file or from a pipe."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from recsys.arguments import STDIN
from recsys.datasets.encoding import bare, content, first_line
from recsys.datasets.layouts import columns_of
from recsys.datasets.text import Request, table
from recsys.errors import DataError
from recsys.ids import IdMap


def read_ids(path: Path, column: str, known: IdMap) -> list[Hashable]:
    """Return the ids that a file lists: `.parquet` and `.csv` are tables, any other file has one id a line.

    What comes through a pipe has no suffix: it is Parquet by its first bytes, a csv table if its first line names the
    column, and one id a line otherwise.

    Args:
        column: `user_id` or `item_id`.
        known: ids that are expected; spaces around a line count where they hold such an id.

    Raises:
        DataError: the file cannot be read, has no such column, or lacks an id.
    """
    what = column.removesuffix("_id")
    try:
        if path.is_file() and path != STDIN:
            return _ids_in(path, bare(path).suffix, column, known, str(path))
        return _piped(path, column, known)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"the list of {what}s {path} cannot be read: {error}") from None


def _piped(path: Path, column: str, known: IdMap) -> list[Hashable]:
    """Return the ids of a pipe, which can be read once: of a copy."""
    whole = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="recsys-") as folder:
        copy = Path(folder, "ids")
        copy.write_bytes(whole)
        names = [name.strip(' "') for name in re.split(r"[,;|\t]", first_line(copy))]
        kind = ".parquet" if whole[:4] == b"PAR1" else ".csv" if column in names else ""
        return _ids_in(copy, kind, column, known, str(path))


def _ids_in(file: Path, kind: str, column: str, known: IdMap, where: str) -> list[Hashable]:
    """Return the ids of a regular file; messages call it `where`."""
    if kind == ".parquet":
        return _column_of_parquet(file, column, where)
    return _column_of_csv(file, column, where) if kind == ".csv" else _lines(file, known)


def _request(column: str) -> Request:
    return Request(user=column, item=column)


def _column_of_parquet(path: Path, column: str, where: str) -> list[Hashable]:
    """Return the column, which may be the index of a pandas frame."""
    found = columns_of(path, _request(column))
    if column not in found.column_names:
        raise DataError(f"{where} has no column {column}; it has {', '.join(found.column_names)}")
    ids: list[Hashable] = found[column].to_pandas(integer_object_nulls=True).tolist()
    if missing := sum(id_ is None for id_ in ids):
        raise DataError(f"{where} lacks {missing} ids in the column {column}")
    return ids


def _column_of_csv(path: Path, column: str, where: str) -> list[Hashable]:
    """Return the column."""
    try:
        found = table(content(path), _request(column))
    except DataError as error:
        raise DataError(f"{where} must be a csv file with a header and a column {column}: {error}") from None
    if column not in found:
        raise DataError(f"{where} has no column {column}; it has {', '.join(map(str, found))}")
    values = found[column]
    if values.isna().any():
        raise DataError(f"{where} lacks {int(values.isna().sum())} ids in the column {column}")
    ids: list[Hashable] = values.tolist()
    return ids


def _lines(path: Path, known: IdMap) -> list[Hashable]:
    """Return one id a line as text; spaces around it count where such an id is known."""
    text = bytes(content(path)).decode().replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip()]
    exact = known.codes(lines, on_unknown="mark") >= 0
    return [line if found else line.strip() for line, found in zip(lines, exact, strict=True)]
