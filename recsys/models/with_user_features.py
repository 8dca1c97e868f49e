"""A model and users without a history, to whom it recommends by what is known of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.columns import USER
from recsys.errors import BundleError, DataError, UnsupportedError, warn
from recsys.features import Features, Kind, Recipe, taken
from recsys.frames import as_table
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.metrics.lists import unit_rows
from recsys.models.base import Recommender
from recsys.models.described import longer
from recsys.models.fitting import FitOptions
from recsys.models.inner import HasInner, Inner, OfInner
from recsys.models.new_users import FromFeatures, learned
from recsys.models.part_fits import PartFits
from recsys.models.parts import restored, stored
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Size, Stored, number
from recsys.params import Count, Positive, Seed
from recsys.training import Record

PREFIX, BY = "user_features.", "by_features."


@register
class WithUserFeatures(HasInner, Recommender):
    """A model that recommends to users without a history by their features; for ranking.

    `fit` fits `model` to the interactions, and a ridge from columns of the users (`Interactions.from_frame(users=)`, or
    `[data] users`) to the scores of the known users (see `models.new_users`). A user without a usable history, of whom
    training had no entries either, gets the scores of that ridge; `with_users(table)` makes users known by their ids.
    Everyone else is scored as `model` scores them, as are users of whom no feature is known.

    A bare matrix has no features: `model` alone is fitted to it.
    """

    capabilities = OfInner(keeps_users=False)

    model: Inner = "EASE"
    """The model to fit, or one that is fitted; in a configuration its name or a table of `name` and hyperparameters."""
    columns: Mapping[str, Kind] | None = None
    """Columns of users to read, and the kind of each: `category`, `tags` (lists), `text`, `number` or `vector`; None:
    all of them, with kinds recognized."""
    min_count: Count = 2
    """Users that a category, tag or word must have to be read."""
    strength: Positive | None = None
    """λ of the ridge, for rows of features of length 1; None: chosen on users who are held out of it."""
    seed: Seed = 0
    """Added to the seed of `model` if it is to be fitted; also that by which users are held out."""
    device: str = "auto"
    """Where `model` computes if it does not say it itself: `auto`, `cpu`, `cuda` or `cuda:1`."""

    def _for_refit(self) -> Self:
        chosen = {"model": self.model_.for_refit(), "seed": 0, "strength": self.strength_}
        return type(self)(**{**self.get_params(), **chosen})

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        self.features_: Features | None = None
        data = options.data
        if data is not None and (data.user_columns or self.columns is not None):
            columns = {name: pd.Series(list(values)) for name, values in data.user_columns.items()}
            table = pd.DataFrame({**columns, USER: data.users.ids()})
            self.features_ = Features.from_frame(
                table, item=USER, columns=self.columns, min_count=self.min_count, what="users"
            )
        elif data is not None:
            warn(
                f"the interactions say nothing about their users, so that {type(self).__name__} reads no features; "
                "give a table of users with them, users="
            )
        fits = PartFits(self, matrix, options)
        [self.model_] = fits.run([self.inner()])
        began = time.perf_counter()
        self._learn(matrix)
        figures = options.validation(self) if options.validation else {}
        return fits.end({"seconds": time.perf_counter() - began, **figures})

    def _learn(self, matrix: sp.csr_matrix) -> None:
        """Learn what features say, of users in the order of the matrix."""
        self.by_features_: FromFeatures | None = None
        self.strength_ = self.strength
        if self.features_ is not None:
            self.by_features_, self.strength_ = learned(self.model_, matrix, self._rows(), self.strength, self.seed)

    def _rows(self) -> sp.csr_matrix:
        """Return the features of all users in rows of length 1."""
        assert self.features_ is not None
        return sp.csr_matrix(unit_rows(self.features_.matrix, self.n_users_))

    def with_users(self, users: Any, user_items: Any = None, **options: Any) -> Recommender:
        """Return this model with further users, whose features are read by the recipe that it has learned.

        Args:
            users: a table with `user_id` and the columns that the recipe reads. What is known of users of training
                stays as it is; of a new user who is named again, this table counts from now on.
            user_items, options: not taken: what features mean was learned when this model was made.

        Raises:
            UnsupportedError: the model was fitted without features, or options are given.
            DataError: a column is missing, a user occurs twice, or the id is of another type.
        """
        self._check_fitted()
        if options or user_items is not None:
            raise UnsupportedError("this model has learned what features mean: with_users(table) takes nothing else")
        if self.features_ is None or self.users_ is None or not len(self.users_):
            raise UnsupportedError(
                "this model knows no features of users, or has not kept their ids; fit it to Interactions with columns "
                "of users: Interactions.from_frame(..., users=table)"
            )
        table = as_table(users, [USER])
        whole = copy.copy(self)
        whole._append(self.features_.more(table, USER, "users"), table)
        return whole

    def _append(self, features: Features, table: pd.DataFrame) -> None:
        """Take further users, and other features of users whom training has not seen."""
        assert self.features_ is not None
        assert self.users_ is not None
        place = self.users_.codes_of(features.ids, "user").astype(np.int64)
        known = (place >= 0) & (place < self.model_.n_users_)
        self.users_, _ = longer(self.users_, None, features.ids, place < 0, table, "users")
        added = len(self.users_) - self.n_users_
        place[place < 0] = self.n_users_ + np.arange(added)
        source = np.append(np.arange(self.n_users_), np.full(added, -1))
        source[place[~known]] = self.n_users_ + np.flatnonzero(~known)
        both = sp.csr_matrix(sp.vstack([self.features_.matrix, features.matrix]))[source]
        self.n_users_ += added
        self.features_ = Features(self.users_, sp.csr_matrix(both), self.features_.recipe)
        self.user_counts_ = np.append(self.user_counts_, np.zeros(added, np.int64))

    def with_items(self, items: Any, user_items: Any = None, **options: Any) -> Recommender:
        """Refuse: what features of users say is learned of all items together, so that the items come first.

        Raises:
            UnsupportedError: always; the message says how both go together.
        """
        raise UnsupportedError(
            "take the new items into the model inside first, then the users: "
            "model.inner().with_items(items, ...).with_users(users, interactions)"
        )

    def _inside(self, userid: Indices) -> Indices:
        """Return the indices of users as the model inside counts them."""
        return np.where(userid < self.model_.n_users_, userid, -1)

    def _scored_as(self, userid: Indices, histories: Histories) -> Indices:
        return userid  # the model inside says which users it folds in

    def _told(self, userid: Indices) -> npt.NDArray[np.bool_]:
        """Return of which users features are known."""
        if self.by_features_ is None or self.features_ is None:
            return np.zeros(len(userid), bool)
        there = (userid >= 0) & (userid < self.n_users_)
        filled = np.diff(self.features_.matrix.indptr) > 0
        return there & filled[np.where(there, userid, 0)]

    def _known(self, userid: Indices) -> npt.NDArray[np.bool_]:
        if "model_" not in vars(self):
            return np.zeros(len(userid), bool)
        return self.model_._known(self._inside(userid)) | self._told(userid)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        own = self._inside(userid)
        silent = np.ones(len(userid), bool) if histories is None else np.diff(histories.indptr) == 0
        told = self._told(userid) & silent & ~self.model_._known(own)
        if not told.any():
            return self._of_model(histories, own, items, out)
        assert self.by_features_ is not None
        by_features = self.by_features_.scores(sp.csr_matrix(self._rows()[userid[told]]), items)
        if told.all():
            return by_features
        rest = np.flatnonzero(~told)
        others = self._of_model(None if histories is None else sp.csr_matrix(histories[rest]), own[rest], items, None)
        scores = others.new_empty(len(userid), others.shape[1])
        scores[torch.from_numpy(rest)] = others
        scores[torch.from_numpy(np.flatnonzero(told))] = by_features.to(others)
        return scores

    def _of_model(self, histories: Histories, own: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        return self.model_._checked(histories, self.model_._scored_as(own, histories), items, out)

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        return self.model_._encode(histories)

    def _item_vectors(self) -> Tensor:
        return self.model_._item_vectors()

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        return self.model_._item_similarity(asked, among)

    def _check_finite(self, matrix: sp.csr_matrix) -> None:
        """Check what features say; the model inside has checked what it learned."""
        if self.by_features_ is not None and not bool(self.by_features_.table.isfinite().all()):
            raise self._not_finite("has learned NaN or infinite values of features")

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = stored([self.model_])[0]
        if self.features_ is not None and self.by_features_ is not None:
            matrix = self.features_.matrix
            arrays |= {f"{PREFIX}{name}": getattr(matrix, name) for name in ("data", "indices", "indptr")}
            arrays |= {f"{BY}{name}": getattr(self.by_features_, name).numpy() for name in ("table", "offsets")}
        return arrays

    def _state(self) -> dict[str, Any]:
        inside = {"n_users": self.model_.n_users_, "strength": self.strength_}
        own = {} if self.features_ is None else {"features": self.features_.recipe.state()}
        return {"parts": stored([self.model_])[1], "inside": inside, **own}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        own = state.get("inside")
        if not isinstance(own, Mapping):
            raise BundleError("there is no table `inside`, what its model knows")
        n_base = number(own, "n_users", Size)
        if n_base > self.n_users_:
            raise BundleError(f"the model inside has {n_base:,} users, more than the {self.n_users_:,} of the whole")
        expected = type(self.inner()).__name__
        [self.model_] = restored(self, arrays, state.get("parts"), self.device, n_users=n_base)
        if type(self.model_).__name__ != expected:
            raise BundleError("the model inside must be that which its hyperparameters name")
        self.strength_ = number(own, "strength", Positive | None)
        self.features_ = self.by_features_ = None
        if "features" not in state:
            return
        try:
            recipe = Recipe.from_state(state["features"])
        except DataError as error:
            raise BundleError(str(error)) from None
        matrix = arrays.csr((self.n_users_, len(recipe)), PREFIX)
        ids = IdMap(np.arange(self.n_users_)) if self.users_ is None or not len(self.users_) else self.users_
        self.features_ = Features(ids, matrix, recipe)
        table = arrays.array(f"{BY}table", (self.n_items_, len(recipe)))
        offsets = arrays.array(f"{BY}offsets", (self.n_items_,), finite=False)
        if np.isnan(offsets).any() or (offsets == np.inf).any():
            raise BundleError(f"{BY}offsets holds values that are NaN or infinite")
        self.by_features_ = FromFeatures(torch.from_numpy(table), torch.from_numpy(offsets))


def extended(model: Recommender, users: Any, user_items: Any, options: Mapping[str, Any]) -> WithUserFeatures:
    """Return a fitted model with the users of a table; see `Recommender.with_users`."""
    model._check_fitted()
    if model.users_ is None or not len(model.users_):
        raise DataError(
            f"this {type(model).__name__} knows no external ids of users, by which a table names them; fit it to "
            "Interactions, or make them with Interactions.from_frame"
        )
    if not isinstance(user_items, Interactions):
        raise DataError("pass the Interactions that the model was fitted to: they show what features mean")
    whole = WithUserFeatures(model=model, **options)
    whole.check_params()
    for name in ("n_users_", "users_", "about_", "user_counts_", "record_", "titles_", "items_", "n_items_"):
        setattr(whole, name, getattr(model, name))
    whole.popularity_, whole.user_digests_, whole.model_ = model.popularity_, None, model
    table = as_table(users, [USER])
    described = Features.from_frame(table, item=USER, columns=whole.columns, min_count=whole.min_count, what="users")
    place = user_items.users.codes_of(model.users_, "user").astype(np.int64)
    if not (described.ids.codes_of(model.users_, "user") >= 0).any():
        raise DataError(
            f"the table describes none of the users that the model knows: {described.ids!r} there, "
            f"{model.users_!r} here"
        )
    whole.features_ = Features(model.users_, described.rows(model.users_, "user"), described.recipe)
    histories = sp.csr_matrix(user_items.histories(model.items_) if model.items_ is not None else user_items.matrix)
    whole._learn(taken(histories, place))
    whole._append(described, table)
    return whole
