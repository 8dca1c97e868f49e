"""A queue on disk of what a server has not taken yet: one folder per run, one file per event."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError
from recsys.files import write_text

_HEADER = "run.json"


@dataclass(frozen=True)
class Event:
    """Something that a run has to say."""

    kind: str
    values: dict[str, Any]
    """JSON values."""
    attachment: Path | None = None
    """File or folder that belongs to it."""
    id: str = ""
    """Place in the queue, `<run>-<number>`; empty while it is in no queue."""


class Spool:
    """The queue of one run. An event that is in it is in it whole, and stays until it is `done`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def lock(self) -> Path:
        """The file that whoever writes or sends the queue holds (see `recsys.files`)."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    def read_header(self) -> dict[str, Any]:
        """Return the facts about the run.

        Raises:
            TrackingError: they cannot be read.
        """
        return _read(self.folder / _HEADER)

    def write_header(self, facts: dict[str, Any]) -> None:
        """Store facts about the run, JSON values, in place of those before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / _HEADER, json.dumps(facts), durable=True)

    def add(self, kind: str, values: dict[str, Any], attachment: Path | None = None) -> Event:
        """Append an event; its attachment, a file or folder, is moved into the queue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem) for path in self._files()), default=0) + 1
        kept = None
        if attachment is not None:
            kept = self._attachments(number) / attachment.name
            shutil.rmtree(kept.parent, ignore_errors=True)  # of an event that was never finished
            kept.parent.mkdir()
            shutil.move(attachment, kept)
        held = {"kind": kind, "values": values, "attachment": None if kept is None else kept.name}
        write_text(self.folder / f"{number:08}.json", json.dumps(held), durable=True)
        return self._event(number, kind, values, kept)

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events, oldest first.

        Raises:
            TrackingError: an event cannot be read.
        """
        for path in self._files():
            held, number = _read(path), int(path.stem)
            name = held["attachment"]
            yield self._event(
                number, held["kind"], held["values"], None if name is None else self._attachments(number) / name
            )

    def __len__(self) -> int:
        return len(self._files())

    def done(self, *events: Event) -> None:
        """Remove events that have been sent, and the queue with the last."""
        for event in events:
            number = int(event.id.rpartition("-")[2])
            (self.folder / f"{number:08}.json").unlink()
            shutil.rmtree(self._attachments(number), ignore_errors=True)
        if not len(self):
            self.remove()

    def remove(self) -> None:
        """Delete the queue."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))

    def _attachments(self, number: int) -> Path:
        return self.folder / f"{number:08}.files"

    def _event(self, number: int, kind: str, values: dict[str, Any], attachment: Path | None) -> Event:
        return Event(kind, values, attachment, f"{self.folder.name}-{number}")


def spools(folder: Path) -> list[Spool]:
    """Return the queues below a folder, that of the run that began first first; those without events too."""
    found = [Spool(path.parent) for path in folder.glob(f"*/{_HEADER}")]
    return sorted(found, key=lambda spool: (spool.read_header().get("start_time", 0), spool.folder.name))


def _read(path: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrackingError(f"{path} cannot be read ({error}); delete {path.parent} to give up what it holds") from None
    return held
