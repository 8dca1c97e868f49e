"""Score users in batch: one parquet table of recommendations, complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from recsys.errors import ScoringError
from recsys.jobs.common import histories_for, load_model
from recsys.scoring import ScoringResult, score


def run(
    uri: str,
    output: Path,
    *,
    n: int = 10,
    data: str | None = None,
    users: Path | None = None,
    on_unknown: Literal["raise", "drop"] = "raise",
    root: Path | None = None,
    show_progress: bool = True,
) -> ScoringResult:
    """Write the `n` best items of every user (or of a listed few) as parquet parts with a manifest.

    Args:
        users: a text file with one user id per line, or a parquet or csv file with a column `user_id`.
        on_unknown: `raise` or `drop` for listed users that the data do not hold.
    """
    model = load_model(uri, root)
    histories = histories_for(model, uri, data)
    result = score(
        model,
        histories,
        output,
        n=n,
        users=None if users is None else read_users(users, histories.users.kind == "int"),
        on_unknown=on_unknown,
        model_uri=uri,
        show_progress=show_progress,
    )
    state = "already complete" if result.already_complete else "written"
    print(f"{result.users:,} users, {result.rows:,} rows {state}: {result.output}")
    return result


def read_users(path: Path, integers: bool) -> list[object]:
    """Read a list of user ids.

    Raises:
        ScoringError: unreadable, or an id is not of the data's kind.
    """
    try:
        if path.suffix == ".parquet":
            return list(pd.read_parquet(path)["user_id"].tolist())
        if path.suffix == ".csv":
            return list(pd.read_csv(path)["user_id"].tolist())
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [int(line) for line in lines] if integers else list(lines)
    except KeyError:
        raise ScoringError(f"{path} has no column user_id") from None
    except (OSError, ValueError) as error:
        raise ScoringError(f"the list of users {path} cannot be read: {error}") from None
