"""Sections about the run as a whole: the main result, test metrics, what was measured, and curves."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from recsys.metrics import METRICS, higher_is_better, of, parse
from recsys.models.stored import number_in, part_of
from recsys.report import charts
from recsys.report.markup import NO_LISTS, Markup, bracketed, note, number, pairs, span, table, tag
from recsys.report.plots import is_metric
from recsys.report.run import Run
from recsys.report.summary import in_words

_EPOCHS: Final = 400
"""Points of a learning curve."""


def headline(run: Run) -> list[Markup]:
    """The main result, what it means in plain words, and where the model is."""
    metric = run.metrics[0]
    value, low, high, users = next(run.results.loc[[metric]].itertuples(index=False, name=None))
    counted = f", over {users:,.0f} of the {len(run.split.test.users):,} test users."
    main = tag("p", tag("b", f"{metric} {number(value)}"), bracketed(low, high), counted, class_="lead")
    said = in_words(run)
    words = tag("p", said, class_="lead") if said else Markup()
    return [main, words, note("Model ", tag("code", run.source)) if run.source else Markup()]


def metric_table(run: Run) -> list[Markup]:
    """The test metrics with their intervals, beside those of the baseline and the champion, and what they mean."""
    rows, meanings = [], {}
    for name, value, low, high, users in run.results.loc[list(run.metrics)].itertuples(name=None):
        beside = [number(values.get(name, np.nan)) for _, values in run.rivals]
        rows.append((name, number(value), *beside, span(low, high), f"{users:,}"))
        better = "higher" if higher_is_better(name) else "lower"
        meanings[parse(name)[0]] = f"{of(name).meaning}; {better} is better"
    heads = ("metric", "value", *(title for title, _ in run.rivals), "95% interval of the value", "users")
    return [
        table("Test metrics", heads, rows, numbers=tuple(range(1, len(heads)))),
        pairs(meanings),
        note(
            "The number behind @ is the length of the lists. "
            f"Values are means over users; the intervals come from {run.resamples:,} bootstrap samples of the users. "
            "Users without relevant held-out items are not counted. Metrics of all lists together, such as coverage, "
            "are not means and have no interval."
        ),
    ]


def facts(run: Run) -> list[Markup]:
    """What was measured: data, split and hyperparameters."""
    split = {**part_of(run.about, "config", "split"), "relevant from": run.min_relevance}
    model = {"class": type(run.model).__name__, **run.model.params()}
    if part_of(run.about, "config", "train").get("refit"):
        model["refit"] = "on training and validation interactions, before the test"
    reading = note("The model reads a user's history and should recommend the user's held-out items.")
    cards = [
        ("Data", pairs(_data(run))),
        ("Split", (pairs(split), _parts(run), *map(note, run.split.notes), reading)),
        ("Model", pairs(model)),
    ]
    return [tag("div", (tag("div", tag("h3", head), body, class_="card") for head, body in cards), class_="grid")]


def _data(run: Run) -> dict[str, Any]:
    """Return name, size and fingerprint of the data, and the options with which it was read."""
    data = part_of(run.about, "data")
    described: dict[str, Any] = {"name": run.data.get("name")}
    counts = {name: number_in(data, name) for name in ("users", "items", "interactions")}
    described |= {name: f"{count:,}" for name, count in counts.items() if count is not None}
    if (density := number_in(data, "density")) is not None:
        described["density"] = f"{density:.2%}"
    if "fingerprint" in data:
        described["fingerprint"] = tag("code", str(data["fingerprint"]))
    return described | {name: v for name, v in run.data.items() if name not in described and v not in (None, 0, False)}


def _parts(run: Run) -> Markup:
    """Return the table of the parts of the split and their sizes."""
    train = run.split.train
    rows = [("train", *(f"{n:,}" for n in (*train.shape, train.nnz)), "–")]
    for name, part in (("validation", run.split.validation), ("test", run.split.test)):
        if part is not None:
            sizes = (len(part.users), part.target.shape[1], part.context.nnz, part.target.nnz)
            rows.append((name, *(f"{n:,}" for n in sizes)))
    heads = ("part", "users", "items", "history", "held out")
    return table("Parts of the split, by number of users, items and interactions", heads, rows, (1, 2, 3, 4))


def training(run: Run) -> list[Markup]:
    """Loss and validation metrics over the epochs: of at most 400 epochs, evenly spaced, and the best one."""
    frame, record = pd.DataFrame(run.record.epochs), run.record
    if "loss" not in frame:
        return [note(f"{type(run.model).__name__} is not trained in epochs, so there is no learning curve.")]
    best = record.best_epoch if record.metric is not None else None
    kept = np.linspace(0, len(frame) - 1, min(_EPOCHS, len(frame))).round().astype(int)
    shown = frame.iloc[np.union1d(kept, np.flatnonzero(frame["epoch"] == best))].set_index("epoch")
    drawn = []
    for name in ("loss", *(str(name) for name in frame.columns if is_metric(str(name)))):
        curve = pd.to_numeric(shown[name]).astype(np.float64)
        curve = curve[np.isfinite(curve)]
        if curve.empty:
            continue
        summary = f"{len(frame)} epochs; the last value is {number(curve.iloc[-1])}."
        if best is not None and best in curve.index:
            summary += f" At the best epoch, {best}, it is {number(curve[best])}."
        title, y = ("Training loss", "loss") if name == "loss" else (f"Validation {name}", of(name).unit)
        caption = charts.Caption(title, "epoch", y, summary)
        drawn.append(charts.learning(caption, np.asarray(curve.index, np.float64), np.asarray(curve), best))
    notes = []
    if best is not None:
        notes.append(f"The dashed line marks epoch {best}, the best by {record.metric} on the validation part.")
    if len(shown) < len(frame):
        notes.append(f"{len(shown)} of {len(frame):,} epochs are drawn.")
    return [tag("div", drawn, class_="grid"), note(" ".join(notes))]


def by_cutoff(run: Run) -> list[Markup]:
    """Each kind of metric against the length of the list."""
    frame = run.results.reset_index()
    frame[["kind", "k"]] = [parse(name) for name in frame["metric"]]
    frame = frame.dropna(subset=["k"]).astype({"k": int})
    if frame.empty:
        return [NO_LISTS]
    drawn = []
    for kind, group in frame.groupby("kind", sort=False):
        points = group.sort_values("k")
        summary = ", ".join(f"{number(value)} at {k}" for k, value in zip(points["k"], points["value"], strict=True))
        points = points[np.isfinite(points["value"])]
        if points.empty:
            continue
        caption = charts.Caption(f"{kind}@k", "k (length of the list)", METRICS[str(kind)].unit, f"{summary}.")
        drawn.append(charts.by_cutoff(caption, points, sorted(set(frame["k"]))))
    return [tag("div", drawn, class_="grid"), note("Vertical bars are 95% bootstrap intervals over users.")]
