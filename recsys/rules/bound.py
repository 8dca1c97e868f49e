"""Rules in terms of a model's items: columns of scores in place of ids, predicates and files."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys import memory
from recsys.columns import ITEM, TITLE
from recsys.datasets import read, read_items
from recsys.datasets.id_lists import read_ids
from recsys.errors import ConfigError, DataError, did_you_mean, warn
from recsys.frames import about_items
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.matching import FEW_KNOWN
from recsys.rules.columns import Column
from recsys.rules.declared import FILE, Rules
from recsys.rules.predicates import Predicate

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_FEW: Final = 0.5
"""Up to this share of the items, an allowed part is scored alone; beyond it all are, and the others masked."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The limited values of items: what `at_most` counts."""

    of_items: npt.NDArray[np.int32]
    """(n_items, width) numbers of each item's values that may be too many in a list, -1 where it has fewer."""
    caps: npt.NDArray[np.int64]
    """Most items of each value."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """What single users must not get."""

    users: IdMap
    matrix: sp.csr_matrix
    """(users, items of the model)."""

    def rows(self, users: Iterable[Hashable]) -> sp.csr_matrix:
        """Return a row for each of these users, empty for those of whom nothing is hidden; ids may repeat."""
        place = self.users.codes(users, on_unknown="mark")
        found = self.matrix[np.maximum(place, 0)]
        lengths = np.where(place >= 0, np.diff(found.indptr), 0)
        kept = np.repeat(place >= 0, np.diff(found.indptr))
        indptr = np.append(0, np.cumsum(lengths))
        return sp.csr_matrix((found.data[kept], found.indices[kept], indptr), shape=found.shape)


@dataclass(frozen=True, eq=False)
class BoundRules:
    """Rules bound to the items of a model; made by `bind`. They are equal where they give the same lists."""

    rules: Rules
    items: IdMap
    allowed: Mask | None = None
    """(n_items,) which items may be recommended at all; None: all."""
    groups: Groups | None = None
    shares: sp.csr_matrix | None = None
    """(n_items, n_values) share of each value of the column of `calibration` in an item: rows sum to 1 or are empty."""
    hidden: Hidden | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundRules) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def about(self) -> dict[str, Any]:
        """Return the rules for a manifest, as JSON values, with a digest of all that lists depend on."""
        return {**self.rules.shown(), "digest": self.digest}

    @property
    def n_allowed(self) -> int:
        """Number of the items that may be recommended."""
        return len(self.items) if self.allowed is None else int(self.allowed.sum())

    @cached_property
    def candidates(self) -> tuple[Indices | None, Indices | None]:
        """The items to score alone and those to mask, as `recommend` takes them: one of the two or none is given."""
        if self.allowed is None or self.allowed.all():
            return None, None
        if self.n_allowed <= _FEW * len(self.items):
            return np.flatnonzero(self.allowed), None
        return None, np.flatnonzero(~self.allowed)

    def only(self, codes: npt.ArrayLike) -> BoundRules:
        """Return the rules where nothing else than these columns is allowed; there may be none left."""
        mask = np.zeros(len(self.items), dtype=bool)
        mask[np.asarray(codes, dtype=np.int64)] = True
        return replace(self, allowed=mask if self.allowed is None else mask & self.allowed)

    def hide(self, users: Iterable[Hashable], shown: sp.csr_matrix | None) -> sp.csr_matrix | None:
        """Return what is not to be recommended to each of these users: what is given already, and their pairs.

        Args:
            users: external ids, one per row.
            shown: (users, n_items) what they have seen, where that is filtered.
        """
        if self.hidden is None:
            return shown
        own = self.hidden.rows(users)
        if shown is None:
            return own
        both = sp.csr_matrix((np.ones(shown.nnz, np.float32), shown.indices, shown.indptr), shape=shown.shape) + own
        return sp.csr_matrix(both)

    def few_hidden(self, users: IdMap) -> str:
        """Return a warning where pairs are excluded and none is of these users; empty where some are."""
        if self.hidden is None or (self.hidden.users.codes_of(users, "user") >= 0).any():
            return ""
        return (
            f"rules.exclude_pairs is of other users: ids there are like {next(iter(self.hidden.users))!r}, those of "
            f"the histories like {next(iter(users))!r}"
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that lists depend on."""
        digest = hashlib.sha256()
        chosen = (self.rules.diversity, self.rules.calibration, self.rules.pool)
        digest.update(repr(chosen if self.rules.diversity or self.rules.calibration else None).encode())
        arrays: list[npt.NDArray[Any] | None] = [self.allowed]
        arrays += [None, None] if self.groups is None else [self.groups.of_items, self.groups.caps]
        for matrix in (self.shares, None if self.hidden is None else self.hidden.matrix):
            arrays += [None] * 3 if matrix is None else [matrix.data, matrix.indices, matrix.indptr]
        for array in arrays:
            digest.update(b"|" if array is None else f"|{array.dtype}{array.shape}".encode())
            digest.update(b"" if array is None else np.ascontiguousarray(array).data)
        if self.hidden is not None:
            digest.update(repr(list(self.hidden.users)).encode())
        return digest.hexdigest()


