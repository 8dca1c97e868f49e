"""RecTools: `ToRecTools`, a model of theirs over one of this package, and `FromRecTools`, the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from rectools import Columns
from rectools.dataset import Dataset
from rectools.dataset import IdMap as TheirIds
from rectools.dataset import Interactions as TheirInteractions
from rectools.models.base import FixedColdRecoModelMixin, ModelBase, ModelConfig

from recsys.adapters.foreign import Foreign
from recsys.errors import UnsupportedError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.registry import model_class
from recsys.models.selection import Indices

Lists = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]
"""Of each slot of lists that is filled: whose list, which item and the score."""


class Config(ModelConfig):  # type: ignore[misc]
    """Class and hyperparameters of a model of this package, as RecTools keeps configurations."""

    model: str
    params: dict[str, Any] = {}  # noqa: RUF012  # a field of pydantic, which copies it


class ToRecTools(FixedColdRecoModelMixin, ModelBase):  # type: ignore[misc]
    """See `recsys.adapters.to_rectools`."""

    recommends_for_warm = False
    recommends_for_cold = True
    config_class = Config

    def __init__(self, model: Recommender, verbose: int = 0) -> None:
        super().__init__(verbose=verbose)
        self.model = model

    def _get_config(self) -> Config:
        return Config(cls=type(self), verbose=self.verbose, model=type(self.model).__name__, params=self.model.params())

    @classmethod
    def _from_config(cls, config: Config) -> ToRecTools:
        return cls(model_class(config.model)(**config.params), verbose=config.verbose)

    def _fit(self, dataset: Dataset) -> None:
        self.model.fit(interactions_of(dataset), show_progress=self.verbose > 0)

    def _recommend_u2i(
        self, user_ids: Indices, dataset: Dataset, k: int, filter_viewed: bool, sorted_item_ids_to_recommend: Any
    ) -> Lists:
        data, users, items = interactions_of(dataset), self.model.users_, self._items()
        assert users is not None  # as _items
        histories, userid = data.histories(items)[user_ids], users.codes_of(data.users.take(user_ids), "user")
        able, place = self._able(data.items, sorted_item_ids_to_recommend)
        found = self.model.recommend(userid, histories, k, filter_viewed, items=able)
        rows, item, scores = _filled(*found)
        return user_ids[rows], place[item], scores

    def _get_cold_reco(self, dataset: Dataset, k: int, sorted_item_ids_to_recommend: Any) -> tuple[Any, Any]:
        able, place = self._able(interactions_of(dataset).items, sorted_item_ids_to_recommend)
        nothing = sp.csr_matrix(np.zeros((1, self.model.n_items_), dtype=np.float32))
        _, item, scores = _filled(*self.model.recommend([-1], nothing, k, items=able))
        return place[item], scores

    def _recommend_i2i(self, target_ids: Indices, dataset: Dataset, k: int, sorted_item_ids_to_recommend: Any) -> Lists:
        items = interactions_of(dataset).items
        able, place = self._able(items, sorted_item_ids_to_recommend)
        asked = self._items().codes(items.ids(target_ids))
        rows, item, scores = _filled(*self.model.similar_items(asked, k, items=able))
        return target_ids[rows], place[item], scores

    def _items(self) -> IdMap:
        assert self.model.items_ is not None  # it was fitted to Interactions
        return self.model.items_

    def _able(self, items: IdMap, chosen: Any) -> tuple[Indices, Indices]:
        """Return the items of the model that lists may hold, and the number in the dataset of each of its items."""
        place = items.codes_of(self._items(), "item").astype(np.int64)
        able = place >= 0 if chosen is None else (place >= 0) & np.isin(place, chosen)
        return np.flatnonzero(able), place


@dataclass(kw_only=True, eq=False)
class FromRecTools(Foreign):
    """See `recsys.adapters.from_rectools`."""

    def _train(self, entries: pd.DataFrame) -> None:
        if "transformers" in type(self.model).__module__:
            raise UnsupportedError(
                f"{type(self.model).__name__} reads the order of a history, which matrices do not hold; evaluate it "
                "by RecTools, beside a model of this package in to_rectools"
            )
        # Theirs takes rows and columns up to the last that has an entry, so that only users and items with some go in.
        users, items = np.flatnonzero(self.user_counts_), np.flatnonzero(self.popularity_)
        self.place_of_user_, self.place_of_item_ = _places(users, self.n_users_), _places(items, self.n_items_)
        self.known_users_, self.known_items_ = users, items
        at = pd.to_datetime(entries["timestamp"], unit="s") if "timestamp" in entries else None
        user, item = self.place_of_user_[entries["user"]], self.place_of_item_[entries["item"]]
        self.model.fit(self._dataset(user, item, entries["value"].to_numpy(), len(users), at))

    def _ask(self, scores: npt.NDArray[np.float32], histories: sp.csr_matrix, userid: Indices) -> None:
        new = userid < 0
        codes = np.where(new, 0, self.place_of_user_[userid])
        codes[new] = len(self.known_users_) + np.arange(new.sum())
        again = pd.Series(codes).groupby(codes).cumcount().to_numpy()  # a user may be asked for by several histories
        for times in range(again.max() + 1):
            rows = np.flatnonzero(again == times)
            scores[rows] = self._ask_distinct(scores[rows], histories[rows], codes[rows])

    def _ask_distinct(
        self, scores: npt.NDArray[np.float32], histories: sp.csr_matrix, codes: Indices
    ) -> npt.NDArray[np.float32]:
        """Return scores with those of users who are all different, by their numbers in RecTools' data."""
        n_items = len(self.known_items_)
        item = self.place_of_item_[histories.indices]
        user, read = np.repeat(codes, np.diff(histories.indptr)), item >= 0
        last = max(len(self.known_users_), codes.max() + 1)  # a user who has the last item: matrices reach up to it
        data = self._dataset(
            np.append(user[read], last),
            np.append(item[read], n_items - 1),
            np.append(histories.data[read], 1),
            last + 1,
        )
        asked = np.unique(user[read])
        if not len(asked):
            return scores
        try:
            found = self.model.recommend(asked, data, k=n_items, filter_viewed=False, add_rank_col=False)
        except (IndexError, KeyError) as error:
            if (asked < len(self.known_users_)).all():
                raise
            raise UnsupportedError(
                f"{type(self.model).__name__} of RecTools knows the users of its training alone, and "
                f"{int((asked >= len(self.known_users_)).sum())} of those asked for are new; split the ratings of each "
                "user (hold_out_ratings), or use a model that reads a history, such as EASEModel"
            ) from error
        row = pd.Series(np.arange(len(codes)), index=codes)[found[Columns.User].to_numpy()].to_numpy()
        scores[row, self.known_items_[found[Columns.Item].to_numpy()]] = found[Columns.Score].to_numpy()
        return scores

    def _dataset(self, user: Indices, item: Indices, value: Any, n_users: int, times: Any = None) -> Dataset:
        """Return entries as RecTools' data, in which users and items are called by their numbers."""
        at = pd.Timestamp(0) if times is None else times.to_numpy()
        entries = {Columns.User: user, Columns.Item: item, Columns.Weight: value, Columns.Datetime: at}
        users, items = TheirIds(np.arange(n_users)), TheirIds(np.arange(len(self.known_items_)))
        return Dataset(users, items, TheirInteractions(pd.DataFrame(entries)))


def interactions_of(dataset: Dataset) -> Interactions:
    """Return the weighted entries of RecTools' data; rows and columns are its users and items that have some."""
    matrix = dataset.get_user_item_matrix(include_weights=True)
    users, items = dataset.user_id_map.external_ids, dataset.item_id_map.external_ids
    return Interactions(matrix, IdMap(users[: matrix.shape[0]].tolist()), IdMap(items[: matrix.shape[1]].tolist()))


def _places(chosen: Indices, n: int) -> Indices:
    """Return the place among the chosen of each of n numbers, -1 for others."""
    place = np.full(n, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    return place


def _filled(ids: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Lists:
    """Return the filled slots of lists, in their order."""
    rows, slots = np.nonzero(ids >= 0)
    return rows, ids[rows, slots].astype(np.intp), scores[rows, slots]
