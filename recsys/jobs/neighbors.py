"""Print what is similar to items, and the users to whom items may be offered."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import pandas as pd

from recsys import scoring
from recsys.columns import ITEM, NOTHING, RANK, SCORE, SIMILAR_ITEM, SOURCE, TITLE, USER
from recsys.errors import DataError, warn
from recsys.frames import in_words
from recsys.jobs.arrivals import About, arrivals, described, with_arrivals
from recsys.jobs.common import load_model, named, section_for
from recsys.jobs.serve import after, with_titles
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.scoring.kernel import Kernel
from recsys.workspace import Workspace


def similar(
    workspace: Workspace, model: str, items: Sequence[str], *, n: int = 10, new_items: Path | None = None
) -> pd.DataFrame:
    """Print the `n` items most similar to each of the items, by title.

    Returns `item_id, similar_item_id, score, rank, title` and the further columns that the table of items has of the
    similar items. No histories are read.

    Args:
        new_items: csv or parquet file of items that nobody has met, for a model that reads features of items.

    Raises:
        UnknownIdError: the model does not know an item.
        UnsupportedError: it has no similarity of items.
    """
    fitted, _ = load_model(workspace, model)
    new = arrivals(new_items, section_for(fitted, model, None) if part_of(fitted.about_, "config") else None)
    fitted = with_arrivals(fitted, new)
    ids = named(Kernel(fitted).items, items, "items", "known to the model")
    about = described(_about_items(fitted, model), new)
    lists = scoring.similar_items_frame(fitted, ids, n)
    frame = with_titles(fitted, None, lists, about, of=SIMILAR_ITEM)
    if workspace.in_words:
        further = frame.columns[frame.columns.tolist().index(TITLE) + 1 :]
        for item, rows in _by_item(fitted, ids, frame, about):
            print(f"\n{item}\n  most similar (similarity)")
            columns = rows[[RANK, SCORE, TITLE, *further]]
            for rank, score, title, *values in columns.itertuples(index=False, name=None):
                print(f"    {rank:2d}.  {title}  ({score:.3f}){after(in_words(values))}")
    return frame


def users(
    workspace: Workspace,
    model: str,
    items: Sequence[str],
    *,
    n: int = 10,
    data: str | None = None,
    new_items: Path | None = None,
) -> pd.DataFrame:
    """Print the `n` best potential users of each of the items: who has not seen it and has the highest scores.

    Returns `item_id, user_id, score, rank, source, title`, the title being that of the item.

    Args:
        new_items: as in `similar`.

    Raises:
        UnknownIdError: the model does not know an item.
    """
    fitted, _ = load_model(workspace, model)
    section = section_for(fitted, model, data)
    new = arrivals(new_items, section)
    fitted = with_arrivals(fitted, new)
    ids = named(Kernel(fitted).items, items, "items", "known to the model")
    histories, seen = section.histories(workspace.folder)
    about = described(section.item_table(), new)
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
