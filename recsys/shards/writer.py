"""Shards written as a stream: rows and ids are added in order, and the manifest is written when all are there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import ITEM, TITLE, USER
from recsys.errors import DataError
from recsys.files import sha256_of_file
from recsys.ids import IdMap
from recsys.interactions import fingerprint_of
from recsys.mapped import BLOCK
from recsys.shards.format import MOST_ENTRIES, TIMES, TRAIN, TYPES, array_name, write_manifest

_GROUP: Final = 2**20
"""Ids of a row group: fixed, so that a file does not depend on the portions in which its ids came."""


class _Array:
    """A file of one array, with the checksum of what was written."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self._file: BinaryIO = path.open("wb")
        self._sum = hashlib.sha256()

    def add(self, values: npt.NDArray[Any]) -> None:
        part = np.ascontiguousarray(values, dtype=self.dtype)
        self._file.write(part.data)
        self._sum.update(part.data)

    def close(self) -> dict[str, Any]:
        size = self._file.tell()
        self._file.close()
        return {"bytes": size, "sha256": self._sum.hexdigest()}


class MatrixWriter:
    """Writes the rows of a matrix, in order, into shards."""

    def __init__(self, folder: Path, name: str, times: str | None, most: int) -> None:
        self.folder, self.name, self.times, self.most = folder, name, times, most
        self.all_ones = True
        """Whether every value so far is 1."""
        self.shards: list[list[int]] = []
        """Rows and entries of each."""
        self.files: dict[str, dict[str, Any]] = {}
        self._open: dict[str, _Array] = {}

    def add(
        self,
        lengths: npt.NDArray[np.integer[Any]],
        indices: npt.NDArray[np.integer[Any]],
        values: npt.NDArray[np.float32],
        times: npt.NDArray[Any] | None = None,
    ) -> None:
        """Add the next rows: the number of entries of each, and these entries, with columns ascending in each row."""
        self.all_ones = self.all_ones and bool((values == 1).all())
        ends, done, written = np.cumsum(lengths, dtype=np.int64), 0, 0
        while done < len(lengths):
            if not self._open:
                self._begin()
            room = self.most - self.shards[-1][1]
            until = int(np.searchsorted(ends, written + room, "right"))
            if until == done and self.shards[-1][0] == 0:
                raise DataError(f"a row of {int(lengths[done]):,} entries does not fit a shard of {self.most:,}")
            if until > done:
                stop = int(ends[until - 1])
                some = slice(written, stop)
                self._open["indptr"].add(self.shards[-1][1] + ends[done:until] - written)
                self._open["indices"].add(indices[some])
                self._open["values"].add(values[some])
                if times is not None and self.times is not None:
                    self._open["times"].add(times[some])
                self.shards[-1][0] += until - done
                self.shards[-1][1] += stop - written
                done, written = until, stop
            if done < len(lengths):
                self._end()

    def close(self) -> None:
        """Write what is left; nothing can be added afterwards."""
        if not self.shards:
            self._begin()
        self._end()

    def abandon(self) -> None:
        """Close the files of what will not be finished."""
        for array in self._open.values():
            array.close()

    def without_values(self) -> None:
        """Remove the values, all of which are 1."""
        for name in [name for name in self.files if name.endswith("-values.bin")]:
            (self.folder / name).unlink()
            del self.files[name]

    def _begin(self) -> None:
        number = len(self.shards)
        types = {name: TYPES[name] for name in ("indptr", "indices", "values")}
        if self.times is not None:
            types["times"] = TIMES[self.times]
        self._open = {
            name: _Array(self.folder / array_name(self.name, number, name), dtype) for name, dtype in types.items()
        }
        self._open["indptr"].add(np.zeros(1, np.int64))
        self.shards.append([0, 0])

    def _end(self) -> None:
        for array in self._open.values():
            self.files[array.path.name] = array.close()
        self._open = {}