def bind(rules: Rules, items: Any, known: IdMap | None) -> BoundRules:
    """Return rules in terms of the items of a model.

    Args:
        items: a table with a row per item: its id in a column item_id, and the columns that the rules name; a frame, or
            the path of a csv or parquet file. None: the file that `items` of the rules names, if any.
        known: the items of a model, `model.items_`.

    Raises:
        ConfigError: the rules read columns and there is no table.
        DataError: a column is not in the table or of a type that cannot be compared so, a file cannot be read, the
            model does not know its ids or none of the allowed items, or nothing is left to recommend.
    """
    if not isinstance(known, IdMap):
        raise DataError("rules name items by their ids, and this model does not know those; fit it on Interactions")
    columns = _columns(rules, items, known)
    allowed = _allowed(rules, columns, known)
    shares = None
    if rules.calibration:
        shares = _shares(columns[next(iter(rules.calibration))], len(known))
    groups = _groups(rules.at_most or {}, columns, allowed, len(known))
    return BoundRules(rules, known, allowed, groups, shares, _hidden(rules.exclude_pairs, known))


def shares_of(rules: Rules, items: Any, known: IdMap) -> sp.csr_matrix | None:
    """Return the shares of values in items, by the column of `calibration` or the first of `at_most`; None without one.

    Arguments and errors are those of `bind`; the result is (n_items, n_values).
    """
    named = [*(rules.calibration or ()), *(rules.at_most or ())]
    return _shares(_columns(rules, items, known)[named[0]], len(known)) if named else None


def table_of(items: Any, named: str | None = None) -> pd.DataFrame | None:
    """Return a table of items: a frame as it is, that of a path, or that of the file which the rules name."""
    if items is None:
        items = named
    if items is None or isinstance(items, pd.DataFrame):
        return items
    return read_items(items) if isinstance(items, str | Path) else items.to_pandas()


def check_table(rules: Rules, table: pd.DataFrame | None) -> None:
    """Refuse rules that read a column which a table of items does not have, or values that do not compare.

    Raises:
        ConfigError: there is no table.
        DataError: the column is not there, or a predicate does not fit its values.
    """
    if rules.columns and table is None:
        raise ConfigError(
            f"the rules read {', '.join(map(repr, rules.columns))} of the items, and there is no table of items; "
            "give one, items=, or name one as items of the rules"
        )
    if table is None:
        return
    cells = {name: np.asarray(table[name], dtype=object) for name in rules.columns if name in table}
    columns = _read(rules, cells, [str(name) for name in table if name not in (ITEM, TITLE)])
    for name in ("allow", "exclude"):
        if isinstance(predicate := getattr(rules, name), str):
            Predicate.parse(predicate).holds(columns, len(table))


def _columns(rules: Rules, items: Any, known: IdMap) -> dict[str, Column]:
    """Return the columns that the rules read, a cell per item of the model."""
    if not rules.columns:
        return {}
    table = table_of(items, rules.items)
    check_table(rules, table)
    assert table is not None
    if ITEM not in table and table.index.name == ITEM:
        table = table.reset_index()
    try:
        _, cells = about_items(table, ITEM, known)
    except DataError as error:
        raise DataError(f"the table of items: {error}") from None
    return _read(rules, cells, list(cells))


def _read(rules: Rules, cells: Mapping[str, npt.NDArray[Any]], there: list[str]) -> dict[str, Column]:
    separators = rules.separators or {}
    for name in (*rules.columns, *separators):
        if name not in there:
            raise DataError(
                f"the rules read the column {name!r}, which the items do not have{did_you_mean(name, there)}"
            )
    return {name: Column.of(name, cells[name], separators.get(name)) for name in rules.columns}


