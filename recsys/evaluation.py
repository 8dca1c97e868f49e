"""Evaluate a model on a part of a split: one pass of top-N lists, every metric from it, per user first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from tqdm import tqdm

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from recsys.interactions import Interactions
from recsys.metrics import (
    CATALOGUE,
    DIVERSITY,
    RANKING,
    RATING,
    beyond,
    higher_is_better,
    parse,
    ranking,
    rating,
    unpopular,
)
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
    """What evaluation asks of a model; for `rmse` and `mae` `predict_pairs` as well, for a part with `seen` that."""

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
    and `mae`: no held-out ratings; for `novelty` and `average_popularity` also: an empty list; for `diversity`: fewer
    than two items in it). Beside `rmse` and `mae` stands `ratings`, the number that they are means over."""
    summary: pd.DataFrame
    """`metric, value, standard_error, n`: n counts the users that the value rests on. Of metrics with a value per user
    the mean over those users and std(ddof=1) / sqrt(n); of `rmse` and `mae` the error over all ratings (see
    `recsys.metrics.rating`); `coverage` and `gini` have no standard error (NaN)."""
    per_item: pd.DataFrame | None = None
    """Row per item, in the order of the part's columns: `relevant`, its relevant entries, and for each cut-off k of a
    metric of lists `recommended@k`, in how many lists it stands, and `hits@k`, in how many of them it is relevant.
    None where no list was asked for."""

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
        return Evaluation(self.per_user[columns], summary, self.per_item)

    def by(self, groups: pd.Series) -> pd.DataFrame:
        """Return `metric, group, value, standard_error, n`: the metrics over the users of each group, as in `summary`.

        Only metrics with a value per user: `coverage` and `gini` belong to all lists together. A group without any
        value has NaN and n = 0.

        Args:
            groups: group of each user, indexed by user id: a column of a table of users, or what
                `recsys.breakdown.activity_groups` makes. Users of it that were not evaluated are left out.

        Raises:
            DataError: not such a series, a user twice in it, or an evaluated user without a group.
        """
        if not isinstance(groups, pd.Series):
            raise DataError(f"groups must be a Series of groups indexed by user id, got {type(groups).__name__}")
        if not groups.index.is_unique:
            twice = groups.index[groups.index.duplicated()]
            raise DataError(f"{len(twice)} rows of the groups repeat a user, for instance {twice[0]!r}")
        users = pd.Index(self.per_user[USER])
        found = groups.reindex(users)
        without = found.isna().to_numpy()
        if without.any():
            raise DataError(
                f"{int(without.sum())} of the {len(users)} evaluated users have no group, for instance "
                f"{users[int(without.argmax())]!r}; index the groups by user id and fill in what is missing"
            )
        rows = []
        for metric in self.summary["metric"]:
            if metric in self.per_user:
                for group, lines in self.per_user.groupby(found.array, observed=True):
                    rows.append((metric, group, *_of_users(lines, metric)))
        table_ = pd.DataFrame(rows, columns=["metric", "group", "value", "standard_error", "n"])
        return table_.astype({"group": found.dtype})

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
    item_vectors: Any = None
    """As in `evaluate`."""
    batch_size: int = 1024
    """As in `evaluate`."""

    def __post_init__(self) -> None:
        if self.part is None:
            raise DataError("the split has no validation part; choose a share above 0 for it when splitting")
        _check_part(self.part, "split.validation")
        _parse_all((self.metric, *self.also), self.item_vectors)

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
            item_vectors=self.item_vectors,
            batch_size=self.batch_size,
        ).values


