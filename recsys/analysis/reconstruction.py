"""How badly a model explains each stored entry of users' histories."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recsys.models import Recommender
from recsys.models.selection import ROW_BLOCK

Floats = npt.NDArray[np.float64]
ErrorKind = Literal["rank", "likelihood", "squared"]
_MOST: int = 2**24
"""Scores held at a time."""


def entry_errors(
    model: Recommender, histories: sp.csr_matrix, kind: ErrorKind, folds: int, rng: np.random.Generator
) -> Floats:
    """Return an error for each stored entry, (n_stored,) in the order of `histories.data`.

    Users are scored as strangers: from their histories alone.

    Args:
        histories: (n_users, n_items) float32 with sorted indices.
        kind: `rank`: log(1 + r) / log(1 + n), r being how many of the n items that the user does not have score above
            the entry, those that score the same counting half: 0 at the top, 1 at the end. It reads no more of the
            scores than their order. `likelihood`: −log of the softmax of the scores, the cross-entropy that models with
            a multinomial likelihood minimize. `squared`: (1 − score)², for models whose scores approach the entries.
        folds: 1 scores each entry from the whole history, itself included; k > 1 from the history without one of k
            random parts, in which the entry is.
    """
    errors = np.zeros(histories.nnz)
    part = np.zeros(histories.nnz, np.int64) if folds == 1 else _folds(histories, folds, rng)
    size = max(1, min(ROW_BLOCK, _MOST // max(1, histories.shape[1])))
    for start in range(0, histories.shape[0], size):
        block = histories[start : start + size]
        first = histories.indptr[start]
        own = part[first : first + block.nnz]
        for fold in range(folds):
            read = block if folds == 1 else _without(block, own == fold)
            with torch.inference_mode():
                scores = model._checked(read, np.full(block.shape[0], -1), None, None).cpu().numpy()
            asked = own == fold
            errors[first : first + block.nnz][asked] = _errors(scores, block, kind)[asked]
    return errors


def row_means(values: Floats, histories: sp.csr_matrix) -> Floats:
    """Return the mean over the stored entries of each row, (n_rows,); NaN where there is none."""
    counts = np.diff(histories.indptr)
    sums = np.bincount(np.repeat(np.arange(len(counts)), counts), weights=values, minlength=len(counts))
    return np.asarray(np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0))


def _folds(histories: sp.csr_matrix, folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the fold of each entry: as many of a row in each, but for one."""
    rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    order = np.lexsort((rng.random(histories.nnz), rows))
    place = np.empty(histories.nnz, np.int64)
    place[order] = np.arange(histories.nnz) - histories.indptr[rows]
    return place % folds


def _without(block: sp.csr_matrix, hidden: npt.NDArray[np.bool_]) -> sp.csr_matrix:
    kept = ~hidden
    indptr = np.append(0, np.cumsum(kept))[block.indptr].astype(block.indptr.dtype)
    return sp.csr_matrix((block.data[kept], block.indices[kept], indptr), shape=block.shape)


def _errors(scores: npt.NDArray[np.float32], block: sp.csr_matrix, kind: ErrorKind) -> Floats:
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    own = scores[rows, block.indices].astype(np.float64)
    if kind == "squared":
        return np.asarray((block.data - own) ** 2)
    if kind == "likelihood":
        top = scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores - top, dtype=np.float64).sum(axis=1)) + top[:, 0]
        return np.asarray(total[rows] - own)
    errors = np.zeros(block.nnz)
    for row, (start, stop) in enumerate(zip(block.indptr[:-1], block.indptr[1:], strict=True)):
        others = np.sort(np.delete(scores[row], block.indices[start:stop]))
        asked = scores[row, block.indices[start:stop]]
        above = len(others) - 0.5 * (np.searchsorted(others, asked) + np.searchsorted(others, asked, side="right"))
        errors[start:stop] = np.log1p(above) / np.log1p(max(1, len(others)))
    return errors
