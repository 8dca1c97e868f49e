"""`recognize_items`: which column of a table of items holds their ids, their titles, and what may be features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from recsys.columns import ITEM, TITLE
from recsys.datasets.column_names import is_title, tokens
from recsys.datasets.column_values import Column
from recsys.datasets.readers import read_whole
from recsys.datasets.recognize import Say, in_python
from recsys.errors import DataError
from recsys.features import recognized
from recsys.ids import IdMap

_FEWEST: Final = 0.1
"""Share of the items of the interactions that a table of items must describe to be that of them."""
_NO_FEATURES: Final = frozenset(
    {"url", "image", "picture", "link", "id", "ids", "ean", "gtin", "upc", "isbn", "created", "updated", "date"}
)


@dataclass(eq=False)
class RecognizedItems:
    """What a table of items is understood as."""

    options: dict[str, Any] = field(default_factory=dict)
    """`items`, `item_key` and `item_title` of `[data]`."""
    columns: dict[str, str] = field(default_factory=dict)
    """Features, by column: their kinds, as `WithFeatures` takes them."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def recognize_items(
    path: str | Path,
    items: IdMap,
    *,
    item: str = ITEM,
    encoding: str | None = None,
    said: Mapping[str, Any] | None = None,
    say: Say = in_python,
) -> RecognizedItems:
    """Look at a table of items and return what its columns hold.

    Args:
        path: a csv, parquet or jsonl file with a row per item.
        items: the ids of the interactions' items.
        item: the column of the interactions that holds them.
        encoding: of text, as that of the interactions.
        said, say: as in `recognize`, with the keys `item_key` and `item_title`.

    Raises:
        DataError: the table cannot be read, has an item twice, or none of its columns holds the ids.
    """
    said = dict(said or {})
    layout = {"layout": "csv"} if Path(path).suffix.lower() in (".txt", ".dat") else {}
    table = read_whole(path, encoding=encoding, **layout).table
    columns = {str(name): Column(str(name), table[name]) for name in table}
    for option in ("item_key", "item_title"):
        if said.get(option) is not None and said[option] not in columns:
            raise DataError(f"{path} has no column {said[option]!r}; its columns are {', '.join(columns)}")
    shares = {name: _share(column, items) for name, column in columns.items() if column.is_flat and not column.missing}
    key: str | None = said.get("item_key") or max(shares, key=lambda name: (shares[name], name == item), default=None)
    if key is None or shares.get(key, 0.0) < _FEWEST:
        shown = f"the best, {key!r}, holds {shares[key]:.0%} of them" if key in shares else "none is without gaps"
        raise DataError(
            f"no column of {path} holds the ids of the items, such as {next(iter(items))!r}: {shown}; expected one row "
            f"per item and ids written alike; say {say('item_key', 'COLUMN')}"
        )
    of_key = columns[key]
    if of_key.unique < len(table):
        raise DataError(
            f"{path} has {len(table) - of_key.unique:,} items more than once in {key!r}; expected a row per item"
        )
    found = RecognizedItems({"items": str(path)})
    if key not in (item, ITEM):
        found.options["item_key"] = key
    found.facts.append(
        ("catalog", f"{path}: {len(table):,} rows, ids in {key}, {shares[key]:.0%} of the items described")
    )
    rest = {name: column for name, column in columns.items() if name != key}
    title = said.get("item_title") or _title_of(rest)
    if title is not None:
        found.facts.append(("titles", f"{title}, such as {rest[title].example}"))
        if title != TITLE:
            found.options["item_title"] = title
    found.columns = {name: kind for name, column in rest.items() if name != title and (kind := _kind(column))}
    if found.columns:
        found.facts.append(("features", ", ".join(f"{name} ({kind})" for name, kind in found.columns.items())))
    if left := [name for name in rest if name != title and name not in found.columns]:
        found.facts.append(("no feature", ", ".join(left)))
    if shares[key] < 1:
        missing = round((1 - shares[key]) * len(items))
        found.doubts.append(f"{missing:,} items of the interactions have no row in {path}")
    return found


def _share(column: Column, items: IdMap) -> float:
    """Return the share of the items that a column names."""
    if column.values.dtype.kind in "fbM":
        return 0.0
    try:
        codes = items.codes_of(IdMap(column.values.unique()), "item")
    except DataError:
        return 0.0
    return float((codes >= 0).sum()) / len(items)


def _title_of(columns: Mapping[str, Column]) -> str | None:
    text = {name: column for name, column in columns.items() if column.values.dtype.kind == "O" and column.is_flat}
    named = [name for name in text if is_title(name) and text[name].unique > 1]
    return min(named, key=lambda name: (name != TITLE, "description" in tokens(name)), default=None)


def _kind(column: Column) -> str:
    """Return the kind of feature that a column may be; empty for what says nothing of one item by another."""
    known = column.values.dropna()
    if not len(known) or set(tokens(column.name)) & _NO_FEATURES:
        return ""
    if not column.is_flat:
        kind = recognized(known)
        return kind if kind in ("tags", "vector") else ""
    if column.unique < 2:
        return ""
    kind = recognized(column.values)
    if kind == "number":
        return kind if column.unique > 2 else "category"
    if kind == "category" and column.unique > max(2, len(known) // 2):
        return ""  # nearly each item has its own
    return kind
