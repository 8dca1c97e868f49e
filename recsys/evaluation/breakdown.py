"""For whom a model is good: groups of users by activity, and quality by length of history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recsys.columns import USER
from recsys.errors import ConfigError, DataError
from recsys.evaluation.measure import Ranker, evaluate
from recsys.params import random_generator
from recsys.splits import Part


def activity_groups(part: Part, n_groups: int = 4) -> pd.Series:
    """Return the group of each user of a part by the number of items in the user's context: quartiles by default.

    Users with the same number stay together, so groups may differ in size, and there may be fewer.

    Returns:
        An ordered categorical such as `12-30 items`, indexed by user id, to be passed to `Evaluation.by`.

    Raises:
        ConfigError: `n_groups` is below 2.
    """
    if n_groups < 2:
        raise ConfigError(f"n_groups must be at least 2, got {n_groups}")
    lengths = np.diff(part.context.indptr)
    shares = np.arange(1, n_groups) / n_groups
    cuts = np.unique(np.quantile(lengths, shares, method="inverted_cdf")) if len(lengths) else np.empty(0)
    group = np.searchsorted(cuts, lengths)  # number of cuts below each length
    present, group = np.unique(group, return_inverse=True)
    bounds = [(lengths[group == g].min(), lengths[group == g].max()) for g in range(len(present))]
    names = [f"{low} items" if low == high else f"{low}-{high} items" for low, high in bounds]
    values = pd.Categorical.from_codes(group, categories=pd.Index(names), ordered=True)
    return pd.Series(values, index=pd.Index(part.users.ids(), name=USER), name="activity")


def cold_user_curve(
    model: Ranker,
    part: Part,
    lengths: Sequence[int] = (1, 2, 5, 10, 20, 50),
    metric: str | Sequence[str] = "ndcg@10",
    *,
    seed: int | np.random.Generator | None = 0,
    **options: Any,
) -> pd.DataFrame:
    """Measure how good a model is when it reads only a given number of items of each history.

    All lengths are measured on the same users: those whose context has at least the greatest length. Each user's
    context is shuffled once and the model reads its first items, so a longer history contains the shorter ones. The
    rest of the context is never recommended, so candidates and targets are the same at every length too. All users are
    served from their history, as if they were new.

    Args:
        model: a model whose `recommend` takes `seen`, such as those of this package.
        seed: seed of the shuffling.
        options: further arguments of `evaluate`.

    Returns:
        `length, metric, value, standard_error, n`. Points share their users, so differences along the curve are more
        certain than the standard errors of the points suggest.

    Raises:
        ConfigError: lengths that are not positive whole numbers, or none.
        DataError: no user with a target has a context of the greatest length.
    """
    asked = sorted({int(n) for n in lengths})
    if not asked or asked[0] < 1 or any(int(n) != n for n in lengths):
        raise ConfigError(f"lengths must be positive whole numbers, got {tuple(lengths)}")
    counts = np.diff(part.context.indptr)
    rows = np.flatnonzero((counts >= asked[-1]) & (np.diff(part.target.indptr) > 0))
    if not len(rows):
        raise DataError(
            f"no user with a target has {asked[-1]} items in the context (the most is {counts.max(initial=0)}); "
            "choose shorter lengths"
        )
    context = part.context[rows]
    counts = np.diff(context.indptr)
    owner = np.repeat(np.arange(len(rows)), counts)
    order = np.lexsort((random_generator(seed).random(context.nnz), owner))
    place = np.argsort(order) - np.repeat(context.indptr[:-1], counts)
    full = replace(
        part,
        context=context,
        target=part.target[rows],
        users=part.users.take(rows),
        user_index=np.full(len(rows), -1, dtype=np.int32),
        seen=context if part.seen is None else part.seen[rows],
    )
    points = {}
    for length in asked:
        first = place < length
        entries = (context.data[first], (owner[first], context.indices[first]))
        read = sp.csr_matrix(entries, shape=context.shape, dtype=np.float32)
        points[length] = evaluate(model, replace(full, context=read), metric, **options).summary
    return pd.concat(points, names=["length"]).reset_index("length").reset_index(drop=True)
