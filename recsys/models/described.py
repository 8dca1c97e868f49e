"""Models that read features of items: what they share, and the ridge from features to what was learned of items."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, TITLE
from recsys.errors import BundleError, DataError, UnsupportedError, warn
from recsys.features import Features, Kind, Recipe, taken
from recsys.frames import as_table
from recsys.ids import IdMap
from recsys.models.base import Recommender
from recsys.models.fitting import FitOptions
from recsys.models.selection import Indices
from recsys.models.stored import Stored
from recsys.params import Count

PREFIX = "features."


class _Describes(Recommender):
    features_: Features | None
    """The features of the items; None where a bare matrix was fitted."""


@dataclass(kw_only=True, eq=False)
class Described(_Describes):
    """Base of the models that read features of items: the columns of items that the interactions carry.

    Give them as `Interactions.from_frame(..., items=table)`, or `[data] items` in a configuration. `features_` are the
    features of the items, encoded by a recipe that the bundle keeps; None where a bare matrix was fitted, which has no
    columns of items.
    """

    columns: Mapping[str, Kind] | None = None
    """Columns of items to read, and the kind of each: `category`, `tags` (lists), `text`, `number` or `vector`; None:
    all of them, with kinds recognized. `title` may be one of them."""
    min_count: Count = 2
    """Items that a category, tag or word must have to be read."""

    def _describe(self, options: FitOptions) -> None:
        """Take the features of what is fitted to; each `_fit` begins with it."""
        data = options.data
        self.features_ = None
        if data is not None and (data.item_columns or self.columns is not None):
            self.features_ = Features.of(data, self.columns, self.min_count)
        elif data is not None:
            warn(
                f"the interactions say nothing about their items, so that {type(self).__name__} reads no features; "
                "give a table of items with them, items="
            )

    def _trained(self) -> npt.NDArray[np.bool_]:
        """Return which items training had entries of; the others are new."""
        counted: npt.NDArray[np.bool_] = self.popularity_ > 0.75 / self.n_users_
        return counted

    def _new_items(self) -> Indices:
        """Return the items without an entry in training that share a feature with one that has some."""
        if self.features_ is None:
            return np.zeros(0, np.int64)
        trained, matrix = self._trained(), self.features_.matrix
        shared = np.zeros(matrix.shape[1], bool)
        shared[matrix[trained].indices] = True
        able = np.diff(matrix[:, shared].indptr) > 0
        return np.flatnonzero(~trained & able)

    def _count_new(self, new: Indices) -> None:
        """Let new items of which something is known count in histories: for more than nobody, for less than one."""
        self.popularity_ = self.popularity_.copy()
        self.popularity_[new] = 0.5 / self.n_users_

    def _settle(self) -> None:
        """Derive from the features what is read when items are scored."""

    def with_items(self, items: Any, user_items: Any = None, **options: Any) -> Recommender:
        """Return this model with further items, whose features are read by the recipe that it has learned.

        Args:
            items: a table with `item_id` and the columns that the recipe reads, perhaps a `title`. Items that training
                saw stay as they are; of a new item that is named again, this table counts from now on.
            user_items, options: not taken: what features mean was learned when this model was made.

        Raises:
            UnsupportedError: the model was fitted without features, or options are given.
            DataError: a column is missing, an item occurs twice, or its id is of another type.
        """
        self._check_fitted()
        if options or user_items is not None:
            raise UnsupportedError("this model has learned what features mean: with_items(table) takes nothing else")
        if self.features_ is None or self.items_ is None:
            raise UnsupportedError(
                "this model was fitted to a bare matrix and knows no features; fit it to Interactions with columns of "
                "items: Interactions.from_frame(..., items=table)"
            )
        table = as_table(items, [ITEM])
        whole = copy.copy(self)
        whole._append(self.features_.more(table), table)
        whole._settle()
        return whole

    def _append(self, features: Features, table: pd.DataFrame) -> None:
        """Take further items, and other features of items that training has not seen."""
        assert self.features_ is not None
        assert self.items_ is not None
        place = self.items_.codes_of(features.ids, "item").astype(np.int64)
        self.items_, self.titles_ = longer(self.items_, self.titles_, features.ids, place < 0, table)
        added = len(self.items_) - self.n_items_
        place[place < 0] = self.n_items_ + np.arange(added)
        source = np.append(np.arange(self.n_items_), np.full(added, -1))
        both = sp.csr_matrix(sp.vstack([self.features_.matrix, features.matrix]))
        changed = ~np.append(self._trained(), np.zeros(added, bool))[place]
        source[place[changed]] = self.n_items_ + np.flatnonzero(changed)
        self.n_items_ += added
        self.features_ = Features(self.items_, taken(both, source), self.features_.recipe)
        self.popularity_ = np.append(self.popularity_, np.zeros(added, np.float32))

    def _feature_arrays(self) -> dict[str, npt.NDArray[Any]]:
        if self.features_ is None:
            return {}
        matrix = self.features_.matrix
        return {f"{PREFIX}{name}": getattr(matrix, name) for name in ("data", "indices", "indptr")}

    def _feature_state(self) -> dict[str, Any]:
        return {} if self.features_ is None else {"features": self.features_.recipe.state()}

    def _restore_features(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self.features_ = None
        if "features" not in state:
            return
        try:
            recipe = Recipe.from_state(state["features"])
        except DataError as error:
            raise BundleError(str(error)) from None
        matrix = arrays.csr((self.n_items_, len(recipe)), PREFIX)
        ids = IdMap(np.arange(self.n_items_)) if self.items_ is None else self.items_
        self.features_ = Features(ids, matrix, recipe)


def longer(
    ids: IdMap,
    titles: npt.NDArray[np.object_] | None,
    more: IdMap,
    added: npt.NDArray[np.bool_],
    table: pd.DataFrame,
    what: str = "items",
) -> tuple[IdMap, npt.NDArray[np.object_] | None]:
    """Return the ids of a catalog with those of `more` that are marked behind them, and the titles of all.

    Raises:
        DataError: they are of another type.
    """
    if not added.any():
        return ids, titles
    if len(ids) and ids.kind != more.kind:
        raise DataError(f"new {what} need ids of the same type as the known ones: {more!r} there, {ids!r} here")
    own = more.ids()[added]
    whole = IdMap(np.concatenate([ids.ids(), own]))
    if titles is None:
        return whole, None
    shown = table[TITLE].to_numpy(dtype=object)[added] if TITLE in table else own
    named = [str(one if pd.isna(title) else title) for title, one in zip(shown, own, strict=True)]
    return whole, np.concatenate([titles, np.array(named, dtype=object)])


def ridge_duals(
    features: sp.csr_matrix, targets: npt.NDArray[np.float32], strength: float, *, tolerance: float = 1e-4
) -> npt.NDArray[np.float32]:
    """Return α = (F Fᵀ + λ I)⁻¹ T: the ridge from rows F (n, d) to T (n, k) predicts f Fᵀ α for a row f.

    Conjugate gradients (Hestenes and Stiefel 1952) on all columns side by side, each of which stops at a residual of
    `tolerance` of its right-hand side; work is proportional to the stored features.

    Args:
        strength: λ.
    """
    solution, residual = np.zeros_like(targets), targets.copy()
    direction, square = residual.copy(), np.einsum("ij,ij->j", residual, residual)
    enough = tolerance**2 * np.maximum(square, 1e-30)
    transposed = sp.csr_matrix(features.T)
    for _ in range(_STEPS):
        if (square <= enough).all():
            break
        image = features @ (transposed @ direction) + np.float32(strength) * direction
        # A column that has arrived goes on with steps of next to nothing.
        step = square / np.maximum(np.einsum("ij,ij->j", direction, image), 1e-30)
        solution += step * direction
        residual -= step * image
        before, square = square, np.einsum("ij,ij->j", residual, residual)
        direction = residual + (square / np.maximum(before, 1e-30)) * direction
    return solution


_STEPS = 500
