"""Top-N: the only code that masks and sorts.

Higher scores are better. Equal scores are ordered by index, lower first. A slot that no candidate can fill holds id -1
and score -finfo(float32).max; a masked item is never returned.
"""

from __future__ import annotations

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
SCORE_BYTES = 128 * 2**20
"""Budget of one block of scores."""


def top_n(
    scores: Callable[[slice], Tensor],
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
        scores: gives the (rows, n_candidates) float32 scores of a slice of rows; the block may be overwritten.
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

    step = max(1, SCORE_BYTES // (4 * n_candidates))
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        block = scores(rows)
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
    scores.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    wide = min(n + 1, scores.shape[1])
    values, columns = torch.topk(scores, wide, dim=1)
    if wide > n:
        # topk breaks ties in no order. Inside the list a sort mends that; where the tie crosses the cut, the row is
        # sorted whole. Rows that end in -inf have empty slots there, and nothing to order.
        crossing = (values[:, n - 1] == values[:, n]) & (values[:, n] > -torch.inf)
        if bool(crossing.any()):
            rows = crossing.nonzero()[:, 0]
            whole, order = torch.sort(scores[rows], dim=1, descending=True, stable=True)
            values[rows], columns[rows] = whole[:, :wide], order[:, :wide]
        values, columns = values[:, :n], columns[:, :n]
    columns, by_column = torch.sort(columns, dim=1)
    values, by_value = torch.sort(values.gather(1, by_column), dim=1, descending=True, stable=True)
    return values, columns.gather(1, by_value)


def _as_columns(ids: npt.NDArray[np.int64], column_of: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    if column_of is None:
        return ids
    known = column_of[ids[ids < len(column_of)]]
    return known[known >= 0]
