"""Champion against challenger on the same held-out users, though they may know other users and other items."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.config import JobConfig
from recsys.errors import ConfigError, DataError
from recsys.evaluation import evaluate
from recsys.ids import IdMap
from recsys.jobs.common import may_have_seen
from recsys.metrics import of
from recsys.models import Popularity, Recommender
from recsys.promotion import Decision, Measured, Rule, decide
from recsys.sparse import as_csr
from recsys.splits import Split
from recsys.workspace import Workspace


def contest(
    workspace: Workspace,
    challenger: Recommender,
    champion: Recommender | None,
    config: JobConfig,
    split: Split,
    rule: Rule,
    *,
    names: tuple[str, str] = ("champion", "challenger"),
) -> Decision:
    """Evaluate both on the test part and decide; where there is no champion, `Popularity` is it.

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
    measured = []
    for name, model in zip(names, (champion, challenger), strict=True):
        # Users too: to a model that learned a vector for each of them, a row of another table is another user.
        same = model.items_ == split.train.items and model.users_ == split.train.users
        contestant = model if same else RemappedModel(model, split.train.users, split.train.items)
        began = time.perf_counter()
        evaluation = evaluate(
            contestant,
            split.test,
            rule.metrics,
            min_relevance=config.evaluate.min_relevance,
            popularity=split.train,
            show_progress=workspace.progress,
        )
        measured.append(Measured(name, evaluation, time.perf_counter() - began))
    return decide(measured[0], measured[1], rule)


def refuse_seen(model: Recommender, split: Split, name: str) -> None:
    """Raise DataError if the model may have been trained on test targets."""
    if may_have_seen(model, split):
        known = 0
        if model.users_ is not None:
            known = int((model.users_.codes(split.test.users.ids(), on_unknown="mark") >= 0).sum())
        raise DataError(
            f"{name} was trained on other entries than this split's training part, {known:,} of the "
            f"{len(split.test.users):,} test users among them, so it may have seen what they are tested on; use a "
            "split that stays when data are added: by_time, or hold_out_users with stable = true"
        )


class RemappedModel:
    """A model behind the item indices of another catalogue: what it does not know it neither reads nor recommends."""

    def __init__(self, model: Recommender, users: IdMap, items: IdMap) -> None:
        """`users` and `items` are those that the indices of the caller stand for."""
        if model.users_ is None or model.items_ is None:
            raise DataError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
        self._model = model
        self._places = model.items_.codes(items.ids(), on_unknown="mark").astype(np.int64)
        self._columns = np.flatnonzero(self._places >= 0)
        self._own = self._places[self._columns]
        self._theirs = np.full(len(model.items_), -1, dtype=np.int64)
        self._theirs[self._own] = self._columns
        self._users = model.users_.codes(users.ids(), on_unknown="mark").astype(np.int64)

    def recommend(
        self,
        userid: npt.NDArray[np.integer],
        user_items: Any,
        *,
        N: int,
        filter_already_liked_items: bool = True,
        recalculate_user: bool = False,
        seen: Any = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return ids of the caller's catalogue and scores, as `Recommender.recommend`."""
        ids, scores = self._model.recommend(
            np.where(userid >= 0, self._users[userid], -1),
            self._remapped(user_items),
            N=N,
            filter_already_liked_items=filter_already_liked_items,
            recalculate_user=recalculate_user,
            items=self._own,
            seen=None if seen is None else self._remapped(seen),
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
        moved = sp.csr_matrix(
            (kept.data, self._own[kept.indices], kept.indptr), shape=(kept.shape[0], self._model.n_items_)
        )
        moved.sort_indices()
        return moved
