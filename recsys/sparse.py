"""Sparse rows for training: a CSR matrix on a device, cut into batches without a loop over rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import mapped
from recsys.devices import free_on, is_apart
from recsys.errors import DataError


@dataclass(frozen=True, eq=False)
class ByColumn:
    """The stored entries of a batch in the order of their columns, rows ascending within each."""

    order: Tensor
    """(n_stored,) int64: positions of the entries in the batch."""
    offsets: Tensor
    """(n_columns + 1,) int64: entries of column c lie at offsets[c]..offsets[c+1]."""
    segments: Tensor
    """(n_stored,) int64: the batch row of each entry."""


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

    def part(self, start: int, stop: int) -> Batch:
        """Return the rows `start:stop` of the batch as a batch of their own."""
        offsets = self.offsets[start : stop + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return Batch(
            self.rows[start:stop],
            offsets - offsets[0],
            self.columns[entries],
            self.values[entries],
            self.segments[entries] - start,
            self.n_columns,
        )

    def with_values(self, values: Tensor) -> Batch:
        """Return the same stored entries with other values ((n_stored,)); their order by column is shared."""
        batch = replace(self, values=values)
        if "by_column" in vars(self):
            vars(batch)["by_column"] = self.by_column
        return batch

    def where(self, keep: Tensor) -> Batch:
        """Return the same rows with only the entries that `keep` ((n_stored,) bool) marks stored."""
        offsets = torch.zeros_like(self.offsets)
        counts = torch.zeros(len(self), dtype=torch.int64, device=keep.device)
        torch.cumsum(counts.index_add_(0, self.segments, keep.long()), 0, out=offsets[1:])
        return Batch(self.rows, offsets, self.columns[keep], self.values[keep], self.segments[keep], self.n_columns)

    def copies(self, factors: Tensor) -> Batch:
        """Return the rows once per row of `factors` (times, n_columns), each entry times its column's factor.

        The copies follow each other: those of the first row of `factors` come first.
        """
        times, n_rows, stored = len(factors), len(self), len(self.columns)
        numbers = torch.arange(times, device=self.columns.device)[:, None]
        ends = (self.offsets[1:] + stored * numbers).flatten()
        return Batch(
            self.rows.repeat(times),
            torch.cat([self.offsets[:1], ends]),
            self.columns.repeat(times),
            (self.values * factors.index_select(1, self.columns)).flatten(),
            (self.segments + n_rows * numbers).flatten(),
            self.n_columns,
        )

    def halves(self, noise: torch.Generator) -> tuple[Batch, Batch]:
        """Split the entries of each row at random into two batches; of an odd number the second gets one more."""
        draws = torch.rand(len(self.columns), generator=noise, device=self.columns.device, dtype=torch.float64)
        order = torch.argsort(self.segments + draws)  # within each row at random
        place = torch.arange(len(order), device=order.device) - self.offsets[self.segments]
        first = torch.empty_like(order, dtype=torch.bool)
        first[order] = place < (self.offsets.diff() // 2)[self.segments]
        return self.where(first), self.where(~first)

    @cached_property
    def compact(self) -> tuple[Tensor, Batch]:
        """The distinct columns of the entries, ascending, and the same rows with these as all their columns."""
        columns, places = torch.unique(self.columns, return_inverse=True)
        return columns, replace(self, columns=places, n_columns=len(columns))

    @cached_property
    def by_column(self) -> ByColumn:
        """The entries by column: what the gradient of a table of columns needs, computed once per batch."""
        if is_apart(self.columns):
            columns, order = torch.sort(self.columns, stable=True)
            bounds = torch.arange(self.n_columns + 1, device=columns.device)
            return ByColumn(order, torch.searchsorted(columns, bounds), self.segments[order])
        # On the host scipy does this by counting, which is faster than a sort.
        places = np.arange(len(self.columns))
        shape = (len(self), self.n_columns)
        turned = sp.csr_matrix((places, self.columns.numpy(), self.offsets.numpy()), shape=shape).tocsc()
        return ByColumn(*(torch.from_numpy(x.astype(np.int64)) for x in (turned.data, turned.indptr, turned.indices)))


@dataclass(frozen=True, eq=False)
class DenseRows:
    """Rows with every entry stored; the layers take them in place of a `Batch` when a graph is exported."""

    values: Tensor
    """(n_rows, n_columns) float32; 0 where nothing is stored."""

    def copies(self, factors: Tensor) -> DenseRows:
        """Return the rows once per row of `factors` (times, n_columns), each entry times its column's factor."""
        return DenseRows((self.values * factors[:, None]).flatten(0, 1))


