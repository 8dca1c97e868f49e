"""Say which items of a user's history speak for an item."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from recsys.columns import CONTRIBUTION, HISTORY_ITEM, ITEM, TITLE
from recsys.errors import warn
from recsys.jobs.arrivals import arrivals, described, with_arrivals
from recsys.jobs.common import load_model, section_for
from recsys.jobs.serve import with_titles
from recsys.models.reasons import Method
from recsys.scoring.frames import explained, explanation_table
from recsys.scoring.kernel import Kernel
from recsys.workspace import Workspace


def run(
    workspace: Workspace,
    model: str,
    user: str,
    item: str,
    *,
    n: int = 10,
    data: str | None = None,
    method: Method | None = None,
    new_items: Path | None = None,
) -> pd.DataFrame:
    """Print the `n` items of a user's history that contribute most to the score of an item, on either side of 0.

    Returns what `recsys.explain_frame` says of these, with a column `title` and the further columns that the data have
    of the items of the history.

    Args:
        new_items: csv or parquet file of items that nobody has met, for a model that reads features of items.

    Raises:
        UnknownIdError: the data hold no such user, or the model no such item.
        UnsupportedError: the model gives no reasons.
    """
    fitted, _ = load_model(workspace, model)
    fitted._require("explains")
    section = section_for(fitted, model, data)
    new = arrivals(new_items, section)
    fitted = with_arrivals(fitted, new)
    items = Kernel(fitted).items
    histories, _ = section.histories(workspace.folder)
    person, thing = histories.users.parse(user), items.parse(item)
    ((_, (one,)),) = explained(fitted, histories, [person], [thing], method=method)
    about, count = described(section.item_table(), new), len(one.contributions)
    frame = with_titles(fitted, histories, explanation_table(person, one, n), about, of=HISTORY_ITEM)
    if not count:
        warn(f"the model reads no item of the history of user {person}")
    if not workspace.in_words:
        return frame
    title = with_titles(fitted, histories, pd.DataFrame({ITEM: pd.Series([thing], dtype=object)}), about)[TITLE].iloc[0]
    print(f"\nuser {person}, {title}: score {one.score:.4f} ({one.method})")
    print(f"    {one.baseline:+.4f}  without a history")
    for contribution, name in zip(frame[CONTRIBUTION], frame[TITLE], strict=True):
        print(f"    {contribution:+.4f}  {name}")
    if rest := count - len(frame):
        left = one.contributions[CONTRIBUTION].sum() - frame[CONTRIBUTION].sum()
        print(f"    {left:+.4f}  {rest:,} more items of the history")
    if one.method != "exact":
        print(f"    {one.remainder:+.4f}  what the items say only together")
    return frame
