"""Evaluate a model on a part of a split: top-N lists are made once, and each metric is first computed per user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from tqdm import tqdm

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation.results import RATINGS, Evaluation, mean_over_users
from recsys.interactions import Interactions
from recsys.metrics import Catalog, Lists, Metric, higher_is_better, of, parse, rating
from recsys.metrics.lists import recommendation_counts
from recsys.params import check_count, check_value
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

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Matrix = sp.csr_matrix
Blocks = Callable[[Rows], Iterator[Rows]]
Requested = Mapping[str, tuple[Metric, int]]
Summary = tuple[float, float, int]
"""Value, standard error and number of users."""
Measured = tuple[dict[str, Floats], dict[str, Summary]]
"""Values per user, and their summary, by metric."""


class Ranker(Protocol):
    """What `evaluate` needs of a model; also `predict_pairs` for rmse and mae, and `seen=` if the part has it."""

    def recommend(
        self, userid: Any, user_items: Any, *, N: int, filter_already_liked_items: bool, recalculate_user: bool
    ) -> tuple[Any, Any]:
        """Return ids and scores, each (B, N), for users whose histories are the rows of `user_items`."""


def evaluate(
    model: Ranker,
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

    The model is given each user's context (the known part of the history) and should recommend the target (the part
    held out). Models of this package read all of the context, also where they learned a vector of the user from less of
    it. Items of the context, or of `part.seen` if there is one, are never recommended. List metrics leave out users
    without relevant items. Users not in the training data are passed in separate blocks, with `userid` -1 and
    `recalculate_user=True`: the model must serve them from their context.

    Args:
        model: anything with implicit's `recommend`; for `rmse` and `mae` also
            `predict_pairs(userid, user_items, rows, items) -> (len(rows),)`, ratings of items[k] by row rows[k].
        part: a part of a `Split`, with the model's items as columns.
        metrics: one name or several, such as `ndcg@10` (see `recsys.metrics`).
        min_relevance: only target entries of at least this value are relevant in a list; by default every stored
            entry is, including a stored 0. Errors of ratings always use all entries.
        popularity: the interactions that popularity is counted from, for `novelty`, `average_popularity`,
            `stratified_recall` and `serendipity`; by default what the users of `part` have seen, which is not the
            training data when users are held out.
        item_vectors: (n_items, d) array or sparse matrix for `diversity`: one-hot genres or other features, or a
            model's embeddings. Use the same vectors for all models that are compared.
        batch_size: users per block; affects memory, and of the result at most the last bits of a mean.

    Raises:
        ConfigError: an unknown metric, or none; `diversity` without `item_vectors`.
        DataError: not a part, no relevant target entries, item vectors or an answer of the model in a wrong shape.
        UnsupportedError: the model predicts no ratings but `rmse` or `mae` was requested, or does not take `seen`.
    """
    wanted = requested(metrics, item_vectors)
    check_part(part, "split.test")
    batch_size = check_count("batch_size", batch_size)
    min_relevance = check_value("min_relevance", float | None, min_relevance)
    if not part.target.nnz:
        raise DataError("the part has no target entries to find; split the data in another way")
    n_items = part.target.shape[1]
    if popularity is not None and not (isinstance(popularity, Interactions) and popularity.shape[1] == n_items):
        found = popularity.shape[1] if isinstance(popularity, Interactions) else type(popularity).__name__
        raise DataError(
            f"popularity must be Interactions with the part's {n_items} items as columns, got {found}; pass split.train"
        )
    blocks = partial(_blocks, part.user_index, batch_size, show_progress)
    columns: dict[str, Floats] = {}
    rows: dict[str, Summary] = {}
    per_item, n_ratings = None, {}
    if of_lists := {name: (metric, k) for name, (metric, k) in wanted.items() if not metric.rates}:
        seen = part.context if part.seen is None else part.seen
        catalog = Catalog(seen if popularity is None else popularity.matrix, item_vectors)
        relevant = relevant_entries(part.target, min_relevance)
        columns, rows, per_item = _measure_lists(model, part, of_lists, catalog, relevant, seen, blocks)
    if of_ratings := [metric for metric, _ in wanted.values() if metric.rates]:
        errors, error_rows = _measure_ratings(model, part, of_ratings, blocks)
        columns, rows, n_ratings = columns | errors, rows | error_rows, {RATINGS: np.diff(part.target.indptr)}
    summary = pd.DataFrame([(name, *rows[name]) for name in wanted], columns=["metric", "value", "standard_error", "n"])
    in_order = {name: columns[name] for name in wanted if name in columns}
    return Evaluation(pd.DataFrame({USER: part.users.ids(), **in_order, **n_ratings}), summary, per_item)


