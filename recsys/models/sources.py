"""What the scores of a user rest on: what training learned of them, their history, or nothing of theirs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recsys.columns import HISTORY, LEARNED, POPULARITY
from recsys.models.base import Recommender
from recsys.models.blend import Blend
from recsys.models.fallback import readable
from recsys.models.selection import Indices
from recsys.ranking import Scores

Marks = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer]
_SCORES = 2**24
"""Scores that are computed at a time."""


def sources_of(
    model: Recommender, users: Indices, histories: sp.csr_matrix, doubtful: Marks, nothing: str = POPULARITY
) -> npt.NDArray[np.object_]:
    """Return on what the scores of each user rest, (n,) of `learned`, `history` and `nothing`.

    - `learned`: training had entries of the user, and what it learned of them serves this history. Models such as CDAE
      and blends may read the history beside it.
    - `history`: the history, which holds something that says something to the model.
    - `nothing`: neither, so that `recommend` gives the most popular items.

    Args:
        users: (n,) training indices, -1 for others.
        histories: (n, n_items).
        doubtful: users of whose scores all may be 0, or popularity in the place of 0: nobody else is scored again here.
        nothing: what the third is called; `recommend_users` has no popularity.
    """
    parts = [part for _, part in model._used()] if isinstance(model, Blend) else [model]
    personal, fallback = model.capabilities.personal, model.capabilities.popularity_fallback
    learned = np.zeros(len(users), bool)
    for part in parts if personal else ():
        learned |= part._known(part._scored_as(users, histories))
    read = readable(histories, model.popularity_)
    filled = np.diff(read.indptr) > 0
    found = np.where(learned, LEARNED, np.where(filled & personal, HISTORY, nothing)).astype(object)
    if not personal:
        return found
    if fallback:
        asked = np.flatnonzero(doubtful & (learned | filled))
    else:  # stored zeros may say nothing to it
        asked = np.flatnonzero(filled & ~learned & ~_any_value(read))
    step = max(1, _SCORES // model.n_items_)
    with torch.inference_mode():
        for start in range(0, len(asked), step):
            rows = asked[start : start + step]
            scores = model._checked(read[rows], model._scored_as(users, histories)[rows], None, None)
            empty = sp.csr_matrix(np.zeros((1, model.n_items_), dtype=np.float32))
            silent = scores == (0 if fallback else model._checked(empty, np.array([-1]), None, None))
            found[rows[silent.all(1).cpu().numpy()]] = nothing
    return found


def popular_lists(model: Recommender, rows: Integers, items: Integers, scores: Scores, n: int) -> Marks:
    """Return which of `n` users have a list whose scores are those of popularity, the empty list among them.

    Args:
        rows, items, scores: of each entry of the lists, with the user as row.
    """
    others = rows[scores != model.popularity_[items]]
    return np.asarray(np.bincount(others, minlength=n) == 0)


def _any_value(histories: sp.csr_matrix) -> Marks:
    """Return which rows hold a value other than 0."""
    rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    return np.asarray(np.bincount(rows[histories.data != 0], minlength=histories.shape[0]) > 0)
