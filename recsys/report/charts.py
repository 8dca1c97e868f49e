"""Charts as SVG: 400 units wide, so that their text stays readable on a phone; colours come from the page's CSS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.report.markup import Markup, tag

Floats = npt.NDArray[np.float64]
WIDTH: Final = 400.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 10.0, 44.0
"""Margins around the axes."""
_ZERO: Final = 16.0
"""Room that a logarithmic axis keeps for 0, which lies on none."""
CELL: Final = 4.0
"""Side of the squares of which a `long_tail` shows one dot each."""


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""
    log: bool = False
    zero: bool = False
    """Whether a logarithmic axis has a place for 0, before its start."""

    def __call__(self, values: npt.ArrayLike) -> Floats:
        """Return the pixels of values."""
        given = np.asarray(values, dtype=np.float64)
        if not self.log:
            return self.start + (given - self.low) / (self.high - self.low) * (self.end - self.start)
        positive = np.where(given > 0, given, self.low)
        share = np.log(positive / self.low) / np.log(self.high / self.low)
        pixels = self.start + share * (self.end - self.start)
        placed: Floats = np.where(given > 0, pixels, self.start - np.sign(self.end - self.start) * _ZERO)
        return placed

    def ticks(self) -> list[float]:
        """Return values to label: steps of 1, 2 or 5, or powers of ten."""
        if not self.log:
            step = _step((self.high - self.low) / 6)
            places = np.arange(np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9) + 1)
            return [float(f"{place * step:.12g}") + 0.0 for place in places]  # never -0
        exponents = np.arange(np.floor(np.log10(self.low)), np.ceil(np.log10(self.high)) + 1)
        steps = (1,) if np.log10(self.high / self.low) > 2 else (1, 2, 5)
        found = [float(f"{step * 10.0**e:.12g}") for e in exponents for step in steps]
        found = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
        return [0.0, *found] if self.zero else found


def curve(
    x: Floats,
    y: Floats,
    *,
    title: str,
    x_label: str,
    y_label: str,
    summary: str,
    low: Floats | None = None,
    high: Floats | None = None,
    ticks: Sequence[float] | None = None,
    mark: int | None = None,
    name: str = "",
) -> Markup:
    """Draw one line.

    Args:
        summary: what a reader who does not see the figure should know.
        low: lower ends of the intervals around y; NaN where there is none.
        high: upper ends.
        ticks: the x axis is logarithmic, with these labels.
        mark: point to mark.
        name: what x counts, for the text of a point.
    """
    known = [y, *(ends[np.isfinite(ends)] for ends in (low, high) if ends is not None)]
    bottom, top = _padded(np.concatenate(known))
    if ticks is None:
        x_axis = Axis(*_padded(x, 0.02), LEFT, WIDTH - RIGHT)
    else:
        x_axis = Axis(ticks[0] / 1.25, ticks[-1] * 1.25, LEFT, WIDTH - RIGHT, log=True)
    height = 240.0
    y_axis = Axis(bottom, top, height - BOTTOM, TOP)
    across, along = x_axis(x), y_axis(y)
    parts = [_axes(x_axis, y_axis, x_label, y_label, x_ticks=ticks or [t for t in x_axis.ticks() if t == int(t)])]
    if mark is not None:
        parts.append(tag("line", x1=across[mark], x2=across[mark], y1=TOP, y2=height - BOTTOM, class_="mark"))
    parts.append(tag("path", d=_path(across, along), class_="line"))
    texts = [f"{name} {_plain(value)}: {_digits(found)}" for value, found in zip(x, y, strict=True)]
    if low is not None and high is not None:
        for place in np.flatnonzero(np.isfinite(low)).tolist():
            ends = y_axis([low[place], high[place]])
            parts.append(_whisker(across[place], *ends))
            texts[place] += f" (95% interval {_digits(low[place])} to {_digits(high[place])})"
    for place, text in enumerate(texts):
        size = 5.0 if place == mark else 3.2
        shown = "dot best" if place == mark else "dot"
        parts.append(tag("circle", cx=across[place], cy=along[place], r=size, class_=shown, data_t=text))
    return _figure(title, summary, height, parts)


def bars(
    labels: Sequence[str],
    series: Mapping[str, Floats],
    *,
    title: str,
    x_label: str,
    y_label: str,
    summary: str,
    intervals: tuple[Floats, Floats] | None = None,
    percent: bool = False,
) -> Markup:
    """Draw bars beside each other: one group per label, in it one bar per series; `intervals` are those of the first.

    Args:
        summary: what a reader who does not see the figure should know.
        intervals: lower and upper ends.
        percent: values are shares, shown as percentages.
    """
    height = 240.0
    tops = [np.nan_to_num(values) for values in series.values()]
    tops += [np.nan_to_num(intervals[1])] if intervals is not None else []
    most = float(np.max(tops)) or 1.0
    y_axis = Axis(0.0, most * 1.06, height - BOTTOM, TOP)
    x_axis = Axis(0.0, len(labels), LEFT, WIDTH - RIGHT)
    show = _percent if percent else _digits
    parts = [_axes(x_axis, y_axis, x_label, y_label, x_ticks=[], percent=percent)]
    step = float(x_axis(1) - x_axis(0))
    wide = min(0.74 * step / len(series), 46.0)
    for group, label in enumerate(labels):
        centre = float(x_axis(group + 0.5))
        parts.append(tag("text", label, x=centre, y=height - BOTTOM + 15, class_="tick", text_anchor="middle"))
        for place, (name, values) in enumerate(series.items()):
            value = float(values[group])
            if not np.isfinite(value):
                continue
            left, up = centre + (place - len(series) / 2) * wide, float(y_axis(value))
            text = f"{label}, {name}: {show(value)}"
            if intervals is not None and place == 0 and np.isfinite(intervals[0][group]):
                text += f" (95% interval {show(intervals[0][group])} to {show(intervals[1][group])})"
            parts.append(
                tag(
                    "rect",
                    x=left + 1,
                    y=up,
                    width=wide - 2,
                    height=max(0.0, height - BOTTOM - up),
                    class_=f"bar s{place}",
                    data_t=text,
                )
            )
        if intervals is not None and np.isfinite(intervals[0][group]):
            middle = centre + (0.5 - len(series) / 2) * wide
            parts.append(_whisker(middle, *y_axis([intervals[0][group], intervals[1][group]])))
    legend = [(f"s{place}", name) for place, name in enumerate(series)] if len(series) > 1 else []
    return _figure(title, summary, height, parts, legend)


def dots(
    x: Floats,
    y: Floats,
    texts: Sequence[str],
    kinds: npt.NDArray[np.intp],
    *,
    title: str,
    x_label: str,
    y_label: str,
    summary: str,
    legend: Sequence[str],
) -> Markup:
    """Draw a cloud of points with the same scale on both axes.

    Args:
        texts: what each point shows under the pointer.
        kinds: colour of each point, a place in `legend`; the first kind is drawn on top.
        summary: what a reader who does not see the figure should know.
    """
    height = 400.0
    wide, tall = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    (left, right), (low, high) = _padded(x, 0.03), _padded(y, 0.03)
    scale = max((right - left) / wide, (high - low) / tall)
    middle_x, middle_y = (left + right) / 2, (low + high) / 2
    x_axis = Axis(middle_x - scale * wide / 2, middle_x + scale * wide / 2, LEFT, WIDTH - RIGHT)
    y_axis = Axis(middle_y - scale * tall / 2, middle_y + scale * tall / 2, height - BOTTOM, TOP)
    across, along = x_axis(x), y_axis(y)
    parts = [_axes(x_axis, y_axis, x_label, y_label)]
    for kind in reversed(range(len(legend))):
        members = np.flatnonzero(kinds == kind).tolist()
        points = [tag("circle", cx=across[i], cy=along[i], r=2.6, data_t=texts[i]) for i in members]
        parts.append(tag("g", points, class_=f"point p{kind}"))
    return _figure(title, summary, height, parts, [(f"p{kind}", name) for kind, name in enumerate(legend)])


def long_tail(
    x: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
    name: Callable[[int], str],
    *,
    title: str,
    x_label: str,
    y_label: str,
    summary: str,
) -> Markup:
    """Draw two counts of many things against each other on logarithmic axes; what falls on one spot shares a dot.

    Args:
        name: of each of the things.
        summary: what a reader who does not see the figure should know.
    """
    height = 300.0
    x_axis = _counting(x, LEFT, WIDTH - RIGHT)
    y_axis = _counting(y, height - BOTTOM, TOP)
    cells = np.stack([np.round(x_axis(x) / CELL), np.round(y_axis(y) / CELL)], axis=1)
    _, first, size = np.unique(cells, axis=0, return_index=True, return_counts=True)
    points = []
    for place, n in zip(first, size, strict=True):
        text = f"{name(int(place))}: {x_label} {x[place]:,}, {y_label} {y[place]:,}"
        shown = text if n == 1 else f"{n:,} items, such as {text}"
        dense = "d0" if n == 1 else "d1" if n < 10 else "d2"
        points.append(
            tag("circle", cx=float(x_axis(x[place])), cy=float(y_axis(y[place])), r=2.6, class_=dense, data_t=shown)
        )
    parts = [_axes(x_axis, y_axis, x_label, y_label), tag("g", points, class_="point tail")]
    legend = [("d0", "one item"), ("d1", "2 to 9"), ("d2", "10 and more")]
    return _figure(title, summary, height, parts, legend)


def _counting(values: npt.NDArray[np.int64], start: float, end: float) -> Axis:
    """Return a logarithmic axis of counts, with a place for 0 where there is one."""
    zero = bool((values == 0).any())
    inset = np.sign(end - start) * ((_ZERO if zero else 0.0) + 6.0)
    low = float(values[values > 0].min(initial=values.max(initial=1)))
    return Axis(max(1.0, low), max(2.0, low * 2, float(values.max())), start + inset, end, log=True, zero=zero)


def _figure(
    title: str, summary: str, height: float, parts: Sequence[Markup], legend: Sequence[tuple[str, str]] = ()
) -> Markup:
    keys = [tag("span", tag("i", class_=kind), name, class_="key") for kind, name in legend]
    drawing = tag("svg", parts, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=f"{title}. {summary}")
    return tag(
        "figure", tag("figcaption", tag("b", title), tag("span", keys, class_="keys") if keys else None), drawing
    )


def _axes(
    x_axis: Axis,
    y_axis: Axis,
    x_label: str,
    y_label: str,
    *,
    x_ticks: Sequence[float] | None = None,
    percent: bool = False,
) -> Markup:
    bottom = max(y_axis.start, y_axis.end) + (_ZERO + 6.0 if y_axis.zero else 6.0 if y_axis.log else 0.0)
    parts = []
    for value in y_axis.ticks():
        up = float(y_axis(value))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up, y2=up, class_="rule"))
        text = f"{value:.0%}" if percent else _plain(value)
        parts.append(tag("text", text, x=LEFT - 6, y=up + 4, class_="tick", text_anchor="end"))
    for value in x_axis.ticks() if x_ticks is None else x_ticks:
        along = float(x_axis(value))
        parts.append(tag("line", x1=along, x2=along, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", _plain(value), x=along, y=bottom + 15, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    middle = (TOP + bottom) / 2
    turned = f"translate(11 {middle:.1f}) rotate(-90)"
    parts.append(
        tag("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=bottom + 34, class_="label", text_anchor="middle")
    )
    parts.append(tag("text", y_label, transform=turned, class_="label", text_anchor="middle"))
    return tag("g", parts)


def _whisker(x: float, low: float, high: float) -> Markup:
    ends = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}"
    return tag("path", d=ends, class_="whisker")


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _padded(values: Floats, share: float = 0.08) -> tuple[float, float]:
    """Return the ends of the values and a little more; never one and the same."""
    low, high = float(values.min()), float(values.max())
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def _step(length: float) -> float:
    power = 10.0 ** np.floor(np.log10(length))
    return float(next(power * step for step in (1, 2, 5, 10) if power * step >= length * 0.999))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _digits(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"
