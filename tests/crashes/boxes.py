"""The folder in which jobs run, its contents as a value, and such values put back."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = ("root", "out", "work", "tmp")
"""Of a box: the job's root, its outputs, the working directory and the folder of temporary files."""
TEMPORARY = "tmp"
FOLDER = "/"
"""Stands for a folder in a tree."""

Tree = dict[str, str]
"""What each path below a box is: the digest of a file, FOLDER, or `-> target` of a link."""


@dataclass
class Box:
    """A sandbox at a place that never changes, so that stores, which hold absolute paths, can be put back."""

    base: Path
    _seen: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """Digest of each file when it was last read, with its size and times then."""

    @property
    def path(self) -> Path:
        """The sandbox itself."""
        return self.base / "box"

    @property
    def blobs(self) -> Path:
        """Contents of files, by digest."""
        return self.base / "blobs"

    def capture(self, *, temporary: bool = True) -> Tree:
        """Return what is in the box now, as a kill would leave it; contents are kept in `blobs`."""
        tree: Tree = {}
        for name in FOLDERS:
            if temporary or name != TEMPORARY:
                self._scan(str(self.path / name), name + "/", tree)
        return tree

    def _scan(self, folder: str, prefix: str, tree: Tree) -> None:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = prefix + entry.name
                try:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        tree[name] = FOLDER
                        self._scan(entry.path, name + "/", tree)
                    elif stat.S_ISLNK(found.st_mode):
                        tree[name] = f"-> {os.readlink(entry.path)}"
                    else:
                        tree[name] = self._digest(entry.path, found)
                except FileNotFoundError:  # another thread has removed it
                    tree.pop(name, None)

    def _digest(self, path: str, found: os.stat_result) -> str:
        facts = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        known = self._seen.get(path)
        # The clock of a file system ticks every few milliseconds: what was changed just now may change again unseen.
        if known is not None and known[0] == facts and time.time_ns() - found.st_mtime_ns > 15_000_000:
            return known[1]
        with open(path, "rb") as file:
            digest = self.keep(file.read())
        self._seen[path] = facts, digest
        return digest

    def keep(self, content: bytes) -> str:
        """Keep a content and return its digest."""
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        blob = self.blobs / digest
        if not blob.exists():
            blob.write_bytes(content)
        return digest

    def content(self, digest: str) -> bytes:
        """Return a content that was kept."""
        return (self.blobs / digest).read_bytes()

    def put_back(self, tree: Tree) -> None:
        """Make the box what it was; the folder of temporary files is empty, as after a restart of the machine."""
        shutil.rmtree(self.path, ignore_errors=True)
        for name in FOLDERS:
            (self.path / name).mkdir(parents=True)
        for name, what in tree.items():
            place = self.path / name
            if is_temporary(name):
                continue
            if what == FOLDER:
                place.mkdir(exist_ok=True)
            elif what.startswith("-> "):
                place.symlink_to(what[3:])
            else:
                shutil.copyfile(self.blobs / what, place)


def is_temporary(name: str) -> bool:
    """Return whether a path below a box is in the folder of temporary files."""
    return name.partition("/")[0] == TEMPORARY


def digest_of(tree: Tree) -> str:
    """Return a digest of all but the temporary files."""
    lines = [f"{name}\0{what}" for name, what in sorted(tree.items()) if not is_temporary(name)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


@contextmanager
def new_box(*, keep: bool = False) -> Iterator[Box]:
    """Give an empty box, in memory where the system has a folder for that, and remove it afterwards."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    base = Path(tempfile.mkdtemp(prefix="recsys-crashes-", dir=memory if usable else None))
    box = Box(base)
    box.blobs.mkdir()
    box.put_back({})
    # So that the box is removed then too.
    usual = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield box
    finally:
        signal.signal(signal.SIGTERM, usual)
        if keep:
            print(f"kept  {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
