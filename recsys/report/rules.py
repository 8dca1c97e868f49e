"""Section about rules for lists: what each costs, and what it gives."""

from __future__ import annotations

import pandas as pd

from recsys.metrics import of
from recsys.report.markup import Markup, note, number, table, tag
from recsys.report.summary import compared
from recsys.rules.costs import ITEMS, STEP


def rule_costs(frame: pd.DataFrame) -> list[Markup]:
    """The table of `recsys.rules.costs`, with the difference of each value from that without rules."""
    names = [str(name) for name in frame if name not in (STEP, ITEMS)]
    first = frame.iloc[0]
    rows = []
    for place, row in enumerate(frame.to_dict("records")):
        values = [number(row[name]) + (f" ({row[name] - first[name]:+.4f})" if place else "") for name in names]
        rows.append((str(row[STEP]), f"{row[ITEMS]:,}", *values))
    places = tuple(range(1, 2 + len(names)))
    return [
        tag("p", in_a_sentence(frame), class_="lead"),
        table("What rules cost and give", (STEP, ITEMS, *names), rows, places),
        note(
            "Each row adds a rule to those above it; in brackets is the difference from the model's own lists. "
            "Held-out items that the rules forbid count as missed: a rule costs accuracy even where it is wanted. ",
            " ".join(f"{name}: {of(name).meaning}." for name in names),
        ),
    ]


def in_a_sentence(frame: pd.DataFrame) -> str:
    """Return what all rules together change, in words."""
    said = []
    for name in (str(name) for name in frame if name not in (STEP, ITEMS)):
        before, after = float(frame[name].iloc[0]), float(frame[name].iloc[-1])
        if not abs(after - before) > 0:  # nor what could not be measured
            continue
        relative = f", {(after - before) / abs(before):+.1%}" if before else ""
        word = compared(name, after, before)
        said.append(f"{name} is {number(after)} in place of {number(before)} ({word}{relative})")
    return f"With all rules, {'; '.join(said)}." if said else "The rules change none of these figures."