def _allowed(rules: Rules, columns: Mapping[str, Column], known: IdMap) -> Mask | None:
    """Return which items may be recommended; None where all may."""
    if rules.allow is None and rules.exclude is None:
        return None
    allowed = np.ones(len(known), dtype=bool)
    if rules.allow is not None:
        allowed = _chosen("allow", rules.allow, columns, known)
        if not allowed.any():
            raise DataError(f"rules.allow allows none of the {len(known):,} items of the model: {_short(rules.allow)}")
    if rules.exclude is not None:
        allowed &= ~_chosen("exclude", rules.exclude, columns, known)
        if not allowed.any():
            raise DataError(f"rules.exclude leaves no item to recommend: {_short(rules.exclude)}")
    return allowed


def _chosen(name: str, given: Any, columns: Mapping[str, Column], known: IdMap) -> Mask:
    """Return which items are listed, or satisfy a predicate."""
    if isinstance(given, str):
        return Predicate.parse(given).holds(columns, len(known))
    ids = list(given) if isinstance(given, tuple) else read_ids(Path(given[FILE]).expanduser(), ITEM, known)
    mask = np.zeros(len(known), dtype=bool)
    codes = known.codes(ids, on_unknown="mark")
    mask[codes[codes >= 0]] = True
    if ids and (codes >= 0).mean() < FEW_KNOWN and (name == "exclude" or mask.any()):
        warn(
            f"rules.{name} lists {len(ids):,} items, of which the model knows {int((codes >= 0).sum()):,}: others are "
            f"like {ids[int(np.flatnonzero(codes < 0)[0])]!r}, known ones like {next(iter(known))!r}"
        )
    return mask


def _groups(caps: Mapping[str, int], columns: Mapping[str, Column], allowed: Mask | None, n: int) -> Groups | None:
    """Return the values that may be too many in a list; None without any."""
    items, values, most = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for name, cap in caps.items():
        rows, codes, _ = columns[name].pairs()
        kept = np.ones(len(rows), dtype=bool) if allowed is None else allowed[rows]
        counts = np.bincount(codes[kept], minlength=codes.max(initial=-1) + 1)
        number = np.cumsum(counts > cap) - 1  # values of no more items than may be in a list need no counting
        kept &= counts[codes] > cap
        items.append(rows[kept])
        values.append(number[codes[kept]] + sum(map(len, most)))
        most.append(np.full(int((counts > cap).sum()), cap, dtype=np.int64))
    row, value = np.concatenate(items), np.concatenate(values)
    if not len(row):
        return None
    order = np.argsort(row, kind="stable")
    row, value = row[order], value[order]
    lengths = np.bincount(row, minlength=n)
    width = int(lengths.max())
    memory.require(4 * n * width, f"the limited values of {n:,} items, up to {width:,} each, need", "limit others")
    table = np.full((n, width), -1, dtype=np.int32)
    starts = np.append(0, np.cumsum(lengths))
    table[row, np.arange(len(row)) - starts[row]] = value
    return Groups(table, np.concatenate(most))


def _shares(column: Column, n: int) -> sp.csr_matrix:
    """Return the share of each value in each item: one over the number of the item's values."""
    rows, codes, n_values = column.pairs()
    each = np.bincount(rows, minlength=n)
    found = sp.csr_matrix((1.0 / each[rows], (rows, codes)), shape=(n, n_values))
    found.sort_indices()
    return found


def _hidden(given: Any, known: IdMap) -> Hidden | None:
    """Return the pairs of users and items of the model."""
    if given is None or len(given) == 0:
        return None
    if isinstance(given, tuple):
        users, items = zip(*given, strict=True)
        frame = pd.DataFrame({"user": pd.Series(users, dtype=object), "item": pd.Series(items, dtype=object)})
        pairs = Interactions.from_frame(frame, user="user", item="item", rating=None, timestamp=None)
    else:
        pairs = read(given[FILE], rating=None, timestamp=None, duplicates="last")
    try:
        matrix, warning = pairs.matched(known)
    except DataError as error:
        raise DataError(f"rules.exclude_pairs: {error}") from None
    if warning:
        warn(f"rules.exclude_pairs: {warning}")
    return Hidden(pairs.users, matrix)


def _short(given: Any) -> str:
    text = repr(list(given[:3])) if isinstance(given, tuple) else repr(given)
    return text if len(text) <= 200 else f"{text[:197]}..."
