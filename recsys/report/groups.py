"""Groups by which points are colored: at most five, of a column of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

GROUPS: Final = 5
"""As many as there are colors of points."""
_SEPARATOR: Final = "|"
"""Between several categories in one text, as in MovieLens."""


def grouped(values: Any) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return the group of each value and the groups' names; none of them is empty.

    Numbers of more than five kinds are cut into five groups of about equal size, whole numbers with both ends in their
    names. Anything else goes by its first category (of a list, or of a text with `|`): the four most frequent ones, and
    the others in a last group; so do missing values.

    Args:
        values: (n,) numbers, texts or lists.
    """
    column = pd.Series(list(values), dtype=object)
    numbers = pd.to_numeric(column, errors="coerce")
    known = column.notna()
    if known.any() and numbers[known].notna().all() and numbers.nunique() > GROUPS:
        return _ranges(numbers.to_numpy(np.float64))
    first = column.map(_first)
    counts = first[first != ""].value_counts()
    ordered = sorted(counts.index, key=lambda name: (-counts[name], name))
    missing = bool((first == "").any())
    names = ordered if len(ordered) + missing <= GROUPS else ordered[: GROUPS - 1]
    rest = "other" if len(ordered) > len(names) else "unknown"
    place = {name: number for number, name in enumerate(names)}
    kinds = first.map(lambda name: place.get(name, len(names))).to_numpy(np.intp)
    return kinds, [*names, *([rest] if (kinds == len(names)).any() else [])]


def _first(value: Any) -> str:
    """Return the first category of a value as text; empty where it has none."""
    if isinstance(value, list | tuple | np.ndarray):
        return str(value[0]) if len(value) else ""
    if value is None or value is pd.NA or value != value:
        return ""
    text = f"{value:g}" if isinstance(value, float | np.floating) else str(value)
    return text.split(_SEPARATOR)[0].strip()


def _ranges(numbers: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return groups of about equal size, the smallest numbers first; missing ones are a group of their own."""
    known = np.isfinite(numbers)
    parts = GROUPS - (not known.all())
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, parts + 1)[1:-1], method="higher"))
    kinds = np.searchsorted(edges, np.where(known, numbers, np.inf), side="right")
    kinds[~known] = len(edges) + 1
    present, kinds = np.unique(kinds, return_inverse=True)
    names = []
    for kind in range(len(present)):
        members = numbers[kinds == kind]
        low, high = members.min(), members.max()
        names.append("unknown" if np.isnan(low) else f"{low:,g}" if low == high else f"{low:,g} to {high:,g}")
    return kinds.astype(np.intp), names


def category_column(columns: Mapping[str, npt.NDArray[Any]]) -> str | None:
    """Return the first column of items that is a category: text or lists, of which few values are unlike all others."""
    for name, values in columns.items():
        texts = [_first(value) for value in values]
        named = [text for text in texts if text]
        in_words = any(isinstance(value, str | list | tuple | np.ndarray) for value in values)
        if in_words and named and len(set(named)) <= max(GROUPS, len(named) // 5):
            return name
    return None
