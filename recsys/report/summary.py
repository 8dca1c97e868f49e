"""The main results in plain words, for a reader who does not know the metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from recsys.columns import USER
from recsys.metrics import higher_is_better, parse
from recsys.report.markup import number
from recsys.report.run import Run

_SHORT: Final = 5
"""Items from which on a history is no longer called short."""


def in_words(run: Run) -> str:
    """Return sentences on how the model stands to others, how much its lists show, and how it serves new users."""
    against = (_against(run, name, values) for name, values in run.rivals)
    return " ".join(filter(None, (*against, _coverage(run), _new_users(run))))


def compared(metric: str, value: float, other: float) -> str:
    """Return whether a value that differs from another is `better` or `worse`."""
    return "better" if (value > other) == higher_is_better(metric) else "worse"


def _against(run: Run, name: str, values: Mapping[str, float]) -> str:
    """Return how much better or worse the main metric is than a rival's; empty where it cannot be said."""
    metric = run.metrics[0]
    value, other = run.evaluation[metric], values.get(metric, math.nan)
    if not (math.isfinite(value) and math.isfinite(other) and other):
        return ""
    if value == other:
        return f"{metric} is the same as that of {name}."
    share, word = abs(value - other) / abs(other), compared(metric, value, other)
    if share < 0.005:
        return f"{metric} is about that of {name} ({number(other)})."
    return f"{metric} is {share:.0%} {word} than that of {name} ({number(other)})."


def _coverage(run: Run) -> str:
    """Return how many items the lists show, at the first cut-off of coverage in the table; empty without any."""
    for metric in run.metrics:
        kind, k = parse(metric)
        share = run.evaluation[metric]
        if kind == "coverage" and math.isfinite(share):
            items = run.split.train.shape[1]
            return f"The lists of {k} show {round(share * items):,} of {items:,} items ({share:.0%})."
    return ""


def _new_users(run: Run) -> str:
    """Return how users of the test part with no or a short history fare; empty where the metric is not one of users."""
    metric, lengths = run.metrics[0], np.diff(run.split.test.context.indptr)
    per_user = run.evaluation.per_user
    measured = per_user[metric].notna().to_numpy() if metric in per_user else np.zeros(len(lengths), dtype=bool)
    if not measured.any():
        return ""
    if (shortest := lengths[measured].min()) >= _SHORT:
        return f"All these users have a history of {shortest:,} items or more; how newer ones fare is not measured."
    names = ("without any history", f"with 1 to {_SHORT - 1} items", "with more")
    group = pd.Series(np.digitize(lengths, [1, _SHORT]), index=per_user[USER])
    frame = run.evaluation.only([metric]).by(group).query("n > 0")[["group", "value", "n"]]
    said = [f"{number(v)} for the {n:,} users {names[at]}" for at, v, n in frame.itertuples(index=False, name=None)]
    return f"By length of history, {metric} is {', '.join(said[:-1])}{' and ' if said[1:] else ''}{said[-1]}."
