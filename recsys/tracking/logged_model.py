"""Models of a run: prepared in a folder, logged from there now or later, and found and loaded again."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys import artifacts
from recsys.artifacts import read_bundle, write_bundle
from recsys.columns import ITEM, RATING, USER
from recsys.errors import TrackingError, absent
from recsys.files import read_json
from recsys.interactions import Interactions
from recsys.mapped import rows_of
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.models.saved import BUNDLE, find_bundle
from recsys.outputs import recover
from recsys.shards import Stored
from recsys.splits import Part
from recsys.tracking import adapter, runs
from recsys.tracking._mlflow import MlflowClient, entities, mlflow
from recsys.tracking.adapter import PARAMS
from recsys.tracking.home import local_path, present_address
from recsys.tracking.model_files import CODE_FILES, code_files, find
from recsys.tracking.registry import MODEL, NOTE, RegisteredModel, find_version, logged_models, was_deleted
from recsys.tracking.runs import version
from recsys.tracking.store import FILE_TIMEOUT, connect, request
from recsys.workspace import as_path

_PACKAGE = Path(__file__).parents[1]
_EXAMPLE_USERS = 3  # in the input example of a logged model
_EXAMPLES = "examples.parquet"
_CODE = "code"
_REQUIREMENTS = "mlflow torch numpy scipy pandas pyarrow implicit safetensors threadpoolctl tqdm"


def prepare(
    scratch: Path,
    model: Recommender,
    examples: Interactions | Part,
    metrics: Mapping[str, float],
    about: Mapping[str, Any],
) -> Path:
    """Write all that `log` needs, also in another process, to a folder in `scratch`, and return it; it may be moved."""
    folder = scratch / MODEL
    folder.mkdir()
    model.save(folder / BUNDLE, metrics=metrics, about=about)
    _first_histories(model, examples).to_parquet(folder / _EXAMPLES)
    for member in (model, *model.members()):
        copy_source(type(member), folder / _CODE)
    return folder


def waiting_bundle(folder: Path) -> Path:
    """Return the bundle that `prepare` has written, put back where a killed process had set it aside to replace it."""
    recover(folder / BUNDLE, artifacts.BUNDLE)
    return folder / BUNDLE


def log(folder: Path, run_id: str) -> str:
    """Log a model that `prepare` has written in a run, and return its id; MLflow's errors are not translated."""
    place = waiting_bundle(folder)
    config = read_json(place / "config.json") or {}
    if config["about"].get("run_id") != run_id:  # the store had not created the run when the model was prepared
        bundle = read_bundle(place)
        write_bundle(replace(bundle, about={**bundle.about, "run_id": run_id}), place)
    example = adapter.example(pd.read_parquet(folder / _EXAMPLES), _EXAMPLE_USERS)
    _zip_package(folder / _CODE / "recsys.zip")
    code = sorted((folder / _CODE).glob("*"))
    note = MlflowClient().get_run(run_id).data.tags.get(NOTE)
    path = list(sys.path)
    try:
        with runs.active(run_id):
            logged = mlflow.pyfunc.log_model(
                name=MODEL,
                python_model=str(_PACKAGE / "pyfunc_model.py"),
                artifacts={BUNDLE: str(place)},
                signature=adapter.signature("ratings" in example),
                input_example=None if example.empty else (example, dict(PARAMS)),
                pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS.split()],
                code_paths=list(map(str, code)),
                metadata={CODE_FILES: code_files(code)},  # what a prune may remove
                # Registered versions get all but the description too.
                tags={"model": config["model"], **config["about"].get("tags", {}), **({NOTE: note} if note else {})},
            )
    finally:
        sys.path[:] = path  # MLflow adds a temporary folder when it validates a model
    return str(logged.model_id)


