"""The charts of the page, each an HTML figure: 400 units wide, so that its text is readable on a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from recsys.report.elements import number, percentage
from recsys.report.markup import Markup, tag
from recsys.report.panels import COLORS, Floats, draw_curve, draw_intervals, panels, plain, set_cutoffs, set_epochs
from recsys.report.svg import embed

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = npt.NDArray[np.int64]
_CELLS: Final = (84, 60)
"""Columns and rows of cells; `long_tail` shows at most one dot in each."""


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


def by_cutoff(
    caption: Caption, cutoffs: Floats, values: Floats, low: Floats, high: Floats, ticks: Sequence[int]
) -> Markup:
    """Draw a metric against the length of the list.

    Args:
        low: lower ends of the intervals around the values; NaN where there is none.
        high: upper ends.
        ticks: all lengths, also those at which this metric was not measured.
    """
    figure, panel = _chart(caption, 240)
    points = draw_curve(panel, cutoffs, values, low=low, high=high)
    set_cutoffs(panel, ticks)
    texts = [
        f"k = {plain(k)}: {number(value)}{_interval(a, b, number)}"
        for k, value, a, b in zip(cutoffs, values, low, high, strict=True)
    ]
    return _html(figure, caption, {points: texts})


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
            interval = "" if place else _interval(low[group], high[group], show)
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


def _interval(low: float, high: float, show: Callable[[float], str]) -> str:
    return f" (95% interval {show(low)} to {show(high)})" if np.isfinite(low) else ""


def _chart(caption: Caption, height: float) -> tuple[Figure, Axes]:
    """Return a figure of 400 × `height` points with one labeled panel."""
    figure, (panel,) = panels(1, columns=1, width=400 / 72, height=height / 72, font_size=11.0)
    panel.set(xlabel=caption.x, ylabel=caption.y)
    return figure, panel


def _html(
    figure: Figure, caption: Caption, hover: Mapping[Artist, Sequence[str]], legend: Sequence[tuple[str, str]] = ()
) -> Markup:
    keys = [tag("span", tag("i", class_=kind), name, class_="key") for kind, name in legend if len(legend) > 1]
    heading = tag("figcaption", tag("b", caption.title), tag("span", keys, class_="keys") if keys else None)
    return tag("figure", heading, embed(figure, f"{caption.title}. {caption.summary}", hover))
