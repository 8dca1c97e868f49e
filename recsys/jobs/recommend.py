"""Recommend to one user or a few, with titles, for a person to read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from recsys.columns import ITEM, RANK, SCORE, TITLE, USER
from recsys.errors import ConfigError, UnknownIdError
from recsys.interactions import Interactions
from recsys.jobs.common import histories_for, load_model
from recsys.models import Recommender
from recsys.scoring import recommend_frame
from recsys.workspace import Workspace


def run(
    workspace: Workspace, model: str, users: Sequence[str], *, n: int = 10, data: str | None = None
) -> pd.DataFrame:
    """Print each user's latest history and `n` recommendations by title; return `user_id, item_id, score, rank, title`.

    Raises:
        UnknownIdError: the data hold no user with that id, or no interaction of theirs that the model reads.
        ConfigError: no user was named.
    """
    if not users:
        raise ConfigError("name at least one user with --user")
    fitted, _ = load_model(workspace, model)
    histories, seen = histories_for(workspace, fitted, model, data)
    whole = histories if seen is None else seen
    ids = [whole.users.parse(user) for user in users]
    unread = [user for user in ids if user not in histories.users]
    if unread:
        raise UnknownIdError(
            f"user {unread[0]!r} has no interaction that the model reads: all lie below data.min_rating"
        )
    frame = with_titles(fitted, recommend_frame(fitted, histories, ids, n=n, seen=seen))
    for user, lists in frame.groupby(USER, sort=False):
        print_user(whole, user, lists)
    return frame


def with_titles(model: Recommender, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with a column `title`; items without one show their id."""
    if model.items_ is None or model.titles_ is None:
        return frame.assign(**{TITLE: frame[ITEM].astype(str)})
    return frame.assign(**{TITLE: model.titles_[model.items_.codes(frame[ITEM])]})


def print_user(histories: Interactions, user: Hashable, lists: pd.DataFrame, shown: int = 5) -> None:
    """Print the user's `shown` highest-valued (then latest) items, then their recommendations.

    Values are not printed where all of them are 1.
    """
    rated = bool((histories.matrix.data != 1).any())
    row = int(histories.users.codes([user])[0])
    entries = np.arange(histories.matrix.indptr[row], histories.matrix.indptr[row + 1])
    times = histories.timestamps[entries] if histories.timestamps is not None else np.zeros(len(entries))
    best = entries[np.lexsort((-times, -histories.matrix.data[entries]))][:shown]
    print(f"\nuser {user}: {len(entries)} interactions, among them")
    for entry in best:
        value = f"{histories.matrix.data[entry]:4.1f}  " if rated else ""
        print(f"    {value}{histories.title(int(histories.matrix.indices[entry]))}")
    print("  recommended (score)")
    for rank, score, title in lists[[RANK, SCORE, TITLE]].itertuples(index=False, name=None):
        print(f"    {rank:2d}.  {title}  ({score:.3f})")
