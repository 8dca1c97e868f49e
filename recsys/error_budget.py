"""The levels of a year's contests, so that chance alone rarely wins any of them.

Each contest spends a share of what is left of the year's error budget. How many there have been is read off what they
have written to the versions of the registered model, and nothing else needs to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SHARE: Final = 1 / 200
"""Share of what is left of the error budget that each contest spends."""
_YEAR: Final = timedelta(days=365)


@dataclass(frozen=True)
class Place:
    """A contest's place among those of a year."""

    contest: str
    """A digest of champion, rule and data: the same contest keeps its place."""
    number: int
    """Counted from 1."""
    since: str
    """When the year's first contest was, in UTC."""
    error_budget: float
    """Of the rule."""

    @property
    def level(self) -> float:
        """Greatest one-sided p-value with which the challenger is promoted."""
        return level(self.error_budget, self.number)

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, this contest included."""
        return 1 - (1 - SHARE) ** self.number

    def as_text(self) -> str:
        """Return the place as one line of JSON."""
        return json.dumps({**vars(self), "level": self.level, "spent": self.spent}, sort_keys=True)

    @classmethod
    def read(cls, text: str | None) -> Place | None:
        """Return what `as_text` wrote; None if it is anything else."""
        try:
            found = json.loads(text or "")
            one = cls(*(found[name] for name in ("contest", "number", "since", "error_budget")))
            known = one.number >= 1 and 0 < one.error_budget <= 1 and _time(one.since).tzinfo is not None
        except (TypeError, ValueError, KeyError):
            return None
        return one if known else None


def level(error_budget: float, number: int) -> float:
    """Return the level of a year's contest of this number, counted from 1.

    It is b·s·(1 − s)^(number − 1), for the budget b and the share s, so the levels of all contests of a year, however
    many, add up to no more than b. That bounds the chance of any false promotion whatever the contests have in common
    (Bonferroni's inequality), so they may be held on the same users against the same champion. A budget of 1 gives the
    level 1, and bounds nothing.
    """
    return 1.0 if error_budget == 1 else error_budget * SHARE * (1 - SHARE) ** (number - 1)


def place_of(records: Mapping[int, str | None], challenger: int, contest: str, error_budget: float, now: str) -> Place:
    """Return the place of a contest among those that are recorded.

    Versions that are missing in the records, and those whose record says nothing, count as contests of the year: what
    is lost makes the level lower, never higher.

    Args:
        records: of each version what its last contest wrote, `Place.as_text`; None for a version without a contest.
        challenger: number of the version that challenges.
        contest: digest of what else makes the contest: champion, rule and data.
        error_budget: of the rule.
        now: time in UTC, such as `2026-01-31T12:00:00Z`.
    """
    places = {version: Place.read(text) for version, text in records.items()}
    own = places.get(challenger)
    if own is not None and own.contest == contest:
        return own
    known = [(found.since, found.number, version) for version, found in places.items() if found is not None]
    since, number, version = max(known, default=(now, 0, 0))
    if _time(now) - _time(since) >= _YEAR:
        return Place(contest, 1, now, error_budget)
    later = range(version + 1, max(records) + 1)
    untold = sum(one not in records or (records[one] is not None and places[one] is None) for one in later)
    return Place(contest, number + untold + 1, since, error_budget)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
