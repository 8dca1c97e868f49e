"""What the rows of a table are worth: events, ratings or counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recsys.columns import RATING
from recsys.datasets.column_names import usual_weight
from recsys.datasets.column_values import Column
from recsys.errors import DataError

_LIKED: Final = 0.6
"""Ratings from this part of the scale on count as liked: 4 and 5 of 1 to 5, 7 and more of 1 to 10."""


@dataclass
class Worth:
    """What the rows are worth, and the keys of `[data]` that say so."""

    column: str | None = None
    fact: str = "none: every row counts the same"
    options: dict[str, Any] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    rated: bool = False


def worth_of(columns: Sequence[Column], said: Mapping[str, Any], say: Callable[[str, Any], str]) -> Worth:
    """Return what the rows are worth by the columns that are neither ids nor times.

    Raises:
        DataError: an event is not known, or a column of values lacks some; the message says what to do.
    """
    named = {column.name: column for column in columns}
    if (name := said.get("rating")) is not None:
        if name not in named:
            raise DataError(f"the values cannot be in {name!r}, which holds users, items or times; say another column")
        return _of(named[name], said, say, columns)
    events = [c for c in columns if _is_event(c)]
    known = [c for c in events if c.known_events > 0.5]
    maybe = [c for c in columns if c not in events and c.events is not None and c.unique > 1 and c.known_events > 0.02]
    chosen = max(known or events, key=lambda c: (c.known_events, c.hint.strength), default=None)
    for role in ("rating", "count"):
        of_role = [c for c in columns if c.hint.role == role and c.hint.strength > 1 and c.unique > 1]
        best = sorted(of_role, key=lambda c: (c.name != RATING, c.numbers is None))
        chosen = chosen if chosen is not None or not best else best[0]
    if chosen is None:
        default = named.get(RATING)
        if default is None:
            return Worth(options={"binary": True}, doubts=_may_be_events(maybe, say))
        chosen = default  # read wherever it is there
    worth = _of(chosen, said, say, columns)
    worth.doubts += _may_be_events([c for c in maybe if c is not chosen], say)
    if RATING in named and chosen.name != RATING and "weights" not in worth.options:
        worth.doubts.append(f"values are read from {chosen.name!r}, not {RATING!r}; {say('rating', RATING)} changes it")
    return worth


def _may_be_events(columns: Sequence[Column], say: Callable[[str, Any], str]) -> list[str]:
    return [
        f"{column.name!r} is not read, though {_listed(column)} in it may be events; "
        f"{say('rating', column.name)} reads it"
        for column in columns
    ]


def _listed(column: Column) -> str:
    return ", ".join(map(repr, list(column.events or {})[:4]))


def _is_event(column: Column) -> bool:
    """Return whether a column holds events: by its name, or because most of its rows are known ones."""
    if column.events is None or not column.is_flat:
        return False
    return (column.hint.role == "event" and column.unique > 1) or (column.unique > 1 and column.known_events > 0.9)


def _of(column: Column, said: Mapping[str, Any], say: Callable[[str, Any], str], all_of: Sequence[Column]) -> Worth:
    numbers = column.numbers
    if said.get("weights") is not None or numbers is None or (column.hint.role == "event" and column.events):
        return _events(column, said, say, all_of)
    if column.missing or not np.isfinite(numbers).all():
        raise DataError(
            f"{int((~np.isfinite(numbers)).sum()):,} rows have no number in {column.name!r}; drop those rows, or "
            "rename the column to leave it out"
        )
    if column.hint.role == "count" or (column.hint.role != "rating" and column.name != RATING):
        return _counts(column, numbers)
    return _ratings(column, numbers, said, say)


def _events(column: Column, said: Mapping[str, Any], say: Callable[[str, Any], str], all_of: Sequence[Column]) -> Worth:
    counts = column.events
    if counts is None and column.values.dtype.kind in "iu" and column.unique <= 40:
        counts = {str(name): int(count) for name, count in column.values.value_counts().items()}
    if counts is None or column.missing:
        reason = f"{column.missing:,} rows without one" if column.missing else f"{column.unique:,} different texts"
        raise DataError(
            f"column {column.name!r} holds neither numbers nor a few events ({reason}); drop those rows, rename the "
            f"column to leave it out, or say {say('rating', 'COLUMN')}"
        )
    weights = {event: usual_weight(event) for event in counts}
    weights |= {str(event): weight for event, weight in dict(said.get("weights") or {}).items()}
    if unknown := [event for event in counts if weights.get(event) is None]:
        shown = ", ".join(f"{event!r} ({counts[event]:,} rows)" for event in unknown[:5])
        raise DataError(
            f"what are these events in {column.name!r} worth: {shown}? Say {say(f'weights.{unknown[0]}', 1)}, or 0 to "
            f"leave such rows out; usual ones are view 1, cart 3, purchase 5, return 0"
        )
    if not any(weights.values()):
        raise DataError(
            f"no event in {column.name!r} is a sign of interest ({', '.join(counts)}); say what each is worth"
        )
    words = [f"{event} {counts[event]:,} rows, {_weight(weights[event])}" for event in counts]
    doubts = []
    if out := [event for event in counts if not weights[event]]:
        doubts.append(
            f"rows of {', '.join(map(repr, out))} are left out, and what they take back stays: a returned purchase is "
            "still one"
        )
    if rest := [c.name for c in all_of if c is not column and c.hint.role in ("rating", "count")]:
        doubts.append(
            f"beside the events, {', '.join(map(repr, rest))} is not read; {say('rating', rest[0])} changes it"
        )
    kept = {str(event): _plain(weight) for event, weight in weights.items()}
    options = {"rating": column.name, "weights": kept, "binary": True}
    return Worth(column.name, f"{column.name}, events: {'; '.join(words)}", options, doubts)


def _weight(weight: float | None) -> str:
    return f"weight {weight:g}" if weight else "left out"


def _counts(column: Column, numbers: Any) -> Worth:
    low, high = float(numbers.min()), float(numbers.max())
    fact = f"{column.name}, counts: {low:g} to {high:g}, median {np.median(numbers):g}"
    options: dict[str, Any] = {"rating": column.name, "binary": True}
    doubts = []
    if high <= 0:
        raise DataError(f"no row has a count above 0 in {column.name!r} ({low:g} to {high:g}); name another column")
    if low <= 0:
        options["min_rating"] = _plain(float(numbers[numbers > 0].min()))
        count = int((numbers <= 0).sum())
        doubts.append(
            f"{count:,} rows have a {column.name!r} of 0 or less, as returns have: what a user and item sum up to must "
            f"be at least {options['min_rating']:g} (min_rating)"
        )
    return Worth(column.name, fact, options, doubts)


def _ratings(column: Column, numbers: Any, said: Mapping[str, Any], say: Callable[[str, Any], str]) -> Worth:
    steps, counts = np.unique(numbers, return_counts=True)
    low, high = float(steps[0]), float(steps[-1])
    options: dict[str, Any] = {"rating": column.name, "binary": True}
    fact = f"{column.name}, ratings: {low:g} to {high:g}, {len(steps):,} different"
    if len(steps) == 1:
        return Worth(column.name, f"{column.name}, always {low:g}", options)
    least = said.get("min_rating")
    if least is None:
        least = float(steps[steps >= low + _LIKED * (high - low)][0])
    share = float((numbers >= least).mean())
    options["min_rating"] = _plain(float(least))
    doubts = []
    many = len(steps) > 3 and counts[0] > len(numbers) / 3
    if many and low <= 0 and counts.argmax() == 0 and steps[1] - low > 0.99:
        doubts.append(
            f"{counts[0]:,} rows have the rating {low:g}: if it means 'not rated', drop them or leave them out by "
            f"{say('min_rating', _plain(steps[1]))}"
        )
    elif low < 0 < steps[1] and len(steps) > 3:
        doubts.append(f"{counts[0]:,} rows have the rating {low:g}, below all others: 'not rated'?")
    if len(steps) > 100 or high > 1000:
        doubts.append(
            f"{column.name!r} looks like a count or an amount more than a rating, having {len(steps):,} values"
        )
    if not share >= 0.05:
        doubts.append(
            f"only {share:.1%} of the rows are rated {least:g} or more; {say('min_rating', '...')} changes that"
        )
    return Worth(column.name, f"{fact}; liked from {least:g} on, {share:.0%} of the rows", options, doubts, rated=True)


def _plain(number: float | None) -> int | float:
    value = float(number or 0)
    return int(value) if value.is_integer() else value
