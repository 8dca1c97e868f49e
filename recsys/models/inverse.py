"""Dense inverses of regularized Gram matrices, in the memory of one matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.devices import fast_products
from recsys.memory import Need

PANEL = 512
"""Columns that are eliminated at a time."""


def regularized_inverse(matrix: sp.csr_matrix, penalty: Tensor, dtype: np.dtype[Any], device: torch.device) -> Tensor:
    """Return (XᵀX + diag Λ)⁻¹, (n_columns, n_columns), from the Gram matrix of the columns or of the rows.

    With Q = X Λ^{−1/2} it is also Λ^{−1/2} (I − Qᵀ (I + QQᵀ)⁻¹ Q) Λ^{−1/2} (Woodbury), n_rows³ operations in place of
    n_columns³ at the price of n_rows² more values in memory: worth it on a CPU if rows are clearly fewer than columns.

    Raises:
        torch.linalg.LinAlgError: not positive definite in this precision.
    """
    n_rows, n_columns = matrix.shape
    if device.type != "cpu" or n_rows > _FEWER * n_columns:
        inverse = torch.from_numpy(gram_matrix(matrix, dtype)).to(device)
        inverse.diagonal().add_(penalty.to(inverse))
        invert(inverse)
        return inverse
    root = penalty.rsqrt().numpy()
    scaled = sp.csr_matrix(matrix @ sp.diags_array(root)).astype(dtype)
    by_column = sp.csr_matrix(scaled.T)
    inner = gram_matrix(by_column, dtype)
    inner.flat[:: n_rows + 1] += 1.0
    invert(torch.from_numpy(inner))
    root = root.astype(dtype)
    outer = np.empty((n_columns, n_columns), dtype)
    step = max(1, _BLOCK_BYTES // (8 * (n_rows + n_columns)))
    for start in range(0, n_columns, step):
        some = slice(start, start + step)
        np.multiply((by_column[some] @ inner) @ scaled, -root[some, None] * root, out=outer[some])
    outer.flat[:: n_columns + 1] += root**2
    return torch.from_numpy(outer)


def dense_inverse_need(shape: tuple[int, int], n_items: int, dtype: np.dtype[Any], device: torch.device) -> Need:
    """Return what a `regularized_inverse` of a matrix of this shape takes, and the float32 weights made of it."""
    n_rows, n_columns = shape
    inverse, panels = dtype.itemsize * n_columns**2, 3 * PANEL * dtype.itemsize * n_columns
    beside = 0 if dtype == np.float32 else 4 * n_columns * n_items
    if device.type == "cpu" and n_rows <= _FEWER * n_columns:
        beside = max(beside, dtype.itemsize * n_rows**2)
    instead = "use SANSA, whose inverse is sparse, ELSA, ALS or ItemKNN, or keep fewer items (min_item)"
    if dtype != np.float32:
        instead += "; precision='float32' takes about a third"
    return Need(inverse + panels + beside, instead, kept=4.0 * n_columns * n_items)


def gram_matrix(matrix: sp.csr_matrix, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the dense XᵀX, (n_columns, n_columns), computed in blocks of rows so that memory holds it only once."""
    n = matrix.shape[1]
    gram = np.empty((n, n), dtype)
    matrix = matrix.astype(dtype)
    turned = sp.csr_matrix(matrix.T)
    step = max(1, _BLOCK_BYTES // (12 * max(1, n)))  # a sparse block of products holds up to 12 bytes per entry
    for start in range(0, n, step):
        (turned[start : start + step] @ matrix).toarray(out=gram[start : start + step])
    return gram


@fast_products()
def invert(matrix: Tensor, panel: int = PANEL) -> None:
    """Replace a symmetric positive definite matrix by its inverse, in its own memory.

    Block Gauss-Jordan elimination: panels of rows and columns are swept one after the other. With K the panel and
    D = A_KK⁻¹, A_ij becomes A_ij − A_iK D A_Kj, A_iK becomes A_iK D and A_KK becomes −D; in the end A is −A⁻¹. That
    takes n³ operations, as many as LAPACK's factorization and inverse, but in matrix products of a panel's width, on
    any device; the OpenBLAS in scipy's wheels crashed with a segmentation fault when factoring 40,981 columns.

    Raises:
        torch.linalg.LinAlgError: not positive definite in this precision.
    """
    n, block = len(matrix), 2 * panel
    for start in range(0, n, panel):
        stop = min(start + panel, n)
        pivot = torch.cholesky_inverse(torch.linalg.cholesky(matrix[start:stop, start:stop]))
        # Only the lower triangle is kept up to date.
        column = torch.cat([matrix[start:stop, :start].T, matrix[start:, start:stop]])
        swept = column @ pivot
        for first in range(0, n, block):
            last = min(first + block, n)
            part = matrix[first:last, :last]
            torch.addmm(part, swept[first:last], column[:last].T, alpha=-1.0, out=part)
        matrix[start:, start:stop] = swept[start:]
        matrix[start:stop, :start] = swept[:start].T
        matrix[start:stop, start:stop] = -pivot
    matrix.neg_()
    for first in range(0, n, block):
        last = min(first + block, n)
        matrix[first:last, last:] = matrix[last:, first:last].T
        corner = matrix[first:last, first:last]
        corner.copy_(corner.tril() + corner.tril(-1).T)


_BLOCK_BYTES = 256 * 2**20
_FEWER = 0.8
"""Rows per column up to which the Gram matrix of the rows is the one to invert: half the operations."""
