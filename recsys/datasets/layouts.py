"""Layouts of files: how each is recognized and read into a table with one row per interaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json as pajson
import pyarrow.parquet as pq

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.datasets.encoding import bare, content
from recsys.datasets.text import Request, labels, table
from recsys.errors import DataError, did_you_mean
from recsys.files import MANIFEST

PARQUET: Final = "parquet"
SPLIT: Final = "split"
"""Kept column of a folder of LightGCN lists: `train` or `test`."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One layout of files: its name, how it is recognized, and how it is read."""

    name: str
    """What `layout=` calls it."""
    about: str
    """What these files are, in a few words."""
    read: Callable[[Path, Request], pd.DataFrame]
    """Reads a file into a table with one row per interaction. A reader of wide tables calls its second argument with
    the names of the columns to learn which to read; others may ignore it."""
    recognizes: Callable[[str, Path], bool] = lambda first_line, path: False
    """Tells from the first line of a file and its path whether it has this layout."""
    in_folder: str | None = None
    """Pattern of the name of the file that holds the interactions in a folder; None if the layout is one file."""
    items: Callable[[Path, Request], pd.DataFrame | None] | None = None
    """Returns a table of the items from other files in a folder, as `Interactions.from_frame` takes it; None if there
    are none."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Arguments of `Interactions.from_frame` that name columns, if they are not the default names."""
    keep: tuple[str, ...] = ()
    """Columns that a table read from a folder adds and that are kept; `read` then gets the folder, not a file in it."""


def _csv(path: Path, request: Request) -> pd.DataFrame:
    return table(content(path, request.encoding), request)


def _tsv(path: Path, request: Request) -> pd.DataFrame:
    found = table(content(path, request.encoding), request, separators=("\t",), quotes=False)
    for name in found if not request.sure else ():
        if found[name].dtype.kind in "if":
            continue
        texts = pd.Series(found[name].unique(), dtype=object).astype(str)
        if (quoted := texts.str.fullmatch(r'"([^"]|"")*"')).any():
            raise DataError(
                f"column {name!r} holds fields in quotes, such as {texts[quoted].iloc[0]}; layout='csv' takes the "
                "quotes away, layout='tsv' keeps them"
            )
    return found


def _recbole(path: Path, request: Request) -> pd.DataFrame:
    return table(content(path, request.encoding), request, separators=("\t",), quotes=False, typed=True)


def _parquet(path: Path, request: Request) -> pd.DataFrame:
    files = parts_of(path) if path.is_dir() else [path]
    names = [str(file.relative_to(path)) for file in files]
    _refuse_other_columns(files, names)
    folders = [_partitions(file.relative_to(path)) for file in files]
    parts = [columns_of(file, request, of) for file, of in zip(files, folders, strict=True)]
    _refuse_other_types(parts, names)
    frame: pd.DataFrame = pa.concat_tables(parts, promote_options="permissive").to_pandas(ignore_metadata=True)
    for name in {name for of in folders for name in of if name in frame}:
        frame[name] = _ids(frame[name], request)  # whole numbers only if all are written as such
    return frame


def _json_lines(path: Path, request: Request) -> pd.DataFrame:
    found = pajson.read_json(pa.BufferReader(content(path, request.encoding)))
    frame: pd.DataFrame = found.select(request(found.column_names)).to_pandas()
    return frame


def columns_of(file: Path, request: Request, folders: Mapping[str, str] = MappingProxyType({})) -> pa.Table:
    """Return the wanted columns of a file, those among them that pandas keeps as a range, and those of its folders."""
    with pq.ParquetFile(file) as opened:
        schema, n_rows = opened.schema_arrow, opened.metadata.num_rows
        stored = (schema.pandas_metadata or {}).get("index_columns", [])
        ranges = {index["name"]: index for index in stored if isinstance(index, dict) and index.get("name") is not None}
        names = [*schema.names, *(name for name in ranges if name not in schema.names), *folders]
        columns = request(names)
        if twice := sorted({name for name in columns if names.count(name) > 1}):
            raise DataError(f"{file.name} has more than one column {', '.join(map(repr, twice))}; rename the others")
        found = opened.read(columns=[name for name in columns if name in schema.names])
    for name in columns:
        if name not in schema.names and name in ranges:
            index = ranges[name]
            found = found.append_column(name, pa.array(range(index["start"], index["stop"], index["step"]), pa.int64()))
        elif name not in schema.names:
            found = found.append_column(name, pa.array([folders[name]] * n_rows, pa.string()))
    return found


def _partitions(path: Path) -> dict[str, str]:
    """Return the columns that the names of folders such as `day=2026-08-01` give."""
    return dict(unquote(part).split("=", maxsplit=1) for part in path.parts[:-1] if "=" in part)


