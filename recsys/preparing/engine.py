"""What an engine does: read a table, find its distinct ids, and sort its rows. All else is the same for all engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


class Engine(Protocol):
    """Runs SQL on parquet files, in memory of its own and with intermediate files where that is short."""

    def table(self, name: str, files: Sequence[Path], *, number: str | None = None) -> None:
        """Make parquet files known as a table.

        Args:
            number: name of a further column that numbers the rows in the order of the files, perhaps with gaps.
        """

    def column(self, name: str) -> str:
        """Return the name of a column as SQL has it."""

    def microseconds(self, column: str) -> str:
        """Return SQL for the microseconds since 1970 of a timestamp."""

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the one row of a query."""

    def batches(self, query: str) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Give the rows of a query in their order, some at a time."""
