"""The table that is prepared: its parquet files, and what their columns hold.

Text is first copied into a parquet file of text, some rows at a time, by the same parser that `datasets.read` uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import datasets
from recsys.columns import RATING, TIMESTAMP
from recsys.datasets.copying import Written, copied
from recsys.errors import ConfigError, DataError
from recsys.times import PER_SECOND

_LOCAL: Final = "; --engine local reads it, in memory"
_COLUMNS: Final = ("user", "item", "rating", "timestamp")
_READING: Final = ("layout", "items", "item_key", "item_title", "ids", "separator", "encoding", "names")


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    name: str
    kind: Literal["int", "float", "str", "time", "other"]
    """What it is read as: `time` is a timestamp, `other` is refused where it is asked for."""
    cast: bool = False
    """It is stored as another type and to be cast to this one."""


@dataclass(frozen=True)
class Source:
    """A table of interactions in parquet files, whose rows are in the order of the files."""

    files: Sequence[Path]
    user: Column
    item: Column
    value: Column | None
    """None: every row counts 1."""
    time: Column | None
    about_items: pd.DataFrame | None
    """The table of items, as `Interactions.from_frame(items=)` takes it."""


def source_of(path: str | Path, options: Mapping[str, Any], scratch: Path) -> Source:
    """Return the table at a path, which `datasets.read` reads with the same options into the same interactions.

    Args:
        options: keys of `[data]` that `datasets.read` and `Interactions.from_frame` take.
        scratch: folder for a copy of text.

    Raises:
        ConfigError: the layout, or the type of a column, is one that only `datasets.read` reads.
        DataError: there is no such table, or it is damaged.
    """
    reading = {name: options[name] for name in _READING if name in options}
    found = datasets.locate(path, columns={name: options[name] for name in _COLUMNS if name in options}, **reading)
    request = found.request
    if found.layout == "parquet":
        files, schema = found.files, _schema(found.files)
        request(list(schema))  # which warns of columns that look like optional ones
    elif found.layout in ("csv", "tsv", "ratings.csv"):
        files = [scratch / "table.parquet"]
        written = copied(found.files[0], request, files[0], tab=found.layout == "tsv")
        schema = {name: _of_text(name, how, name in (request.user, request.item)) for name, how in written.items()}
    else:
        raise ConfigError(f"the layout {found.layout} is read by --engine local alone")
    if len({name.lower() for name in schema}) < len(schema):
        raise ConfigError(f"columns of {path} differ in upper and lower case alone{_LOCAL}")
    user, item = (_id_column(name, schema, request.ids) for name in (request.user, request.item))
    value, time = _optional(request.rating, RATING, schema), _optional(request.timestamp, TIMESTAMP, schema)
    if options.get("weights") is None and value is not None and value.kind not in ("int", "float"):
        raise ConfigError(f"column {value.name!r} does not hold plain numbers{_LOCAL}")
    if time is not None and time.kind not in ("int", "float", "time"):
        raise ConfigError(f"column {time.name!r} holds neither numbers nor timestamps{_LOCAL}")
    return Source(files, user, item, value, time, found.items)


def _schema(files: Sequence[Path]) -> dict[str, Column]:
    """Return the columns of parquet files by name; a ConfigError where they differ."""
    schemas = [pq.read_schema(file) for file in files]
    first = schemas[0]
    if any(other.names != first.names or other.types != first.types for other in schemas[1:]):
        names = ", ".join(file.name for file in files[:8])
        raise ConfigError(f"the parquet files {names} have columns of different names or types{_LOCAL}")
    return {field.name: Column(field.name, _kind(field.type)) for field in first}


def _kind(kind: pa.DataType) -> Literal["int", "float", "str", "time", "other"]:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return "float"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "str"
    # As microseconds: engines have no finer ones in common.
    return "time" if pa.types.is_timestamp(kind) and kind.unit in ("ms", "us") else "other"


def _of_text(name: str, written: Written, is_id: bool) -> Column:
    if is_id:
        return Column(name, "int", cast=True) if written.as_ids else Column(name, "str")
    if written.as_whole:
        return Column(name, "int", cast=True)
    return Column(name, "float", cast=True) if written.as_numbers else Column(name, "str")


def _column(name: str, schema: Mapping[str, Column]) -> Column:
    if name not in schema:
        raise DataError(
            f"column {name!r} is not among those of the table, {', '.join(map(repr, schema))}; name columns with "
            "user=, item=, rating=, timestamp=. --engine local also reads names of folders and indices of pandas"
        )
    return schema[name]


def _id_column(name: str, schema: Mapping[str, Column], ids: str) -> Column:
    column = _column(name, schema)
    if column.kind not in ("int", "str"):
        raise ConfigError(f"column {name!r} holds ids that are neither whole numbers nor text{_LOCAL}")
    if ids == "text" and column.kind == "int":
        return replace(column, kind="str", cast=not column.cast)  # of text, the text as it is
    return column


def _optional(name: str | None, default: str, schema: Mapping[str, Column]) -> Column | None:
    return None if name is None or (name == default and name not in schema) else _column(name, schema)


MICROSECONDS: Final = PER_SECOND["us"]
