"""`read`: one file or folder in the layout of a public data set, or in one that was registered."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.files import expanded
from recsys.interactions import Interactions

AUTO: Final = "auto"

SPLIT: Final = "split"
"""Kept column of a folder of LightGCN lists: `train` or `test`."""

Columns = Callable[[list[str]], list[str]]
"""Given the column names of a table, returns those to read."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One layout of files: its name, how it is recognized, and how it is read."""

    name: str
    """What `layout=` calls it."""
    about: str
    """What these files are, in a few words."""
    read: Callable[[Path, Columns], pd.DataFrame]
    """Reads a file into a table with one row per interaction. A reader of wide tables asks its second argument which
    columns to read; others may ignore it."""
    recognizes: Callable[[str, Path], bool] = lambda first_line, path: False
    """Tells from the first line of a file and its path whether it has this layout."""
    in_folder: str | None = None
    """Pattern of the name of the file that holds the interactions in a folder; None if the layout is one file."""
    titles: Callable[[Path], dict[Any, str] | None] | None = None
    """Returns the titles of the items by id from other files in a folder; None if there are none."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Arguments of `Interactions.from_frame` that name columns, if they are not the default names."""
    keep: tuple[str, ...] = ()
    """Columns that a table read from a folder adds and that are kept; `read` then gets the folder, not a file in it."""


def _text(source: Path | io.BytesIO, **options: Any) -> pd.DataFrame:
    # Only an empty field is missing: an id may well be "NA" or "null".
    table: pd.DataFrame = pd.read_csv(source, low_memory=False, keep_default_na=False, na_values=[""], **options)
    return table


def _csv(path: Path, columns: Columns) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        separator = "\t" if "\t" in file.readline() else ","
    return _text(path, sep=separator, usecols=columns(list(_text(path, sep=separator, nrows=0).columns)))


def _recbole(path: Path, columns: Columns) -> pd.DataFrame:
    names = [name.split(":")[0] for name in _text(path, sep="\t", nrows=0).columns]
    return _text(path, sep="\t", header=0, names=names, usecols=columns(names))


def _table_titles(path: Path, columns: list[str]) -> dict[Any, str] | None:
    """Return the titles in a table with a column of items and a column of titles."""
    if not path.exists():
        return None
    parquet = path.suffix == ".parquet"
    table = pd.read_parquet(path, columns=columns) if parquet else _text(path, usecols=columns)
    items, titles = (table[columns].dropna()[name] for name in columns)
    return dict(zip(items.tolist(), titles.astype(str).tolist(), strict=True))


def _ratings_dat(path: Path, columns: Columns) -> pd.DataFrame:
    # A separator of two characters would need pandas' Python engine, some 10 times slower.
    return _without_header(_text(io.BytesIO(path.read_bytes().replace(b"::", b"\t")), sep="\t", header=None))


