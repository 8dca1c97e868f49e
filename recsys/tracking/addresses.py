"""Addresses of models and files: the one that stays, the folder that it names, the model that is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from recsys.errors import BundleError, TrackingError
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.tracking._mlflow import mlflow
from recsys.tracking.adapter import BUNDLE, refuse_pickles
from recsys.tracking.asking import quiet, refusals
from recsys.tracking.logged_model import logged_models
from recsys.tracking.registry import pick
from recsys.tracking.store import connect


def pin(uri: str | Path) -> str:
    """Return an address that stays: `models:/NAME/VERSION` for an alias, an absolute path for a folder.

    Raises:
        TrackingError: no such model or alias.
    """
    text = str(uri)
    name, at, alias = text.removeprefix("models:/").partition("@")
    if text.startswith("models:/") and at:
        return pick(name, alias=alias).uri
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
        folder = _fetched(pick(name, version=int(version)).uri)
    elif text.startswith("runs:/"):
        folder = _of_run(text)
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
    with quiet(), refusals(f"cannot find run {run_id}"):
        uri = f"{connect().get_run(run_id).info.artifact_uri}/{name}"
    parts = urlsplit(uri)
    return url2pathname(parts.path) if parts.scheme == "file" else uri


def _fetched(uri: str) -> Path:
    with quiet(), refusals(f"cannot fetch {uri}"):
        return Path(mlflow.artifacts.download_artifacts(uri))


def _of_run(uri: str) -> Path:
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    with quiet(), refusals(f"cannot fetch {uri}"):
        client = connect()
        run = client.get_run(run_id)
        # Asked by run and name, MLflow would copy the model to a temporary folder; by its id it gives the folder.
        models = logged_models(client, run_id)
        if path in models:
            return _fetched(f"models:/{models[path]}")
        files = [file.path for file in client.list_artifacts(run_id)]
        if not path or path.split("/")[0] not in files:
            known = ", ".join([*models, *files]) or "nothing"
            raise TrackingError(f"run {run_id} holds no {path!r}; it holds {known}")
        return Path(mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/{path}"))
