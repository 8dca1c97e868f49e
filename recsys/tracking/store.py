"""Where runs and models are: a folder of their own, or the store that the environment names."""

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
from recsys.tracking.asking import knock, quiet, refusals, without_password
from recsys.workspace import Workspace

URI = "MLFLOW_TRACKING_URI"
"""The variable of the environment that names another store."""
_REGISTRY_URI = "MLFLOW_REGISTRY_URI"
_DATABASE = "mlflow.db"


def configure(workspace: Workspace, *, create: bool = True) -> str:
    """Point MLflow at `mlruns` of a workspace, unless MLFLOW_TRACKING_URI names another place.

    Args:
        create: make a store where there is none; False, for those who only read, refuses.

    Returns:
        The tracking URI. The registry is the same place, unless MLFLOW_REGISTRY_URI names another.

    Raises:
        TrackingError: the store cannot be opened, or there is none and `create` is False.
    """
    given = {name: os.environ.get(name) for name in (URI, _REGISTRY_URI)}
    uri = given[URI] or local_uri(workspace)
    if not (create or given[URI] or (workspace.mlruns / _DATABASE).is_file()):
        raise TrackingError(
            f"there is no MLflow store under {workspace.mlruns}; --root names the folder that holds mlruns"
        )
    with quiet(), refusals(f"cannot open {uri}"):
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(given[_REGISTRY_URI] or uri)
        finally:
            # MLflow copies both into the environment; left there, they would overrule the workspace of the next call.
            for name in [name for name, value in given.items() if value is None]:
                os.environ.pop(name, None)
        if given[URI]:
            _open_stores()
        else:
            with locked(
                workspace.mlruns / ".lock"
            ):  # two processes that migrate a fresh database at once break each other
                _open_stores()
    return uri


def local_uri(workspace: Workspace) -> str:
    """Return the URI of the database in a workspace."""
    return f"sqlite:///{(workspace.mlruns / _DATABASE).as_posix()}"


def place(workspace: Workspace) -> str:
    """Return the URI of the store that `configure` would open, without user and password."""
    return without_password(os.environ.get(URI) or local_uri(workspace))


def pending(workspace: Workspace) -> Path:
    """Return the folder of what a store has not been told yet, one queue per run."""
    return workspace.mlruns / "pending"


def describe(workspace: Workspace) -> str:
    """Return where the runs are: the command that shows them, or the URI that MLFLOW_TRACKING_URI names."""
    shown = os.environ.get(URI) or f"recsys ui{workspace.option}"
    waiting = len(spools(pending(workspace)))
    return f"{shown}\nwaiting  {waiting} runs in {pending(workspace)}: recsys sync" if waiting else shown


def connect() -> MlflowClient:
    """Return a client of the store in use; before the first `configure`, of the default one."""
    if not mlflow.is_tracking_uri_set():
        configure(Workspace(), create=False)
    return MlflowClient()


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let no other process change what is said of a registered model, for as long as the block takes.

    MLflow moves an alias whoever holds it by then, so whoever looks first who does, must do both alone. This holds for
    all who share a database file; of those who share a server, for the processes of one user on one machine.
    """
    connect()
    with locked(_locks(mlflow.get_registry_uri()) / f"model-{quote(name, safe='')}.lock"):
        yield


def _locks(uri: str) -> Path:
    """Return the folder of locks of a registry: beside its database, or on this machine if it is elsewhere."""
    if uri.startswith("sqlite"):
        return Path(make_url(uri).database or "").absolute().parent / "locks"
    user = os.getuid() if hasattr(os, "getuid") else ""
    digest = hashlib.sha256(without_password(uri).encode()).hexdigest()
    return Path(tempfile.gettempdir(), f"recsys-{user}", digest[:16])


def _open_stores() -> None:
    knock()
    client = MlflowClient()
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
