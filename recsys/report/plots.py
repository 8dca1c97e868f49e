"""Figures of training and evaluation: plain matplotlib figures, without pyplot and without global state.

Error bars span ± 1.96 standard errors, about 95 % of where the mean of other such users would lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.evaluation import Evaluation, table
from recsys.metrics import METRICS, higher_is_better, parse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE: Final = "#2f6690"
_BAR: Final = "#7ea6c4"
_MARK: Final = "#c8553d"
_GREY: Final = "#5c6770"
_Z: Final = 1.96


def learning_curve(history: Mapping[str, Any] | pd.DataFrame, *, metric: str | None = None) -> Figure:
    """Draw the training loss and each validation metric over the epochs, with the best epoch marked.

    Args:
        history: columns `epoch` and `loss`, and one per validation metric under its name, such as `ndcg@10`; NaN or
            None in epochs that were not validated. Other columns are not drawn.
        metric: the metric that chooses the best epoch; by default the first one there is.

    Returns:
        A figure with one panel for the loss and one per metric.

    Raises:
        DataError: there is no `epoch` or `loss`, or no row.
        ConfigError: `metric` is not in the history.
    """
    from matplotlib.ticker import MaxNLocator

    frame = pd.DataFrame(history)
    for name in ("epoch", "loss"):
        if name not in frame:
            raise DataError(f"a history needs the columns epoch and loss, got {', '.join(map(str, frame.columns))}")
    if not len(frame):
        raise DataError("the history holds no epoch; train for at least one")
    measured = [str(name) for name in frame.columns if is_metric(str(name))]
    if metric is not None and metric not in measured:
        raise ConfigError(f"the history does not hold {metric!r}{did_you_mean(metric, measured)}")
    epochs = frame["epoch"].to_numpy()
    curves = {name: pd.to_numeric(frame[name]).to_numpy(dtype=np.float64) for name in ("loss", *measured)}
    chosen = metric or (measured[0] if measured else None)
    best = None if chosen is None else _best(curves[chosen], chosen)

    figure, panels = _panels(len(curves), columns=1, width=7.0, height=2.3)
    for panel, (name, values) in zip(panels, curves.items(), strict=True):
        known = np.isfinite(values)
        marker = "o" if known.sum() <= 40 else ""
        panel.plot(epochs[known], values[known], color=_LINE, linewidth=1.8, marker=marker, markersize=3.5)
        panel.set_title("training loss" if name == "loss" else f"validation {name}", loc="left", fontsize=11)
        panel.set_ylabel("loss" if name == "loss" else unit(parse(name)[0]))
        if best is None:
            continue
        panel.axvline(epochs[best], color=_MARK, linewidth=1.0, linestyle="--", zorder=1)
        if known[best]:
            panel.plot([epochs[best]], [values[best]], color=_MARK, marker="o", markersize=6)
        if name == chosen:
            text = f"best epoch {epochs[best]:g}: {values[best]:.4f}"
            panel.set_title(text, loc="right", fontsize=10, color=_MARK)
    for panel in panels[1:]:
        panel.sharex(panels[0])
    panels[0].set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    panels[-1].set_xlabel("epoch")
    return figure


def metric_at_k(evaluation: Evaluation) -> Figure:
    """Draw each metric of a top-N list against its cut-off k, one panel per kind, with ± 1.96 standard errors.

    Raises:
        DataError: the evaluation holds no metric with a cut-off.
    """
    summary = evaluation.summary
    parsed = [parse(name) for name in summary["metric"]]
    kinds = list(dict.fromkeys(kind for kind, k in parsed if k is not None))
    if not kinds:
        raise DataError("the evaluation holds no metric with a cut-off; evaluate for instance ndcg@10 and ndcg@50")
    ticks = sorted({k for _, k in parsed if k is not None})
    figure, panels = _panels(len(kinds), columns=min(3, len(kinds)), width=3.6, height=2.9)
    for panel, kind in zip(panels, kinds, strict=True):
        lines = summary[[name == kind for name, _ in parsed]]
        cuts = np.array([k for name, k in parsed if name == kind], dtype=np.float64)
        order = np.argsort(cuts)
        values = lines["value"].to_numpy(dtype=np.float64)[order]
        errors = np.nan_to_num(_Z * lines["standard_error"].to_numpy(dtype=np.float64)[order])
        panel.errorbar(
            cuts[order], values, yerr=errors, color=_LINE, ecolor=_MARK, marker="o", markersize=4.5, capsize=3
        )
        panel.set_title(f"{kind}@k", loc="left", fontsize=11)
        panel.set_ylabel(unit(kind))
        panel.set_xlabel("k (items in the list)")
        panel.set_xscale("log")
        panel.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
        panel.set_xticks(ticks, labels=[str(k) for k in ticks])
        panel.set_xticks([], minor=True)
    return figure


def comparison(evaluations: pd.DataFrame | Mapping[str, Evaluation], metric: str) -> Figure:
    """Draw one metric of several models as bars with ± 1.96 standard errors, the best on top.

    Args:
        evaluations: a frame made by `recsys.evaluation.table`, or the evaluations by model name.
        metric: name of the metric.

    Raises:
        ConfigError: no model was evaluated on `metric`.
    """
    frame = evaluations if isinstance(evaluations, pd.DataFrame) else table(evaluations, sort_by=metric)
    names = list(dict.fromkeys(frame.columns.get_level_values(0)))
    if metric not in names:
        raise ConfigError(f"no model was evaluated on {metric!r}{did_you_mean(metric, names)}")
    lines = pd.DataFrame({name: frame[metric, name] for name in ("value", "standard_error")}).dropna(subset=["value"])
    lines = lines.sort_values("value", ascending=not higher_is_better(metric), kind="stable")
    values = lines["value"].to_numpy(dtype=np.float64)
    errors = np.nan_to_num(_Z * lines["standard_error"].to_numpy(dtype=np.float64))

    figure, (panel,) = _panels(1, columns=1, width=7.0, height=1.1 + 0.38 * len(lines))
    places = np.arange(len(lines))
    panel.barh(places, values, color=_BAR, height=0.62)
    panel.errorbar(values, places, xerr=errors, fmt="none", ecolor=_MARK, elinewidth=1.6, capsize=3)
    for place, value, error in zip(places, values, errors, strict=True):
        text = f"{value:.4f}"
        panel.annotate(text, (value + error, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    panel.set_yticks(places, labels=[str(name) for name in lines.index])
    panel.invert_yaxis()
    panel.margins(x=0.14)
    panel.set_xlim(left=0)
    panel.grid(visible=False, axis="y")
    of = unit(parse(metric)[0])
    panel.set_xlabel(f"{of}, ± 1.96 s.e." if errors.any() else of)
    better = "higher is better" if higher_is_better(metric) else "lower is better"
    panel.set_title(f"{metric} ({better})", loc="left", fontsize=11)
    return figure


def _panels(n: int, *, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # half a second to import, and only figures need it

    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(n)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(visible=True, color="#d9dee2", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=9, colors=_GREY)
    return figure, panels


def is_metric(name: str) -> bool:
    """Return whether a column of a history is a metric."""
    try:
        parse(name)
    except ConfigError:
        return False
    return True


def unit(kind: str) -> str:
    """Return what a kind of metric counts."""
    return METRICS[kind].unit


def _best(values: np.ndarray[Any, np.dtype[np.float64]], metric: str) -> int | None:
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmax(values) if higher_is_better(metric) else np.nanargmin(values))
