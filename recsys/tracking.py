"""Experiments and the model registry: the only module that imports MLflow.

Runs, models and artifacts live in one folder, `<root>/mlruns`: a SQLite database and an artifact folder beside it.
A model is logged as its bundle with the code that reads it, so that no pickle is written or read.

A store elsewhere may be slow or away: what a run could not tell it waits in `<root>/mlruns/pending`, as `recsys.spool`
keeps it, and is sent by a later report of the run, at its end, or by `sync`. An event may be sent twice without harm:
metrics carry their time and step, a run the tag `recsys.run` by which it is found, and a model is logged once per run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from itertools import chain, pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
import sqlalchemy.exc
import torch

from recsys.columns import ITEM, RATING, USER
from recsys.errors import BundleError, DataError, RecsysError, TrackingError, TrackingUnavailable, did_you_mean
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.locks import locked
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.splits import Part, Split
from recsys.spool import Event, Spool, spools
from recsys.training import Record

with warnings.catch_warnings():
    # MLflow warns of its own type hints, which would stop whoever turns warnings into errors.
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunStatus, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel
    from mlflow.store.db import utils as database
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, ColSpec

MODEL = "model"
"""Name of the logged model within its run."""
BUNDLE = "bundle"
"""Name of the bundle among the artifacts of a logged model."""
EXAMPLE_USERS = 3
"""Users in the input example of a logged model."""
TIMEOUT = 10
"""Seconds that a store may take to answer a run; a user's MLFLOW_HTTP_REQUEST_TIMEOUT goes before."""
FILE_TIMEOUT = 120
"""The same for files and models."""
SHARE = 0.02
"""Part of a training's time that may go into telling of its epochs, and into asking a store that was away."""
_LAST_SECONDS = 30.0  # what a run may take at its end to send what waits
_MEMORY_SECONDS = 5.0  # what waits longer waits on disk
_DATABASE = "mlflow.db"
_EXAMPLES = "examples.parquet"
_KEY = "recsys.run"
_PARENT = "mlflow.parentRunId"
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_AWAY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_NOT_NOW = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")
_URI, _REGISTRY_URI = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
_BARS = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
_DIGEST_LENGTH = 36  # MLflow refuses longer digests of data sets
_LIBRARIES = ("torch", "numpy", "scipy", "implicit", "mlflow", "recsys")
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_PARAMS: dict[str, Any] = {"n": 10, "exclude_seen": True, "items": []}  # of a served model, with their defaults
_REQUIREMENTS = (
    "mlflow",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "implicit",
    "safetensors",
    "threadpoolctl",
    "tqdm",
)


def configure(root: Path | None = None, *, create: bool = True) -> str:
    """Point MLflow at `<root>/mlruns`, unless MLFLOW_TRACKING_URI names another place.

    Args:
        root: folder that holds `mlruns`; the working directory by default.
        create: make a store where there is none; False, for those who only read, refuses.

    Returns:
        The tracking URI. The registry is the same place, unless MLFLOW_REGISTRY_URI names another.

    Raises:
        TrackingError: the store cannot be opened, or there is none and `create` is False.
    """
    given = {name: os.environ.get(name) for name in (_URI, _REGISTRY_URI)}
    uri = given[_URI] or _local_uri(root)
    if not (create or given[_URI] or (home(root) / _DATABASE).is_file()):
        raise TrackingError(f"there is no MLflow store under {home(root)}; root is the folder that holds mlruns")
    with _quiet(), _refusals(f"cannot open {uri}"):
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(given[_REGISTRY_URI] or uri)
        finally:
            # MLflow copies both into the environment; left there, they would overrule the root of the next call.
            for name in [name for name, value in given.items() if value is None]:
                os.environ.pop(name, None)
        if given[_URI]:
            _open_stores()
        else:
            with locked(home(root) / ".lock"):  # two processes that migrate a fresh database at once break each other
                _open_stores()
    return uri


def _local_uri(root: Path | None) -> str:
    return f"sqlite:///{(home(root) / _DATABASE).as_posix()}"


def home(root: Path | None = None) -> Path:
    """Return the folder of runs and models, `<root>/mlruns`, absolute."""
    return (root or Path.cwd()).resolve() / "mlruns"


def describe(root: Path | None = None) -> str:
    """Return where the runs are: the command that shows them, or the URI that MLFLOW_TRACKING_URI names."""
    place = os.environ.get(_URI) or f"mlflow ui --backend-store-uri {shlex.quote(_local_uri(root))} --workers 1"
    waiting = len(spools(_pending(root)))
    return f"{place}\nwaiting  {waiting} runs in {_pending(root)}: recsys sync" if waiting else place


def _pending(root: Path | None) -> Path:
    return home(root) / "pending"


def _client() -> MlflowClient:
    """Return a client of the store in use; before the first `configure`, of the default one."""
    if not mlflow.is_tracking_uri_set():
        configure(create=False)
    return MlflowClient()


def _open_stores() -> None:
    _knock()
    client = MlflowClient()
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)


def mlflow_name(metric: str) -> str:
    """Return a metric's name in MLflow, where `@` is not allowed: `ndcg@10` is `ndcg_at_10`."""
    return metric.replace("@", "_at_")


def flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping with dotted names: `{"model": {"hidden": 500}}` is `{"model.hidden": 500}`."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[str(name)] = value
    return flat


class Tracker(Protocol):
    """Where a job reports what it does."""

    @property
    def run_id(self) -> str | None:
        """Id of the run; None where nothing is recorded."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names."""

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record the size and fingerprint of the data, as parameters and as the run's data set."""

    def log_parts(self, split: Split) -> None:
        """Record the training, validation and test part as data sets of the run, each with its digest."""

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Record one epoch's entry of a training record, as step `entry["epoch"]` of a series."""

    def log_best(self, record: Record) -> None:
        """Record `best_epoch`, and each figure of that epoch as `best_<metric>`."""

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run."""

    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure under a file name such as `learning_curve.png`."""

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Store a table under a file name that ends in `.parquet`."""

    def log_text(self, text: str, name: str) -> None:
        """Store a text under a file name."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""


class NullTracker:
    """A tracker that records nothing."""

    run_id: str | None = None
    """There is no run."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Drop parameters."""

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Drop the size and fingerprint of the data."""

    def log_parts(self, split: Split) -> None:
        """Drop the parts."""

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Drop an epoch's entry."""

    def log_best(self, record: Record) -> None:
        """Drop the best epoch."""

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Drop figures of the run."""

    def log_figure(self, figure: Any, name: str) -> None:
        """Drop a figure."""

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Drop a table."""

    def log_text(self, text: str, name: str) -> None:
        """Drop a text."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Drop tags."""


