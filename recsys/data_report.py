"""Describe a table of interactions, and what the parts of a split have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.interactions import Interactions
from recsys.metrics.ranking import gini
from recsys.splits import Part, Split
from recsys.times import Times

_QUANTILES: Final = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "max": 1.0}


@dataclass(frozen=True, repr=False)
class DataReport:
    """Counts that describe interactions; `print` shows them as text."""

    users: int
    items: int
    entries: int
    density: float
    """Entries / (users · items)."""
    repeated: int | None
    """Rows of the source that repeat a user and item; None if they were not counted."""
    history: dict[str, float]
    """Items per user: mean and quantiles by name."""
    audience: dict[str, float]
    """Users per item: mean and quantiles by name."""
    head: dict[int, float]
    """Share of the entries on the most popular 1, 10 and 20 percent of the items (rounded up to whole items)."""
    gini: float
    """Gini index of the users per item: 0 if all items have equally many."""
    values: dict[str, int]
    """Number of entries by value, or by ten ranges of values if there are more than 20 values."""
    time: tuple[str, str] | None
    """First and last time, UTC; None for data without times."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the counts as rows of `what`, `name` and `value`, for programs."""
        single = {name: getattr(self, name) for name in ("users", "items", "entries", "density", "repeated", "gini")}
        several: dict[str, Mapping[Any, Any]] = {
            "items per user": self.history,
            "users per item": self.audience,
            "share of entries on the top percent": self.head,
            "entries of value": self.values,
            "time": {} if self.time is None else dict(zip(("first", "last"), self.time, strict=True)),
        }
        found = [{"what": name, "name": "", "value": value} for name, value in single.items()]
        return found + [
            {"what": what, "name": str(name), "value": value}
            for what, values in several.items()
            for name, value in values.items()
        ]

    def __repr__(self) -> str:
        history, audience = (
            ", ".join(f"{name} {value:,.{1 if name == 'mean' else 0}f}" for name, value in spread.items())
            for spread in (self.history, self.audience)
        )
        lines = [
            ("users", f"{self.users:,}"),
            ("items", f"{self.items:,}"),
            ("entries", f"{self.entries:,} ({self.density:.3%} of all pairs)"),
            ("repeated rows", "not counted" if self.repeated is None else f"{self.repeated:,}"),
            ("items per user", history),
            ("users per item", audience),
            ("popularity", ", ".join(f"{share:.1%} on the top {top} %" for top, share in self.head.items())),
            ("", f"Gini {self.gini:.3f}"),
            ("time", "none" if self.time is None else " to ".join(self.time)),
        ]
        most = max(self.values.values())
        for name, (value, count) in zip(("values", *[""] * len(self.values)), self.values.items(), strict=False):
            lines.append((name, f"{value:>12} {count:>12,} {'#' * round(40 * count / most)}".rstrip()))
        return "\n".join(f"{name:<15} {text}" for name, text in lines)


def describe(data: Interactions, *, repeated: int | None = None) -> DataReport:
    """Return the report of interactions.

    Args:
        repeated: rows that were dropped or merged as duplicates when the data were read, if known; `Interactions`
            hold each pair of user and item once.
    """
    users, items = data.shape
    popularity = np.bincount(data.matrix.indices, minlength=items)
    falling = np.cumsum(np.sort(popularity)[::-1])
    times = data.timestamps
    return DataReport(
        users=users,
        items=items,
        entries=data.nnz,
        density=data.nnz / max(1, users * items),
        repeated=repeated,
        history=_quantiles(np.diff(data.matrix.indptr)),
        audience=_quantiles(popularity),
        head={top: float(falling[-(-items * top // 100) - 1] / max(1, data.nnz)) for top in (1, 10, 20)},
        gini=gini(popularity),
        values=_values(data.matrix.data),
        time=None if times is None else (_utc(times.min()), _utc(times.max())),
    )


def leaks(data: Interactions, split: Split) -> pd.DataFrame:
    """Count the target entries of each part that are also in training or context, by external ids.

    `training entries later than the first of the part` are entries from the future that a model reads: 0 for a split by
    time, meaningless if users or entries are held out at random, and left out for data without times.

    Args:
        data: the data that were split; they hold the times of held-out entries.

    Returns:
        `part, what, count, of`: `count` entries out of `of` target entries, or of training entries.
    """
    overlaps, rows = split.overlaps(), []
    for name, part in {"validation": split.validation, "test": split.test}.items():
        if part is None:
            continue
        for (own, where), n in overlaps.items():
            if own == name:
                what = f"target entries in {'its ' if where == 'context' else ''}{where}"
                rows.append((name, what, n, part.target.nnz))
        if data.timestamps is not None and split.train.timestamps is not None:
            times = _times(data, part, split)
            if len(times):
                late = int(np.count_nonzero(split.train.timestamps > times.min()))
                rows.append((name, "training entries later than the first of the part", late, split.train.nnz))
    return pd.DataFrame(rows, columns=["part", "what", "count", "of"])


def _times(data: Interactions, part: Part, split: Split) -> Times:
    """Return the times of those target entries of a part that are in the data."""
    n_users, n_items = data.shape
    starts = np.arange(n_users, dtype=np.int64) * n_items
    keys = np.repeat(starts, np.diff(data.matrix.indptr)) + data.matrix.indices  # ascending, as CSR is
    users = data.users.codes_of(part.users, "user").astype(np.int64)
    items = data.items.codes_of(split.train.items, "item").astype(np.int64)
    rows, cols = np.repeat(users, np.diff(part.target.indptr)), items[part.target.indices]
    asked = (rows * n_items + cols)[(rows >= 0) & (cols >= 0)]
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    assert data.timestamps is not None
    times: Times = data.timestamps[place[keys[place] == asked]]
    return times


def _quantiles(counts: npt.NDArray[np.integer[Any]]) -> dict[str, float]:
    if not len(counts):
        return {}
    found = np.quantile(counts, list(_QUANTILES.values()), method="inverted_cdf")
    return {"mean": float(counts.mean()), **dict(zip(_QUANTILES, map(float, found), strict=True))}


def _values(values: npt.NDArray[np.float32]) -> dict[str, int]:
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 20:
        return {f"{value:g}": int(count) for value, count in zip(distinct, counts, strict=True)}
    counts, edges = np.histogram(values.astype(np.float64), bins=10)
    return {f"{low:g} to {high:g}": int(n) for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)}


def _utc(seconds: np.int64) -> str:
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")