def _refuse_other_columns(files: Sequence[Path], names: Sequence[str]) -> None:
    """Refuse files of several tables in one folder, also where only columns differ that nobody wants."""
    if len({tuple(sorted(pq.read_schema(file).names)) for file in files}) > 1:
        raise DataError(
            f"the parquet files {', '.join(names[:8])} have different columns; give the path of one of them"
        )


def _refuse_other_types(parts: Sequence[pa.Table], names: Sequence[str]) -> None:
    """Refuse parts in which a column is of another kind than in the first: numbers, text, times and so on."""
    for column in {name for part in parts for name in part.schema.names}:
        found: dict[str, tuple[str, pa.DataType]] = {}
        for part, name in zip(parts, names, strict=True):
            kind = part.schema.field(column).type if column in part.schema.names else pa.null()
            if not pa.types.is_null(kind):
                found.setdefault(_kind_of(kind), (name, kind))
        if len(found) > 1:
            (one, first), (other, second), *_ = found.values()
            raise DataError(f"column {column!r} is {first} in {one} and {second} in {other}; write both alike")


def _kind_of(kind: pa.DataType) -> str:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_timestamp(kind):
        return f"time {kind.tz}"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def parts_of(folder: Path) -> list[Path]:
    """Return the parquet files of a table that is a folder, without those that begin with an underscore or a dot.

    Raises:
        DataError: the folder holds recommendations of `recsys score`.
    """
    if (folder / MANIFEST).exists():
        raise DataError(f"{folder} holds the output of a scoring job, by its {MANIFEST}; expected interactions")
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in (".parquet", ".parq", ".pq")
        and file.is_file()
        and not any(part[0] in "_." for part in file.relative_to(folder).parts)
    )


def _ids(values: Any, request: Request) -> Any:
    """Return ids that are written as text, as those of a csv file are."""
    return labels(pa.chunked_array([pa.array(values, pa.string())]), as_text=request.ids == "text")


def item_table(path: Path, request: Request) -> pd.DataFrame | None:
    """Return the table of items in a file, csv or parquet; None if there is no such file."""
    if not path.exists():
        return None
    everything = Everything(item=request.item_key or request.item, ids=request.ids, encoding=request.encoding)
    kind = bare(path).suffix.lower()
    found = {".parquet": _parquet, ".tsv": _tsv, ".jsonl": _json_lines, ".ndjson": _json_lines}.get(kind, _csv)(
        path, everything
    )
    names = {request.item_key: request.item, request.item_title: TITLE}
    for old, new in ((old, new) for old, new in names.items() if old is not None and old != new):
        if old not in found:
            raise DataError(f"it has no column {old!r}{did_you_mean(old, map(str, found))}")
        found = found.drop(columns=[new], errors="ignore").rename(columns={old: new})
    return found


class Everything(Request):
    """Asks for all columns of a table, with ids in the column of items if that has a name."""

    def __call__(self, header: Sequence[str]) -> list[str]:
        return list(header)

    @property
    def required(self) -> set[str]:
        return {self.item} - {""}


def _ratings_dat(path: Path, request: Request) -> pd.DataFrame:
    text = bytes(content(path, request.encoding)).replace(b"::", b"\t")
    return _without_header(pa.py_buffer(text), request)


def _without_header(text: pa.Buffer, request: Request) -> pd.DataFrame:
    """Return a table of user, item, rating and perhaps timestamp, without a header, separated by tabs."""
    fields = 1 + bytes(text[:65_536]).lstrip(b"\r\n").split(b"\n", maxsplit=1)[0].count(b"\t")
    if fields not in (3, 4):
        raise DataError(f"expected user, item, rating and perhaps timestamp in a row, got {fields} fields")
    names = (USER, ITEM, RATING, TIMESTAMP)[:fields]
    found = table(text, Request(names=names, ids=request.ids), separators=("\t",), quotes=False)
    missing = found.isna().any(axis=1).to_numpy()
    if missing.any():
        raise DataError(f"{int(missing.sum())} rows lack a field, the first is row {int(missing.argmax()) + 1}")
    return found


def _line_titles(path: Path, separator: str, request: Request, *, after: int) -> pd.DataFrame | None:
    """Return the titles in a file without a header, whose lines are item, title, and `after` more fields."""
    if not path.exists():
        return None
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")  # MovieLens-10M
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # MovieLens-100K and 1M
    # A title may hold the separator, and characters at which splitlines() breaks.
    lines = (line.partition(separator) for line in text.split("\n"))
    rows = [(item, rest.rsplit(separator, after)[0]) for item, found, rest in lines if found]
    return pd.DataFrame({ITEM: _ids([item for item, _ in rows], request), TITLE: [title for _, title in rows]})


def _lightgcn(path: Path, request: Request) -> pd.DataFrame:
    if path.is_file():
        return _lists([content(path, request.encoding)], request)
    parts = {name: path / f"{name}.txt" for name in ("train", "test")}
    texts = {name: content(file, request.encoding) for name, file in parts.items() if file.exists()}
    return _lists(list(texts.values()), request, list(texts))


