"""How far a training has come, as lines: for files and pipes, where no bar can move."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from recsys.workspace import Workspace

_LEAST: Final = 2.0
"""Seconds between two lines, of which there is at most one an epoch."""
_SHOWN: Final = 3
"""Values of a line."""


class Lines:
    """Prints a line for some of the epochs on standard error, with the time of day and since the beginning."""

    def __init__(self, workspace: Workspace, epochs: int | None) -> None:
        """`epochs`: how many there are at most, where it is known."""
        self._shown, self._epochs = workspace.lines, epochs
        self._began = self._last = time.perf_counter()

    def tell(self, entry: Mapping[str, float]) -> None:
        """Print where the training is, unless it was printed just before and this is not the last epoch."""
        now, epoch = time.perf_counter(), int(entry["epoch"])
        if not self._shown or (now - self._last < _LEAST and epoch != self._epochs):
            return
        self._last = now
        of = f"/{self._epochs}" if self._epochs else ""
        values = [(name, value) for name, value in entry.items() if name not in ("epoch", "seconds")][:_SHOWN]
        text = "  ".join(f"{name} {value:.4f}" for name, value in values)
        print(f"{datetime.now():%H:%M:%S}  epoch {epoch}{of}  {text}  {now - self._began:.0f} s", file=sys.stderr)
