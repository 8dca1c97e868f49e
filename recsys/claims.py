"""Temporary names beside a target, recognizably of this package and held by their writers; and lock files.

A process that is killed leaves its temporary file or folder behind. The next one that writes the same target finds it
by its name, sees by its lock that nobody holds it, and removes it. Where the system has no such locks nothing is
removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_MARK = b"recsys lock\n"
"""What a lock file holds, so that nobody's file is taken for one; less if its writer was killed, nothing in 0.2.0."""
OLD = ".old"
"""How the name of a folder ends that was set aside for a new one."""
_LONGEST = 200
"""Bytes of a target's name that a temporary name repeats; file systems end at 255."""


def beside(path: Path, *, folder: bool = False, ending: str = "") -> Path:
    """Return a new temporary name beside a file, with its suffix, or beside a folder."""
    prefix, suffix = _around(path, folder)
    return path.with_name(f"{prefix}{uuid.uuid4().hex[:8]}{suffix}{ending}")


@contextmanager
def claimed(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Create a temporary file or folder beside `path` and hold it for the block; the caller renames or removes it."""
    while True:
        new = beside(path, folder=folder)
        try:
            if folder:
                new.mkdir()
            else:
                os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        except FileExistsError:
            continue
        with held(new) as free:
            if free and new.exists():  # else another process took it for a dead one's before it was held
                yield new
                return


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or folder for the block, also under another name; False where another process does.

    Where that cannot be known, such as on a network file system, the answer is True; `dead` is then False.
    """
    with _locked(path) as is_ours:
        yield is_ours is not False


@contextmanager
def dead(path: Path) -> Iterator[bool]:
    """Hold a temporary file or folder for the block if the process that wrote it is gone; else False."""
    with _locked(path) as is_ours:
        yield is_ours is True


def leftovers(path: Path, *, folder: bool = False, ending: str = "") -> list[Path]:
    """Return what has a temporary name of this file or folder, whether it is still written or not."""
    prefix, suffix = _around(path, folder)
    form = re.compile(f"{re.escape(prefix)}[0-9a-f]{{8}}{re.escape(suffix + ending)}", re.DOTALL)
    kind = stat.S_ISDIR if folder else stat.S_ISREG
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(path.parent)):
            if form.fullmatch(name):
                with suppress(OSError):
                    if kind(os.lstat(path.parent / name).st_mode):
                        found.append(path.parent / name)
    return found


def remove_dead_files(path: Path) -> None:
    """Remove what killed processes left when they wrote the file `path`."""
    for file in leftovers(path):
        with dead(file) as gone, suppress(OSError):
            if gone:
                file.unlink()


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file for the block; it is removed if it was made here or left by a killed process.

    Raises:
        BlockingIOError: someone else holds it and `wait` is False.
        FileExistsError: the file is no lock.
    """
    if fcntl is None:
        with _lock_without_fcntl(path, wait):
            yield
        return
    handle, own = _acquire(path, wait)
    try:
        yield
    finally:
        if own:
            with suppress(OSError):  # while it is held: a waiter who then gets a file without a name tries again
                path.unlink()
        os.close(handle)


def is_lock(path: Path) -> bool:
    """Return whether a path is a lock file, held or not, or nothing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and _MARK.startswith(path.read_bytes())
    except FileNotFoundError:
        return True


def _acquire(path: Path, wait: bool) -> tuple[int, bool]:
    """Lock a file; return its descriptor, and whether the file is to be removed."""
    while True:
        try:
            handle, own = _created(path), True
        except FileExistsError:
            if not is_lock(path):
                raise
            try:
                handle, own = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK), False
            except FileNotFoundError:  # it has just been removed
                continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                return handle, own or os.pread(handle, len(_MARK) + 1, 0) == _MARK
        except FileNotFoundError:  # who held it has removed it
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _created(path: Path) -> int:
    """Create a lock file; return its descriptor.

    Where the system can, the file gets its name when it holds its mark, so that a kill leaves none that is not known.
    """
    if hasattr(os, "O_TMPFILE") and not os.path.lexists(path):
        with suppress(OSError):
            return _linked(path)
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    with suppress(OSError):  # a full disk keeps no lock from being one
        os.write(handle, _MARK)
    return handle


def _linked(path: Path) -> int:
    handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
    try:
        os.write(handle, _MARK)
        # link() does not follow the link in /proc; with a descriptor given, linkat() is called, which does.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def _lock_without_fcntl(path: Path, wait: bool) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if not is_lock(path):
        raise FileExistsError
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def _around(path: Path, folder: bool) -> tuple[str, str]:
    """Return what stands before and after the random part of a temporary name."""
    stem, suffix = (path.name, "") if folder else (path.stem, path.suffix)
    if len(os.fsencode(path.name)) > _LONGEST:
        stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        suffix = suffix if len(os.fsencode(suffix)) <= 16 else ""
    return f".{stem}.recsys-", suffix


def _open(path: Path) -> int | None:
    """Return a descriptor of a file or folder; None where there are no locks or it is neither, such as a link."""
    if fcntl is None or not (stat.S_ISREG(mode := os.lstat(path).st_mode) or stat.S_ISDIR(mode)):
        return None
    # Network file systems lock a file only for those who may write it.
    access = os.O_RDONLY if stat.S_ISDIR(mode) else os.O_RDWR
    return os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)


@contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """Lock a path for the block, and give what `_lock` says; None where it has no descriptor."""
    handle = None
    try:
        with suppress(OSError):
            handle = _open(path)
        yield None if handle is None else _lock(handle)
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock a descriptor: True if it is locked now, False if another process has it, None if that is not known."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
