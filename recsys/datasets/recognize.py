"""`recognize`: what the columns of a table of interactions are, what is sure of it, and what is not.

It guesses where a wrong guess shows, and says so; what it cannot know, it asks for by an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from recsys.columns import TIMESTAMP
from recsys.datasets.column_names import Role
from recsys.datasets.column_values import Column, alike, determines, guest, same_pairs
from recsys.datasets.column_worth import Worth, worth_of
from recsys.datasets.readers import Whole, read_whole
from recsys.errors import DataError, did_you_mean
from recsys.times import unit_of_numbers

Say = Callable[[str, Any], str]
"""Writes how the person who asks gives a key a value, such as `--set data.user=customer`."""

_READING: Final = ("layout", "separator", "encoding", "names", "ids")
_LEAST_ROWS: Final = 20


def in_python(key: str, value: Any) -> str:
    """Return how a key of `recognize(said=)` is given."""
    return f"said={{{key!r}: {value!r}}}"


@dataclass(eq=False)
class Recognized:
    """What a table is understood as."""

    file: str
    options: dict[str, Any] = field(default_factory=dict)
    """Keys of `[data]` in a configuration: how to read the table, and what to keep."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    """What was understood, each with its heading."""
    doubts: list[str] = field(default_factory=list)
    """What may be otherwise, and how to say so."""
    rated: bool = False
    """Whether its values are ratings."""
    has_times: bool = False

    def __str__(self) -> str:
        lines = [f"{heading:<10} {text}" for heading, text in self.facts]
        if self.doubts:
            lines += ["not sure", *(f"  - {doubt}" for doubt in self.doubts)]
        return "\n".join(lines)


def recognize(path: str | Path, *, said: Mapping[str, Any] | None = None, say: Say = in_python) -> Recognized:
    """Look at a file or folder of interactions and return what its columns hold.

    Args:
        path: as in `read`.
        said: keys that are known already, as in `[data]`: `user`, `item`, `rating`, `timestamp`, `weights`, `encoding`
            and so on.
        say: how to give a key, for messages.

    Raises:
        DataError: the file cannot be read, or something must be known that the table does not tell; the message says
            how to give it.
    """
    said = dict(said or {})
    found = Recognized(str(path))
    whole = _read(path, said, found, say)
    columns = {str(name): Column(str(name), whole.table[name]) for name in whole.table}
    n_rows = len(whole.table)
    if n_rows < _LEAST_ROWS:
        raise DataError(f"{path} holds {n_rows} rows, too few to learn from; expected at least {_LEAST_ROWS}")
    for key in ("user", "item", "rating", "timestamp"):
        if said.get(key) is not None and said[key] not in columns:
            raise DataError(f"{path} has no column {said[key]!r}{did_you_mean(str(said[key]), columns)}")
    roles = _Roles(columns, said, say)
    user, item = roles.of_id("user"), roles.of_id("item")
    if user.name == item.name:
        raise DataError(f"users and items cannot be the same column {user.name!r}; say {say('item', 'COLUMN')}")
    found.doubts += roles.doubts
    timed = _time_of(columns, (user, item), said, found, say)
    worth = worth_of([c for c in columns.values() if c not in (user, item, timed)], said, say)
    _check_ids(found, (user, item), worth, said, say)
    found.facts += [("rows", f"{n_rows:,}, {whole.layout}{_how(found)}"), ("users", _ids(user)), ("items", _ids(item))]
    found.facts.append(("values", worth.fact))
    found.doubts += worth.doubts
    found.options |= {"user": user.name, "item": item.name, **worth.options}
    if timed is not None:
        found.options |= {"timestamp": timed.name, **_unit(timed, said)}
        found.facts.append(("times", _span(timed)))
    found.has_times, found.rated = timed is not None, worth.rated
    _repeated(found, (user, item), worth, said)
    used = {user.name, item.name, worth.column, timed.name if timed is not None else None}
    if rest := [name for name in columns if name not in used]:
        found.facts.append(("not read", ", ".join(rest)))
    return found


def _read(path: str | Path, said: Mapping[str, Any], found: Recognized, say: Say) -> Whole:
    """Return the whole table; where its encoding or layout is not that of its name, the first that fits."""
    given = {key: said[key] for key in _READING if key in said}
    found.options |= given
    guessed: dict[str, Any] = {}
    for _ in range(3):
        try:
            whole = read_whole(path, **{**given, **guessed})
            break
        except DataError as error:
            text = str(error)
            if "is not UTF-8" in text and "encoding" not in {**given, **guessed}:
                guessed["encoding"] = "cp1252"
                found.doubts.append(
                    f"it is not UTF-8 and read as cp1252 (Western Europe); {say('encoding', 'NAME')} names another"
                )
            elif ("layout is not recognized" in text or "holds fields in quotes" in text) and "layout" not in guessed:
                guessed["layout"] = "csv"
            else:
                if twice := re.search(r"the header names '(.*?)'.* more than once", text):
                    _refuse_values(path, [twice[1]], say)
                raise
    else:
        raise DataError(f"{path} cannot be read as {guessed}; say {say('encoding', 'NAME')}")
    found.options |= guessed
    names = [str(name) for name in whole.table.columns]
    if "names" not in given and whole.layout in ("csv", "tsv"):
        _refuse_values(path, names, say)
    if len(names) < 2:
        raise DataError(
            f"{path} has one column, {names[0]!r}; expected at least users and items: which separator has it? "
            f"Say {say('separator', ' ')}"
        )
    return whole


def _refuse_values(path: str | Path, names: Sequence[str], say: Say) -> None:
    """Refuse a header that holds a number or a date: it is a row."""
    if any(map(_is_value, names)):
        raise DataError(
            f"the first line of {path} is no header: {', '.join(names[:6])}; name its columns in their order, "
            f"{say('names', ['user', 'item', '...'])}"
        )


def _is_value(name: str) -> bool:
    """Return whether what should be the name of a column is a number or a date."""
    number = pd.to_numeric(pd.Series([name.strip().replace(",", ".")]), errors="coerce").notna().all()
    return bool(number) or Column(name, pd.Series([name], dtype=object)).times is not None


class _Roles:
    """Which columns hold users and items."""

    def __init__(self, columns: Mapping[str, Column], said: Mapping[str, Any], say: Say) -> None:
        self.columns, self.said, self.say = columns, said, say
        self.doubts: list[str] = []

    def of_id(self, role: Role) -> Column:
        """Return the column of users or items; a DataError where it is not clear."""
        if self.said.get(role) is not None:
            return self.columns[self.said[role]]
        other = self.said.get({"user": "item", "item": "user"}[role])
        named = [c for c in self.columns.values() if c.hint.role == role and c.hint.strength and c.name != other]
        best = [c for c in named if c.hint.strength == max(one.hint.strength for one in named)]
        first = self._of_same(best) if best else None
        if first is None:
            raise DataError(self._question(role, best))
        if first.hint.strength == 1:
            self.doubts.append(f"{role}s are read from {first.name!r}; {self.say(role, 'COLUMN')} names another")
        return first

    def _of_same(self, best: Sequence[Column]) -> Column | None:
        """Return the only column, or the first of several that mean the same, one for one; None where they do not."""
        first, *others = best
        if not all(determines(first, other) and determines(other, first) for other in others):
            return None
        if others:
            self.doubts.append(
                f"{', '.join(repr(c.name) for c in best)} say the same; {first.name!r} is read, "
                f"{self.say(str(first.hint.role), others[0].name)} takes another"
            )
        return first

    def _question(self, role: str, among: Sequence[Column]) -> str:
        shown = [f"{c.name!r} ({c.unique:,} different, such as {c.example})" for c in (among or self.columns.values())]
        more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
        asks = f"several columns may hold the {role}s" if among else f"no column is called as one of {role}s is"
        return f"{asks}: {', '.join(shown[:8])}{more}; say which, {self.say(role, 'COLUMN')}" + (
            "" if among else f"; if the first line is no header, {self.say('names', ['user', 'item', '...'])}"
        )


def _time_of(
    columns: Mapping[str, Column], ids: Sequence[Column], said: Mapping[str, Any], found: Recognized, say: Say
) -> Column | None:
    """Return the column of times; None where there is none that can be read."""
    if said.get("timestamp") is not None:
        return columns[said["timestamp"]]
    rest = [c for c in columns.values() if c not in ids]
    named = sorted(
        (c for c in rest if c.hint.role == "time" and c.hint.strength > 1),
        key=lambda c: (c.name != TIMESTAMP, -c.hint.strength),
    )
    sure = [c for c in named if not c.missing and c.times is not None]
    for column in named:
        if column in sure or column.unique <= 1 or (sure and column.name != TIMESTAMP):
            continue
        advice = ""
        if column.missing:
            reason = f"lacks a time in {column.missing:,} rows"
        elif column.holds_other_dates:
            reason = f"holds dates such as {column.example}, whose day and month are not told apart"
            advice = "; times are written 2026-08-31 or 2026-08-31T20:15:00"
        else:
            reason = f"holds values that are no times, such as {column.no_time}"
        if column.name == TIMESTAMP:  # which is read wherever it is there
            raise DataError(f"column {column.name!r} {reason}; correct it, or rename it to leave it out")
        found.doubts.append(f"{column.name!r} {reason}: it is left out, and nothing is known of when{advice}")
    if not sure:
        other = [c for c in rest if c.hint.role == "other" and c.values.dtype.kind not in "iufb" and not c.missing]
        sure = [c for c in other if c.hint.strength == 0 and c.times is not None][:1]
        if sure:
            found.doubts.append(f"times are read from {sure[0].name!r}; {say('timestamp', 'COLUMN')} names another")
    elif len(sure) > 1:
        shown = ", ".join(repr(c.name) for c in sure[1:])
        found.doubts.append(
            f"times are read from {sure[0].name!r}, not {shown}; {say('timestamp', 'COLUMN')} changes it"
        )
    return sure[0] if sure else None


def _check_ids(found: Recognized, ids: tuple[Column, Column], worth: Worth, said: Mapping[str, Any], say: Say) -> None:
    """Refuse ids that cannot be read, and note those that look odd."""
    user, item = ids
    for column, role in ((user, "user"), (item, "item")):
        if column.missing:
            raise DataError(
                f"{column.missing:,} of the {len(column.values):,} rows have no {role} in {column.name!r}; drop those "
                f"rows, or say which other column holds the {role}s, {say(role, 'COLUMN')}"
            )
        if not column.is_flat or column.values.dtype.kind in "bM":
            raise DataError(f"{column.name!r} holds no ids, such as {column.example}; say {say(role, 'COLUMN')}")
        if column.values.dtype.kind == "f":
            found.doubts.append(f"ids in {column.name!r} are written as numbers with a point, such as {column.example}")
        count, pair = alike(column)
        if count:
            found.doubts.append(f"{count:,} {role}s differ from another by spaces or capital letters alone: {pair}")
    if user.unique == len(user.values):
        raise DataError(
            f"every row has a user of its own in {user.name!r}, so nothing can be learned of anybody; "
            f"say which column holds the users, {say('user', 'COLUMN')}"
        )
    if min(user.unique, item.unique) < 3:
        few = user if user.unique < 3 else item
        raise DataError(
            f"{few.name!r} holds {few.unique} different ids, expected at least 3; say {say('user', 'COLUMN')}"
        )
    if (who := guest(user)) is not None:
        found.doubts.append(f"user {who[0]!r} has {who[1]:.0%} of the rows: everybody without an account?")


def _how(found: Recognized) -> str:
    return "".join(f", {key} {found.options[key]}" for key in ("encoding", "separator") if key in found.options)


def _ids(column: Column) -> str:
    return f"{column.name}: {column.unique:,} different, {column.kind} such as {column.example}"


def _span(column: Column) -> str:
    seconds = column.times
    if seconds is None:
        return f"{column.name}, such as {column.example}"
    first, last = (datetime.fromtimestamp(float(end), UTC).date() for end in (seconds.min(), seconds.max()))
    return f"{column.name}: {first} to {last}, such as {column.example}"


def _unit(column: Column, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unit of times that are numbers other than seconds, as a key of `[data]`."""
    numbers = column.numbers
    if numbers is None or "time_unit" in said or column.times is None:
        return {}
    ends = float(numbers.min()), float(numbers.max())
    unit = unit_of_numbers(ends, ends[0], "auto", column.name)
    return {} if unit == "s" else {"time_unit": unit}


def _repeated(found: Recognized, ids: tuple[Column, Column], worth: Worth, said: Mapping[str, Any]) -> None:
    """Say how many rows repeat a user and item, and choose what is done with them."""
    count = same_pairs(*ids)
    if not count:
        return
    found.options["duplicates"] = said.get("duplicates", "last" if worth.rated else "sum")
    how = {"last": "the latest counts" if found.has_times else "the last row counts", "sum": "their values are summed"}
    policy = how.get(found.options["duplicates"], found.options["duplicates"])
    found.facts.append(("repeated", f"{count:,} rows repeat a user and item: {policy}"))
