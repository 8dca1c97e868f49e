"""Who is over- and under-represented in a model's code, how good the lists are there, and weights against it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.oddness import with_entries
from recsys.errors import ConfigError, DataError
from recsys.evaluation import evaluate
from recsys.models import Recommender
from recsys.params import Count, Positive, Seed, check_value, random_generator
from recsys.splits import Part

Floats = npt.NDArray[np.float64]
NEIGHBORS: Final = 20
"""Users whose mean distance says how dense the code is around a user."""


def coverage(
    model: Recommender,
    user_items: Any,
    part: Part,
    users: pd.DataFrame | None = None,
    *,
    codes: Recommender | None = None,
    metric: str = "ndcg@10",
    cells: Count = 8,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Measure how represented groups of users are in a model's code, and how good a model's lists are for them.

    Groups of the users of a part with something to find:

    - `density`: tenths of these users by the density of the training users' codes around theirs, the sparsest first;
    - `cell`: the cells of k-means of the training users' codes, the smallest first;
    - each column of `users`: its values, of text the most frequent and `other`; numbers of more than 24 values are cut
      into quarters;
    - `quality`: the worst tenth of these users by the metric itself. It is low by construction: its use is to be
      compared between models.

    Args:
        user_items: the training users, `Interactions` or a matrix, whose codes say what is dense.
        part: users whose lists are measured, such as `split.test`.
        users: columns of users, with their external ids as index; users that it lacks are in the group `unknown`.
        codes: the fitted model whose code it is, where that is another than the model whose lists are measured: to
            measure a model without embeddings, or two models for the same groups.
        metric: a metric with a value per user (see `recsys.metrics`).
        cells: cells of k-means.

    Returns:
        A row per group: `by`, `group`, `share` of the part's measured users, `trained`, the share of the training users
        (NaN where it has no meaning), `density`, the mean rank of its users by density (0 the sparsest, 1 the densest),
        `value` of the metric, its `standard_error`, `gap` to the mean over all users, `n`. The first row is `all`.

    Raises:
        UnsupportedError: the model has no embeddings of users.
        DataError: fewer training users than cells or than neighbors, no user to measure, or a table of users that names
            none of them or one twice.
    """
    cells = check_value("cells", Count, cells)
    coder = model if codes is None else codes
    ids, trained = with_entries(coder, user_items)
    of_training = codes_of(coder, trained)
    if users is not None:
        _check_users(users, ids)
    measured = evaluate(model, part, metric).per_user[metric].to_numpy(np.float64)
    rows = np.flatnonzero(np.isfinite(measured))
    values, known = measured[rows], part.users.ids(rows)
    own = codes_of(coder, sp.csr_matrix(part.context[rows]))
    thickness = log_density(own, of_training, leave_out=_places(part, rows, trained.shape[0], user_items))
    rank = (np.argsort(np.argsort(thickness, kind="stable")) + 0.5) / len(rows)

    table = [("all", "all", np.ones(len(rows), bool), 1.0)]
    tenth = (10 * rank).astype(int)
    table += [("density", f"tenth {k + 1}", tenth == k, np.nan) for k in np.unique(tenth)]
    labels, of_part = _cells(of_training, own, cells, seed)
    for place, cell in enumerate(np.argsort(np.bincount(labels, minlength=cells), kind="stable")):
        table.append(("cell", f"cell {place + 1}", of_part == cell, float((labels == cell).mean())))
    for name in () if users is None else users:
        levels, before, every = _levels(users[name].reindex(known), users[name].reindex(ids))  # type: ignore[index]
        table += [(str(name), level, levels == level, float((before == level).mean())) for level in every]
    lowest = np.zeros(len(rows), bool)
    lowest[np.argsort(values, kind="stable")[: max(1, round(0.1 * len(rows)))]] = True
    table.append(("quality", "worst tenth", lowest, np.nan))
    return pd.DataFrame([_row(*group, values=values, rank=rank) for group in table])


def inverse_density_weights(
    model: Recommender, user_items: Any, *, power: Positive = 1.0, ratio: Positive = 10.0
) -> Floats:
    """Return weights for `fit(user_weights=...)` that rise where a model's code holds few training users.

    w_u ∝ r_u^power with r_u the mean distance to the nearest other codes, at most `ratio` times the least weight. The
    density of d-dimensional codes is ∝ r^−d, whose inverse would give all the weight to a few users: `power` stands in
    place of d. Users without an entry have the least weight.

    Args:
        model: fitted to the same users, or another model with embeddings.

    Returns:
        (n_users,) of mean 1, in the order of the rows.

    Raises:
        UnsupportedError: the model has no embeddings of users.
        DataError: too few users.
        ConfigError: `ratio` is below 1, or `power` not above 0.
    """
    power, ratio = check_value("power", Positive, power), check_value("ratio", Positive, ratio)
    if ratio < 1:
        raise ConfigError(f"ratio must be at least 1, got {ratio}")
    model._check_fitted()
    matrix = model._matrix(user_items)
    rows = np.flatnonzero(np.diff(matrix.indptr))
    codes = codes_of(model, matrix[rows])
    raw = np.exp(-power * log_density(codes, codes, leave_out=np.arange(len(rows))))
    weights = np.full(matrix.shape[0], raw.min())
    weights[rows] = raw
    weights = np.minimum(weights, ratio * raw.min())
    return np.asarray(weights / weights.mean())


