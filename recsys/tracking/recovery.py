"""Runs of processes that were killed: remembered on disk while they are in progress, closed by the next command.

Each run in progress has a file with its record in `mlruns/checkpoints` and holds the lock beside it, which the system
frees when the process ends, however it ends. A file whose lock is free names a run that was killed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError, TrackingUnavailable, warn
from recsys.files import locked, read_json, remove_lock, sha256_of_json, write_text
from recsys.outputs import recover
from recsys.spool import Spool, spools
from recsys.tracking import runs, store
from recsys.tracking._mlflow import MlflowClient
from recsys.tracking.events import End
from recsys.tracking.runs import RunRecord
from recsys.workspace import Workspace


def folder(workspace: Workspace) -> Path:
    """Return the folder of the files that name runs in progress, and of checkpoints."""
    return workspace.mlruns / "checkpoints"


def scratch(workspace: Workspace) -> Path:
    """Return the folder beside which what is to be sent is written first, under temporary names."""
    return workspace.mlruns / "working"


def resume_file(workspace: Workspace, *facts: Any, suffix: str = ".json") -> Path:
    """Return the file by which a killed job is continued, named by JSON values: for `start_run`, or a checkpoint."""
    return folder(workspace) / f"{sha256_of_json(facts)[:32]}{suffix}"


def lock_of(file: Path) -> Path:
    """Return the lock that the process of a run holds while the run is in progress."""
    return file.with_name(f"{file.name}.lock")


def remember(file: Path, record: RunRecord) -> None:
    """Write a run's record to a file, for `interrupted` and `close_killed` to read."""
    write_text(file, json.dumps(asdict(record)), durable=True)


def interrupted(file: Path, place: str, workspace: Workspace, *, failed: bool) -> RunRecord | None:
    """Return the record that `remember` wrote; None if there is none, it is of another store, or the run failed.

    Args:
        failed: return it even if the run failed before it had a model, as opposed to having been killed.
    """
    record = recorded(file) or _from_store(file, place)
    if (
        record is None
        or not store.is_place(record.place, place)
        or (record.status == "FAILED" and not (failed or record.continues))
    ):
        return None
    spool = Spool(store.pending(workspace) / record.key)
    record = recorded(spool.header) or record
    record.status = None
    return record


def _from_store(file: Path, place: str) -> RunRecord | None:
    """Return the record of the run of a file that is damaged, as far as the store knows it; None where it does not."""
    if not file.is_file():
        return None
    found = None
    with suppress(TrackingError), store.request("cannot look for the run of a damaged file"):
        found = runs.last_of(file.stem, place)
    if found is not None:
        warn(f"{file} is damaged; the run {found.name} that it named was found in the store")
    return found


def close_killed(workspace: Workspace) -> list[str]:
    """Mark the runs of processes that are gone as KILLED, and return their names.

    A run that cannot be reached stays for the next command. Nothing is done where nothing may be written.
    """
    place, closed = store.place(workspace), []
    for file in sorted(folder(workspace).glob("*.json")):
        record = recorded(file) or _from_store(file, place)
        if record is None or record.status is not None or not store.is_place(record.place, place):
            continue
        with suppress(OSError, TrackingUnavailable), locked(lock_of(file), wait=False):
            record = recorded(file) or record  # its process may have ended it since
            if record is not None and record.status is None:
                closed += [record.name] if _close(record, file, workspace) else []
    remove_leftovers(workspace)
    return closed


def configure(workspace: Workspace, *, create: bool = True) -> str:
    """Point MLflow at the store of a workspace, as `store.configure` does, and close the runs of killed processes."""
    uri = store.configure(workspace, create=create)
    close_killed(workspace)
    return uri


def remove_leftovers(workspace: Workspace) -> None:
    """Remove what killed processes have left: locks, half-written files to send, and the empty folders of queues."""
    recover(scratch(workspace))
    for queue in store.pending(workspace).glob("*"):
        with suppress(OSError):  # such as that it is not empty
            if runs.is_key(queue.name) and not any(queue.iterdir()):
                with locked(Spool(queue).lock, wait=False):
                    queue.rmdir()
    others = (workspace.mlruns / name for name in ("locks", "studies"))
    for place in (folder(workspace), store.pending(workspace), *others):
        for lock in place.glob("*.lock"):
            remove_lock(lock)


def describe(workspace: Workspace) -> str:
    """Return where the runs are: the command that shows them, or the URI in MLFLOW_TRACKING_URI; and how many wait."""
    shown = os.environ.get(store.URI) or f"recsys ui{workspace.option}"
    waiting = len(queues(workspace))
    return f"{shown}\nwaiting  {waiting} runs in {store.pending(workspace)}: recsys sync" if waiting else shown


def queues(workspace: Workspace) -> list[Spool]:
    """Return the queues of unsent events, ordered by the start of their runs."""
    return [spool for spool in spools(store.pending(workspace)) if recorded(spool.header) is not None]


def strangers(workspace: Workspace) -> list[Path]:
    """Return what lies among the queues and is none, such as a folder whose `run.json` names no run."""
    folder = store.pending(workspace)
    known = {spool.folder for spool in queues(workspace)}
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path not in known and path.suffix != ".lock"]


def recorded(file: Path) -> RunRecord | None:
    """Return the record of a run in a file; None where there is none, or it holds something else."""
    facts = read_json(file)
    names = {field.name for field in fields(RunRecord)}
    if facts is None or not {"place", "experiment", "key", "run_name", "tags", "parent"} <= set(facts) <= names:
        return None
    text = ("place", "experiment", "key")
    if not all(isinstance(facts[name], str) for name in text) or not isinstance(facts["tags"], dict):
        return None
    optional = (facts.get(name) for name in ("run_name", "parent", "run_id", "status"))
    if not all(isinstance(value, str | None) for value in optional):
        return None
    return RunRecord(**facts) if isinstance(facts.get("start_time", 0), int) else None


def _close(record: RunRecord, file: Path, workspace: Workspace) -> bool:
    """Close a run whose process is gone; return whether it was killed, and not only its file left as it was.

    A run that was killed ends when its file was written last, in the store or in what waits for it.
    """
    last = int(os.stat(file).st_mtime * 1000)
    spool, status = Spool(store.pending(workspace) / record.key), None
    if spool.exists:
        with locked(spool.lock, wait=False):
            last_event = next(reversed(list(spool)), None)
            if last_event is not None and last_event.kind == End.kind:
                status = last_event.values["status"]
            else:
                killed = End(status="KILLED", time=last)
                spool.add(killed.kind, killed.to_json())
    else:
        with store.request(f"cannot close the run {record.name}"):
            run_id = record.run_id or runs.find(record.experiment, record.key)
            status = None if run_id is None else runs.status_of(run_id)
            if run_id is not None and status == "RUNNING":
                MlflowClient().set_terminated(run_id, "KILLED", last)
                status = None
    end(file, record, status or "KILLED")
    if file.exists():
        os.utime(file, ns=(last * 10**6, last * 10**6))
    return status is None


def end(file: Path, record: RunRecord, status: str) -> None:
    """Forget a run that has ended, or remember how it ended, for the same job's next start."""
    record.status = status
    with suppress(OSError):  # on a full disk it stays as it is, and the next command finds how the run has ended
        if record.resumable and (record.kept or status != "FINISHED"):
            remember(file, record)
        else:
            file.unlink(missing_ok=True)
