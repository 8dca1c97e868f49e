"""What a store was not told while its runs went on, told later."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from recsys.errors import TrackingError, TrackingUnavailable
from recsys.files import locked
from recsys.spool import Spool, spools
from recsys.tracking import events, runs, store
from recsys.tracking._mlflow import mlflow
from recsys.tracking.asking import bounded, without_password
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import Header
from recsys.tracking.sender import Sender
from recsys.workspace import Workspace


@dataclass(frozen=True)
class Synced:
    """What `sync` did for one run."""

    name: str
    """The run's name, or what stands for it."""
    run_id: str | None
    """None while the store does not know of the run."""
    sent: int
    """Events sent now."""
    waiting: int
    """Events that wait still."""
    reason: str = ""
    """Why they wait."""
    registered: tuple[RegisteredModel, ...] = ()


def sync(workspace: Workspace) -> list[Synced]:
    """Send what the store has not been told yet, run by run in the order of their starts.

    A run that cannot be sent does not keep the next one from it, unless the store does not answer.

    Args:
        workspace: whose `mlruns/pending` holds the runs.

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
    header = Header(**spool.read_header())
    try:
        with locked(spool.lock, wait=False):
            if not spool.folder.exists():  # its run has sent it meanwhile
                return Synced(header.name, header.run_id, 0, 0)
            header = Header(**spool.read_header())
            if header.place != place:
                reason = f"it is of the store {header.place}, and this is {place}; set {store.URI}"
                return Synced(header.name, header.run_id, 0, len(spool), reason)
            return _replay(spool, header, workspace)
    except BlockingIOError:
        return Synced(header.name, header.run_id, 0, len(spool), "its run is still going on")


def _replay(spool: Spool, header: Header, workspace: Workspace) -> Synced:
    sent, reason, registered = 0, "", []
    try:
        if header.run_id is None:
            header.run_id = runs.create(header, workspace)
            spool.write_header(asdict(header))
        sender = Sender(header.run_id)
        for event, parts in events.batches(spool):
            try:
                found = sender.send(event, again=True)
            except TrackingUnavailable:
                raise
            except TrackingError as error:
                reason = f"{error}; delete {spool.folder} to give it up"
                continue
            sent += len(parts)
            registered += [] if found is None else [found]
            spool.done(*parts)
        if not len(spool):
            spool.remove()
    except TrackingError as error:
        reason = str(error)
    return Synced(header.name, header.run_id, sent, len(spool), reason, tuple(registered))
