"""Vectors of users by the objective of BPR, given those of the items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.models.learner import Floats
from recsys.models.least_squares import cholesky

_PAIRS = 256
"""A history's items are paired with at least so many others; 1,024 give no better lists (MovieLens-100K)."""
_GOLDEN = 0.6180339887498949
_ROUNDS = 50
_SMALLEST_STEP = 2.0**-20
_CLOSE = 1e-15


def pairwise_fold_in(
    items: Tensor, histories: sp.csr_matrix, popularity: Floats, *, ridge: float, epochs: int, learning_rate: float
) -> Tensor:
    """Return the vectors of users whose items have fixed vectors, as BPR's stochastic updates would leave them.

    Row u gets the v that maximizes the mean of ln σ(v·(q_i − q_j) + b_i − b_j) − (ridge + 1/T)/2 · ‖v‖² over pairs of
    an item i of the history and an item j that is not in it, drawn by popularity (Rendle et al. 2009, §4.1, with the
    draws of implicit). T = `learning_rate` · `epochs` · |I_u| · (1 − P(j in I_u)) is the sum of the step sizes of the
    updates that the user would get: to stop after T shrinks v as a ridge of 1/T does (Goodfellow, Bengio and Courville
    2016, §7.8), so that these vectors and the trained ones are of one length. The pairs are spread evenly in place of
    random draws: the same history always gets the same vector.

    Args:
        items: (n_items, d + 1) vectors q, the bias b last.
        popularity: (n_items,) number of training users who have the item, on any scale.

    Returns:
        (n_rows, d) float32; zeros for a row without entries, or without an item to compare them with.

    Raises:
        DataError: the equations are singular in float64.
    """
    table, cumulative = items.double(), np.cumsum(popularity, dtype=np.float64)
    out = torch.zeros(histories.shape[0], items.shape[1] - 1)
    for row, (start, stop) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        own = histories.indices[start:stop]
        liked, others = _pairs(own, cumulative)
        if not len(liked):
            continue
        difference = table[liked] - table[others]
        left = 1.0 - float(popularity[own].sum(dtype=np.float64)) / cumulative[-1]
        steps = learning_rate * epochs * len(own) * left
        out[row] = _best(difference[:, :-1].contiguous(), difference[:, -1], ridge + 1.0 / steps)
    return out


def _pairs(own: npt.NDArray[np.int32], cumulative: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Return (n_pairs,) items of a history and items beside it, each of the former with others of all popularities."""
    times = -(-_PAIRS // max(len(own), 1))
    shifts = np.arange(len(own)) * _GOLDEN % 1.0
    draws = (np.arange(times) + shifts[:, None]).ravel() / times
    others = np.searchsorted(cumulative, draws * cumulative[-1], side="right").clip(max=len(cumulative) - 1)
    liked = np.repeat(own, times)
    kept = ~np.isin(others, own)
    return torch.from_numpy(liked[kept].astype(np.int64)), torch.from_numpy(others[kept])


def _best(x: Tensor, offset: Tensor, ridge: float) -> Tensor:
    """Return the v (d,) that maximizes mean ln σ(x v + offset) − ridge/2 · ‖v‖², by Newton's method."""
    v, margin, value = x.new_zeros(x.shape[1]), offset, float(F.logsigmoid(offset).mean())
    for _ in range(_ROUNDS):
        wrong = torch.sigmoid(-margin)
        gradient = x.T @ wrong / len(x) - ridge * v
        curvature = (x * (wrong * (1.0 - wrong) / len(x))[:, None]).T @ x
        curvature.diagonal().add_(ridge)
        step = torch.cholesky_solve(gradient[:, None], cholesky(curvature))[:, 0]
        if float(gradient @ step) < _CLOSE:  # twice what is left to gain
            break
        along, size = x @ step, 1.0
        while size > _SMALLEST_STEP:
            moved = v + size * step
            now = float(F.logsigmoid(margin + size * along).mean() - ridge / 2 * moved @ moved)
            if now >= value:
                break
            size /= 2
        else:
            break  # rounding hides what is left to gain
        v, margin, value = moved, margin + size * along, now
    return v
