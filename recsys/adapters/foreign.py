"""A model of another library as one of this package: it is asked for its scores of all items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import UnsupportedError
from recsys.models import Capabilities, Recommender
from recsys.models.fitting import FitOptions
from recsys.models.selection import Histories, Indices

_SCORES = 2**22
"""Scores that are asked for at a time, since tables of them take many times the memory of a matrix."""


@dataclass(kw_only=True, eq=False)
class Foreign(Recommender):
    """What models of other libraries have in common.

    The other library sees the users and items that have entries in training, by their numbers here. Items that it gives
    no score are never recommended; users without a history, and those of whom all scores are 0, get the most popular.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        encodes=False,
        compares_items=False,
        keeps_users=False,
        popularity_fallback=True,
        no_graph="it is a model of another library",
    )

    model: Any
    """The model of the other library, which `fit` fits."""

    @abstractmethod
    def _train(self, entries: pd.DataFrame) -> None:
        """Fit the model to `user`, `item`, `value` and, if known, `timestamp` (seconds since 1970) of each entry."""

    @abstractmethod
    def _ask(self, scores: npt.NDArray[np.float32], histories: sp.csr_matrix, userid: Indices) -> None:
        """Write the scores of users, none of whose histories is empty; -inf stays where the library gives none.

        Args:
            scores: (rows, n_items), all -inf; changed in place.
            userid: (rows,) indices of users who have entries in training, -1 for others.
        """

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        entries = pd.DataFrame({"user": rows, "item": matrix.indices, "value": matrix.data})
        if options.data is not None and options.data.timestamps is not None:
            entries["timestamp"] = options.data.timestamps
        self._train(entries)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no training user is scored without
        scores = np.zeros((len(userid), self.n_items_), dtype=np.float32)
        inside = (userid >= 0) & (userid < self.n_users_)
        known = inside & (self.user_counts_[np.where(inside, userid, 0)] > 0)
        asked = np.flatnonzero(np.diff(histories.indptr))
        size = max(1, _SCORES // self.n_items_)
        for start in range(0, len(asked), size):
            rows = asked[start : start + size]
            found = np.full((len(rows), self.n_items_), -np.inf, dtype=np.float32)
            self._ask(found, histories[rows], np.where(known, userid, -1)[rows])
            scores[rows] = found
        return torch.from_numpy(scores if items is None else scores[:, items])

    @classmethod
    def _of_package(cls) -> bool:
        return False  # what it learns and scores is another library's

    def _arrays(self) -> NoReturn:
        raise UnsupportedError(
            f"{type(self).__name__} cannot be saved: what {type(self.model).__name__} learned belongs to another "
            "library; save it there, or use a model of this package"
        )

    def _restore(self, arrays: Any, state: Mapping[str, Any]) -> NoReturn:
        self._arrays()
