"""Readers of the layouts that public data sets come in."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.errors import DataError, did_you_mean
from recsys.interactions import Interactions

Layout = Literal["auto", "parquet", "csv", "u.data", "ratings.dat", "ratings.csv", "lightgcn", "recbole"]
"""How a file or folder is laid out (see `read`); `auto` looks at names and first lines."""

SPLIT: Final = "split"
"""Kept column of a folder of LightGCN lists: `train` or `test`."""

Columns = Callable[[list[str]], list[str]]
"""Given the header of a table, the columns to read."""

_LAYOUTS: Final = (
    "parquet (a .parquet file, or a folder with interactions.parquet), csv (.csv or .tsv with a header), "
    "u.data (MovieLens-100K), ratings.dat (MovieLens-1M and 10M), ratings.csv (MovieLens-20M and later), "
    "lightgcn (a folder with train.txt), recbole (.inter)"
)
_IN_FOLDER: Final[dict[str, str]] = {
    "parquet": "interactions.parquet",
    "u.data": "u.data",
    "ratings.dat": "ratings.dat",
    "ratings.csv": "ratings.csv",
    "lightgcn": "train.txt",
    "recbole": "*.inter",
}
_MOVIELENS_CSV: Final = {"user": "userId", "item": "movieId"}


def read(path: str | Path, *, layout: Layout = "auto", keep: Iterable[str] = (), **options: Any) -> Interactions:
    """Read one file or folder in a public layout.

    Layouts:
        parquet: a file, or a folder with `interactions.parquet` and perhaps `items.parquet` (`item_id, title`).
        csv: `.csv` or `.tsv` with a header; `user=`, `item=`, `rating=` and `timestamp=` name other columns.
        u.data: MovieLens-100K, tab-separated user, item, rating, timestamp; titles from `u.item` in a folder.
        ratings.dat: MovieLens-1M and 10M, the same between `::`; titles from `movies.dat`.
        ratings.csv: MovieLens-20M and later, `userId,movieId,rating,timestamp`; titles from `movies.csv`.
        lightgcn: lines `user item item ...`; a folder's `train.txt` and `test.txt` are put together and the kept
            column `split` tells them apart. A user without items has no line in the result.
        recbole: `.inter`, tab-separated with a typed header such as `user_id:token`.

    Args:
        path: file or folder; `~` is expanded.
        layout: one of the above, or `auto` to tell by names and first lines.
        keep: further columns to carry along, such as a published split.
        options: passed to `Interactions.from_frame`: user, item, rating, timestamp, duplicates, titles.

    Raises:
        DataError: nothing is there, the layout is not recognised, the file is empty, damaged or does not fit the
            layout, or `from_frame` refuses the table.
    """
    if layout not in get_args(Layout):
        raise DataError(f"layout must be one of {', '.join(get_args(Layout))}{did_you_mean(str(layout), _READERS)}")
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"expected a file or folder at {path}, found nothing")
    folder = path if path.is_dir() else None
    kind, source = _in_folder(path, layout) if folder else (layout, path)
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    try:
        if not source.stat().st_size:
            raise DataError(f"the file is empty; expected one of the layouts {_LAYOUTS}")
        if kind == "auto":
            kind = _of_file(source)
        if kind == "ratings.csv":
            options = {**_MOVIELENS_CSV, **options}
        if kind == "lightgcn" and folder:
            keep = tuple(dict.fromkeys([*keep, SPLIT]))
        table = _READERS[kind](source, lambda header: _wanted(header, keep, options))
        if folder and kind in _TITLES and options.get("titles") is None:
            options = {**options, "titles": _TITLES[kind](folder)}
        return Interactions.from_frame(table, keep=keep, **options)
    except (ValueError, OSError) as error:  # what pandas and Arrow raise for a file that they cannot parse
        as_layout = "" if kind == "auto" else f" as {kind}"
        raise DataError(f"cannot read {source}{as_layout}: {error}") from error


def _wanted(header: list[str], keep: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Return the columns of `header` that are asked for, or all where one lacks, for `from_frame` to name the nearest.

    A wide table is thus read only as far as it is needed.
    """
    required = {options.get("user", USER), options.get("item", ITEM), *keep}
    required |= {options[name] for name in ("rating", "timestamp") if options.get(name) is not None}
    optional = {options.get("rating", RATING), options.get("timestamp", TIMESTAMP)}
    return [name for name in header if name in required | optional] if required <= set(header) else header


def _in_folder(folder: Path, layout: str) -> tuple[str, Path]:
    """Return the layout of a folder and the file that holds its interactions."""
    if layout == "csv":
        raise DataError(f"layout 'csv' is one file, got the folder {folder}; give the path of the file")
    for kind, pattern in _IN_FOLDER.items():
        found = sorted(folder.glob(pattern)) if layout in ("auto", kind) else []
        if len(found) > 1:
            raise DataError(f"{folder} holds {len(found)} files {pattern}: {[f.name for f in found]}; give one's path")
        if found:
            if kind == "ratings.csv" and layout == "auto":
                return "auto", found[0]  # only the header tells MovieLens's file from anybody's
            return kind, folder if kind == "lightgcn" else found[0]
    wanted = _IN_FOLDER.get(layout, ", ".join(_IN_FOLDER.values()))
    raise DataError(
        f"expected one of {wanted} in the folder {folder}, "
        f"found {sorted(entry.name for entry in folder.iterdir())[:8]}; the layouts are {_LAYOUTS}"
    )