class _Sender:
    """Tells a store of one run's events. What has been told before, as far as can be seen, is not told again."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._held: dict[str, set[tuple[int, int]]] = {}

    def send(self, event: Event, *, again: bool) -> RegisteredModel | None:
        """Send an event.

        Args:
            again: it may have been sent before.

        Returns:
            What was registered, if the event is a registration.

        Raises:
            TrackingUnavailable: the store does not answer, or will not now.
            TrackingError: it refuses.
        """
        seconds = FILE_TIMEOUT if event.attachment else TIMEOUT
        with _quiet(), _bounded(seconds), _refusals(f"run {self.run_id} cannot record {event.kind}", within=True):
            registered: RegisteredModel | None = getattr(self, f"_{event.kind}")(event, again)
            return registered

    def _params(self, event: Event, again: bool) -> None:
        values = dict(event.values["values"])
        if event.values["resumed"]:
            for name in MlflowClient().get_run(self.run_id).data.params:
                values.pop(name, None)
        MlflowClient().log_batch(self.run_id, params=[Param(name, value) for name, value in values.items()])

    def _tags(self, event: Event, again: bool) -> None:
        MlflowClient().log_batch(self.run_id, tags=[RunTag(name, value) for name, value in event.values.items()])

    def _metrics(self, event: Event, again: bool) -> None:
        client, points = MlflowClient(), []
        for point in event.values["points"]:
            name, _, at, step = point
            look = again or event.values["resumed"]
            if not (look and self._holds(client, point, any_time=event.values["resumed"])):
                points.append(point)
                if name in self._held:
                    self._held[name].add((at, step))
        model_id = _logged_models(client, self.run_id).get(MODEL) if event.values["of_model"] else None
        metrics = [Metric(name, value, at, step, model_id=model_id) for name, value, at, step in points]
        try:
            client.log_batch(self.run_id, metrics=metrics)
        except BaseException:
            self._held.clear()
            raise

    def _holds(self, client: MlflowClient, point: list[Any], *, any_time: bool) -> bool:
        name, _, at, step = point
        if name not in self._held:
            history = client.get_metric_history(self.run_id, name)
            self._held[name] = {(metric.timestamp, metric.step) for metric in history}
        return any(held == step and (any_time or time_ == at) for time_, held in self._held[name])

    def _inputs(self, event: Event, again: bool) -> None:
        # A data set of the same name and digest is an input of a run once.
        inputs = [
            DatasetInput(Dataset(**values["dataset"]), [InputTag("mlflow.data.context", values["context"])])
            for values in event.values["inputs"]
        ]
        MlflowClient().log_inputs(self.run_id, inputs)

    def _file(self, event: Event, again: bool) -> None:
        MlflowClient().log_artifact(self.run_id, str(event.attachment), event.values["folder"])

    def _model(self, event: Event, again: bool) -> None:
        client = MlflowClient()
        logged = _logged_models(client, self.run_id).get(MODEL)
        if logged and client.get_logged_model(logged).status == LoggedModelStatus.READY:
            return
        assert event.attachment is not None  # written by MlflowTracker.log_model
        model = load_bundle(event.attachment / BUNDLE)
        examples = Interactions.from_frame(pd.read_parquet(event.attachment / _EXAMPLES))
        measured = json.loads((event.attachment / BUNDLE / "metrics.json").read_text(encoding="utf-8"))
        with _active(self.run_id):
            _log_model(model, self.run_id, examples, measured, model.about_)

    def _register(self, event: Event, again: bool) -> RegisteredModel:
        name = event.values["name"]
        if again:
            for version in MlflowClient().search_model_versions(f"run_id = '{self.run_id}'"):
                if version.name == name:
                    return _registered(version)
        return register(self.run_id, name)

    def _end(self, event: Event, again: bool) -> None:
        MlflowClient().set_terminated(self.run_id, event.values["status"], event.values["time"])


class MlflowTracker:
    """A tracker of one MLflow run. What its store refuses is a TrackingError.

    A store that does not answer costs the block nothing but some time, bounded by TIMEOUT and SHARE: what it should
    have been told waits on disk, in order, and is sent with a later report, at the end of the run or by `sync`.
    """

    def __init__(self, header: dict[str, Any], root: Path | None, parent: MlflowTracker | None, resumed: bool) -> None:
        self.registered: dict[str, RegisteredModel] = {}
        """What the run has registered, by name."""
        self._header, self._root, self._parent, self._resumed = header, root, parent, resumed
        self._spool = Spool(_pending(root) / header["key"])
        self._sender = None if header["run_id"] is None else _Sender(header["run_id"])
        self._waits = False
        self._points: list[list[Any]] = []
        self._tell_from = self._ask_from = 0.0
        self._refused: set[str] = set()
        self._system: _System | None = None
        self._held = ExitStack()

    @property
    def run_id(self) -> str:
        """Id of the run; `local-...` while the store does not know of it."""
        return self._header["run_id"] or f"local-{self._header['key']}"

    @property
    def waiting(self) -> Path | None:
        """The folder of what the store has not been told yet; None where it knows everything."""
        return self._spool.folder if self._spool.folder.exists() else None

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names; a parameter cannot change its value later."""
        texts = {name: str(value) for name, value in flatten(values).items()}
        self._report("params", {"values": texts, "resumed": self._resumed})

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record the size and fingerprint of the data, as parameters and as the run's data set."""
        summary = data.summary()
        described = ("users", "items", "interactions", "fingerprint")
        self.log_params({"data": {what: summary[what] for what in described}})
        self._report("inputs", {"inputs": [_input("interactions", summary["fingerprint"], summary, context)]})

    def log_parts(self, split: Split) -> None:
        """Record the training, validation and test part as data sets of the run, each with its digest."""
        whole = split.train.summary()
        inputs = [_input("train", whole["fingerprint"], whole, "training")]
        for name, part in (("validation", split.validation), ("test", split.test)):
            if part is not None:
                sizes = {"users": len(part.users), "context": part.context.nnz, "target": part.target.nnz}
                inputs.append(_input(name, _digest(part, split.train.items), sizes, name))
        self._report("inputs", {"inputs": inputs})

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Record one epoch's entry of a training record, as step `entry["epoch"]` of a series.

        Validation figures are named `epoch_<metric>`: MLflow shows each metric at its last step, so under one name the
        series would hide what `log_metrics` records. Several epochs go in one batch where a batch takes more than
        SHARE of the time between.
        """
        figures = {
            name if name in ("loss", "seconds") else f"epoch_{name}": value
            for name, value in entry.items()
            if name != "epoch"
        }
        if self._system:
            figures |= self._system.figures()
        self._points += _points(figures, step=int(entry["epoch"]))
        now = time.monotonic()
        if now >= self._tell_from or self._tell_from - now > _MEMORY_SECONDS:
            self._tell_epochs(keep=now < self._tell_from)

    def log_best(self, record: Record) -> None:
        """Record `best_epoch`, and each figure of that epoch as `best_<metric>`; nothing where none was chosen."""
        if record.best_epoch is None:
            return
        entry = next(entry for entry in record.epochs if int(entry["epoch"]) == record.best_epoch)
        figures = {f"best_{name}": value for name, value in entry.items() if name not in ("epoch", "seconds")}
        self._report("metrics", _series({"best_epoch": float(record.best_epoch), **figures}))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run, and of the model that it has logged."""
        self._report("metrics", _series(values, of_model=True))

    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure under a file name such as `learning_curve.png`."""
        with self._file(name) as file:
            figure.savefig(file)

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Store a table under a file name that ends in `.parquet`."""
        if not name.endswith(".parquet"):
            raise TrackingError(f"a table is stored as parquet: its name must end in .parquet, got {name!r}")
        with self._file(name) as file:
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file, compression="zstd")

    def log_text(self, text: str, name: str) -> None:
        """Store a text under a file name."""
        with self._file(name) as file:
            file.write_text(text, encoding="utf-8")

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self._report("tags", {name: str(value) for name, value in values.items()})

    def register(self, name: str) -> RegisteredModel | None:
        """Register the model that the run has logged as the next version of `name`; None where that has to wait.

        Raises:
            TrackingError: the run has logged no model, or MLflow refuses the name.
        """
        self._report("register", {"name": name})
        return self.registered.get(name)

    def _log_model(
        self, model: Recommender, examples: Interactions | Part, metrics: Mapping[str, float], about: Mapping[str, Any]
    ) -> None:
        self._tell_epochs()
        if self._waits:
            self._catch_up()
        if not self._waits:
            began = time.monotonic()
            try:
                with (
                    _quiet(),
                    _bounded(FILE_TIMEOUT),
                    _refusals("cannot log the model", within=True),
                    _active(self.run_id),
                ):
                    _log_model(model, self.run_id, examples, metrics, about)
            except TrackingUnavailable:
                self._ask_later(time.monotonic() - began)
            else:
                return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, MODEL)
            path.mkdir()
            model.save(path / BUNDLE, metrics=metrics, about=about)
            _few(model, examples).to_parquet(path / _EXAMPLES)
            self._keep(Event("model", {}, path))

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Give a place to write a file, and store it."""
        path = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            yield file
            where = path.parent.as_posix()
            self._report("file", {"folder": None if where == "." else where}, file)

    def _report(self, kind: str, values: dict[str, Any], attachment: Path | None = None) -> None:
        if self._points:
            self._tell_epochs()
        event = Event(kind, values, attachment)
        if not self._waits:
            began = time.monotonic()
            try:
                self._send(event, again=False)
            except TrackingUnavailable:
                self._ask_later(time.monotonic() - began)
            else:
                return
        self._keep(event)
        self._catch_up()

    def _tell_epochs(self, *, keep: bool = False) -> None:
        """Send the epochs held back, in one batch; put them on disk instead if `keep`."""
        if not self._points:
            return
        values = {"points": self._points, "of_model": False, "resumed": self._resumed}
        self._points = []
        if keep:
            self._keep(Event("metrics", values))
            return
        began = time.monotonic()
        self._report("metrics", values)
        now = time.monotonic()
        self._tell_from = now + (now - began) / SHARE

    def _send(self, event: Event, *, again: bool) -> None:
        assert self._sender is not None  # what has no run yet waits
        registered = self._sender.send(event, again=again)
        if registered is not None:
            self.registered[registered.name] = registered

    def _keep(self, event: Event) -> None:
        """Put an event on disk."""
        self._wait()
        self._spool.add(event.kind, event.values, event.attachment)

    def _wait(self) -> None:
        """Begin a queue on disk."""
        if not self._waits:
            self._waits = True
            self._held.enter_context(locked(self._spool.lock))
            self._spool.write_header(self._header)

    def _ask_later(self, took: float) -> None:
        self._ask_from = time.monotonic() + max(1.0, took / SHARE)

    def _catch_up(self, *, last: bool = False) -> None:
        """Send what waits, if the store may be asked again; `last`, at the end of the run, asks in any case."""
        began = time.monotonic()
        if not last and began < self._ask_from:
            return
        budget = _LAST_SECONDS if last else TIMEOUT
        try:
            self._enter_run()
            for event, parts in _batches(self._spool):
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
            self._ask_later(time.monotonic() - began)

    def _enter_run(self) -> None:
        """Make the run known to the store, if it is not, and its parents before it."""
        if self._sender is not None:
            return
        if self._parent is not None:
            self._parent._enter_run()
        self._header["run_id"] = _create(self._header, self._root)
        self._sender = _Sender(self._header["run_id"])
        if self._waits:
            self._spool.write_header(self._header)

    def _finish(self, status: str, *, active: bool) -> None:
        """Say that the run has ended; `active` if it is MLflow's active run."""
        end = Event("end", {"status": status, "time": int(time.time() * 1000)})
        self._tell_epochs()
        if active and not self._waits:
            try:
                with _quiet(), _bounded(), _refusals(f"run {self.run_id} cannot end", within=True):
                    mlflow.end_run(status)
            except TrackingUnavailable:
                pass
            else:
                return
        self._keep(end)
        self._catch_up(last=True)
        run = mlflow.active_run() if active else None
        if run is not None and run.info.run_id == self.run_id:
            # MLflow forgets its active run as it tells the store of the end, whatever comes of that.
            with suppress(Exception), _quiet(), _bounded(1, knock=False):
                mlflow.end_run(status)


