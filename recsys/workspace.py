"""Paths as users write them; where a job reads and writes and whether it shows progress, passed on as one thing."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from recsys.errors import ConfigError


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` as the user's home; a ConfigError for anything else than a path, such as an open file."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise ConfigError(f"expected a path as text or as a Path, got {type(path).__name__}") from None
    return Path(os.path.expanduser(os.fsdecode(text)))


@dataclass(frozen=True)
class Workspace:
    """The folder that holds `mlruns/` and `data/`, and how work is shown."""

    root: Path = field(default_factory=Path.cwd)
    """The working folder by default, `~` expanded; an absolute path once made."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", as_path(self.root).resolve())

    @property
    def folder(self) -> Path:
        """`root`."""
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