def _without_header(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of user, item, rating and perhaps timestamp with the names of its columns."""
    if table.shape[1] not in (3, 4):
        raise DataError(f"expected user, item, rating and perhaps timestamp in a row, got {table.shape[1]} fields")
    missing = table.isna().any(axis=1).to_numpy()
    if missing.any():
        raise DataError(f"{int(missing.sum())} rows lack a field, the first is row {int(missing.argmax()) + 1}")
    return table.set_axis([USER, ITEM, RATING, TIMESTAMP][: table.shape[1]], axis=1)


def _line_titles(path: Path, separator: str, *, after: int) -> dict[Any, str] | None:
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
    return {int(item): rest.rsplit(separator, after)[0] for item, found, rest in lines if found}


def _lightgcn(path: Path, columns: Columns) -> pd.DataFrame:
    if path.is_file():
        return _lists(path)
    parts = {name: path / f"{name}.txt" for name in ("train", "test")}
    tables = [_lists(file).assign(**{SPLIT: name}) for name, file in parts.items() if file.exists()]
    return pd.concat(tables, ignore_index=True)


def _lists(path: Path) -> pd.DataFrame:
    """Return the user-item pairs of lines `user item item ...`; a user without items has no row."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    starts = np.cumsum([0, *(len(line.split()) for line in lines)])
    try:
        numbers = np.array(b" ".join(lines).split(), dtype=np.bytes_).astype(np.int64)
    except ValueError as error:
        raise DataError(f"expected lines of integers 'user item item ...' in {path.name}: {error}") from None
    items = np.ones(len(numbers), dtype=bool)
    items[starts[:-1]] = False
    return pd.DataFrame({USER: np.repeat(numbers[starts[:-1]], np.diff(starts) - 1), ITEM: numbers[items]})


_LAYOUTS = (
    Reader(
        name="parquet",
        about="a .parquet file, or a folder with interactions.parquet; titles from items.parquet (item_id, title)",
        read=lambda path, columns: pd.read_parquet(path, columns=columns(pq.read_schema(path).names)),
        recognizes=lambda first_line, path: first_line.startswith("PAR1"),
        in_folder="interactions.parquet",
        titles=lambda folder: _table_titles(folder / "items.parquet", [ITEM, TITLE]),
    ),
    Reader(
        name="u.data",
        about="MovieLens-100K; titles from u.item",
        read=lambda path, columns: _without_header(_text(path, sep="\t", header=None)),
        recognizes=lambda first_line, path: bool(re.fullmatch(r"\d+\t\d+\t[\d.]+(\t\d+)?", first_line)),
        in_folder="u.data",
        titles=lambda folder: _line_titles(folder / "u.item", "|", after=22),
    ),
    Reader(
        name="ratings.dat",
        about="MovieLens-1M and 10M; titles from movies.dat",
        read=_ratings_dat,
        recognizes=lambda first_line, path: first_line.count("::") in (2, 3),
        in_folder="ratings.dat",
        titles=lambda folder: _line_titles(folder / "movies.dat", "::", after=1),
    ),
    Reader(
        name="ratings.csv",
        about="MovieLens-20M and later; titles from movies.csv",
        read=_csv,
        recognizes=lambda first_line, path: first_line.startswith("userId,movieId"),
        in_folder="ratings.csv",
        titles=lambda folder: _table_titles(folder / "movies.csv", ["movieId", "title"]),
        columns={"user": "userId", "item": "movieId"},
    ),
    Reader(
        name="lightgcn",
        about="lines user item item ...; in a folder train.txt and test.txt, told apart by the column split",
        read=_lightgcn,
        recognizes=lambda first_line, path: (
            path.suffix.lower() not in (".csv", ".tsv") and bool(re.fullmatch(r"\d+( \d+)+ ?", first_line))
        ),
        in_folder="train.txt",
        keep=(SPLIT,),
    ),
    Reader(
        name="recbole",
        about="RecBole's .inter, with a typed header such as user_id:token",
        read=_recbole,
        recognizes=lambda first_line, path: bool(re.search(r"^\w+:(token|float)(_seq)?(\t|$)", first_line)),
        in_folder="*.inter",
    ),
    Reader(
        name="csv",
        about="a .csv or .tsv file with a header",
        read=_csv,
        recognizes=lambda first_line, path: path.suffix.lower() in (".csv", ".tsv"),
    ),
)

_REGISTERED: dict[str, Reader] = {layout.name: layout for layout in _LAYOUTS}

READERS: Final[Mapping[str, Reader]] = MappingProxyType(_REGISTERED)
"""Every registered reader by its name, in the order in which they are tried."""


def register_reader(reader: Reader) -> Reader:
    """Make a layout known to `read` and to `[data] layout` of a configuration.

    It is tried before the layouts that were registered earlier; one of the same name is replaced.

    Raises:
        ConfigError: not a `Reader`, or without a name of its own.
    """
    if not isinstance(reader, Reader) or reader.name in ("", AUTO):
        raise ConfigError(f"register_reader takes a recsys.datasets.Reader with a name of its own, got {reader!r}")
    others = {name: other for name, other in _REGISTERED.items() if name != reader.name}
    _REGISTERED.clear()
    _REGISTERED.update({reader.name: reader, **others})
    return reader


def read(path: str | Path, *, layout: str = AUTO, keep: Iterable[str] = (), **options: Any) -> Interactions:
    """Read one file or folder.

    Args:
        path: file or folder; `~` is expanded.
        layout: name of a layout of `recsys.datasets.READERS`, or `auto` to recognize it by file names and first lines.
        keep: further columns to carry along, such as a published split.
        options: passed to `Interactions.from_frame`: user, item, rating, timestamp, duplicates, titles.

    Raises:
        DataError: there is no such file or layout, the layout is not recognized, the file is empty, damaged or of
            another layout, or `from_frame` refuses the table.
    """
    if layout != AUTO and layout not in _REGISTERED:
        raise DataError(f"there is no layout {layout!r}{did_you_mean(str(layout), [AUTO, *_REGISTERED])}")
    path = expanded(path)
    if not path.exists():
        raise DataError(f"expected a file or folder at {path}, found nothing")
    folder = path if path.is_dir() else None
    file, reader = _find_in(path, layout) if folder else (path, _REGISTERED.get(layout))
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    try:
        if not file.stat().st_size:
            raise DataError(f"the file is empty; expected one of the layouts {_layouts()}")
        if layout == AUTO:
            with file.open("rb") as stream:
                first_line = stream.readline(65_536).decode("latin-1").removeprefix("\xef\xbb\xbf").rstrip("\r\n")
            reader = next((one for one in _REGISTERED.values() if one.recognizes(first_line, file)), reader)
        if reader is None:
            raise DataError(f"its layout is not recognized; name it with layout=, known: {_layouts()}")
        options = {**reader.columns, **options}
        if folder and reader.keep:
            file, keep = folder, tuple(dict.fromkeys([*keep, *reader.keep]))
        table = reader.read(file, lambda header: _wanted(header, keep, options))
        if folder and reader.titles and options.get("titles") is None:
            options = {**options, "titles": reader.titles(folder)}
        return Interactions.from_frame(table, keep=keep, **options)
    except (ValueError, OSError) as error:  # what pandas and Arrow raise for a file that they cannot parse
        as_layout = f" as {reader.name}" if reader else ""
        raise DataError(f"cannot read {file}{as_layout}: {error}") from error


def _wanted(header: list[str], keep: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Return the needed columns of a table, or all if one is missing, so that `from_frame` can name the nearest."""
    required = {options.get("user", USER), options.get("item", ITEM), *keep}
    required |= {options[name] for name in ("rating", "timestamp") if options.get(name) is not None}
    optional = {options.get("rating", RATING), options.get("timestamp", TIMESTAMP)}
    return [name for name in header if name in required | optional] if required <= set(header) else header


def _find_in(folder: Path, layout: str) -> tuple[Path, Reader]:
    """Return the file of a folder that holds its interactions, and the reader that its name points to."""
    readers = [reader for reader in _REGISTERED.values() if layout in (AUTO, reader.name) and reader.in_folder]
    if not readers:
        raise DataError(f"layout {layout!r} is one file, got the folder {folder}; give the path of the file")
    for reader in readers:
        files = sorted(folder.glob(str(reader.in_folder)))
        if len(files) > 1:
            names = [file.name for file in files]
            raise DataError(f"{folder} holds {len(files)} files {reader.in_folder}: {names}; give the path of one")
        if files:
            return files[0], reader
    raise DataError(
        f"expected one of {', '.join(str(reader.in_folder) for reader in readers)} in the folder {folder}, "
        f"found {sorted(entry.name for entry in folder.iterdir())[:8]}; the layouts are {_layouts()}"
    )


def _layouts() -> str:
    return ", ".join(f"{reader.name} ({reader.about})" for reader in _REGISTERED.values())
