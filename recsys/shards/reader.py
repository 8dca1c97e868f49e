"""Shards opened: a training part whose rows stay on disk, and held-out parts in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from recsys import memory
from recsys.columns import ITEM, TITLE, USER
from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.mapped import ROWS, MappedMatrix, Offsets, Piece
from recsys.shards.format import TIMES, TRAIN, TYPES, array_name, read_manifest, verify
from recsys.shards.ids import StoredIds
from recsys.splits import Part, Split, register
from recsys.times import Times
from recsys.workspace import as_path


class Stored(Interactions):
    """The training part of shards: interactions whose rows are read from disk when they are asked for.

    `fit` of every model takes it. What needs all entries, such as `select`, loads them into memory.
    """

    shards: Shards

    def __init__(self, shards: Shards, *, whole: bool = False) -> None:
        """`whole`: these stand for the data that were split, of which `summary` and `fingerprint` then tell."""
        given = {"shards": shards, "whole": whole, "matrix": shards.matrix(TRAIN), "columns": {}}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def users(self) -> IdMap:
        """External ids of the rows; read when they are first asked for."""
        return self.shards.users

    @property
    def items(self) -> IdMap:
        """External ids of the columns."""
        return self.shards.items

    @property
    def titles(self) -> npt.NDArray[np.object_] | None:
        """(n_items,) readable names of the items; None if unknown."""
        return self.shards.titles

    @property
    def item_columns(self) -> Mapping[str, npt.NDArray[Any]]:
        """Further columns of the items."""
        return self.shards.item_columns

    @property
    def timestamps(self) -> Times | None:
        """(n_stored,) times, read into memory; None without."""
        return self.shards.times()

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        n_users, n_items = self.matrix.shape
        return n_users, n_items

    def __repr__(self) -> str:
        return f"Stored({self.shape[0]:,} users × {self.shape[1]:,} items, {self.nnz:,} stored on disk)"

    def fingerprint(self) -> str:
        """Return the fingerprint that `load()` has, as it was computed when the shards were written."""
        return str(self.summary()["fingerprint"])

    def summary(self) -> dict[str, Any]:
        """Return what `load().summary()` returns."""
        if self.whole and self.shards.manifest.get("data"):  # type: ignore[attr-defined]
            return dict(self.shards.manifest["data"])
        n_users, n_items = self.shape
        sizes = {"users": n_users, "items": n_items, "interactions": self.nnz}
        fingerprint = self.shards.manifest["train"]["fingerprint"]
        return {**sizes, "density": self.nnz / max(1, n_users * n_items), "fingerprint": fingerprint}

    def load(self) -> Interactions:
        """Return the interactions in memory; a DataError if they do not fit."""
        about, matrix = self.shards, cast(MappedMatrix, self.matrix)
        times_too = about.manifest["times"] is not None
        needed = (16 if times_too else 8) * self.nnz + 4 * self.shape[0]
        memory.require(needed, f"{self.nnz:,} interactions in memory need", "train a model that reads shards")
        ids, columns = (about.users, about.items), about.item_columns
        return Interactions(matrix.to_csr(), *ids, about.times(), titles=about.titles, item_columns=columns)

    def select(self, entries: npt.NDArray[np.bool_], *, keep_shape: bool = True) -> Interactions:
        """Return the marked entries, in memory."""
        return self.load().select(entries, keep_shape=keep_shape)

    def take_users(self, codes: npt.ArrayLike) -> Interactions:
        """Return the rows of these users, in this order, in memory."""
        users, matrix = self.users.take(codes), self.matrix[np.asarray(codes, dtype=np.int64)]
        return Interactions(matrix, users, self.items, titles=self.titles, item_columns=self.item_columns)

    def take_items(self, codes: npt.ArrayLike) -> Interactions:
        """Return the columns of these items, in memory."""
        return self.load().take_items(codes)

    def histories(self, items: IdMap) -> sp.csr_matrix:
        """Return the matrix with the columns of another item map, in memory."""
        return self.load().histories(items)

    def matched(self, items: IdMap) -> tuple[sp.csr_matrix, str]:
        """Return `histories` and its warning, in memory."""
        return self.load().matched(items)

    def filter(self, **wanted: Any) -> Interactions:
        """Return a selection of the interactions, in memory."""
        return self.load().filter(**wanted)

    def binarized(self) -> Interactions:
        """Return the interactions with the value 1, in memory."""
        return self.load().binarized()

    def to_frame(self) -> pd.DataFrame:
        """Return the interactions as a table, in memory."""
        return self.load().to_frame()


def in_memory(data: Interactions) -> Interactions:
    """Return interactions in memory, where they may be until now on disk."""
    return data.load() if isinstance(data, Stored) else data


@register
def prepared(data: Interactions) -> Split:
    """The parts that `recsys prepare` has written: `[data] shards` names their folder. The training part stays on disk.

    Raises:
        DataError: the data are no shards, or were not split.
    """
    if not isinstance(data, Stored):
        raise DataError("the split 'prepared' is that of shards; name their folder with shards under [data]")
    return data.shards.split(on_disk=True)


class Shards:
    """A folder of shards; `open` makes it."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest

    def __repr__(self) -> str:
        return f"Shards({self.folder}, {self.train!r})"

    @cached_property
    def train(self) -> Stored:
        """The training part, or everything if the shards were not split."""
        return Stored(self)

    @property
    def n_users(self) -> int:
        """Rows of the training part."""
        return sum(rows for rows, _ in self.manifest["matrices"][TRAIN])

    @cached_property
    def users(self) -> IdMap:
        """External ids of the rows of the training part."""
        return self._ids("users.parquet", self.n_users)

    @cached_property
    def items(self) -> IdMap:
        """External ids of the columns."""
        return _id_map(self._item_table[ITEM], self.folder / "items.parquet")

    @cached_property
    def titles(self) -> npt.NDArray[np.object_] | None:
        """(n_items,) readable names of the items; None if unknown."""
        table = self._item_table
        return _values(table[TITLE]).astype(object) if TITLE in table.column_names else None

    @cached_property
    def item_columns(self) -> dict[str, npt.NDArray[Any]]:
        """Further columns of the items."""
        table = self._item_table
        return {name: _values(table[name]) for name in table.column_names if name not in (ITEM, TITLE)}

    @cached_property
    def users_on_disk(self) -> StoredIds | None:
        """The ids of the rows of the training part, read where they are asked for.

        None where they are neither integers nor text, or not in ascending order: then all are looked at together.
        """
        return StoredIds.opened(self.folder / "users.parquet", USER, self.n_users)

    def matrix(self, name: str) -> MappedMatrix:
        """Return a matrix of the folder, memory-mapped; a DataError if its offsets are damaged."""
        offsets, pieces = [], []
        for number, (rows, entries) in enumerate(self.manifest["matrices"][name]):
            indptr = self._array(array_name(name, number, "indptr"), TYPES["indptr"], rows + 1)
            part = Offsets([indptr])
            steps = (part[start : start + ROWS + 1] for start in range(0, rows, ROWS))
            if indptr[0] != 0 or indptr[-1] != entries or any((np.diff(some) < 0).any() for some in steps):
                raise DataError(f"{self.folder / array_name(name, number, 'indptr')} is damaged: no offsets of rows")
            indices = self._array(array_name(name, number, "indices"), TYPES["indices"], entries)
            values = None
            if self.manifest["values"] is not None:
                values = self._array(array_name(name, number, "values"), TYPES["values"], entries)
            pieces.append(Piece(indices, values))
            offsets.append(indptr)
        digest = f"{name} {self.manifest['checksum']}"
        return MappedMatrix(Offsets(offsets), pieces, int(self.manifest["items"]), digest)

    def rows_of(self, part: str) -> int:
        """Return how many users a held-out part has."""
        return sum(rows for rows, _ in self.manifest["matrices"][f"{part}-target"])

    def times(self) -> Times | None:
        """Return the times of the training entries, in memory; None without."""
        kind = self.manifest["times"]
        if kind is None:
            return None
        shards = enumerate(self.manifest["matrices"][TRAIN])
        parts = [self._array(array_name(TRAIN, n, "times"), TIMES[kind], entries) for n, (_, entries) in shards]
        return np.concatenate(parts)

    def part(self, name: str) -> Part | None:
        """Return `validation` or `test`, in memory; None where there is none."""
        facts = self.manifest["parts"].get(name)
        if facts is None:
            return None
        target = self.matrix(f"{name}-target").to_csr()
        of_train = facts["users"] == "users.parquet"
        users = self.users if of_train else self._ids(facts["users"], target.shape[0])
        n = target.shape[0]
        if facts["index"]:
            index = np.array(self._array(f"{name}-index.bin", TYPES["index"], n))
        else:
            index = np.arange(n, dtype=np.int32) if of_train else np.full(n, -1, np.int32)
        context = joined([self.matrix(matrix).to_csr() for matrix in facts["context"]])
        seen = self.matrix(f"{name}-seen").to_csr() if facts["seen"] else None
        return Part(context, target, users, index, seen, bool(facts["allow_overlap"]))

    def split(self, *, on_disk: bool = False) -> Split:
        """Return the split in memory, but for the training part if that is to stay `on_disk`.

        Raises:
            DataError: the shards were not split, or do not fit in memory.
        """
        test = self.part("test")
        if test is None:
            raise DataError(f"{self.folder} holds no test part: it was written without a split")
        return Split(
            self.train if on_disk else self.train.load(),
            self.part("validation"),
            test,
            self.manifest["first_test_time"],
            bool(self.manifest["allow_overlap"]),
            tuple(self.manifest["notes"]),
        )

    def check(self) -> None:
        """Compare all files with their checksums, and look at all entries; a DataError names what is damaged."""
        verify(self.folder, self.manifest["files"])
        for name in self.manifest["matrices"]:
            matrix = self.matrix(name)
            for row, block in matrix.blocks():
                if not block.nnz:
                    continue
                steps = np.diff(block.indices) > 0
                steps[block.indptr[1:-1][(block.indptr[1:-1] > 0) & (block.indptr[1:-1] < block.nnz)] - 1] = True
                if not steps.all() or not 0 <= block.indices.min() <= block.indices.max() < matrix.shape[1]:
                    raise DataError(f"{self.folder} is damaged: {name} has columns out of order near row {row:,}")
                if not np.isfinite(block.data).all():
                    raise DataError(f"{self.folder} is damaged: {name} has values that are not finite near row {row:,}")

    @cached_property
    def _item_table(self) -> pa.Table:
        return _table(self.folder / "items.parquet", int(self.manifest["items"]))

    def _ids(self, name: str, n: int) -> IdMap:
        path = self.folder / name
        return _id_map(_table(path, n)[USER], path)

    def _array(self, name: str, dtype: np.dtype[Any], n: int) -> npt.NDArray[Any]:
        path = self.folder / name
        facts = self.manifest["files"].get(name)
        if facts is None or facts["bytes"] != n * dtype.itemsize:
            raise DataError(f"{path} is not of the size that the manifest gives its matrix")
        return np.memmap(path, dtype, "r") if n else np.empty(0, dtype)


