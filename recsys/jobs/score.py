"""Score users in batch: one Parquet table of recommendations, complete or absent."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from recsys.errors import ScoringError, UnknownIdError
from recsys.ids import IdMap
from recsys.jobs.common import histories_for, load_model
from recsys.scoring import ScoringResult, score
from recsys.scoring.local import BATCH_SIZE
from recsys.workspace import Workspace


def run(
    workspace: Workspace,
    model: str,
    output: Path,
    *,
    n: int = 10,
    data: str | None = None,
    users: Path | None = None,
    on_unknown: Literal["raise", "drop"] = "raise",
    batch_size: int = BATCH_SIZE,
) -> ScoringResult:
    """Write the `n` best items of every user (or of a listed few) as Parquet parts with a manifest.

    Args:
        users: a text file with one user id per line, or a Parquet or CSV file with a column `user_id`.
        on_unknown: `raise` or `drop` for listed users that the data do not hold.
        batch_size: users of one part; an interrupted job continues after its last complete part.
    """
    fitted, pinned = load_model(workspace, model)
    histories, seen = histories_for(workspace, fitted, model, data)
    result = score(
        fitted,
        histories,
        output,
        n=n,
        users=None if users is None else read_users(users, histories.users, on_unknown),
        on_unknown=on_unknown,
        batch_size=batch_size,
        seen=seen,
        model_uri=pinned,
        asked_uri=model,
        show_progress=workspace.progress,
    )
    state = "already complete" if result.already_complete else "written"
    print(f"{result.users:,} users, {result.rows:,} rows {state}: {result.output}")
    unread = 0 if seen is None or users is not None else seen.shape[0] - histories.shape[0]
    if unread:
        print(f"users without a list, because all their ratings lie below data.min_rating: {unread:,}")
    return result


def read_users(path: Path, known: IdMap, on_unknown: Literal["raise", "drop"]) -> list[Hashable]:
    """Read a list of user ids; ids from text files are converted to the type that `known` holds.

    Raises:
        ScoringError: the file cannot be read.
        UnknownIdError: a user is not known and `on_unknown` is `raise`.
    """
    try:
        if path.suffix == ".parquet":
            users: list[Hashable] = list(pd.read_parquet(path)["user_id"].tolist())
        else:
            users = [known.from_text(text) for text in _texts(path)]
    except KeyError:
        raise ScoringError(f"{path} has no column user_id") from None
    except (OSError, ValueError) as error:
        raise ScoringError(f"the list of users {path} cannot be read: {error}") from None
    missing = np.flatnonzero(known.codes(users, on_unknown="mark") < 0)
    if len(missing) and on_unknown == "raise":
        raise UnknownIdError(
            f"{len(missing)} of the {len(users)} users in {path} are not in the data, for instance "
            f"{[users[row] for row in missing[:3]]}; leave them out with --on-unknown drop"
        )
    return users


def _texts(path: Path) -> list[str]:
    if path.suffix == ".csv":
        return list(pd.read_csv(path, dtype=str, keep_default_na=False)["user_id"].tolist())
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
