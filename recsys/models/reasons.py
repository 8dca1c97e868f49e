"""Scores, and which items of a history speak for them: exact shares, leave-one-out and integrated gradients."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.columns import CONTRIBUTION, ITEM
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.models.codes import Codes, Doubles
from recsys.models.fallback import readable
from recsys.models.selection import ROW_BLOCK, Histories, Indices, indices

Method = Literal["exact", "leave-one-out", "gradients"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a user has the score of an item: score = baseline + Σ contributions + remainder."""

    item_id: Hashable
    """The item explained: its external id, or its index where the model knows no ids."""
    score: float
    """The model's own score of the item, given the history."""
    baseline: float
    """Its score given an empty history."""
    remainder: float
    """What contributions and baseline leave: rounding where they are exact, what items say only together elsewhere."""
    method: Method
    """How the contributions were found."""
    contributions: pd.DataFrame
    """`item_id, contribution`: a row per item of the history, the largest contribution first, equal ones by index."""


class Contributions(NamedTuple):
    """What the items of one history contribute to the scores of some items, as arrays."""

    scores: Doubles
    """(n_items,)."""
    baselines: Doubles
    """(n_items,) scores of the same items given an empty history."""
    values: Doubles
    """(n_stored, n_items), in the order of the history's entries."""
    method: Method


