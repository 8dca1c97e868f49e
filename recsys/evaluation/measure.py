"""Evaluate a model on a part of a split: one pass of top-N lists, every metric from it, per user first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from tqdm import tqdm

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation.lists import Ranker, check_part, relevant_entries, top_lists
from recsys.evaluation.results import RATINGS, Evaluation, mean_over_users
from recsys.interactions import Interactions
from recsys.metrics import Catalog, Lists, Metric, beyond, of, parse, rating
from recsys.splits import Part

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
Summary = tuple[float, float, int]
"""Value, standard error and number of users."""


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

    The model reads each user's context. It never recommends items of the context, or of `part.seen` if there is one;
    the target is what it should find. List metrics leave out users without relevant items. Users not in the training
    data are passed with `userid` -1 and `recalculate_user=True`, in blocks of their own: the model must serve them from
    their context.

    Args:
        model: anything with implicit's `recommend`; for `rmse` and `mae` also
            `predict_pairs(userid, user_items, rows, items) -> (len(rows),)`, the rating of items[k] by row rows[k].
        part: a part of a `Split`, with the model's items as columns.
        metrics: one name or several, such as `ndcg@10` (see `recsys.metrics`).
        min_relevance: only target entries of at least this value are relevant in a list; by default every stored
            entry is, including a stored 0. Errors of ratings always use all entries.
        popularity: the interactions that popularity is counted from, for `novelty`, `average_popularity`,
            `stratified_recall` and `serendipity`; by default what the users of `part` have seen, which is not the
            training data when users are held out.
        item_vectors: (n_items, d) array or sparse matrix for `diversity`: one-hot genres or other features, or a
            model's embeddings. Use the same vectors for all models that are compared.
        batch_size: users per block; affects memory, not the result.
        show_progress: show a progress bar.

    Raises:
        ConfigError: an unknown metric, or none; `diversity` without `item_vectors`.
        DataError: not a part, or one without relevant target entries; vectors that do not match the items; or the model
            answers in a wrong shape.
        UnsupportedError: the model predicts no ratings but `rmse` or `mae` was requested, or does not take `seen`.
    """
    wanted = requested(metrics, item_vectors)
    check_part(part, "split.test")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not part.target.nnz:
        raise DataError("the part has no target entries to find; split the data in another way")
    one_pass = _Pass(model, part, batch_size, show_progress)
    catalog = Catalog(_counted(part, popularity), item_vectors)
    columns, rows, per_item = one_pass.lists(wanted, catalog, min_relevance)
    errors, error_rows, n_ratings = one_pass.ratings([metric for metric, _ in wanted.values() if metric.rates])
    columns, rows = columns | errors, rows | error_rows
    summary = pd.DataFrame([(name, *rows[name]) for name in wanted], columns=["metric", "value", "standard_error", "n"])
    in_order = {name: columns[name] for name in wanted if name in columns}
    return Evaluation(pd.DataFrame({USER: part.users.ids(), **in_order, **n_ratings}), summary, per_item)


def requested(metrics: str | Sequence[str], item_vectors: Any) -> dict[str, tuple[Metric, int]]:
    """Return record and cut-off of each requested metric by its name; the cut-off of an error of ratings is 0.

    Raises:
        ConfigError: an unknown metric, none at all, or one that needs item vectors if there are none.
    """
    names = (metrics,) if isinstance(metrics, str) else metrics
    wanted = {name: (of(name), parse(name)[1] or 0) for name in names}
    if not wanted:
        raise ConfigError("expected at least one metric, for instance 'ndcg@10', got none")
    for name, (metric, _) in wanted.items():
        if metric.needs_item_vectors and item_vectors is None:
            raise ConfigError(
                f"{name} reads vectors of the items; pass item_vectors= with one row per item, such as one-hot genres"
            )
    return wanted


