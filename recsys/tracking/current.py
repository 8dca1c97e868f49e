"""The run that is going on: how it begins and ends, and the model that it logs."""

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
from recsys.tracking.machine import Load, environment, now
from recsys.tracking.mlflow_tracker import MlflowTracker
from recsys.tracking.outbox import Outbox
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import Header
from recsys.workspace import Workspace

_CURRENT: ContextVar[MlflowTracker | None] = ContextVar("run", default=None)


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
) -> Iterator[MlflowTracker]:
    """Record the block as a run, tagged with its environment; a run within a run is its child.

    An exception marks the run FAILED and goes on. Where the store does not answer, the run gets an id of its own and
    is created later, with the time of its start.

    Args:
        experiment: name of the experiment; created where there is none.
        run_name: readable name; MLflow invents one by default.
        workspace: its `mlruns` is the store, unless MLFLOW_TRACKING_URI names another.
        resume: file that names the run while it has not ended well; where it exists and nobody else holds it, that run
            goes on, and epochs and parameters that it has already are not recorded again.
        interrupted: False begins a new run, whatever the file says.
        system_metrics: record the load of the machine with every epoch, as `system/...` (needs psutil).

    Raises:
        TrackingError: the store refuses the experiment or the run.
    """
    with ExitStack() as stack:
        if resume is not None:
            try:
                stack.enter_context(locked(resume.with_name(f"{resume.name}.lock"), wait=False))
            except BlockingIOError:
                resume = None  # another process is at the same training
        load = Load() if system_metrics else None
        own = {**environment(workspace), **{name: str(value) for name, value in (tags or {}).items()}}
        header = (
            runs.interrupted(resume, store.place(workspace), workspace) if resume is not None and interrupted else None
        )
        tracker, active = _begin(header, experiment, run_name, own, workspace, load)
        stack.callback(tracker.outbox.close)
        if resume is not None:
            runs.remember(resume, tracker.outbox.header)
        token = _CURRENT.set(tracker)
        status = "FAILED"
        try:
            yield tracker
            status = "FINISHED"
        finally:
            _CURRENT.reset(token)
            tracker.end(status, active=active)
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
    """Log a model in the active run, as `runs:/RUN_ID/model`, and register it as the next version of `name`.

    What is logged is the bundle, and under `code/` this package's source, which `mlflow.pyfunc.load_model` runs to
    serve it (see `RecommendationModel`); no pickle is written or read. `load` reads the bundle alone and runs nothing.

    Args:
        model: fitted on Interactions, with ids that are integers or strings.
        name: in the registry; None logs the model and does not register it.
        examples: histories as in training. The first become the input example; if any value differs from 1, the
            model's input has a column `ratings`.
        metrics: measured figures, stored in the bundle, and in MLflow with the model.
        about: JSON values that say where the model comes from; the run id is added. Its `tags`, by name, become tags of
            the logged model, and of every version that it is registered as.

    Raises:
        NotFittedError: the model is not fitted.
        TrackingError: there is no active run, ids are unknown or cannot be written as text, or MLflow refuses.
    """
    tracker = _CURRENT.get()
    if tracker is None:
        raise TrackingError("no run is active; call log_model within start_run")
    model._check_fitted()
    if model.items_ is None or model.users_ is None:
        raise TrackingError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
    for what, ids in (("user", model.users_), ("item", model.items_)):
        if ids.kind == "other":
            raise TrackingError(f"{what} ids must be integers or strings to be served by MLflow, got {ids!r}")
    tracker.log_model(model, examples, metrics or {}, about or {})
    if metrics:
        tracker.log_metrics(metrics)
    return None if name is None else tracker.register(name)


def _begin(
    header: Header | None,
    experiment: str,
    run_name: str | None,
    tags: dict[str, str],
    workspace: Workspace,
    load: Load | None,
) -> tuple[MlflowTracker, bool]:
    """Return the tracker of the run that the header names, or of a new one, and whether it is MLflow's active run."""
    parent = _CURRENT.get()
    above = None if parent is None else parent.outbox
    resumed = header is not None
    if header is None:
        key = None if above is None else above.header.key
        header = Header.new(store.place(workspace), experiment, run_name, tags, key)
    run_id, began = None, time.monotonic()
    with suppress(TrackingUnavailable):
        if above is not None and not above.known:
            above.catch_up()
        # A child begins after its parent, also where both begin late.
        if above is None or above.known:
            run_id = runs.start(header, workspace, tags, None if above is None else above.header.run_id, again=resumed)
    if run_id is not None:
        resumed = resumed and header.run_id == run_id
        header.run_id = run_id
    outbox = Outbox(header, workspace, above)
    tracker = MlflowTracker(outbox, resumed=resumed, load=load)
    if run_id is None or outbox.waiting:
        outbox.wait()
    if run_id is None:
        outbox.ask_later(time.monotonic() - began)
        if resumed:
            tracker.set_tags({**tags, "resumed": now()})
    return tracker, run_id is not None
