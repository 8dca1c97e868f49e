"""The reasons beside lists: of each recommended item, the items of the history that contribute most to its score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.models import Recommender
from recsys.params import check_count
from recsys.ranking import Ids
from recsys.scoring.kernel import Lists, Source


class Reasons(NamedTuple):
    """The reasons of some recommendations, one after the other."""

    items: Ids
    """Columns of the model."""
    offsets: npt.NDArray[np.int32]
    """(n_recommendations + 1,): the reasons of recommendation k lie at offsets[k]..offsets[k+1]."""

    def lists(self, ids: IdMap) -> list[list[object]]:
        """Return a list of external ids per recommendation."""
        return [part.tolist() for part in np.split(ids.ids(self.items), self.offsets[1:-1])]

    def arrow(self, ids: pa.Array) -> pa.ListArray:
        """Return the same for Parquet, given all item ids of the model."""
        return pa.ListArray.from_arrays(pa.array(self.offsets), ids.take(pa.array(self.items)))


def check_reasons(model: Recommender, n: int) -> int:
    """Return how many reasons to give.

    Raises:
        UnsupportedError: the model gives none.
        ConfigError: `n` is no count.
    """
    model._require("explains")
    return check_count("reasons", n)


def reasons_of(model: Recommender, source: Source, lists: Lists, n: int) -> Reasons:
    """Return up to `n` items of the user's history per recommendation: those with the largest contributions above 0.

    They are those of `Recommender.explain` in its order. A recommendation that no item speaks for has none, as those
    of popular items to users without a usable history have.
    """
    ends = np.flatnonzero(np.append(np.diff(lists.rows), 1)[: len(lists.rows)]) + 1  # of each user's rows
    found: list[Ids] = [np.empty(0, np.int32)]
    counts: list[int] = []
    start = 0
    for end in ends:
        row = lists.rows[start : start + 1]
        history, _ = source.block(row)
        values = model.contributions_to(
            int(source.trained(row)[0]), history, lists.items[start:end].astype(np.int64)
        ).values
        for contributions in values.T:
            best = np.lexsort((history.indices, -contributions))[:n]
            best = best[contributions[best] > 0]
            found.append(history.indices[best].astype(np.int32))
            counts.append(len(best))
        start = int(end)
    offsets = np.append(0, np.cumsum(counts, dtype=np.int64))
    if offsets[-1] > np.iinfo(np.int32).max:
        raise DataError(f"{offsets[-1]:,} reasons are too many for one block; give fewer, or use a smaller batch_size")
    return Reasons(np.concatenate(found), offsets.astype(np.int32))
