"""Experiments and the model registry: the only module that imports MLflow.

Runs, models and artifacts live in one folder, `<root>/mlruns`: a SQLite database and an artifact folder beside it.
A model is logged as its bundle with the code that reads it, so that no pickle is written or read.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
import torch

from recsys.columns import USER
from recsys.errors import BundleError, TrackingError, did_you_mean
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.locks import locked
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.splits import Part
from recsys.training import Record

with warnings.catch_warnings():
    # MLflow warns of its own type hints, which would stop whoever turns warnings into errors.
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, ColSpec

MODEL = "model"
"""Name of the logged model within its run."""
BUNDLE = "bundle"
"""Name of the bundle among the artifacts of a logged model."""
EXAMPLE_USERS = 3
"""Users in the input example of a logged model."""
_DATABASE = "mlflow.db"
_URI, _REGISTRY_URI = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
_BARS = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
_DIGEST_LENGTH = 36  # MLflow refuses longer digests of data sets
_LIBRARIES = ("torch", "numpy", "scipy", "implicit", "mlflow", "recsys")
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
    return os.environ.get(_URI) or f"mlflow ui --backend-store-uri {shlex.quote(_local_uri(root))} --workers 1"


def _client() -> MlflowClient:
    """Return a client of the store in use; before the first `configure`, of the default one."""
    if not mlflow.is_tracking_uri_set():
        configure(create=False)
    return MlflowClient()


def _open_stores() -> None:
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


@dataclass(frozen=True)
class MlflowTracker:
    """A tracker of one MLflow run. Everything it refuses, it refuses with TrackingError."""

    run_id: str
    """Id of the run."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names; a parameter cannot change its value later."""
        self._batch(params=[Param(name, str(value)) for name, value in flatten(values).items()])

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record the size and fingerprint of the data, as parameters and as the run's data set."""
        summary = data.summary()
        fingerprint = summary["fingerprint"]
        described = ("users", "items", "interactions", "fingerprint")
        self.log_params({"data": {what: summary[what] for what in described}})
        entity = Dataset(
            name="interactions",
            digest=fingerprint[:_DIGEST_LENGTH],  # MLflow's own digest skips most rows of a large table
            source_type="recsys",
            source=json.dumps({"fingerprint": fingerprint}),
            profile=json.dumps(summary),
        )
        tags = [InputTag("mlflow.data.context", context)]
        with _quiet(), _refusals(f"run {self.run_id} cannot record its data"):
            MlflowClient().log_inputs(self.run_id, [DatasetInput(entity, tags)])

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Record one epoch's entry of a training record, as step `entry["epoch"]` of a series.

        Validation figures are named `epoch_<metric>`: MLflow shows each metric at its last step, so under one name the
        series would hide what `log_metrics` records.
        """
        figures = {
            name if name in ("loss", "seconds") else f"epoch_{name}": value
            for name, value in entry.items()
            if name != "epoch"
        }
        self._batch(metrics=_metrics(figures, step=int(entry["epoch"])))

    def log_best(self, record: Record) -> None:
        """Record `best_epoch`, and each figure of that epoch as `best_<metric>`; nothing where none was chosen."""
        if record.best_epoch is None:
            return
        entry = next(entry for entry in record.epochs if int(entry["epoch"]) == record.best_epoch)
        figures = {f"best_{name}": value for name, value in entry.items() if name not in ("epoch", "seconds")}
        self._batch(metrics=_metrics({"best_epoch": float(record.best_epoch), **figures}))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run, and of the model that it has logged."""
        with _quiet(), _refusals(f"run {self.run_id} cannot record metrics"):
            model_id = _logged_models(MlflowClient(), self.run_id).get(MODEL)
        self._batch(metrics=_metrics(values, model_id=model_id))

    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure under a file name such as `learning_curve.png`."""
        with _quiet(), _refusals(f"run {self.run_id} cannot store {name}"):
            MlflowClient().log_figure(self.run_id, figure, name)

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Store a table under a file name that ends in `.parquet`."""
        if not name.endswith(".parquet"):
            raise TrackingError(f"a table is stored as parquet: its name must end in .parquet, got {name!r}")
        path = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file, compression="zstd")
            with _quiet(), _refusals(f"run {self.run_id} cannot store {name}"):
                where = path.parent.as_posix()
                MlflowClient().log_artifact(self.run_id, str(file), None if where == "." else where)

    def log_text(self, text: str, name: str) -> None:
        """Store a text under a file name."""
        with _quiet(), _refusals(f"run {self.run_id} cannot store {name}"):
            MlflowClient().log_text(self.run_id, text, name)

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self._batch(tags=[RunTag(name, str(value)) for name, value in values.items()])

    def _batch(self, **what: Any) -> None:
        with _quiet(), _refusals(f"run {self.run_id} cannot record {', '.join(what)}"):
            MlflowClient().log_batch(self.run_id, **what)


