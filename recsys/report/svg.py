"""Matplotlib figures as SVG inside an HTML page, with colors that follow the theme of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from recsys.report.markup import Markup, joined, tag
from recsys.report.panels import COLORS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_SVG: Final = "{http://www.w3.org/2000/svg}"
_VARIABLES: Final = {color: f"var(--{name})" for name, color in COLORS.items()}


def embed(figure: Figure, label: str, hover: Mapping[Artist, Sequence[str]]) -> Markup:
    """Return a figure as one `<svg>` element.

    Colors of the palette become CSS variables, texts take the font and the color that the page gives them, and the
    background is transparent. Equal figures give equal text.

    Args:
        label: what a reader who does not see the figure should know; unique in a page, because ids depend on it.
        hover: for each artist, a text per mark that it draws, in order. It becomes the mark's attribute `data-t`,
            which the page shows under the pointer.

    Raises:
        KeyError: the figure has a color that is not in the palette.
        ValueError: an artist draws more or fewer marks than it has texts.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    for number, artist in enumerate(hover):
        artist.set_gid(f"hover{number}")
    figure.patch.set_visible(False)
    for panel in figure.axes:
        panel.patch.set_visible(False)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # `savefig` draws everything twice
    root = ElementTree.fromstring(file.getvalue())

    groups = {group.get("id"): group for group in root.iter(f"{_SVG}g")}
    texts: dict[ElementTree.Element, str] = {}
    for number, given in enumerate(hover.values()):
        texts |= zip(_marks(groups[f"hover{number}"]), given, strict=True)
    return tag(
        "svg", (_markup(child, texts) for child in root), viewBox=root.get("viewBox"), role="img", aria_label=label
    )


def _marks(group: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the elements of a group that draw something: paths and uses of a path, not what is only defined."""
    defined = {path for definitions in group.iter(f"{_SVG}defs") for path in definitions}
    return [mark for mark in group.iter() if mark.tag in (f"{_SVG}path", f"{_SVG}use") and mark not in defined]


def _markup(element: ElementTree.Element, texts: Mapping[ElementTree.Element, str]) -> Markup:
    name = element.tag.removeprefix(_SVG)
    if name in ("metadata", "style", "clipPath"):
        return Markup()
    if name in ("g", "defs"):
        style = _shared_style(element)
        content = joined(_markup(child, texts) for child in element)
        return tag(name, content, style=style) if content and (style or name == "defs") else content
    given = {key.rpartition("}")[2]: _attribute(value) or None for key, value in element.items() if key != "clip-path"}
    if name == "text":
        anchor = re.search(r"text-anchor: \w+", given.pop("style") or "")
        return tag(name, element.text, **given, style=anchor and anchor[0])
    return tag(name, **given, data_t=texts.get(element))


def _shared_style(group: ElementTree.Element) -> str | None:
    """Take the style that all of several marks have from each of them, and return it; None where they differ."""
    styles = {child.get("style", "") for child in group}
    if len(group) == 1 or len(styles) != 1 or styles == {""}:
        return None
    for child in group:
        del child.attrib["style"]
    return _attribute(styles.pop())


def _attribute(value: str) -> str:
    """Return an attribute with the page's colors and without line breaks, rotation by 0 and thousandths of a pixel."""
    value = re.sub(r"rotate\(-?0 .*?\)", "", " ".join(value.split()))
    value = re.sub("#[0-9a-f]{6}", lambda color: _VARIABLES[color[0]], value)
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
