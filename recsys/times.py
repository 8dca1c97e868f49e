"""Times of interactions: whatever a table holds, as seconds since 1970, with the unit recognized or given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError, warn

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
"""What a number in a column of times counts; `auto` goes by its size."""
Times = npt.NDArray[np.int64] | npt.NDArray[np.float64]
"""Seconds since 1970: int64 where all are whole, float64 otherwise."""

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAMES: Final[dict[TimeUnit, str]] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_BELOW: Final[dict[TimeUnit, int]] = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 2**63}
"""Numbers of each unit lie below this; 10^11 seconds is the year 5138, and 10^11 milliseconds is March 1973."""
_NEARLY_ALL: Final = 0.9
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999."""


def seconds_of(raw: pd.Series[Any], column: str, unit: TimeUnit) -> tuple[Times, npt.NDArray[Any]]:
    """Return times in seconds since 1970, and numbers that order them at the full resolution of the source.

    Datetimes and text without a zone are taken as UTC.

    Args:
        raw: datetimes, dates, ISO 8601 text, or numbers of `unit`, perhaps as text.
        column: what messages call them.

    Raises:
        DataError: a time is missing, of another type, or no time in the years 1 to 9999.
    """
    if raw.isna().any():
        raise DataError(f"{int(raw.isna().sum())} values in {column!r} are missing; drop them, or pass timestamp=None")
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(raw)
    if pd.api.types.is_datetime64_any_dtype(raw.dtype) or kind in ("datetime", "datetime64", "date"):
        return _of_datetimes(raw, column)
    if raw.dtype.kind in "cbmM" or kind not in _NUMBERS:
        raise _not_times(column, f"{raw.dtype if raw.dtype.kind != 'O' else kind}, such as {raw.iloc[0]!r}")
    try:
        numbers = pd.to_numeric(raw).to_numpy()
    except OverflowError as error:
        raise _not_times(column, f"numbers beyond 64 bits ({error})") from None
    except (TypeError, ValueError):
        return _of_datetimes(raw, column)
    if pd.isna(numbers).any():  # what reads as no number, such as empty text
        raise _not_times(column, f"{raw[pd.isna(numbers)].iloc[0]!r}")
    return _of_numbers(numbers, column, unit)


_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal", "string"}


def _of_datetimes(raw: pd.Series[Any], column: str) -> tuple[Times, npt.NDArray[Any]]:
    if pd.api.types.infer_dtype(raw) == "string":
        text = raw.astype(str)  # beside ISO 8601, pandas would take words such as "now"
        if not (dates := text.str.match(r"\d{4}")).all():
            raise _not_times(column, f"text such as {text[~dates].iloc[0]!r}")
    try:
        stamps = pd.to_datetime(raw, format="ISO8601", utc=True).dt.tz_localize(None).to_numpy()
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_times(column, str(error).split(". You might", maxsplit=1)[0].split("\n", maxsplit=1)[0]) from None
    resolution = np.datetime_data(stamps.dtype)[0]
    return _in_range(stamps.astype(np.int64), PER_SECOND[resolution], column)


def _of_numbers(numbers: npt.NDArray[Any], column: str, unit: TimeUnit) -> tuple[Times, npt.NDArray[Any]]:
    if numbers.dtype.kind == "O" or numbers.dtype == np.float16:
        numbers = numbers.astype(np.float64)
    if infinite := int(np.isinf(numbers).sum()):
        raise DataError(f"{infinite} values in {column!r} are infinite; expected datetimes or seconds since 1970")
    low, high = float(numbers.min()), float(numbers.max())
    most = max(-low, high)
    counts = numbers.astype(np.int64, copy=False) if numbers.dtype.kind in "iu" and most < _BELOW["ns"] else numbers
    least = low
    if low <= 0:
        sizes = np.abs(counts[counts != 0])
        least = float(sizes.min()) if len(sizes) else most
    found = unit_of_numbers((numbers.min(), numbers.max()), least, unit, column)
    if unit == "auto" and _are_dates(counts):
        raise look_like_dates(column, counts[0])
    seconds, exact = _in_range(counts, PER_SECOND[found], column)
    if unit == "auto":
        note_unit(found, (seconds.min(), seconds.max()), column)
    return seconds, exact


