"""Top-N: the only code that masks and sorts.

Higher scores are better. Equal scores are ordered by index, lower first. A slot that no candidate can fill holds id -1
and score -finfo(float32).max; a masked item is never returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

NO_ID = -1
NO_SCORE = float(-np.finfo(np.float32).max)
SCORE_BYTES = 30 * 2**20
"""Budget of one block of scores on the host: below the 32 MiB from which the C library asks the system for fresh pages
each time, which cost as much as filling them."""
MOST_ROWS = 8192
"""Rows of one block at most."""
CUDA_SCORE_BYTES = 1024 * 2**20
"""The same on a GPU, which wants much work per call; its first block, made before it is known, is small."""


def top_n(
    scores: Callable[[slice, Tensor | None], Tensor],
    n_rows: int,
    n_candidates: int,
    n: int,
    *,
    exclude: sp.csr_matrix | None = None,
    candidates: npt.NDArray[np.int64] | None = None,
    exclude_ids: npt.NDArray[np.int64] | None = None,
) -> tuple[Ids, Scores]:
    """Return the `n` best candidates of each row, in blocks of rows so that memory stays bounded.

    Args:
        scores: gives the (rows, n_candidates) float32 scores of a slice of rows; what it returns is overwritten. Its
            second argument, where not None, is a block of that shape that it may use and return.
        n_rows: number of rows.
        n_candidates: columns of a score block.
        n: length of each list; longer than the candidates is allowed.
        exclude: (n_rows, n_ids) csr; its stored entries are masked, explicit zeros too.
        candidates: (n_candidates,) ascending ids that the score columns stand for; by default `0..n_candidates-1`.
        exclude_ids: ids masked in every row.

    Returns:
        ids int32 and scores float32, each (n_rows, n), scores falling along each row.
    """
    ids = np.full((n_rows, n), NO_ID, dtype=np.int32)
    values = np.full((n_rows, n), NO_SCORE, dtype=np.float32)
    width = min(n, n_candidates)
    if not width:
        return ids, values
    column_of = None
    if candidates is not None:
        columns = 1 + int(max(candidates.max(), exclude.shape[1] - 1 if exclude is not None else 0))
        column_of = np.full(columns, -1, dtype=np.int64)
        column_of[candidates] = np.arange(n_candidates)
    masked = _as_columns(exclude_ids, column_of) if exclude_ids is not None else None

    stop, budget = 0, SCORE_BYTES
    block: Tensor | None = None
    while stop < n_rows:
        # The rows count too: what precedes their scores takes memory even where candidates are few.
        rows = slice(stop, min(stop + min(MOST_ROWS, max(1, budget // (4 * n_candidates))), n_rows))
        stop = rows.stop
        n_here = rows.stop - rows.start
        block = scores(rows, block[:n_here] if block is not None and len(block) >= n_here else None)
        if block.is_cuda:
            budget = CUDA_SCORE_BYTES
        if exclude is not None:
            begin, end = exclude.indptr[rows.start], exclude.indptr[rows.stop]
            own = np.repeat(np.arange(rows.stop - rows.start), np.diff(exclude.indptr[rows.start : rows.stop + 1]))
            columns_ = exclude.indices[begin:end].astype(np.int64)
            if column_of is not None:
                columns_ = column_of[columns_]
                own, columns_ = own[columns_ >= 0], columns_[columns_ >= 0]
            flat = torch.from_numpy(own * n_candidates + columns_).to(block.device)
            block.view(-1)[flat] = -torch.inf
        if masked is not None:
            block[:, torch.from_numpy(masked).to(block.device)] = -torch.inf
        best, columns_best = select(block, width)
        found = best.cpu().numpy()
        picked = columns_best.cpu().numpy()
        if candidates is not None:
            picked = candidates[picked]
        empty = found == -np.inf
        ids[rows, :width] = np.where(empty, NO_ID, picked)
        values[rows, :width] = np.where(empty, NO_SCORE, found)
    return ids, values


def select(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the `n` largest values of each row and their columns, falling, ties by lower column first.

    NaN counts as -inf. `scores` (rows, columns) float32 with `n` at most the number of columns.
    """
    wide = min(n + 1, scores.shape[1])
    values, columns = _largest(scores, wide)
    if bool(values[:, 0].isnan().any()):  # NaN is above all numbers in torch's order, so it would come first
        scores.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        values, columns = _largest(scores, wide)
    # topk breaks ties in no order. A tie inside the list is mended by sorting the list; where it crosses the end of the
    # list, the row is sorted whole. Rows that end in -inf have empty slots there, and nothing to order.
    tied = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    rows = tied.any(1).nonzero()[:, 0]
    if len(rows):
        if wide > n:
            crossing = rows[tied[rows, n - 1]]
            if len(crossing):
                whole, order = torch.sort(scores[crossing], dim=1, descending=True, stable=True)
                values[crossing], columns[crossing] = whole[:, :wide], order[:, :wide]
        by_column, order = torch.sort(columns[rows, :n], dim=1)
        by_value, again = torch.sort(values[rows, :n].gather(1, order), dim=1, descending=True, stable=True)
        values[rows, :n], columns[rows, :n] = by_value, by_column.gather(1, again)
    return values[:, :n], columns[:, :n]


def _largest(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the `n` largest values of each row, falling, and their columns; which of equal ones is not said.

    The columns fall into groups, of which each gives its largest value: the n groups with the largest of these hold the
    n largest values. So one pass over the row and two short selections do what a selection of the whole row would.
    """
    n_columns = scores.shape[1]
    per_group = 2 ** round(math.log2(max(1.0, math.sqrt(n_columns / n))))
    groups = n_columns // per_group
    if per_group < 4 or groups < 2 * n:
        return torch.topk(scores, n, dim=1)
    # Column c belongs to group c modulo `groups`, so that the maxima are taken between contiguous stretches; the few
    # columns left over are always looked at.
    grouped = scores[:, : groups * per_group].view(len(scores), per_group, groups)
    maxima = grouped[:, 0].clone()
    for stretch in range(1, per_group):
        torch.maximum(maxima, grouped[:, stretch], out=maxima)
    chosen = torch.topk(maxima, n, dim=1, sorted=False).indices
    starts = torch.arange(0, groups * per_group, groups, device=scores.device)
    candidates = (chosen[:, None, :] + starts[:, None]).flatten(1)
    if groups * per_group < n_columns:
        rest = torch.arange(groups * per_group, n_columns, device=scores.device)
        candidates = torch.cat([candidates, rest.expand(len(scores), -1)], 1)
    values, places = torch.topk(scores.gather(1, candidates), n, dim=1)
    return values, candidates.gather(1, places)


def _as_columns(ids: npt.NDArray[np.int64], column_of: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    if column_of is None:
        return ids
    known = column_of[ids[ids < len(column_of)]]
    return known[known >= 0]
