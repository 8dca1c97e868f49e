"""Spark as the engine: it reads and sorts on a cluster or on all cores of one machine.

What it hands back goes through parquet files in the folder of intermediate files, which all workers must see.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_ROWS: Final = 2**17
"""Rows of a batch."""


class Spark:
    """Runs SQL in a Spark session of its own settings and tables, beside what else its context does."""

    def __init__(self, scratch: Path, spark: SparkSession) -> None:
        self._scratch, self._spark = scratch, spark.newSession()
        self._spark.conf.set("spark.sql.session.timeZone", "UTC")
        self._numbers = count()

    def table(self, name: str, files: Sequence[Path], *, number: str | None = None) -> None:
        """Make parquet files known as a table."""
        paths = [re.sub(r"([\\*?{}\[\]])", r"\\\1", _uri(file)) for file in files]
        with self._translated():
            if number is None:
                table = self._spark.read.parquet(*paths)
            else:
                parts = [
                    self._spark.read.parquet(path).selectExpr(
                        "*", f"CAST({place} AS BIGINT) * {2**40} + _metadata.row_index AS {number}"
                    )
                    for place, path in enumerate(paths)
                ]
                table = parts[0]
                for part in parts[1:]:
                    table = table.union(part)
            table.createOrReplaceTempView(name)

    def column(self, name: str) -> str:
        """Return the name of a column as SQL has it."""
        return "`" + name.replace("`", "``") + "`"

    def microseconds(self, column: str) -> str:
        """Return SQL for the microseconds since 1970 of a timestamp."""
        return f"unix_micros(CAST({column} AS TIMESTAMP))"

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the one row of a query."""
        with self._translated():
            (found,) = self._spark.sql(query).collect()
        return tuple(found)

    @contextmanager
    def batches(self, query: str) -> Iterator[Iterator[pa.RecordBatch]]:
        """Give the rows of a query in their order, some at a time."""
        folder = self._scratch / f"sorted-{next(self._numbers)}"
        with self._translated():
            self._spark.sql(query).write.parquet(_uri(folder), compression="snappy")
        try:
            yield self._read(folder)
        finally:
            shutil.rmtree(folder)

    def _read(self, folder: Path) -> Iterator[pa.RecordBatch]:
        for file in sorted(folder.glob("part-*.parquet")):  # numbered in the order of the rows
            with pq.ParquetFile(file) as opened:
                yield from opened.iter_batches(_ROWS)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Name what Spark raises, which may be a page, by its first line."""
        from pyspark.errors import PySparkException

        from recsys.scoring.spark_session import first_line

        try:
            yield
        except PySparkException as error:
            raise DataError(f"Spark: {first_line(error)}") from None
        except Exception as error:
            if not type(error).__module__.startswith("py4j"):
                raise
            raise DataError(f"Spark: {first_line(error)}") from None


def _uri(path: Path) -> str:
    """Return a path as Hadoop has it, which takes escapes such as %20 for characters."""
    return f"file://{path.absolute()}"
