"""What a process does to files and databases, as numbered steps; a snapshot, or an error, at each.

An audit hook sees every change that Python makes to a file before it is made; events of SQLAlchemy every statement that
writes and every commit. What is written in C (parquet, safetensors, SQLite's own files) is seen at the next step.
Errors are raised where the change would be made. File data that Python has not flushed is absent from a snapshot, as
after a kill.
"""

from __future__ import annotations

import errno
import os
import pickle
import random
import re
import resource
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from tests.crashes.boxes import FOLDER, Box, Tree, digest_of, is_temporary

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READS = re.compile(r"\s*(SELECT|PRAGMA|EXPLAIN|BEGIN|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
_PATHS = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1}
"""Audited functions that change the file system, with the number of their paths."""
_DIRECTORY = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.link": 2}
"""Place of the first `dir_fd` among the arguments."""
_DATABASES = (".db", "-journal", "-wal", "-shm")
FULL = "FULL"
FAULTS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, FULL: errno.EFBIG}
"""Errors: a step is refused, for want of space or of rights; or nothing can be written from it to the next."""
_SHRINKS = ("remove", "rmdir")
"""Steps at which no disk is ever full."""
_WRITTEN = "written by the transaction"


@dataclass(frozen=True)
class Step:
    """A change that is about to be made."""

    number: int
    text: str
    """Such as `rename root/mlruns/a -> root/mlruns/b`, ids replaced."""
    state: str = ""
    """Digest of what a kill at this moment leaves; empty where no snapshot was taken."""
    torn: tuple[tuple[str, str], ...] = ()
    """The same with a file half written or empty: which one and how, and the digest."""
    temporary: bool = False
    """Only temporary files are changed."""


@dataclass
class Record:
    """The steps of a job."""

    steps: list[Step] = field(default_factory=list)
    states: dict[str, Tree] = field(default_factory=dict)
    sampled: list[Step] = field(default_factory=list)
    """Those that were chosen at random."""
    outside: list[str] = field(default_factory=list)
    """Changes outside the box."""
    ours: dict[str, set[int]] = field(default_factory=dict)
    """Where the package makes a temporary folder or file, with the steps at which a kill leaves it."""

    def tree(self, digest: str) -> Tree:
        """Return the contents of a state."""
        return self.states[digest]


