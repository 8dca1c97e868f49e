"""Print what is similar to items, and the users to whom items may be offered."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from recsys import scoring
from recsys.columns import ITEM, NOTHING, RANK, SCORE, SIMILAR_ITEM, SOURCE, TITLE, USER
from recsys.errors import DataError, warn
from recsys.frames import in_words
from recsys.jobs.common import load_model, named, section_for
from recsys.jobs.serve import after, with_titles
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.scoring.kernel import Kernel
from recsys.workspace import Workspace

About = tuple[pd.DataFrame, str] | None


def similar(workspace: Workspace, model: str, items: Sequence[str], *, n: int = 10) -> pd.DataFrame:
    """Print the `n` items most similar to each of the items, by title.

    Returns `item_id, similar_item_id, score, rank, title` and the further columns that the table of items has of the
    similar items. No histories are read.

    Raises:
        UnknownIdError: the model does not know an item.
        UnsupportedError: it has no similarity of items.
    """
    fitted, _ = load_model(workspace, model)
    ids = named(Kernel(fitted).items, items, "items", "known to the model")
    about = _about_items(fitted, model)
    lists = scoring.similar_items_frame(fitted, ids, n)
    frame = with_titles(fitted, None, lists, about, of=SIMILAR_ITEM)
    if workspace.in_words:
        further = frame.columns[frame.columns.tolist().index(TITLE) + 1 :]
        for item, rows in _by_item(fitted, ids, frame, about):
            print(f"\n{item}\n  most similar (similarity)")
            lines = zip(rows[RANK], rows[SCORE], rows[TITLE], rows[further].itertuples(index=False), strict=True)
            for rank, score, title, values in lines:
                print(f"    {rank:2d}.  {title}  ({score:.3f}){after(in_words(values))}")
    return frame


def users(
    workspace: Workspace, model: str, items: Sequence[str], *, n: int = 10, data: str | None = None
) -> pd.DataFrame:
    """Print the `n` best potential users of each of the items: who has not seen it and has the highest scores.

    Returns `item_id, user_id, score, rank, source, title`, the title being that of the item.

    Raises:
        UnknownIdError: the model does not know an item.
    """
    fitted, _ = load_model(workspace, model)
    ids = named(Kernel(fitted).items, items, "items", "known to the model")
    section = section_for(fitted, model, data)
    histories, seen = section.histories(workspace.folder)
    about = section.item_table()
    lists = scoring.recommend_users_frame(fitted, ids, histories, n, seen=seen)
    titled = with_titles(fitted, histories, lists, about)
    if workspace.in_words:
        for item, rows in _by_item(fitted, ids, titled, about):
            print(f"\n{item}\n  users (score)")
            for rank, user, score, source in zip(rows[RANK], rows[USER], rows[SCORE], rows[SOURCE], strict=True):
                note = "  nothing is known of this user" if source == NOTHING else ""
                print(f"    {rank:2d}.  {user}  ({score:.3f}){note}")
            if rows.empty:
                print("    (everybody has seen it)")
    return titled[[*lists.columns, TITLE]]


def _about_items(model: Recommender, uri: str) -> About:
    """Return the table of items that the model was trained beside; None without one, or where it is gone."""
    if not part_of(model.about_, "config"):
        return None
    try:
        return section_for(model, uri, None).item_table()
    except (DataError, OSError) as error:
        warn(f"items are shown without the table of items: {error}")
        return None


def _by_item(
    model: Recommender, items: Sequence[Hashable], frame: pd.DataFrame, about: About
) -> list[tuple[str, pd.DataFrame]]:
    """Return each item as a line that names it, with its rows."""
    titles = with_titles(model, None, pd.DataFrame({ITEM: pd.Series(list(items), dtype=object)}), about)[TITLE]
    rows: dict[Hashable, list[int]] = {item: [] for item in items}
    for number, item in enumerate(frame[ITEM].tolist()):
        rows[item].append(number)
    return [
        (f"item {item}" if title == str(item) else f"item {item}: {title}", frame.iloc[rows[item]])
        for item, title in zip(items, titles, strict=True)
    ]
