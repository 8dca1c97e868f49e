"""Which pairs of items occur together most often."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


def frequent_pairs(matrix: sp.csr_matrix, number: int) -> npt.NDArray[np.int32]:
    """Return the (number, 2) pairs of columns, first below second, that most rows have stored together.

    Ties go to the smaller first and then second column. There are fewer where fewer pairs occur.
    """
    stored = sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
    turned = sp.csr_matrix(stored.T)
    first, second, counts = (np.empty(0, np.int64) for _ in range(3))
    for start in range(0, matrix.shape[1], _COLUMNS):
        block = sp.triu(turned[start : start + _COLUMNS] @ stored, k=start + 1, format="csr").tocoo()
        first = np.concatenate([first, block.row + start])
        second = np.concatenate([second, block.col])
        counts = np.concatenate([counts, block.data])
        best = np.lexsort((second, first, -counts))[:number]
        first, second, counts = first[best], second[best], counts[best]
    return np.stack([first, second], axis=1).astype(np.int32)


_COLUMNS = 1024
"""Columns whose pairs are counted at a time."""
