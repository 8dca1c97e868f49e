"""Sections of curves: the training by epoch, and the metrics by length of the list."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.metrics import parse
from recsys.report import charts
from recsys.report.elements import no_lists, note, number
from recsys.report.markup import Markup, tag
from recsys.report.plots import is_metric, unit
from recsys.report.run import Run

_EPOCHS: Final = 400
"""Points of a learning curve."""


def training(run: Run) -> list[Markup]:
    """Loss and validation metrics over the epochs."""
    frame, record = pd.DataFrame(run.record.epochs), run.record
    if "loss" not in frame:
        return [note(f"{type(run.model).__name__} is not trained in epochs, so there is no learning curve.")]
    best = record.best_epoch if record.metric is not None else None
    shown = _thinned(frame, best)
    drawn = []
    for name in ("loss", *(str(name) for name in frame.columns if is_metric(str(name)))):
        points = pd.DataFrame({"epoch": shown["epoch"], "value": pd.to_numeric(shown[name])}).astype(np.float64)
        points = points[np.isfinite(points["value"])]
        if points.empty:
            continue
        summary = f"{len(frame)} epochs; the last value is {number(points['value'].iloc[-1])}."
        if best in points["epoch"].values:
            at_best = points["value"][points["epoch"] == best].iloc[0]
            summary += f" At the best epoch, {best}, it is {number(at_best)}."
        title, y = ("Training loss", "loss") if name == "loss" else (f"Validation {name}", unit(parse(name)[0]))
        caption = charts.Caption(title, "epoch", y, summary)
        drawn.append(charts.learning(caption, points["epoch"].to_numpy(), points["value"].to_numpy(), best))
    notes = []
    if best is not None:
        notes.append(f"The dashed line marks epoch {best}, the best by {record.metric} on the validation part.")
    if len(shown) < len(frame):
        notes.append(f"{len(shown)} of {len(frame):,} epochs are drawn.")
    return [tag("div", drawn, class_="grid"), note(" ".join(notes))]


def _thinned(frame: pd.DataFrame, best: int | None) -> pd.DataFrame:
    """Return at most 400 epochs, evenly spaced, and the best one."""
    if len(frame) <= _EPOCHS:
        return frame
    kept = np.linspace(0, len(frame) - 1, _EPOCHS).round().astype(int)
    return frame.iloc[np.union1d(kept, np.flatnonzero(frame["epoch"] == best))]


def by_cutoff(run: Run) -> list[Markup]:
    """Each kind of metric against the length of the list."""
    parsed = [(*parse(name), name) for name in run.evaluation.values]
    measured = sorted((k, kind, name) for kind, k, name in parsed if k is not None)
    if not measured:
        return [no_lists()]
    ticks = sorted({k for k, _, _ in measured})
    drawn = []
    for kind in dict.fromkeys(kind for kind, k, _ in parsed if k is not None):
        frame = run.intervals.loc[[name for _, other, name in measured if other == kind]]
        frame = frame.assign(k=[k for k, other, _ in measured if other == kind])
        summary = ", ".join(f"{number(value)} at {k}" for k, value in zip(frame["k"], frame["value"], strict=True))
        frame = frame[np.isfinite(frame["value"])]
        if frame.empty:
            continue
        k, values, low, high = (frame[name].to_numpy(np.float64) for name in ("k", "value", "low", "high"))
        caption = charts.Caption(f"{kind}@k", "k (length of the list)", unit(kind), f"{summary}.")
        drawn.append(charts.by_cutoff(caption, k, values, low, high, ticks))
    return [tag("div", drawn, class_="grid"), note("Vertical bars are 95% bootstrap intervals over users.")]
