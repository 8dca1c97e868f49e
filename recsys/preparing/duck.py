"""DuckDB as the engine: one machine, out of core."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from recsys.errors import ConfigError, DataError
from recsys.extras import check_installed

_ROWS: Final = 2**17
"""Rows of a batch."""


class DuckDB:
    """Runs SQL in DuckDB, within a limit of memory; what does not fit is spilled to files."""

    def __init__(self, scratch: Path, memory: str) -> None:
        """Start it; `memory` is such as `1GB`, of DuckDB's own buffers."""
        check_installed("the engine duckdb", "duckdb", extra="duckdb")
        import duckdb

        self._error = duckdb.Error
        try:
            self._connection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": memory,
                    "temp_directory": str(scratch / "spilled"),
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            raise ConfigError(f"DuckDB cannot start with memory = {memory!r}: {error}") from None

    def __enter__(self) -> DuckDB:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def table(self, name: str, files: Sequence[Path], *, number: str | None = None) -> None:
        """Make parquet files known as a table."""
        paths = ", ".join("'" + glob.escape(str(file.absolute())).replace("'", "''") + "'" for file in files)
        # One scan of all files: a scan of each would keep buffers for each.
        options = "hive_partitioning = false, file_row_number = true"
        columns = f", file_index * {2**40} + file_row_number AS {number}" if number else ""
        self._run(
            f"CREATE VIEW {name} AS SELECT * EXCLUDE (file_row_number){columns} FROM read_parquet([{paths}], {options})"
        )

    def column(self, name: str) -> str:
        """Return the name of a column as SQL has it."""
        return '"' + name.replace('"', '""') + '"'

    def microseconds(self, column: str) -> str:
        """Return SQL for the microseconds since 1970 of a timestamp."""
        return f"epoch_us({column})"

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the one row of a query."""
        (found,) = self._run(query)
        return found

    @contextmanager
    def batches(self, query: str) -> Iterator[Iterator[pa.RecordBatch]]:
        """Give the rows of a query in their order, some at a time."""
        yield self._read(query)

    def _read(self, query: str) -> Iterator[pa.RecordBatch]:
        try:
            rows: Any = self._connection.sql(query)
            read = rows.to_arrow_reader if hasattr(rows, "to_arrow_reader") else rows.fetch_arrow_reader
            yield from read(_ROWS)
        except (self._error, pa.ArrowException) as error:
            raise DataError(f"DuckDB: {error}") from None

    def _run(self, query: str) -> list[tuple[Any, ...]]:
        try:
            rows: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
            return rows
        except self._error as error:
            raise DataError(f"DuckDB: {error}") from None
