"""What the verbs of a model share: checked indices, and the most similar users or items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.errors import DataError, OutOfRangeError
from recsys.nn.products import affine
from recsys.params import check_count
from recsys.ranking import Ids, Scores, top_n

Indices = npt.NDArray[np.int64]
Histories = sp.csr_matrix | None
"""One row per user, or None where every user is scored by what training learned of them."""

ROW_BLOCK = 4096
"""Rows scored or encoded at a time."""
_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


def check_length(n: Any) -> int:
    """Return the length of a list as a Python int; a DataError refuses fractions and what is below 1."""
    return check_count("N", n, DataError)


def indices(values: npt.ArrayLike, name: str, below: int | None = None) -> Indices:
    """Return indices as an int64 array of one dimension; messages call them `name`.

    Raises:
        DataError: a mask, fractions, or more than one dimension.
        OutOfRangeError: an index that is not in 0..below-1, where `below` is given.
    """
    array = np.atleast_1d(as_array(values, name))
    if array.ndim > 1:
        raise DataError(f"{name} must be one index or a flat list of them, got an array of shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        hint = "; turn a mask into indices by numpy.flatnonzero" if array.dtype.kind == "b" else ""
        raise DataError(f"{name} must be whole numbers, got {array.dtype}{hint}")
    if array.size and below is not None and (array.min() < 0 or array.max() >= below):
        raise OutOfRangeError(f"{name} must lie in 0..{below - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def as_array(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """Return numbers as an array; a DataError for nested lists of different lengths."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers in a list or an array: {error}") from None


def dense_table(table: sp.csr_matrix) -> Tensor:
    """Return an items × items table with every entry, if there is memory for it."""
    n = table.shape[0]
    memory.require(4 * n**2, f"a table of all pairs of {n:,} items needs", "keep fewer items, or serve without a graph")
    return torch.from_numpy(table.toarray())


def cosine(vectors: Tensor, asked: Indices, among: Indices) -> Tensor:
    """Return the (asked, among) cosines between rows of `vectors`."""
    unit = torch.nn.functional.normalize(vectors, dim=1, eps=1e-12)
    return affine(unit[torch.from_numpy(asked)], unit[torch.from_numpy(among)])


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
    """Return the `n` of `total` users or items most similar to those asked for: each itself first, with score 1.

    Args:
        similarity: (asked, among) similarities of two arrays of indices.
        what: `user` or `item`, for messages.
        excluded: indices never to return.
        chosen: choose only among these; not together with `excluded`.
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