@dataclass(frozen=True)
class _Pass:
    """One pass over the users of a part."""

    model: Ranker
    part: Part
    batch_size: int
    show_progress: bool

    def lists(
        self, wanted: Mapping[str, tuple[Metric, int]], catalog: Catalog, min_relevance: float | None
    ) -> tuple[dict[str, Floats], dict[str, Summary], pd.DataFrame | None]:
        """Return values per user and summaries by metric, and the counts of each item; None without list metrics."""
        wanted = {name: found for name, found in wanted.items() if not found[0].rates}
        if not wanted:
            return {}, {}, None
        relevant = relevant_entries(self.part.target, min_relevance)
        n_rows, n_items = relevant.shape
        users = np.flatnonzero(np.diff(relevant.indptr))
        columns = {name: np.full(n_rows, np.nan) for name, (metric, _) in wanted.items() if metric.per_user}
        counts = {k: np.zeros((2, n_items), dtype=np.int64) for _, k in wanted.values()}
        seen = self.part.context if self.part.seen is None else self.part.seen
        for block in self._blocks(users):
            ids = top_lists(self.model, self.part, block, min(n_items, max(counts)))
            lists = Lists(catalog, ids, relevant[block], seen[block])
            for name, values in columns.items():
                metric, k = wanted[name]
                values[block] = metric.of_lists(lists, k)
            hits = np.where(lists.hits, ids, -1)
            for k, (recommended, hit) in counts.items():
                recommended += beyond.recommendation_counts(ids, n_items, k)
                hit += beyond.recommendation_counts(hits, n_items, k)
        rows = {name: mean_over_users(values) for name, values in columns.items()}
        for name, (metric, k) in wanted.items():
            if not metric.per_user:
                rows[name] = (metric.of_all_lists(counts[k][0], catalog), float("nan"), len(users))
        per_item = {"relevant": np.bincount(relevant.indices, minlength=n_items)}
        for k in sorted(counts):
            per_item |= {f"recommended@{k}": counts[k][0], f"hits@{k}": counts[k][1]}
        return columns, rows, pd.DataFrame(per_item)

    def ratings(self, metrics: Sequence[Metric]) -> tuple[dict[str, Floats], dict[str, Summary], dict[str, Rows]]:
        """Return errors per user and summaries by metric, and the column of the number of ratings; empty for none."""
        if not metrics:
            return {}, {}, {}
        predict = getattr(self.model, "predict_pairs", None)
        if predict is None:
            raise UnsupportedError(
                f"{type(self.model).__name__} predicts no ratings, so it has no "
                f"{' or '.join(metric.name for metric in metrics)}; ask for a list metric, such as 'ndcg@10'"
            )
        counts = np.diff(self.part.target.indptr)
        sums = {metric.name: np.zeros(len(counts)) for metric in metrics}
        for block in self._blocks(np.flatnonzero(counts)):
            target = self.part.target[block]
            rows = np.repeat(np.arange(len(block)), np.diff(target.indptr))
            predicted = np.asarray(predict(self.part.user_index[block], self.part.context[block], rows, target.indices))
            rating.check_predictions(predicted, target.data)
            for metric in metrics:
                errors = metric.of_ratings(predicted, target.data)
                sums[metric.name][block] = rating.sums_per_user(errors, rows, len(block))
        columns = {m.name: rating.per_user(sums[m.name], counts, root=m.root) for m in metrics}
        n = int(np.count_nonzero(counts))
        summary = {m.name: (*rating.mean_error(sums[m.name], counts, root=m.root), n) for m in metrics}
        return columns, summary, {RATINGS: counts}

    def _blocks(self, users: Rows) -> Iterator[Rows]:
        """Yield rows of `users`, never users of the training data and new users in one block."""
        new = self.part.user_index[users] < 0
        with tqdm(total=len(users), unit="user", desc="evaluate", disable=not self.show_progress) as bar:
            for group in (users[~new], users[new]):
                for start in range(0, len(group), self.batch_size):
                    block = group[start : start + self.batch_size]
                    yield block
                    bar.update(len(block))


def _counted(part: Part, popularity: Interactions | None) -> sp.csr_matrix:
    """Return the users and items that popularity is counted from."""
    if popularity is None:
        return part.context if part.seen is None else part.seen
    if popularity.shape[1] != part.target.shape[1]:
        raise DataError(
            f"popularity must count the part's {part.target.shape[1]} items, got {popularity.shape[1]}; "
            "pass split.train"
        )
    return popularity.matrix
