"""What the values of columns say: times, numbers, events; each beside the function that will read it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recsys.datasets.column_names import NOTHING, Hint, hint, usual_weight
from recsys.datasets.text import as_numbers
from recsys.errors import DataError
from recsys.frames import LISTS, is_missing
from recsys.times import seconds_of

MOST_EVENTS: Final = 40
"""A column of more different texts holds no events."""
_PLAUSIBLE: Final = (788_918_400, 2_208_988_800)
"""The years 1995 to 2039, in which interactions happen."""
_OTHER_DATES: Final = r"\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T].*)?|\s*\d{1,2}[ -][A-Za-z]{3,9}\.?[ -]\d{2,4}.*"
_ISO_DATES: Final = r"\s*\d{4}-\d\d-\d\d"
_SAMPLE: Final = 50_000


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table of which it is not known yet what it holds."""

    name: str
    values: pd.Series[Any]

    @cached_property
    def hint(self) -> Hint:
        """What its name says."""
        return hint(self.name) if isinstance(self.name, str) else NOTHING

    @cached_property
    def missing(self) -> int:
        """Number of cells that hold nothing."""
        return int(self.values.isna().sum())

    @cached_property
    def is_flat(self) -> bool:
        """Whether its cells are single values, not lists or tables."""
        known = self.values.dropna().head(100)
        return not any(isinstance(value, LISTS | dict) for value in known)

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """A number for each different value, −1 for none."""
        return pd.factorize(self.values)[0].astype(np.int64) if self.is_flat else np.arange(len(self.values))

    @property
    def unique(self) -> int:
        """How many different values there are."""
        return int(self.codes.max(initial=-1)) + 1

    @cached_property
    def example(self) -> str:
        """One value, as a person would write it."""
        known = self.values.dropna()
        return (
            repr(known.iloc[0].item() if isinstance(known.iloc[0], np.generic) else known.iloc[0]) if len(known) else ""
        )

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64] | None:
        """The values as numbers, also those with decimal commas; None where they are none."""
        kind = self.values.dtype.kind
        if kind in "iufb":
            return self.values.to_numpy(dtype=np.float64)
        text = self.values.dropna()
        if kind != "O" or not len(text) or not all(isinstance(value, str) for value in text.head(100)):
            return None
        try:
            found = as_numbers(pa.chunked_array([pa.array(self.values, pa.string(), from_pandas=True)]))
        except pa.ArrowException:
            return None
        return None if found.dtype == object else np.asarray(found, dtype=np.float64)

    @cached_property
    def times(self) -> npt.NDArray[np.float64] | None:
        """The values as seconds since 1970; None where they are not read as times, or not in any plausible year."""
        if self.values.dtype == bool or not len(self.values):
            return None
        for part in (self.values.head(1000), self.values):  # most columns are refused by their beginning
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    seconds = seconds_of(part, self.name, "auto")[0].astype(np.float64)
            except DataError:
                return None
            if not _PLAUSIBLE[0] <= np.median(seconds) <= _PLAUSIBLE[1]:
                return None
        low, high = seconds.min(), seconds.max()
        return seconds if _PLAUSIBLE[0] <= low and high <= _PLAUSIBLE[1] else None

    @cached_property
    def holds_other_dates(self) -> bool:
        """Whether they are dates that are not written by ISO 8601, such as 31.12.2025."""
        text = self.values.dropna().head(_SAMPLE).astype(str)
        other = text.str.fullmatch(_OTHER_DATES) & ~text.str.match(_ISO_DATES)
        return self.values.dtype.kind == "O" and bool(len(text)) and bool(other.mean() > 0.9)

    @property
    def no_time(self) -> str:
        """The first text that is no time by ISO 8601, as a person would write it; without any the first value."""
        text = self.values.dropna()
        if text.dtype.kind == "O":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read = pd.to_datetime(text.astype(str), format="ISO8601", utc=True, errors="coerce")
            if read.isna().any():
                return repr(text[read.isna()].iloc[0])
        return self.example

    @cached_property
    def events(self) -> dict[str, int] | None:
        """Rows of each different text, if they may be events; None for numbers and for more than a few."""
        if self.values.dtype.kind in "ufM" or not 1 <= self.unique <= MOST_EVENTS:
            return None
        counts = self.values.value_counts()
        return {str(name): int(count) for name, count in counts.items() if not is_missing(name)}

    @cached_property
    def known_events(self) -> float:
        """Share of the rows whose text is a known event."""
        counts = self.events or {}
        return sum(n for name, n in counts.items() if usual_weight(name) is not None) / max(1, len(self.values))

    @property
    def kind(self) -> str:
        """What ids in it are, in words."""
        return {"i": "whole numbers", "u": "whole numbers", "f": "numbers", "M": "times"}.get(
            self.values.dtype.kind, "text"
        )


def alike(column: Column) -> tuple[int, str]:
    """Return how many ids differ from another by spaces or capital letters alone, and two such."""
    if column.values.dtype.kind in "iuf":
        return 0, ""
    texts = pd.Series(column.values.dropna().astype(str).unique())
    same = texts.str.strip().str.casefold()
    twice = same.duplicated(keep=False)
    if not twice.any():
        return 0, ""
    pair = texts[same == same[twice].iloc[0]].tolist()[:2]
    return int(same.duplicated().sum()), f"{pair[0]!r} and {pair[1]!r}"


def guest(column: Column) -> tuple[Any, float] | None:
    """Return an id with a share of the rows that no single user has; None where there is none."""
    counts = np.bincount(column.codes[column.codes >= 0])
    share = float(counts.max(initial=0) / max(1, len(column.values)))
    if column.unique < 20 or share < 0.1:
        return None
    return column.values[column.codes == counts.argmax()].iloc[0], share


def same_pairs(user: Column, item: Column) -> int:
    """Return how many rows repeat the user and item of an earlier one."""
    pairs = user.codes * (item.unique + 1) + item.codes
    return len(pairs) - len(np.unique(pairs))


def determines(one: Column, other: Column) -> bool:
    """Return whether each value of one column goes with a single value of the other."""
    pairs = one.codes * (other.unique + 2) + other.codes
    return len(np.unique(pairs)) == one.unique
