"""What a report says of an evaluation beyond its metrics: whom and what a model serves."""

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

    The items in the order of their popularity are cut where a fifth of all interactions is reached, two fifths, and so
    on. An item belongs where its middle interaction falls; items without any to the last stratum.

    Args:
        popularity: (n_items,) training interactions of each item.
    """
    order = np.argsort(-popularity, kind="stable")
    sorted_ = popularity[order]
    middle = np.cumsum(sorted_) - sorted_ / 2
    found = np.empty(len(order), dtype=np.intp)
    found[order] = np.minimum(STRATA - 1, STRATA * middle / max(1, sorted_.sum())).astype(np.intp)
    found[popularity == 0] = STRATA - 1
    return found


def by_popularity(popularity: npt.NDArray[np.int64], per_item: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return a row per stratum of items.

    Returns:
        `items`, and their shares `catalogue`, `training`, `held_out` (of the relevant entries) and `recommended` (of
        the places in the lists), and `recall`: hits / relevant entries, of lists of k items. NaN of nothing.

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
            "catalogue": sums["items"] / totals["items"],
            "training": sums["training"] / totals["training"],
            "held_out": sums["held_out"] / totals["held_out"],
            "recommended": sums["recommended"] / totals["recommended"],
            "recall": sums["hits"] / sums["held_out"].where(sums["held_out"] > 0),
        }
    )


def by_activity(evaluation: Evaluation, part: Part, metric: str, resamples: int) -> pd.DataFrame:
    """Return a row per group of users, those with the shortest histories first (see `activity_groups`).

    Returns:
        `group`, `users` with a value, `value` of the metric, and `low` and `high` of its 95 % interval.
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
    """Return the n most popular items, or all if there are fewer, in the order of their index."""
    return np.sort(np.argsort(-popularity, kind="stable")[:n])


def principal_plane(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], Sequence[float]]:
    """Project vectors, each of length 1, on their two principal components.

    Vectors of length 1, because their cosines are the similarity of items, which lengths do not change.

    Args:
        vectors: (n, d), n ≥ 1.

    Returns:
        (n, 2) coordinates, and the shares of the variance that the two explain. The larger end of each is positive.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors.astype(np.float64) / np.maximum(length, 1e-12)
    centred = unit - unit.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    plane = np.zeros((len(vectors), 2))
    plane[:, : min(2, len(values))] = centred @ axes[:, : -min(2, len(values)) - 1 : -1]
    signs = np.sign(plane[np.abs(plane).argmax(0), (0, 1)])
    total = values.clip(0).sum() or 1.0
    shares = [float(value) for value in (values[::-1][:2] / total).clip(0)]
    return plane * np.where(signs == 0, 1, signs), [*shares, 0.0][:2]