def plain(text: str) -> str:
    """Return a text with ids, and random parts of names, replaced."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"(\.(?:recsys-)?)[0-9a-f]{8}(?=[./ ]|$)", r"\1RANDOM", text)
    text = re.sub(r"(?<=\.artifact\.uploading\.)[a-z0-9_]{8}", "RANDOM", text)
    return re.sub(r"\btmp[a-z0-9_]{8}\b|(?<=tmp/)[a-z0-9_]{8}$", "TMP", text)


class Watch:
    """Sees the changes of this process, and calls `at` with each before it is made."""

    def __init__(self, box: Box, at: Callable[[str, bool, bool], None]) -> None:
        """`at` takes what is changed, whether it is a statement, and whether the change is of temporary files."""
        self.box, self.at = box, at
        self.outside: list[str] = []
        self.made: dict[str, str] = {}
        """Temporary files and folders that the package has made, with the line that did."""
        self._base = str(box.path) + "/"
        self._busy = threading.local()
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Watch from now on; a hook cannot be taken away, so this is for a process that ends."""
        from sqlalchemy import Engine, event

        sys.addaudithook(self._hook)
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", self._commit)
        event.listen(Engine, "rollback", self._rollback)

    def _hook(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name != "open" and name not in _PATHS and not name.startswith("tempfile."):
            return
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if name.startswith("tempfile."):
                self._made(os.fspath(arguments[0]))
                return
            paths = self._paths(name, arguments)
            if paths:
                self._change(name.removeprefix("os."), paths)
        finally:
            self._busy.now = False

    def _paths(self, name: str, arguments: tuple[Any, ...]) -> list[str]:
        if name == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not (flags or 0) & WRITES:
                return []
            return [os.path.abspath(os.fsdecode(path))]
        if isinstance(arguments[0], int):
            return []
        paths = [os.fsdecode(path) for path in arguments[: _PATHS[name]]]
        place = _DIRECTORY.get(name)
        if place is not None and len(arguments) > place and arguments[place] not in (-1, None):
            paths = [os.path.join(os.readlink(f"/proc/self/fd/{arguments[place]}"), path) for path in paths]
        return [os.path.abspath(path) for path in paths]

    def _change(self, what: str, paths: list[str]) -> None:
        inside = [path for path in paths if path.startswith(self._base)]
        if not inside:
            if not paths[0].startswith(("/dev/", "/proc/")) and not paths[0].endswith(".pyc"):
                self.outside.append(f"{what} {' -> '.join(paths)}")
            return
        names = [path.removeprefix(self._base) for path in paths]
        self._step(f"{what} {' -> '.join(names)}", False, all(map(is_temporary, names)))

    def _made(self, path: str) -> None:
        frame = sys._getframe(2)
        while (
            frame is not None
            and "/lib/python" in frame.f_code.co_filename
            and "site-packages" not in (frame.f_code.co_filename)
        ):
            frame = frame.f_back
        if (
            frame is not None
            and "/recsys/" in frame.f_code.co_filename
            and "site-packages" not in (frame.f_code.co_filename)
        ):
            place = frame.f_code.co_filename.rpartition("/recsys/")[2]
            self.made[path] = f"recsys/{place} {frame.f_code.co_name}"

    def _statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not _READS.match(statement):
            self._sql(" ".join(statement.split())[:90])
            connection.info[_WRITTEN] = True

    def _commit(self, connection: Any) -> None:
        if connection.info.get(_WRITTEN):
            self._sql("COMMIT")
        connection.info.pop(_WRITTEN, None)

    def _rollback(self, connection: Any) -> None:
        connection.info.pop(_WRITTEN, None)

    def _sql(self, text: str) -> None:
        self._busy.now = True
        try:
            self._step(f"sql {text}", True, False)
        finally:
            self._busy.now = False

    def _step(self, text: str, sql: bool, temporary: bool) -> None:
        with self._lock:
            self.at(plain(text), sql, temporary)


@dataclass(frozen=True)
class Reservoir:
    """Chooses some of a stream of unknown length, each with the same chance."""

    size: int
    seed: str

    def slot(self, index: int) -> int | None:
        """Return the place that the element of this index takes from one before it; None if it takes none."""
        place = index if index < self.size else random.Random(f"{self.seed} {index}").randrange(index + 1)
        return place if place < self.size else None


class Recording:
    """Takes a snapshot at the steps of this process."""

    def __init__(
        self, box: Box, file: str, only: Collection[int] | None = None, sample: Reservoir | None = None
    ) -> None:
        """`file` gets the record when the job has ended; by default every step gets a snapshot.

        Args:
            only: these steps get one.
            sample: some of the steps that change other than temporary files, and that copy no source files, get one.
        """
        self.box, self.file = box, file
        self.only, self.sample = only, sample
        self.record = Record()
        self.watch = Watch(box, self._at)
        self._before: Tree = {}
        self._slots: dict[int, Step] = {}
        self._telling = 0

    def __call__(self) -> Callable[[], None]:
        """Begin; return what ends it."""
        self._before = self.box.capture(temporary=False)
        self.watch.begin()
        return self._end

    def _at(self, text: str, sql: bool, temporary: bool) -> None:
        step = Step(len(self.record.steps) + 1, text, temporary=temporary)
        now, next_one = self._wanted(step)
        if now:
            tree = self.box.capture(temporary=False)
            step = replace(step, state=self._keep(tree), torn=self._torn(tree))
            self._before = tree
        elif next_one:
            self._before = self.box.capture(temporary=False)
        self.record.steps.append(step)
        if now and self.sample is not None:
            self._slots[self.sample.slot(self._telling - 1) or 0] = step
        for path, place in self.watch.made.items():
            if os.path.lexists(path):
                self.record.ours.setdefault(place, set()).add(step.number)

    def _wanted(self, step: Step) -> tuple[bool, bool]:
        """Return whether this step gets a snapshot, and whether the next one may, which is compared with this."""
        if self.sample is not None:
            telling = not step.temporary and "/code" not in step.text
            chosen = telling and self.sample.slot(self._telling) is not None
            self._telling += telling
            return chosen, self.sample.slot(self._telling) is not None
        return self.only is None or step.number in self.only, self.only is not None and step.number + 1 in self.only

    def _keep(self, tree: Tree) -> str:
        digest = digest_of(tree)
        self.record.states.setdefault(digest, tree)
        return digest

    def _torn(self, tree: Tree) -> tuple[tuple[str, str], ...]:
        """Return the states in which the file that was written since the last step is half there, or empty."""
        before, torn = self._before, []
        known = set(before.values())
        last = self.record.steps[-1].text if self.record.steps else ""
        for name, what in tree.items():
            if what == FOLDER or what.startswith("-> ") or before.get(name) == what or what in known:
                continue
            if last.startswith("link ") and last.endswith(f" -> {plain(name)}"):
                continue  # it got its name when it was whole
            if name.endswith(_DATABASES):
                continue
            content = self.box.content(what)
            old = self.box.content(before[name]) if before.get(name, FOLDER) != FOLDER else b""
            kept = len(old) if old and content.startswith(old) else 0
            for how, length in (("cut to half", kept + (len(content) - kept) // 2), ("empty", 0)):
                if kept < length < len(content) or (length == 0 and not kept and content):
                    part = self._keep({**tree, name: self.box.keep(content[:length])})
                    torn.append((f"{plain(name)} {how}", part))
        return tuple(torn)

    def _end(self) -> None:
        self.watch._busy.now = True
        self._at("end", False, False)
        self.record.outside = self.watch.outside
        self.record.sampled = [self._slots[slot] for slot in sorted(self._slots)]
        with open(self.file, "wb") as file:
            pickle.dump(self.record, file)


class Fault:
    """Raises an error once, at one step of this process."""

    def __init__(self, box: Box, number: int, name: str, file: str) -> None:
        """`name` is one of `FAULTS`; `file` gets a line that says where it was."""
        self.box, self.number, self.name, self.file = box, number, name, file
        self.count = 0

    def __call__(self) -> None:
        """Begin."""
        Watch(self.box, self._at).begin()

    def _at(self, text: str, sql: bool, temporary: bool) -> None:
        self.count += 1
        if self.name == FULL and self.count == self.number + 1:
            _limit(None)
        if self.count != self.number:
            return
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)
        if self.name == FULL:
            _limit(0)
        else:
            raise error_for(FAULTS[self.name], text, sql)


def _limit(size: int | None) -> None:
    """Let no file be written beyond a size, or lift that limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def error_for(code: int, text: str, sql: bool) -> Exception:
    """Return what a full disk, or a missing right, makes of a step."""
    if sql:
        from sqlalchemy.exc import OperationalError

        full = "database or disk is full"
        reason = full if code == errno.ENOSPC else "attempt to write a readonly database"
        return OperationalError(text.removeprefix("sql "), None, sqlite3.OperationalError(reason))
    return OSError(code, os.strerror(code), text.partition(" ")[2].partition(" -> ")[0])


def can_fail(step: Step, name: str) -> bool:
    """Return whether a step can meet this fault."""
    kind = step.text.partition(" ")[0]
    if step.text == "end" or (name == FULL and kind not in ("open", "sql")):
        return False
    # Who may create a temporary file may remove it.
    return not (kind in _SHRINKS and (name != "EACCES" or step.temporary))


class Down:
    """Makes the store of this process unavailable from the first statement on that holds a text, for good."""

    def __init__(self, text: str) -> None:
        self.text, self.down = text, False

    def __call__(self) -> None:
        """Begin."""
        from sqlalchemy import Engine, event

        event.listen(Engine, "before_cursor_execute", self._statement)

    def _statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.down = self.down or self.text in statement
        if self.down:
            raise error_for(errno.ENOSPC, statement[:40], True)