class Builder:
    """Fills a folder with shards: ids, then matrices, then the manifest; a context that closes what is left open."""

    def __init__(self, folder: Path, *, most: int = MOST_ENTRIES) -> None:
        self.folder, self.most = folder, most
        self._matrices: dict[str, MatrixWriter] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._matrices.values():
            writer.abandon()

    def users(self, ids: Iterable[pa.Array], name: str = "users.parquet") -> None:
        """Write the ids of users, in the order of their rows."""
        self._ids(name, USER, ids)

    def items(
        self,
        ids: IdMap,
        titles: npt.NDArray[np.object_] | None = None,
        columns: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        """Write the ids of the items, in the order of their columns, and what is known of them."""
        arrays = {ITEM: _id_array(ids)}
        if titles is not None:
            arrays[TITLE] = pa.array(titles.tolist(), pa.string())
        for name, values in (columns or {}).items():
            if name in arrays:
                raise DataError(f"a column of items cannot be called {name!r}; rename it")
            try:
                arrays[name] = pa.array(values)
            except pa.ArrowException as error:
                raise DataError(f"column {name!r} of the items cannot be stored: {error}") from None
        path = self.folder / "items.parquet"
        pq.write_table(pa.table(arrays), path, compression="zstd", row_group_size=_GROUP)
        self._keep(path)
        self._counts[path.name] = len(ids)

    def index(self, part: str, rows: npt.NDArray[np.int32]) -> None:
        """Write which row of the training matrix each user of a part has, -1 for none."""
        array = _Array(self.folder / f"{part}-index.bin", TYPES["index"])
        array.add(rows)
        self._files[array.path.name] = array.close()

    def matrix(self, name: str, times: str | None = None) -> MatrixWriter:
        """Begin a matrix; `times` is the type of the times that are added with its entries."""
        writer = self._matrices[name] = MatrixWriter(self.folder, name, times, self.most)
        return writer

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Close the matrices and write the manifest, with these further facts."""
        for writer in self._matrices.values():
            writer.close()
        has_values = not all(writer.all_ones for writer in self._matrices.values())
        for writer in self._matrices.values():
            if not has_values:
                writer.without_values()
            self._files |= writer.files
        manifest = {
            "users": self._counts["users.parquet"],
            "items": self._counts["items.parquet"],
            "values": "float32" if has_values else None,
            "times": self._matrices[TRAIN].times,
            "matrices": {name: writer.shards for name, writer in self._matrices.items()},
            "files": self._files,
        }
        write_manifest(self.folder, {**manifest, **facts})

    def _ids(self, name: str, column: str, ids: Iterable[pa.Array]) -> None:
        """Write a table of ids, in row groups of a fixed size."""
        path, count = self.folder / name, 0
        writer: pq.ParquetWriter | None = None
        try:
            for part in _in_groups(ids):
                if writer is None:
                    schema = pa.schema([(column, part.type)])
                    writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False)
                writer.write_table(pa.table({column: part}, schema=writer.schema), row_group_size=_GROUP)
                count += len(part)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise DataError("there are no ids to write")
        self._keep(path)
        self._counts[name] = count

    def _keep(self, path: Path) -> None:
        self._files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def id_arrays(ids: IdMap) -> list[pa.Array]:
    """Return ids as Arrow keeps them in files: as integers, text or days.

    Raises:
        DataError: they are of a type that cannot be read back unchanged.
    """
    return [_id_array(ids)]


def _id_array(ids: IdMap) -> pa.Array:
    kind = "no ids"
    if len(ids):
        first = next(iter(ids))
        kind = type(first).__name__
        if ids.kind != "other":
            return pa.array(ids.ids(), pa.int64() if ids.kind == "int" else pa.string())
        if type(first) in (bytes, bool) or hasattr(first, "isoformat"):
            found = pa.array(ids.ids())
            if IdMap(found.to_pandas()) == ids:
                return found
    raise DataError(f"ids of type {kind} cannot be stored in a file; use integers, strings or dates")


def _in_groups(ids: Iterable[pa.Array]) -> Iterator[pa.Array]:
    waiting: list[pa.Array] = []
    size = 0
    for part in ids:
        waiting.append(part)
        size += len(part)
        while size >= _GROUP:
            whole = pa.concat_arrays(waiting)
            yield whole.slice(0, _GROUP)
            waiting, size = [whole.slice(_GROUP)], size - _GROUP
    if size:
        yield pa.concat_arrays(waiting)


def fingerprint_of_files(
    folder: Path, matrix: MatrixWriter, ids: Iterable[Callable[[], Iterable[npt.NDArray[Any]]]]
) -> str:
    """Return `Interactions.fingerprint` of a matrix that was written, reading its files in parts."""

    def of(array: str, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
        for number in range(len(matrix.shards)):
            with (folder / array_name(matrix.name, number, array)).open("rb") as file:
                while len(part := file.read(BLOCK * dtype.itemsize)):
                    yield np.frombuffer(part, dtype)

    def offsets() -> Iterator[npt.NDArray[np.int64]]:
        before = 0
        yield np.zeros(1, np.int64)
        for number, (_, entries) in enumerate(matrix.shards):
            path = folder / array_name(matrix.name, number, "indptr")
            yield np.fromfile(path, TYPES["indptr"])[1:] + before
            before += entries

    times = None if matrix.times is None else of("times", TIMES[matrix.times])
    arrays = offsets(), of("indices", TYPES["indices"]), of("values", TYPES["values"]), times
    return fingerprint_of(arrays, (make() for make in ids))
