"""Give a registered model version the alias that the scoring job follows: by hand, or because it won a contest.

The champion and the challenger are tested on the same held-out users, though they may know other users and other items.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys import tracking
from recsys.config import JobConfig
from recsys.errors import ConfigError, DataError, TrackingError
from recsys.ids import IdMap
from recsys.jobs.common import Sources, Versions, config_of, may_have_seen, measure
from recsys.metrics import of
from recsys.models import Popularity, Recommender
from recsys.promotion import Decision, Measured, Rule, decide
from recsys.sparse import as_csr
from recsys.splits import Split
from recsys.workspace import Workspace


def promote(
    workspace: Workspace,
    name: str,
    *,
    version: int | None = None,
    challenger: int | None = None,
    alias: str = "champion",
    reason: str = "",
    dry_run: bool = False,
) -> tracking.Promotion | None:
    """Set `alias` on a version, unopposed, or let a challenger earn it; print what changed.

    Returns None where a challenger did not earn it.

    Args:
        version: gets the alias unopposed; the newest by default.
        challenger: is tested against the holder of the alias in place of that, see `challenge`; 0 is the newest.
        reason: why, for a promotion by hand.
        dry_run: print and return what would change, and write nothing.

    Raises:
        ConfigError: `challenger` together with `version` or `reason`.
        TrackingError: there is no store, no such model or version, or MLflow refuses the alias.
    """
    if challenger is not None:
        if version is not None or reason:
            raise ConfigError("--challenger gives its own version and reason; leave out --version and --reason")
        return challenge(workspace, name, challenger or None, alias=alias, dry_run=dry_run)
    tracking.configure(workspace, create=False)
    if dry_run:
        versions = Versions(name, alias, tracking.model_versions(name))
        if version is not None:
            tracking.version_facts(name, version)  # which says what there is, if not that
        return _planned(versions, versions.newest() if version is None else version)
    promoted = tracking.promote(name, version, alias=alias, reason=reason)
    print(_changed(promoted))
    return promoted


def challenge(
    workspace: Workspace,
    name: str,
    version: int | None = None,
    *,
    alias: str = "champion",
    dry_run: bool = False,
) -> tracking.Promotion | None:
    """Evaluate a challenger and the champion on the same held-out users, and promote it if it has earned that.

    Data, split and rule are those of the challenger's configuration; where no version holds the alias, it must beat
    Popularity. The decision is written to the version as tags and as a note. Returns None where it was not earned.

    Args:
        version: the challenger; the newest by default.
        dry_run: print and return the decision and what would change, and write nothing.

    Raises:
        TrackingError: no such model or version, the challenger is the champion, or another promotion was faster.
        DataError: a contestant may have been trained on what the test users are to be tested on.
    """
    tracking.configure(workspace, create=False)
    versions = Versions(name, alias, tracking.model_versions(name))
    number = versions.newest() if version is None else version
    if number == versions.holder:
        raise TrackingError(f"version {number} of {name!r} is the {alias} already; name another challenger")
    config = config_of(versions.load(number), versions.uri(number))
    rule = config.promote.for_metric(config.train.metric)
    split = Sources.read(workspace, config).split
    return settle(workspace, versions, number, config, split, rule, dry_run=dry_run)[1]


def settle(
    workspace: Workspace,
    versions: Versions,
    challenger: int,
    config: JobConfig,
    split: Split,
    rule: Rule,
    *,
    dry_run: bool = False,
) -> tuple[Decision, tracking.Promotion | None]:
    """Hold a challenger against the holder of the alias, and record the decision unless `dry_run`; see `challenge`."""
    name, alias, holder = versions.name, versions.alias, versions.holder
    decision = contest(
        workspace,
        versions.load(challenger),
        None if holder is None else versions.load(holder),
        config,
        split,
        rule,
        names=(f"{name} version {holder}", f"{name} version {challenger}"),
    )
    note = decision.markdown()
    print(note)
    if dry_run:
        if decision.earned:
            return decision, _planned(versions, challenger)
        print(f"models:/{name}@{alias} would stay with {_named(holder)}; nothing was written (--dry-run)")
        return decision, None
    tags = {
        "decision": "promoted" if decision.earned else "kept",
        "metric": decision.metric,
        "rule": rule.as_text(),
        "against": holder or "Popularity",
        "value": decision.challenger_value,
        "value_against": decision.champion_value,
        "gain_low": decision.low,
        "gain_high": decision.high,
        "p": decision.p,
        "users": decision.n,
    }
    if not decision.earned:
        tracking.annotate(name, challenger, {**tags, "reason": decision.reason}, alias=alias, note=note)
        print(f"models:/{name}@{alias} stays with {_named(holder)}")
        return decision, None
    promoted = tracking.promote(
        name, challenger, alias=alias, reason=decision.reason, instead_of=holder, note=note, tags=tags
    )
    versions.holder = challenger
    print(_changed(promoted))
    return decision, promoted


def rollback(workspace: Workspace, name: str, *, alias: str = "champion") -> tracking.Promotion:
    """Give the alias back to the version that held it before, and print it; a TrackingError where there was none."""
    tracking.configure(workspace, create=False)
    back = tracking.rollback(name, alias)
    print(_changed(back))
    return back


def _planned(versions: Versions, version: int) -> tracking.Promotion:
    """Print and return what a promotion would change."""
    name, alias, holder = versions.name, versions.alias, versions.holder
    planned = tracking.Promotion(name, version, alias, holder, f"models:/{name}@{alias}")
    print(f"{planned.uri} would be version {version} (is {_named(holder)}); nothing was written (--dry-run)")
    return planned


def _changed(promoted: tracking.Promotion) -> str:
    alias = f"models:/{promoted.name}@{promoted.alias}"
    return f"{alias} is now version {promoted.version} (was {_named(promoted.previous)})"


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


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
        if not same and model.items_ is not None:
            split.train.histories(model.items_)  # which says where the model knows few of the items, or none
        began = time.perf_counter()
        evaluation = measure(workspace, config, contestant, split, rule.metrics)
        measured.append(Measured(name, evaluation, time.perf_counter() - began))
    return decide(measured[0], measured[1], rule)


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
        self, userid: npt.NDArray[np.integer], user_items: Any, *, N: int, seen: Any = None, **options: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return ids of the caller's catalog and scores, as `Recommender.recommend`."""
        ids, scores = self._model.recommend(
            np.where(userid >= 0, self._users[userid], -1),
            self._remapped(user_items),
            N=N,
            items=self._own,
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
