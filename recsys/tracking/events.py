"""What a run reports, as typed events: each has a JSON form for the spool and knows how to send itself to a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

from recsys.errors import TrackingError
from recsys.spool import Entry, Spool
from recsys.tracking import runs
from recsys.tracking._mlflow import MlflowClient, entities, mlflow
from recsys.tracking.home import remove_half_uploads
from recsys.tracking.registry import MODEL, RegisteredModel, logged_models, register, registered_by
from recsys.tracking.store import FILE_TIMEOUT, TIMEOUT, is_remote, request

Point = list[Any]
"""Name, value, time in milliseconds and step of a metric."""
KINDS: dict[str, type[Event]] = {}
"""The events by their names in a spool, which later versions must be able to read."""


@dataclass(frozen=True, kw_only=True)
class Event(ABC):
    """A report of a run."""

    kind: ClassVar[str]
    attachment: Path | None = None
    """File or folder that belongs to the event."""

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        KINDS[kind] = cls

    @abstractmethod
    def send(self, sender: Sender, retry: bool) -> RegisteredModel | None:
        """Send the event to the store; see `Sender.send`. MLflow's errors are not translated."""

    def to_json(self) -> dict[str, Any]:
        """Return the event without its attachment as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "attachment"}


@dataclass(frozen=True, kw_only=True)
class Params(Event, kind="params"):
    """Parameters, by their names in MLflow."""

    values: dict[str, str]
    resumed: bool
    """The run was resumed: parameters that it has keep their values."""

    def send(self, sender: Sender, retry: bool) -> None:
        client = MlflowClient()
        known = client.get_run(sender.run_id).data.params if self.resumed else {}
        params = [entities.Param(name, value) for name, value in self.values.items() if name not in known]
        client.log_batch(sender.run_id, params=params)


@dataclass(frozen=True, kw_only=True)
class Tags(Event, kind="tags"):
    """Tags of the run."""

    values: dict[str, str]

    def send(self, sender: Sender, retry: bool) -> None:
        MlflowClient().log_batch(
            sender.run_id, tags=[entities.RunTag(name, value) for name, value in self.values.items()]
        )

    def to_json(self) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True, kw_only=True)
class Metrics(Event, kind="metrics"):
    """Points of series."""

    points: list[Point]
    of_model: bool = False
    """They also describe the model that the run has logged."""
    resumed: bool = False
    """The run was resumed: a step of its training that it has is not recorded again, nor a figure that is the same."""

    def send(self, sender: Sender, retry: bool) -> None:
        client = MlflowClient()
        points = self.points
        if self.resumed:
            points = sender.new_points(points, "value" if self.of_model else "step")
        elif retry:
            points = sender.new_points(points, "time")
        model_id = sender.model_of(retry or self.resumed) if self.of_model else None
        if model_id is not None and (retry or self.resumed):
            # MLflow writes a model's metrics after the run's, and may have been stopped between.
            has = {metric.key for metric in client.get_logged_model(model_id).metrics or ()}
            points = points + sender.as_recorded([p for p in self.points if p not in points and p[0] not in has])
        metrics = [entities.Metric(name, value, time, step, model_id=model_id) for name, value, time, step in points]
        try:
            client.log_batch(sender.run_id, metrics=metrics)
        except BaseException:
            sender.known.clear()  # some of them may have arrived
            raise

    @staticmethod
    def join(parts: list[Metrics]) -> Metrics:
        """Return metrics that differ only in their points as one event."""
        return replace(parts[0], points=[point for part in parts for point in part.points])


@dataclass(frozen=True, kw_only=True)
class Inputs(Event, kind="inputs"):
    """Data sets that the run reads, as `tracker.data_set` describes them."""

    inputs: list[dict[str, Any]]

    def send(self, sender: Sender, retry: bool) -> None:
        inputs = [
            entities.DatasetInput(
                entities.Dataset(**given["dataset"]), [entities.InputTag("mlflow.data.context", given["context"])]
            )
            for given in self.inputs
        ]
        # MLflow keeps one data set of each name and digest.
        MlflowClient().log_inputs(sender.run_id, inputs)


@dataclass(frozen=True, kw_only=True)
class File(Event, kind="file"):
    """A file, to be stored in a folder of the run's artifacts."""

    folder: str | None

    def send(self, sender: Sender, retry: bool) -> None:
        MlflowClient().log_artifact(sender.run_id, str(self.attachment), self.folder)


