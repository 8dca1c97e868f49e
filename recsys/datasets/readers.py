"""`read`: one file or folder in any registered layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.interactions import Interactions

AUTO: Final = "auto"

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


_REGISTERED: dict[str, Reader] = {}

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
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"expected a file or folder at {path}, found nothing")
    folder = path if path.is_dir() else None
    file, reader = _find_in(path, layout) if folder else (path, _REGISTERED.get(layout))
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    try:
        if not file.stat().st_size:
            raise DataError(f"the file is empty; expected one of the layouts {_layouts()}")
        if layout == AUTO:
            reader = _recognize(file) or reader
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


def _recognize(file: Path) -> Reader | None:
    """Return the first reader that recognizes a file; None if none does."""
    with file.open("rb") as stream:
        first_line = stream.readline(65_536).decode("latin-1").removeprefix("\xef\xbb\xbf").rstrip("\r\n")
    return next((reader for reader in _REGISTERED.values() if reader.recognizes(first_line, file)), None)


def _layouts() -> str:
    return ", ".join(f"{reader.name} ({reader.about})" for reader in _REGISTERED.values())
