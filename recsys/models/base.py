"""The contract every model keeps: `implicit`'s, with new users, ratings, embeddings and best users on top."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from implicit.recommender_base import RecommenderBase
from torch import Tensor

from recsys.artifacts import Bundle, read_bundle, write_bundle
from recsys.errors import BundleError, ConfigError, DataError, NotFittedError, OutOfRangeError, UnsupportedError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models.capabilities import REFUSALS, Capabilities
from recsys.models.params import Parameters, modern, plain
from recsys.ranking import SCORE_BYTES, Ids, Scores, top_n
from recsys.sparse import as_csr
from recsys.training import Record

Floats = npt.NDArray[np.float32]
ROW_BLOCK = 4096
"""Rows scored or encoded at a time."""
_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


class Validates(Protocol):
    """Measures a model on held-out users after each epoch; `metric` names what chooses the weights to keep."""

    @property
    def metric(self) -> str:
        """Name of the metric that chooses."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""

    def __call__(self, model: Any) -> Mapping[str, float]:
        """Return the metrics of the model as it is now."""


@dataclass(frozen=True)
class Fitting:
    """What a caller of `fit` asks for besides the data."""

    show_progress: bool = False
    callback: Callable[[int, float, float | None], Any] | None = None
    validation: Validates | None = None
    on_epoch: Callable[[dict[str, float]], None] | None = None
    checkpoint: str | Path | None = None


