"""What is known of items, a column at a time: values of one type, some of them missing, or a list of them per item."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError
from recsys.frames import LISTS, is_missing

Literal = str | int | float | bool
Mask = npt.NDArray[np.bool_]

_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PLURALS: Final = {"number": "numbers", "text": "text", "boolean": "true and false", "time": "times"}


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table of items."""

    name: str
    kind: str
    """`number`, `text`, `boolean`, `time`; empty where every value is missing."""
    lists: bool
    """Whether an item has a list of values."""
    rows: npt.NDArray[np.int64]
    """The item of each value, ascending; items whose value is missing do not occur."""
    values: npt.NDArray[Any]

    @classmethod
    def of(cls, name: str, cells: npt.NDArray[Any], separator: str | None = None) -> Column:
        """Read a column, with None or NaN for missing values.

        Args:
            separator: what separates the values where cells are text that holds several; values are stripped.

        Raises:
            DataError: values are of several types, or of one that has no meaning here.
        """
        rows, values = _present(cells)
        lists = bool(values) and all(isinstance(value, LISTS) for value in values)
        if separator is not None and not lists:
            values = [_parts(name, value, separator) for value in values]
            lists = True
        if lists:
            found = [(row, value) for row, inner in zip(rows, values, strict=True) for value in inner]
            again, values = _present(_as_objects(value for _, value in found))
            rows = np.array([row for row, _ in found], dtype=np.int64)[again]
        kind = _kind_of(name, values)
        return cls(name, kind, lists, rows, _typed(kind, values))

    def compared(self, sign: str, literal: Literal, n_items: int) -> Mask:
        """Return for which items the one value compares so with a literal, (n_items,); false where it is missing.

        Raises:
            DataError: the column holds lists, or values of another type.
        """
        self._check_single(sign)
        if self.kind in ("text", "boolean") and sign not in ("=", "!="):
            raise DataError(f"column {self.name!r} holds {_PLURALS[self.kind]}, which has no order; use =, != or in")
        return self._mask(_ORDER[sign](self.values, self._as_value(literal)), n_items)

    def among(self, literals: Iterable[Literal], negated: bool, n_items: int) -> Mask:
        """Return for which items the one value is among these, or among none of them; false where it is missing."""
        self._check_single("in")
        found = np.zeros(len(self.values), dtype=bool)
        for literal in literals:
            found |= np.asarray(self.values == self._as_value(literal), dtype=bool)
        return self._mask(~found if negated else found, n_items)

    def contains(self, literal: Literal, n_items: int) -> Mask:
        """Return for which items the list of values holds a literal; false where there is no list."""
        if self.kind and not self.lists:
            raise DataError(
                f"column {self.name!r} holds one value per item, and no lists; compare it by =, or say under "
                "separators what separates several values in its text"
            )
        return self._mask(self.values == self._as_value(literal), n_items)

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
        """Return each item beside each of its values once, as (items, numbers of values, how many values there are)."""
        codes, distinct = pd.factorize(self.values)
        both = np.unique(np.stack([self.rows, codes.astype(np.int64)], axis=1), axis=0)
        return both[:, 0], both[:, 1], len(distinct)

    def _check_single(self, sign: str) -> None:
        if self.lists:
            raise DataError(f"column {self.name!r} holds lists, which {sign!r} does not compare; use contains")

    def _as_value(self, literal: Literal) -> Any:
        """Return a literal as a value of this column; a DataError where it can be none."""
        kind = "boolean" if isinstance(literal, bool) else "text" if isinstance(literal, str) else "number"
        if self.kind == "time" and isinstance(literal, str):
            try:
                return _in_utc(pd.Timestamp(literal))
            except ValueError:
                raise DataError(
                    f"column {self.name!r} holds times; compare it with a date such as '2026-08-31', got {literal!r}"
                ) from None
        if self.kind and kind != self.kind:
            such = f", such as {self.values[0]!s}" if len(self.values) else ""
            raise DataError(
                f"column {self.name!r} holds {_PLURALS[self.kind]}{such}, and is compared with "
                f"{'the text ' if kind == 'text' else ''}{literal!r}; compare it with a value of its type"
            )
        return literal

    def _mask(self, found: Any, n_items: int) -> Mask:
        mask = np.zeros(n_items, dtype=bool)
        mask[self.rows[np.asarray(found, dtype=bool)]] = True
        return mask


def _present(cells: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return the places and values of the cells that are not missing."""
    if cells.dtype.kind in "biuM":
        missing = np.isnat(cells) if cells.dtype.kind == "M" else np.zeros(len(cells), dtype=bool)
    else:
        missing = np.array([is_missing(cell) for cell in cells], dtype=bool)
    rows = np.flatnonzero(~missing).astype(np.int64)
    return rows, pd.Series(cells[rows]).tolist()


def _as_objects(values: Iterable[Any]) -> npt.NDArray[np.object_]:
    listed = list(values)
    return np.fromiter(listed, dtype=object, count=len(listed))


def _parts(name: str, value: Any, separator: str) -> list[str]:
    if not isinstance(value, str):
        raise DataError(
            f"column {name!r} has a separator, {separator!r}, and holds {value!r}, which is no text; leave that out"
        )
    return [part.strip() for part in value.split(separator) if part.strip()]


def _kind_of(name: str, values: list[Any]) -> str:
    tests: dict[str, Callable[[Any], bool]] = {
        "boolean": lambda value: isinstance(value, bool | np.bool_),
        "number": lambda value: isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_),
        "text": lambda value: isinstance(value, str),
        "time": lambda value: isinstance(value, date),
    }
    if not values:
        return ""
    for kind, test in tests.items():
        if all(map(test, values)):
            return kind
    types = sorted({type(value).__name__ for value in values})
    raise DataError(
        f"column {name!r} of the table of items holds {', '.join(types)}; rules read numbers, text, true and false, "
        "times, and lists of one of these"
    )


def _typed(kind: str, values: list[Any]) -> npt.NDArray[Any]:
    if kind == "number":
        return np.array(values)
    if kind == "boolean":
        return np.array(values, dtype=bool)
    return _as_objects(map(_in_utc, map(pd.Timestamp, values)) if kind == "time" else values)


def _in_utc(time: pd.Timestamp) -> pd.Timestamp:
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
