"""A table of text copied into parquet, some rows at a time, with what all of a column have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.encoding import content
from recsys.datasets.text import INTEGER, WHOLE, Request, batches
from recsys.errors import DataError


@dataclass
class Written:
    """How the fields of a column are written."""

    as_ids: bool = True
    """All as whole numbers that ids are read as."""
    as_whole: bool = True
    """All as int64 reads them."""
    as_numbers: bool = True
    """All as float64 reads them."""


def copied(path: Path, request: Request, target: Path, *, tab: bool) -> dict[str, Written]:
    """Write the wanted columns of a table of text to a parquet file of text; return how each is written.

    Args:
        tab: fields are separated by tabs, and quotes are part of them.

    Raises:
        DataError: the text is not what `datasets.read` takes.
    """
    dialect: dict[str, Any] = {"separators": ("\t",), "quotes": False} if tab else {}
    found: dict[str, Written] = {}
    writer: pq.ParquetWriter | None = None
    try:
        for part in batches(content(path, request.encoding), request, **dialect):
            for name in part.column_names:
                _look(found.setdefault(name, Written()), part[name], name, request)
            writer = writer or pq.ParquetWriter(target, part.schema, compression="snappy")
            writer.write_table(part)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DataError("the frame has no rows; expected at least one interaction")
    return found


def _look(written: Written, column: pa.ChunkedArray, name: str, request: Request) -> None:
    if name in (request.user, request.item):
        values = pc.unique(column)
        if pc.any(pc.equal(values, "\\N")).as_py():
            raise DataError(f"column {name!r} holds \\N, by which databases mean a missing value; drop those rows")
        written.as_ids = written.as_ids and _reads(values, pa.int64(), INTEGER)
    else:
        written.as_whole = written.as_whole and _reads(column, pa.int64(), WHOLE)
        written.as_numbers = written.as_numbers and _reads(column, pa.float64())


def _reads(column: Any, kind: pa.DataType, pattern: str | None = None) -> bool:
    """Return whether all fields match a pattern and can be cast; a missing one is none."""
    if column.null_count or (pattern and not pc.all(pc.match_substring_regex(column, pattern), min_count=0).as_py()):
        return False
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