def _lists(texts: Sequence[pa.Buffer], request: Request, names: Sequence[str] = ("",)) -> pd.DataFrame:
    """Return the user-item pairs of lines `user item item ...`; a user without items has no row."""
    tables = []
    for text, name in zip(texts, names, strict=True):
        lines = [line.split() for line in bytes(text).split(b"\n") if line.strip()]
        users, items = [line[0] for line in lines], [item for line in lines for item in line[1:]]
        if not request.sure:
            _refuse_other_tables(users, items)
        repeated = np.repeat(np.array(users, dtype=object), [len(line) - 1 for line in lines])
        tables.append(pd.DataFrame({USER: repeated, ITEM: pd.Series(items, dtype=object), SPLIT: name}))
    found = pd.concat(tables, ignore_index=True)
    for column in (USER, ITEM):
        found[column] = _ids(pa.array(found[column], pa.binary()).cast(pa.string()), request)
    return found if names != ("",) else found.drop(columns=SPLIT)


def _refuse_other_tables(users: list[bytes], items: list[bytes]) -> None:
    """Refuse what only begins like lists."""
    if len(set(users)) < len(users):
        raise DataError(
            "several lines begin with the same user: not one list a user, but perhaps user, item and rating in "
            "columns; pass layout='csv', separator=' ' and names=, or layout='lightgcn' if they are lists"
        )
    if other := next((word for word in (*users, *items) if not word.isdigit()), None):
        raise DataError(
            f"expected lines of integers 'user item item ...', got {other.decode(errors='replace')!r}; "
            "layout='lightgcn' takes ids that are text"
        )


def _written(pattern: str) -> Callable[[str, Path], bool]:
    """Return what recognizes a layout without a header by its first line; a .csv or .tsv file has a header."""
    return lambda line, path: path.suffix.lower() not in (".csv", ".tsv") and bool(re.fullmatch(pattern, line))


LAYOUTS: Final = (
    Reader(
        name=PARQUET,
        about="a .parquet file, or a folder with interactions.parquet or of parts; items from items.parquet",
        read=_parquet,
        recognizes=lambda first_line, path: first_line.startswith("PAR1"),
        in_folder="interactions.parquet",
        items=lambda folder, request: item_table(folder / "items.parquet", request),
    ),
    Reader(
        name="u.data",
        about="MovieLens-100K; titles from u.item",
        read=lambda path, request: _without_header(content(path, request.encoding), request),
        recognizes=_written(r"\d+\t\d+\t[\d.]+(\t\d+)?"),
        in_folder="u.data",
        items=lambda folder, request: _line_titles(folder / "u.item", "|", request, after=22),
    ),
    Reader(
        name="ratings.dat",
        about="MovieLens-1M and 10M; titles from movies.dat",
        read=_ratings_dat,
        recognizes=lambda first_line, path: first_line.count("::") in (2, 3),
        in_folder="ratings.dat",
        items=lambda folder, request: _line_titles(folder / "movies.dat", "::", request, after=1),
    ),
    Reader(
        name="ratings.csv",
        about="MovieLens-20M and later; titles and genres from movies.csv",
        read=_csv,
        recognizes=lambda first_line, path: first_line.startswith("userId,movieId"),
        in_folder="ratings.csv",
        items=lambda folder, request: item_table(folder / "movies.csv", request),
        columns={"user": "userId", "item": "movieId"},
    ),
    Reader(
        name="lightgcn",
        about="lines user item item ...; in a folder train.txt and test.txt, told apart by the column split",
        read=_lightgcn,
        recognizes=_written(r"\d+( \d+)+ ?"),
        in_folder="train.txt",
        keep=(SPLIT,),
    ),
    Reader(
        name="recbole",
        about="RecBole's .inter, with a typed header such as user_id:token; ids are text, quotes are part of a field",
        read=_recbole,
        recognizes=lambda first_line, path: bool(re.search(r"^\w+:(token|float)(_seq)?(\t|$)", first_line)),
        in_folder="*.inter",
    ),
    Reader(
        name="jsonl",
        about="a .jsonl or .ndjson file: a JSON object a line",
        read=_json_lines,
        recognizes=lambda first_line, path: path.suffix.lower() in (".jsonl", ".ndjson"),
    ),
    Reader(
        name="tsv",
        about="a .tsv file with a header, fields separated by tabs; quotes are part of a field",
        read=_tsv,
        recognizes=lambda first_line, path: path.suffix.lower() == ".tsv",
    ),
    Reader(
        name="csv",
        about="a .csv file with a header, or with names=; a field may stand in quotes; separated by , ; | or tabs",
        read=_csv,
        recognizes=lambda first_line, path: path.suffix.lower() == ".csv",
    ),
)
"""The layouts that the package knows, in the order in which they are tried."""
