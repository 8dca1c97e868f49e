"""The look of every chart: palette, axes, and the marks that the figures and the page share.

Figures are made without pyplot, so that they need no backend and no global state. Matplotlib is imported inside
functions: the import takes half a second, and only charts need it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

COLORS: Final[dict[str, str]] = dict(
    re.findall(r"--(\w+): (#\w{6})", files(__package__).joinpath("page.css").read_text("utf-8").partition("}")[0])
)
"""The light theme of the page, by the names of its CSS variables."""


def panels(n: int, *, columns: int, width: float, height: float, font_size: float = 9.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with n empty panels, each of `width` by `height` inches, and the panels."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    drawn = [figure.add_subplot(rows, columns, place + 1) for place in range(n)]
    for panel in drawn:
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(COLORS["soft"])
        panel.grid(visible=True, axis="y", color=COLORS["edge"], linewidth=1.0)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=font_size, color=COLORS["soft"], labelcolor=COLORS["soft"])
        panel.tick_params(axis="y", length=0)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            formatter = ScalarFormatter(useOffset=False)
            formatter.set_scientific(False)
            axis.set_major_formatter(formatter)
            axis.label.set(size=font_size, color=COLORS["soft"])
    return figure, drawn


def plain(value: float) -> str:
    """Return a number as text, with commas in thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def draw_curve(
    panel: Axes, x: Floats, y: Floats, low: Floats | None = None, high: Floats | None = None, best: float | None = None
) -> PathCollection:
    """Draw a line through points, intervals around them, and a vertical line at `best`; return the points."""
    panel.plot(x, y, color=COLORS["line"], linewidth=1.8)
    if low is not None and high is not None:
        draw_intervals(panel, x, low, high)
    if best is not None:
        panel.axvline(best, color=COLORS["mark"], linewidth=1.0, linestyle="--", zorder=1)
        panel.plot(x[x == best], y[x == best], "o", color=COLORS["mark"], markersize=8, zorder=4)
    return panel.scatter(x, y, s=32 if len(x) <= 40 else 8, color=COLORS["line"], linewidths=0, zorder=3)


def draw_intervals(panel: Axes, at: npt.NDArray[Any], low: Floats, high: Floats, *, horizontal: bool = False) -> None:
    """Draw intervals with caps, at places along the other axis; none where an end is not finite."""
    known = np.isfinite(low) & np.isfinite(high)
    at, low, high = at[known], low[known], high[known]
    lines, marker = (panel.hlines, "|") if horizontal else (panel.vlines, "_")
    lines(at, low, high, color=COLORS["text"], linewidth=1.4, zorder=2.5)
    ends = np.concatenate([low, high]), np.tile(at, 2)
    caps = ends if horizontal else ends[::-1]
    panel.plot(*caps, marker, color=COLORS["text"], markersize=7, zorder=2.5)


def set_epochs(panel: Axes, epochs: Floats | npt.NDArray[Any]) -> None:
    """Make x an axis of epochs, labeled at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    panel.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def set_cutoffs(panel: Axes, cutoffs: Sequence[int]) -> None:
    """Make x a logarithmic axis of list lengths, labeled at those that leave room for their labels."""
    panel.set_xscale("log")
    panel.set_xlim(cutoffs[0] / 1.3, cutoffs[-1] * 1.3)
    apart = np.log(cutoffs[-1] / cutoffs[0]) / 12
    labeled = [cutoffs[0]]
    for cutoff in cutoffs[1:]:
        if np.log(cutoff / labeled[-1]) >= apart:
            labeled.append(cutoff)
    panel.set_xticks(labeled, labels=[plain(cutoff) for cutoff in labeled])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("k (length of the list)")
