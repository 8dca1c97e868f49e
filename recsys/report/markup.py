"""HTML and SVG as text, and the pieces of sections: notes, lists, tables, numbers as text."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

Child: TypeAlias = "str | int | Iterable[Child] | None"


class Markup(str):
    """Text that is already markup and goes into a page unchanged."""

    __slots__ = ()


def tag(name: str, *children: Child, **attributes: str | int | None) -> Markup:
    """Return an element.

    Args:
        children: texts, which are escaped; `Markup`, which is not; several of them; None, which is left out.
        attributes: `_` in a name becomes `-`, at its end it is dropped; None is left out.
    """
    opened = f"<{name}" + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"{opened}/>" if name in ("path", "use") else f"{opened}>{joined(children)}</{name}>")


def joined(child: Child) -> Markup:
    """Return the markup of a child, or of several one after another."""
    if child is None:
        return Markup()
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return Markup(_escaped(str(child)))
    return Markup("".join(map(joined, child)))


def _escaped(text: str) -> str:
    # Lone surrogates, found in broken files, have no UTF-8; HTML forbids NUL and other control characters.
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return html.escape("".join(c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in readable))


def note(*content: Child) -> Markup:
    """Return a paragraph that explains."""
    return tag("p", content, class_="note")


NO_LISTS: Final = note("No metric of recommended lists was measured; evaluate ndcg@10, for instance.")


def pairs(values: Mapping[str, Any]) -> Markup:
    """Return names and values, nested ones as text; None is left out."""
    shown = {name: value for name, value in values.items() if value is not None}
    return tag("dl", ((tag("dt", name), tag("dd", _text(value))) for name, value in shown.items()))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, Sequence):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table in a box of its own, which scrolls where the page is narrow; the first cell of a row heads it.

    Args:
        label: accessible name of the box.
        numbers: places of the columns that hold numbers, which are aligned to the right.
    """
    side = ["n" if place in numbers else None for place in range(len(heads))]
    head = tag("tr", (tag("th", text, scope="col", class_=kind) for text, kind in zip(heads, side, strict=True)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), (tag("td", row[i], class_=side[i]) for i in range(1, len(row))))
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


def span(low: float, high: float, show: Callable[[float], str] = number) -> str:
    """Return an interval; a dash if its ends are not finite."""
    return f"{show(low)} to {show(high)}" if np.isfinite(low) else "–"


def bracketed(low: float, high: float, show: Callable[[float], str] = number) -> str:
    """Return an interval to put behind its value; nothing if its ends are not finite."""
    return f" (95% interval {span(low, high, show)})" if np.isfinite(low) else ""
