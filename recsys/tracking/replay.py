"""Send what a store did not receive while its runs went on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from recsys.errors import RecsysError, TrackingError, TrackingUnavailable
from recsys.files import locked
from recsys.spool import Spool, spools
from recsys.tracking import runs, store
from recsys.tracking._mlflow import mlflow
from recsys.tracking.events import Sender, batches
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.requests import bounded, without_password
from recsys.tracking.runs import RunRecord
from recsys.workspace import Workspace


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
    """Events that still wait."""
    reason: str = ""
    """Why they wait."""
    registered: tuple[RegisteredModel, ...] = ()


def sync(workspace: Workspace) -> list[Synced]:
    """Send the spools in `mlruns/pending`, in the order in which their runs started.

    A run that cannot be sent does not stop the others.

    Raises:
        TrackingError: the store cannot be opened.
    """
    waiting = spools(store.pending(workspace))
    if not waiting:
        return []
    with bounded():
        store.configure(workspace)
    place = without_password(mlflow.get_tracking_uri())
    return [_sync(spool, place, workspace) for spool in waiting]


def _sync(spool: Spool, place: str, workspace: Workspace) -> Synced:
    record = RunRecord(**spool.read_header())
    try:
        with locked(spool.lock, wait=False):
            if not spool.folder.exists():  # the run itself has sent it meanwhile
                return Synced(record.name, record.run_id, 0, 0)
            record = RunRecord(**spool.read_header())
            if record.place != place:
                reason = f"the run belongs to the store {record.place}, not to {place}; set {store.URI}"
                return Synced(record.name, record.run_id, 0, len(spool), reason)
            return _replay(spool, record, workspace)
    except BlockingIOError:
        return Synced(record.name, record.run_id, 0, len(spool), "its run is still going on")


def _replay(spool: Spool, record: RunRecord, workspace: Workspace) -> Synced:
    sent, reason, registered = 0, "", []
    try:
        if record.run_id is None:
            record.run_id = runs.create(record, workspace)
            spool.write_header(asdict(record))
        sender = Sender(record.run_id)
        for event, entries in batches(spool):
            try:
                version = sender.send(event, retry=True)
            except TrackingUnavailable:
                raise
            except RecsysError as error:
                reason = f"{error}; delete {spool.folder} to give it up"
                continue
            sent += len(entries)
            registered += [] if version is None else [version]
            spool.done(*entries)
        if not len(spool):
            spool.remove()
    except TrackingError as error:
        reason = str(error)
    return Synced(record.name, record.run_id, sent, len(spool), reason, tuple(registered))
