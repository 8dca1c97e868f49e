"""The two sides of a contest, measured on the same held-out users, though they may know other users and other items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.config import JobConfig
from recsys.errors import ConfigError, DataError
from recsys.evaluation import Ranker, evaluate
from recsys.ids import IdMap
from recsys.jobs.common import may_have_seen, measure
from recsys.metrics import of
from recsys.models import Popularity, Recommender
from recsys.models.stored import known_users
from recsys.promotion import Measured, Rule
from recsys.sparse import as_csr
from recsys.splits import Part, Split
from recsys.workspace import Workspace

_TIMED: Final = 1024
"""Number of users whose scoring is timed."""


def measure_both(
    workspace: Workspace,
    challenger: Recommender,
    champion: Recommender | None,
    config: JobConfig,
    split: Split,
    rule: Rule,
    *,
    names: tuple[str, str] = ("champion", "challenger"),
) -> tuple[Measured, Measured]:
    """Evaluate champion and challenger on the test part; where there is no champion, `Popularity` is it.

    Validation users that neither knows are measured too, for they have no say in the contest. The times of scoring are
    taken after that, in turns.

    Raises:
        DataError: one of them may have been trained on what the test users are to be tested on.
        ConfigError: there is no champion, and the rule is of errors of ratings, which Popularity does not predict.
    """
    if champion is None:
        rated = [name for name in rule.metrics if of(name).rates]
        if rated:
            raise ConfigError(
                f"there is no champion yet, and Popularity, which stands in for it, predicts no ratings to measure "
                f"{rated[0]} of; promote {names[1]} by hand, or set promote.metric to a metric of lists such as ndcg@10"
            )
        champion = Popularity().fit(split.train, show_progress=False)
        names = ("Popularity", names[1])
    else:
        refuse_seen(champion, split, names[0])
    refuse_seen(challenger, split, names[1])
    both = champion, challenger
    rankers = [_ranker(model, split) for model in both]
    evaluations = [measure(workspace, config, ranker, split, rule.metrics) for ranker in rankers]
    others = _unknown_users(split, both)
    elsewhere = [
        None if others is None else measure(workspace, config, ranker, split, [str(rule.for_metric().metric)], others)
        for ranker in rankers
    ]
    seconds = [None, None] if rule.slowdown is None else _seconds(rankers, split.test, rule.metrics)
    one, other = (Measured(*facts) for facts in zip(names, evaluations, seconds, elsewhere, strict=True))
    return one, other


def _ranker(model: Recommender, split: Split) -> Ranker:
    """Return the model behind the users and items of the split."""
    # Users too: to a model that learned a vector for each of them, a row of another table is another user.
    if model.items_ == split.train.items and model.users_ == split.train.users:
        return model
    ranker = RemappedModel(model, split.train.users, split.train.items)
    if model.items_ is not None:
        split.train.histories(model.items_)  # which says where the model knows few of the items, or none
    return ranker


def _unknown_users(split: Split, models: Sequence[Recommender]) -> Part | None:
    """Return the validation part if its users are neither test users nor known to a model; else None."""
    part = split.validation
    if part is None or not part.target.nnz or (split.test.users.codes_of(part.users, "user") >= 0).any():
        return None
    trained = [known_users(model) for model in models]
    known = [None if users is None else users.codes_of(part.users, "user") for users in trained]
    return None if any(codes is None or (codes >= 0).any() for codes in known) else part


def _seconds(rankers: Sequence[Ranker], part: Part, metrics: Sequence[str]) -> list[float]:
    """Return the time that measuring some users takes with each of two models, which are warm by now.

    They take turns, and the first begins and ends, so that a machine that becomes slower or faster favors neither; the
    shorter of two times is the one that less else has disturbed.
    """
    rows = np.flatnonzero(np.diff(part.target.indptr))[:_TIMED]
    seen = None if part.seen is None else part.seen[rows]
    users = part.users.take(rows), part.user_index[rows]
    some = Part(part.context[rows], part.target[rows], *users, seen, part.allow_overlap, part.candidates)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in (0, 1, 1, 0):
        began = time.perf_counter()
        evaluate(rankers[turn], some, metrics)
        times[turn].append(time.perf_counter() - began)
    return [min(taken) for taken in times]


def refuse_seen(model: Recommender, split: Split, name: str) -> None:
    """Raise DataError if the model may have been trained on test targets."""
    if may_have_seen(model, split):
        known = 0
        if model.users_ is not None:
            known = int((model.users_.codes_of(split.test.users, "user") >= 0).sum())
        raise DataError(
            f"{name} was trained on other entries than this split's training part, {known:,} of the "
            f"{len(split.test.users):,} test users among them, so it may have seen what they are tested on; use a "
            "split that stays when data are added: by_time, or hold_out_users with stable = true"
        )


class RemappedModel:
    """A model behind the item indices of another catalog: what it does not know it neither reads nor recommends."""

    def __init__(self, model: Recommender, users: IdMap, items: IdMap) -> None:
        """`users` and `items` are those that the indices of the caller stand for."""
        if model.users_ is None or model.items_ is None:
            raise DataError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
        self._model = model
        self._places = model.items_.codes_of(items, "item").astype(np.int64)
        self._columns = np.flatnonzero(self._places >= 0)
        self._own = self._places[self._columns]
        self._theirs = np.full(len(model.items_), -1, dtype=np.int64)
        self._theirs[self._own] = self._columns
        self._users = model.users_.codes_of(users, "user").astype(np.int64)

    def recommend(
        self,
        userid: npt.NDArray[np.integer],
        user_items: Any,
        *,
        N: int,
        items: npt.NDArray[np.int64] | None = None,
        seen: Any = None,
        **options: bool,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return ids of the caller's catalog and scores, as `Recommender.recommend`."""
        ids, scores = self._model.recommend(
            np.where(userid >= 0, self._users[userid], -1),
            self._remapped(user_items),
            N=N,
            items=self._own if items is None else self._places[items][self._places[items] >= 0],
            seen=None if seen is None else self._remapped(seen),
            **options,
        )
        missing = N - ids.shape[1]  # lists are no longer than the items that both know
        ids = np.pad(ids, ((0, 0), (0, missing)), constant_values=-1)
        lowest = -np.finfo(np.float32).max
        return np.where(ids >= 0, self._theirs[ids], -1), np.pad(scores, ((0, 0), (0, missing)), constant_values=lowest)

    def predict_pairs(
        self,
        userid: npt.NDArray[np.integer],
        user_items: Any,
        rows: npt.NDArray[np.integer],
        items: npt.NDArray[np.integer],
    ) -> npt.NDArray[np.float32]:
        """Return ratings as `Recommender.predict_pairs`; of items that the model does not know its cold rating."""
        own = self._places[items]
        known = own >= 0
        users = np.where(userid >= 0, self._users[userid], -1)
        found = self._model.predict_pairs(users, self._remapped(user_items), rows[known], own[known])
        ratings = np.full(len(own), getattr(self._model, "cold_rating_", np.nan), dtype=np.float32)
        ratings[known] = found
        return ratings

    def _remapped(self, user_items: Any) -> sp.csr_matrix:
        kept = sp.csr_matrix(as_csr(user_items)[:, self._columns])
        shape = kept.shape[0], self._model.n_items_
        moved = sp.csr_matrix((kept.data, self._own[kept.indices], kept.indptr), shape=shape)
        moved.sort_indices()
        return moved
