"""A CSR matrix in memory-mapped pieces: rows and their offsets are read where they are asked for."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError

BLOCK: Final = 2**22
"""Stored entries read at a time where all are read."""

ROWS: Final = 2**16
"""Rows of which something is read at a time where it is read of all."""

SHUFFLED: Final = 2**26
"""Stored entries of a block within which an epoch visits rows in random order: 512 MiB of columns and values."""


class Piece(NamedTuple):
    """Consecutive rows of a matrix."""

    indices: npt.NDArray[np.int32]
    """(n_stored,) columns, ascending in each row."""
    values: npt.NDArray[np.float32] | None
    """(n_stored,); None where all are 1."""


class Offsets:
    """Where the rows of pieces in files begin, among all pieces: what `indptr` of a CSR matrix holds, (n_rows + 1,).

    A slice, a number or an array of places reads these alone; as an array, all are in memory: 8 bytes a row.
    """

    def __init__(self, parts: Sequence[npt.NDArray[np.int64]]) -> None:
        """`parts` are the offsets of each piece, (its rows + 1,) from 0, such as memory-mapped files."""
        self._parts = list(parts)
        self._rows = np.cumsum([0, *(len(part) - 1 for part in parts)])
        self._before = np.cumsum([0, *(int(part[-1]) for part in parts)])

    def __len__(self) -> int:
        return int(self._rows[-1]) + 1

    def __getitem__(self, places: Any) -> Any:
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            return self._between(start, max(start, stop)) if step == 1 else self[np.arange(start, stop, step)]
        where = np.asarray(places)
        where = np.where(where < 0, where + len(self), where)
        piece = np.minimum(np.searchsorted(self._rows, where, "right") - 1, len(self._parts) - 1)
        found = np.zeros(where.shape, np.int64)
        for number in np.unique(piece):
            some = piece == number
            found[some] = self._parts[number][where[some] - self._rows[number]] + self._before[number]
        return found if where.ndim else int(found)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._between(0, len(self)).astype(np.int64 if dtype is None else dtype, copy=False)

    def _between(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        found = np.zeros(stop - start, np.int64)
        for part, first, before in zip(self._parts, self._rows[:-1], self._before[:-1], strict=True):
            begin, end = max(start, int(first)), min(stop, int(first) + len(part))
            if begin < end:
                found[begin - start : end - start] = _read(part, begin - int(first), end - int(first)) + before
        return found


class MappedMatrix:
    """A users × items matrix of float32 whose rows lie one after another in pieces, such as memory-mapped files.

    `matrix[rows]` with a slice or an array of row numbers is a `csr_matrix` of those rows, in that order.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        indptr: npt.NDArray[np.int64] | Offsets,
        pieces: Sequence[Piece],
        n_columns: int,
        digest: str = "",
        through: Callable[[sp.csr_matrix], sp.csr_matrix] | None = None,
    ) -> None:
        """Make a matrix of pieces.

        Args:
            indptr: (n_rows + 1,) offsets of the rows in all pieces; no row lies in two pieces.
            digest: what equal matrices alone have, if that is known without reading them.
            through: changes the values of what is read, each by itself.
        """
        self.indptr: Any = indptr
        self.digest, self._through = digest, through
        self.shape = (len(indptr) - 1, n_columns)
        self._pieces = list(pieces)
        self._starts = np.concatenate([[0], np.cumsum([len(piece.indices) for piece in pieces], dtype=np.int64)])
        if self._starts[-1] != indptr[-1]:
            raise DataError(f"the pieces hold {self._starts[-1]:,} entries, the offsets of the rows say {indptr[-1]:,}")

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.indptr[-1])

    @property
    def all_ones(self) -> bool:
        """Whether every stored value is 1 because none is written down."""
        return all(piece.values is None for piece in self._pieces)

    def __repr__(self) -> str:
        return f"MappedMatrix({self.shape[0]:,} × {self.shape[1]:,}, {self.nnz:,} stored in {len(self._pieces)} pieces)"

    def __getitem__(self, rows: Any) -> sp.csr_matrix:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                return self._between(start, max(start, stop))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        if rows.size and not -self.shape[0] <= rows.min() <= rows.max() < self.shape[0]:
            raise IndexError(f"rows must lie in 0..{self.shape[0] - 1}, got {rows.min()} to {rows.max()}")
        rows = np.where(rows < 0, rows + self.shape[0], rows)
        if rows.size and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            return self._between(int(rows[0]), int(rows[-1]) + 1)
        starts = self.indptr[rows]
        counts = self.indptr[rows + 1] - starts
        indptr = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        indices, values = np.empty(len(places), np.int32), np.ones(len(places), np.float32)
        for piece, first, last in zip(self._pieces, self._starts[:-1], self._starts[1:], strict=True):
            # Of most cuts all entries lie in one piece.
            some: Any = (places >= first) & (places < last) if len(self._pieces) > 1 else slice(None)
            indices[some] = piece.indices[places[some] - first]
            if piece.values is not None:
                values[some] = piece.values[places[some] - first]
        return self._csr(indices, values, indptr)

    def blocks(self, entries: int = BLOCK) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Yield consecutive rows, each time with the number of the first: as many as have `entries`, but at least one.

        Rows of two pieces are never in one block.
        """
        row = 0
        for last in self._starts[1:]:
            until = self._rows_within(row, int(last))
            while row < until:
                stop = max(row + 1, self._rows_within(row, int(self.indptr[row]) + entries))
                yield row, self._between(row, min(until, stop))
                row = min(until, stop)
        if row < self.shape[0]:
            yield row, self._between(row, self.shape[0])  # rows without entries, behind the last piece

    def lengths(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the number of entries of each row, of `ROWS` rows at a time."""
        for start in range(0, self.shape[0], ROWS):
            yield np.diff(self.indptr[start : start + ROWS + 1])

    def _rows_within(self, row: int, entries: int) -> int:
        """Return how many rows end within the first `entries` of all; at least the first `row` do."""
        return bisect_right(self.indptr, entries, row + 1, self.shape[0] + 1) - 1

    def through(self, change: Callable[[sp.csr_matrix], sp.csr_matrix]) -> MappedMatrix:
        """Return the same rows with their values changed as they are read, each by itself."""
        return MappedMatrix(self.indptr, self._pieces, self.shape[1], self.digest, change)

    def entries(self, start: int, stop: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return columns and values of the entries `start:stop` of all, whatever their rows."""
        indices, values = self._stored(start, min(stop, self.nnz))
        if self._through is not None:
            one_row = sp.csr_matrix((values, indices, [0, len(values)]), shape=(1, self.shape[1]))
            values = self._through(one_row).data
        return indices, values

    def _stored(self, start: int, stop: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return columns and values of the entries `start:stop` as they are stored."""
        indices, values = np.empty(stop - start, np.int32), np.ones(stop - start, np.float32)
        for piece, first in zip(self._pieces, self._starts[:-1], strict=True):
            begin, end = max(start, int(first)), min(stop, int(first) + len(piece.indices))
            if begin < end:
                some, of_piece = slice(begin - start, end - start), (begin - int(first), end - int(first))
                indices[some] = _read(piece.indices, *of_piece)
                if piece.values is not None:
                    values[some] = _read(piece.values, *of_piece)
        return indices, values

    def to_csr(self) -> sp.csr_matrix:
        """Return the whole matrix in memory: 8 bytes an entry."""
        return self._between(0, self.shape[0])

    def _between(self, start: int, stop: int) -> sp.csr_matrix:
        """Return a copy of the consecutive rows `start:stop`."""
        low, high = int(self.indptr[start]), int(self.indptr[stop])
        return self._csr(*self._stored(low, high), self.indptr[start : stop + 1] - low)

    def _csr(
        self, indices: npt.NDArray[np.int32], values: npt.NDArray[np.float32], indptr: npt.NDArray[np.int64]
    ) -> sp.csr_matrix:
        offsets = indptr.astype(np.int32) if indptr[-1] < 2**31 else indptr
        matrix = sp.csr_matrix((values, indices, offsets), shape=(len(indptr) - 1, self.shape[1]))
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix if self._through is None else self._through(matrix)


def _read(array: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """Return a copy of consecutive values; of a mapped file their pages, which are read once, do not stay ours."""
    part = np.array(array[start:stop])
    file: Any = array.base
    if stop > start and isinstance(array, np.memmap) and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        first = array.itemsize * start // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_DONTNEED, first, array.itemsize * stop - first)
    return part


Matrix = sp.csr_matrix | MappedMatrix


def entries_of(matrix: Matrix) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.float32]]]:
    """Yield columns and values of all stored entries, `BLOCK` at a time, for sums that take no memory.

    The blocks do not depend on where the entries lie, so that a sum over them is the same in memory and on disk.
    """
    for start in range(0, matrix.nnz, BLOCK):
        if isinstance(matrix, MappedMatrix):
            yield matrix.entries(start, start + BLOCK)
        else:
            yield matrix.indices[start : start + BLOCK], matrix.data[start : start + BLOCK]