def evaluate(
    model: Recommender,
    part: Part,
    metrics: str | Sequence[str] = DEFAULT,
    *,
    min_relevance: float | None = None,
    popularity: Interactions | None = None,
    item_vectors: Any = None,
    batch_size: int = 1024,
    show_progress: bool = False,
) -> Evaluation:
    """Measure a model on a part of a split.

    Each user's context is what the model reads; it, or `part.seen` where there is one, is never recommended; the target
    is what it must find. A user without relevant items takes no part in any metric of a list. Users that training never
    saw are passed with `userid` -1 and `recalculate_user=True`, in blocks of their own: the model must serve them from
    their context.

    Args:
        model: anything with `recommend` as in implicit; for `rmse` and `mae` with
            `predict_pairs(userid, user_items, rows, items) -> (len(rows),)`, the rating of items[k] by row rows[k].
        part: a part of a `Split`, with the model's items as columns.
        metrics: one name or several, such as `ndcg@10` (see `recsys.metrics`).
        min_relevance: only target entries of at least this value are relevant in a list; by default every stored
            entry is, a stored 0 too. `rmse` and `mae` always read all entries.
        popularity: the interactions that tell how popular an item is, for `novelty`, `average_popularity`,
            `stratified_recall` and `serendipity`; by default what is known of the users of `part`, which is not the
            training data when users are held out.
        item_vectors: (n_items, d) array or sparse matrix for `diversity`: one-hot genres or other features, or a
            model's embeddings. Compare models by the same vectors, not each by its own.
        batch_size: users per block; memory grows with it, the result does not depend on it.
        show_progress: show a progress bar.

    Raises:
        ConfigError: an unknown metric, or none at all; `diversity` without `item_vectors`.
        DataError: not a part, or one without a target or a relevant one; vectors that are not the items'; or the model
            answers in a wrong shape.
        UnsupportedError: ratings are asked of a model that predicts none, or `seen` of one that does not take it.
    """
    wanted = _parse_all(metrics, item_vectors)
    _check_part(part, "split.test")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not part.target.nnz:
        raise DataError("the part has no target: nothing is held out to be found; split the data otherwise")
    columns: dict[str, Floats] = {}
    counted: dict[str, Rows] = {}
    rows: dict[str, tuple[float, float, int]] = {}
    per_item = None

    listed = {name: (kind, k) for name, (kind, k) in wanted.items() if k is not None}
    if listed:
        relevant = relevant_entries(part.target, min_relevance)
        found, per_item = _from_lists(
            model, part, relevant, listed, popularity, item_vectors, batch_size, show_progress
        )
        columns |= found
        rows |= {name: _mean(values) for name, values in found.items()}
        n_users = int(np.count_nonzero(np.diff(relevant.indptr)))
        for name, (kind, k) in listed.items():
            if kind in CATALOGUE:
                rows[name] = (CATALOGUE[kind](per_item[f"recommended@{k}"].to_numpy()), float("nan"), n_users)

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
    return Evaluation(per_user, summary, per_item)


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


def _parse_all(metrics: str | Sequence[str], item_vectors: Any) -> dict[str, tuple[str, int | None]]:
    names = (metrics,) if isinstance(metrics, str) else metrics
    wanted = {name: parse(name) for name in names}
    if not wanted:
        raise ConfigError("expected at least one metric, for instance 'ndcg@10', got none")
    varied = [name for name, (kind, _) in wanted.items() if kind in DIVERSITY]
    if varied and item_vectors is None:
        raise ConfigError(
            f"{varied[0]} compares items by their vectors; pass item_vectors= with one row per item, "
            "such as one-hot genres"
        )
    return wanted


