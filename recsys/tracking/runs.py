"""Runs in the store: find, create, resume and end them; the machine, which their results depend on; the time.

A function that asks the store raises TrackingUnavailable if it does not answer, and TrackingError if it refuses.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from recsys.errors import TrackingError
from recsys.tracking import home, store
from recsys.tracking._mlflow import MlflowClient, MlflowException, entities, mlflow, resolve_tags
from recsys.tracking.store import bounded, quiet, request
from recsys.workspace import Workspace

_KEY = "recsys.run"
_JOB = "recsys.job"
_PARENT = "mlflow.parentRunId"
_OF_EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # else MLflow infers a kind, of two that it knows
    "mlflow.note.content": "Runs of recsys: trainings and what goes around them. Figures of the test part are `test/`, "
    "those of the baseline beside them `popularity/` or `biases/`; a training's page is its artifact `report.html`.",
}
_LIBRARIES = ("torch", "numpy", "scipy", "implicit", "mlflow", "recsys")


def environment(workspace: Workspace) -> dict[str, str]:
    """Return Python, libraries, platform and device, and the commit of a workspace in git: tags of a run."""
    import torch  # here, since commands that look at the store alone do without it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": str(os.cpu_count()),
        **{f"version.{name}": version(name) for name in _LIBRARIES},
    }
    commit = _git(workspace.folder, "rev-parse", "HEAD")
    if commit:
        facts["git.commit"] = commit
        facts["git.dirty"] = str(bool(_git(workspace.folder, "status", "--porcelain"))).lower()
    return facts


def version(distribution: str) -> str:
    """Return the version of an installed distribution, or `not installed`."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def now() -> str:
    """Return the time in UTC as tags hold it, such as `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def milliseconds() -> int:
    """Return the time in milliseconds since 1970, as MLflow records it."""
    return int(time.time() * 1000)


def is_key(text: str) -> bool:
    """Return whether a text may be the key of a run."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


@dataclass
class RunRecord:
    """Everything needed to create a run, possibly later and from another process; JSON values."""

    place: str
    """The store, as `store.place` returns it."""
    experiment: str
    run_name: str | None
    tags: dict[str, str]
    parent: str | None
    """Key of the parent run."""
    run_id: str | None = None
    """None until the store has created the run."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unique name that the run has before the store gives it an id, and keeps as its tag `recsys.run`."""
    start_time: int = field(default_factory=milliseconds)
    resumable: bool = True
    """Another start of the same job continues the run; False where its file only tells that it is in progress."""
    continues: bool = False
    """Another start of the job continues it though it failed: its model is logged, or store or disk were at fault."""
    kept: bool = False
    """Its file stays when it has finished, until the job has no more use for the run's result."""
    job: str = ""
    """What a resumable run is found by if its file is damaged; it keeps it as its tag `recsys.job`."""
    status: str | None = None
    """How it ended, as MLflow names it; None while it is in progress, as far as is known."""

    @property
    def name(self) -> str:
        """The run's name, or the beginning of its key."""
        return self.run_name or self.key[:8]


def start(record: RunRecord, workspace: Workspace, tags: dict[str, str], parent: str | None, *, resumed: bool) -> str:
    """Start a run as MLflow's active one and return its id: the recorded run if it still exists, or a new one.

    The store must be configured.

    Args:
        tags: of this start; the record holds those of the first.
        parent: id of the parent run.
        resumed: the run was started before, so the store may have it.
    """
    with request(f"cannot start a run of experiment {record.experiment!r}"):
        uri = mlflow.get_tracking_uri()
        nested = mlflow.active_run() is not None
        if resumed and record.run_id is None:
            record.run_id = find(record.experiment, record.key)
        if record.run_id is not None:
            if status_of(record.run_id) is not None:
                mlflow.start_run(record.run_id, tags={**tags, "resumed": now()}, nested=nested)
                return record.run_id
            # It was deleted, so a new run takes its place.
            record.key, record.run_id, record.start_time, record.tags = uuid.uuid4().hex, None, milliseconds(), tags
        experiment = experiment_id(record.experiment, uri, workspace)
        if parent is not None and not is_active(parent):  # MLflow would make it a child of the active run
            run = _created(record, experiment, parent)
            mlflow.start_run(run.info.run_id, nested=nested)
        else:
            tags = _tags(record, parent)
            run = mlflow.start_run(experiment_id=experiment, run_name=record.run_name, tags=tags, nested=nested)
        return str(run.info.run_id)


