"""Walks along the code from one user to another: whose taste each step is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch

from recsys.analysis.map import title_of
from recsys.errors import ConfigError, DataError, OutOfRangeError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count
from recsys.ranking import top_n

Floats = npt.NDArray[np.float32]


def walk(model: Recommender, users: Any, start: int, end: int, *, steps: int = 7, n: int = 10) -> pd.DataFrame:
    """Decode points on the straight line between the codes of two users.

    Args:
        users: histories, one row per user: `Interactions`, or any scipy sparse format.
        start, end: rows of `users`.
        steps: points, of which the first and the last are the two users' codes.
        n: length of the list of a step. Items of the ends' histories are not left out of it.

    Returns:
        A row per step: `step` from 1; `position` on the line, 0 to 1; `items`, the indices of the n best items, the
        best first, and `titles`, their names, with " · " between; `of_start` and `of_end`, the share of these items
        that are in the history of each end; `nearest`, the row of the user whose code is nearest (Euclidean), the two
        ends left out, and `nearest_id`, their external id; `distance` to them, as a share of the line's length.

    Raises:
        UnsupportedError: the model has no codes, or its scores read more than the code.
        OutOfRangeError: `start` or `end` is no row of `users`.
        ConfigError: fewer than 2 steps, or both ends are the same user.
        DataError: no user beside the two.
    """
    model._require("decodes")
    rows = model._matrix(users)
    steps, n = check_count("steps", steps), min(check_count("n", n), model.n_items_)
    if steps < 2 or start == end:
        raise ConfigError(f"a walk has at least 2 steps between two users, got {steps} from row {start} to row {end}")
    for row in (start, end):
        if not 0 <= row < rows.shape[0]:
            raise OutOfRangeError(f"a walk is between rows 0 to {rows.shape[0] - 1} of the users, got {row}")
    if rows.shape[0] < 3:
        raise DataError("a walk needs a third user, who may be near it, got 2")
    codes = model.encode(rows)
    position = np.linspace(0, 1, steps)
    line = ((1 - position)[:, None] * codes[start] + position[:, None] * codes[end]).astype(np.float32)
    items = top_n(lambda block, out: torch.from_numpy(model.decode(line[block])), steps, model.n_items_, n)[0]
    nearest, distance = _nearest(line, codes, (start, end))
    length = float(np.linalg.norm(codes[end] - codes[start]))
    return pd.DataFrame(
        {
            "step": np.arange(1, steps + 1),
            "position": position,
            "items": list(items),
            "titles": [" · ".join(title_of(model, item) for item in chosen) for chosen in items.tolist()],
            "of_start": _shares(items, rows[start]),
            "of_end": _shares(items, rows[end]),
            "nearest": nearest,
            "nearest_id": users.users.ids(nearest) if isinstance(users, Interactions) else nearest,
            "distance": distance / length if length else np.full(steps, np.nan),
        }
    )


def _shares(items: npt.NDArray[np.integer], history: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Return the share of each row of items that a history holds."""
    shares: npt.NDArray[np.float64] = np.isin(items, history.indices).mean(axis=1)
    return shares


def _nearest(line: Floats, codes: Floats, ends: tuple[int, int]) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the nearest code of each point, other than those of the ends, and its distance."""
    nearest, least = np.empty(len(line), np.intp), np.empty(len(line), np.float32)
    for step, point in enumerate(line):
        distances = np.linalg.norm(codes - point, axis=1)
        distances[list(ends)] = np.inf
        nearest[step] = distances.argmin()
        least[step] = distances[nearest[step]]
    return nearest, least
