"""Paths as users write them; where a job reads and writes and whether it shows progress, passed on as one thing."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

from recsys.errors import ConfigError, OutputError


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` as the user's home; a ConfigError for anything else than a path, such as an open file."""
    try:
        text = os.fspath(path)
        os.fsencode(text)
    except TypeError:
        raise ConfigError(f"expected a path as text or as a Path, got {type(path).__name__}") from None
    except UnicodeEncodeError:
        raise ConfigError(f"expected a path of characters that a file system can hold, got {text!r}") from None
    return Path(os.path.expanduser(os.fsdecode(text)))


def output_file(path: Path, option: str) -> Path:
    """Return the file to write for an output that is named `path`: of a link, its target, so that the link stays.

    Raises:
        OutputError: it is a folder, a device, a pipe or a socket, a link that leads to no file or folder, or lies where
            nothing can be written; the message calls the output `option`.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except OSError as error:
        raise OutputError(f"{option} cannot be written to {path}: {error.strerror or error}") from None
    if mode is not None and not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise OutputError(f"{option} must name a regular file or a new one, {path} is {kind}; choose another name")
    target = _followed(path, option, OutputError)
    _check_place(path, target, option, OutputError)
    return target


def output_folder(path: Path, error: type[Exception]) -> Path:
    """Return the folder to write for an output that is named `path`: of a link, its target, so that the link stays.

    Raises:
        Exception: of the type `error`; it is a link that leads to no folder, or something else than a folder.
    """
    if path.name in ("", ".."):
        path = path.resolve()
    target = _followed(path, "the output", error)
    if os.path.lexists(target) and not target.is_dir():
        raise error(f"{path} is not a folder; choose another name or remove it")
    if target != path and not target.is_dir():
        raise error(f"{path} is a link to {target}, where there is no folder; make that folder or remove the link")
    _check_place(path, target, "the output", error)
    return target


def _check_place(path: Path, target: Path, option: str, error: type[Exception]) -> None:
    """Raise an error where nothing can be written beside `target`."""
    place = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "nothing may be written there" if place.is_dir() else "it is not a folder"
        raise error(f"{option} cannot be written to {path}: {place}: {reason}; choose another name")


def _followed(path: Path, option: str, error: type[Exception]) -> Path:
    """Return the path that a link leads to, and any other path as it is."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    lost = target.is_symlink() or not target.parent.is_dir()  # it leads around in a circle, or to nowhere
    if lost or (path.exists() and not target.exists()):  # or to what has no name, such as an open file
        raise error(f"{option} cannot be written to {path}: the link leads to {target}; correct or remove the link")
    return target


@dataclass(frozen=True)
class Workspace:
    """The folder that holds `mlruns/` and `data/`, and how work is shown."""

    root: Path = field(default_factory=Path.cwd)
    """The working folder by default, `~` expanded; an absolute path once made."""
    progress: bool = True
    """Show progress bars."""
    in_words: bool = True
    """Print the tables that a job returns, for people; False where a program reads them."""
    lines: bool = False
    """Print a line where a training has come, at most one an epoch: where there is no terminal for a bar."""

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
