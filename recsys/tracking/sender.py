"""One run's events, told to its store."""

from __future__ import annotations

from typing import Any

from recsys.spool import Event
from recsys.tracking._mlflow import Dataset, DatasetInput, InputTag, Metric, MlflowClient, Param, RunTag
from recsys.tracking.asking import FILE_TIMEOUT, TIMEOUT, bounded, quiet, refusals
from recsys.tracking.logged_model import MODEL, log_put_aside, logged_models
from recsys.tracking.registry import RegisteredModel, register, registered_by


class Sender:
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
        with quiet(), bounded(seconds), refusals(f"run {self.run_id} cannot record {event.kind}", within=True):
            return self._send(event, again)

    def _send(self, event: Event, again: bool) -> RegisteredModel | None:
        match event.kind:
            case "params":
                self._params(event.values)
            case "tags":
                self._tags(event.values)
            case "metrics":
                self._metrics(event.values, again)
            case "inputs":
                self._inputs(event.values)
            case "file":
                MlflowClient().log_artifact(self.run_id, str(event.attachment), event.values["folder"])
            case "model":
                assert event.attachment is not None
                log_put_aside(event.attachment, self.run_id)
            case "register":
                return self._register(event.values["name"], again)
            case "end":
                MlflowClient().set_terminated(self.run_id, event.values["status"], event.values["time"])
            case unknown:
                raise ValueError(f"no event of a run is called {unknown!r}")
        return None

    def _params(self, values: dict[str, Any]) -> None:
        wanted = dict(values["values"])
        if values["resumed"]:
            for name in MlflowClient().get_run(self.run_id).data.params:
                wanted.pop(name, None)
        MlflowClient().log_batch(self.run_id, params=[Param(name, value) for name, value in wanted.items()])

    def _tags(self, values: dict[str, Any]) -> None:
        MlflowClient().log_batch(self.run_id, tags=[RunTag(name, value) for name, value in values.items()])

    def _metrics(self, values: dict[str, Any], again: bool) -> None:
        client, points = MlflowClient(), []
        for point in values["points"]:
            name, _, at, step = point
            look = again or values["resumed"]
            if not (look and self._holds(client, point, any_time=values["resumed"])):
                points.append(point)
                if name in self._held:
                    self._held[name].add((at, step))
        model_id = logged_models(client, self.run_id).get(MODEL) if values["of_model"] else None
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
        return any(held == step and (any_time or time == at) for time, held in self._held[name])

    def _inputs(self, values: dict[str, Any]) -> None:
        # A data set of the same name and digest is an input of a run once.
        inputs = [
            DatasetInput(Dataset(**given["dataset"]), [InputTag("mlflow.data.context", given["context"])])
            for given in values["inputs"]
        ]
        MlflowClient().log_inputs(self.run_id, inputs)

    def _register(self, name: str, again: bool) -> RegisteredModel:
        return (registered_by(self.run_id, name) if again else None) or register(self.run_id, name)