def codes_of(model: Recommender, histories: sp.csr_matrix) -> Floats:
    """Return the embeddings of histories, (n, d) float64."""
    return model.encode(histories).astype(np.float64)


def log_density(points: Floats, among: Floats, *, leave_out: npt.NDArray[np.integer] | None = None) -> Floats:
    """Return −log of the mean distance from each point to its nearest `NEIGHBORS` among others, (n,).

    Up to a constant and a factor it is the logarithm of a k-nearest-neighbor density.

    Args:
        leave_out: (n,) row of `among` that is the point itself, -1 where it is not among them.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(among) <= NEIGHBORS:
        raise DataError(f"density among {len(among)} users cannot be told; it takes more than {NEIGHBORS}")
    index = NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(among)
    own = np.full(len(points), -1) if leave_out is None else leave_out
    found = np.empty(len(points))
    for start in range(0, len(points), _BLOCK):
        part = slice(start, start + _BLOCK)
        distances, near = index.kneighbors(points[part])
        itself = near == own[part, None]
        itself[~itself.any(axis=1), -1] = True  # else the farthest is one too many
        found[part] = distances[~itself].reshape(-1, NEIGHBORS).mean(axis=1)
    return np.asarray(-np.log(np.maximum(found, np.finfo(np.float64).tiny)))


_BLOCK: Final = 1024
"""Points whose neighbors are looked for at a time."""


def _places(part: Part, rows: npt.NDArray[np.intp], n_trained: int, user_items: Any) -> npt.NDArray[np.integer]:
    """Return where the users of a part are among the training users that have entries, -1 for strangers."""
    matrix = getattr(user_items, "matrix", user_items)
    place = np.full(matrix.shape[0] + 1, -1)
    place[np.flatnonzero(np.diff(matrix.tocsr().indptr))] = np.arange(n_trained)
    return place[part.user_index[rows]]  # the last place is that of -1


def _cells(
    codes: Floats, own: Floats, cells: int, seed: Seed
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    from sklearn.cluster import KMeans

    if len(codes) < cells:
        raise DataError(f"cells must be at most the number of training users ({len(codes)}), got {cells}")
    state = int(random_generator(seed).integers(2**31))
    means = KMeans(cells, n_init=5, random_state=state).fit(codes)
    return means.labels_, means.predict(own)


def _levels(
    of_part: pd.Series, of_training: pd.Series
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_], list[str]]:
    """Return the group of each user by a column, its values or quarters of numbers that take many, and their order."""
    both = (of_part, of_training)
    whole = of_training.dropna()
    if not pd.api.types.is_numeric_dtype(whole) or whole.nunique() <= _LEVELS:
        common = whole.value_counts().index[:_LEVELS]
        order = [_text(value) for value in sorted(common, key=lambda value: (isinstance(value, str), value))]
        texts = [one.map(lambda value: _text(value) if value in common else "other") for one in both]
    else:
        cuts = np.unique(np.quantile(whole, [0.25, 0.5, 0.75]))
        between = [f"above {low:g} to {high:g}" for low, high in pairwise(cuts)]
        order = [f"up to {cuts[0]:g}", *between, f"above {cuts[-1]:g}"]
        texts = [pd.Series(np.array(order)[np.searchsorted(cuts, one.fillna(0))], index=one.index) for one in both]
    levels, before = (
        np.where(one.isna(), "unknown", text).astype(object) for one, text in zip(both, texts, strict=True)
    )
    found = {*levels, *before}
    return levels, before, [level for level in (*order, "other", "unknown") if level in found]


def _check_users(users: pd.DataFrame, ids: npt.NDArray[Any]) -> None:
    if not users.index.is_unique:
        twice = users.index[users.index.duplicated()][0]
        raise DataError(f"the table of users must have a row per user; {twice} has two")
    if not users.index.isin(ids).any():
        raise DataError(
            f"the index of the table of users holds none of the training users, such as {ids[0]}; set it to their ids"
        )


_LEVELS: Final = 24
"""Values of a column of users that are groups of their own."""


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(
    by: str, group: str, members: npt.NDArray[np.bool_], trained: float, *, values: Floats, rank: Floats
) -> dict[str, Any]:
    own, n = values[members], int(members.sum())
    mean = float(own.mean()) if n else np.nan
    return {
        "by": by,
        "group": group,
        "share": n / len(values),
        "trained": trained,
        "density": float(rank[members].mean()) if n else np.nan,
        "value": mean,
        "standard_error": float(own.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan,
        "gap": mean - float(values.mean()),
        "n": n,
    }
