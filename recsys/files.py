"""Files: written whole or not at all, digests, and locks between processes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from recsys.claims import claimed, lock, remove_dead_files
from recsys.outputs import Kind, recover, replace

MANIFEST: Final = "_manifest.json"
"""File that lists what was written into its folder: recommendations that are complete, or a comparison. Readers of
parquet folders skip names with an underscore."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a file beside `path` to write, which takes its place at the end of the block; an exception leaves `path`.

    What a killed process left when it wrote the same file is removed.

    Args:
        path: the file; its folder is created.
        durable: on disk before the block ends, also if the machine stops then.

    Raises:
        OSError: it cannot be written, or `path` is a folder, a device, a pipe or a socket, which stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_files(path)
    with claimed(path) as beside:
        try:
            yield beside
            if durable:
                sync(beside)
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISLNK(mode):
                    raise FileExistsError(errno.EEXIST, "is not a regular file, so it is not replaced", str(path))
            os.replace(beside, path)
            if durable:
                sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file, whole or not at all; its folder is created."""
    with replacing(path, durable=durable) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def working_folder(path: Path, kind: Kind | None = None) -> Iterator[Path]:
    """Give a new folder beside the folder `path`, which is removed at the end of the block unless it was renamed.

    What a killed process left when it wrote the same folder is removed, and what it had set aside is put back; of a
    `kind`, only files that are known to be of it are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path, kind)
    with claimed(path, folder=True) as beside:
        try:
            yield beside
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path, *, durable: bool = False, kind: Kind | None = None) -> Iterator[Path]:
    """Give a new folder beside `path` to fill, which takes its place at the end of the block, as `replace_folder` does.

    An exception leaves what was at `path`.

    Args:
        path: the folder; that in which it lies is created.
        durable: on disk before the block ends, also if the machine stops then.
        kind: what may be at `path`; anything else is refused before the block, and again before it is replaced.
    """
    with working_folder(path, kind) as beside:
        if kind is not None:
            kind.check(path)
        yield beside
        if durable:
            sync_folder(beside)
        replace_folder(beside, path, kind)
        if durable:
            sync(path.parent)


def replace_folder(new: Path, target: Path, kind: Kind | None = None) -> None:
    """Put the folder `new` at `target`; what was there is set aside first and deleted last.

    Args:
        kind: what may be at `target`; only the files that its manifest lists are deleted. By default everything is.

    Raises:
        Exception: the kind's, where `target` is not of this kind; it is left as it was.
        OSError: `new` cannot be put there, or the old folder holds what turned up meanwhile; the message says where.
    """
    replace(new, target, kind)


def sync_folder(folder: Path) -> None:
    """Wait until the files of a folder are on disk, those in its own folders not included."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            sync(path)
    sync(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a file holds; None where there is no such file, or it holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked(path: Path, *, wait: bool = True, busy: Exception | None = None) -> Iterator[None]:
    """Hold the lock file `path` for the block and remove it afterwards; the system frees what a killed process held.

    Args:
        path: the lock file; its folder is created.
        wait: wait for another holder, of this or another process.
        busy: raised instead of waiting.

    Raises:
        BlockingIOError: someone else holds it, `wait` is False and `busy` is not given.
        Exception: `path` is no lock but somebody's; of the type of `busy`, by default a FileExistsError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait=wait and busy is None))
        except BlockingIOError:
            raise busy or BlockingIOError(f"{path} is held by another process") from None
        except FileExistsError:
            problem = f"{path} is needed as a lock and is something else; move it elsewhere"
            raise (FileExistsError if busy is None else type(busy))(problem) from None
        yield


def remove_lock(path: Path) -> None:
    """Remove the lock file that a killed process has left, written or not; one that is held stays, as what is none."""
    if path.exists():
        with suppress(OSError), locked(path, wait=False):
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk; some systems cannot say that of a folder."""
    with suppress(*([OSError] if path.is_dir() else [])):
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
