"""What a run has to say, in JSON values that may wait on disk until `sender.Sender` tells a store of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from recsys.ids import IdMap
from recsys.splits import Part
from recsys.spool import Event, Spool

_DIGEST_LENGTH = 36  # MLflow refuses longer digests of data sets


def mlflow_name(name: str) -> str:
    """Return the name of a metric or parameter in MLflow, where `@` is not allowed: `ndcg@10` is `ndcg_at_10`."""
    return name.replace("@", "_at_")


def flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping with dotted names: `{"model": {"hidden": 500}}` is `{"model.hidden": 500}`."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[str(name)] = value
    return flat


def params(values: Mapping[str, Any], *, resumed: bool) -> Event:
    """Return parameters; those of a run that is `resumed` keep the values that they have."""
    texts = {mlflow_name(name): str(value) for name, value in flatten(values).items()}
    return Event("params", {"values": texts, "resumed": resumed})


def tags(values: Mapping[str, Any]) -> Event:
    """Return tags of the run."""
    return Event("tags", {name: str(value) for name, value in values.items()})


def points(values: Mapping[str, float], step: int = 0) -> list[list[Any]]:
    """Return figures measured now, each as name, value, time in milliseconds and step."""
    now = milliseconds()
    return [[mlflow_name(name), float(value), now, step] for name, value in values.items()]


def metrics(measured: list[list[Any]], *, of_model: bool = False, resumed: bool = False) -> Event:
    """Return `points` of series; `of_model` also of the model that the run has logged, `resumed` each step once."""
    return Event("metrics", {"points": measured, "of_model": of_model, "resumed": resumed})


def inputs(data_sets: Iterable[Mapping[str, Any]]) -> Event:
    """Return what the run reads, each a `data_set`."""
    return Event("inputs", {"inputs": list(data_sets)})


def data_set(name: str, digest: str, profile: Mapping[str, Any], context: str) -> dict[str, Any]:
    """Return a data set as an input of a run; `context` says what it is there for."""
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


def digest(part: Part, items: IdMap) -> str:
    """Return a SHA-256 of a part's users and entries; `items` are those of its columns."""
    found = hashlib.sha256()
    for matrix in (part.context, part.target):
        for array in (matrix.indptr.astype(np.int64), matrix.indices, matrix.data):
            found.update(np.ascontiguousarray(array).tobytes() + b"|")
    for ids in (part.users, items):
        found.update("\x1f".join(map(repr, ids.ids().tolist())).encode() + b"|")
    return found.hexdigest()


def file(path: Path, folder: str | None) -> Event:
    """Return a file, to be stored in a folder of the run's artifacts."""
    return Event("file", {"folder": folder}, path)


def model(path: Path) -> Event:
    """Return a model that `logged_model.put_aside` has written to a folder."""
    return Event("model", {}, path)


def register(name: str) -> Event:
    """Return the wish that the logged model be the next version of `name`."""
    return Event("register", {"name": name})


def end(status: str) -> Event:
    """Return the end of the run, which is now."""
    return Event("end", {"status": status, "time": milliseconds()})


def batches(spool: Spool) -> Iterator[tuple[Event, list[Event]]]:
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


def milliseconds() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)


def _joined(parts: list[Event]) -> Event:
    if len(parts) == 1:
        return parts[0]
    measured = [point for part in parts for point in part.values["points"]]
    return Event("metrics", {**parts[0].values, "points": measured}, id=parts[0].id)
