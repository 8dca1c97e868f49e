"""Addresses of models and files: pin them, find their folder, load the model."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from recsys.errors import BundleError, TrackingError
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.tracking._mlflow import mlflow
from recsys.tracking.adapter import BUNDLE, refuse_pickles
from recsys.tracking.logged_model import logged_models
from recsys.tracking.registry import find_version
from recsys.tracking.requests import request
from recsys.tracking.store import connect


def pin(uri: str | Path) -> str:
    """Return a permanent address: `models:/NAME/VERSION` for an alias, an absolute path for a folder.

    Raises:
        TrackingError: no such model or alias.
    """
    text = str(uri)
    name, at, alias = text.removeprefix("models:/").partition("@")
    if text.startswith("models:/") and at:
        return find_version(name, alias=alias).uri
    return text if text.startswith(("models:/", "runs:/")) else str(Path(text).absolute())


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
        if not version.isdecimal():
            raise TrackingError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {text!r}")
        folder = _download(find_version(name, version=int(version)).uri)
    elif text.startswith("runs:/"):
        folder = _resolve_run(text)
    else:
        folder = Path(text)
    for candidate in (folder, folder / "artifacts" / BUNDLE):
        if (candidate / "config.json").is_file():
            if candidate != folder:
                refuse_pickles(folder)
            return candidate
    absent = "there is no such folder" if str(folder) == text else f"{folder} does not exist"
    raise BundleError(f"{text} holds no saved model" + ("" if folder.exists() else f": {absent}"))


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
        uri = f"{connect().get_run(run_id).info.artifact_uri}/{name}"
    parts = urlsplit(uri)
    return url2pathname(parts.path) if parts.scheme == "file" else uri


def _download(uri: str) -> Path:
    with request(f"cannot fetch {uri}"):
        return Path(mlflow.artifacts.download_artifacts(uri))


def _resolve_run(uri: str) -> Path:
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    with request(f"cannot fetch {uri}"):
        client = connect()
        run = client.get_run(run_id)
        # By run and name MLflow would copy the model to a temporary folder; by its id it returns the folder itself.
        models = logged_models(client, run_id)
        if path in models:
            return _download(f"models:/{models[path]}")
        files = [file.path for file in client.list_artifacts(run_id)]
        if not path or path.split("/")[0] not in files:
            known = ", ".join([*models, *files]) or "nothing"
            raise TrackingError(f"run {run_id} holds no {path!r}; it holds {known}")
        return Path(mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/{path}"))
