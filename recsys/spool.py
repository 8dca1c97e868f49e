"""A queue on disk of events that a server has not received: one folder per run, one file per event."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError
from recsys.files import read_json, write_text

_HEADER = "run.json"
_EVENT = re.compile(r"[0-9]{8,}\.json")
_OWN = re.compile(r"run\.json|[0-9]{8,}\.(json|files)|\.(run|[0-9]{8,})\.recsys-[0-9a-f]{8}\.json")
"""All that a queue writes into its folder; nothing else in it is removed."""


@dataclass(frozen=True)
class Entry:
    """An event in the queue."""

    kind: str
    values: dict[str, Any]
    """JSON values."""
    attachment: Path | None
    """File or folder that belongs to it."""
    file: Path
    """The file that holds it."""


@dataclass(frozen=True)
class Spool:
    """The queue of one run: an iterable of its events, oldest first.

    Events are written whole or not at all, and stay until they are `done`. Reading what is damaged raises
    TrackingError.
    """

    folder: Path

    @property
    def header(self) -> Path:
        """The file of the facts about the run."""
        return self.folder / _HEADER

    @property
    def exists(self) -> bool:
        """Whether there is a queue, with events or without; its folder alone is what a killed process has left."""
        return self.header.exists()

    @property
    def lock(self) -> Path:
        """The lock file that a process must hold to write or send the queue (see `recsys.files.locked`)."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    def read_header(self) -> dict[str, Any]:
        """Return the facts about the run, JSON values."""
        return _read(self.header)

    def write_header(self, facts: dict[str, Any]) -> None:
        """Replace the facts about the run."""
        write_text(self.header, json.dumps(facts), durable=True)

    def add(self, kind: str, values: dict[str, Any], attachment: Path | None = None) -> None:
        """Append an event; its attachment, a file or folder, is moved into the queue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem) for path in self._files()), default=0) + 1
        file = self.folder / f"{number:08}.json"
        if attachment is not None:
            kept = _attachments(file)
            shutil.rmtree(kept, ignore_errors=True)  # left by an event that was not finished
            kept.mkdir()
            shutil.move(attachment, kept / attachment.name)
        stored = {"kind": kind, "values": values, "attachment": None if attachment is None else attachment.name}
        write_text(file, json.dumps(stored), durable=True)

    def __iter__(self) -> Iterator[Entry]:
        for file in self._files():
            stored = _read(file)
            kind, values, name = (stored.get(key) for key in ("kind", "values", "attachment"))
            if not isinstance(kind, str) or not isinstance(values, dict) or not isinstance(name, str | None):
                raise _unreadable(file, "it is no event")
            attachment = None if name is None else _attachments(file) / name
            if attachment is not None and not attachment.exists():
                raise _unreadable(file, f"{attachment} is missing")
            yield Entry(kind, values, attachment, file)

    def __len__(self) -> int:
        return len(self._files())

    def done(self, *entries: Entry) -> None:
        """Remove events that were sent, and the queue itself if none is left."""
        for entry in entries:
            entry.file.unlink()
            shutil.rmtree(_attachments(entry.file), ignore_errors=True)
        if not len(self):
            own = [path for path in self.folder.glob("*") if _OWN.fullmatch(path.name)]
            for path in sorted(own, key=self.header.__eq__):  # the header last: without it nobody would go on here
                if path.is_dir() and not path.is_symlink():  # of an event that was not finished
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # it is gone already, or somebody has put something there
                self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if _EVENT.fullmatch(path.name))


def spools(folder: Path) -> list[Spool]:
    """Return the queues in a folder, also those without events, ordered by the start of their runs.

    What has no header that can be read is none.
    """
    queues = []
    for path in folder.glob(f"*/{_HEADER}"):
        header = read_json(path)
        if header is not None:
            start = header.get("start_time", 0)
            queues.append((start if isinstance(start, int) else 0, path.parent.name, Spool(path.parent)))
    return [spool for _, _, spool in sorted(queues, key=lambda queue: queue[:2])]


def _attachments(file: Path) -> Path:
    return file.with_suffix(".files")


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(stored, dict):
        raise _unreadable(path, "it holds no JSON object")
    return stored


def _unreadable(path: Path, why: str) -> TrackingError:
    return TrackingError(f"{path} cannot be read ({why}); delete {path.parent} to give up its contents")
