"""Top-N lists: the only code that masks and sorts.

Higher scores are better. Ties are ordered by index, lower first. A slot that no candidate can fill holds id -1 and
score -finfo(float32).max; a masked item is never returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.devices import is_apart

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

NO_ID = -1
NO_SCORE = float(-np.finfo(np.float32).max)
SCORE_BYTES = 30 * 2**20
"""Bytes for one block of scores on a CPU. From 32 MiB on, the C library would request new memory pages for every block,
which costs as much as filling them."""
MOST_ROWS = 8192
"""Largest number of rows in a block."""
CUDA_SCORE_BYTES = 1024 * 2**20
"""The same on a GPU, which needs more work per call. The first block is small, as the device is not yet known."""


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
    """Return the `n` best candidates of each row; rows are processed in blocks to bound memory.

    Args:
        scores: returns the (rows, n_candidates) float32 scores of a slice of rows; its result is overwritten. If its
            second argument is not None, it is memory of that shape that may be used for the result.
        n_rows: number of rows.
        n_candidates: number of columns of a score block.
        n: length of each list; it may exceed the number of candidates.
        exclude: (n_rows, n_ids) csr; its stored entries are masked, including explicit zeros.
        candidates: (n_candidates,) ascending ids of the score columns; by default `0..n_candidates-1`.
        exclude_ids: ids masked in every row.

    Returns:
        ids int32 and scores float32, each (n_rows, n), best first.

    Raises:
        DataError: the lists take more memory than is free.
    """
    ids, values = _empty(n_rows, n, n_candidates)
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
        # MOST_ROWS applies even if candidates are few: computing the scores takes memory per row.
        rows = slice(stop, min(stop + min(MOST_ROWS, max(1, budget // (4 * n_candidates))), n_rows))
        stop = rows.stop
        n_here = rows.stop - rows.start
        block = scores(rows, block[:n_here] if block is not None and len(block) >= n_here else None)
        if is_apart(block):
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


def _empty(n_rows: int, n: int, n_candidates: int) -> tuple[Ids, Scores]:
    """Return lists of empty slots, if there is memory for them."""
    fewer = f"ask for {n_candidates:,}, which is all there is" if n > n_candidates else "pass fewer rows at a time"
    memory.require(8 * max(1, n_rows) * n, f"{n_rows:,} lists of {n:,} need", fewer)
    return np.full((n_rows, n), NO_ID, dtype=np.int32), np.full((n_rows, n), NO_SCORE, dtype=np.float32)


def select(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the `n` largest values of each row and their columns, largest first, ties by lower column first.

    `scores` is (rows, columns) float32; `n` is at most the number of columns. NaN counts as -inf and is overwritten.
    """
    wide = min(n + 1, scores.shape[1])
    values, columns = _largest(scores, wide)
    if bool(values[:, 0].isnan().any()):  # torch sorts NaN above all numbers
        scores.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        values, columns = _largest(scores, wide)
    # topk orders ties arbitrarily. If all tied values are in the list, sorting the list is enough; if a tie crosses the
    # end of the list, the whole row is sorted. Values of -inf are empty slots and need no order.
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
    """Return the `n` largest values of each row, largest first, and their columns; ties are broken arbitrarily.

    The columns are split into groups. The n groups with the largest maxima contain the n largest values, so one pass
    over the row and two short selections replace a selection from the whole row.
    """
    n_columns = scores.shape[1]
    per_group = 2 ** round(math.log2(max(1.0, math.sqrt(n_columns / n))))
    groups = n_columns // per_group
    if per_group < 4 or groups < 2 * n:
        return torch.topk(scores, n, dim=1)
    # Column c belongs to group c modulo `groups`, so the maxima are taken between contiguous stretches. The few columns
    # left over are always candidates.
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
    """Return the score columns of these ids, without ids that are not candidates."""
    if column_of is None:
        return ids
    known = column_of[ids[ids < len(column_of)]]
    return known[known >= 0]
