"""Say which items of a user's history speak for an item."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recsys.columns import CONTRIBUTION, ITEM, TITLE
from recsys.jobs.common import load_model, section_for
from recsys.jobs.serve import with_titles
from recsys.models.reasons import Explanation, Method
from recsys.scoring.kernel import Kernel, Source
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
) -> pd.DataFrame:
    """Print the `n` items of a user's history that contribute most to the score of an item, on either side of 0.

    Returns `item_id, contribution, title` and the further columns that the data have of their items, of the whole
    history, the largest contribution first.

    Raises:
        UnknownIdError: the data hold no such user, or the model no such item.
        UnsupportedError: the model gives no reasons.
    """
    fitted, _ = load_model(workspace, model)
    fitted._require("explains")
    items = Kernel(fitted).items
    section = section_for(fitted, model, data)
    histories, _ = section.histories(workspace.folder)
    person, thing = histories.users.parse(user), items.parse(item)
    source = Source(fitted, histories, None)
    row, column = histories.users.codes([person]), items.codes([thing])
    history, _ = source.block(row)
    one = fitted.explain(int(source.trained[row[0]]), history, int(column[0]), method=method)
    assert isinstance(one, Explanation)  # of one item
    about = section.item_table()
    frame = with_titles(fitted, histories, one.contributions, about)
    title = with_titles(fitted, histories, pd.DataFrame({ITEM: items.ids(column)}), about)
    order = np.argsort(-frame[CONTRIBUTION].abs().to_numpy(), kind="stable")
    shown, rest = frame.iloc[np.sort(order[:n])], frame.iloc[order[n:]]
    print(f"\nuser {person}, {title[TITLE].iloc[0]}: score {one.score:.4f} ({one.method})")
    print(f"    {one.baseline:+.4f}  without a history")
    for contribution, name in zip(shown[CONTRIBUTION], shown[TITLE], strict=True):
        print(f"    {contribution:+.4f}  {name}")
    if frame.empty:
        print("    (the model reads no item of the history)")
    if len(rest):
        print(f"    {rest[CONTRIBUTION].sum():+.4f}  {len(rest):,} more items of the history")
    if one.method != "exact":
        print(f"    {one.remainder:+.4f}  what the items say only together")
    return frame
