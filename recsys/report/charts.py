"""The charts of the page, each an HTML figure with SVG whose colors follow the theme of the page.

A chart is 400 units wide, so that its text is readable on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.report.markup import Markup, bracketed, joined, number, percentage, tag
from recsys.report.panels import COLORS, Floats, draw_curve, draw_intervals, panels, plain, set_cutoffs, set_epochs

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = npt.NDArray[np.int64]
_CELLS: Final = (84, 60)
"""Columns and rows of cells; `long_tail` shows at most one dot in each."""
_MARKERS: Final = "os^Dv"
"""Shapes of the points of `curves`, so that lines differ in more than color."""
_SVG: Final = "{http://www.w3.org/2000/svg}"
_VARIABLES: Final = {color: f"var(--{name})" for name, color in COLORS.items()}


@dataclass(frozen=True)
class Caption:
    """What a chart says in words."""

    title: str
    x: str
    y: str
    """Labels of the axes, with units."""
    summary: str
    """What a reader who does not see the chart should know."""


def learning(caption: Caption, epochs: Floats, values: Floats, best: float | None = None) -> Markup:
    """Draw a loss or a metric over the epochs, with a line at the best epoch."""
    figure, panel = _chart(caption, 240)
    points = draw_curve(panel, epochs, values, best=best)
    set_epochs(panel, epochs)
    texts = [f"epoch {plain(epoch)}: {number(value)}" for epoch, value in zip(epochs, values, strict=True)]
    return _html(figure, caption, {points: texts})


def by_cutoff(caption: Caption, points: pd.DataFrame, ticks: Sequence[int]) -> Markup:
    """Draw a metric against the length of the list.

    Args:
        points: the length `k`, the `value`, and the ends `low` and `high` of its interval; NaN where there is none.
        ticks: all lengths, also those at which this metric was not measured.
    """
    figure, panel = _chart(caption, 240)
    k, values, low, high = points[["k", "value", "low", "high"]].to_numpy(np.float64).T
    drawn = draw_curve(panel, k, values, low=low, high=high)
    set_cutoffs(panel, ticks)
    texts = [f"k = {plain(at)}: {number(v)}{bracketed(a, b)}" for at, v, a, b in zip(k, values, low, high, strict=True)]
    return _html(figure, caption, {drawn: texts})


def bars(
    caption: Caption,
    labels: Sequence[str],
    series: Mapping[str, Floats],
    *,
    intervals: tuple[Floats, Floats] | None = None,
    percent: bool = False,
) -> Markup:
    """Draw bars beside each other: one group per label, in it one bar per series.

    Args:
        series: one value per label; nothing is drawn where it is NaN.
        intervals: lower and upper ends around the values of the first series.
        percent: values are shares, shown as percentages.
    """
    figure, panel = _chart(caption, 240)
    show = percentage if percent else number
    nothing = np.full(len(labels), np.nan, dtype=np.float64)
    low, high = intervals if intervals is not None else (nothing, nothing)
    width = min(0.74 / len(series), 0.14 * len(labels))
    hover: dict[Artist, list[str]] = {}
    for place, (name, values) in enumerate(series.items()):
        middle = np.arange(len(labels)) + (place - (len(series) - 1) / 2) * width
        known = np.flatnonzero(np.isfinite(values))
        drawn = panel.bar(middle[known], values[known], 0.95 * width, color=COLORS[f"s{place}"])
        for bar, group in zip(drawn, known.tolist(), strict=True):
            interval = "" if place else bracketed(low[group], high[group], show)
            hover[bar] = [f"{labels[group]}, {name}: {show(values[group])}{interval}"]
        if place == 0:
            draw_intervals(panel, middle, low, high)
    top = float(np.nan_to_num(np.concatenate([*series.values(), high])).max())
    panel.set(xlim=(-0.5, len(labels) - 0.5), ylim=(0, 1.06 * top or 1.0))
    panel.set_xticks(range(len(labels)), labels=labels)
    panel.tick_params(axis="x", length=0, pad=6)
    if percent:
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return _html(figure, caption, hover, [(f"s{place}", name) for place, name in enumerate(series)])


def curves(
    caption: Caption,
    x: Floats,
    series: Mapping[str, Floats],
    *,
    logarithmic: bool = False,
    percent: bool = False,
) -> Markup:
    """Draw several lines through points at the same places, at most five; a single point where the others are NaN.

    Args:
        x: (n,) places, ascending; the axis is labeled at them if it is `logarithmic`.
        series: (n,) values of each line; nothing is drawn where one is NaN.
        percent: values are shares, shown as percentages.
    """
    figure, panel = _chart(caption, 240)
    show = percentage if percent else number
    hover: dict[Artist, list[str]] = {}
    for place, (name, values) in enumerate(series.items()):
        known = np.flatnonzero(np.isfinite(values))
        color, marker = COLORS[f"p{place}"], _MARKERS[place]
        panel.plot(x[known], values[known], color=color, linewidth=1.8)
        drawn = panel.scatter(x[known], values[known], s=36, marker=marker, color=color, linewidths=0, zorder=3)
        hover[drawn] = [f"{name}, {caption.x}: {plain(x[at])}: {show(values[at])}" for at in known.tolist()]
    if logarithmic:
        set_cutoffs(panel, x.tolist())
        panel.set_xlabel(caption.x)
    if percent:
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return _html(figure, caption, hover, [(f"p{place}", name) for place, name in enumerate(series)])


def cloud(
    caption: Caption, points: Floats, texts: Sequence[str], kinds: npt.NDArray[np.intp], legend: Sequence[str]
) -> Markup:
    """Draw points in the plane, with the same scale on both axes.

    Args:
        points: (n, 2) places.
        texts: what each point shows under the pointer.
        kinds: color of each point, a place in `legend`; the first kind is drawn on top.
    """
    figure, panel = _chart(caption, 400)
    hover: dict[Artist, list[str]] = {}
    for kind in reversed(range(len(legend))):
        members = np.flatnonzero(kinds == kind)
        x, y = points[members].T
        drawn = panel.scatter(x, y, s=27, color=COLORS[f"p{kind}"], alpha=0.75, linewidths=0)
        hover[drawn] = [texts[member] for member in members.tolist()]
    panel.set_aspect("equal", adjustable="datalim")
    panel.margins(0.03)
    return _html(figure, caption, hover, [(f"p{kind}", name) for kind, name in enumerate(legend)])


def long_tail(caption: Caption, x: Counts, y: Counts, name: Callable[[int], str]) -> Markup:
    """Draw two counts of many items against each other on logarithmic axes; items at the same spot share a dot.

    Args:
        name: returns the name of an item, given its place in x and y.
    """
    figure, panel = _chart(caption, 300)
    _set_counts(panel, "x", x)
    _set_counts(panel, "y", y)
    spots = (panel.transScale + panel.transLimits).transform(np.stack([x, y], axis=1)) * _CELLS
    _, first, size = np.unique(spots.round(), axis=0, return_index=True, return_counts=True)
    density = np.digitize(size, [2, 10])
    hover: dict[Artist, list[str]] = {}
    for place, (color, alpha) in enumerate((("line", 0.55), ("line", 1.0), ("mark", 1.0))):
        items, sharing = first[density == place], size[density == place]
        drawn = panel.scatter(x[items], y[items], s=27, color=COLORS[color], alpha=alpha, linewidths=0)
        hover[drawn] = [
            (f"{n:,} items, such as " if n > 1 else "")
            + f"{name(item)} ({caption.x}: {x[item]:,}, {caption.y}: {y[item]:,})"
            for item, n in zip(items.tolist(), sharing.tolist(), strict=True)
        ]
    return _html(figure, caption, hover, [("d0", "one item"), ("d1", "2 to 9"), ("d2", "10 or more")])


def _set_counts(panel: Axes, name: str, counts: Counts) -> None:
    """Make the x or y axis logarithmic; if there are zeros, it starts with a place for 0."""
    low = float(counts[counts > 0].min(initial=counts.max(initial=1)))
    high = max(2 * low, float(counts.max(initial=1)))
    decades = np.log10(high / low)
    room = 10 ** (0.03 * decades)
    exponents = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in ((1,) if decades > 2 else (1, 2, 5))]
    ticks = [tick for tick in ticks if low <= tick <= high]
    set_scale, set_limits, set_ticks = (getattr(panel, f"set_{name}{part}") for part in ("scale", "lim", "ticks"))
    if (counts == 0).any():
        set_scale("symlog", linthresh=low, linscale=0.06 * decades)
        set_limits(-0.5 * low, high * room)
        ticks.insert(0, 0.0)
    else:
        set_scale("log")
        set_limits(low / room, high * room)
    set_ticks(ticks, labels=[plain(tick) for tick in ticks])
    set_ticks([], minor=True)


def _chart(caption: Caption, height: float) -> tuple[Figure, Axes]:
    """Return a figure of 400 × `height` points with one labeled panel."""
    figure, (panel,) = panels(1, columns=1, width=400 / 72, height=height / 72, font_size=11.0)
    figure.set_layout_engine("none")  # it would take as long as all the rest; `_html` sets the margins
    panel.set(xlabel=caption.x, ylabel=caption.y)
    return figure, panel


def _html(
    figure: Figure, caption: Caption, hover: Mapping[Artist, Sequence[str]], legend: Sequence[tuple[str, str]] = ()
) -> Markup:
    (panel,) = figure.axes
    labels = panel.yaxis.get_major_formatter().format_ticks(panel.yaxis.get_majorticklocs().tolist())
    width, height = 72 * figure.get_size_inches()
    left = 22 + 7 * max(map(len, labels))  # room for the label of the axis and those of its ticks
    panel.set_position((left / width, 36 / height, 1 - (left + 18) / width, 1 - 43 / height))
    keys = [tag("span", tag("i", class_=kind), name, class_="key") for kind, name in legend if len(legend) > 1]
    heading = tag("figcaption", tag("b", caption.title), tag("span", keys, class_="keys") if keys else None)
    return tag("figure", heading, embed(figure, f"{caption.title}. {caption.summary}", hover))


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

    for place, artist in enumerate(hover):
        artist.set_gid(f"hover{place}")
    figure.patch.set_visible(False)
    for panel in figure.axes:
        panel.patch.set_visible(False)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # `savefig` draws everything twice
    root = ElementTree.fromstring(file.getvalue())

    groups = {group.get("id"): group for group in root.iter(f"{_SVG}g")}
    texts: dict[ElementTree.Element, str] = {}
    for place, given in enumerate(hover.values()):
        texts |= zip(_marks(groups[f"hover{place}"]), given, strict=True)
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
    return re.sub(r"\d+\.\d+", lambda digits: f"{float(digits[0]):.2f}".rstrip("0").rstrip("."), value)
