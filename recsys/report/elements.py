"""The pieces of HTML that sections are made of: notes, lists, tables, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from recsys.report.markup import Child, Markup, tag


def note(*content: Child) -> Markup:
    """Return a paragraph that explains."""
    return tag("p", content, class_="note")


def no_lists() -> Markup:
    """Return the note of a section that needs metrics of recommended lists when there are none."""
    return note("No metric of recommended lists was measured; evaluate ndcg@10, for instance.")


def pairs(values: Mapping[str, Any]) -> Markup:
    """Return names and values, nested ones as text; None is left out."""
    shown = {name: value for name, value in values.items() if value is not None}
    return tag("dl", ((tag("dt", name), tag("dd", _text(value))) for name, value in shown.items()))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table in a box of its own, which scrolls where the page is narrow; the first cell of a row heads it.

    Args:
        label: accessible name of the box.
        numbers: places of the columns that hold numbers, which are aligned to the right.
    """

    def side(place: int) -> str | None:
        return "n" if place in numbers else None

    head = tag("tr", (tag("th", text, scope="col", class_=side(place)) for place, text in enumerate(heads)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), (tag("td", row[i], class_=side(i)) for i in range(1, len(row))))
        for row in rows
    ]
    content = tag("table", tag("thead", head), tag("tbody", body))
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def number(value: float) -> str:
    """Return a number with four decimals, or one if it is 100 or more; a dash if it is not finite."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def percentage(value: float) -> str:
    """Return a share as a percentage with one decimal; a dash if it is not finite."""
    return "–" if not np.isfinite(value) else f"{value:.1%}"


def span(low: float, high: float) -> str:
    """Return an interval; a dash if its ends are not finite."""
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else "–"