@dataclass(frozen=True, eq=False)
class Validation:
    """Measures a model on a validation part; `fit(validation=...)` calls it with the model after each epoch.

    The other fields are arguments of `evaluate`.

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
    popularity: Interactions | None = None
    item_vectors: Any = None
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.part is None:
            raise DataError("the split has no validation part; choose a share above 0 for it when splitting")
        check_part(self.part, "split.validation")
        requested((self.metric, *self.also), self.item_vectors)

    @property
    def higher_is_better(self) -> bool:
        """Direction of `metric`."""
        return higher_is_better(self.metric)

    def __call__(self, model: Ranker) -> dict[str, float]:
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


def requested(metrics: str | Sequence[str], item_vectors: Any) -> dict[str, tuple[Metric, int]]:
    """Return the `Metric` and the cut-off of each requested name; 0 for rmse and mae, which have no cut-off."""
    names = metrics if np.iterable(metrics) and not isinstance(metrics, str) else (metrics,)
    wanted = {name: (of(name), parse(name)[1] or 0) for name in names}
    if not wanted:
        raise ConfigError("expected at least one metric, for instance 'ndcg@10', got none")
    for name, (metric, _) in wanted.items():
        if metric.needs_item_vectors and item_vectors is None:
            raise ConfigError(
                f"{name} needs item vectors; pass item_vectors= with one row per item, such as one-hot genres"
            )
    return wanted


def top_lists(model: Ranker, part: Part, block: Rows, length: int) -> npt.NDArray[np.integer]:
    """Return the lists of a block of rows of a part, (len(block), length); all its users are new, or none is."""
    userid = part.user_index[block]
    if not callable(getattr(model, "recommend", None)):
        raise UnsupportedError(
            f"a model to measure has a method recommend, as implicit's have; got {type(model).__name__}"
        )
    options: dict[str, Any] = {"filter_already_liked_items": True, "recalculate_user": bool(userid[0] < 0)}
    if part.seen is not None:
        if "seen" not in signature(model.recommend).parameters:
            raise UnsupportedError(
                f"recommend of {type(model).__name__} takes no seen=, so it cannot exclude the items in part.seen; "
                "evaluate a part without seen, or use a model of this package"
            )
        options["seen"] = part.seen[block]
    if part.candidates is not None:
        if "items" not in signature(model.recommend).parameters:
            raise UnsupportedError(
                f"recommend of {type(model).__name__} takes no items=, so it cannot choose among some items only; "
                "evaluate a part without candidates, or use a model of this package"
            )
        options["items"] = part.candidates
        length = min(length, len(part.candidates))
    ids = np.asarray(model.recommend(userid, part.context[block], N=length, **options)[0])
    if ids.shape != (len(block), length):
        raise DataError(f"recommend must return ids of shape {(len(block), length)}, empty slots -1, got {ids.shape}")
    return ids


def relevant_entries(target: sp.csr_matrix, min_relevance: float | None) -> sp.csr_matrix:
    """Return the relevant entries of a target: all stored ones, or those of at least `min_relevance`."""
    if min_relevance is None:
        return target
    kept = target.data >= min_relevance
    if not kept.any():
        raise DataError(f"no target entry reaches min_relevance={min_relevance}; the largest is {target.data.max():g}")
    indptr = np.append(0, np.cumsum(kept))[target.indptr]
    return sp.csr_matrix((target.data[kept], target.indices[kept], indptr), shape=target.shape)


def check_part(part: object, example: str) -> None:
    """Raise DataError if this is not a part of a split; the message suggests `example`."""
    if not isinstance(part, Part):
        whole = "a whole split" if isinstance(part, Split) else type(part).__name__
        raise DataError(f"expected one part of a split, got {whole}; pass {example}")


def _measure_lists(
    model: Ranker, part: Part, wanted: Requested, catalog: Catalog, relevant: Matrix, seen: Matrix, blocks: Blocks
) -> tuple[*Measured, pd.DataFrame]:
    """Measure list metrics; the frame counts how often each item is relevant, recommended and a hit."""
    n_rows, n_items = relevant.shape
    users = np.flatnonzero(np.diff(relevant.indptr))
    columns = {name: np.full(n_rows, np.nan) for name, (metric, _) in wanted.items() if metric.per_user}
    counts = {k: np.zeros((2, n_items), dtype=np.int64) for _, k in wanted.values()}
    for block in blocks(users):
        ids = top_lists(model, part, block, min(n_items, max(counts)))
        lists = Lists(catalog, ids, relevant[block], seen[block])
        for name, values in columns.items():
            metric, k = wanted[name]
            values[block] = metric.of_lists(lists, k)
        hits = np.where(lists.hits, ids, -1)
        for k, (recommended, hit) in counts.items():
            recommended += recommendation_counts(ids, n_items, k)
            hit += recommendation_counts(hits, n_items, k)
    rows = {name: mean_over_users(values) for name, values in columns.items()}
    for name, (metric, k) in wanted.items():
        if not metric.per_user:
            able = slice(None) if part.candidates is None else part.candidates
            rows[name] = (metric.of_all_lists(counts[k][0][able], catalog), float("nan"), len(users))
    per_item = {"relevant": np.bincount(relevant.indices, minlength=n_items)}
    for k in sorted(counts):
        per_item |= {f"recommended@{k}": counts[k][0], f"hits@{k}": counts[k][1]}
    return columns, rows, pd.DataFrame(per_item)


def _measure_ratings(model: Ranker, part: Part, metrics: Sequence[Metric], blocks: Blocks) -> Measured:
    """Measure rmse, mae and other errors of predicted ratings."""
    predict = getattr(model, "predict_pairs", None)
    if predict is None:
        raise UnsupportedError(
            f"{type(model).__name__} predicts no ratings, so it has no "
            f"{' or '.join(metric.name for metric in metrics)}; ask for a list metric, such as 'ndcg@10'"
        )
    counts = np.diff(part.target.indptr)
    sums = {metric: np.zeros(len(counts)) for metric in metrics}
    for block in blocks(np.flatnonzero(counts)):
        target = part.target[block]
        rows = np.repeat(np.arange(len(block)), np.diff(target.indptr))
        predicted = np.asarray(predict(part.user_index[block], part.context[block], rows, target.indices))
        if predicted.shape != target.data.shape:
            raise DataError(f"expected one prediction per rating ({target.data.shape}), got {predicted.shape}")
        if wrong := np.count_nonzero(~np.isfinite(predicted)):
            raise DataError(f"{wrong} of {len(predicted)} predicted ratings are NaN or infinite; check the model")
        for metric, total in sums.items():
            errors = metric.of_ratings(predicted, target.data)
            total[block] = np.bincount(rows, weights=errors, minlength=len(block))
    n = int(np.count_nonzero(counts))
    columns = {metric.name: rating.per_user(total, counts, root=metric.root) for metric, total in sums.items()}
    return columns, {m.name: (*rating.mean_error(total, counts, root=m.root), n) for m, total in sums.items()}


def _blocks(user_index: npt.NDArray[np.int32], size: int, show_progress: bool, users: Rows) -> Iterator[Rows]:
    """Yield blocks of `users`, each of new users only or of training users only."""
    new = user_index[users] < 0
    with tqdm(total=len(users), unit="user", desc="evaluate", disable=not show_progress) as bar:
        for group in (users[~new], users[new]):
            for start in range(0, len(group), size):
                block = group[start : start + size]
                yield block
                bar.update(len(block))
