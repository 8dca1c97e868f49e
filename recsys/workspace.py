"""Where a job reads and writes, and whether it shows progress: made at the door, passed on as one thing."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folder that holds `mlruns/` and `data/`, and how work is shown."""

    root: Path | None = None
    """The working folder by default; an absolute path once made."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", (Path.cwd() if self.root is None else Path(self.root)).resolve())

    @property
    def folder(self) -> Path:
        """`root`, known not to be None."""
        assert self.root is not None
        return self.root

    @property
    def mlruns(self) -> Path:
        """Folder of runs, models and everything else that tracking keeps."""
        return self.folder / "mlruns"

    @property
    def scored(self) -> Path:
        """Folder of recommendations, unless a job is told another."""
        return self.folder / "data" / "scored"

    @property
    def option(self) -> str:
        """The command-line option that names this workspace; empty for the working folder."""
        return "" if self.folder == Path.cwd().resolve() else f" --root {shlex.quote(str(self.root))}"
