"""Sparse rows for training: a CSR matrix on a device, cut into batches without a loop over rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a CSR matrix, as tensors on one device. Observed means stored, whatever the value."""

    rows: Tensor
    """(n_rows,) int64: which rows of the whole matrix these are."""
    offsets: Tensor
    """(n_rows + 1,) int64: entries of row r lie at offsets[r]..offsets[r+1]."""
    columns: Tensor
    """(n_stored,) int64."""
    values: Tensor
    """(n_stored,) float32."""
    segments: Tensor
    """(n_stored,) int64: position within the batch of each entry's row."""
    n_columns: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def density(self) -> float:
        """Share of the entries that are stored."""
        return len(self.columns) / max(1, len(self) * self.n_columns)


class Rows:
    """A CSR matrix held as tensors on `device`, from which batches of rows are cut there."""

    def __init__(self, matrix: sp.csr_matrix, device: torch.device | str = "cpu") -> None:
        self.n_rows, self.n_columns = matrix.shape
        self.device = torch.device(device)
        self._indptr = torch.from_numpy(matrix.indptr.astype(np.int64)).to(self.device)
        # Writeable, since torch warns of tensors over read-only memory: such an array is copied.
        self._indices = torch.from_numpy(np.require(matrix.indices, np.int32, ["C", "W"])).to(self.device)
        self._values = torch.from_numpy(np.require(matrix.data, np.float32, ["C", "W"])).to(self.device)

    def __len__(self) -> int:
        return int(self.n_rows)

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return len(self._indices)

    def checksum(self) -> int:
        """Return a CRC-32 of the shape and all entries: other data give another number."""
        value = zlib.crc32(repr((self.n_rows, self.n_columns)).encode())
        for part in (self._indptr, self._indices, self._values):
            value = zlib.crc32(part.cpu().numpy().data, value)
        return value

    def total(self) -> float:
        """Sum of the stored values."""
        return float(self._values.sum(dtype=torch.float64))

    def batch(self, rows: Tensor) -> Batch:
        """Cut the given rows ((n,) int64 on this device), in their order."""
        starts = self._indptr[rows]
        counts = self._indptr[rows + 1] - starts
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        segments = torch.repeat_interleave(torch.arange(len(rows), device=self.device), counts)
        positions = torch.arange(len(segments), device=self.device) + (starts - offsets[:-1])[segments]
        return Batch(
            rows, offsets, self._indices[positions].long(), self._values[positions], segments, int(self.n_columns)
        )

    def slice(self, start: int, stop: int) -> Batch:
        """Cut the consecutive rows `start:stop`."""
        return self.batch(torch.arange(start, min(stop, len(self)), device=self.device))


def as_csr(matrix: Any, *, name: str = "user_items") -> sp.csr_matrix:
    """Return any scipy sparse matrix as a float32 `csr_matrix` with sorted, distinct int32 indices.

    The caller's matrix is never changed; it is returned as it is where nothing needs changing. A one-dimensional array,
    as a row of a `csr_array` is, becomes a single row.

    Raises:
        DataError: not a scipy sparse matrix, or a stored value is NaN or infinite.
    """
    if not sp.issparse(matrix):
        raise DataError(
            f"{name} must be a scipy sparse matrix (users × items), got {type(matrix).__name__}; "
            "wrap a dense array with scipy.sparse.csr_matrix(...)"
        )
    if matrix.ndim == 1:
        matrix = matrix.reshape(1, -1)
    csr = matrix if isinstance(matrix, sp.csr_matrix) else sp.csr_matrix(matrix)
    if csr.dtype != np.float32:
        csr = csr.astype(np.float32)
    if not csr.has_canonical_format:
        csr = csr.copy()  # a csr_matrix made of a csr_array shares its arrays
        csr.sum_duplicates()
    if csr.indices.dtype != np.int32 and csr.nnz < 2**31:
        csr = sp.csr_matrix((csr.data, csr.indices.astype(np.int32), csr.indptr.astype(np.int32)), shape=csr.shape)
    if not np.isfinite(csr.data).all():
        raise DataError(f"{name} holds {int((~np.isfinite(csr.data)).sum())} stored values that are NaN or infinite")
    return csr