def open(folder: str | Path, *, check: bool = True) -> Shards:
    """Open a folder of shards.

    Args:
        check: compare all files with their checksums, which reads them once.

    Raises:
        DataError: there are no shards, or a file is missing, damaged or of a newer version; the message names it.
    """
    path = as_path(folder)
    shards = Shards(path, read_manifest(path))
    if check:
        shards.check()
    return shards


def joined(matrices: Sequence[sp.csr_matrix]) -> sp.csr_matrix:
    """Return the union of matrices of one shape that share no entry, stored zeros included."""
    if len(matrices) == 1:
        return matrices[0]
    parts = [matrix.tocoo() for matrix in matrices]
    values, rows, cols = (np.concatenate([getattr(part, of) for part in parts]) for of in ("data", "row", "col"))
    whole = sp.csr_matrix((values, (rows, cols)), shape=matrices[0].shape, dtype=np.float32)
    whole.sort_indices()
    return whole


def _table(path: Path, n: int) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(table) != n:
        raise DataError(f"{path} is damaged: it has {len(table):,} ids, expected {n:,}")
    return table


def _id_map(column: pa.ChunkedArray, path: Path) -> IdMap:
    try:
        return IdMap(column.to_pandas())
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_primitive(column.type) and not column.null_count:
        found: npt.NDArray[Any] = column.to_numpy()
        return found
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
