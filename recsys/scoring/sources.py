"""What lists rest on, beside the lists: the history of a user, what training learned, or popularity alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.models import Recommender
from recsys.models.sources import popular_lists, sources_of
from recsys.scoring.kernel import Lists, Source


def sources_in(model: Recommender, source: Source, lists: Lists) -> npt.NDArray[np.object_]:
    """Return, per entry of the lists, on what the list of its user rests: see `recsys.models.sources`."""
    rows, place = np.unique(lists.rows, return_inverse=True)
    histories, _ = source.block(rows)
    popular = popular_lists(model, place, lists.items, lists.scores, len(rows))
    return sources_of(model, source.trained(rows).astype(np.int64), histories, popular)[place]
