"""Evaluate a model on a part of a split: one pass of top-N lists, every metric from it, per user first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from tqdm import tqdm

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from recsys.interactions import Interactions
from recsys.metrics import CATALOGUE, EXPOSURE, RANKING, RATING, beyond, higher_is_better, parse, ranking, rating
from recsys.splits import Part, Split

DEFAULT: Final = (
    "ndcg@10",
    "ndcg@100",
    "truncated_recall@20",
    "truncated_recall@50",
    "recall@20",
    "map@10",
    "mrr@10",
    "hit_rate@10",
    "coverage@10",
    "novelty@10",
)
"""Metrics of `evaluate` unless others are named."""

RATINGS: Final = "ratings"
"""Column of a user's number of held-out ratings, beside `rmse` and `mae` per user."""

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


class Recommender(Protocol):
    """What evaluation asks of a model; for `rmse` and `mae` it asks `predict_pairs` as well."""

    def recommend(
        self, userid: Any, user_items: Any, *, N: int, filter_already_liked_items: bool, recalculate_user: bool
    ) -> tuple[Any, Any]:
        """Return ids and scores, each (B, N), for users whose histories are the rows of `user_items`."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a model scored on a part: per user, and over all users."""

    per_user: pd.DataFrame
    """`user_id` and one column per metric that has a value per user. NaN: the user has no relevant items (for `rmse`
    and `mae`: no held-out ratings; for `novelty` and `average_popularity` also: an empty list). Beside `rmse` and `mae`
    stands `ratings`, the number that they are means over."""
    summary: pd.DataFrame
    """`metric, value, standard_error, n`: n counts the users that the value rests on. Of metrics with a value per user
    the mean over those users and std(ddof=1) / sqrt(n); of `rmse` and `mae` the error over all ratings (see
    `recsys.metrics.rating`); `coverage` and `gini` have no standard error (NaN)."""

    @property
    def values(self) -> dict[str, float]:
        """Value of each metric by its name."""
        return dict(zip(self.summary["metric"], self.summary["value"].tolist(), strict=True))

    def __getitem__(self, name: str) -> float:
        values = self.values
        if name not in values:
            raise ConfigError(f"metric {name!r} was not evaluated{did_you_mean(name, values)}")
        return values[name]

    def only(self, metrics: Sequence[str]) -> Evaluation:
        """Return the evaluation of these metrics alone, in this order."""
        summary = self.summary.set_index("metric").loc[list(metrics)].reset_index()
        columns = [USER, *(name for name in metrics if name in self.per_user)]
        if RATINGS in self.per_user and any(name in RATING for name in metrics):
            columns.append(RATINGS)
        return Evaluation(self.per_user[columns], summary)

    def __repr__(self) -> str:
        width = max(len(name) for name in self.summary["metric"])
        lines = [f"{'metric':<{width}}  {'value':>10}  {'± s.e.':>8}  {'users':>9}"]
        for name, value, error, n in self.summary.itertuples(index=False, name=None):
            known = "-" if np.isnan(error) else f"{error:.4f}"
            lines.append(f"{name:<{width}}  {value:>10,.4f}  {known:>8}  {n:>9,}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Validation:
    """A measure of a model in training: called once per epoch, it says how good the model is on a validation part.

    Raises:
        ConfigError: an unknown metric.
        DataError: the split has no validation part.
    """

    part: Part | None
    """Users to evaluate, such as `split.validation`."""
    metric: str = "ndcg@10"
    """The metric that chooses the best epoch."""
    also: tuple[str, ...] = ()
    """Further metrics to report."""
    min_relevance: float | None = None
    """As in `evaluate`."""
    popularity: Interactions | None = None
    """As in `evaluate`."""
    batch_size: int = 1024
    """As in `evaluate`."""

    def __post_init__(self) -> None:
        if self.part is None:
            raise DataError("the split has no validation part; choose a share above 0 for it when splitting")
        _check_part(self.part, "split.validation")
        for name in (self.metric, *self.also):
            parse(name)

    @property
    def higher_is_better(self) -> bool:
        """Direction of `metric`."""
        return higher_is_better(self.metric)

    def __call__(self, model: Recommender) -> dict[str, float]:
        """Return the value of `metric`, then of `also`, by name."""
        return evaluate(
            model,
            cast(Part, self.part),
            (self.metric, *self.also),
            min_relevance=self.min_relevance,
            popularity=self.popularity,
            batch_size=self.batch_size,
        ).values


def evaluate(
    model: Recommender,
    part: Part,
    metrics: str | Sequence[str] = DEFAULT,
    *,
    min_relevance: float | None = None,
    popularity: Interactions | None = None,
    batch_size: int = 1024,
    show_progress: bool = False,
) -> Evaluation:
    """Measure a model on a part of a split.

    Each user's context is what the model reads and is never recommended; the target is what it must find. A user
    without relevant items takes no part in any metric of a list. Users that training never saw are passed with
    `userid` -1 and `recalculate_user=True`, in blocks of their own: the model must serve them from their context.

    Args:
        model: anything with `recommend` as in implicit; for `rmse` and `mae` with
            `predict_pairs(userid, user_items, rows, items) -> (len(rows),)`, the rating of items[k] by row rows[k].
        part: a part of a `Split`, with the model's items as columns.
        metrics: one name or several, such as `ndcg@10` (see `recsys.metrics`).
        min_relevance: only target entries of at least this value are relevant in a list; by default every stored
            entry is, a stored 0 too. `rmse` and `mae` always read all entries.
        popularity: the interactions that `novelty` and `average_popularity` count; by default the context of `part`,
            which is not the training data when users are held out.
        batch_size: users per block; memory grows with it, the result does not depend on it.
        show_progress: show a progress bar.

    Raises:
        ConfigError: an unknown metric, or none at all.
        DataError: not a part, or one without a target or a relevant one; or the model answers in a wrong shape.
        UnsupportedError: ratings are asked of a model that predicts none.
    """
    wanted = _parse_all(metrics)
    _check_part(part, "split.test")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not part.target.nnz:
        raise DataError("the part has no target: nothing is held out to be found; split the data otherwise")
    columns: dict[str, Floats] = {}
    counted: dict[str, Rows] = {}
    rows: dict[str, tuple[float, float, int]] = {}

    listed = {name: (kind, k) for name, (kind, k) in wanted.items() if k is not None}
    if listed:
        relevant = _relevant(part.target, min_relevance)
        found, counts = _from_lists(model, part, relevant, listed, popularity, batch_size, show_progress)
        columns |= found
        rows |= {name: _mean(values) for name, values in found.items()}
        n_users = int(np.count_nonzero(np.diff(relevant.indptr)))
        for name, (kind, k) in listed.items():
            if kind in CATALOGUE:
                rows[name] = (CATALOGUE[kind](counts[k]), float("nan"), n_users)

    rated = [cast(Literal["rmse", "mae"], name) for name in wanted if name in RATING]
    if rated:
        ratings = np.diff(part.target.indptr)
        counted = {RATINGS: ratings}
        for kind, sums in _error_sums(model, part, rated, batch_size, show_progress).items():
            columns[kind] = rating.per_user(sums, ratings, kind)
            value, error = (rating.rmse if kind == "rmse" else rating.mae)(sums, ratings)
            rows[kind] = (value, error, int(np.count_nonzero(ratings)))

    summary = pd.DataFrame([(name, *rows[name]) for name in wanted], columns=["metric", "value", "standard_error", "n"])
    found_columns = {name: columns[name] for name in wanted if name in columns}
    per_user = pd.DataFrame({USER: part.users.ids(), **found_columns, **counted})
    return Evaluation(per_user, summary)


def along_k(metrics: Sequence[str], n_items: int) -> list[str]:
    """Return the metrics, and those of lists at further cut-offs too: points of a curve, from the same top-N pass."""
    found = dict.fromkeys(metrics)
    for kind, k in map(parse, metrics):
        if k is not None:
            found |= dict.fromkeys(f"{kind}@{cut}" for cut in (1, 2, 5, 10, 20, 50, 100) if cut <= max(1, n_items // 2))
    return list(found)


def table(evaluations: Mapping[str, Evaluation], *, sort_by: str | None = None) -> pd.DataFrame:
    """Return the models' values side by side, the best first.

    Args:
        evaluations: evaluation of each model, by the model's name.
        sort_by: metric to sort by; the first metric by default.

    Returns:
        One row per model; columns (metric, `value`) and (metric, `standard_error`), NaN where a model has none.

    Raises:
        ConfigError: no model was evaluated on `sort_by`.
        DataError: there are no evaluations.
    """
    if not evaluations:
        raise DataError("expected at least one evaluation to compare, got none")
    metrics = list(dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.summary["metric"]))
    sort_by = metrics[0] if sort_by is None else sort_by
    if sort_by not in metrics:
        raise ConfigError(f"no model was evaluated on {sort_by!r}{did_you_mean(sort_by, metrics)}")
    fields = ["value", "standard_error"]
    lines = [
        evaluation.summary.set_index("metric")[fields].reindex(metrics).to_numpy().ravel()
        for evaluation in evaluations.values()
    ]
    frame = pd.DataFrame(
        np.array(lines),
        index=pd.Index(list(evaluations), name="model"),
        columns=pd.MultiIndex.from_product([metrics, fields]),
    )
    return frame.sort_values((sort_by, "value"), ascending=not higher_is_better(sort_by), kind="stable")


def formatted(comparison: pd.DataFrame, *, digits: int = 4) -> pd.DataFrame:
    """Return a `table` as text for people: `0.3212 ± 0.0021` per cell, without ± where there is no standard error.

    Args:
        comparison: a frame made by `table`.
        digits: decimal places.
    """

    def cell(value: float, error: float) -> str:
        if np.isnan(value):
            return "-"
        return f"{value:.{digits}f}" if np.isnan(error) else f"{value:.{digits}f} ± {error:.{digits}f}"

    names = list(dict.fromkeys(comparison.columns.get_level_values(0)))
    cells = {
        name: [cell(*pair) for pair in zip(comparison[name, "value"], comparison[name, "standard_error"], strict=True)]
        for name in names
    }
    return pd.DataFrame(cells, index=comparison.index)


def _check_part(part: object, example: str) -> None:
    if not isinstance(part, Part):
        whole = "a whole split" if isinstance(part, Split) else type(part).__name__
        raise DataError(f"expected one part of a split, got {whole}; pass {example}")


def _parse_all(metrics: str | Sequence[str]) -> dict[str, tuple[str, int | None]]:
    names = (metrics,) if isinstance(metrics, str) else metrics
    wanted = {name: parse(name) for name in names}
    if not wanted:
        raise ConfigError("expected at least one metric, for instance 'ndcg@10', got none")
    return wanted


def _relevant(target: sp.csr_matrix, min_relevance: float | None) -> sp.csr_matrix:
    if min_relevance is None:
        return target
    kept = target.data >= min_relevance
    if not kept.any():
        raise DataError(f"no target entry reaches min_relevance={min_relevance}; the largest is {target.data.max():g}")
    indptr = np.append(0, np.cumsum(kept))[target.indptr]
    return sp.csr_matrix((target.data[kept], target.indices[kept], indptr), shape=target.shape)


def _blocks(users: Rows, part: Part, batch_size: int, show_progress: bool) -> Iterator[Rows]:
    """Yield row numbers of `users`, known and unknown users never in one block."""
    unseen = part.user_index[users] < 0
    with tqdm(total=len(users), unit="user", disable=not show_progress) as bar:
        for group in (users[~unseen], users[unseen]):
            for start in range(0, len(group), batch_size):
                block = group[start : start + batch_size]
                yield block
                bar.update(len(block))


def _from_lists(
    model: Recommender,
    part: Part,
    relevant: sp.csr_matrix,
    wanted: Mapping[str, tuple[str, int]],
    popularity: Interactions | None,
    batch_size: int,
    show_progress: bool,
) -> tuple[dict[str, Floats], dict[int, npt.NDArray[np.int64]]]:
    """Return per-user values by name, and how often each item is recommended by cut-off."""
    n_rows, n_items = relevant.shape
    n_relevant = np.diff(relevant.indptr)
    longest = min(n_items, max(k for _, k in wanted.values()))
    columns = {name: np.full(n_rows, np.nan) for name, (kind, _) in wanted.items() if kind not in CATALOGUE}
    counts = {k: np.zeros(n_items, dtype=np.int64) for kind, k in wanted.values() if kind in CATALOGUE}
    seen = part.context if popularity is None else popularity.matrix
    if seen.shape[1] != n_items:
        raise DataError(f"popularity must count the part's {n_items} items, got {seen.shape[1]}; pass split.train")
    held = np.bincount(seen.indices, minlength=n_items)

    for block in _blocks(np.flatnonzero(n_relevant), part, batch_size, show_progress):
        userid = part.user_index[block]
        ids = np.asarray(
            model.recommend(
                userid,
                part.context[block],
                N=longest,
                filter_already_liked_items=True,
                recalculate_user=bool(userid[0] < 0),
            )[0]
        )
        if ids.shape != (len(block), longest):
            raise DataError(
                f"recommend must return ids of shape {(len(block), longest)}, empty slots -1, got {ids.shape}"
            )
        hits = ranking.hits(ids, relevant[block])
        for name, (kind, k) in wanted.items():
            if kind in RANKING:
                columns[name][block] = RANKING[kind](hits, n_relevant[block], k)
            elif kind == "novelty":
                columns[name][block] = beyond.novelty(ids, held, seen.shape[0], k)
            elif kind in EXPOSURE:
                columns[name][block] = beyond.average_popularity(ids, held, k)
        for k in counts:
            counts[k] += beyond.recommendation_counts(ids, n_items, k)
    return columns, counts


def _error_sums(
    model: Recommender, part: Part, kinds: Sequence[Literal["rmse", "mae"]], batch_size: int, show_progress: bool
) -> dict[Literal["rmse", "mae"], Floats]:
    predict = getattr(model, "predict_pairs", None)
    if predict is None:
        raise UnsupportedError(
            f"{type(model).__name__} predicts no ratings, so it has no {' or '.join(kinds)}; "
            "ask for a metric of its lists, such as 'ndcg@10'"
        )
    totals = {kind: np.zeros(part.target.shape[0]) for kind in kinds}
    for block in _blocks(np.flatnonzero(np.diff(part.target.indptr)), part, batch_size, show_progress):
        target = part.target[block]
        rows = np.repeat(np.arange(len(block)), np.diff(target.indptr))
        predicted = np.asarray(predict(part.user_index[block], part.context[block], rows, target.indices))
        for kind in kinds:
            totals[kind][block] = rating.error_sums(predicted, target.data, rows, len(block), kind)
    return totals


def _mean(values: Floats) -> tuple[float, float, int]:
    """Return mean, standard error and count of the values that are not NaN."""
    known = values[~np.isnan(values)]
    n = len(known)
    if not n:
        return float("nan"), float("nan"), 0
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"), n
