"""Figures of training and evaluation, as matplotlib figures.

Vertical and horizontal bars with caps span ± 1.96 standard errors: a 95% interval of the mean over users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.evaluation import Evaluation, table
from recsys.metrics import METRICS, higher_is_better, of, parse
from recsys.report.panels import COLORS, draw_curve, draw_intervals, panels, set_cutoffs, set_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Z: Final = 1.96


def learning_curve(history: Mapping[str, Any] | pd.DataFrame, *, metric: str | None = None) -> Figure:
    """Draw the training loss and each validation metric over the epochs, and mark the best epoch.

    Args:
        history: columns `epoch` and `loss`, and one per validation metric under its name, such as `ndcg@10`; NaN or
            None in epochs that were not validated. Other columns are not drawn.
        metric: the metric that chooses the best epoch; by default the first one of the history.

    Returns:
        A figure with one panel for the loss and one per metric.

    Raises:
        DataError: there is no `epoch` or `loss`, or no row.
        ConfigError: `metric` is not in the history.
    """
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
    best = None
    if chosen is not None and np.isfinite(curves[chosen]).any():
        best = int((np.nanargmax if higher_is_better(chosen) else np.nanargmin)(curves[chosen]))

    figure, axes = panels(len(curves), columns=1, width=7.0, height=2.3)
    for panel, (name, values) in zip(axes, curves.items(), strict=True):
        known = np.isfinite(values)
        draw_curve(panel, epochs[known], values[known], best=None if best is None else epochs[best])
        panel.set_title("training loss" if name == "loss" else f"validation {name}", loc="left", fontsize=11)
        panel.set_ylabel("loss" if name == "loss" else of(name).unit)
        if best is not None and name == chosen:
            text = f"best epoch {epochs[best]:g}: {values[best]:.4f}"
            panel.set_title(text, loc="right", fontsize=10, color=COLORS["mark"])
        set_epochs(panel, epochs)
    axes[-1].set_xlabel("epoch")
    return figure


def metric_at_k(evaluation: Evaluation) -> Figure:
    """Draw each metric of recommended lists against their length k, one panel per kind, with ± 1.96 standard errors.

    Raises:
        DataError: the evaluation holds no metric with a cut-off.
    """
    summary = evaluation.summary
    parsed = [parse(name) for name in summary["metric"]]
    kinds = list(dict.fromkeys(kind for kind, k in parsed if k is not None))
    if not kinds:
        raise DataError("the evaluation holds no metric with a cut-off; evaluate ndcg@10 and ndcg@50, for instance")
    cutoffs = sorted({k for _, k in parsed if k is not None})
    figure, axes = panels(len(kinds), columns=min(3, len(kinds)), width=3.6, height=2.9)
    for panel, kind in zip(axes, kinds, strict=True):
        rows = summary[[name == kind for name, _ in parsed]]
        k = np.array([k for name, k in parsed if name == kind], dtype=np.float64)
        order = np.argsort(k)
        values, errors = (rows[name].to_numpy(np.float64)[order] for name in ("value", "standard_error"))
        draw_curve(panel, k[order], values, low=values - _Z * errors, high=values + _Z * errors)
        panel.set_title(f"{kind}@k", loc="left", fontsize=11)
        panel.set_ylabel(METRICS[kind].unit)
        set_cutoffs(panel, cutoffs)
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
    rows = pd.DataFrame({name: frame[metric, name] for name in ("value", "standard_error")}).dropna(subset=["value"])
    rows = rows.sort_values("value", ascending=not higher_is_better(metric), kind="stable")
    values, errors = (rows[name].to_numpy(np.float64) for name in ("value", "standard_error"))
    ends = values + np.nan_to_num(_Z * errors)

    figure, (panel,) = panels(1, columns=1, width=7.0, height=1.1 + 0.38 * len(rows))
    places = np.arange(len(rows))
    panel.barh(places, values, color=COLORS["s0"], height=0.62)
    draw_intervals(panel, places, values - _Z * errors, ends, horizontal=True)
    for place, value, end in zip(places, values, ends, strict=True):
        panel.annotate(f"{value:.4f}", (end, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    panel.set_yticks(places, labels=[str(name) for name in rows.index], parse_math=False)
    panel.invert_yaxis()
    panel.margins(x=0.14)
    panel.set_xlim(left=0)
    panel.grid(visible=False, axis="y")
    panel.grid(visible=True, axis="x", color=COLORS["edge"])
    counted = of(metric).unit
    panel.set_xlabel(f"{counted}, ± 1.96 s.e." if np.isfinite(errors).any() else counted)
    better = "higher is better" if higher_is_better(metric) else "lower is better"
    panel.set_title(f"{metric} ({better})", loc="left", fontsize=11)
    return figure


def is_metric(name: str) -> bool:
    """Return whether a column of a history is a metric."""
    try:
        parse(name)
    except ConfigError:
        return False
    return True
