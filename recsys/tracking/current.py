"""The current run: its start and end, and the model that it logs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from recsys.errors import TrackingError, TrackingUnavailable
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Part
from recsys.tracking import runs, store
from recsys.tracking._mlflow import Load
from recsys.tracking.events import Model
from recsys.tracking.logged_model import prepared
from recsys.tracking.outbox import Outbox
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import RunRecord, environment, now
from recsys.tracking.tracker import Tracker
from recsys.workspace import Workspace

_CURRENT: ContextVar[Outbox | None] = ContextVar("run", default=None)


@contextmanager
def start_run(
    workspace: Workspace,
    experiment: str,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    *,
    resume: Path | None = None,
    interrupted: bool = True,
    system_metrics: bool = False,
) -> Iterator[Tracker]:
    """Record the block as a run, tagged with its environment; a run within a run is its child.

    An exception marks the run FAILED and is raised again. If the store does not answer, the run gets a local id and is
    created in the store later, with its own start time.

    Args:
        workspace: its `mlruns` is the store, unless MLFLOW_TRACKING_URI names another.
        experiment: name of the experiment; created if there is none.
        run_name: readable name; MLflow invents one by default.
        resume: file that names the run until it has finished. If it exists and no other process holds it, that run is
            resumed, and epochs and parameters that it has are not recorded again.
        interrupted: False starts a new run, whatever the file says.
        system_metrics: record the load of the machine with every epoch, as `system/...` (needs psutil).

    Raises:
        TrackingError: the store refuses the experiment or the run.
    """
    with ExitStack() as stack:
        if resume is not None:
            try:
                stack.enter_context(locked(resume.with_name(f"{resume.name}.lock"), wait=False))
            except BlockingIOError:
                resume = None  # another process runs the same training
        load = Load() if system_metrics else None
        facts = {**environment(workspace), **{name: str(value) for name, value in (tags or {}).items()}}
        place, parent = store.place(workspace), _CURRENT.get()
        record = runs.interrupted(resume, place, workspace) if resume is not None and interrupted else None
        resumed = record is not None
        if record is None:
            record = RunRecord(place, experiment, run_name, facts, None if parent is None else parent.record.key)
        key = record.key
        outbox = _open(record, facts, workspace, parent, resumed=resumed)
        resumed = resumed and record.key == key  # in place of a run deleted from the store, another has begun
        stack.enter_context(outbox.lock)
        tracker = Tracker(outbox, resumed=resumed, load=load)
        if resumed and not outbox.active:
            tracker.set_tags({**facts, "resumed": now()})
        if resume is not None:
            runs.remember(resume, record)
        stack.callback(_CURRENT.reset, _CURRENT.set(outbox))
        status = "FAILED"
        try:
            yield tracker
            status = "FINISHED"
        finally:
            outbox.end(status)
            if resume is not None and status == "FINISHED":
                resume.unlink(missing_ok=True)


def log_model(
    model: Recommender,
    *,
    name: str | None,
    examples: Interactions | Part,
    metrics: Mapping[str, float] | None = None,
    about: Mapping[str, Any] | None = None,
) -> RegisteredModel | None:
    """Log a model in the current run, as `runs:/RUN_ID/model`, and register it as the next version of `name`.

    Logged are the bundle and, under `code/`, the source of this package and of the module that defines the model's
    class, which `mlflow.pyfunc.load_model` runs to serve it (see `RecommendationModel`); no pickle is written or read.
    `load` reads the bundle alone and executes nothing.

    Args:
        model: fitted on Interactions, with ids that are integers or strings.
        name: in the registry; None logs the model without registering it.
        examples: histories as in training. The first become the input example; if any value differs from 1, the
            model's input has a column `ratings`.
        metrics: measured figures, stored in the bundle, and in MLflow with the model.
        about: JSON values that say where the model comes from; the run id is added. Its `tags`, by name, become tags of
            the logged model and of every version that it is registered as.

    Raises:
        NotFittedError: the model is not fitted.
        TrackingError: there is no current run, ids are unknown or cannot be written as text, or MLflow refuses.
    """
    outbox = _CURRENT.get()
    if outbox is None:
        raise TrackingError("no run is active; call log_model within start_run")
    model._check_fitted()
    if model.items_ is None or model.users_ is None:
        raise TrackingError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
    for what, ids in (("user", model.users_), ("item", model.items_)):
        if ids.kind == "other":
            raise TrackingError(f"{what} ids must be integers or strings to be served by MLflow, got {ids!r}")
    about = dict(about or {})
    if outbox.record.run_id is not None:
        about["run_id"] = outbox.run_id
    with prepared(model, examples, metrics or {}, about) as folder:
        outbox.take(Model(attachment=folder))
    tracker = Tracker(outbox)
    if metrics:
        tracker.log_metrics(metrics)
    return None if name is None else tracker.register(name)


def _open(
    record: RunRecord, tags: dict[str, str], workspace: Workspace, parent: Outbox | None, *, resumed: bool
) -> Outbox:
    """Start a run, in the store if it answers, and return its outbox."""
    began, started = time.monotonic(), False
    with suppress(TrackingUnavailable):
        if parent is not None and parent.record.run_id is None:
            parent.send_waiting()
        parent_id = None if parent is None else parent.record.run_id
        # A child is created after its parent, also when both are created late.
        if parent is None or parent_id is not None:
            record.run_id = runs.start(record, workspace, tags, parent_id, resumed=resumed)
            started = True
    outbox = Outbox(record, workspace, parent, active=started)
    if not started:
        outbox.back_off(time.monotonic() - began)
    if not started or outbox.waiting:
        outbox.start_spooling()
    return outbox