def _of_file(path: Path) -> str:
    """Return the layout of a file from its first line, or for a table with a header from its name."""
    with path.open("rb") as file:
        first = file.readline(65_536).decode("latin-1").removeprefix("\xef\xbb\xbf").rstrip("\r\n")
    if first.startswith("PAR1"):
        return "parquet"
    if first.startswith("userId,movieId"):
        return "ratings.csv"
    if re.search(r"^\w+:(token|float)(_seq)?(\t|$)", first):
        return "recbole"
    if first.count("::") in (2, 3):
        return "ratings.dat"
    if re.fullmatch(r"\d+\t\d+\t[\d.]+(\t\d+)?", first):
        return "u.data"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    if re.fullmatch(r"\d+( \d+)+ ?", first):
        return "lightgcn"
    raise DataError(f"its layout is not recognised; name it with layout=, known: {_LAYOUTS}")


def _parquet(path: Path, columns: Columns) -> pd.DataFrame:
    return pd.read_parquet(path, columns=columns(pq.read_schema(path).names))


def _text(source: Path | io.BytesIO, separator: str, **options: Any) -> pd.DataFrame:
    # Only an empty field is missing: an id may well be "NA" or "null".
    table: pd.DataFrame = pd.read_csv(
        source, sep=separator, low_memory=False, keep_default_na=False, na_values=[""], **options
    )
    return table


def _csv(path: Path, columns: Columns) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        separator = "\t" if "\t" in file.readline() else ","
    header = list(_text(path, separator, nrows=0).columns)
    return _text(path, separator, usecols=columns(header))


def _recbole(path: Path, columns: Columns) -> pd.DataFrame:
    header = list(_text(path, "\t", nrows=0).columns)
    names = {name: name.split(":")[0] for name in header}
    wanted = set(columns(list(names.values())))
    return _text(path, "\t", usecols=[name for name in header if names[name] in wanted]).rename(columns=names)


def _u_data(path: Path, columns: Columns) -> pd.DataFrame:
    return _headless(_text(path, "\t", header=None))


def _ratings_dat(path: Path, columns: Columns) -> pd.DataFrame:
    # A separator of two characters would fall to pandas' Python engine, some 10 times slower.
    return _headless(_text(io.BytesIO(path.read_bytes().replace(b"::", b"\t")), "\t", header=None))


def _headless(table: pd.DataFrame) -> pd.DataFrame:
    names = [USER, ITEM, RATING, TIMESTAMP]
    if table.shape[1] not in (3, 4):
        raise DataError(f"expected user, item, rating and perhaps timestamp in a row, got {table.shape[1]} fields")
    missing = table.isna().any(axis=1).to_numpy()
    if missing.any():
        raise DataError(f"{int(missing.sum())} rows lack a field, the first is row {int(missing.argmax()) + 1}")
    return table.set_axis(names[: table.shape[1]], axis=1)


def _lightgcn(path: Path, columns: Columns) -> pd.DataFrame:
    if path.is_file():
        return _lists(path)
    parts = {name: path / f"{name}.txt" for name in ("train", "test")}
    tables = [_lists(file).assign(**{SPLIT: name}) for name, file in parts.items() if file.exists()]
    return pd.concat(tables, ignore_index=True)


def _lists(path: Path) -> pd.DataFrame:
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    starts = np.cumsum([0, *(len(line.split()) for line in lines)])
    try:
        numbers = np.array(b" ".join(lines).split(), dtype=np.bytes_).astype(np.int64)
    except ValueError as error:
        raise DataError(f"expected lines of integers 'user item item ...' in {path.name}: {error}") from None
    items = np.ones(len(numbers), dtype=bool)
    items[starts[:-1]] = False
    return pd.DataFrame({USER: np.repeat(numbers[starts[:-1]], np.diff(starts) - 1), ITEM: numbers[items]})


def _parquet_titles(folder: Path) -> dict[Any, str] | None:
    path = folder / "items.parquet"
    return _pairs(pd.read_parquet(path, columns=[ITEM, TITLE])) if path.exists() else None


def _csv_titles(folder: Path) -> dict[Any, str] | None:
    path = folder / "movies.csv"
    return _pairs(_text(path, ",", usecols=["movieId", "title"])[["movieId", "title"]]) if path.exists() else None


def _pairs(table: pd.DataFrame) -> dict[Any, str]:
    table = table.dropna()
    return dict(zip(table.iloc[:, 0].tolist(), table.iloc[:, 1].astype(str).tolist(), strict=True))


def _u_item_titles(folder: Path) -> dict[Any, str] | None:
    return _line_titles(folder / "u.item", "|", after=22)


def _movies_dat_titles(folder: Path) -> dict[Any, str] | None:
    return _line_titles(folder / "movies.dat", "::", after=1)


def _line_titles(path: Path, separator: str, *, after: int) -> dict[Any, str] | None:
    """Return the titles of a headless file, item first, title next, then `after` more fields."""
    if not path.exists():
        return None
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")  # MovieLens-10M
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # MovieLens-100K and 1M
    titles: dict[Any, str] = {}
    for line in text.split("\n"):  # not splitlines: it also breaks at characters that a title may hold
        item, found, rest = line.partition(separator)
        if found:
            # From the right, where the number of fields is known: a title may hold the separator.
            titles[int(item)] = rest.rsplit(separator, after)[0]
    return titles


_READERS: Final[dict[str, Callable[[Path, Columns], pd.DataFrame]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "u.data": _u_data,
    "ratings.dat": _ratings_dat,
    "ratings.csv": _csv,
    "lightgcn": _lightgcn,
    "recbole": _recbole,
}
_TITLES: Final[dict[str, Callable[[Path], dict[Any, str] | None]]] = {
    "parquet": _parquet_titles,
    "u.data": _u_item_titles,
    "ratings.dat": _movies_dat_titles,
    "ratings.csv": _csv_titles,
}
