"""LensKit: `ToLensKit`, a scorer of theirs over a model of this package, and `FromLensKit`, the other way round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from lenskit.data import Dataset, ItemList, RecQuery, from_interactions_df
from lenskit.pipeline import Component, Pipeline, topn_pipeline
from lenskit.training import Trainable, TrainingOptions

from recsys.adapters.foreign import Foreign
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.registry import model_class
from recsys.models.selection import Indices


@dataclass
class Config:
    """Class and hyperparameters of a model of this package, as LensKit keeps configurations."""

    model: str
    params: dict[str, Any] = field(default_factory=dict)
    use_ratings: bool = False


class ToLensKit(Component, Trainable):  # type: ignore[misc]
    """See `recsys.adapters.to_lenskit`. After training `fitted_` is the model of this package."""

    config: Config
    fitted_: Recommender

    def train(self, data: Dataset, options: TrainingOptions | None = None) -> None:
        """Fit a new model; one that is trained stays as it is if the options say not to train again."""
        if hasattr(self, "fitted_") and options is not None and not options.retrain:
            return
        matrix = sp.csr_matrix(data.interactions().matrix().scipy("rating" if self.config.use_ratings else None))
        users, items = (IdMap(ids.ids().tolist()) for ids in (data.users, data.items))
        model = model_class(self.config.model)(**self.config.params)
        self.fitted_ = model.fit(Interactions(matrix, users, items), show_progress=False)

    def __call__(self, query: RecQuery, items: ItemList) -> ItemList:
        """Return the items with their scores; NaN for those that the model does not know or never recommends."""
        users, known = self.fitted_.users_, self.fitted_.items_
        assert users is not None  # it was fitted to Interactions
        assert known is not None
        history = self._history(query.history_items, known)
        userid = -1 if query.user_id is None else users.codes([query.user_id], "mark")[0]
        place = known.codes(items.ids().tolist(), "mark")
        scores = np.full(len(items), np.nan, dtype=np.float32)
        asked = np.unique(place[place >= 0])
        if len(asked):
            if self.config.use_ratings and not self.fitted_.why_no_ratings():
                found, values = asked, self.fitted_.predict([userid], history, asked[None])[0]
            else:
                listed, values = self.fitted_.recommend([userid], history, len(asked), False, items=asked)
                found, values = listed[listed >= 0], values[listed >= 0]
            of_item = np.full(len(known), np.nan, dtype=np.float32)
            of_item[found] = values
            scores[place >= 0] = of_item[place[place >= 0]]
        return ItemList(items, scores=scores)

    def _history(self, given: ItemList | None, known: IdMap) -> sp.csr_matrix:
        """Return a history as a row."""
        codes = known.codes([] if given is None else given.ids().tolist(), "mark")
        rated = given.field("rating") if self.config.use_ratings and given is not None else None
        values = np.ones(len(codes)) if rated is None else np.asarray(rated)
        row = (values[codes >= 0], (np.zeros(np.count_nonzero(codes >= 0), dtype=np.int32), codes[codes >= 0]))
        return sp.csr_matrix(row, shape=(1, len(known)), dtype=np.float32)


@dataclass(kw_only=True, eq=False)
class FromLensKit(Foreign):
    """See `recsys.adapters.from_lenskit`."""

    def _train(self, entries: pd.DataFrame) -> None:
        names = {"user": "user_id", "item": "item_id", "value": "rating"}
        if "timestamp" in entries:
            entries = entries.assign(timestamp=pd.to_datetime(entries["timestamp"], unit="s"))
        self.pipeline_ = self.model if isinstance(self.model, Pipeline) else topn_pipeline(self.model)
        self.pipeline_.train(from_interactions_df(entries.rename(columns=names)))

    def _ask(self, scores: npt.NDArray[np.float32], histories: sp.csr_matrix, userid: Indices) -> None:
        everything = ItemList(item_ids=np.flatnonzero(self.popularity_))
        for row, user in enumerate(userid.tolist()):
            entries = slice(*histories.indptr[row : row + 2])
            history = ItemList(item_ids=histories.indices[entries], rating=histories.data[entries])
            query = RecQuery(user_id=None if user < 0 else user, history_items=history)
            found = self.pipeline_.run("scorer", query=query, items=everything)
            scores[row, found.ids()] = np.nan_to_num(found.scores(), nan=-np.inf)
