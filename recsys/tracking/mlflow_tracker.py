"""A tracker of one MLflow run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import TrackingError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Part, Split
from recsys.spool import Event
from recsys.tracking import events
from recsys.tracking.machine import Load
from recsys.tracking.outbox import SHARE, Outbox
from recsys.tracking.registry import RegisteredModel
from recsys.training import Record

_MEMORY_SECONDS = 5.0  # what waits longer waits on disk


class MlflowTracker:
    """A tracker of one MLflow run. What its store refuses is a TrackingError.

    A store that does not answer costs the block nothing but some time, bounded by TIMEOUT and SHARE: what it should
    have been told waits on disk, in order, and is sent with a later report, at the end of the run or by `sync`.
    """

    def __init__(self, outbox: Outbox, *, resumed: bool, load: Load | None = None) -> None:
        self.outbox = outbox
        """The way to the store."""
        self._resumed, self._load = resumed, load
        self._points: list[list[Any]] = []
        self._tell_from = 0.0

    @property
    def run_id(self) -> str:
        """Id of the run; `local-...` while the store does not know of it."""
        return self.outbox.header.run_id or f"local-{self.outbox.header.key}"

    @property
    def registered(self) -> dict[str, RegisteredModel]:
        """What the run has registered, by name."""
        return self.outbox.registered

    @property
    def waiting(self) -> Path | None:
        """The folder of what the store has not been told yet; None where it knows everything."""
        return self.outbox.waiting

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names; a parameter cannot change its value later."""
        self._report(events.params(values, resumed=self._resumed))

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record the size and fingerprint of the data, as parameters and as the run's data set."""
        summary = data.summary()
        described = ("users", "items", "interactions", "fingerprint")
        self.log_params({"data": {what: summary[what] for what in described}})
        self._report(events.inputs([events.data_set("interactions", summary["fingerprint"], summary, context)]))

    def log_parts(self, split: Split) -> None:
        """Record the training, validation and test part as data sets of the run, each with its digest."""
        whole = split.train.summary()
        inputs = [events.data_set("train", whole["fingerprint"], whole, "training")]
        for name, part in (("validation", split.validation), ("test", split.test)):
            if part is not None:
                sizes = {"users": len(part.users), "context": part.context.nnz, "target": part.target.nnz}
                inputs.append(events.data_set(name, events.digest(part, split.train.items), sizes, name))
        self._report(events.inputs(inputs))

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
        if self._load:
            figures |= self._load.figures()
        self._points += events.points(figures, step=int(entry["epoch"]))
        now = time.monotonic()
        if now >= self._tell_from:
            self._tell_epochs()
        elif self._points and self._tell_from - now > _MEMORY_SECONDS:
            self.outbox.keep(self._epochs())

    def log_best(self, record: Record) -> None:
        """Record `best_epoch`, and each figure of that epoch as `best_<metric>`; nothing where none was chosen."""
        if record.best_epoch is None:
            return
        entry = next(entry for entry in record.epochs if int(entry["epoch"]) == record.best_epoch)
        figures = {f"best_{name}": value for name, value in entry.items() if name not in ("epoch", "seconds")}
        self._report(events.metrics(events.points({"best_epoch": float(record.best_epoch), **figures})))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run, and of the model that it has logged."""
        self._report(events.metrics(events.points(values), of_model=True))

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
        self._report(events.tags(values))

    def log_model(
        self, model: Recommender, examples: Interactions | Part, metrics: Mapping[str, float], about: Mapping[str, Any]
    ) -> None:
        """Log a model that knows its ids; see `recsys.tracking.log_model`."""
        self._tell_epochs()
        self.outbox.tell_model(model, examples, metrics, about)

    def register(self, name: str) -> RegisteredModel | None:
        """Register the model that the run has logged as the next version of `name`; None where that has to wait.

        Raises:
            TrackingError: the run has logged no model, or MLflow refuses the name.
        """
        self._report(events.register(name))
        return self.registered.get(name)

    def end(self, status: str, *, active: bool) -> None:
        """Say that the run has ended; `active` if it is MLflow's active run."""
        event = events.end(status)
        self._tell_epochs()
        self.outbox.tell_end(event, active=active)

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Give a place to write a file, and store it."""
        path = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            yield file
            where = path.parent.as_posix()
            self._report(events.file(file, None if where == "." else where))

    def _report(self, event: Event) -> None:
        self._tell_epochs()
        self.outbox.tell(event)

    def _tell_epochs(self) -> None:
        """Send the epochs held back, in one batch."""
        if self._points:
            began = time.monotonic()
            self.outbox.tell(self._epochs())
            now = time.monotonic()
            self._tell_from = now + (now - began) / SHARE

    def _epochs(self) -> Event:
        points, self._points = self._points, []
        return events.metrics(points, resumed=self._resumed)
