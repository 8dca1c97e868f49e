"""The section of a page with the log-likelihood of held-out histories."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.analysis.density import log_likelihood, popularity_likelihood
from recsys.analysis.findings import Findings, Subject
from recsys.analysis.realism import held_out_users
from recsys.params import random_generator
from recsys.report import charts
from recsys.report.markup import Markup, note, number, percentage, table, tag

_USERS: Final = 500
"""Test users, drawn."""
_SAMPLES: Final = (1, 10, 100)
_GROUPS: Final = 5
_FEW: Final = 5.0
"""Effective samples below which an estimate rests on few draws."""


def findings(subject: Subject) -> Findings:
    """Estimate log p(x) of drawn test users beside popularity, by length of history and by number of draws."""
    model = subject.model
    kind = model.distribution().likelihood
    model.draw_prior(1, 0)  # refuses a model without a prior, before the work
    part = subject.split.test
    rng = random_generator(subject.seed)
    rows = np.sort(rng.choice(len(part.users), min(_USERS, len(part.users)), replace=False))
    users = held_out_users(part, subject.train).take_users(rows)
    bounds = {k: log_likelihood(model, users, samples=k, seed=subject.seed) for k in _SAMPLES}
    frame = bounds[_SAMPLES[-1]]
    known = part.user_index[rows] >= 0
    frame["in_training"] = known
    plain = None if kind == "gaussian" else popularity_likelihood(model, users)
    if plain is not None:
        frame["popularity"] = plain["log_likelihood"]
        frame["popularity_per_entry"] = plain["per_entry"]
    mean, few = float(frame["log_likelihood"].mean()), float((frame["effective_samples"] < _FEW).mean())
    metrics = {
        "density_log_likelihood": mean,
        "density_per_entry": float(frame["per_entry"].mean()),
        "density_effective_samples": float(frame["effective_samples"].median()),
    }
    told = f"Of {len(frame):,} test users a history has a log-likelihood of at least {mean:,.1f} nats in the mean"
    if plain is not None:
        metrics["density_popularity"] = float(plain["log_likelihood"].mean())
        told += f", {metrics['density_popularity']:,.1f} by popularity alone"
    told += f" ({kind} likelihood, K = {_SAMPLES[-1]})."
    if few > 0.5:
        told += f" For {percentage(few)} of them few draws count, so that the true values may be much higher."
    if known.any():
        told += f" Training saw other entries of {percentage(float(known.mean()))} of them."
    content = _content(frame, bounds, kind)
    return Findings(
        title="Likelihood of held-out histories",
        summary=told,
        tables={"density": frame},
        metrics=metrics,
        content=content,
    )


def _content(frame: pd.DataFrame, bounds: dict[int, pd.DataFrame], kind: str) -> list[Markup]:
    """Return the charts by length and by number of draws, what they mean, and the least likely histories."""
    means = [float(bound["log_likelihood"].mean()) for bound in bounds.values()]
    texts = "; ".join(f"K = {k}: {number(value)}" for k, value in zip(bounds, means, strict=True))
    caption = charts.Caption("Bound by number of draws", "K", "mean log-likelihood (nats)", f"{texts}.")
    draws = charts.curves(caption, np.array(list(bounds), np.float64), {"bound": np.array(means)}, logarithmic=True)
    shown = [tag("div", _by_length(frame), draws, class_="grid")]
    worst = frame.dropna(subset="per_entry").nsmallest(10, "per_entry")
    rows = [
        (
            str(row["user_id"]),
            f"{row['entries']:,}",
            number(row["per_entry"]),
            number(row["standard_error"]),
            f"{row['effective_samples']:.1f}",
        )
        for row in worst.to_dict("records")
    ]
    meaning = {
        "multinomial": "per entry: the mean log probability of one entry, given how many there are",
        "bernoulli": "per entry: the log-likelihood of the whole row, over the number of items",
        "gaussian": "per entry: the log density of the whole row, over the number of items",
    }[kind]
    return [
        *shown,
        note(
            f"Importance-weighted bounds (Burda et al. 2016), in nats; {meaning}. The bound grows with the number of "
            "draws K: where it still rises, the true value is higher. A history of context and target is read whole."
        ),
        tag("h3", "Least likely histories"),
        table(
            "Least likely histories",
            ("user", "entries", "per entry", "standard error", "effective samples"),
            rows,
            (1, 2, 3, 4),
        ),
    ]


def _by_length(frame: pd.DataFrame) -> Markup:
    """Return bars of the surprise of an entry by the length of the history, beside that by popularity."""
    some = frame.dropna(subset="per_entry")
    lengths = some["entries"] if some["entries"].nunique() > 1 else pd.Series(0, index=some.index)
    ends = np.unique(np.quantile(lengths, np.linspace(0, 1, _GROUPS + 1)))
    group = np.clip(np.searchsorted(ends, lengths, side="right") - 1, 0, max(0, len(ends) - 2))
    names = [f"{lengths[group == g].min():,.0f}–{lengths[group == g].max():,.0f}" for g in np.unique(group)]
    series = {"model": -some["per_entry"]}
    if "popularity_per_entry" in some:
        series["popularity"] = -some["popularity_per_entry"]
    values = {name: found.groupby(group).mean().to_numpy(np.float64) for name, found in series.items()}
    said = "; ".join(
        f"{name} entries: " + ", ".join(f"{kind} {number(found[place])}" for kind, found in values.items())
        for place, name in enumerate(names)
    )
    caption = charts.Caption("Surprise of an entry by length of history", "entries", "nats per entry", f"{said}.")
    return charts.bars(caption, names, values)
