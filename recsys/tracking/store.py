"""The store of runs and models: a workspace's own, or the one that the environment names."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from recsys.errors import TrackingError
from recsys.files import locked
from recsys.spool import spools
from recsys.tracking._mlflow import MlflowClient, mlflow
from recsys.tracking.requests import check_reachable, request, without_password
from recsys.workspace import Workspace

URI = "MLFLOW_TRACKING_URI"
"""Environment variable that names another store."""
_REGISTRY_URI = "MLFLOW_REGISTRY_URI"
_DATABASE = "mlflow.db"


def configure(workspace: Workspace, *, create: bool = True) -> str:
    """Point MLflow at `mlruns` of a workspace, unless MLFLOW_TRACKING_URI names another store.

    Args:
        create: create the store if it does not exist. Commands that only read pass False.

    Returns:
        The tracking URI. The registry is in the same store, unless MLFLOW_REGISTRY_URI names another.

    Raises:
        TrackingError: the store cannot be opened, or it does not exist and `create` is False.
    """
    given = {name: os.environ.get(name) for name in (URI, _REGISTRY_URI)}
    uri = given[URI] or local_uri(workspace)
    if not (create or given[URI] or (workspace.mlruns / _DATABASE).is_file()):
        raise TrackingError(
            f"there is no MLflow store under {workspace.mlruns}; --root names the folder that holds mlruns"
        )
    with request(f"cannot open {uri}"):
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(given[_REGISTRY_URI] or uri)
        finally:
            # MLflow copies both into the environment; left there, they would override the next call's workspace.
            for name in [name for name, value in given.items() if value is None]:
                os.environ.pop(name, None)
        if given[URI]:
            _open_stores()
        else:
            # Two processes that migrate a new database at the same time break it.
            with locked(workspace.mlruns / ".lock"):
                _open_stores()
    return uri


def local_uri(workspace: Workspace) -> str:
    """Return the URI of a workspace's own database."""
    return f"sqlite:///{(workspace.mlruns / _DATABASE).as_posix()}"


def place(workspace: Workspace) -> str:
    """Return the URI of the store that `configure` opens, without user and password."""
    return without_password(os.environ.get(URI) or local_uri(workspace))


def pending(workspace: Workspace) -> Path:
    """Return the folder of the queues of unsent events, one per run."""
    return workspace.mlruns / "pending"


def describe(workspace: Workspace) -> str:
    """Return where the runs are: the command that shows them, or the URI in MLFLOW_TRACKING_URI."""
    shown = os.environ.get(URI) or f"recsys ui{workspace.option}"
    waiting = len(spools(pending(workspace)))
    return f"{shown}\nwaiting  {waiting} runs in {pending(workspace)}: recsys sync" if waiting else shown


def connect() -> MlflowClient:
    """Return a client of the configured store; before the first `configure`, of the working folder's store."""
    if not mlflow.is_tracking_uri_set():
        configure(Workspace(), create=False)
    return MlflowClient()


@contextmanager
def model_lock(name: str) -> Iterator[None]:
    """Hold the lock of a registered model.

    MLflow moves an alias whoever holds it, so check-then-set must run under a lock. It covers everyone who shares a
    database file; on a server, the processes of one user on one machine.
    """
    connect()
    with locked(_lock_folder(mlflow.get_registry_uri()) / f"model-{quote(name, safe='')}.lock"):
        yield


def _lock_folder(uri: str) -> Path:
    """Return the folder of a registry's locks: beside its database file, or a temporary one for a server."""
    if uri.startswith("sqlite"):
        return Path(make_url(uri).database or "").absolute().parent / "locks"
    user = os.getuid() if hasattr(os, "getuid") else ""
    digest = hashlib.sha256(without_password(uri).encode()).hexdigest()
    return Path(tempfile.gettempdir(), f"recsys-{user}", digest[:16])


def _open_stores() -> None:
    check_reachable()
    client = MlflowClient()
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
