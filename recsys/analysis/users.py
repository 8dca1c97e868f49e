"""What is known of users by their external ids, beside the users of interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError
from recsys.ids import IdMap

NAMED = 3
"""Ids that a message names."""


def values_of(values: pd.Series[Any], users: IdMap, what: str) -> npt.NDArray[np.object_]:
    """Return the value of each user of `users`, (len(users),) object; None where it is missing or not given.

    Args:
        values: by external user id; users who are not in `users` are left out.
        what: name of the values, for messages.

    Raises:
        DataError: not such a series, a user twice, or none of its users is known.
    """
    if not isinstance(values, pd.Series):
        raise DataError(f"{what} must be a Series of values by user id, got {type(values).__name__}")
    if not values.index.is_unique:
        twice = values.index[values.index.duplicated()].unique()
        raise DataError(f"{what} names {len(twice)} users twice, such as {_some(twice)}; keep one value for each")
    codes = users.codes(values.index, "mark")
    if not (codes >= 0).any():
        raise DataError(
            f"none of the {len(values):,} users of {what} is known: they are like {_some(values.index)}, known ones "
            f"like {_some(users.ids())}; index {what} by the user ids of the interactions"
        )
    found = np.full(len(users), None, dtype=object)
    given = values.to_numpy(dtype=object, copy=True)
    given[values.isna().to_numpy()] = None
    found[codes[codes >= 0]] = given[codes >= 0]
    return found


def unknown_of(values: pd.Series[Any], users: IdMap) -> pd.Index[Any]:
    """Return the ids of `values` that are not in `users`."""
    return values.index[users.codes(values.index, "mark") < 0]


def _some(ids: Any) -> str:
    return ", ".join(map(repr, list(ids[:NAMED])))
