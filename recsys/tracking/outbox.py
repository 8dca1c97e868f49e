"""Delivery of a run's events to a store that may be slow or unavailable."""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.errors import RecsysError, TrackingError, TrackingUnavailable
from recsys.files import locked, working_folder
from recsys.spool import Spool
from recsys.tracking import recovery, runs, store
from recsys.tracking.events import End, Event, Metrics, Model, Sender, batches
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import RunRecord, milliseconds
from recsys.workspace import Workspace

SHARE = 0.02
"""Largest share of a training's time that reporting epochs, or retrying an unavailable store, may take."""
_LAST_SECONDS = 30.0  # how long the end of a run tries to send waiting events
_MEMORY_SECONDS = 5.0  # metrics that are held back longer go to disk


class Outbox:
    """Sends events in order while the store answers; from the first failure on they wait in a spool (a queue on disk).

    Each later event, and the end of the run, tries to send the waiting ones. An event that the store refuses raises
    TrackingError if it was sent at once; one that has waited stays in the spool, where `sync` reports it.
    """

    def __init__(
        self, record: RunRecord, workspace: Workspace, parent: Outbox | None = None, *, active: bool = False
    ) -> None:
        self.record = record
        self.active = active
        """Whether the run is MLflow's active one, because the store answered at its start."""
        self.resumed = False
        """The run was begun by an earlier process, and what it has is not sent again."""
        self.sign_of_life: Path | None = None
        """File that is touched with each report, so that its time tells when a killed run was last alive."""
        self.registered: dict[str, RegisteredModel] = {}
        """The versions that the run has registered, by name."""
        self.lock = ExitStack()
        """Holds the lock of the spool while events wait; once it is released, `sync` may send them."""
        self._workspace, self._parent = workspace, parent
        self._spool = Spool(store.pending(workspace) / record.key)
        self._sender = None if record.run_id is None else Sender(record.run_id)
        self._spooling = False
        self._metrics: list[Metrics] = []
        self._metrics_due = 0.0
        self._retry_due = 0.0
        self._refused: set[Path] = set()

    @property
    def run_id(self) -> str:
        """Id of the run; `local-...` until the store has created it."""
        return self.record.run_id or f"local-{self.record.key}"

    @property
    def waiting(self) -> Path | None:
        """The spool's folder; None if the store has everything."""
        return self._spool.folder if self._spool.exists else None

    def scratch(self) -> AbstractContextManager[Path]:
        """Give a folder for files that are to be sent; what killed processes left of theirs is removed."""
        return working_folder(recovery.scratch(self._workspace))

    def spooled_model(self) -> Path | None:
        """Return the bundle of the run's model while that waits to be sent; None if it does not."""
        from recsys.tracking.logged_model import waiting_bundle  # as in `events`

        folders = [entry.attachment for entry in self._spool if entry.kind == Model.kind and entry.attachment]
        return waiting_bundle(folders[-1]) if folders else None

    def take(self, event: Event) -> None:
        """Send an event after the metrics held back before it; spool both while the store does not answer."""
        self._touch()
        self._send_metrics()
        self._send_or_spool(event)

    def take_later(self, event: Metrics) -> None:
        """Send metrics now or together with later ones, so that sending takes at most SHARE of the time."""
        self._touch()
        self._metrics.append(event)
        wait = self._metrics_due - time.monotonic()
        if wait <= 0:
            self._send_metrics()
        elif wait > _MEMORY_SECONDS:
            self._add_to_spool(self._joined_metrics())

    def end(self, status: str) -> None:
        """Send or spool the end of the run."""
        self.take(End(status=status, time=milliseconds()))
        if self._spooling:
            self.send_waiting(_LAST_SECONDS)
        runs.deactivate(self.run_id, status)

    def start_spooling(self) -> None:
        """Create the spool, or continue an existing one: events wait from now on."""
        if not self._spooling:
            self._spooling = True
            self.lock.enter_context(locked(self._spool.lock))
            self._spool.write_header(asdict(self.record))

    def send_waiting(self, seconds: float | None = None) -> str:
        """Send waiting events; return why some still wait, empty without an error.

        It stops after about `seconds`. By default that is TIMEOUT, and nothing is sent before the next retry is due.
        """
        began, reason = time.monotonic(), ""
        if seconds is None and began < self._retry_due:
            return reason
        try:
            self._create_run()
            for event, entries in batches(self._spool):
                if entries[0].file in self._refused:
                    continue
                if time.monotonic() - began > (store.TIMEOUT if seconds is None else seconds):
                    break
                try:
                    self._send(event, retry=True)
                except TrackingUnavailable:
                    raise
                except RecsysError as error:
                    self._refused.add(entries[0].file)
                    reason = f"{error}; delete {self._spool.folder} to discard it"
                else:
                    self._spool.done(*entries)
            if not len(self._spool):
                self._spool.done()
                self._spooling = False
                self.lock.close()
        except TrackingError as error:  # also if the store refuses to create the run
            reason = str(error)
        finally:
            self.back_off(time.monotonic() - began)
        return reason

    def back_off(self, took: float) -> None:
        """Allow the next retry took / SHARE seconds from now, at least 1; `took` is the last attempt's duration."""
        self._retry_due = time.monotonic() + max(1.0, took / SHARE)

    def _touch(self) -> None:
        if self.sign_of_life is not None:
            with suppress(OSError):
                os.utime(self.sign_of_life)

    def _send_or_spool(self, event: Event) -> None:
        if not self._spooling:
            began = time.monotonic()
            try:
                self._send(event, retry=False)
                return
            except TrackingUnavailable:
                self.back_off(time.monotonic() - began)
        self._add_to_spool(event)
        self.send_waiting()

    def _add_to_spool(self, event: Event) -> None:
        try:
            self.start_spooling()
            self._spool.add(event.kind, event.to_json(), event.attachment)
        except OSError as error:
            raise store.unwritable(self._workspace, error) from error

    def _send_metrics(self) -> None:
        if self._metrics:
            began = time.monotonic()
            self._send_or_spool(self._joined_metrics())
            now = time.monotonic()
            self._metrics_due = now + (now - began) / SHARE

    def _joined_metrics(self) -> Metrics:
        parts, self._metrics = self._metrics, []
        return Metrics.join(parts)

    def _send(self, event: Event, *, retry: bool) -> None:
        assert self._sender is not None  # events wait until the run is created
        registered = self._sender.send(event, retry=retry)
        if registered is not None:
            self.registered[registered.name] = registered

    def _create_run(self) -> None:
        """Create the run in the store if necessary, after its parents."""
        if self._sender is not None:
            return
        if self._parent is not None:
            self._parent._create_run()
        self.record.run_id = runs.create(self.record, self._workspace)
        self._sender = Sender(self.record.run_id)
        self._spool.write_header(asdict(self.record))


