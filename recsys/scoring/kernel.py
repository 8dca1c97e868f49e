"""The scoring kernel: histories of users in, lists of recommendations out; no files."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import ConfigError, DataError, ScoringError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.ranking import Ids, Scores

Rows = npt.NDArray[np.int32]
"""Users as rows of the histories."""


class Lists(NamedTuple):
    """The recommendations of some users, one after the other: four arrays of equal length."""

    users: Rows
    items: Ids
    """Columns of the model."""
    scores: Scores
    ranks: npt.NDArray[np.int32]
    """From 1."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A model with the histories that it reads; it recommends to any rows of them."""

    model: Recommender
    histories: sp.csr_matrix
    """(n_users, model items): every user of the data."""
    seen: sp.csr_matrix | None
    """(n_users, model items): what to filter in place of the histories."""
    trained: Rows
    """(n_users,) index of each user among the training users, -1 for others."""
    users: IdMap
    """Users of the data."""
    items: IdMap
    """Items of the model."""
    n: int
    exclude_seen: bool

    @classmethod
    def of(
        cls, model: Recommender, histories: Interactions, seen: Interactions | None, n: int, exclude_seen: bool
    ) -> Kernel:
        """Align the data with the model's items and users.

        Raises:
            NotFittedError: the model is not fitted.
            ScoringError: the model does not know its items.
            ConfigError: `n` is below 1.
            DataError: `seen` lacks a user.
        """
        model._check_fitted()
        if model.items_ is None or model.users_ is None:
            raise ScoringError(
                f"this {type(model).__name__} does not know its item ids; fit it on Interactions, not on a matrix"
            )
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}")
        return cls(
            model=model,
            histories=histories.histories(model.items_),
            seen=None if seen is None else _rows_of_seen(seen, histories.users, model.items_),
            trained=model.users_.codes(histories.users.ids(), on_unknown="mark"),
            users=histories.users,
            items=model.items_,
            n=n,
            exclude_seen=exclude_seen,
        )

    def lists(self, rows: Rows) -> Lists:
        """Return the `n` best items of each of these users, fewer where a user has fewer candidates."""
        ids, scores = self.model.recommend(
            self.trained[rows],
            self.histories[rows],
            N=self.n,
            filter_already_liked_items=self.exclude_seen,
            seen=None if self.seen is None else self.seen[rows],
        )
        filled = ids >= 0
        ranks = np.broadcast_to(np.arange(1, ids.shape[1] + 1, dtype=np.int32), ids.shape)
        return Lists(np.repeat(rows, filled.sum(axis=1)), ids[filled], scores[filled], ranks[filled])


def choose_rows(
    histories: Interactions, users: Sequence[Hashable] | None, on_unknown: Literal["raise", "drop"]
) -> Rows:
    """Return the rows of the users to score, in their order; all users by default.

    Raises:
        ConfigError: `on_unknown` is neither `raise` nor `drop`.
        UnknownIdError: a user is unknown and `on_unknown` is `raise`.
        DataError: a user is named twice.
        ScoringError: nobody is left to score.
    """
    if on_unknown not in ("raise", "drop"):
        raise ConfigError(f"on_unknown must be 'raise' or 'drop', got {on_unknown!r}")
    rows = np.arange(histories.shape[0], dtype=np.int32)
    if users is not None:
        rows = histories.users.codes(users, on_unknown=on_unknown)
        if len(np.unique(rows)) != len(rows):
            raise DataError(f"users must name each user once, got {len(rows) - len(np.unique(rows))} repeats")
    if not len(rows):
        raise ScoringError("there is nobody to score: the data hold none of the users")
    return rows


def blocks(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut the rows into blocks of at most `size`."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _rows_of_seen(seen: Interactions, users: IdMap, items: IdMap) -> sp.csr_matrix:
    """Return what these users have seen of these items: (len(users), len(items))."""
    place = seen.users.codes(users.ids(), on_unknown="mark")
    missing = np.flatnonzero(place < 0)
    if len(missing):
        first = list(users.take(missing[:3]))
        raise DataError(f"seen must hold every user of the histories, {len(missing)} are missing, such as {first}")
    return seen.histories(items)[place]