class Reasons(Codes):
    """What models say of an item: its score, and the shares that the items of the history have in it.

    A model gives `_scores`. Where these are sums over the items of the history it gives `_contributions` too, where a
    network reads the history `_gradients`.
    """

    @abstractmethod
    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        """Return a (rows, items) float32 block of scores, perhaps in the memory of `out`.

        Args:
            histories: one row per user; None only if the model declares `scores_known_users` or `keeps_users`.
            items: item indices; None for all items.
        """

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles | None:
        """Return what each stored entry of one history adds to the scores of `items`, (n_stored, len(items)).

        The history is that of a user whom training never saw. None where scores are no sums over the history.
        """
        return None

    def _gradients(self, history: sp.csr_matrix, userid: Indices, items: Indices) -> Doubles | None:
        """Return the integrated gradients of the scores of `items`, (n_stored, len(items)); None without a network."""
        return None

    def _checked(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        """Return `_scores`; a block of another shape or type would name users or items that do not exist."""
        scores = self._scores(histories, userid, items, out)
        expected = (len(userid), self.n_items_ if items is None else len(items))
        if not isinstance(scores, Tensor) or scores.shape != expected or not scores.is_floating_point():
            found = f"{tuple(scores.shape)} {scores.dtype}" if isinstance(scores, Tensor) else type(scores).__name__
            raise DataError(f"_scores of {type(self).__name__} must give a float tensor {expected}, got {found}")
        if not self._of_package() and (out is None or scores.data_ptr() != out.data_ptr()):
            # Masks are written into the block, which may be a view of what a model of one's own has learned.
            scores = scores.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        # The largest is NaN if any is; -inf is how a model says that it never recommends an item.
        if scores.numel() and not float(scores.amax()) < math.inf:
            raise DataError(
                f"{type(self).__name__} gives scores that are NaN or infinite, by which nothing can be ordered; look "
                "at the values of the histories, and at what was learned"
            )
        return scores

    def explain(
        self,
        userid: npt.ArrayLike,
        user_items: Any,
        itemid: npt.ArrayLike,
        *,
        method: Method | None = None,
    ) -> Explanation | tuple[Explanation, ...]:
        """Return which items of a user's history speak for an item, or for each of several, and which against it.

        - `exact`: the score is a sum over the items of the history, and a contribution is an item's term of it. So it
          is with linear models and ItemKNN; with ALS (Hu, Koren and Volinsky 2008, §5), where the weight of a term also
          depends on which other items are there; with HigherOrderEASE a pair's term goes to its two items by halves,
          which are the Shapley values.
        - `leave-one-out`: the score less that of the history without the item. Two items that say the same share
          little, since either alone says it; the remainder tells how much of the score is of that kind.
        - `gradients`: integrated gradients of a network (Sundararajan, Taly and Yan 2017), from the empty history in a
          straight line to what the network's first layer reads of this one. They add up to the score but for the error
          of the quadrature and, with `biases` of AutoRec, the user's bias.

        The score is the model's own: the popularity that `recommend` puts in the place of scores of users without a
        usable history has no reasons. Models that fold users in are explained as `recommend(recalculate_user=True)`
        scores, since what they learned of a training user is no function of the history.

        Args:
            userid: one index, as in `recommend`.
            user_items: (1, n_items) the user's history; any scipy sparse format, or `Interactions`.
            itemid: an item index, or an array of them; items of the history may be among them.
            method: None: exact where the model's scores are sums, else leave-one-out.

        Returns:
            an `Explanation`; for an array a tuple of one per item, in its order.

        Raises:
            UnsupportedError: the model's lists do not depend on the history, or it has no such method.
            OutOfRangeError: an item index is not in 0..n_items-1.
            DataError: not one user, the history is missing or has another shape, what is asked for exceeds memory, or a
                score is -inf.
            ConfigError: there is no such method.
        """
        self._check_fitted()
        users = indices(userid, "userid")
        if len(users) != 1:
            raise DataError(f"explain takes one user at a time, got {len(users)}; call it for each of them")
        if user_items is None:
            raise DataError("reasons are items of the user's history: pass it as user_items, one row")
        history = self._matrix(user_items)
        if history.shape[0] != 1:
            raise DataError(f"user_items must have one row, the history of that user, got {history.shape[0]} rows")
        items = indices(itemid, "itemid", self.n_items_)
        found = self.contributions_to(int(users[0]), history, items, method)
        explained = tuple(self._explanation(history, items, found, place) for place in range(len(items)))
        return explained[0] if np.ndim(itemid) == 0 else explained

    def contributions_to(
        self, user: int, history: sp.csr_matrix, items: Indices, method: Method | None = None
    ) -> Contributions:
        """Return what `explain` returns as arrays, for jobs: `history` is a checked row, `items` are checked indices.

        Raises:
            UnsupportedError, DataError, ConfigError: as `explain`.
        """
        self._require("explains")
        if method is not None and method not in get_args(Method):
            raise ConfigError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
        n, m = history.nnz, len(items)
        memory.require(16 * n * m, f"the contributions of {n:,} items to {m:,} need", "explain fewer items at a time")
        user = -1 if self.capabilities.new_users == "fold-in" else user
        read = readable(history, self.popularity_)
        distinct, place = np.unique(items, return_inverse=True)
        both = sp.csr_matrix((read.data, read.indices, [0, read.nnz, read.nnz]), shape=(2, self.n_items_))
        with torch.inference_mode():
            scores, baselines = self._scores_of(both, user, distinct)[:, place]
        if len(never := items[scores == -np.inf]):
            raise DataError(f"{type(self).__name__} never recommends item {never[0]} to this user: its score is -inf")
        used, found = self._found(user, read, distinct, method)
        if len(found) < n:  # no training user has any of its items: nothing is read of it
            found = np.zeros((n, len(distinct)))
        return Contributions(scores, baselines, found[:, place], used)

    def _found(
        self, user: int, history: sp.csr_matrix, items: Indices, method: Method | None
    ) -> tuple[Method, Doubles]:
        """Return the method used, and what each stored entry contributes to the scores of `items`."""
        sums = self._contributions(history, items) if self._sums_as_here() else None
        if sums is not None and method in (None, "exact"):
            return "exact", sums
        name = type(self).__name__
        if method == "exact":
            raise UnsupportedError(f"the scores of {name} are no sums over the history; use method='leave-one-out'")
        if method == "gradients":
            slopes = None if sums is not None else self._gradients(history, np.array([user]), items)
            if slopes is None:
                use = "'exact'" if sums is not None else "'leave-one-out'"
                raise UnsupportedError(f"{name} has no network that reads a history; use method={use}")
            return method, slopes
        return "leave-one-out", self._left_out(user, history, items)

    def _sums_as_here(self) -> bool:
        """Return whether `_contributions` are those of these `_scores`, which a class of one's own may override."""
        owners = [
            next(cls for cls in type(self).__mro__ if name in vars(cls)) for name in ("_contributions", "_scores")
        ]
        return issubclass(*owners)

    def _left_out(self, user: int, history: sp.csr_matrix, items: Indices) -> Doubles:
        """Return the scores of `items` less those of the history without each of its entries, some at a time."""
        n = history.nnz
        found = np.empty((n, len(items)))
        step = max(1, min(ROW_BLOCK, _ENTRIES // max(1, n), _SCORES // self.n_items_))
        with torch.inference_mode():
            whole = self._scores_of(history, user, items)
            for start in range(0, n, step):
                entries = np.arange(start, min(start + step, n))
                found[entries] = whole - self._scores_of(without_each(history, entries), user, items)
        return found

    def _scores_of(self, histories: sp.csr_matrix, user: int, items: Indices) -> Doubles:
        """Return the (rows, items) scores of histories of one user."""
        users = np.full(histories.shape[0], user)
        scores = self._checked(readable(histories, self.popularity_), users, items, None)
        return scores.double().cpu().numpy()

    def _explanation(self, history: sp.csr_matrix, items: Indices, found: Contributions, place: int) -> Explanation:
        """Return the explanation of one item."""
        values = found.values[:, place]
        order = np.lexsort((history.indices, -values))
        read, (item,) = history.indices[order], items[[place]].tolist()
        score, baseline = float(found.scores[place]), float(found.baselines[place])
        table = {ITEM: read if self.items_ is None else self.items_.ids(read), CONTRIBUTION: values[order]}
        return Explanation(
            item if self.items_ is None else next(iter(self.items_.take([item]))),
            score,
            baseline,
            score - baseline - float(values.sum()),
            found.method,
            pd.DataFrame(table),
        )


def without_each(history: sp.csr_matrix, entries: npt.NDArray[Any]) -> sp.csr_matrix:
    """Return one history as (len(entries), n_items), row r without the stored entry entries[r]."""
    kept = np.ones((len(entries), history.nnz), dtype=bool)
    kept[np.arange(len(entries)), entries] = False
    columns, values = (np.broadcast_to(part, kept.shape)[kept] for part in (history.indices, history.data))
    indptr = np.arange(len(entries) + 1) * (history.nnz - 1)
    return sp.csr_matrix((values, columns, indptr), shape=(len(entries), history.shape[1]))


_ENTRIES, _SCORES = 2**20, 2**24
"""Stored entries, and scores, of the histories that are scored at a time where each lacks an item."""
