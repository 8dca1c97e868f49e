"""The first sections of a report: the main result, the test metrics, and what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.metrics import higher_is_better, of
from recsys.report.elements import note, number, pairs, span, table
from recsys.report.markup import Markup, tag
from recsys.report.run import Run


def headline(run: Run) -> list[Markup]:
    """The main result, and where the model is."""
    metric = run.metrics[0]
    low, high = run.interval(metric)
    interval = f" (95% interval {span(low, high)})" if np.isfinite(low) else ""
    counted = f", over {run.users[metric]:,} of the {len(run.split.test.users):,} test users."
    main = tag("p", tag("b", f"{metric} {number(run.evaluation[metric])}"), interval, counted, class_="lead")
    return [main, note("Model ", tag("code", run.source)) if run.source else Markup()]


def metric_table(run: Run) -> list[Markup]:
    """The test metrics with their intervals and meanings."""
    rows = []
    for name in run.metrics:
        better = "higher" if higher_is_better(name) else "lower"
        value, interval = number(run.evaluation[name]), span(*run.interval(name))
        rows.append((name, value, interval, f"{run.users[name]:,}", better, of(name).meaning))
    heads = ("metric", "value", "95% interval", "users", "better", "meaning")
    return [
        table("Test metrics", heads, rows, numbers=(1, 2, 3)),
        note(
            f"Values are means over users; the intervals come from {run.resamples:,} bootstrap samples of the users. "
            "Users without relevant held-out items are not counted. Metrics of all lists together, such as coverage, "
            "are not means and have no interval."
        ),
    ]


def facts(run: Run) -> list[Markup]:
    """What was measured: data, split and hyperparameters."""
    config = run.about.get("config", {})
    split = {name: value for name, value in config.get("split", {}).items() if value is not None}
    if run.min_relevance is not None:
        split["relevant from"] = run.min_relevance
    model = {"class": type(run.model).__name__, **run.model.params()}
    if config.get("train", {}).get("refit"):
        model["refit"] = "on training and validation interactions, before the test"
    reading = note("The model reads a user's history and should recommend the user's held-out items.")
    return [
        tag(
            "div",
            tag("div", tag("h3", "Data"), pairs(_data(run)), class_="card"),
            tag("div", tag("h3", "Split"), pairs(split), _parts(run), reading, class_="card"),
            tag("div", tag("h3", "Model"), pairs(model), class_="card"),
            class_="grid",
        )
    ]


def _data(run: Run) -> dict[str, Any]:
    """Return name, size and fingerprint of the data, and the options with which it was read."""
    options, data = run.about.get("config", {}).get("data", {}), run.about.get("data", {})
    described: dict[str, Any] = {"name": options.get("name")}
    described |= {name: f"{data[name]:,}" for name in ("users", "items", "interactions") if name in data}
    if "density" in data:
        described["density"] = f"{data['density']:.2%}"
    if "fingerprint" in data:
        described["fingerprint"] = tag("code", str(data["fingerprint"]))
    return described | {name: v for name, v in options.items() if name not in described and v not in (None, 0, False)}


def _parts(run: Run) -> Markup:
    """Return the table of the parts of the split and their sizes."""
    train = run.split.train
    sizes: dict[str, tuple[int | None, ...]] = {"train": (train.shape[0], train.shape[1], train.nnz, None)}
    for name, part in (("validation", run.split.validation), ("test", run.split.test)):
        if part is not None:
            sizes[name] = (len(part.users), part.target.shape[1], part.context.nnz, part.target.nnz)
    rows = [(name, *("–" if n is None else f"{n:,}" for n in counts)) for name, counts in sizes.items()]
    heads = ("part", "users", "items", "history", "held out")
    return table("Parts of the split, by number of users, items and interactions", heads, rows, (1, 2, 3, 4))
