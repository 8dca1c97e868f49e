"""Sections about items: what is recommended and found by popularity, and a map of the items."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import UnsupportedError
from recsys.report import charts
from recsys.report.groups import category_column, grouped
from recsys.report.markup import NO_LISTS, Markup, note, percentage, table, tag
from recsys.report.run import Run

_MAPPED: Final = 3000
"""Points of the map of items."""
STRATA: Final = ("most popular fifth", "second fifth", "third fifth", "fourth fifth", "least popular fifth")
"""Names of the groups that `strata` makes of items."""


def popularity(run: Run) -> list[Markup]:
    """What is recommended and found, by the popularity of items."""
    k, per_item = run.cutoff, run.evaluation.per_item
    if k is None or per_item is None:
        return [NO_LISTS]
    frame = by_popularity(run.popularity, per_item, k)
    labels, names = [f"{stratum + 1}" for stratum in frame.index], [STRATA[stratum] for stratum in frame.index]
    shares = frame[["catalog", "training", "held_out", "recommended", "recall"]].to_numpy(np.float64)
    rows = [
        (f"{label}, {name}", f"{items:,}", *map(percentage, row))
        for label, name, items, row in zip(labels, names, frame["items"], shares, strict=True)
    ]
    exposure = "; ".join(
        f"{name}: {row[5]} of recommendations, {row[4]} of held-out interactions"
        for name, row in zip(names, rows, strict=True)
    )
    found = "; ".join(f"{name}: {row[6]}" for name, row in zip(names, rows, strict=True))
    lists = per_item[f"recommended@{k}"].to_numpy(np.int64)
    never = f"{(lists == 0).sum():,} of {len(lists):,} items"
    x = "popularity group (1: most popular)"
    exposed = charts.Caption(f"Recommended in the first {k}, and held out", x, "share of all", f"{exposure}.")
    recalled = charts.Caption(f"Recall@{k} by popularity", x, "share of held-out found", f"{found}.")
    tail = charts.Caption(
        "Recommendations per item",
        "training interactions",
        f"top-{k} lists with the item",
        f"{never} are in no list; the most frequent is in {lists.max():,}.",
    )
    _, _, held_out, recommended, recall = shares.T
    bars = {"recommendations": recommended, "held-out interactions": held_out}
    drawn = [
        charts.bars(exposed, labels, bars, percent=True),
        charts.bars(recalled, labels, {f"recall@{k}": recall}, percent=True),
        charts.long_tail(tail, run.popularity, lists, run.item),
    ]
    heads = ("group", "items", "of catalog", "of training", "of held-out", f"of recommended @{k}", f"recall@{k}")
    return [
        tag("div", drawn, class_="grid"),
        table("Items by popularity", heads, rows, range(1, 7)),
        note(
            "Items are sorted by training interactions and cut into five groups that each hold about a fifth of those "
            "interactions. Recall counts all held-out interactions of a group; it is not a mean over users. "
            f"{never} ({(lists == 0).mean():.0%}) are in nobody's first {k}. "
            "In the chart of single items, those at the same spot share a dot."
        ),
    ]


def by_popularity(popularity: npt.NDArray[np.int64], per_item: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return a row per stratum that has items.

    Returns:
        `items`, the number of items; their shares of the `catalog`, of `training` interactions, of `held_out`
        relevant interactions and of `recommended` items in lists of length k; and `recall`, hits / held-out relevant
        interactions. NaN where the denominator is 0.
    """
    counts = per_item[["relevant", f"recommended@{k}", f"hits@{k}"]].set_axis(
        ["held_out", "recommended", "hits"], axis=1
    )
    sums = counts.assign(training=popularity, catalog=1).groupby(strata(popularity)).sum()
    recall = sums["hits"] / sums["held_out"].where(sums["held_out"] > 0)
    shares = sums / sums.sum().where(sums.sum() > 0)
    return shares.drop(columns="hits").assign(items=sums["catalog"], recall=recall)


def strata(popularity: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return the stratum of each item: 0 holds the most popular ones.

    Items are sorted by popularity and cut into five strata that each hold about a fifth of all interactions. An item
    belongs to the stratum in which its middle interaction falls; items without interactions belong to the last one.
    """
    order = np.argsort(-popularity, kind="stable")
    descending = popularity[order]
    middle = np.cumsum(descending) - descending / 2
    last = len(STRATA) - 1
    stratum = np.empty(len(order), dtype=np.intp)
    stratum[order] = np.minimum(last, len(STRATA) * middle / max(1, descending.sum())).astype(np.intp)
    stratum[popularity == 0] = last
    return stratum


def item_map(run: Run) -> list[Markup]:
    """The items' vectors in two dimensions."""
    try:
        vectors = run.model.item_vectors()
    except UnsupportedError as error:
        return [note(f"Not shown: {error}.")]
    shown = np.sort(np.argsort(-run.popularity, kind="stable")[:_MAPPED])
    plane, shares = principal_plane(vectors[shown])
    which = f"all {len(shown):,}"
    if len(shown) < len(vectors):
        which = f"the {len(shown):,} most popular of {len(vectors):,}"
    x, y = (f"component {place} ({share:.0%} of the variance)" for place, share in enumerate(shares, 1))
    summary = f"Shown are {which} items, each at the first two principal components of its vector."
    texts = [_described(run, item) for item in shown.tolist()]
    columns = run.split.train.item_columns
    category = category_column(columns)
    kinds, legend = strata(run.popularity)[shown], list(STRATA)
    if category is not None:
        kinds, legend = grouped(columns[category][shown])
    colored = "popularity group" if category is None else category
    caption = charts.Caption(f"Items by {colored}", x, y, summary)
    chart = charts.cloud(caption, plane, texts, kinds, legend)
    explanation = (
        f"Shown are {which} items, each as a dot: its {vectors.shape[1]}-dimensional vector, scaled to length 1, on "
        f"the first two principal components, which explain {sum(shares):.0%} of the variance. Point at a dot for its "
        f"title. Colors show the {colored}."
    )
    return [tag("div", chart, class_="wide"), note(explanation)]


def _described(run: Run, item: int) -> str:
    """Return what a dot of the map shows under the pointer."""
    known = run.details(item)
    return f"{run.item(item)} ({f'{known}; ' if known else ''}{run.popularity[item]:,} interactions)"


def principal_plane(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Project vectors (n, d), scaled to length 1, on their first two principal components.

    Similarity of items is the cosine of their vectors, which does not depend on their lengths.

    Returns:
        (n, 2) coordinates, and the share of the variance that each component explains. Signs are chosen so that the
        coordinate largest in absolute value is positive.
    """
    unit = vectors.astype(np.float64) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centered = np.pad(unit - unit.mean(0), ((0, 0), (0, max(0, 2 - unit.shape[1]))))
    values, axes = np.linalg.eigh(centered.T @ centered)
    plane = centered @ axes[:, :-3:-1]
    signs = np.sign(plane[np.abs(plane).argmax(0), (0, 1)])
    shares = values[:-3:-1].clip(0) / (values.clip(0).sum() or 1.0)
    return plane * np.where(signs == 0, 1, signs), shares