@dataclass(frozen=True)
class Synced:
    """What `sync` did for one run."""

    name: str
    """The run's name, or the beginning of its key."""
    run_id: str | None
    """None until the store has created the run."""
    sent: int
    """Events sent now."""
    waiting: int
    """Events still in the spool."""
    reason: str = ""
    """Why they wait."""
    registered: tuple[RegisteredModel, ...] = ()


def sync(workspace: Workspace) -> list[Synced]:
    """Send the spools in `mlruns/pending`, in the order in which their runs started.

    A run that cannot be sent does not stop the others.

    Raises:
        TrackingError: the store cannot be opened.
    """
    if not store.pending(workspace).is_dir():
        return []
    busy = TrackingError("another sync is at work; wait for it to end")
    with locked(workspace.mlruns / "locks" / "sync.lock", busy=busy):
        waiting = recovery.queues(workspace)
        if waiting:
            with store.bounded(check=False):
                recovery.configure(workspace)
        results = [_sync(spool, workspace) for spool in waiting]
        recovery.remove_leftovers(workspace)
    return results


def _sync(spool: Spool, workspace: Workspace) -> Synced:
    record, place = RunRecord(**spool.read_header()), store.place(workspace)
    try:
        with locked(spool.lock, wait=False):
            if not spool.exists:  # its run has sent everything in the meantime
                return Synced(record.name, record.run_id, 0, 0)
            outbox, events = Outbox(RunRecord(**spool.read_header()), workspace), len(spool)
            if store.is_place(outbox.record.place, place):
                reason = _sent_or_why(outbox, spool)
            else:
                reason = f"the run belongs to the store {outbox.record.place}, not to {place}; set {store.URI}"
            left, versions = len(spool), tuple(outbox.registered.values())
            return Synced(record.name, outbox.record.run_id, events - left, left, reason, versions)
    except BlockingIOError:
        return Synced(record.name, record.run_id, 0, len(spool), "its run is still in progress")


def _sent_or_why(outbox: Outbox, spool: Spool) -> str:
    """Send a queue, and return why some of it waits; what was not written by this package stops no other queue."""
    try:
        return outbox.send_waiting(math.inf)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        why = f"an event is damaged ({type(error).__name__}: {error})"
        return f"{why}; delete {spool.folder} to give up its contents"