def unit_of_numbers(ends: tuple[Any, Any], least: float, unit: TimeUnit, column: str) -> TimeUnit:
    """Return what numbers count, those of the smallest size but 0 being of size `least`.

    Raises:
        DataError: they are beyond 64 bits, or look like several units under `auto`.
    """
    low, high = map(float, ends)
    most = max(-low, high)
    if most >= _BELOW["ns"]:
        raise _not_times(column, f"numbers such as {ends[1] if high == most else ends[0]}")
    if unit != "auto":
        return unit
    found, smallest = _unit_of(most), _unit_of(least)
    if found != smallest:
        raise DataError(
            f"{column!r} holds numbers from {least:.15g} to {most:.15g}, which look like {_NAMES[smallest]} and like "
            f"{_NAMES[found]}; pass time_unit='s', 'ms', 'us' or 'ns'"
        )
    return found


def note_unit(unit: TimeUnit, ends: tuple[Any, Any], column: str) -> None:
    """Warn of numbers that are read in another unit than seconds; `ends` are the first and the last second."""
    if unit != "s":
        first, last = (str(np.datetime64(int(end), "s"))[:10] for end in ends)
        warn(f"{column!r} is read as {_NAMES[unit]} since 1970, from {first} to {last}; time_unit= says otherwise")


def look_like_dates(column: str, example: Any) -> DataError:
    """Return the error for numbers such as 20260831."""
    return DataError(
        f"{column!r} holds numbers such as {example}, which look like dates; write them as 2026-08-31, or "
        "pass time_unit='s' if they count seconds"
    )


def _unit_of(size: float) -> TimeUnit:
    return next(unit for unit, below in _BELOW.items() if size < below)


def _are_dates(numbers: npt.NDArray[Any]) -> bool:
    """Return whether nearly all numbers but 0 are days of 1900 to 2100 as YYYYMMDD, perhaps with HHMM or HHMMSS."""
    numbers = numbers[numbers != 0]
    if not len(numbers) or (numbers != np.floor(numbers)).any() or numbers.min() < 0:
        return False
    whole = numbers.astype(np.int64)
    for clock in (1, 10**4, 10**6):  # first by their size, which is cheap
        days, rest = np.divmod(whole, clock)
        plausible = (days >= 19_000_101) & (days <= 21_001_231)
        plausible &= (rest % 100 < 60) & (rest // 100 % 100 < 60) & (rest < (24 * clock) // 100 if clock > 1 else True)
        if plausible.mean() >= _NEARLY_ALL:
            texts = pd.Series(np.unique(days[plausible]).astype(str))
            return bool(pd.to_datetime(texts, format="%Y%m%d", errors="coerce").notna().mean() >= _NEARLY_ALL)
    return False


def _in_range(counts: npt.NDArray[Any], per_second: int, column: str) -> tuple[Times, npt.NDArray[Any]]:
    """Return counts of a part of a second as seconds, and the counts."""
    check_years((counts.min() / per_second, counts.max() / per_second), column)
    if counts.dtype.kind == "i" and per_second == 1:
        return counts, counts
    return as_seconds(counts, per_second), counts


def check_years(ends: Iterable[float], column: str) -> None:
    """Raise a DataError for seconds since 1970 that are not in the years 1 to 9999."""
    for end in ends:
        if not _FIRST <= end <= _LAST:
            raise _not_times(column, f"{end:.15g} seconds since 1970, which is not in the years 1 to 9999")


def as_seconds(counts: npt.NDArray[Any], per_second: int, whole: bool | None = None) -> Times:
    """Return counts of a part of a second as seconds: int64 if they are `whole`, by default if all of them are."""
    seconds, rest = np.divmod(counts, per_second)  # the quotient alone would lose digits of nanoseconds
    if whole is False or (whole is None and rest.any()):
        return seconds + rest / per_second
    return seconds.astype(np.int64)


def _not_times(column: str, found: str) -> DataError:
    return DataError(
        f"column {column!r} must hold datetimes, ISO 8601 text such as 2026-08-31T20:15:00Z, or numbers of seconds "
        f"since 1970, got {found}; pass timestamp=None to ignore the column"
    )
