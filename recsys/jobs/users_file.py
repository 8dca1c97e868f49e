"""The list of users of a job: one a line, or a column of a table; from a file or from a pipe."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Literal

import numpy as np

from recsys.columns import USER
from recsys.datasets.id_lists import read_ids
from recsys.errors import DataError, ScoringError, UnknownIdError
from recsys.ids import IdMap


def read_users(path: Path | None, known: IdMap, on_unknown: Literal["raise", "drop"]) -> list[Hashable] | None:
    """Return the user ids that a file lists, as `read_ids` reads it; None without a file.

    Raises:
        ScoringError: it cannot be read.
        UnknownIdError: as in `score`.
    """
    if path is None:
        return None
    try:
        users = read_ids(path, USER, known)
    except DataError as error:
        raise ScoringError(str(error)) from None
    missing = np.flatnonzero(known.codes(users, on_unknown="mark") < 0)
    if len(missing) and on_unknown == "raise":
        examples = [users[row] for row in missing[:3]]
        raise UnknownIdError(
            f"{len(missing)} of the {len(users)} users in {path} are not in the data, for instance {examples} "
            f"(there ids are like {next(iter(known))!r}); leave them out with --on-unknown drop"
        )
    return users
