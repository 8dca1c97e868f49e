"""The lists that a model is measured by, and the entries that they should find."""

from __future__ import annotations

from inspect import signature
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError, UnsupportedError
from recsys.splits import Part, Split

Rows = npt.NDArray[np.intp]


class Ranker(Protocol):
    """What `evaluate` needs of a model: also `predict_pairs` for errors of ratings, and `seen=` if the part has it."""

    def recommend(
        self, userid: Any, user_items: Any, *, N: int, filter_already_liked_items: bool, recalculate_user: bool
    ) -> tuple[Any, Any]:
        """Return ids and scores, each (B, N), for users whose histories are the rows of `user_items`."""
        ...


def top_lists(model: Ranker, part: Part, block: Rows, length: int) -> npt.NDArray[np.integer]:
    """Return the lists by which the model is measured, (len(block), length), for rows of a part.

    Args:
        block: either only users of the training data or only new users.
    """
    userid = part.user_index[block]
    options: dict[str, Any] = {}
    if part.seen is not None:
        if "seen" not in signature(model.recommend).parameters:
            raise UnsupportedError(
                f"recommend of {type(model).__name__} takes no seen=, so it can exclude only what it reads; "
                "evaluate a part without seen, or a model of this package"
            )
        options["seen"] = part.seen[block]
    ids = np.asarray(
        model.recommend(
            userid,
            part.context[block],
            N=length,
            filter_already_liked_items=True,
            recalculate_user=bool(userid[0] < 0),
            **options,
        )[0]
    )
    if ids.shape != (len(block), length):
        raise DataError(f"recommend must return ids of shape {(len(block), length)}, empty slots -1, got {ids.shape}")
    return ids


def relevant_entries(target: sp.csr_matrix, min_relevance: float | None) -> sp.csr_matrix:
    """Return the relevant entries of a target: all stored ones, or those of at least `min_relevance`."""
    if min_relevance is None:
        return target
    kept = target.data >= min_relevance
    if not kept.any():
        raise DataError(f"no target entry reaches min_relevance={min_relevance}; the largest is {target.data.max():g}")
    indptr = np.append(0, np.cumsum(kept))[target.indptr]
    return sp.csr_matrix((target.data[kept], target.indices[kept], indptr), shape=target.shape)


def check_part(part: object, example: str) -> None:
    """Raise DataError if this is not a part of a split; the message suggests `example`."""
    if not isinstance(part, Part):
        whole = "a whole split" if isinstance(part, Split) else type(part).__name__
        raise DataError(f"expected one part of a split, got {whole}; pass {example}")