def relevant_entries(target: sp.csr_matrix, min_relevance: float | None) -> sp.csr_matrix:
    """Return the entries of a target that count as relevant: all stored ones, or those of at least `min_relevance`."""
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
    with tqdm(total=len(users), unit="user", desc="evaluate", disable=not show_progress) as bar:
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
    item_vectors: Any,
    batch_size: int,
    show_progress: bool,
) -> tuple[dict[str, Floats], pd.DataFrame]:
    """Return per-user values by name, and the counts of each item."""
    n_rows, n_items = relevant.shape
    n_relevant = np.diff(relevant.indptr)
    longest = min(n_items, max(k for _, k in wanted.values()))
    columns = {name: np.full(n_rows, np.nan) for name, (kind, _) in wanted.items() if kind not in CATALOGUE}
    counts = {k: np.zeros((2, n_items), dtype=np.int64) for _, k in wanted.values()}
    known = part.context if part.seen is None else part.seen
    counted = known if popularity is None else popularity.matrix
    if counted.shape[1] != n_items:
        raise DataError(f"popularity must count the part's {n_items} items, got {counted.shape[1]}; pass split.train")
    held = np.bincount(counted.indices, minlength=n_items)
    kinds = {kind for kind, _ in wanted.values()}
    weight = unpopular.weights(held)
    place = unpopular.popular_first(held) if "serendipity" in kinds else None
    units = beyond.unit_rows(item_vectors, n_items) if "diversity" in kinds else None

    for block in _blocks(np.flatnonzero(n_relevant), part, batch_size, show_progress):
        ids = top_lists(model, part, block, longest)
        hits = ranking.hits(ids, relevant[block])
        places = ids if place is None else unpopular.popular_places(ids, place, known[block])
        for name, (kind, k) in wanted.items():
            if kind in RANKING:
                columns[name][block] = RANKING[kind](hits, n_relevant[block], k)
            elif kind == "novelty":
                columns[name][block] = beyond.novelty(ids, held, counted.shape[0], k)
            elif kind == "average_popularity":
                columns[name][block] = beyond.average_popularity(ids, held, k)
            elif kind == "stratified_recall":
                columns[name][block] = unpopular.stratified_recall(hits, ids, relevant[block], weight, k)
            elif kind == "serendipity":
                columns[name][block] = unpopular.serendipity(hits, places, n_relevant[block], k)
            elif kind == "diversity":
                columns[name][block] = beyond.diversity(ids, units, k)
        right = np.where(hits, ids, -1)
        for k in counts:
            counts[k][0] += beyond.recommendation_counts(ids, n_items, k)
            counts[k][1] += beyond.recommendation_counts(right, n_items, k)
    per_item = {"relevant": np.bincount(relevant.indices, minlength=n_items)}
    for k in sorted(counts):
        per_item |= {f"recommended@{k}": counts[k][0], f"hits@{k}": counts[k][1]}
    return columns, pd.DataFrame(per_item)


def top_lists(model: Recommender, part: Part, block: Rows, length: int) -> npt.NDArray[np.integer]:
    """Return the lists that the model is measured by, (len(block), length), of rows of a part.

    Args:
        block: users whom training saw, or users whom it never saw, not both.
    """
    userid = part.user_index[block]
    met: dict[str, Any] = {}
    if part.seen is not None:
        if "seen" not in signature(model.recommend).parameters:
            raise UnsupportedError(
                f"recommend of {type(model).__name__} takes no seen=, so it cannot leave out more than it reads; "
                "evaluate a part without seen, or a model of this package"
            )
        met["seen"] = part.seen[block]
    ids = np.asarray(
        model.recommend(
            userid,
            part.context[block],
            N=length,
            filter_already_liked_items=True,
            recalculate_user=bool(userid[0] < 0),
            **met,
        )[0]
    )
    if ids.shape != (len(block), length):
        raise DataError(f"recommend must return ids of shape {(len(block), length)}, empty slots -1, got {ids.shape}")
    return ids


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


def _of_users(lines: pd.DataFrame, metric: str) -> tuple[float, float, int]:
    """Return value, standard error and count of a metric over some users."""
    values = lines[metric].to_numpy(dtype=np.float64)
    if metric not in RATING or np.isnan(values).all():
        return _mean(values)
    counts = lines[RATINGS].to_numpy()
    sums = np.nan_to_num(values**2 if metric == "rmse" else values) * counts
    return (*(rating.rmse if metric == "rmse" else rating.mae)(sums, counts), int(np.count_nonzero(counts)))


def _mean(values: Floats) -> tuple[float, float, int]:
    """Return mean, standard error and count of the values that are not NaN."""
    known = values[~np.isnan(values)]
    n = len(known)
    if not n:
        return float("nan"), float("nan"), 0
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"), n