class Recommender(Parameters, RecommenderBase):  # type: ignore[misc]
    """A model of users × items interactions.

    A user without any history gets the most popular items from models that have nothing else to say of them; the
    score is then the share of training users who have the item.

    Hyperparameters are the keyword-only fields of each model's dataclass and are stored as given; `fit` checks them,
    forgets what was learned before, and returns `self`. Everything learned ends in an underscore.

    All models take a user's history as an argument, so a user never seen in training is served by the same call.
    """

    capabilities: ClassVar[Capabilities]
    """What models of this class can do; what is not declared is refused here."""

    n_users_: int
    n_items_: int
    users_: IdMap | None
    items_: IdMap | None
    titles_: npt.NDArray[np.object_] | None
    about_: Mapping[str, Any]
    popularity_: Floats
    record_: Record

    def fit(
        self,
        user_items: Any,
        show_progress: bool = True,
        callback: Callable[[int, float, float | None], Any] | None = None,
        *,
        validation: Validates | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Learn from a users × items matrix.

        Args:
            user_items: `Interactions` (the model then remembers the external ids), or any scipy sparse matrix,
                (n_users, n_items).
            callback: called with (iteration, the iteration's seconds, loss) after each epoch, as in `implicit`.
            validation: measures each epoch and chooses the weights to keep; models without epochs are measured once.
            on_epoch: called with each epoch's entry of `record_`.
            checkpoint: file from which an interrupted training continues (networks only).

        Raises:
            DataError: not a sparse matrix, nothing stored, or values this model cannot take.
            ConfigError: a hyperparameter is out of range.
            TrainingError: the loss is no longer finite.
        """
        self._forget()
        data = user_items if isinstance(user_items, Interactions) else None
        matrix = as_csr(data.matrix if data else user_items)
        if not matrix.nnz:
            raise DataError(f"cannot fit {type(self).__name__} on a matrix of shape {matrix.shape} with nothing stored")
        # Known before the epochs, since validation uses the model as it grows; a failed fit leaves none of it behind.
        self.n_users_, self.n_items_ = matrix.shape
        self.users_, self.items_ = (data.users, data.items) if data else (None, None)
        self.titles_ = data.titles if data else None
        self.about_ = {}
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
        self.popularity_ = (counts / matrix.shape[0]).astype(np.float32)
        try:
            self.check_params()
            record = self._fit(matrix, Fitting(show_progress, callback, validation, on_epoch, checkpoint))
            if record is None:
                entry = {"epoch": 1.0, **(validation(self) if validation else {})}
                record = Record([entry], best_epoch=1, metric=validation.metric if validation else None)
                if on_epoch:
                    on_epoch(entry)
        except BaseException:
            self._forget()
            raise
        self.record_ = record
        return self

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    @abstractmethod
    def _fit(self, matrix: sp.csr_matrix, fitting: Fitting) -> Record | None:
        """Learn from a checked matrix; return the epochs' record, None where there were no epochs."""

    @abstractmethod
    def _scores(
        self,
        histories: sp.csr_matrix | None,
        userid: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64] | None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Return a (rows, items) float32 block of scores, perhaps in the memory of `out`; `items` None means all."""

    def _block(
        self,
        histories: sp.csr_matrix | None,
        userid: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64] | None,
        out: Tensor | None = None,
    ) -> Tensor:
        scores = self._scores(histories, userid, items, out)
        if self.capabilities.popularity_fallback and histories is not None:
            cold = np.flatnonzero((np.diff(histories.indptr) == 0) & ~self._known(userid))
            if len(cold):
                popularity = self.popularity_ if items is None else self.popularity_[items]
                scores[torch.from_numpy(cold).to(scores.device)] = torch.from_numpy(popularity).to(scores.device)
        return scores

    def _item_similarity(self, asked: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> Tensor:
        """Return the (asked, among) similarities of items; what an item scores with itself is not read."""
        return cosine(self._item_vectors(), asked, among)

    def _item_vectors(self) -> Tensor:
        """Return (n_items, d) vectors whose cosine is the similarity of items."""
        raise UnsupportedError(f"{type(self).__name__} has no vectors of items; similar_items() compares items")

    @abstractmethod
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the learned arrays, for the bundle."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Set what `_arrays` and `_state` gave."""

    def _state(self) -> dict[str, Any]:
        """Return learned scalars as JSON values, for the bundle."""
        return {}

    def _user_vectors(self) -> Tensor:
        """Return (n_users, d) vectors of the training users whose cosine is the similarity of users."""
        raise NotImplementedError

    def _known(self, userid: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which users are scored from what was learned of them and need no history."""
        return (userid >= 0) & (userid < self.n_users_) & self.capabilities.scores_known_users

    def encode(self, user_items: Any) -> Floats:
        """Return (n_rows, d) embeddings of users, from their histories alone; nothing is drawn.

        Raises:
            UnsupportedError: the model has none.
        """
        self._check_fitted()
        self._require("encodes")
        matrix = self._matrix(user_items)
        with torch.inference_mode():
            vectors: Floats = self._encode(matrix).cpu().numpy()
        return vectors

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        """Return (n_rows, d) embeddings of users, from their histories alone."""
        raise NotImplementedError

    def item_vectors(self) -> Floats:
        """Return (n_items, d) vectors of the items, whose cosine `similar_items` ranks by.

        Raises:
            UnsupportedError: the model compares items by something else, or not at all.
        """
        self._check_fitted()
        vectors: Floats = self._item_vectors().detach().cpu().numpy()
        return vectors

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

        Args:
            userid: an index, or an array of them. Models with learned user vectors (I-AutoRec, ALS, BPR) use those of a
                training index and work from the history for any other index, -1 included; CDAE reads both for a
                training index. All other models always work from the history.
            user_items: row r is the history of userid[r]; any scipy sparse format.
            N: length of each list; slots that no item can fill hold id -1 and score -finfo(float32).max.
            filter_already_liked_items: never return a stored item of the row.
            filter_items: item indices never to return.
            recalculate_user: work from the history even for a training index.
            items: rank only these; the lists are then at most as long as `items`. Not together with `filter_items`.
            seen: row r is all that userid[r] has met, where the history the model reads is only a part of it, such as
                what was liked; its stored entries are filtered in place of those of `user_items`.

        Returns:
            ids int32 and scores float32: (N,) for one user, (len(userid), N) for an array. Equal scores go by index.

        Raises:
            OutOfRangeError: an item index is not in 0..n_items-1.
            DataError: the history is missing or has another shape.
        """
        self._check_fitted()
        scalar = np.ndim(userid) == 0
        users = indices(userid, "userid")
        if filter_items is not None and items is not None:
            raise DataError("pass filter_items or items, not both")
        candidates = self._item_ids(items, "items") if items is not None else None
        excluded = self._item_ids(filter_items, "filter_items") if filter_items is not None else None
        if recalculate_user:
            users = np.full_like(users, -1)
        history = self._histories(user_items, len(users), users, filter_already_liked_items and seen is None)
        met = history if seen is None else self._matrix(seen)
        if met is not None and met.shape[0] != len(users):
            raise DataError(f"seen must have one row per userid ({len(users)}), got {met.shape[0]} rows")
        n_candidates = self.n_items_ if candidates is None else len(candidates)
        length = N if candidates is None else min(N, len(candidates))
        _check_length(N)

        def block(rows: slice, out: Tensor | None) -> Tensor:
            return self._block(None if history is None else history[rows], users[rows], candidates, out)

        with torch.inference_mode():
            ids, scores = top_n(
                block,
                len(users),
                n_candidates,
                length,
                exclude=met if filter_already_liked_items else None,
                candidates=candidates,
                exclude_ids=excluded,
            )
        return (ids[0], scores[0]) if scalar else (ids, scores)

    def recommend_users(
        self,
        itemid: npt.ArrayLike,
        user_items: Any = None,
        N: int = 10,
        filter_already_liked_users: bool = True,
        *,
        userid: npt.ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Return the best potential users of one item or of several.

        Args:
            itemid: an item index, or an array of them.
            user_items: (n, n_items) histories of the users to choose from; the returned indices are its rows. Without
                it the training users are ranked, for models that keep their vectors, and none is filtered.
            filter_already_liked_users: never return a user whose row holds the item; needs `user_items`.
            userid: (n,) training indices of those rows, as in `recommend`, -1 for others. Models with learned user
                vectors then use these; without it every row is folded in from its history.

        Returns:
            user indices int32 and scores float32: (N,) for one item, (len(itemid), N) for an array.
        """
        self._check_fitted()
        if user_items is None and not self.capabilities.scores_known_users:
            self._require("keeps_users")
        _check_length(N)
        scalar = np.ndim(itemid) == 0
        distinct, place = np.unique(self._item_ids(itemid, "itemid", keep_order=True), return_inverse=True)
        history = None if user_items is None else self._matrix(user_items)
        n_users = self.n_users_ if history is None else history.shape[0]
        known = np.full(n_users, -1) if userid is None else indices(userid, "userid")
        if len(known) != n_users:
            raise DataError(f"userid must name the user of each of the {n_users} rows, got {len(known)}")
        found: list[tuple[Ids, Scores]] = []
        with torch.inference_mode():
            step = max(1, SCORE_BYTES // (4 * max(1, n_users)))
            for first in range(0, len(distinct), step):
                asked = distinct[first : first + step]
                scores = torch.empty(len(asked), n_users)
                for start in range(0, n_users, ROW_BLOCK):
                    rows = slice(start, min(start + ROW_BLOCK, n_users))
                    if history is None:
                        part = self._training_scores(rows, asked)
                    else:
                        part = self._scores(history[rows], known[rows], asked)
                    scores[:, rows] = part.T.cpu()
                exclude = None
                if filter_already_liked_users and history is not None:
                    exclude = as_csr(history[:, asked].T.tocsr())
                found.append(_best(scores, N, exclude))
        ids, values = (np.concatenate(arrays)[place] for arrays in zip(*found, strict=True))
        return (ids[0], values[0]) if scalar else (ids, values)

    def _training_scores(self, rows: slice, items: npt.NDArray[np.int64]) -> Tensor:
        """Return the scores of training users `rows` for `items`, from what was learned of them."""
        return self._scores(None, np.arange(rows.start, rows.stop), items)

    def predict(self, userid: npt.ArrayLike, user_items: Any, itemid: npt.ArrayLike) -> Floats:
        """Return predicted ratings, on the scale of the training ratings.

        Args:
            userid: an index, or an array (b,), as in `recommend`.
            user_items: row r is the history of userid[r].
            itemid: (m,) items of one user, or (b, m) items of each.

        Returns:
            float32 in the shape of `itemid`.

        Raises:
            UnsupportedError: the model's scores are not ratings.
        """
        users = indices(userid, "userid")
        asked = np.asarray(itemid)
        grid = np.atleast_2d(asked)
        if grid.shape[0] != len(users):
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
        matrix = self._histories(user_items, len(users), users, False)
        wanted = self._item_ids(items, "items", keep_order=True)
        with torch.inference_mode():
            return self._ratings(users, matrix, np.asarray(rows, dtype=np.int64), wanted)

    def why_no_ratings(self) -> str:
        """Return why this model, with these hyperparameters, predicts no ratings; empty where it does."""
        name = self.capabilities.ranks_with
        if not self.capabilities.rates:
            return "predicts no ratings"
        if name is not None and getattr(self, name):
            return f"with {name} above 0 ranks items and predicts no ratings"
        return ""

    def _ratings(
        self,
        userid: npt.NDArray[np.int64],
        histories: sp.csr_matrix | None,
        rows: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
    ) -> Floats:
        """Return the predicted rating of items[k] by the user of row rows[k]; (len(rows),) float32."""
        raise NotImplementedError

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
            filter_items: item indices never to return.
            items: choose only among these; not together with `filter_items`.
        """
        self._check_fitted()
        if recalculate_item or item_users is not None:
            raise UnsupportedError(f"{type(self).__name__} does not recalculate items; fit again with the new data")
        self._require("compares_items")
        return self._similar(self._item_similarity, itemid, N, filter_items, items, self.n_items_, "item")

    def similar_users(
        self,
        userid: npt.ArrayLike,
        N: int = 10,
        filter_users: npt.ArrayLike | None = None,
        users: npt.ArrayLike | None = None,
        *,
        user_items: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return the users most similar to one user or to several: the user first, with score 1.

        Similarity is the cosine between embeddings.

        Args:
            userid: an index, or an array of them.
            filter_users: user indices never to return.
            users: choose only among these; not together with `filter_users`.
            user_items: (n, n_items) histories to encode; `userid` then counts its rows. Without it the training users
                are compared.
        """
        self._check_fitted()
        if user_items is None:
            self._require("keeps_users")
        vectors = self._user_vectors() if user_items is None else torch.from_numpy(self.encode(user_items))

        def similarity(asked: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> Tensor:
            return cosine(vectors, asked, among)

        return self._similar(similarity, userid, N, filter_users, users, len(vectors), "user")

    def save(self, file: str | Path, *, metrics: Mapping[str, float] | None = None, about: Any = None) -> None:
        """Write the model as a folder of plain files (see `recsys.artifacts`), whole or not at all.

        Args:
            metrics: measured figures to store beside the model.
            about: JSON values that say where the model comes from, such as the job's configuration; `load` gives them
                back as `about_`.
        """
        self._check_fitted()
        record = {"epochs": self.record_.epochs, "best_epoch": self.record_.best_epoch, "metric": self.record_.metric}
        state = {"n_users": self.n_users_, "n_items": self.n_items_, "record": record, **self._state()}
        bundle = Bundle(
            model=type(self).__name__,
            module=type(self).__module__,
            params=self.params(),
            state=json.loads(json.dumps(state)),
            arrays={"popularity": self.popularity_, **self._arrays()},
            users=self.users_,
            items=self.items_,
            titles=self.titles_,
            metrics=dict(metrics or {}),
            about=dict(self.about_ if about is None else about),
        )
        write_bundle(bundle, file)

    @classmethod
    def load(cls, file: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model of this class.

        Args:
            device: where it shall compute from now on, whatever it was trained on.

        Raises:
            BundleError: nothing there, damaged, of a newer schema, or of another class (`recsys.load` takes any).
        """
        return cls.from_bundle(read_bundle(file), str(file), device)

    @classmethod
    def from_bundle(cls, bundle: Bundle, where: str, device: str = "auto") -> Self:
        """Return the model that a bundle holds; `where` it was read from is for messages.

        Raises:
            BundleError: it is of another class, or does not fit this version's.
        """
        if bundle.model != cls.__name__:
            raise BundleError(f"{where} holds a {bundle.model}, not a {cls.__name__}; use recsys.load for any model")
        try:
            params = {name: plain(value) for name, value in modern(cls, bundle.params).items()}
            model = cls(**{**params, **({"device": device} if "device" in params else {})})
            model.n_users_, model.n_items_ = int(bundle.state["n_users"]), int(bundle.state["n_items"])
            model.record_ = Record(**bundle.state["record"])
            model.users_, model.items_, model.titles_ = bundle.users, bundle.items, bundle.titles
            model.about_ = dict(bundle.about)
            model.popularity_ = bundle.arrays["popularity"]
            model._restore(bundle.arrays, bundle.state)
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise BundleError(f"{where} does not fit this version's {cls.__name__}: {error}") from None
        return model

    def _require(self, ability: str) -> None:
        """Refuse what the class does not declare."""
        if not getattr(self.capabilities, ability):
            raise UnsupportedError(f"{type(self).__name__} {REFUSALS[ability]}")

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_items_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first")

    def _matrix(self, user_items: Any) -> sp.csr_matrix:
        """Return checked histories with the model's columns."""
        if isinstance(user_items, Interactions):
            user_items = user_items.histories(self.items_) if self.items_ is not None else user_items.matrix
        matrix = as_csr(user_items)
        if matrix.shape[1] != self.n_items_:
            raise DataError(
                f"user_items must have one column per training item ({self.n_items_}), got shape {matrix.shape}"
            )
        return matrix

    def _histories(
        self, user_items: Any, n: int, users: npt.NDArray[np.int64], needed_for_filter: bool
    ) -> sp.csr_matrix | None:
        known = self.capabilities.scores_known_users and bool(self._known(users).all())
        if user_items is None:
            if known and not needed_for_filter:
                return None
            raise DataError(
                f"{type(self).__name__} needs the users' histories: pass user_items with one row per userid"
                + (", or filter_already_liked_items=False" if known else "")
            )
        matrix = self._matrix(user_items)
        if matrix.shape[0] != n:
            raise DataError(f"user_items must have one row per userid ({n}), got {matrix.shape[0]} rows")
        return matrix

    def _item_ids(self, items: npt.ArrayLike, name: str, keep_order: bool = False) -> npt.NDArray[np.int64]:
        ids = indices(items, name)
        if ids.size and (ids.min() < 0 or ids.max() >= self.n_items_):
            raise OutOfRangeError(f"{name} must lie in 0..{self.n_items_ - 1}, got {ids.min()}..{ids.max()}")
        return ids if keep_order else np.unique(ids)

    def _similar(
        self,
        similarity: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Tensor],
        ids: npt.ArrayLike,
        n: int,
        excluded: npt.ArrayLike | None,
        candidates: npt.ArrayLike | None,
        total: int,
        what: str,
    ) -> tuple[Ids, Scores]:
        scalar = np.ndim(ids) == 0
        _check_length(n)
        if excluded is not None and candidates is not None:
            raise DataError(f"pass filter_{what}s or {what}s, not both")

        def checked(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
            array = indices(values, what)
            if array.size and (array.min() < 0 or array.max() >= total):
                raise OutOfRangeError(f"{what} indices must lie in 0..{total - 1}, got {array.min()}..{array.max()}")
            return array

        asked = checked(ids)
        among = np.arange(total) if candidates is None else np.unique(checked(candidates))

        def block(rows: slice, out: Tensor | None) -> Tensor:
            scores = similarity(asked[rows], among).clamp_(-1.0, _BELOW_ONE)
            # Something's similarity to itself is 1 by definition; rounding must not let a twin overtake it.
            return scores.masked_fill_(torch.from_numpy(asked[rows, None] == among[None, :]).to(scores.device), 1.0)

        with torch.inference_mode():
            found = top_n(
                block,
                len(asked),
                len(among),
                n if candidates is None else min(n, len(among)),
                candidates=None if candidates is None else among,
                exclude_ids=None if excluded is None else np.unique(checked(excluded)),
            )
        return (found[0][0], found[1][0]) if scalar else found


def _check_length(n: int) -> None:
    if int(n) != n:
        raise DataError(f"N must be a whole number, got {n}")
    if n < 1:
        raise DataError(f"N must be at least 1, got {n}")


def indices(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Return indices as an int64 array of one dimension; a mask or fractions are refused, by `name`."""
    array = np.atleast_1d(np.asarray(values))
    if array.size and array.dtype.kind not in "iu":
        hint = "; turn a mask into indices by numpy.flatnonzero" if array.dtype.kind == "b" else ""
        raise DataError(f"{name} must be whole numbers, got {array.dtype}{hint}")
    return array.astype(np.int64)


def _best(scores: Tensor, n: int, exclude: sp.csr_matrix | None) -> tuple[Ids, Scores]:
    return top_n(lambda rows, out: scores[rows], scores.shape[0], scores.shape[1], n, exclude=exclude)


def cosine(vectors: Tensor, asked: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> Tensor:
    """Return the (asked, among) cosines between rows of `vectors`."""
    unit = torch.nn.functional.normalize(vectors, dim=1, eps=1e-12)
    return unit[torch.from_numpy(asked)] @ unit[torch.from_numpy(among)].T


def pick_device(device: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={device!r}, but torch {torch.__version__} sees no CUDA device here; use 'auto' or 'cpu'"
        )
    return found


def new_generator(seed: int | np.random.Generator | None) -> torch.Generator:
    """Return a CPU generator from a seed, from a numpy generator, or from fresh entropy."""
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
