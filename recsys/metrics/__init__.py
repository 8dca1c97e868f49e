"""Metrics by name, and how to add one.

    import numpy as np
    from recsys.metrics import Metric, register

    def first_is_hit(hits, n_relevant, k):
        return np.where(n_relevant > 0, hits[:, 0], np.nan)

    register(Metric("first_is_hit", first_is_hit, ("hits", "n_relevant"), "whether the first item is relevant"))

From then on `first_is_hit@10` is evaluated, validated, compared and reported like any other. `Lists` and `Catalog` hold
what a metric can read; `Metric` tells how metrics of all lists together and errors of ratings are added.
"""

from recsys.metrics import ranking, rating
from recsys.metrics.lists import Catalog, Lists
from recsys.metrics.registry import METRICS, Metric, higher_is_better, of, parse, register

__all__ = [
    "METRICS",
    "Catalog",
    "Lists",
    "Metric",
    "higher_is_better",
    "of",
    "parse",
    "ranking",
    "rating",
    "register",
]
