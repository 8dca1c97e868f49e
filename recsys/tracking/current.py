"""The current run: its start and end, and the model that it logs."""

from __future__ import annotations

import time
import uuid
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
from recsys.tracking import recovery, runs, store
from recsys.tracking._mlflow import Load
from recsys.tracking.events import Model
from recsys.tracking.logged_model import logged_bundle, prepare
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
    keep: bool = False,
    system_metrics: bool = False,
) -> Iterator[Tracker]:
    """Record the block as a run, tagged with its environment; a run within a run is its child.

    An exception marks the run FAILED and is raised again; an interruption (Ctrl-C, SIGTERM) marks it KILLED. A run
    whose process is gone is marked KILLED by the next one that starts. If the store does not answer, the run gets a
    local id and is created in the store later, with its own start time.

    Args:
        workspace: its `mlruns` is the store, unless MLFLOW_TRACKING_URI names another.
        experiment: name of the experiment; created if there is none.
        run_name: readable name; MLflow invents one by default.
        resume: file that names the run until it has finished. If it exists and no other process holds it, that run is
            resumed, and what it has is not recorded again.
        interrupted: False starts a new run in place of one that failed before it had a model.
        keep: leave the file when the run has finished; the job deletes it when it has no more use for the run's result.
        system_metrics: record the load of the machine with every epoch, as `system/...` (needs psutil).

    Raises:
        TrackingError: the store refuses the experiment or the run.
    """
    parent, began = _CURRENT.get(), time.monotonic()
    reached = parent is not None or _reached(workspace)  # first: a store that cannot be opened costs no file
    with ExitStack() as stack:
        file = _claimed(stack, resume, workspace)
        resumable = file == resume
        stack.push(runs.killed_since(runs.active_id()))
        load = Load() if system_metrics else None
        facts = {**environment(workspace), **{name: str(value) for name, value in (tags or {}).items()}}
        place = store.place(workspace)
        record = recovery.interrupted(file, place, workspace, failed=interrupted) if resumable else None
        resumed = record is not None
        if record is None:
            key, job = None if parent is None else parent.record.key, file.stem if resumable else ""
            record = RunRecord(place, experiment, run_name, facts, key, resumable=resumable, kept=keep, job=job)
        recovery.remember(file, record)  # before there is a run, so that a kill leaves none that nobody knows
        key = record.key
        outbox = _open(record, facts, workspace, parent, resumed=resumed, reached=reached, began=began)
        outbox.sign_of_life = file
        outbox.resumed = resumed = resumed and record.key == key  # in place of a deleted run, another has begun
        stack.enter_context(outbox.lock)
        tracker = Tracker(outbox, resumed=resumed, load=load)
        stack.callback(_CURRENT.reset, _CURRENT.set(outbox))
        status = "FAILED"
        try:
            recovery.remember(file, record)
            if resumed and not outbox.active:
                tracker.set_tags({**facts, "resumed": now()})
            yield tracker
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        except (OSError, TrackingError):  # a full disk, say: not the training's fault
            record.continues = True
            raise
        finally:
            outbox.end(status)
            recovery.end(file, record, status)


def _claimed(stack: ExitStack, resume: Path | None, workspace: Workspace) -> Path:
    """Return the file that names the run, locked until the stack is closed: `resume`, unless another process has it."""
    own = recovery.folder(workspace) / f"run-{uuid.uuid4().hex}.json"
    if resume is not None:
        with suppress(BlockingIOError):
            stack.enter_context(locked(recovery.lock_of(resume), wait=False))
            return resume
    stack.enter_context(locked(recovery.lock_of(own), wait=False))
    return own


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
    with outbox.scratch() as scratch:
        folder = prepare(scratch, model, examples, metrics or {}, about)
        outbox.take(Model(attachment=folder, resumed=outbox.resumed))
        outbox.record.continues = True
    tracker = Tracker(outbox, resumed=outbox.resumed)
    if metrics:
        tracker.log_metrics(metrics)
    return None if name is None else tracker.register(name)


def resumed_bundle() -> Path | None:
    """Return the bundle of the model that the current run logged before it was resumed; None if it has to be trained.

    Raises:
        TrackingError: there is no current run.
    """
    outbox = _CURRENT.get()
    if outbox is None:
        raise TrackingError("no run is active; call resumed_bundle within start_run")
    if not outbox.resumed:
        return None
    with suppress(TrackingUnavailable):
        return outbox.spooled_model() or (None if outbox.record.run_id is None else logged_bundle(outbox.record.run_id))
    return None


def _reached(workspace: Workspace) -> bool:
    """Open the store, and return whether it answers."""
    with suppress(TrackingUnavailable), store.bounded(check=False):
        store.configure(workspace)
        return True
    return False


def _open(
    record: RunRecord,
    tags: dict[str, str],
    workspace: Workspace,
    parent: Outbox | None,
    *,
    resumed: bool,
    reached: bool,
    began: float,
) -> Outbox:
    """Start a run, in the store if it answers, and return its outbox.

    Args:
        reached: the store has answered, so that it can be asked.
        began: when it was asked first.
    """
    started = False
    with suppress(TrackingUnavailable):
        if parent is None and reached:
            recovery.close_killed(workspace)
        if parent is not None and parent.record.run_id is None:
            parent.send_waiting()
        parent_id = None if parent is None else parent.record.run_id
        # A child is created after its parent, also when both are created late.
        if (parent is None or parent_id is not None) and reached:
            record.run_id = runs.start(record, workspace, tags, parent_id, resumed=resumed)
            started = True
    outbox = Outbox(record, workspace, parent, active=started)
    if not started:
        outbox.back_off(time.monotonic() - began)
    if not started or outbox.waiting:
        outbox.start_spooling()
    return outbox
