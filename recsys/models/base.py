"""The contract every model keeps: `implicit`'s, with new users, ratings, embeddings and best users on top."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.errors import DataError, UnsupportedError
from recsys.models.extending import Extends
from recsys.models.fallback import fill, readable
from recsys.models.learner import Floats
from recsys.models.reasons import Reasons
from recsys.models.selection import ROW_BLOCK, Histories, Indices, as_array, check_length, cosine, indices, most_similar
from recsys.ranking import Ids, Scores, top_n
from recsys.sparse import as_csr


class Recommender(Reasons, Extends):
    """A model of users × items interactions: it recommends items, and what else its `capabilities` declare.

    All models take a user's history as an argument, so that a user whom training never saw is served by the same call.
    A user without a usable history gets the most popular items: see `recommend`. A model of your own gives
    `capabilities`, `_fit`, `_scores`, `_arrays` and `_restore`, and for what it declares the hooks `_item_vectors` or
    `_item_similarity`, `_user_vectors`, `_ratings`, and those of `Reasons` and `Codes`, such as `_encode`.
    """

    def _item_table(self) -> tuple[Tensor, Tensor] | None:
        """Return vectors w (n_items, d) and offsets b (n_items,) of scores q · w + b; None where scores are others."""
        return None

    def _queries(self, histories: sp.csr_matrix, userid: Indices) -> Tensor:
        """Return the (rows, d) vectors q of users, where scores are q · w + b."""
        raise NotImplementedError

    def _vectors_for_new(self) -> tuple[Tensor, Tensor] | None:
        """Return what `_item_table` does, where at least items outside of the history score q · w + b."""
        return self._item_table()

    def _weights_for_new(self) -> Tensor | None:
        """Return a dense (n_features, n_items) B where items outside of the history score `_features(history)` B."""
        return None

    def _graph(self) -> nn.Module:
        """Return a module that maps `DenseRows` to the (n, n_items) scores of users without learned vectors."""
        raise NotImplementedError

    def _user_vectors(self) -> Tensor:
        """Return (n_users, d) vectors of the training users whose cosine is the similarity of users."""
        raise NotImplementedError

    def _item_vectors(self) -> Tensor:
        """Return (n_items, d) vectors whose cosine is the similarity of items."""
        raise UnsupportedError(f"{type(self).__name__} has no vectors of items; similar_items() compares items")

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        """Return the (asked, among) similarities of items; what an item scores with itself is not read."""
        return cosine(self._item_vectors(), asked, among)

    def _ratings(self, userid: Indices, histories: Histories, rows: Indices, items: Indices) -> Floats:
        """Return the predicted rating of items[k] by the user of row rows[k]; (len(rows),) float32."""
        raise NotImplementedError

    def recommend(
        self,
        userid: npt.ArrayLike,
        user_items: Any = None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: npt.ArrayLike | None = None,
        recalculate_user: bool = False,
        items: npt.ArrayLike | None = None,
        *,
        seen: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the best items of one user or of several.

        A user without a usable history gets the most popular items: what the model itself makes of an empty history or,
        where that is 0 for every item, the items by their share of training users, which is then the score. Unusable is
        a history that is empty, is of items that no training user has, or scores 0 everywhere, as stored zeros may.

        Args:
            userid: an index, or an array of them. Models that fold users in use what they learned of a training user
                whose history is that of training, or says nothing. One that differs in an item or a value they fold in,
                and that of any other index, -1 included. CDAE reads the history beside what it learned of a training
                user; all other models always work from the history.
            user_items: row r is the history of userid[r]; any scipy sparse format, or `Interactions`.
            N: length of each list; slots that no item can fill hold id -1 and score -finfo(float32).max.
            filter_already_liked_items: never return a stored item of the row.
            filter_items: item indices never to return.
            recalculate_user: work from the history even for a training index.
            items: rank only these; the lists are then at most as long as `items`. Not together with `filter_items`.
            seen: row r holds all that userid[r] has seen, where the history that the model reads is only a part of it,
                such as what was liked; its stored entries are filtered in place of those of `user_items`.

        Returns:
            ids int32 and scores float32: (N,) for one user, (len(userid), N) for an array. Equal scores go by index.

        Raises:
            OutOfRangeError: an item index is not in 0..n_items-1.
            DataError: the history is missing or has another shape.
        """
        self._check_fitted()
        users = indices(userid, "userid")
        if filter_items is not None and items is not None:
            raise DataError("pass filter_items or items, not both")
        candidates = None if items is None else np.unique(indices(items, "items", self.n_items_))
        excluded = None if filter_items is None else np.unique(indices(filter_items, "filter_items", self.n_items_))
        if recalculate_user:
            users = np.full_like(users, -1)
        users, history = self._histories(user_items, users, needed=filter_already_liked_items and seen is None)
        filtered = history if seen is None else self._matrix(seen)
        if filtered is not None and filtered.shape[0] != len(users):
            raise DataError(f"seen must have one row per userid ({len(users)}), got {filtered.shape[0]} rows")
        length = check_length(N)

        def block(rows: slice, out: Tensor | None) -> Tensor:
            return self._filled(None if history is None else history[rows], users[rows], candidates, out)

        with torch.inference_mode():
            ids, scores = top_n(
                block,
                len(users),
                self.n_items_ if candidates is None else len(candidates),
                length if candidates is None else min(length, len(candidates)),
                exclude=filtered if filter_already_liked_items else None,
                candidates=candidates,
                exclude_ids=excluded,
            )
        return (ids[0], scores[0]) if np.ndim(userid) == 0 else (ids, scores)

    def recommend_users(
        self,
        itemid: npt.ArrayLike,
        user_items: Any = None,
        N: int = 10,
        filter_already_liked_users: bool = True,
        *,
        userid: npt.ArrayLike | None = None,
        seen: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the best potential users of one item or of several, by the models' own scores.

        Popularity, which `recommend` puts in the place of scores of users without a usable history, is not among them.

        Args:
            itemid: an item index, or an array of them.
            user_items: (n, n_items) histories of the users to choose from; the returned indices are its rows. Without
                it the training users are ranked, by models that keep what they learned of them, and none is filtered.
            filter_already_liked_users: never return a user whose row holds the item; needs `user_items`.
            userid: (n,) training indices of those rows, as in `recommend`, -1 for others; without it every row is
                scored from its history alone.
            seen: (n, n_items) all that these users have seen, in place of the histories where users are filtered.

        Returns:
            user indices int32 and scores float32: (N,) for one item, (len(itemid), N) for an array.

        Raises:
            UnsupportedError: no histories, and the model keeps nothing of its training users.
        """
        self._check_fitted()
        if user_items is None and not self.capabilities.scores_known_users:
            self._require("keeps_users")
        length = check_length(N)
        distinct, place = np.unique(indices(itemid, "itemid", self.n_items_), return_inverse=True)
        history = None if user_items is None else self._matrix(user_items)
        n_users = self.n_users_ if history is None else history.shape[0]
        of_rows = np.full(n_users, -1) if userid is None else indices(userid, "userid")
        if len(of_rows) != n_users:
            raise DataError(f"userid must name the user of each of the {n_users} rows, got {len(of_rows)}")
        of_rows = np.arange(n_users) if history is None else self._scored_as(of_rows, history)
        filtered = history if seen is None else self._matrix(seen)
        if filtered is not None and filtered.shape[0] != n_users:
            raise DataError(f"seen must have one row per user ({n_users}), got {filtered.shape[0]} rows")
        read = None if history is None else readable(history, self.popularity_)

        def block(items: slice, out: Tensor | None) -> Tensor:
            table = torch.empty(len(distinct[items]), n_users)
            for start in range(0, n_users, ROW_BLOCK):
                rows = slice(start, start + ROW_BLOCK)
                own = None if read is None else read[rows]
                table[:, rows] = self._checked(own, of_rows[rows], distinct[items], None).T.cpu()
            return table

        exclude = as_csr(filtered[:, distinct].T) if filtered is not None and filter_already_liked_users else None
        with torch.inference_mode():
            ids, scores = top_n(block, len(distinct), n_users, length, exclude=exclude)
        return (ids[0], scores[0]) if np.ndim(itemid) == 0 else (ids[place], scores[place])

    def predict(self, userid: npt.ArrayLike, user_items: Any, itemid: npt.ArrayLike) -> Floats:
        """Return predicted ratings, on the scale of the training ratings.

        Args:
            userid: an index, or an array (b,); `user_items` has their histories, as in `recommend`.
            itemid: (m,) items of one user, or (b, m) items of each; ratings are float32 of this shape.

        Raises:
            UnsupportedError: the model's scores are not ratings.
        """
        users = indices(userid, "userid")
        asked = as_array(itemid, "itemid")
        grid = np.atleast_2d(asked)
        if grid.ndim > 2 or grid.shape[0] != len(users):
            raise DataError(f"itemid must hold one row per user ({len(users)}), got shape {asked.shape}")
        rows = np.repeat(np.arange(len(users)), grid.shape[1])
        return self.predict_pairs(users, user_items, rows, grid.ravel()).reshape(asked.shape)

    def predict_pairs(
        self, userid: npt.ArrayLike, user_items: Any, rows: npt.ArrayLike, items: npt.ArrayLike
    ) -> Floats:
        """Return the predicted rating of items[k] by the user of row rows[k] of `user_items`; (len(rows),) float32.

        Raises:
            UnsupportedError: the model's scores are not ratings.
        """
        self._check_fitted()
        if reason := self.why_no_ratings():
            can = self.capabilities.rates
            use = f"fit with {self.capabilities.ranks_with}=0 to predict ratings" if can else "use UAutoRec or IAutoRec"
            raise UnsupportedError(f"{type(self).__name__} {reason}; {use}")
        users = indices(userid, "userid")
        users, histories = self._histories(user_items, users, needed=False)
        wanted, of = indices(items, "items", self.n_items_), indices(rows, "rows", len(users))
        if len(wanted) != len(of):
            raise DataError(f"rows and items must name one pair each, got {len(of)} rows and {len(wanted)} items")
        with torch.inference_mode():
            return self._ratings(users, histories, of, wanted)

    def why_no_ratings(self) -> str:
        """Return why this model, with these hyperparameters, predicts no ratings; empty where it does."""
        name = self.capabilities.ranks_with
        if not self.capabilities.rates:
            return "predicts no ratings"
        if name is not None and getattr(self, name):
            return f"with {name} above 0 ranks items and predicts no ratings"
        return ""

    def item_vectors(self) -> Floats:
        """Return (n_items, d) vectors, whose cosine `similar_items` ranks by; an UnsupportedError if there are none."""
        self._check_fitted()
        return self._item_vectors().detach().cpu().numpy()

    def similar_items(
        self,
        itemid: npt.ArrayLike,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Any = None,
        filter_items: npt.ArrayLike | None = None,
        items: npt.ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Return the items most similar to one item or to several: the item itself first, with score 1.

        Similarity is the cosine between the model's item vectors; linear models say what they use in its place.

        Args:
            itemid: an index, or an array of them.
            recalculate_item: refused; a trained model's item vectors are fixed.
            filter_items, items: as in `recommend`.

        Raises:
            UnsupportedError: the model has no similarity of items, or was asked to recalculate one.
        """
        self._check_fitted()
        if recalculate_item or item_users is not None:
            raise UnsupportedError(f"{type(self).__name__} does not recalculate items; fit again with the new data")
        self._require("compares_items")
        return most_similar(
            self._item_similarity, itemid, self.n_items_, N, what="item", excluded=filter_items, chosen=items
        )

    def similar_users(
        self,
        userid: npt.ArrayLike,
        N: int = 10,
        filter_users: npt.ArrayLike | None = None,
        users: npt.ArrayLike | None = None,
        *,
        user_items: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the users most similar, by the cosine of embeddings, to one or several: the user first, with score 1.

        Args:
            userid: an index, or an array of them.
            filter_users: user indices never to return.
            users: choose only among these; not together with `filter_users`.
            user_items: (n, n_items) histories to encode; `userid` then counts its rows. Without it the training users
                are compared.

        Raises:
            UnsupportedError: the model has no embeddings, or without `user_items` keeps no vectors of its users.
        """
        self._check_fitted()
        if user_items is None:
            self._require("keeps_users")
        vectors = self._user_vectors() if user_items is None else torch.from_numpy(self.encode(user_items))
        similarity = partial(cosine, vectors)
        return most_similar(similarity, userid, len(vectors), N, what="user", excluded=filter_users, chosen=users)

    def _histories(self, user_items: Any, users: Indices, needed: bool) -> tuple[Indices, Histories]:
        """Return the indices by which users are scored, and their histories; None where none is given, nor needed."""
        if user_items is None:
            known = self.capabilities.scores_known_users and bool(self._indexed(users).all())
            if known and not needed:
                return users, None
            raise DataError(
                f"{type(self).__name__} needs the users' histories: pass user_items with one row per userid"
                + (", or filter_already_liked_items=False" if known else "")
            )
        matrix = self._matrix(user_items)
        if matrix.shape[0] != len(users):
            raise DataError(f"user_items must have one row per userid ({len(users)}), got {matrix.shape[0]} rows")
        return self._scored_as(users, matrix), matrix

    def _filled(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        """Return the scores, with the most popular items for users without a usable history, as `recommend` says."""
        if histories is not None:
            histories = readable(histories, self.popularity_)
        scores = self._checked(histories, userid, items, out)
        if self.capabilities.popularity_fallback:
            cold = np.zeros(len(userid), bool) if histories is None else np.diff(histories.indptr) == 0

            def whole(rows: Indices) -> Tensor:
                return self._checked(None if histories is None else histories[rows], userid[rows], None, None)

            fill(scores, cold & ~self._known(userid), items, self.popularity_, whole)
        return scores
