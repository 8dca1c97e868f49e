"""`read`: one file or folder in the layout of a public data set, or in one that was registered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

import pandas as pd
import pyarrow as pa

from recsys.columns import ITEM, USER
from recsys.datasets.encoding import bare, first_line
from recsys.datasets.layouts import LAYOUTS, PARQUET, Everything, Reader, item_table, parts_of
from recsys.datasets.text import IdKind, Request
from recsys.errors import ConfigError, DataError, absent, did_you_mean
from recsys.interactions import Interactions
from recsys.workspace import as_path

AUTO: Final = "auto"

_REGISTERED: dict[str, Reader] = {layout.name: layout for layout in LAYOUTS}

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


def read(
    path: str | Path,
    *,
    layout: str = AUTO,
    keep: Iterable[str] = (),
    items: str | Path | None = None,
    item_key: str | None = None,
    item_title: str | None = None,
    users: str | Path | None = None,
    ids: IdKind = "auto",
    separator: str | None = None,
    encoding: str | None = None,
    names: tuple[str, ...] | None = None,
    **options: Any,
) -> Interactions:
    """Read one file or folder; text may be compressed (.gz, .bz2, .zst).

    Args:
        path: file or folder; `~` is expanded.
        layout: name of a layout of `recsys.datasets.READERS`, or `auto` to recognize it by file names and first lines.
        keep: further columns to carry along, such as a published split.
        items: csv, parquet or jsonl file with a row per item: its id in a column named as that of the interactions or
            `item_id`, perhaps a `title`, and further columns such as a category or a price.
        item_key: the column of `items` that holds the ids, if it has another name.
        item_title: the column of `items` that holds the titles, if it is not called `title`.
        users: csv, parquet or jsonl file with a row per user: the id in a column named as that of the interactions or
            `user_id`, and further columns such as an age or a country; also the name of a file in the folder `path`.
        ids: `text` reads ids as text; `auto` reads those of a csv file as whole numbers if all of a column are written
            as such, so `007` and `7` stay two ids.
        separator: character between the fields of text; by default the one of , ; | and tab that fits the header.
        encoding: of text, such as `latin-1`; by default UTF-8, or UTF-16 with a byte order mark.
        names: names of the columns of a csv file without a header, in its order.
        options: passed to `Interactions.from_frame`: user, item, rating, timestamp, duplicates, time_unit, weights,
            titles.

    Raises:
        DataError: there is no such file or layout, the layout is not recognized, the file is empty, damaged or of
            another layout, a row has more or fewer fields than the header, or `from_frame` refuses the table.
    """
    given = {"ids": ids, "separator": separator, "encoding": encoding, "names": names}
    given |= {"item_key": item_key, "item_title": item_title}
    found, request, options = _asked(path, layout, keep, given, options)
    table_of_items = None if items is None else _items_of(items, request)
    of_users = (
        None
        if users is None
        else read_users(_beside(users, found.folder), user=request.user, ids=ids, encoding=encoding)
    )
    with _naming(f"{found.file} as {found.reader.name}"):
        table, about = found.tables(request)
        about = about if table_of_items is None else table_of_items
        return Interactions.from_frame(table, keep=request.keep, items=about, users=of_users, **options)


def _beside(table: str | Path, folder: Path | None) -> Path:
    """Return the path of a table, in the folder of the data if it is not found otherwise."""
    own = as_path(table)
    inside = None if folder is None or own.exists() else folder / own
    return inside if inside is not None and inside.exists() else own


class Located(NamedTuple):
    """Files of a table that is read part by part, and how."""

    files: list[Path]
    """Those that hold the interactions, in order."""
    layout: str
    """Name of their layout."""
    request: Request
    """Which columns of them are wanted."""
    items: pd.DataFrame | None
    """The table of items, if there is one."""


def locate(
    path: str | Path,
    *,
    layout: str = AUTO,
    items: str | Path | None = None,
    columns: Mapping[str, Any] = MappingProxyType({}),
    **given: Any,
) -> Located:
    """Return what `read` would read, unread.

    Args:
        columns: the arguments of `Interactions.from_frame` that name columns.
        given: `ids`, `separator`, `encoding`, `names`, `item_key` and `item_title`, as in `read`.

    Raises:
        DataError: as `read`, of what it finds before it reads.
    """
    usual = {"ids": "auto", "separator": None, "encoding": None, "names": None}
    found, request, _ = _asked(path, layout, (), {**usual, **given}, columns)
    about = None if items is None else _items_of(items, request)
    with _naming(f"{found.file} as {found.reader.name}"):
        if about is None and found.folder and found.reader.items:
            about = found.reader.items(found.folder, request)
        files = parts_of(found.file) if found.file.is_dir() else [found.file]
    return Located(files, found.reader.name, request, about)


def _asked(
    path: str | Path, layout: str, keep: Iterable[str], given: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[_Found, Request, dict[str, Any]]:
    """Return the file at a path, what is wanted of it, and the options with the names of its layout's columns."""
    ids, names = given["ids"], given["names"]
    if ids not in get_args(IdKind):
        raise DataError(f"ids must be one of {', '.join(get_args(IdKind))}, got {ids!r}")
    if names is not None and not (isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)):
        raise DataError(f"names must be a list of the names of columns, got {names!r}")
    found = _find(as_path(path), layout)
    kept = (keep,) if isinstance(keep, str) else tuple(keep)
    options = {**found.reader.columns, **options}
    request = Request(
        **{name: options[name] for name in ("user", "item", "rating", "timestamp") if name in options},
        keep=tuple(dict.fromkeys([*kept, *(found.reader.keep if found.folder else ())])),
        separator=given["separator"],
        encoding=given["encoding"],
        names=None if names is None else tuple(names),
        ids=ids,
        sure=layout != AUTO,
        item_key=given.get("item_key"),
        item_title=given.get("item_title"),
    )
    return found, request, options


