"""Files: written whole or not at all, digests, and locks between processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

MANIFEST: Final = "_manifest.json"
"""File in a folder of recommendations that is complete; readers of parquet folders skip names with an underscore."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a file beside `path` to write, which takes its place at the end of the block; an exception leaves `path`.

    Args:
        path: the file; its folder is created.
        durable: on disk before the block ends, also if the machine stops then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield beside
        if durable:
            _sync(beside)
        os.replace(beside, path)
        if durable:
            _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file, whole or not at all; its folder is created."""
    with replacing(path, durable=durable) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill, which takes its place at the end of the block, as `replace_folder` does.

    An exception leaves what was at `path`.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    beside.mkdir(parents=True)
    try:
        yield beside
        replace_folder(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` at `target`; what was there is set aside first and deleted last."""
    if not target.exists():
        new.rename(target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if wait and busy is None else 0)
    try:
        lock.acquire()
    except Timeout:
        raise busy or BlockingIOError(f"{path} is held by another process") from None
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: a waiter who then gets a file without a name tries again
            path.unlink()
        lock.release()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
