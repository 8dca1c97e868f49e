"""The layouts that public data sets come in."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.datasets.readers import Columns, Reader, register_reader
from recsys.errors import DataError

SPLIT: Final = "split"
"""Kept column of a folder of LightGCN lists: `train` or `test`."""

_TABLES: Final = (".csv", ".tsv")


def _parquet(path: Path, columns: Columns) -> pd.DataFrame:
    return pd.read_parquet(path, columns=columns(pq.read_schema(path).names))


def _parquet_titles(folder: Path) -> dict[Any, str] | None:
    path = folder / "items.parquet"
    return _pairs(pd.read_parquet(path, columns=[ITEM, TITLE])) if path.exists() else None


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


def _movielens_csv_titles(folder: Path) -> dict[Any, str] | None:
    path = folder / "movies.csv"
    return _pairs(_text(path, ",", usecols=["movieId", "title"])[["movieId", "title"]]) if path.exists() else None


def _pairs(table: pd.DataFrame) -> dict[Any, str]:
    table = table.dropna()
    return dict(zip(table.iloc[:, 0].tolist(), table.iloc[:, 1].astype(str).tolist(), strict=True))


def _recbole(path: Path, columns: Columns) -> pd.DataFrame:
    header = list(_text(path, "\t", nrows=0).columns)
    names = {name: name.split(":")[0] for name in header}
    wanted = set(columns(list(names.values())))
    return _text(path, "\t", usecols=[name for name in header if names[name] in wanted]).rename(columns=names)


def _u_data(path: Path, columns: Columns) -> pd.DataFrame:
    return _without_header(_text(path, "\t", header=None))


def _u_item_titles(folder: Path) -> dict[Any, str] | None:
    return _line_titles(folder / "u.item", "|", after=22)


def _ratings_dat(path: Path, columns: Columns) -> pd.DataFrame:
    # A separator of two characters would need pandas' Python engine, some 10 times slower.
    return _without_header(_text(io.BytesIO(path.read_bytes().replace(b"::", b"\t")), "\t", header=None))


def _movies_dat_titles(folder: Path) -> dict[Any, str] | None:
    return _line_titles(folder / "movies.dat", "::", after=1)


def _without_header(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of user, item, rating and perhaps timestamp with the names of its columns."""
    names = [USER, ITEM, RATING, TIMESTAMP]
    if table.shape[1] not in (3, 4):
        raise DataError(f"expected user, item, rating and perhaps timestamp in a row, got {table.shape[1]} fields")
    missing = table.isna().any(axis=1).to_numpy()
    if missing.any():
        raise DataError(f"{int(missing.sum())} rows lack a field, the first is row {int(missing.argmax()) + 1}")
    return table.set_axis(names[: table.shape[1]], axis=1)


def _line_titles(path: Path, separator: str, *, after: int) -> dict[Any, str] | None:
    """Return the titles in a file without a header, whose lines are item, title, and `after` more fields."""
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


LAYOUTS: Final = (
    Reader(
        name="parquet",
        about="a .parquet file, or a folder with interactions.parquet; titles from items.parquet (item_id, title)",
        read=_parquet,
        recognizes=lambda first_line, path: first_line.startswith("PAR1"),
        in_folder="interactions.parquet",
        titles=_parquet_titles,
    ),
    Reader(
        name="u.data",
        about="MovieLens-100K; titles from u.item",
        read=_u_data,
        recognizes=lambda first_line, path: bool(re.fullmatch(r"\d+\t\d+\t[\d.]+(\t\d+)?", first_line)),
        in_folder="u.data",
        titles=_u_item_titles,
    ),
    Reader(
        name="ratings.dat",
        about="MovieLens-1M and 10M; titles from movies.dat",
        read=_ratings_dat,
        recognizes=lambda first_line, path: first_line.count("::") in (2, 3),
        in_folder="ratings.dat",
        titles=_movies_dat_titles,
    ),
    Reader(
        name="ratings.csv",
        about="MovieLens-20M and later; titles from movies.csv",
        read=_csv,
        recognizes=lambda first_line, path: first_line.startswith("userId,movieId"),
        in_folder="ratings.csv",
        titles=_movielens_csv_titles,
        columns={"user": "userId", "item": "movieId"},
    ),
    Reader(
        name="lightgcn",
        about="lines user item item ...; in a folder train.txt and test.txt, told apart by the column split",
        read=_lightgcn,
        recognizes=lambda first_line, path: (
            path.suffix.lower() not in _TABLES and bool(re.fullmatch(r"\d+( \d+)+ ?", first_line))
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
        recognizes=lambda first_line, path: path.suffix.lower() in _TABLES,
    ),
)
"""In the order in which they are tried."""

for _layout in reversed(LAYOUTS):
    register_reader(_layout)
