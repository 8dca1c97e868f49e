"""The main results in plain words, for a reader who does not know the metrics."""

from __future__ import annotations

import math

from recsys.metrics import higher_is_better, parse
from recsys.report.markup import number
from recsys.report.run import Run


def in_words(run: Run) -> str:
    """Return sentences on how the model stands to the baseline and how much of the catalog its lists show."""
    return " ".join(filter(None, (_against_baseline(run), _coverage(run))))


def compared(metric: str, value: float, other: float) -> str:
    """Return whether a value that differs from another is `better` or `worse`."""
    return "better" if (value > other) == higher_is_better(metric) else "worse"


def _against_baseline(run: Run) -> str:
    """Return how much better or worse the main metric is than the baseline's; empty where it cannot be said."""
    name, values = run.baseline or ("", {})
    metric = run.metrics[0]
    value, other = run.evaluation[metric], values.get(metric, math.nan)
    if not (math.isfinite(value) and math.isfinite(other) and other):
        return ""
    if value == other:
        return f"{metric} is the same as that of {name}."
    share, word = abs(value - other) / abs(other), compared(metric, value, other)
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
