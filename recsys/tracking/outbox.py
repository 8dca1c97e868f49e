"""The way from a run to its store, which may be slow or away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError, TrackingUnavailable
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Part
from recsys.spool import Event, Spool
from recsys.tracking import events, logged_model, runs, store
from recsys.tracking.asking import FILE_TIMEOUT, TIMEOUT, bounded, quiet, refusals
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import Header
from recsys.tracking.sender import Sender
from recsys.workspace import Workspace

SHARE = 0.02
"""Part of a training's time that may go into telling of its epochs, and into asking a store that was away."""
_LAST_SECONDS = 30.0  # what a run may take at its end to send what waits


class Outbox:
    """Tells a store of a run's events in order. What it cannot be told now waits on disk, and all that follows.

    A later event takes along what waits, if the store is to be asked again by then; so does the end of the run. What
    it refuses is a TrackingError if it was asked at once, and waits for `sync` if it was asked later.
    """

    def __init__(self, header: Header, workspace: Workspace, parent: Outbox | None) -> None:
        self.header = header
        self.registered: dict[str, RegisteredModel] = {}
        """What the run has registered, by name."""
        self._workspace, self._parent = workspace, parent
        self._spool = Spool(store.pending(workspace) / header.key)
        self._sender = None if header.run_id is None else Sender(header.run_id)
        self._waits = False
        self._ask_from = 0.0
        self._refused: set[str] = set()
        self._held = ExitStack()

    @property
    def known(self) -> bool:
        """Whether the store knows of the run."""
        return self._sender is not None

    @property
    def waiting(self) -> Path | None:
        """The folder of what the store has not been told yet; None where it knows everything."""
        return self._spool.folder if self._spool.folder.exists() else None

    def tell(self, event: Event) -> None:
        """Send an event, or keep it until the store answers.

        Raises:
            TrackingError: the store refuses it.
        """
        if not self._told(lambda: self._send(event, again=False)):
            self.keep(event)
            self.catch_up()

    def tell_model(
        self, model: Recommender, examples: Interactions | Part, metrics: Mapping[str, float], about: Mapping[str, Any]
    ) -> None:
        """Log a model, or keep it until the store answers.

        Raises:
            TrackingError: MLflow refuses it.
        """

        def log() -> None:
            with quiet(), bounded(FILE_TIMEOUT), refusals("cannot log the model", within=True):
                logged_model.log(model, str(self.header.run_id), examples, metrics, about)

        if self._waits:
            self.catch_up()
        if not self._told(log):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, logged_model.MODEL)
                logged_model.put_aside(model, path, examples, metrics, about)
                self.keep(events.model(path))

    def tell_end(self, event: Event, *, active: bool) -> None:
        """Send the end of the run, or keep it; `active` if it is MLflow's active run."""
        status = event.values["status"]
        if active and self._told(lambda: runs.end(str(self.header.run_id), status)):
            return
        self.keep(event)
        self.catch_up(last=True)
        if active:
            runs.forget(str(self.header.run_id), status)

    def wait(self) -> None:
        """Begin a queue on disk, or go on with the one that is there: from now on events wait."""
        if not self._waits:
            self._waits = True
            self._held.enter_context(locked(self._spool.lock))
            self._spool.write_header(asdict(self.header))

    def keep(self, event: Event) -> None:
        """Put an event on disk."""
        self.wait()
        self._spool.add(event.kind, event.values, event.attachment)

    def catch_up(self, *, last: bool = False) -> None:
        """Send what waits, if the store may be asked again; `last`, at the end of the run, asks in any case."""
        began = time.monotonic()
        if not last and began < self._ask_from:
            return
        budget = _LAST_SECONDS if last else TIMEOUT
        try:
            self._enter_run()
            for event, parts in events.batches(self._spool):
                if event.id in self._refused:
                    continue
                if time.monotonic() - began > budget:
                    return
                try:
                    self._send(event, again=True)
                except TrackingUnavailable:
                    raise
                except TrackingError:
                    self._refused.add(event.id)
                else:
                    self._spool.done(*parts)
            if not len(self._spool):
                self._spool.remove()
                self._waits = False
                self._held.close()
        except TrackingError:  # also where the run itself is refused: `sync` says so
            pass
        finally:
            self.ask_later(time.monotonic() - began)

    def ask_later(self, took: float) -> None:
        """Leave the store alone for as long as an answer, or none, that `took` seconds deserves."""
        self._ask_from = time.monotonic() + max(1.0, took / SHARE)

    def close(self) -> None:
        """Let go of the queue, so that `sync` may send it."""
        self._held.close()

    def _told(self, tell: Callable[[], None]) -> bool:
        """Try to tell the store now; False where something waits already, or it does not answer."""
        if self._waits:
            return False
        began = time.monotonic()
        try:
            tell()
        except TrackingUnavailable:
            self.ask_later(time.monotonic() - began)
            return False
        return True

    def _send(self, event: Event, *, again: bool) -> None:
        assert self._sender is not None  # what has no run yet waits
        registered = self._sender.send(event, again=again)
        if registered is not None:
            self.registered[registered.name] = registered

    def _enter_run(self) -> None:
        """Make the run known to the store, if it is not, and its parents before it."""
        if self._sender is not None:
            return
        if self._parent is not None:
            self._parent._enter_run()
        self.header.run_id = runs.create(self.header, self._workspace)
        self._sender = Sender(self.header.run_id)
        if self._waits:
            self._spool.write_header(asdict(self.header))