def _zip_package(file: Path) -> None:
    """Write the source of this package, with the same bytes whenever it is the same."""
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files_of(resources.files("recsys"), "recsys"):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _files_of(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of a package's files."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _files_of(entry, f"{name}/{entry.name}")
        elif entry.is_file():
            yield f"{name}/{entry.name}", entry.read_bytes()


def is_logged(run_id: str) -> bool:
    """Return whether a run has logged its model completely."""
    client = MlflowClient()
    model_id = logged_models(client, run_id).get(MODEL)
    return model_id is not None and bool(client.get_logged_model(model_id).status == entities.LoggedModelStatus.READY)


def discard_unfinished(run_id: str) -> None:
    """Remove what a process that was killed while it logged a run's model has left of it, and nothing else."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.name == MODEL and model.status != entities.LoggedModelStatus.READY:
            files = None if local_path(model.artifact_location) is None else find(model, None)
            client.delete_logged_model(model.model_id)
            if files is not None and not files.stays and not files.stray:
                files.remove()


def logged_bundle(run_id: str) -> Path | None:
    """Return the folder of the bundle that a run has logged completely; None without one."""
    with request(f"cannot read run {run_id}"):
        connect()
        if not is_logged(run_id):
            return None
    return resolve(f"runs:/{run_id}/{MODEL}")


def copy_source(cls: type, folder: Path) -> None:
    """Copy the module that defines a class into a folder from which it can be imported.

    A module in a package brings the `.py` files of its top-level package along. Nothing is copied for classes of
    recsys itself, or of a script or notebook.
    """
    names = cls.__module__.split(".")
    if names[0] in ("recsys", "__main__"):
        return
    try:
        file = Path(inspect.getfile(cls)).absolute()
    except (OSError, TypeError):  # typed at a prompt
        return
    if file.suffix != ".py" or not file.is_file():
        return
    module = file.parent if file.name == "__init__.py" else file
    top = module if len(names) == 1 else module.parents[len(names) - 2]
    for source in {file, *_sources(top)}:
        target = folder / source.relative_to(top.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def pin(uri: str | Path) -> str:
    """Return a permanent address: `models:/NAME/VERSION` for an alias, an absolute path for a folder.

    Raises:
        TrackingError: no such model or alias.
    """
    text = str(uri)
    name, at, alias = text.removeprefix("models:/").partition("@")
    if text.startswith("models:/") and at:
        return find_version(name, alias=alias).uri
    return text if text.startswith(("models:/", "runs:/")) else str(as_path(text).absolute())


def resolve(uri: str | Path) -> Path:
    """Return the local folder of a model's bundle, downloaded if the store is remote.

    Args:
        uri: a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/RUN_ID/model`.

    Raises:
        TrackingError: no such model, version, alias or run; the message lists what exists.
        BundleError: the folder holds no bundle, or a pickle beside it.
    """
    text = str(uri)
    if text.startswith("models:/"):
        name, _, version = pin(text).removeprefix("models:/").partition("/")
        if not re.fullmatch(r"[0-9]{1,18}", version):
            raise TrackingError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {text!r}")
        folder = _folder_of_version(find_version(name, version=int(version)))
    elif text.startswith("runs:/"):
        folder = _resolve_run(text)
    else:
        folder = as_path(text)
    return find_bundle(folder, text)


def load(uri: str | Path) -> Recommender:
    """Read a model from where `resolve` finds it. Nothing is executed: a model of your own must be imported before.

    Raises:
        TrackingError: no such model, version, alias or run.
        BundleError: not a bundle, damaged, of a newer schema, or of a class that is not registered.
    """
    return load_bundle(resolve(uri))


def address(run_id: str, name: str) -> str:
    """Return the local path of a run's artifact, or its URI in a remote store.

    Raises:
        TrackingError: no such run.
    """
    with request(f"cannot find run {run_id}"):
        uri = present_address(f"{connect().get_run(run_id).info.artifact_uri}/{name}")
    return str(local_path(uri) or uri)


def _first_histories(model: Recommender, examples: Interactions | Part) -> pd.DataFrame:
    """Return the first histories that are not empty as a table, and one with a rating other than 1 if there is any."""
    assert model.items_ is not None
    if isinstance(examples, Stored):
        examples = examples.take_users(_examples_of(examples))
    matrix = examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context
    matrix = matrix.tocsr()
    rows = np.flatnonzero(np.diff(matrix.indptr))[:_EXAMPLE_USERS].tolist()
    rated = np.flatnonzero(matrix.data != 1)
    if len(rated):
        rows.append(int(np.searchsorted(matrix.indptr, rated[0], side="right")) - 1)
    rows = np.unique(rows).astype(np.int64)
    few = matrix[rows].tocoo()
    users = examples.users.ids(rows)
    return pd.DataFrame({USER: users[few.row], ITEM: model.items_.ids(few.col), RATING: few.data})


def _examples_of(stored: Stored) -> npt.NDArray[np.int64]:
    """Return the rows on disk that `_first_histories` takes, and no more of them than are looked at."""
    some: list[int] = []
    rated: list[int] = []
    for first, block in rows_of(stored.matrix):
        some += (first + np.flatnonzero(np.diff(block.indptr))).tolist()
        others = np.flatnonzero(block.data != 1)
        if len(others):
            rated.append(first + int(np.searchsorted(block.indptr, others[0], side="right")) - 1)
        if len(some) >= _EXAMPLE_USERS and (rated or stored.shards.manifest["values"] is None):
            break
    return np.unique([*some[:_EXAMPLE_USERS], *rated[:1]]).astype(np.int64)


def _sources(path: Path) -> Iterator[Path]:
    """Yield a module's file, or the `.py` files of a package and its subpackages."""
    if path.is_file():
        yield path
        return
    yield from path.glob("*.py")
    for folder in path.iterdir():
        if (folder / "__init__.py").is_file():
            yield from _sources(folder)


def _download(uri: str) -> Path:
    with request(f"cannot fetch {uri}", seconds=FILE_TIMEOUT):
        return Path(mlflow.artifacts.download_artifacts(present_address(uri)))


def _folder_of_version(version: RegisteredModel) -> Path:
    with request(f"cannot fetch {version.uri}"):
        address = connect().get_model_version_download_uri(version.name, str(version.version))
    # A file is read where it lies; by the name of the version MLflow would look for it where it was logged.
    return _download(address if urlsplit(address).scheme == "file" else version.uri)


def _resolve_run(uri: str) -> Path:
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    with request(f"cannot fetch {uri}"):
        client = connect()
        run = client.get_run(run_id)
        models = logged_models(client, run_id)
        if path in models:
            # By run and name MLflow would copy the model to a temporary folder.
            return _download(client.get_logged_model(models[path]).artifact_location)
        if path == MODEL and was_deleted(client, run_id):
            raise absent(
                TrackingError(
                    f"the model of run {run_id} was deleted, by `recsys registry prune` or in MLflow; train it again, "
                    "or take a version that `recsys registry list` shows"
                )
            )
        files = [file.path for file in client.list_artifacts(run_id)]
        if not path or path.split("/")[0] not in files:
            known = ", ".join([*models, *files]) or "nothing"
            raise absent(TrackingError(f"run {run_id} holds no {path!r}; it holds {known}"))
    return _download(f"{run.info.artifact_uri}/{path}")