@dataclass(frozen=True, kw_only=True)
class Model(Event, kind="model"):
    """The run's model, as `logged_model.prepare` has written it."""

    resumed: bool = False
    """The run was resumed: its model is not logged again, and what is left of one half logged is removed."""

    def send(self, sender: Sender, retry: bool) -> None:
        from recsys.tracking import logged_model  # here, since it reads models, and with them torch

        assert self.attachment is not None
        if retry or self.resumed:
            if logged_model.is_logged(sender.run_id):
                return
            logged_model.discard_unfinished(sender.run_id)
        sender.model_id = logged_model.log(self.attachment, sender.run_id)


@dataclass(frozen=True, kw_only=True)
class Register(Event, kind="register"):
    """Registration of the run's model as the next version of a name."""

    name: str
    resumed: bool = False
    """The run was resumed, and may have registered it already."""

    def send(self, sender: Sender, retry: bool) -> RegisteredModel:
        known = registered_by(sender.run_id, self.name) if retry or self.resumed else None
        return known or register(sender.run_id, self.name, sender.model_id)


@dataclass(frozen=True, kw_only=True)
class End(Event, kind="end"):
    """The end of the run, with its time in milliseconds."""

    status: str
    time: int

    def send(self, sender: Sender, retry: bool) -> None:
        if not is_remote():
            remove_half_uploads(MlflowClient().get_run(sender.run_id).info.artifact_uri)
        if runs.is_active(sender.run_id):
            mlflow.end_run(self.status)
        else:
            MlflowClient().set_terminated(sender.run_id, self.status, self.time)


class Sender:
    """Sends the events of one run to its store at once."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.known: dict[str, set[tuple[int, int, str]]] = {}
        """Time, step and value of the points that the store has, by name of the series."""
        self.model_id: str | None = None
        """Of the model that it has logged."""

    def send(self, event: Event, *, retry: bool) -> RegisteredModel | None:
        """Send an event, and return the version if it registers one.

        With `retry` it may have been sent before, so whatever the store has of it is not sent again.

        Raises:
            TrackingUnavailable: the store does not answer, or does not accept it now.
            TrackingError: it refuses.
        """
        seconds = FILE_TIMEOUT if event.attachment else TIMEOUT
        with request(f"run {self.run_id} cannot record {event.kind}", seconds=seconds, of_run=True):
            return event.send(self, retry)

    def model_of(self, earlier: bool) -> str | None:
        """Return the id of the run's model; if it may have been logged `earlier`, by another sender, the store says."""
        if self.model_id is None and earlier:
            self.model_id = logged_models(MlflowClient(), self.run_id).get(MODEL)
        return self.model_id

    def new_points(self, points: list[Point], same: Literal["time", "step", "value"]) -> list[Point]:
        """Return the points that the store does not have.

        Args:
            same: what makes a point of the same step the same: also its `time`, as when it may have been sent before;
                also its `value`, as of a figure that was measured again; or nothing else.
        """
        new = []
        for point in points:
            name, value, time, step = point
            if name not in self.known:
                history = MlflowClient().get_metric_history(self.run_id, name)
                self.known[name] = {(metric.timestamp, metric.step, str(metric.value)) for metric in history}
            present = (time, step, str(float(value)))
            kept = {"time": (0, 1), "step": (1,), "value": (1, 2)}[same]
            if not any(all(known[place] == present[place] for place in kept) for known in self.known[name]):
                self.known[name].add(present)
                new.append(point)
        return new

    def as_recorded(self, points: list[Point]) -> list[Point]:
        """Return points that the store has with the times under which it has them."""
        recorded = []
        for name, value, time, step in points:
            times = [at for at, known, number in self.known[name] if (known, number) == (step, str(float(value)))]
            recorded.append([name, value, max(times, default=time), step])
        return recorded


def from_entry(entry: Entry) -> Event:
    """Return the event that a spool holds."""
    if entry.kind not in KINDS:
        raise TrackingError(f"unknown event {entry.kind!r} of a run: a newer version of recsys may have written it")
    values = {"values": entry.values} if entry.kind == Tags.kind else entry.values
    return KINDS[entry.kind](**values, attachment=entry.attachment)


def batches(spool: Spool) -> Iterator[tuple[Event, list[Entry]]]:
    """Yield the events of a spool with their entries, oldest first; successive metrics of one sort are joined."""

    def joinable(entry: Entry) -> tuple[Any, ...]:
        is_metrics = entry.kind == Metrics.kind
        return (entry.values["of_model"], entry.values["resumed"]) if is_metrics else (entry.file,)

    for _, group in groupby(spool, joinable):
        entries = list(group)
        events = [from_entry(entry) for entry in entries]
        metrics = [event for event in events if isinstance(event, Metrics)]
        yield Metrics.join(metrics) if metrics else events[0], entries