class _System:
    """The load of the machine, as MLflow's own monitor of system metrics names it."""

    def __init__(self) -> None:
        if find_spec("psutil") is None:
            raise TrackingError("system metrics need psutil: pip install psutil")
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._monitors = [CPUMonitor()]
        with suppress(Exception):  # no GPU, or not the library that asks it
            self._monitors.append(GPUMonitor())
        self.figures()  # the first figure is that since the start of the process

    def figures(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found


_CURRENT: ContextVar[MlflowTracker | None] = ContextVar("run", default=None)


@contextmanager
def start_run(
    experiment: str,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    root: Path | None = None,
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
        root: folder that holds `mlruns`, as in `configure`.
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
        system = _System() if system_metrics else None
        own = {**environment(root), **{name: str(value) for name, value in (tags or {}).items()}}
        tracker, active = _begin(experiment, run_name, own, root, resume, interrupted)
        stack.callback(tracker._held.close)
        tracker._system = system
        token = _CURRENT.set(tracker)
        status = "FAILED"
        try:
            yield tracker
            status = "FINISHED"
        finally:
            _CURRENT.reset(token)
            tracker._finish(status, active=active)
            if resume is not None and status == "FINISHED":
                resume.unlink(missing_ok=True)


def _begin(
    experiment: str,
    run_name: str | None,
    tags: dict[str, str],
    root: Path | None,
    resume: Path | None,
    interrupted: bool,
) -> tuple[MlflowTracker, bool]:
    """Return the tracker of a run that goes on or is new, and whether it is MLflow's active run."""
    parent = _CURRENT.get()
    place = _place(os.environ.get(_URI) or _local_uri(root))
    header = _interrupted(resume, place, root) if resume is not None and interrupted else None
    resumed = header is not None
    if header is None:
        header = {
            "key": uuid.uuid4().hex,
            "place": place,
            "experiment": experiment,
            "run_name": run_name,
            "tags": tags,
            "start_time": int(time.time() * 1000),
            "run_id": None,
            "parent": None if parent is None else parent._header["key"],
        }
    run, began = None, time.monotonic()
    try:
        if parent is not None and parent._sender is None:
            parent._catch_up()
        # A child begins after its parent, also where both begin late.
        if parent is None or parent._sender is not None:
            with _quiet(), _bounded(), _refusals(f"cannot start a run of experiment {experiment!r}"):
                uri = configure(root)
                if resumed and header["run_id"] is None:
                    header["run_id"] = _find(header, root)
                run = _start(header, uri, root, tags, parent)
    except TrackingUnavailable:
        pass
    if run is not None:
        resumed = resumed and header["run_id"] == run.info.run_id
        header["run_id"] = run.info.run_id
    tracker = MlflowTracker(header, root, parent, resumed)
    if run is None or tracker._spool.folder.exists():
        tracker._wait()
    if run is None:
        tracker._ask_later(time.monotonic() - began)
        if resumed:
            tracker.set_tags({**tags, "resumed": _now()})
    if resume is not None:
        resume.parent.mkdir(parents=True, exist_ok=True)
        resume.write_text(json.dumps(header), encoding="utf-8")
    return tracker, run is not None


def _start(
    header: dict[str, Any], uri: str, root: Path | None, tags: dict[str, str], parent: MlflowTracker | None
) -> Any:
    """Start a run as MLflow's active one: the one that the header names, if it is still there, or a new one."""
    nested = mlflow.active_run() is not None
    if header["run_id"] is not None:
        try:
            held = MlflowClient().get_run(header["run_id"])
            if held.info.lifecycle_stage == "active":
                return mlflow.start_run(header["run_id"], tags={**tags, "resumed": _now()}, nested=nested)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        # It was deleted since.
        header.update(key=uuid.uuid4().hex, run_id=None, start_time=int(time.time() * 1000), tags=tags)
    above = {} if parent is None else {_PARENT: parent.run_id}
    return mlflow.start_run(
        experiment_id=_experiment(header["experiment"], uri, root),
        run_name=header["run_name"],
        tags={**header["tags"], _KEY: header["key"], **above},
        nested=nested,
    )


def _interrupted(resume: Path, place: str, root: Path | None) -> dict[str, Any] | None:
    """Return the header of the run that a file names; None where there is none, or it is in another store."""
    try:
        header: dict[str, Any] = json.loads(resume.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if header.get("place") != place:
        return None
    spool = Spool(_pending(root) / header["key"])
    return spool.read_header() if spool.folder.exists() else header


def _create(header: dict[str, Any], root: Path | None) -> str:
    """Create the run of a header in the store, unless it is there already; return its id."""
    with _quiet(), _bounded(), _refusals(f"cannot create a run of experiment {header['experiment']!r}"):
        uri = configure(root)
        found = _find(header, root)
        if found is not None:
            return found
        tags = {**header["tags"], _KEY: header["key"]}
        if header["parent"] is not None:
            above = _find({**header, "key": header["parent"]}, root)
            tags |= {} if above is None else {_PARENT: above}
        created = MlflowClient().create_run(
            _experiment(header["experiment"], uri, root),
            start_time=header["start_time"],
            tags=resolve_tags(tags),
            run_name=header["run_name"],
        )
        run_id: str = created.info.run_id
        return run_id


def _find(header: dict[str, Any], root: Path | None) -> str | None:
    """Return the id of the run of a header; None where the store knows of none."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(header["experiment"])
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.`{_KEY}` = '{header['key']}'", max_results=1)
    return found[0].info.run_id if found else None


@contextmanager
def _active(run_id: str) -> Iterator[None]:
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


def sync(root: Path | None = None) -> list[Synced]:
    """Send what the store has not been told yet, run by run in the order of their starts.

    A run that cannot be sent does not keep the next one from it, unless the store does not answer.

    Args:
        root: folder that holds `mlruns`, as in `configure`.

    Raises:
        TrackingError: the store cannot be opened.
    """
    waiting = spools(_pending(root))
    if not waiting:
        return []
    with _bounded():
        configure(root)
    place = _place(mlflow.get_tracking_uri())
    return [_sync(spool, place, root) for spool in waiting]


def _sync(spool: Spool, place: str, root: Path | None) -> Synced:
    header = spool.read_header()
    name = header["run_name"] or header["key"][:8]
    try:
        with locked(spool.lock, wait=False):
            if not spool.folder.exists():  # its run has sent it meanwhile
                return Synced(name, header["run_id"], 0, 0)
            header = spool.read_header()
            if header["place"] != place:
                reason = f"it is of the store {header['place']}, and this is {place}; set {_URI}"
                return Synced(name, header["run_id"], 0, len(spool), reason)
            return _replay(spool, header, name, root)
    except BlockingIOError:
        return Synced(name, header["run_id"], 0, len(spool), "its run is still going on")


def _replay(spool: Spool, header: dict[str, Any], name: str, root: Path | None) -> Synced:
    sent, reason, registered = 0, "", []
    try:
        if header["run_id"] is None:
            header["run_id"] = _create(header, root)
            spool.write_header(header)
        sender = _Sender(header["run_id"])
        for event, parts in _batches(spool):
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
    return Synced(name, header["run_id"], sent, len(spool), reason, tuple(registered))


def _batches(spool: Spool) -> Iterator[tuple[Event, list[Event]]]:
    """Iterate over the events of a queue, those of metrics that follow each other as one; beside each its parts."""
    parts: list[Event] = []
    for event in chain(spool, [None]):
        kind = None if event is None else (event.kind, event.values.get("of_model"), event.values.get("resumed"))
        first = parts[0] if parts else None
        if first and (kind != ("metrics", first.values.get("of_model"), first.values.get("resumed"))):
            yield _joined(parts), parts
            parts = []
        if event is not None:
            parts.append(event)


def _joined(parts: list[Event]) -> Event:
    if len(parts) == 1:
        return parts[0]
    points = [point for part in parts for point in part.values["points"]]
    return Event("metrics", {**parts[0].values, "points": points}, id=parts[0].id)


def _place(uri: str) -> str:
    """Return a store's URI without the user and password that it may hold."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _points(values: Mapping[str, float], step: int = 0) -> list[list[Any]]:
    now = int(time.time() * 1000)
    return [[mlflow_name(name), float(value), now, step] for name, value in values.items()]


def _series(values: Mapping[str, float], *, of_model: bool = False) -> dict[str, Any]:
    return {"points": _points(values), "of_model": of_model, "resumed": False}


def _input(name: str, digest: str, profile: Mapping[str, Any], context: str) -> dict[str, Any]:
    return {
        "dataset": {
            "name": name,
            "digest": digest[:_DIGEST_LENGTH],  # MLflow's own digest skips most rows of a large table
            "source_type": "recsys",
            "source": json.dumps({"fingerprint": digest}),
            "profile": json.dumps(profile),
        },
        "context": context,
    }


def _digest(part: Part, items: IdMap) -> str:
    """Return a SHA-256 of a part's users and entries; `items` are those of its columns."""
    digest = hashlib.sha256()
    for matrix in (part.context, part.target):
        for array in (matrix.indptr.astype(np.int64), matrix.indices, matrix.data):
            digest.update(np.ascontiguousarray(array).tobytes() + b"|")
    for ids in (part.users, items):
        digest.update("\x1f".join(map(repr, ids.ids().tolist())).encode() + b"|")
    return digest.hexdigest()


def _few(model: Recommender, examples: Interactions | Part) -> pd.DataFrame:
    """Return the histories that a logged model's example shows, as a table; with one of ratings, if there is any."""
    assert model.items_ is not None  # log_model has looked
    matrix = examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context
    matrix = matrix.tocsr()
    rows = list(range(min(EXAMPLE_USERS, matrix.shape[0])))
    rated = np.flatnonzero(matrix.data != 1)
    if len(rated):
        rows.append(int(np.searchsorted(matrix.indptr, rated[0], side="right")) - 1)
    few = matrix[sorted(set(rows))].tocoo()
    users = examples.users.ids(np.asarray(sorted(set(rows))))
    return pd.DataFrame({USER: users[few.row], ITEM: model.items_.ids(few.col), RATING: few.data})


def _experiment(name: str, uri: str, root: Path | None) -> str:
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        # Only our own store needs telling where artifacts go; any other has its own place for them.
        place = (home(root) / "artifacts").as_uri() if uri == _local_uri(root) else None
        try:
            created: str = client.create_experiment(name, artifact_location=place)
            return created
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} was deleted; restore it in MLflow or choose another name")
    experiment_id: str = found.experiment_id
    return experiment_id


def environment(root: Path | None = None) -> dict[str, str]:
    """Return what a run depends on besides its inputs: git commit, Python, libraries, platform and device.

    Args:
        root: a folder of the git checkout, if it is one; the working directory by default.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": str(os.cpu_count()),
        **{f"version.{name}": _version(name) for name in _LIBRARIES},
    }
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        found["git.commit"] = commit
        found["git.dirty"] = str(bool(_git(root, "status", "--porcelain"))).lower()
    return found


def _git(root: Path | None, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", *command], cwd=root or Path.cwd(), capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model."""

    name: str
    version: int
    uri: str
    """`models:/NAME/VERSION`."""
    run_id: str | None
    """The run that logged it."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promotion:
    """What a promotion did."""

    name: str
    version: int
    alias: str
    previous: int | None
    """The version that held the alias before; None where none did."""
    uri: str
    """`models:/NAME@ALIAS`."""


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
        about: JSON values that say where the model comes from; the run id is added.

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
    tracker._log_model(model, examples, metrics or {}, about or {})
    if metrics:
        tracker._report("metrics", _series(metrics, of_model=True))
    return None if name is None else tracker.register(name)


def _log_model(
    model: Recommender,
    run_id: str,
    examples: Interactions | Part,
    metrics: Mapping[str, float],
    about: Mapping[str, Any],
) -> None:
    assert model.items_ is not None  # log_model has looked
    matrix = examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context
    rated = bool((matrix.data != 1).any())
    few = matrix[:EXAMPLE_USERS]
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, BUNDLE)
        model.save(bundle, metrics=metrics, about={**about, "run_id": run_id})
        package = Path(__file__).parent
        with _same_path():
            mlflow.pyfunc.log_model(
                name=MODEL,
                python_model=str(package / "pyfunc_model.py"),
                artifacts={BUNDLE: str(bundle)},
                signature=_signature(rated),
                input_example=(
                    _example(few, examples.users.ids(np.arange(few.shape[0])), model.items_, rated),
                    dict(_PARAMS),
                ),
                pip_requirements=[f"{library}=={_version(library).partition('+')[0]}" for library in _REQUIREMENTS],
                code_paths=[str(package)],
                tags={"model": type(model).__name__},
            )


def register(run_id: str, name: str) -> RegisteredModel:
    """Register the model that a run has logged as the next version of `name`.

    Raises:
        TrackingError: no such run, it has logged no model, or MLflow refuses the name.
    """
    with _quiet(), _refusals(f"cannot register {name!r}"):
        client = _client()
        model_id = _logged_models(client, run_id).get(MODEL)
        if model_id is None:
            raise TrackingError(f"run {run_id} has logged no model to register as {name!r}; call log_model first")
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={k: v for k, v in client.get_logged_model(model_id).tags.items() if not k.startswith("mlflow.")},
        )
    return _registered(version)


def _logged_models(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Return the ids of the models that a run has logged, by name; of one name the latest."""
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    models = sorted((client.get_logged_model(model_id) for model_id in ids), key=lambda model: model.creation_timestamp)
    return {model.name: model.model_id for model in models}


@contextmanager
def _same_path() -> Iterator[None]:
    """Undo what MLflow adds to `sys.path` when it tries a model: the folder is gone afterwards."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path


def _signature(rated: bool) -> ModelSignature:
    columns = [ColSpec(DataType.string, USER), ColSpec(Array(DataType.string), "items")]
    if rated:
        # Of doubles MLflow would refuse [5], which is how JSON often has [5.0]; the model looks at the values itself.
        columns.append(ColSpec(Array(AnyType()), "ratings"))
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                ColSpec(DataType.string, USER),
                ColSpec(Array(DataType.string), "items"),
                ColSpec(Array(DataType.float), "scores"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("n", DataType.long, _PARAMS["n"]),
                ParamSpec("exclude_seen", DataType.boolean, _PARAMS["exclude_seen"]),
                ParamSpec("items", DataType.string, _PARAMS["items"], shape=(-1,)),
            ]
        ),
    )


def _example(histories: sp.csr_matrix, users: npt.NDArray[Any], items: IdMap, rated: bool) -> pd.DataFrame:
    rows = [slice(start, stop) for start, stop in pairwise(histories.indptr)]
    frame = pd.DataFrame(
        {
            USER: [str(user) for user in users],
            "items": [[str(item) for item in items.ids(histories.indices[row])] for row in rows],
        }
    )
    if rated:
        frame["ratings"] = [histories.data[row].tolist() for row in rows]
    return frame


class RecommendationModel(PythonModel):  # type: ignore[misc]
    """A bundle served by MLflow: a table of histories in, a table of recommendations out, one row per user.

    Input columns: `user_id`; `items`, the list of items of the user's history; `ratings`, their values, for models of
    ratings only (elsewhere each item counts 1). Ids are text, integers written plainly. Items that the model does not
    know are left out: no model can read them. Of an item listed twice, the last counts. Users unknown to the model are
    served from their history.

    Output columns: `user_id`, `items` and `scores`, best first; lists are shorter than `n` where candidates run out.

    What is wrong with a request is an MlflowException of code INVALID_PARAMETER_VALUE, which MLflow's server answers by
    400 with the reason. Columns and parameters beyond the signature's MLflow itself leaves out, with a warning.
    """

    def load_context(self, context: Any) -> None:
        """Read the bundle.

        Raises:
            BundleError: it is damaged, holds no ids, or a pickle was put beside it.
        """
        bundle = Path(context.artifacts[BUNDLE])
        _refuse_pickles(bundle.parents[1])
        self._model = load_bundle(bundle)
        users, items = self._model.users_, self._model.items_
        if users is None or items is None:
            raise BundleError(f"{bundle} holds no ids; log models fitted on Interactions")
        # An IdMap makes an index of what it is asked, which costs more than the few look-ups of a request.
        self._users, self._items = ({str(id_): code for code, id_ in enumerate(ids)} for ids in (users, items))
        self._names = np.fromiter(self._items, dtype=object, count=len(self._items))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the recommendations of each row's history.

        Args:
            params: `n`, the length of the lists (10); `exclude_seen`, never to return an item of the history (True);
                `items`, to rank only these, of which unknown ones are left out ([]: all items).

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE.
        """
        try:
            return self._recommend(model_input, {**_PARAMS, **(params or {})})
        except RecsysError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _recommend(self, asked: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        n = params["n"]
        if not isinstance(n, Integral) or n < 1:
            raise DataError(f"n must be a whole number of at least 1, got {n!r}")
        if not isinstance(params["exclude_seen"], bool):
            raise DataError(f"exclude_seen must be true or false, got {params['exclude_seen']!r}")
        among = None
        if len(params["items"]):
            codes = (self._items.get(item, -1) for item in _texts(params["items"], "the parameter items"))
            among = np.unique([code for code in codes if code >= 0]).astype(np.int64)
        users = _texts(asked[USER], USER)
        ids, scores = self._model.recommend(
            np.array([self._users.get(user, -1) for user in users], dtype=np.int64),
            self._histories(asked),
            N=min(int(n), len(self._items)),
            filter_already_liked_items=params["exclude_seen"],
            items=among,
        )
        lengths = (ids >= 0).sum(axis=1)
        return pd.DataFrame(
            {
                USER: users,
                "items": [self._names[row[:n]].tolist() for row, n in zip(ids, lengths, strict=True)],
                "scores": [row[:n].tolist() for row, n in zip(scores, lengths, strict=True)],
            }
        )

    def _histories(self, frame: pd.DataFrame) -> sp.csr_matrix:
        lists = [list(items) for items in frame["items"]]
        flat = _texts(chain.from_iterable(lists), "items")
        codes = np.array([self._items.get(item, -1) for item in flat], dtype=np.int64)
        rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        values = np.ones(len(codes), dtype=np.float32)
        if "ratings" in frame:
            ratings = [[] if row is None else list(row) for row in frame["ratings"]]
            if [len(row) for row in ratings] != [len(items) for items in lists]:
                raise DataError("each row must hold as many ratings as items")
            values = _numbers(chain.from_iterable(ratings))
        known = codes >= 0
        rows, codes, values = rows[known], codes[known], values[known]
        cell = rows * len(self._items) + codes
        # The first of the reversed order is the last that was listed.
        picked = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
        indptr = np.append(0, np.cumsum(np.bincount(rows[picked], minlength=len(lists))))
        shape = len(lists), len(self._items)
        return sp.csr_matrix((values[picked], codes[picked].astype(np.int32), indptr), shape=shape)


def _texts(values: Iterable[Any], what: str) -> list[str]:
    texts = list(values)
    for value in texts:
        if not isinstance(value, str):
            raise DataError(f"{what} must be text, integers written plainly such as '42', got {value!r}")
    return texts


def _numbers(values: Iterable[Any]) -> npt.NDArray[np.float32]:
    numbers = list(values)
    largest = np.finfo(np.float32).max
    for value in numbers:
        numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not numeric or not abs(value) <= largest:
            raise DataError(f"ratings must be finite numbers, got {value!r}")
    return np.asarray(numbers, dtype=np.float32)


def _refuse_pickles(folder: Path) -> None:
    """Refuse the folder of a logged model into which a pickle was put: none is ever logged.

    Raises:
        BundleError: there is one.
    """
    found = [file.name for file in sorted(folder.iterdir()) if file.suffix in _PICKLES]
    if found:
        raise BundleError(
            f"{folder} holds {', '.join(found)}: models are logged without pickles, so it was put there later; "
            "it was not read, and neither was the model"
        )


def set_pyfunc_model() -> None:
    """Hand `RecommendationModel` to MLflow, which runs `pyfunc_model.py` to find the model."""
    mlflow.models.set_model(RecommendationModel())


def model_versions(name: str) -> list[RegisteredModel]:
    """Return the versions of a registered model, newest first.

    Raises:
        TrackingError: no such model.
    """
    with _quiet(), _refusals(f"cannot read the registry about {name!r}"):
        client = _client()
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = [model.name for model in client.search_registered_models()]
            raise TrackingError(
                f"no model {name!r} is registered{did_you_mean(name, known) if known else ', nor any other'}"
            ) from None
        found = client.search_model_versions(f"name = '{name}'")
    versions = [_registered(version, aliases) for version in found]
    return sorted(versions, key=lambda version: version.version, reverse=True)


def registered_names() -> list[str]:
    """Return the names of all registered models, in order."""
    with _quiet(), _refusals("cannot read the registry"):
        return sorted(model.name for model in _client().search_registered_models())


def version_facts(name: str, version: int) -> dict[str, Any]:
    """Return `version, aliases, created, run, description, tags` of a version and `params, metrics` of its run.

    Raises:
        TrackingError: no such model or version.
    """
    found = _pick(name, version=version)
    with _quiet(), _refusals(f"cannot read version {version} of {name!r}"):
        client = _client()
        held = client.get_model_version(name, str(version))
        run = None
        if found.run_id:
            with suppress(MlflowException):  # a run may have been deleted since
                run = client.get_run(found.run_id)
    created = datetime.fromtimestamp(held.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    return {
        "version": version,
        "aliases": list(found.aliases),
        "created": created,
        "run": found.run_id,
        "description": held.description or "",
        "tags": dict(held.tags),
        "params": dict(run.data.params) if run else {},
        "metrics": dict(run.data.metrics) if run else {},
    }


def delete_version(name: str, version: int) -> None:
    """Delete a version from the registry; its run and what the run logged stay.

    Raises:
        TrackingError: it holds an alias, or MLflow refuses.
    """
    found = _pick(name, version=version)
    if found.aliases:
        raise TrackingError(f"version {version} of {name!r} is {', '.join(found.aliases)}; move the alias first")
    with _quiet(), _refusals(f"cannot delete version {version} of {name!r}"):
        _client().delete_model_version(name, str(version))


def versions_if_any(name: str) -> list[RegisteredModel]:
    """Return the versions of a registered model, newest first; none where no model of that name is registered."""
    return model_versions(name) if name in registered_names() else []


def _registered(found: Any, aliases: Mapping[str, Any] | None = None) -> RegisteredModel:
    version = int(found.version)
    return RegisteredModel(
        name=found.name,
        version=version,
        uri=f"models:/{found.name}/{version}",
        run_id=found.run_id or None,
        aliases=tuple(sorted(alias for alias, held in (aliases or {}).items() if int(held) == version)),
    )


def _pick(name: str, *, version: int | None = None, alias: str | None = None) -> RegisteredModel:
    versions = model_versions(name)
    for found in versions:
        if found.version == version or alias in found.aliases:
            return found
    aliases = ", ".join(f"{alias} ({found.version})" for found in versions for alias in found.aliases)
    asked = f"version {version}" if version is not None else f"alias {alias!r}"
    raise TrackingError(
        f"model {name!r} has no {asked}; versions: {', '.join(str(found.version) for found in versions) or 'none'}; "
        f"aliases: {aliases or 'none'}"
    )


def promote(
    name: str,
    version: int | None = None,
    alias: str = "champion",
    reason: str = "",
    *,
    instead_of: int | Literal["any"] | None = "any",
    note: str = "",
    tags: Mapping[str, Any] | None = None,
) -> Promotion:
    """Give the alias to a version, and tag that version with the reason, the time and the previous holder.

    Promoting the version that already holds the alias changes nothing. The tags are written first, so that an alias
    that has moved always says from where.

    Args:
        name: of the registered model.
        version: the latest by default.
        alias: letters, digits, `_` and `-`; jobs score with `models:/NAME@champion`.
        instead_of: the version that must hold the alias still, None for no version; `any` does not look.
        note: Markdown for the version's description.
        tags: further tags of the version, named after the alias.

    Raises:
        TrackingError: no such model or version, another version holds the alias, or MLflow refuses the alias.
    """
    versions = model_versions(name)
    if not versions:
        raise TrackingError(f"model {name!r} has no versions")
    chosen = versions[0] if version is None else _pick(name, version=version)
    previous = next((found.version for found in versions if alias in found.aliases), None)
    if instead_of != "any" and previous != instead_of:
        raise TrackingError(
            f"{alias!r} of {name!r} is held by {_spoken(previous)} and no longer by {_spoken(instead_of)}: another "
            "promotion was faster; hold the challenger against the new one"
        )
    if previous != chosen.version:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        annotate(
            name,
            chosen.version,
            {**(tags or {}), "reason": reason, "previous": previous or "", "at": at},
            alias=alias,
            note=note,
        )
        with _quiet(), _refusals(f"cannot give {alias!r} to version {chosen.version} of {name!r}"):
            MlflowClient().set_registered_model_alias(name, alias, str(chosen.version))
    return Promotion(name, chosen.version, alias, previous, f"models:/{name}@{alias}")


def annotate(name: str, version: int, tags: Mapping[str, Any], *, alias: str = "champion", note: str = "") -> None:
    """Tag a version, `<alias>_<tag>` each, and append a note to its description.

    Raises:
        TrackingError: no such model or version, or MLflow refuses.
    """
    with _quiet(), _refusals(f"cannot tag version {version} of {name!r}"):
        client = _client()
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), f"{alias}_{tag}", str(value))
        if note:
            before = client.get_model_version(name, str(version)).description or ""
            client.update_model_version(name, str(version), f"{before}\n\n{note}".strip())


def version_tags(name: str, version: int) -> dict[str, str]:
    """Return the tags of a version.

    Raises:
        TrackingError: no such model or version.
    """
    with _quiet(), _refusals(f"cannot read version {version} of {name!r}"):
        return dict(_client().get_model_version(name, str(version)).tags)


def rollback(name: str, alias: str = "champion") -> Promotion:
    """Give the alias back to the version that held it before the last promotion.

    Raises:
        TrackingError: no such model or alias, or its holder was the first.
    """
    holder = _pick(name, alias=alias)
    before = version_tags(name, holder.version).get(f"{alias}_previous", "")
    if not before:
        raise TrackingError(f"version {holder.version} of {name!r} was the first {alias}: there is none to go back to")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with _quiet(), _refusals(f"cannot give {alias!r} back to version {before} of {name!r}"):
        client = _client()
        client.get_model_version(name, before)  # it may have been deleted since
        client.set_model_version_tag(name, str(holder.version), f"{alias}_rolled_back", at)
        client.set_registered_model_alias(name, alias, before)
    return Promotion(name, int(before), alias, holder.version, f"models:/{name}@{alias}")


def _spoken(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def pin(uri: str | Path) -> str:
    """Return an address that stays: `models:/NAME/VERSION` for an alias, an absolute path for a folder.

    Raises:
        TrackingError: no such model or alias.
    """
    text = str(uri)
    name, at, alias = text.removeprefix("models:/").partition("@")
    if text.startswith("models:/") and at:
        return _pick(name, alias=alias).uri
    return text if text.startswith(("models:/", "runs:/")) else str(Path(text).absolute())


def resolve(uri: str | Path) -> Path:
    """Return the local folder of a model's bundle, fetching it where the store is remote.

    Args:
        uri: a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/RUN_ID/model`.

    Raises:
        TrackingError: no such model, version, alias or run; the message says what there is.
        BundleError: the folder holds no bundle, or a pickle beside it.
    """
    text = str(uri)
    if text.startswith("models:/"):
        name, _, version = pin(text).removeprefix("models:/").partition("/")
        if not version.isdecimal():
            raise TrackingError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {text!r}")
        folder = _model_folder(_pick(name, version=int(version)).uri)
    elif text.startswith("runs:/"):
        folder = _run_folder(text)
    else:
        folder = Path(text)
    for candidate in (folder, folder / "artifacts" / BUNDLE):
        if (candidate / "config.json").is_file():
            if candidate != folder:
                _refuse_pickles(folder)
            return candidate
    raise BundleError(f"{text} holds no saved model" + ("" if folder.exists() else f": {folder} does not exist"))


def _model_folder(uri: str) -> Path:
    with _quiet(), _refusals(f"cannot fetch {uri}"):
        return Path(mlflow.artifacts.download_artifacts(uri))


def _run_folder(uri: str) -> Path:
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    with _quiet(), _refusals(f"cannot fetch {uri}"):
        client = _client()
        run = client.get_run(run_id)
        # Asked by run and name, MLflow would copy the model to a temporary folder; by its id it gives the folder.
        models = _logged_models(client, run_id)
        if path in models:
            return _model_folder(f"models:/{models[path]}")
        files = [file.path for file in client.list_artifacts(run_id)]
        if not path or path.split("/")[0] not in files:
            known = ", ".join([*models, *files]) or "nothing"
            raise TrackingError(f"run {run_id} holds no {path!r}; it holds {known}")
        return Path(mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/{path}"))


def load(uri: str | Path) -> Recommender:
    """Read a model from wherever `resolve` finds it, natively: without MLflow's checks of each input row.

    Raises:
        TrackingError: no such model, version, alias or run.
        BundleError: what is there is no bundle, damaged, or of a newer schema.
    """
    return load_bundle(resolve(uri))


def address(run_id: str, name: str) -> str:
    """Return where an artifact of a run lies: its file, or its URI in a store that is elsewhere.

    Raises:
        TrackingError: no such run.
    """
    with _quiet(), _refusals(f"cannot find run {run_id}"):
        uri = f"{_client().get_run(run_id).info.artifact_uri}/{name}"
    parts = urlsplit(uri)
    return url2pathname(parts.path) if parts.scheme == "file" else uri


@contextmanager
def _refusals(what: str, *, within: bool = False) -> Iterator[None]:
    """Turn errors of MLflow and of what it asks into ours.

    Args:
        within: a run, which also a store that has lost it, or the right to write, must not stop.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    try:
        yield
    except MlflowException as error:
        away = _is_away(error) or (within and error.error_code in _NOT_NOW)
        raise (TrackingUnavailable if away else TrackingError)(f"{what}: {error.message}") from error
    except sqlalchemy.exc.OperationalError as error:
        raise TrackingUnavailable(f"{what}: {error.orig}") from error
    except OSError as error:
        if not _remote():
            raise
        status = getattr(getattr(error, "response", None), "status_code", 500)  # of requests' HTTPError
        away = status >= 500 or status == 429 or (within and status in (401, 403, 404))
        raise (TrackingUnavailable if away else TrackingError)(f"{what}: {error}") from error


def _is_away(error: MlflowException) -> bool:
    if error.error_code in _AWAY:
        return True
    if urlsplit(mlflow.get_tracking_uri()).scheme in ("http", "https"):
        return bool(error.get_http_status_code() >= 500)
    return isinstance(error.__cause__, sqlalchemy.exc.OperationalError)


def _remote() -> bool:
    parts = urlsplit(mlflow.get_tracking_uri())
    return bool(parts.netloc) and parts.scheme not in ("sqlite", "file")


def _knock() -> None:
    """Refuse a database server that nobody answers for: MLflow would try for many minutes."""
    parts = urlsplit(mlflow.get_tracking_uri())
    port = _PORTS.get(parts.scheme.partition("+")[0])
    if port is None or not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), timeout=TIMEOUT).close()
    except OSError as error:
        raise TrackingUnavailable(f"{_place(mlflow.get_tracking_uri())} does not answer: {error}") from error


@contextmanager
def _bounded(seconds: int = TIMEOUT, *, knock: bool = True) -> Iterator[None]:
    """Let MLflow ask its store once and wait this long in the block; what the environment says goes before.

    MLflow's log says nothing then, as what went wrong is ours to say.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    attempts = database.MAX_RETRY_COUNT
    logger = logging.getLogger("mlflow")
    level = logger.level
    os.environ.update(added)
    try:
        logger.setLevel(logging.CRITICAL)
        if _remote():
            database.MAX_RETRY_COUNT = 1
            if knock:
                _knock()
        yield
    finally:
        logger.setLevel(level)
        database.MAX_RETRY_COUNT = attempts
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow and alembic from reporting what is not for our caller, for as long as our call takes."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    bars = os.environ.get(_BARS)
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        os.environ.setdefault(_BARS, "false")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow's own code and of the libraries that it calls
            yield
    finally:
        if bars is None:
            os.environ.pop(_BARS, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
