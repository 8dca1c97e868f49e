"""Folders that a job writes: whose they are by their own manifest, and how one takes the place of another.

Only files that the manifest of a folder lists are ever removed. A folder that holds anything else is somebody's, and is
left as it is by an error that names it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recsys.claims import OLD, beside, dead, held, leftovers


@dataclass(frozen=True)
class Kind:
    """A kind of folder: how it is recognized, and what is raised where it is not."""

    what: str
    """With its article, such as `a saved model`."""
    error: type[Exception]
    manifest: str
    """The file by which it is recognized."""
    listed: Callable[[Path], Sequence[str] | None]
    """The files of a folder by its manifest, which is the last of them, relative and with `/`; None where it has no
    manifest of this kind. They need not exist."""
    unfinished: Callable[[str], bool] = lambda name: False
    """Whether a file of that name may be in a folder of this kind that was not finished."""
    folders: tuple[str, ...] = ()
    """Folders in it that may be empty."""

    def check(self, target: Path) -> None:
        """Raise this kind's error unless `target` is absent, an empty folder, or wholly of this kind."""
        if os.path.lexists(target):
            self.files(target)

    def files(self, folder: Path, shown: Path | None = None) -> list[str]:
        """Return the names that the folder's manifest lists, the manifest last; none for an empty folder.

        Raises:
            Exception: the folder is not of this kind, or holds what its manifest does not list; the message calls it
                `shown` and names the first such file.
        """
        shown = shown or folder
        if folder.is_symlink() or not folder.is_dir():
            raise self.error(f"{shown} is not a folder; choose another name for {self.what}")
        names = self.listed(folder)
        first = next(_foreign(folder, set(names or ()), self.folders if names else ()), None)
        if first is not None and self.manifest not in (names or ()):
            raise self.error(
                f"{shown} exists and is not {self.what}: it holds {first}; choose another folder or remove it"
            )
        if first is not None:
            raise self.error(
                f"{shown} holds {first}, which its manifest does not list: it was not written with {self.what}; "
                "move it elsewhere or choose another folder"
            )
        return list(names or ())


def replace(new: Path, target: Path, kind: Kind | None = None) -> None:
    """Put the folder `new` at `target`; what was there is set aside first and deleted last.

    Args:
        kind: what may be at `target`; only the files that its manifest lists are deleted. By default everything is.

    Raises:
        Exception: the kind's, where `target` is not of this kind; it is left as it was.
        OSError: `new` cannot be put there, or the old folder cannot be removed.
    """
    while not _placed(new, target):
        old = beside(target, folder=True, ending=OLD)
        with held(target):  # under its other name too: nobody takes it for what a dead process left
            try:
                target.rename(old)
            except FileNotFoundError:  # another process has set it aside
                continue
            done = False
            try:
                names = None if kind is None else kind.files(old, target)  # nothing can be added by its name any more
                done = _placed(new, target)
            finally:
                if not done:
                    with suppress(OSError):  # another process was faster, and its folder is replaced in the next round
                        old.rename(target)
            if not done and not old.exists():
                continue
            _remove(old, names, f"turned up while {target} was replaced; the new folder is there, and this is kept")
            if done:
                return


def recover(target: Path, kind: Kind | None = None) -> None:
    """Finish what a killed process left beside `target`: put back what it had set aside, or remove it."""
    for old in leftovers(target, folder=True, ending=OLD):
        with dead(old) as gone, suppress(OSError, *([kind.error] if kind else [])):
            if gone:
                names = None if kind is None else kind.files(old)
                if not _placed(old, target):
                    _remove(old, names, "")
    for folder in leftovers(target, folder=True):
        with dead(folder) as gone, suppress(OSError):
            if gone:
                inside = list(_entries(folder))
                names = None if kind is None else [name for name in inside if kind.unfinished(name)]
                _remove(folder, names, "", [name for name in inside if (folder / name).is_dir()])


def remove_files(folder: Path, names: Collection[str], folders: Collection[str] = ()) -> None:
    """Remove these files of a folder, in their order, and their folders in it, and others, that are empty then."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for parent in sorted({*_parents(names), *folders}, key=len, reverse=True):
        with suppress(OSError):
            (folder / parent).rmdir()


def _remove(folder: Path, names: Collection[str] | None, why: str, folders: Collection[str] = ()) -> None:
    """Remove a folder with these files, or with everything; an OSError where something else is in it.

    Args:
        folders: those in it that go if they are empty.
    """
    if names is None:
        shutil.rmtree(folder)
        return
    remove_files(folder, names, folders)
    try:
        folder.rmdir()
    except OSError:
        first = next(_entries(folder), None)
        if first is None:
            raise
        raise OSError(errno.ENOTEMPTY, why, str(folder / first)) from None


def _placed(new: Path, target: Path) -> bool:
    """Rename `new` to `target` if nothing or an empty folder is there; return whether that was so."""
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir() or target.is_symlink():
            raise
        if any(target.iterdir()):
            return False
        target.rmdir()  # where the system does not put a folder over an empty one
        new.rename(target)
    return True


def _foreign(folder: Path, names: Collection[str], folders: Collection[str]) -> Iterator[str]:
    """Yield what a folder holds beside these files, their folders, and folders that may be empty."""
    parents = {*_parents(names), *folders}
    for name in _entries(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            # What holds files is named by the first of them, which says more.
            if name not in parents and not any(path.iterdir()):
                yield name
        elif name not in names or path.is_symlink() or not path.is_file():
            yield name


def _entries(folder: Path) -> Iterator[str]:
    """Yield all that is in a folder, at any depth and in order."""
    for path in sorted(folder.iterdir()):
        yield path.name
        if path.is_dir() and not path.is_symlink():
            yield from (f"{path.name}/{name}" for name in _entries(path))


def _parents(names: Collection[str]) -> set[str]:
    """Return the folders that these files are in."""
    return {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