def create(record: RunRecord, workspace: Workspace) -> str:
    """Create a recorded run with its own start time, unless the store has it, and return its id."""
    with request(f"cannot create a run of experiment {record.experiment!r}", check=False):
        uri = store.configure(workspace)
        existing = find(record.experiment, record.key)
        if existing is not None:
            return existing
        parent = None if record.parent is None else find(record.experiment, record.parent)
        return str(_created(record, experiment_id(record.experiment, uri, workspace), parent).info.run_id)


def _created(record: RunRecord, experiment: str, parent: str | None) -> entities.Run:
    """Create a run that is not MLflow's active one, with the start time of its record."""
    return MlflowClient().create_run(
        experiment,
        start_time=record.start_time,
        tags=resolve_tags(_tags(record, parent)),
        run_name=record.run_name,
    )


def active_id() -> str | None:
    """Return the id of MLflow's active run, or None."""
    run = mlflow.active_run()
    return None if run is None else str(run.info.run_id)


def is_active(run_id: str) -> bool:
    """Return whether a run is MLflow's active one."""
    return active_id() == run_id


def killed_since(before: str | None) -> Callable[..., None]:
    """Return an exit of a block that ends as killed what was begun since `before` was active, and could not be ended.

    MLflow would mark it as finished when the process ends.
    """

    def leave(kind: type[BaseException] | None, *_: object) -> None:
        active = active_id()
        if kind is not None and active is not None and active != before:
            deactivate(active, "KILLED")

    return leave


def deactivate(run_id: str, status: str) -> None:
    """Make a run no longer MLflow's active one, although its end could not be sent to the store."""
    if is_active(run_id):
        # end_run deactivates the run even when the store does not answer.
        with suppress(Exception), quiet(), bounded(1, check=False):
            mlflow.end_run(status)


@contextmanager
def active(run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one for the block, for functions that know no other; its status stays as it is."""
    if is_active(run_id):
        yield
        return
    before = MlflowClient().get_run(run_id).info
    mlflow.start_run(run_id, nested=mlflow.active_run() is not None)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")
        if before.status != "RUNNING":
            MlflowClient().set_terminated(run_id, before.status, before.end_time)


def experiment_id(name: str, uri: str, workspace: Workspace) -> str:
    """Return the id of an experiment in the store `uri`, creating it if necessary."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Other stores have an artifact location of their own.
        artifacts = (workspace.mlruns / home.ARTIFACTS).as_uri() if uri == home.uri(workspace) else None
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=_OF_EXPERIMENT))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process may have created it meanwhile
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} was deleted; restore it in MLflow or choose another name")
    return str(experiment.experiment_id)


def _tags(record: RunRecord, parent: str | None) -> dict[str, str]:
    given = {_JOB: record.job, _PARENT: parent}
    return {**record.tags, _KEY: record.key, **{name: value for name, value in given.items() if value}}


def find(experiment: str, key: str) -> str | None:
    """Return the id of the run with that key, or None."""
    client = MlflowClient()
    existing = client.get_experiment_by_name(experiment)
    if existing is None:
        return None
    matches = client.search_runs([existing.experiment_id], f"tags.`{_KEY}` = '{key}'", max_results=1)
    return matches[0].info.run_id if matches else None


def last_of(job: str, place: str) -> RunRecord | None:
    """Return the last run of a job that has not finished, as the store describes it; None without any."""
    client = MlflowClient()
    experiments = {found.experiment_id: found.name for found in client.search_experiments()}
    matches = client.search_runs(list(experiments), f"tags.`{_JOB}` = '{job}'", max_results=1)
    if not matches or matches[0].info.status == "FINISHED":
        return None
    info, tags = matches[0].info, matches[0].data.tags
    record = RunRecord(place, experiments[info.experiment_id], info.run_name, {}, None, info.run_id, job=job)
    record.key, record.start_time = tags.get(_KEY, record.key), info.start_time
    return record


def is_running(run_id: str) -> bool:
    """Return whether a run that is not deleted has the status RUNNING."""
    return status_of(run_id) == "RUNNING"


def status_of(run_id: str) -> str | None:
    """Return the status of a run; None if it was deleted."""
    try:
        info = MlflowClient().get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return str(info.status) if info.lifecycle_stage == "active" else None


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
