"""A fitted model under rules: lists as `Recommender.recommend` makes them, of what the rules allow."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recsys.errors import DataError
from recsys.models import Recommender
from recsys.models.selection import Indices, check_length, indices
from recsys.ranking import NO_ID, NO_SCORE, Ids, Scores
from recsys.rules.bound import BoundRules
from recsys.rules.choosing import Calibrated, Doubles, Marginal, Objective, Places, choose, scaled

MORE: Final = 4
"""How many times the length of the list is looked at first where `at_most` alone limits it, and how many times as many
candidates where a list is still short."""
_ROWS: Final = 4096
_NUMBERS: Final = 2**22
"""Most users, and about the most numbers, of a block."""


class Ruled:
    """A model and bound rules. It recommends as the model does, to `evaluate` too, and never what the rules forbid.

    A list is chosen from the model's exact ranking of the candidates: the items that are allowed, without those that
    are excluded, filtered or seen. With `at_most` alone it is walked from its beginning, as far as needed. With
    `diversity` or `calibration` the first `pool` candidates are the pool; users whose list `at_most` leaves short
    choose anew from four times as many, until the list is full or the pool holds all candidates. So no list is short
    that a walk through all candidates would fill. Places are in the order of the choice; scores are the model's, and
    decrease only where neither diversity nor calibration chooses.

    The pairs of `exclude_pairs` go by external ids, which `recommend` does not know: `rules.hide` adds them to `seen`,
    as `recsys.score`, `recommend_frame` and `costs` do.
    """

    def __init__(self, model: Recommender, rules: BoundRules) -> None:
        """Check that the rules are of this model's items.

        Raises:
            NotFittedError: the model is not fitted.
            DataError: the rules are bound to other items.
            UnsupportedError: the rules ask for diversity, and the model does not compare items.
        """
        model._check_fitted()
        if rules.items is not model.items_ and rules.items != model.items_:
            raise DataError(
                f"these rules are bound to other items than those of this {type(model).__name__}; bind them"
            )
        if rules.rules.diversity:
            model._require("compares_items")
        self.model, self.rules = model, rules
        self._unit: npt.NDArray[np.float32] | None = None

    def recommend(
        self,
        userid: npt.ArrayLike,
        user_items: Any = None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        recalculate_user: bool = False,
        items: npt.ArrayLike | None = None,
        *,
        seen: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the lists of one user or of several: `N` long, with id -1 where the candidates run out.

        Arguments and errors are those of `Recommender.recommend`; of `items`, those that the rules allow are ranked.
        """
        if items is not None:
            among = Ruled(self.model, self.rules.only(indices(items, "items", self.model.n_items_)))
            return among.recommend(userid, user_items, N, filter_already_liked_items, recalculate_user, seen=seen)
        users, length = indices(userid, "userid"), check_length(N)
        history = None if user_items is None else self.model._matrix(user_items)
        known = None if seen is None else self.model._matrix(seen)
        ids = np.full((len(users), length), NO_ID, dtype=np.int32)
        scores = np.full((len(users), length), NO_SCORE, dtype=np.float32)
        for name, matrix in (("user_items", history), ("seen", known)):
            if matrix is not None and matrix.shape[0] != len(users):
                raise DataError(f"{name} must have one row per userid ({len(users)}), got {matrix.shape[0]} rows")
        asked = _Asked(users, history, known, filter_already_liked_items, recalculate_user)
        if self.rules.n_allowed:
            left = np.arange(len(users))
            width = min(self._first(length), self.rules.n_allowed)
            while len(left):
                left = self._fill(asked, left, width, ids, scores)
                width = min(MORE * width, self.rules.n_allowed)
        return (ids[0], scores[0]) if np.ndim(userid) == 0 else (ids, scores)

    def _first(self, length: int) -> int:
        """Return how many candidates are looked at first."""
        rules = self.rules.rules
        if rules.diversity or rules.calibration:
            return max(length, rules.pool)
        return length if self.rules.groups is None else MORE * length

    def _fill(self, asked: _Asked, left: Indices, width: int, ids: Ids, scores: Scores) -> Indices:
        """Write the lists of these rows, chosen from `width` candidates; return the rows that need more of them."""
        short = []
        length = ids.shape[1]
        items, excluded = self.rules.candidates
        size = max(1, min(_ROWS, _NUMBERS // self._numbers(width)))
        for start in range(0, len(left), size):
            rows = left[start : start + size]
            history, seen = asked.rows(rows)
            found, values = self.model.recommend(
                asked.users[rows],
                history,
                width,
                asked.filters,
                excluded,
                asked.recalculate,
                items,
                seen=seen,
            )
            if self._is_plain:
                places = np.broadcast_to(np.arange(min(length, width)), (len(rows), min(length, width)))
            else:
                places = choose(found, min(length, width), self.rules.groups, self._objective(found, values, history))
            empty = places < 0
            ids[rows, : places.shape[1]] = np.where(empty, NO_ID, np.take_along_axis(found, places, 1))
            scores[rows, : places.shape[1]] = np.where(empty, NO_SCORE, np.take_along_axis(values, places, 1))
            if width < self.rules.n_allowed and not self._is_plain:
                short.append(rows[(ids[rows, -1] < 0) & (found[:, -1] >= 0)])
        return np.concatenate(short) if short else np.empty(0, dtype=np.int64)

    @property
    def _is_plain(self) -> bool:
        """Whether a list is the beginning of the ranking."""
        rules = self.rules.rules
        return self.rules.groups is None and not rules.diversity and not rules.calibration

    def _numbers(self, width: int) -> int:
        """Return about how many numbers a user of a block takes."""
        rules = self.rules
        each = 2 if rules.groups is None else 2 + rules.groups.of_items.shape[1]
        if rules.rules.diversity:
            vectors = self._vectors()
            each += 2 if vectors is None else vectors.shape[1]
        if rules.shares is not None:
            each += 8 * max(1, int(np.diff(rules.shares.indptr).max(initial=0)))
        return width * each + (0 if rules.shares is None else 4 * rules.shares.shape[1])

    def _objective(self, ids: Ids, values: Scores, history: sp.csr_matrix | None) -> Objective | None:
        """Return what chooses the next item of these users' lists; None where their ranking does."""
        rules = self.rules.rules
        if rules.diversity:
            return Marginal(scaled(values, ids), rules.diversity, self._similarities(ids))
        if rules.calibration and self.rules.shares is not None:
            if history is None:
                raise DataError("calibration reads the history; pass user_items with one row per userid")
            (weight,) = rules.calibration.values()
            return Calibrated(scaled(values, ids), weight, ids, history, self.rules.shares)
        return None

    def _vectors(self) -> npt.NDArray[np.float32] | None:
        """Return the items' vectors of length 1, whose products `similar_items` ranks by; None where it does not."""
        if type(self.model)._item_similarity is not Recommender._item_similarity:
            return None
        if self._unit is None:
            vectors = torch.from_numpy(self.model.item_vectors())
            self._unit = torch.nn.functional.normalize(vectors, dim=1, eps=1e-12).numpy()
        return self._unit

    def _similarities(self, ids: Ids) -> Any:
        """Return the function that gives the similarities of the candidates of some rows to one of each."""
        vectors, items = self._vectors(), np.maximum(ids, 0).astype(np.int64)
        if vectors is not None:
            own = vectors[items]

            def by_vectors(rows: Places, places: Places) -> Doubles:
                some = own if len(rows) == len(own) else own[rows]
                found: Doubles = np.einsum("rpd,rd->rp", some, own[rows, places], dtype=np.float64)
                return found

            return by_vectors

        def by_table(rows: Places, places: Places) -> Doubles:
            found = np.empty((len(rows), ids.shape[1]))
            asked = items[rows, places]
            for item in np.unique(asked):  # an item is asked for once, for all users who have just got it
                mine = np.flatnonzero(asked == item)
                among, place = np.unique(items[rows[mine]], return_inverse=True)
                with torch.inference_mode():
                    similar = self.model._item_similarity(np.array([item]), among)[0]
                found[mine] = similar.double().cpu().numpy()[place.reshape(len(mine), -1)]
            return found

        return by_table


class _Asked:
    """What `recommend` was asked, to be cut into rows."""

    def __init__(
        self,
        users: Indices,
        history: sp.csr_matrix | None,
        seen: sp.csr_matrix | None,
        filters: bool,
        recalculate: bool,
    ) -> None:
        self.users, self._history, self._seen = users, history, seen
        self.filters, self.recalculate = filters, recalculate

    def rows(self, rows: Indices) -> tuple[sp.csr_matrix | None, sp.csr_matrix | None]:
        """Return the histories of these rows, and what they have seen."""
        whole = len(rows) == len(self.users)
        history, seen = self._history, self._seen
        return (
            history if whole or history is None else history[rows],
            seen if whole or seen is None else seen[rows],
        )
