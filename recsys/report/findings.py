"""What a report tells about an evaluation beyond its metrics: which users and items a model serves well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError
from recsys.evaluation import Evaluation, activity_groups, intervals
from recsys.splits import Part

Index = npt.NDArray[np.intp]
STRATA = 5


def strata(popularity: npt.NDArray[np.int64]) -> Index:
    """Return the stratum of each item: 0 holds the most popular ones.

    Items are sorted by popularity and cut into five strata that each hold about a fifth of all interactions. An item
    belongs to the stratum in which its middle interaction falls; items without interactions belong to the last one.

    Args:
        popularity: (n_items,) training interactions of each item.
    """
    order = np.argsort(-popularity, kind="stable")
    descending = popularity[order]
    middle = np.cumsum(descending) - descending / 2
    stratum = np.empty(len(order), dtype=np.intp)
    stratum[order] = np.minimum(STRATA - 1, STRATA * middle / max(1, descending.sum())).astype(np.intp)
    stratum[popularity == 0] = STRATA - 1
    return stratum


def by_popularity(popularity: npt.NDArray[np.int64], per_item: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return a row per stratum of items.

    Returns:
        `items`, the number of items; their shares of the `catalog`, of `training` interactions, of `held_out`
        relevant interactions and of `recommended` items in lists of length k; and `recall`, hits / held-out relevant
        interactions. NaN where the denominator is 0.

    Raises:
        DataError: lists of k items were not counted.
    """
    for name in (f"recommended@{k}", f"hits@{k}"):
        if name not in per_item:
            raise DataError(f"the evaluation did not count {name}; evaluate a metric with the cut-off {k}")
    counts = pd.DataFrame(
        {
            "items": np.ones(len(popularity), dtype=np.int64),
            "training": popularity,
            "held_out": per_item["relevant"].to_numpy(),
            "recommended": per_item[f"recommended@{k}"].to_numpy(),
            "hits": per_item[f"hits@{k}"].to_numpy(),
        }
    )
    sums = counts.groupby(strata(popularity)).sum().reindex(range(STRATA), fill_value=0)
    totals = sums.sum().where(sums.sum() > 0)
    return pd.DataFrame(
        {
            "items": sums["items"],
            "catalog": sums["items"] / totals["items"],
            "training": sums["training"] / totals["training"],
            "held_out": sums["held_out"] / totals["held_out"],
            "recommended": sums["recommended"] / totals["recommended"],
            "recall": sums["hits"] / sums["held_out"].where(sums["held_out"] > 0),
        }
    )


def by_activity(evaluation: Evaluation, part: Part, metric: str, resamples: int) -> pd.DataFrame:
    """Return a row per group of users (see `activity_groups`), those with the shortest histories first.

    Returns:
        `group`, `users` (those with a value), `value` of the metric, and the ends `low` and `high` of its 95%
        bootstrap interval.
    """
    groups = activity_groups(part)
    one = evaluation.only([metric])
    rows = []
    for _, group, value, _, n in one.by(groups).itertuples(index=False, name=None):
        if not n:
            continue
        members = one.per_user[(groups == group).to_numpy() & one.per_user[metric].notna().to_numpy()]
        summary = pd.DataFrame({"metric": [metric], "value": [value]})
        ends = intervals(Evaluation(members, summary), resamples=resamples)
        rows.append((group, n, value, ends["low"].iloc[0], ends["high"].iloc[0]))
    return pd.DataFrame(rows, columns=["group", "users", "value", "low", "high"])


def most_popular(popularity: npt.NDArray[np.int64], n: int) -> Index:
    """Return the n most popular items, or all if there are fewer, in the order of their indices."""
    return np.sort(np.argsort(-popularity, kind="stable")[:n])


def principal_plane(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], Sequence[float]]:
    """Project vectors, scaled to length 1, on their first two principal components.

    Similarity of items is the cosine of their vectors, which does not depend on their lengths.

    Args:
        vectors: (n, d), n ≥ 1.

    Returns:
        (n, 2) coordinates, and the share of the variance that each component explains. Signs are chosen so that the
        coordinate largest in absolute value is positive.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors.astype(np.float64) / np.maximum(length, 1e-12)
    centered = unit - unit.mean(0)
    values, axes = np.linalg.eigh(centered.T @ centered)
    plane = np.zeros((len(vectors), 2))
    plane[:, : min(2, len(values))] = centered @ axes[:, : -min(2, len(values)) - 1 : -1]
    signs = np.sign(plane[np.abs(plane).argmax(0), (0, 1)])
    total = values.clip(0).sum() or 1.0
    shares = [float(value) for value in (values[::-1][:2] / total).clip(0)]
    return plane * np.where(signs == 0, 1, signs), [*shares, 0.0][:2]