class Rows:
    """A CSR matrix, in memory or on disk, from which batches of rows are cut, as tensors on `device`.

    On a GPU the whole matrix is kept on the device if it fits, and batches are cut there without waiting for the host;
    otherwise they are cut on the host, one batch ahead of the computation.
    """

    def __init__(self, matrix: mapped.Matrix, device: torch.device | str = "cpu") -> None:
        self.n_rows, self.n_columns = (int(size) for size in matrix.shape)
        self.device = torch.device(device)
        self.matrix = matrix
        self.compact = False
        """Whether a step reads the distinct columns of its batch alone, and not all columns."""
        self._resident: tuple[Tensor, Tensor, Tensor] | None = None
        stored = 8 * (matrix.nnz + matrix.shape[0])
        free = free_on(self.device)
        fits = is_apart(self.device) and (free is None or stored < free // 4)
        if fits and isinstance(matrix, sp.csr_matrix):
            indptr, indices, values = (
                torch.from_numpy(np.require(part, dtype, ["C", "W"])).to(self.device)
                for part, dtype in ((matrix.indptr, np.int64), (matrix.indices, np.int32), (matrix.data, np.float32))
            )
            self._resident = indptr, indices, values

    def __len__(self) -> int:
        return self.n_rows

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.matrix.nnz)

    def checksum(self) -> int:
        """Return a CRC-32 of the shape and all entries, or of what is known of them, to tell data apart."""
        value = zlib.crc32(repr((self.n_rows, self.n_columns)).encode())
        if isinstance(self.matrix, mapped.MappedMatrix):
            return zlib.crc32(self.matrix.digest.encode(), value)
        for part in (self.matrix.indptr, self.matrix.indices, self.matrix.data):
            value = zlib.crc32(np.ascontiguousarray(part).data, value)
        return value

    def total(self) -> float:
        """Sum of the stored values."""
        return mapped.total(self.matrix)

    def squares(self) -> float:
        """Sum of the squares of the stored values."""
        return mapped.squares(self.matrix)

    def typical_length(self) -> float:
        """Root mean square of the Euclidean lengths of the rows that have entries; 1 if there are none."""
        rows, squares = int(np.count_nonzero(np.diff(self.matrix.indptr))), self.squares()
        return (squares / rows) ** 0.5 if squares else 1.0

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield a batch of each of the parts, rows in order ((n,) int64 on the host).

        On the host a worker thread prepares the next batch, its order by column included, while the caller computes.
        """
        if self._resident is not None or len(parts) < 2:
            yield from (self.batch(part) for part in parts)
            return

        def prepare(rows: Tensor) -> Batch:
            batch = self.batch(rows)
            _ = batch.compact[1].by_column if self.compact else batch.by_column
            return batch

        with ThreadPoolExecutor(1, "batches") as worker:
            coming = worker.submit(prepare, parts[0])
            for following in parts[1:]:
                batch, coming = coming.result(), worker.submit(prepare, following)
                yield batch
            yield coming.result()

    def batch(self, rows: Tensor) -> Batch:
        """Cut the given rows ((n,) int64 on the host), in their order."""
        if self._resident is not None:
            return self._cut_on_device(rows)
        cut = self.matrix[rows.numpy()]
        offsets, columns = cut.indptr.astype(np.int64), cut.indices.astype(np.int64)
        values = cut.data.astype(np.float32, copy=False)
        segments = np.repeat(np.arange(len(rows)), np.diff(offsets))
        parts = rows, *(torch.from_numpy(array) for array in (offsets, columns, values, segments))
        if self.device.type == "cuda":
            parts = tuple(tensor.pin_memory().to(self.device, non_blocking=True) for tensor in parts)
        return Batch(*parts, n_columns=self.n_columns)  # type: ignore[misc,arg-type]

    def _cut_on_device(self, rows: Tensor) -> Batch:
        assert self._resident is not None
        indptr, indices, values = self._resident
        host = rows.numpy()
        # On the host: the device would have to be waited for.
        stored = int((self.matrix.indptr[host + 1] - self.matrix.indptr[host]).sum())
        rows = rows.to(self.device, non_blocking=True)
        starts = indptr[rows]
        counts = indptr[rows + 1] - starts
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        numbers = torch.arange(len(rows), device=self.device)
        segments = torch.repeat_interleave(numbers, counts, output_size=stored)
        positions = torch.arange(stored, device=self.device) + (starts - offsets[:-1])[segments]
        return Batch(rows, offsets, indices[positions].long(), values[positions], segments, self.n_columns)

    def slice(self, start: int, stop: int) -> Batch:
        """Cut the consecutive rows `start:stop`."""
        return self.batch(torch.arange(start, min(stop, len(self))))


def as_csr(matrix: Any, *, name: str = "user_items") -> sp.csr_matrix:
    """Return any scipy sparse matrix as a float32 `csr_matrix` with sorted, distinct int32 indices.

    The caller's matrix is never changed; it is returned as it is where nothing needs changing. A one-dimensional array,
    as a row of a `csr_array` is, becomes a single row.

    Raises:
        DataError: not a scipy sparse matrix of real numbers in two dimensions, its indices lie outside its shape, or a
            stored value is NaN, infinite or beyond ±1e15.
    """
    sparse: Any = matrix  # `issparse` narrows its argument to a type that lacks `ndim`
    if not sp.issparse(matrix):
        hint = "build Interactions of a table with Interactions.from_frame(...)"
        if not hasattr(matrix, "columns"):
            hint = "wrap a dense array with scipy.sparse.csr_matrix(...)"
        raise DataError(f"{name} must be a scipy sparse matrix (users × items), got {type(matrix).__name__}; {hint}")
    if sparse.ndim > 2 or sparse.dtype.kind not in "biuf":
        raise DataError(f"{name} must be real numbers in two dimensions, got {sparse.dtype} of shape {sparse.shape}")
    if sparse.ndim == 1:
        sparse = sparse.reshape(1, -1)
    if sparse.format in ("csr", "csc", "bsr"):
        _check_indices(sparse, name)
    csr = sparse if isinstance(sparse, sp.csr_matrix) else sp.csr_matrix(sparse)
    if csr.dtype != np.float32:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            csr = csr.astype(np.float32)
    if not csr.has_canonical_format:
        csr = csr.copy()  # a csr_matrix made of a csr_array shares its arrays
        csr.sum_duplicates()
    if csr.indices.dtype != np.int32 and csr.nnz < 2**31:
        csr = sp.csr_matrix((csr.data, csr.indices.astype(np.int32), csr.indptr.astype(np.int32)), shape=csr.shape)
    if csr.nnz and not -_LARGEST <= csr.data.min() <= csr.data.max() <= _LARGEST:  # not so of NaN
        if wrong := int((~np.isfinite(csr.data)).sum()):
            raise DataError(f"{name} holds {wrong} stored values that are NaN or infinite")
        raise DataError(
            f"{name} holds {int((np.abs(csr.data) > _LARGEST).sum())} stored values beyond ±{_LARGEST:g}, whose "
            "squares sum to more than float32 holds; check that they are ratings or counts, or scale them down"
        )
    return csr


def row_digests(matrix: sp.csr_matrix) -> npt.NDArray[np.uint64]:
    """Return (n_rows,) digests of the rows of a float32 csr: equal rows have equal ones, an empty row has 0.

    A digest is the sum, modulo 2⁶⁴, of what each stored entry's column and value are scrambled to, so that the order of
    the entries does not matter; two rows that differ share one by an accident of 1 in 2⁶⁴.
    """
    digests = np.zeros(matrix.shape[0], dtype=np.uint64)
    for start in range(0, len(digests), _DIGESTED):
        ends = matrix.indptr[start : start + _DIGESTED + 1]
        part = slice(ends[0], ends[-1])
        value = (matrix.data[part] + np.float32(0)).view(np.uint32)  # -0.0 is 0.0
        entries = scrambled(matrix.indices[part].astype(np.uint64) << np.uint64(32) | value)
        sums = np.append(np.uint64(0), np.cumsum(entries))
        digests[start : start + _DIGESTED] = np.diff(sums[ends - ends[0]])
    return digests


def scrambled(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return each number scrambled: the finalizer of SplitMix64 (Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


_DIGESTED = 2**12
"""Rows digested at a time, for the memory of it."""


def _check_indices(matrix: Any, name: str) -> None:
    """Refuse a compressed matrix whose arrays do not fit its shape: compiled code would read memory that is not its."""
    block = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    rows, columns = (size // step for size, step in zip(matrix.shape, block, strict=True))
    major, minor = (columns, rows) if matrix.format == "csc" else (rows, columns)
    indptr, indices = matrix.indptr, matrix.indices
    fits = len(indptr) == major + 1 and indptr[0] == 0 and indptr[-1] <= min(len(indices), len(matrix.data))
    if not fits or (np.diff(indptr) < 0).any():
        raise DataError(f"{name} is damaged: its indptr does not fit its shape {matrix.shape}")
    used = indices[: indptr[-1]]
    if len(used) and not 0 <= used.min() <= used.max() < minor:
        raise DataError(f"{name} is damaged: it has indices from {used.min()} to {used.max()}, shape {matrix.shape}")


_LARGEST = 1e15
"""Largest magnitude of a stored value: the squares of a hundred million of them sum to a float32."""
