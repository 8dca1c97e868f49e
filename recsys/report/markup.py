"""HTML and SVG as text; everything that is not markup already is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final, TypeAlias

_EMPTY: Final = frozenset({"path", "use"})
"""SVG elements that are written without an end tag."""

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
    if name in _EMPTY:
        return Markup(f"{opened}/>")
    return Markup(f"{opened}>{joined(children)}</{name}>")


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
