"""External ids in a file: read some at a time where all together would take much memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import DataError
from recsys.ids import IdMap


class StoredIds:
    """Distinct ids in ascending order, in a parquet file of which one row group at a time is in memory."""

    def __init__(self, file: pq.ParquetFile, path: Path) -> None:
        self._file, self._path = file, path
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._held: tuple[int, pa.Array] = -1, pa.array([])

    @classmethod
    def opened(cls, path: Path, column: str, n: int) -> StoredIds | None:
        """Return the ids of a file of one column; None where they are no integers or text in ascending order.

        Raises:
            DataError: the file is damaged, or does not hold `n` ids.
        """
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if file.metadata.num_rows != n:
            raise DataError(f"{path} is damaged: it has {file.metadata.num_rows:,} ids, expected {n:,}")
        if file.schema_arrow.names != [column] or file.schema_arrow.types[0] not in (pa.int64(), pa.string()):
            return None
        ids = cls(file, path)
        return ids if ids._ascend() else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, codes: npt.ArrayLike) -> IdMap:
        """Return the ids of these rows, renumbered in the order of `codes`."""
        return IdMap(self.arrow(codes).to_pandas())

    def ids(self, codes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the external ids of these rows."""
        return self.take(codes).ids()

    def arrow(self, codes: npt.ArrayLike) -> pa.Array:
        """Return the ids of these rows, in the order of `codes`."""
        rows = np.asarray(codes, dtype=np.int64)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        groups = np.searchsorted(self._starts, ascending, "right") - 1
        parts = [
            self._group(int(group)).take(pa.array(ascending[groups == group] - self._starts[group]))
            for group in np.unique(groups)
        ]
        found = pa.concat_arrays(parts) if parts else pa.array([], self._file.schema_arrow.types[0])
        return found.take(pa.array(np.argsort(order, kind="stable")))

    def parts(self, size: int) -> Iterator[IdMap]:
        """Yield all ids in their order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def _group(self, group: int) -> pa.Array:
        if self._held[0] != group:
            try:
                table = self._file.read_row_group(group, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self._path} cannot be read: {error}") from None
            self._held = group, pa.concat_arrays(table.column(0).chunks)
        return self._held[1]

    def _ascend(self) -> bool:
        """Return whether each id comes after the one before, so that none is there twice, and none is missing."""
        last: Any = None
        for group in range(len(self._starts) - 1):
            ids = self._group(group)
            if ids.null_count or not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
                return False
            if not len(ids) or (last is not None and not last < ids[0].as_py()):
                return False
            last = ids[-1].as_py()
        return True
