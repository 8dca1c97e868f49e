"""Sections about items: what is recommended and found by popularity, and a map of the items."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.errors import UnsupportedError
from recsys.report import charts, findings
from recsys.report.elements import no_lists, note, percentage, table
from recsys.report.markup import Markup, tag
from recsys.report.run import Run

_MAPPED: Final = 3000
"""Points of the map of items."""
_STRATA: Final = ("most popular fifth", "second fifth", "third fifth", "fourth fifth", "least popular fifth")


def popularity(run: Run) -> list[Markup]:
    """What is recommended and found, by the popularity of items."""
    if run.cutoff is None or run.evaluation.per_item is None:
        return [no_lists()]
    k, per_item = run.cutoff, run.evaluation.per_item
    frame = findings.by_popularity(run.popularity, per_item, k)
    frame = frame[frame["items"] > 0]
    lists = per_item[f"recommended@{k}"].to_numpy(np.int64)
    never = int((lists == 0).sum())
    tail = charts.Caption(
        "Recommendations per item",
        "training interactions",
        f"top-{k} lists with the item",
        f"{never:,} of {len(lists):,} items are in no list; the most frequent is in {lists.max():,}.",
    )
    drawn = [*_strata_charts(frame, k), charts.long_tail(tail, run.popularity, lists, run.item)]
    return [
        tag("div", drawn, class_="grid"),
        _strata_table(frame, k),
        note(
            "Items are sorted by training interactions and cut into five groups that each hold about a fifth of those "
            "interactions. Recall counts all held-out interactions of a group; it is not a mean over users. "
            f"{never:,} of {len(lists):,} items ({never / len(lists):.0%}) are in nobody's first {k}. "
            "In the chart of single items, those at the same spot share a dot."
        ),
    ]


def _strata_charts(frame: pd.DataFrame, k: int) -> list[Markup]:
    """Return the charts of exposure and recall by group of popularity."""
    labels = [f"{stratum + 1}" for stratum in frame.index]
    names = [_STRATA[stratum] for stratum in frame.index]
    recommended, held_out, recall = (frame[name].to_numpy(np.float64) for name in ("recommended", "held_out", "recall"))
    x = "popularity group (1: most popular)"
    exposure = "; ".join(
        f"{name}: {percentage(a)} of recommendations, {percentage(b)} of held-out interactions"
        for name, a, b in zip(names, recommended, held_out, strict=True)
    )
    found = "; ".join(f"{name}: {percentage(share)}" for name, share in zip(names, recall, strict=True))
    return [
        charts.bars(
            charts.Caption(f"Recommended in the first {k}, and held out", x, "share of all", f"{exposure}."),
            labels,
            {"recommendations": recommended, "held-out interactions": held_out},
            percent=True,
        ),
        charts.bars(
            charts.Caption(f"Recall@{k} by popularity", x, "share of held-out found", f"{found}."),
            labels,
            {f"recall@{k}": recall},
            percent=True,
        ),
    ]


def _strata_table(frame: pd.DataFrame, k: int) -> Markup:
    shares = ("catalog", "training", "held_out", "recommended", "recall")
    rows = [
        (f"{stratum + 1}, {_STRATA[stratum]}", f"{items:,}", *map(percentage, row))
        for stratum, items, row in zip(frame.index, frame["items"], frame[list(shares)].to_numpy(), strict=True)
    ]
    heads = ("group", "items", "of catalog", "of training", "of held-out", f"of recommended @{k}", f"recall@{k}")
    return table("Items by popularity", heads, rows, (1, 2, 3, 4, 5, 6))


def item_map(run: Run) -> list[Markup]:
    """The items' vectors in two dimensions."""
    try:
        vectors = run.model.item_vectors()
    except UnsupportedError as error:
        return [note(f"Not shown: {error}.")]
    shown = findings.most_popular(run.popularity, _MAPPED)
    plane, shares = findings.principal_plane(vectors[shown])
    which = f"all {len(shown):,}"
    if len(shown) < len(vectors):
        which = f"the {len(shown):,} most popular of {len(vectors):,}"
    caption = charts.Caption(
        "Item vectors in two dimensions",
        f"component 1 ({shares[0]:.0%} of the variance)",
        f"component 2 ({shares[1]:.0%} of the variance)",
        f"Shown are {which} items, each at the first two principal components of its vector.",
    )
    texts = [f"{run.item(item)} ({run.popularity[item]:,} interactions)" for item in shown.tolist()]
    chart = charts.cloud(caption, plane, texts, findings.strata(run.popularity)[shown], _STRATA)
    explanation = (
        f"Shown are {which} items, each as a dot: its {vectors.shape[1]}-dimensional vector, scaled to length 1, on "
        f"the first two principal components, which explain {sum(shares):.0%} of the variance. Point at a dot for its "
        "title. Colors are the popularity groups."
    )
    return [tag("div", chart, class_="wide"), note(explanation)]