@contextmanager
def start_run(
    experiment: str,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Iterator[MlflowTracker]:
    """Record the block as a run, tagged with its environment; a run within a run is its child.

    An exception marks the run FAILED and goes on.

    Args:
        experiment: name of the experiment; created where there is none.
        run_name: readable name; MLflow invents one by default.
        root: folder that holds `mlruns`, as in `configure`.

    Raises:
        TrackingError: the store refuses the experiment or the run.
    """
    uri = configure(root)
    with _quiet(), _refusals(f"cannot start a run of experiment {experiment!r}"):
        run = mlflow.start_run(
            experiment_id=_experiment(experiment, uri, root),
            run_name=run_name,
            tags={**environment(root), **{name: str(value) for name, value in (tags or {}).items()}},
            nested=mlflow.active_run() is not None,
        )
    with run:
        yield MlflowTracker(run.info.run_id)


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

    What is logged is the bundle and this package's source. `mlflow.pyfunc.load_model` then serves it (see
    `RecommendationModel`), without reading a pickle.

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
    run = mlflow.active_run()
    if run is None:
        raise TrackingError("no run is active; call log_model within start_run")
    run_id = run.info.run_id
    model._check_fitted()
    if model.items_ is None or model.users_ is None:
        raise TrackingError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
    for what, ids in (("user", model.users_), ("item", model.items_)):
        if ids.kind == "other":
            raise TrackingError(f"{what} ids must be integers or strings to be served by MLflow, got {ids!r}")
    matrix = examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context
    rated = bool((matrix.data != 1).any())
    few = matrix[:EXAMPLE_USERS]
    with tempfile.TemporaryDirectory() as folder, _quiet(), _refusals("cannot log the model"):
        bundle = Path(folder, BUNDLE)
        model.save(bundle, metrics=metrics, about={**(about or {}), "run_id": run_id})
        package = Path(__file__).parent
        with _same_path():
            logged = mlflow.pyfunc.log_model(
                name=MODEL,
                python_model=str(package / "pyfunc_model.py"),
                artifacts={BUNDLE: str(bundle)},
                signature=_signature(rated),
                input_example=(
                    _example(few, examples.users.ids(np.arange(few.shape[0])), model.items_, rated),
                    {"k": 10, "filter_seen": True},
                ),
                pip_requirements=[f"{library}=={_version(library).partition('+')[0]}" for library in _REQUIREMENTS],
                code_paths=[str(package)],
                tags={"model": type(model).__name__},
            )
        if metrics:
            MlflowClient().log_batch(run_id, metrics=_metrics(metrics, model_id=logged.model_id))
    return None if name is None else register(run_id, name)


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
        columns.append(ColSpec(Array(DataType.double), "ratings"))
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                ColSpec(DataType.string, USER),
                ColSpec(Array(DataType.string), "items"),
                ColSpec(Array(DataType.float), "scores"),
            ]
        ),
        params=ParamSchema([ParamSpec("k", DataType.long, 10), ParamSpec("filter_seen", DataType.boolean, True)]),
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

    Output columns: `user_id`, `items` and `scores`, best first; lists are shorter than `k` where candidates run out.
    """

    def load_context(self, context: Any) -> None:
        """Read the bundle."""
        self._model = load_bundle(context.artifacts[BUNDLE])
        users, items = self._model.users_, self._model.items_
        if users is None or items is None:
            raise BundleError(f"{context.artifacts[BUNDLE]} holds no ids; log models fitted on Interactions")
        self._users, self._items = _as_text(users), _as_text(items)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the recommendations of each row's history.

        Args:
            params: `k`, the length of the lists (10), and `filter_seen`, never to return an item of the history (True).
        """
        options = {"k": 10, "filter_seen": True, **(params or {})}
        ids, scores = self._model.recommend(
            self._users.codes(model_input[USER].tolist(), on_unknown="mark"),
            self._histories(model_input),
            N=int(options["k"]),
            filter_already_liked_items=bool(options["filter_seen"]),
        )
        lengths = (ids >= 0).sum(axis=1)
        return pd.DataFrame(
            {
                USER: model_input[USER].to_numpy(),
                "items": [self._items.ids(row[:n]).tolist() for row, n in zip(ids, lengths, strict=True)],
                "scores": [row[:n].tolist() for row, n in zip(scores, lengths, strict=True)],
            }
        )

    def _histories(self, frame: pd.DataFrame) -> sp.csr_matrix:
        lists = [list(items) for items in frame["items"]]
        codes = self._items.codes(list(chain.from_iterable(lists)), on_unknown="mark")
        rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        values = np.ones(len(codes), dtype=np.float32)
        if "ratings" in frame:
            ratings = [list(values) for values in frame["ratings"]]
            if [len(values) for values in ratings] != [len(items) for items in lists]:
                raise TrackingError("each row must hold as many ratings as items")
            values = np.asarray(list(chain.from_iterable(ratings)), dtype=np.float32)
        cell = rows * len(self._items) + codes
        # The first of the reversed order is the last that was listed.
        picked = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
        picked = picked[codes[picked] >= 0]
        return sp.csr_matrix(
            (values[picked], (rows[picked], codes[picked])), shape=(len(lists), len(self._items)), dtype=np.float32
        )


