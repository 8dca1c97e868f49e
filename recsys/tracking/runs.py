"""Runs in the store: how one is found, created, gone on with and ended."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError
from recsys.spool import Spool
from recsys.tracking import store
from recsys.tracking._mlflow import MlflowClient, MlflowException, RunStatus, mlflow, resolve_tags
from recsys.tracking.asking import bounded, quiet, refusals
from recsys.tracking.events import milliseconds
from recsys.tracking.machine import now
from recsys.workspace import Workspace

_KEY = "recsys.run"
_PARENT = "mlflow.parentRunId"


@dataclass
class Header:
    """What it takes to create a run, be it later and by another process: JSON values."""

    key: str
    """The run's name among all runs, before and after the store gives it an id: its tag `recsys.run`."""
    place: str
    """The store, as `store.place` gives it."""
    experiment: str
    run_name: str | None
    tags: dict[str, str]
    start_time: int
    run_id: str | None
    """None while the store does not know of the run."""
    parent: str | None
    """Key of the run that this one is a child of."""

    @classmethod
    def new(cls, place: str, experiment: str, run_name: str | None, tags: dict[str, str], parent: str | None) -> Header:
        """Return the header of a run that begins now."""
        return cls(uuid.uuid4().hex, place, experiment, run_name, tags, milliseconds(), None, parent)

    @property
    def name(self) -> str:
        """The run's name, or what stands for it."""
        return self.run_name or self.key[:8]


def interrupted(resume: Path, place: str, workspace: Workspace) -> Header | None:
    """Return the header of the run that a file names; None where there is none, or it is in another store."""
    try:
        facts: dict[str, Any] = json.loads(resume.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if facts.get("place") != place:
        return None
    header = Header(**facts)
    spool = Spool(store.pending(workspace) / header.key)
    return Header(**spool.read_header()) if spool.folder.exists() else header


def remember(resume: Path, header: Header) -> None:
    """Name a run in a file, for `interrupted`."""
    resume.parent.mkdir(parents=True, exist_ok=True)
    resume.write_text(json.dumps(asdict(header)), encoding="utf-8")


def start(header: Header, workspace: Workspace, tags: dict[str, str], parent: str | None, *, again: bool) -> str:
    """Start a run as MLflow's active one: the one that the header names, if it is still there, or a new one.

    Args:
        tags: of the run as it begins now; those of the header are of its first beginning.
        parent: id of the run above.
        again: the run has begun before, so that the store may know it.

    Returns:
        The run's id.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    with quiet(), bounded(), refusals(f"cannot start a run of experiment {header.experiment!r}"):
        uri = store.configure(workspace)
        nested = mlflow.active_run() is not None
        if again and header.run_id is None:
            header.run_id = _find(header.experiment, header.key)
        if header.run_id is not None:
            if _is_there(header.run_id):
                run = mlflow.start_run(header.run_id, tags={**tags, "resumed": now()}, nested=nested)
                return str(run.info.run_id)
            # It was deleted since.
            header.key, header.run_id, header.start_time, header.tags = uuid.uuid4().hex, None, milliseconds(), tags
        above = {} if parent is None else {_PARENT: parent}
        run = mlflow.start_run(
            experiment_id=experiment_id(header.experiment, uri, workspace),
            run_name=header.run_name,
            tags={**header.tags, _KEY: header.key, **above},
            nested=nested,
        )
        return str(run.info.run_id)


def create(header: Header, workspace: Workspace) -> str:
    """Create the run of a header in the store, unless it is there already, and return its id.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    with quiet(), bounded(), refusals(f"cannot create a run of experiment {header.experiment!r}"):
        uri = store.configure(workspace)
        found = _find(header.experiment, header.key)
        if found is not None:
            return found
        above = None if header.parent is None else _find(header.experiment, header.parent)
        tags = {**header.tags, _KEY: header.key, **({} if above is None else {_PARENT: above})}
        run = MlflowClient().create_run(
            experiment_id(header.experiment, uri, workspace),
            start_time=header.start_time,
            tags=resolve_tags(tags),
            run_name=header.run_name,
        )
        return str(run.info.run_id)


def end(run_id: str, status: str) -> None:
    """End a run that is MLflow's active one.

    Raises:
        TrackingUnavailable: the store does not answer, or will not now.
        TrackingError: it refuses.
    """
    with quiet(), bounded(), refusals(f"run {run_id} cannot end", within=True):
        mlflow.end_run(status)


def forget(run_id: str, status: str) -> None:
    """Let a run be MLflow's active one no longer, though the store could not be told of its end."""
    run = mlflow.active_run()
    if run is not None and run.info.run_id == run_id:
        # MLflow forgets its active run as it tells the store of the end, whatever comes of that.
        with suppress(Exception), quiet(), bounded(1, knocking=False):
            mlflow.end_run(status)


@contextmanager
def active(run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one, for what MLflow does for that one only; it goes on running."""
    run = mlflow.active_run()
    if run is not None and run.info.run_id == run_id:
        yield
        return
    mlflow.start_run(run_id, nested=run is not None)
    try:
        yield
    finally:
        mlflow.end_run(RunStatus.to_string(RunStatus.RUNNING))


def experiment_id(name: str, uri: str, workspace: Workspace) -> str:
    """Return the id of an experiment in the store `uri`; it is created where there is none.

    Raises:
        TrackingError: it was deleted.
    """
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        # Only our own store needs telling where artifacts go; any other has its own place for them.
        artifacts = (workspace.mlruns / "artifacts").as_uri() if uri == store.local_uri(workspace) else None
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} was deleted; restore it in MLflow or choose another name")
    return str(found.experiment_id)


def _find(experiment: str, key: str) -> str | None:
    """Return the id of the run of a key; None where the store knows of none."""
    client = MlflowClient()
    held = client.get_experiment_by_name(experiment)
    if held is None:
        return None
    found = client.search_runs([held.experiment_id], f"tags.`{_KEY}` = '{key}'", max_results=1)
    return found[0].info.run_id if found else None


def _is_there(run_id: str) -> bool:
    try:
        return bool(MlflowClient().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