def rows_of(matrix: Matrix) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Yield consecutive rows with the number of the first: all of a matrix in memory, parts of one on disk."""
    if isinstance(matrix, MappedMatrix):
        yield from matrix.blocks()
    else:
        yield 0, matrix


def without_entries(matrix: Matrix) -> int:
    """Return how many rows have no entry."""
    lengths = matrix.lengths() if isinstance(matrix, MappedMatrix) else [np.diff(matrix.indptr)]
    return sum(int(np.count_nonzero(part == 0)) for part in lengths)


def column_counts(matrix: Matrix) -> npt.NDArray[np.int64]:
    """Return how many entries each column has, (n_columns,)."""
    counts = np.zeros(matrix.shape[1], np.int64)
    for columns, _ in entries_of(matrix):
        counts += np.bincount(columns, minlength=len(counts))
    return counts


def extremes(matrix: Matrix) -> tuple[float, float]:
    """Return the smallest and the largest stored value, of which there is one."""
    ends = [(float(values.min()), float(values.max())) for _, values in entries_of(matrix)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def total(matrix: Matrix) -> float:
    """Return the sum of the stored values."""
    return sum((float(values.sum(dtype=np.float64)) for _, values in entries_of(matrix)), 0.0)


def squares(matrix: Matrix) -> float:
    """Return the sum of the squares of the stored values."""
    return sum((float(np.square(values, dtype=np.float64).sum()) for _, values in entries_of(matrix)), 0.0)


def order_blocks(matrix: Matrix) -> npt.NDArray[np.int64]:
    """Return the first row of each block of consecutive rows that lie near each other: one block in memory.

    A row on disk is of block ⌊its first entry / `SHUFFLED`⌋, wherever pieces begin.
    """
    if not isinstance(matrix, MappedMatrix) or not matrix.nnz:
        return np.zeros(1, np.int64)
    return np.flatnonzero(np.diff(matrix.indptr[:-1] // SHUFFLED, prepend=-1))
