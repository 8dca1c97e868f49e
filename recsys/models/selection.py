"""What the verbs of a model share: checked indices, the most similar things, the best users of items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import DataError, OutOfRangeError
from recsys.ranking import SCORE_BYTES, Ids, Scores, top_n
from recsys.sparse import as_csr

Indices = npt.NDArray[np.int64]
Histories = sp.csr_matrix | None
"""One row per user, or None where every user is scored by what training learned of them."""

ROW_BLOCK = 4096
"""Rows scored or encoded at a time."""
_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


def check_length(n: int) -> int:
    """Return the length of a list as a Python int.

    Raises:
        DataError: not a whole number, or below 1.
    """
    if int(n) != n:
        raise DataError(f"N must be a whole number, got {n}")
    if n < 1:
        raise DataError(f"N must be at least 1, got {n}")
    return int(n)


def indices(values: npt.ArrayLike, name: str, below: int | None = None) -> Indices:
    """Return indices as an int64 array of one dimension.

    Args:
        name: what messages call them.
        below: they must lie in 0..below-1; None for any whole numbers.

    Raises:
        DataError: a mask, or fractions.
        OutOfRangeError: an index out of range.
    """
    array = np.atleast_1d(np.asarray(values))
    if array.size and array.dtype.kind not in "iu":
        hint = "; turn a mask into indices by numpy.flatnonzero" if array.dtype.kind == "b" else ""
        raise DataError(f"{name} must be whole numbers, got {array.dtype}{hint}")
    if array.size and below is not None and (array.min() < 0 or array.max() >= below):
        raise OutOfRangeError(f"{name} must lie in 0..{below - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def cosine(vectors: Tensor, asked: Indices, among: Indices) -> Tensor:
    """Return the (asked, among) cosines between rows of `vectors`."""
    unit = torch.nn.functional.normalize(vectors, dim=1, eps=1e-12)
    return unit[torch.from_numpy(asked)] @ unit[torch.from_numpy(among)].T


def most_similar(
    similarity: Callable[[Indices, Indices], Tensor],
    asked: npt.ArrayLike,
    total: int,
    n: int,
    *,
    what: str,
    excluded: npt.ArrayLike | None,
    chosen: npt.ArrayLike | None,
) -> tuple[Ids, Scores]:
    """Return the `n` users or items most similar to those asked for: each itself first, with score 1.

    Args:
        similarity: (asked, among) similarities of two arrays of indices.
        asked: an index, or an array of them.
        total: number of users or items.
        what: `user` or `item`, for messages.
        excluded: indices never to return.
        chosen: choose only among these; not together with `excluded`.

    Returns:
        ids and scores: (n,) for one index, (len(asked), n) for an array; no longer than `chosen`.
    """
    n = check_length(n)
    if excluded is not None and chosen is not None:
        raise DataError(f"pass filter_{what}s or {what}s, not both")
    of = indices(asked, f"{what} indices", total)
    among = np.arange(total) if chosen is None else np.unique(indices(chosen, f"{what} indices", total))

    def block(rows: slice, out: Tensor | None) -> Tensor:
        scores = similarity(of[rows], among).clamp_(-1.0, _BELOW_ONE)
        # Something's similarity to itself is 1 by definition; rounding must not let a twin overtake it.
        return scores.masked_fill_(torch.from_numpy(of[rows, None] == among[None, :]).to(scores.device), 1.0)

    with torch.inference_mode():
        ids, scores = top_n(
            block,
            len(of),
            len(among),
            n if chosen is None else min(n, len(among)),
            candidates=None if chosen is None else among,
            exclude_ids=None if excluded is None else np.unique(indices(excluded, f"{what} indices", total)),
        )
    return (ids[0], scores[0]) if np.ndim(asked) == 0 else (ids, scores)


def best_users(
    scores_of: Callable[[slice, Indices], Tensor], items: Indices, n_users: int, n: int, exclude: sp.csr_matrix | None
) -> tuple[Ids, Scores]:
    """Return the `n` users with the highest scores for each item; both (len(items), n).

    Args:
        scores_of: (rows, items) scores of a slice of the users for some items.
        items: item indices, each once.
        exclude: (n_users, n_items); a user with a stored entry for an item is left out of its list.
    """
    ids, scores = np.empty((len(items), n), np.int32), np.empty((len(items), n), np.float32)
    step = max(1, SCORE_BYTES // (4 * max(1, n_users)))
    for first in range(0, len(items), step):
        part = slice(first, first + step)
        table = torch.empty(len(items[part]), n_users)
        for start in range(0, n_users, ROW_BLOCK):
            rows = slice(start, min(start + ROW_BLOCK, n_users))
            table[:, rows] = scores_of(rows, items[part]).T.cpu()
        left_out = None if exclude is None else as_csr(exclude[:, items[part]].T.tocsr())
        ids[part], scores[part] = _rows_of(table, n, left_out)
    return ids, scores


def _rows_of(table: Tensor, n: int, exclude: sp.csr_matrix | None) -> tuple[Ids, Scores]:
    return top_n(lambda rows, out: table[rows], table.shape[0], table.shape[1], n, exclude=exclude)
