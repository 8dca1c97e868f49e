"""What a job reports to: a tracker turns reports into events, and an outbox takes them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys.errors import TrackingError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.splits import Part, Split
from recsys.tracking._mlflow import Load
from recsys.tracking.events import Event, File, Inputs, Metrics, Params, Point, Register, Tags
from recsys.tracking.outbox import Outbox
from recsys.tracking.registry import RegisteredModel
from recsys.tracking.runs import milliseconds
from recsys.tracking.store import connect, request
from recsys.training import Record

_DIGEST_LENGTH = 36  # MLflow refuses longer digests of data sets


@dataclass
class Tracker:
    """Reports of a run; `Tracker()` records nothing, `start_run` gives one that does.

    A store that does not answer costs the run nothing but some time, bounded by TIMEOUT and SHARE: reports wait on
    disk, in order, and are sent with a later report, at the end of the run or by `sync`. A report that the store
    refuses raises TrackingError.
    """

    sink: Outbox | None = None
    """Sends the reports."""
    resumed: bool = field(default=False, kw_only=True)
    """The run was resumed, and what it has is not recorded again."""
    load: Load | None = field(default=None, kw_only=True)
    """Records the machine's load with each epoch."""

    @property
    def run_id(self) -> str | None:
        """Id of the run, `local-...` until the store has created it; None if nothing is recorded."""
        return None if self.sink is None else self.sink.run_id

    @property
    def registered(self) -> Mapping[str, RegisteredModel]:
        """The versions that the run has registered, by name."""
        return {} if self.sink is None else self.sink.registered

    @property
    def waiting(self) -> Path | None:
        """Folder of the reports that the store has not received; None if it has all."""
        return None if self.sink is None else self.sink.waiting

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names; the value of a parameter cannot change later."""
        texts = {mlflow_name(name): str(value) for name, value in flatten(values).items()}
        self._take(Params(values=texts, resumed=self.resumed))

    def log_inputs(self, params: Mapping[str, Any], data: Interactions, context: str, split: Split) -> None:
        """Record parameters, data and parts as `log_params`, `log_data` and `log_parts` do, in two reports for all."""
        size, whole = _described(data, context)
        self.log_params({**params, "data": size})
        self._take(Inputs(inputs=[whole, *_parts(split)]))

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record size and fingerprint of the data, as parameters and as a data set of the run."""
        size, whole = _described(data, context)
        self.log_params({"data": size})
        self._take(Inputs(inputs=[whole]))

    def log_parts(self, split: Split) -> None:
        """Record the training, validation and test part as data sets of the run, each with its digest."""
        self._take(Inputs(inputs=_parts(split)))

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Record one epoch of a training record, as step `entry["epoch"]` of its series.

        Validation figures are named `epoch_<metric>`, because MLflow shows a metric's last step: under one name the
        series would hide the figure that `log_metrics` records. Epochs are sent in batches if sending is slow.
        """
        figures = {
            name if name in ("loss", "seconds") else f"epoch_{name}": value
            for name, value in entry.items()
            if name != "epoch"
        }
        if self.load:
            figures |= self.load.figures()
        if self.sink is not None:
            self.sink.take_later(Metrics(points=_points(figures, int(entry["epoch"])), resumed=self.resumed))

    def log_best(self, record: Record) -> None:
        """Record `best_epoch` and the figures of that epoch as `best_<metric>`; nothing if there was none to choose."""
        if record.best_epoch is None or len(record.epochs) == 1:
            return
        entry = next(entry for entry in record.epochs if int(entry["epoch"]) == record.best_epoch)
        figures = {f"best_{name}": value for name, value in entry.items() if name not in ("epoch", "seconds")}
        points = _points({"best_epoch": float(record.best_epoch), **figures})
        self._take(Metrics(points=points, resumed=self.resumed))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run, and of the model that it has logged."""
        self._take(Metrics(points=_points(values), of_model=True, resumed=self.resumed))

    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure under a file name such as `learning_curve.png`."""
        with self._file(name) as file:
            figure.savefig(file)

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Store a table under a file name that ends in `.parquet`."""
        if not name.endswith(".parquet"):
            raise TrackingError(f"a table is stored as parquet: its name must end in .parquet, got {name!r}")
        with self._file(name) as file:
            frame.to_parquet(file, index=False, compression="zstd")

    def log_text(self, text: str, name: str) -> None:
        """Store a text under a file name."""
        with self._file(name) as file:
            file.write_text(text, encoding="utf-8")

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self._take(Tags(values={name: str(value) for name, value in values.items()}))

    def register(self, name: str) -> RegisteredModel | None:
        """Register the run's logged model as the next version of `name`; None if that has to wait.

        Raises:
            TrackingError: the run has logged no model, or MLflow refuses the name.
        """
        self._take(Register(name=name, resumed=self.resumed))
        return self.registered.get(name)

    def _take(self, event: Event) -> None:
        if self.sink is not None:
            self.sink.take(event)

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Give a path to write a file to, and store the file."""
        path = Path(name)
        with tempfile.TemporaryDirectory() if self.sink is None else self.sink.scratch() as folder:
            file = Path(folder, path.name)
            yield file
            parent = path.parent.as_posix()
            self._take(File(folder=None if parent == "." else parent, attachment=file))


def mlflow_name(name: str) -> str:
    """Return the name of a metric or parameter in MLflow, which refuses `@`: `ndcg@10` becomes `ndcg_at_10`."""
    return name.replace("@", "_at_")


def flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping with dotted names: `{"model": {"hidden": 500}}` becomes `{"model.hidden": 500}`.

    A list of mappings, such as the parts of a blend, gives them their numbers as names.
    """
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
            value = {str(place): inner for place, inner in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[str(name)] = value
    return flat


def data_set(name: str, digest: str, profile: Mapping[str, Any], context: str) -> dict[str, Any]:
    """Return a data set as an input of a run; `context` is its use, such as `training`."""
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


def _described(data: Interactions, context: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return size and fingerprint of the data as parameters, and as a data set of a run."""
    summary = data.summary()
    size = {key: summary[key] for key in ("users", "items", "interactions", "fingerprint")}
    return size, data_set("interactions", summary["fingerprint"], summary, context)


def _parts(split: Split) -> list[dict[str, Any]]:
    """Return the parts of a split as data sets of a run."""
    summary = split.train.summary()
    inputs = [data_set("train", summary["fingerprint"], summary, "training")]
    for name, part in (("validation", split.validation), ("test", split.test)):
        if part is not None:
            sizes = {"users": len(part.users), "context": part.context.nnz, "target": part.target.nnz}
            inputs.append(data_set(name, digest(part, split.train.items), sizes, name))
    return inputs


def digest(part: Part, items: IdMap) -> str:
    """Return a SHA-256 of a part's users and entries; `items` are the ids of its columns."""
    sha = hashlib.sha256()
    for matrix in (part.context, part.target):
        for array in (matrix.indptr.astype(np.int64), matrix.indices, matrix.data):
            sha.update(np.ascontiguousarray(array).tobytes() + b"|")
    for ids in (part.users, items):
        sha.update("\x1f".join(map(repr, ids.ids().tolist())).encode() + b"|")
    return sha.hexdigest()


def test_figures(run_id: str, split: Split, metrics: Sequence[str], min_relevance: float | None) -> dict[str, float]:
    """Return those of the metrics that a run has recorded on the same test part; empty where it had another.

    Args:
        min_relevance: of `evaluate`; a run with another one has measured something else.

    Raises:
        TrackingError: no such run.
    """
    with request(f"cannot read run {run_id}"):
        run = connect().get_run(run_id)
    tested = digest(split.test, split.train.items)[:_DIGEST_LENGTH]
    parts = {found.dataset.name: found.dataset.digest for found in (run.inputs.dataset_inputs if run.inputs else [])}
    relevant = run.data.params.get("config.evaluate.min_relevance")
    if parts.get("test") != tested or relevant != (None if min_relevance is None else str(min_relevance)):
        return {}
    recorded = {name: run.data.metrics.get(f"test/{mlflow_name(name)}") for name in metrics}
    return {name: float(value) for name, value in recorded.items() if value is not None}


def _points(values: Mapping[str, float], step: int = 0) -> list[Point]:
    """Return figures measured now as points of series."""
    now = milliseconds()
    return [[mlflow_name(name), float(value), now, step] for name, value in values.items()]
