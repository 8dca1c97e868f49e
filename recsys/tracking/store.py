"""Where runs and models are: a folder of their own, or the store that the environment names."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from recsys.errors import TrackingError
from recsys.locks import locked
from recsys.spool import spools
from recsys.tracking._mlflow import MlflowClient, mlflow
from recsys.tracking.asking import knock, quiet, refusals, without_password

URI = "MLFLOW_TRACKING_URI"
"""The variable of the environment that names another store."""
_REGISTRY_URI = "MLFLOW_REGISTRY_URI"
_DATABASE = "mlflow.db"


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
    given = {name: os.environ.get(name) for name in (URI, _REGISTRY_URI)}
    uri = given[URI] or local_uri(root)
    if not (create or given[URI] or (home(root) / _DATABASE).is_file()):
        raise TrackingError(f"there is no MLflow store under {home(root)}; root is the folder that holds mlruns")
    with quiet(), refusals(f"cannot open {uri}"):
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(given[_REGISTRY_URI] or uri)
        finally:
            # MLflow copies both into the environment; left there, they would overrule the root of the next call.
            for name in [name for name, value in given.items() if value is None]:
                os.environ.pop(name, None)
        if given[URI]:
            _open_stores()
        else:
            with locked(home(root) / ".lock"):  # two processes that migrate a fresh database at once break each other
                _open_stores()
    return uri


def home(root: Path | None = None) -> Path:
    """Return the folder of runs and models, `<root>/mlruns`, absolute."""
    return (root or Path.cwd()).resolve() / "mlruns"


def local_uri(root: Path | None) -> str:
    """Return the URI of the database in `home`."""
    return f"sqlite:///{(home(root) / _DATABASE).as_posix()}"


def place(root: Path | None) -> str:
    """Return the URI of the store that `configure` would open, without user and password."""
    return without_password(os.environ.get(URI) or local_uri(root))


def pending(root: Path | None) -> Path:
    """Return the folder of what a store has not been told yet, one queue per run."""
    return home(root) / "pending"


def describe(root: Path | None = None) -> str:
    """Return where the runs are: the command that shows them, or the URI that MLFLOW_TRACKING_URI names."""
    shown = os.environ.get(URI) or ("recsys ui" if root is None else f"recsys ui --root {shlex.quote(str(root))}")
    waiting = len(spools(pending(root)))
    return f"{shown}\nwaiting  {waiting} runs in {pending(root)}: recsys sync" if waiting else shown


def connect() -> MlflowClient:
    """Return a client of the store in use; before the first `configure`, of the default one."""
    if not mlflow.is_tracking_uri_set():
        configure(create=False)
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