def _as_text(ids: IdMap) -> IdMap:
    return IdMap(map(str, ids))


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


def promote(name: str, version: int | None = None, alias: str = "champion", reason: str = "") -> Promotion:
    """Give the alias to a version, and tag that version with the reason, the time and the previous holder.

    Promoting the version that already holds the alias changes nothing.

    Args:
        name: of the registered model.
        version: the latest by default.
        alias: letters, digits, `_` and `-`; jobs score with `models:/NAME@champion`.

    Raises:
        TrackingError: no such model or version, or MLflow refuses the alias.
    """
    versions = model_versions(name)
    if not versions:
        raise TrackingError(f"model {name!r} has no versions")
    chosen = versions[0] if version is None else _pick(name, version=version)
    previous = next((found.version for found in versions if alias in found.aliases), None)
    if previous != chosen.version:
        tags = {"reason": reason, "previous": previous or "", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with _quiet(), _refusals(f"cannot give {alias!r} to version {chosen.version} of {name!r}"):
            client = MlflowClient()
            client.set_registered_model_alias(name, alias, str(chosen.version))
            for tag, value in tags.items():
                client.set_model_version_tag(name, str(chosen.version), f"{alias}_{tag}", str(value))
    return Promotion(name, chosen.version, alias, previous, f"models:/{name}@{alias}")


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
        BundleError: the folder holds no bundle.
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


def _metrics(values: Mapping[str, float], step: int = 0, model_id: str | None = None) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(mlflow_name(name), float(value), now, step, model_id=model_id) for name, value in values.items()]


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours."""
    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"{what}: {error.message}") from error


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