@dataclass(frozen=True)
class _Found:
    """A file and its reader."""

    file: Path
    """The file that holds the interactions, or a folder of its parts."""
    folder: Path | None
    """The folder that was named, if it was one."""
    reader: Reader

    def tables(self, request: Request) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the table of interactions, and that of items if the folder has one."""
        whole = self.folder is not None and self.reader.keep
        table = _with_ids(self.reader.read(self.folder if whole and self.folder else self.file, request), request)
        return table, self.reader.items(self.folder, request) if self.folder and self.reader.items else None


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Name what is read in what the system, Arrow and `from_frame` raise."""
    try:
        yield
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {what}: {error}") from error


def _find(path: Path, layout: str) -> _Found:
    """Return the file at a path, or in the folder there, and the reader of its layout."""
    if layout != AUTO and layout not in _REGISTERED:
        raise DataError(f"there is no layout {layout!r}{did_you_mean(str(layout), [AUTO, *_REGISTERED])}")
    file, reader = path, _REGISTERED.get(layout)
    with _naming(str(path)):
        if not path.exists():
            raise FileNotFoundError(f"expected a file or folder at {path}, found nothing")
        folder = path if path.is_dir() else None
        if folder:
            file, reader = _find_in(path, layout)
        if not file.stat().st_size:
            raise DataError(f"the file is empty; expected one of the layouts {_layouts()}")
        if layout == AUTO and file.is_file():
            line = first_line(file)
            reader = next((one for one in _REGISTERED.values() if one.recognizes(line, bare(file))), reader)
        if reader is None:
            raise DataError(f"its layout is not recognized; name it with layout=, known: {_layouts()}")
    return _Found(file, folder, reader)


def read_items(
    path: str | Path,
    *,
    item: str = ITEM,
    item_key: str | None = None,
    item_title: str | None = None,
    ids: IdKind = "auto",
    encoding: str | None = None,
) -> pd.DataFrame:
    """Return a table of items, csv, parquet or jsonl, as `read(items=)` reads it; a DataError if it cannot be read."""
    request = Request(item=item, ids=ids, encoding=encoding, item_key=item_key, item_title=item_title)
    return _items_of(path, request)


class Whole(NamedTuple):
    """All columns of a table of interactions, whatever they are called, and what else is known of its file."""

    table: pd.DataFrame
    """Numbers where all of a column are written as numbers are; text as it is written."""
    items: pd.DataFrame | None
    """The table of items that lies in the same folder."""
    layout: str
    """Name of the layout."""


def read_whole(
    path: str | Path, *, layout: str = AUTO, separator: str | None = None, encoding: str | None = None, **given: Any
) -> Whole:
    """Return all columns of a file or folder, for those who do not know yet which of them are wanted.

    Raises:
        DataError: as `read`, but for what is said of single columns.
    """
    usual = {"ids": "auto", "names": None, **given, "separator": separator, "encoding": encoding}
    found, request, _ = _asked(path, layout, (), usual, {})
    everything = Everything(
        user="", item="", rating=None, timestamp=None, **{name: getattr(request, name) for name in _OF_THE_FILE}
    )
    with _naming(f"{found.file} as {found.reader.name}"):
        table, items = found.tables(everything)
    return Whole(table, items, found.reader.name)


_OF_THE_FILE: Final = ("separator", "encoding", "names", "ids", "sure")


def read_users(
    path: str | Path, *, user: str = USER, ids: IdKind = "auto", encoding: str | None = None
) -> pd.DataFrame:
    """Return a table of users, csv or parquet, with what is known of each; a DataError if it cannot be read."""
    return _items_of(path, Request(item=user, ids=ids, encoding=encoding), "users")


def _with_ids(table: pd.DataFrame, request: Request) -> pd.DataFrame:
    """Return the table with text for whole numbers, if ids are to be text."""
    if request.ids != "text":
        return table
    numbers = [name for name in (request.user, request.item) if name in table and table[name].dtype.kind in "iu"]
    return table.assign(**{name: table[name].astype(str) for name in numbers})


def _items_of(items: str | Path, request: Request, what: str = "items") -> pd.DataFrame:
    """Return the table of items, or of `what`, at a path."""
    path = as_path(items)
    with _naming(f"the table of {what} {path}"):
        found = item_table(path, request)
    if found is None:
        raise absent(DataError(f"expected a table of {what} at {path}, found nothing"))
    return _with_ids(found, request)


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
    if layout in (AUTO, PARQUET) and parts_of(folder):
        return folder, _REGISTERED[PARQUET]
    raise DataError(
        f"expected one of {', '.join(str(reader.in_folder) for reader in readers)} in the folder {folder}, "
        f"found {sorted(entry.name for entry in folder.iterdir())[:8]}; the layouts are {_layouts()}"
    )


def _layouts() -> str:
    return ", ".join(f"{reader.name} ({reader.about})" for reader in _REGISTERED.values())
