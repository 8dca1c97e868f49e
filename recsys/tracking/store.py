"""The store of runs and models: a workspace's own, or the one that the environment names, and requests to it.

Requests are quiet, bounded in time, and raise errors of ours.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from recsys.errors import TrackingError, TrackingUnavailable, absent, warn
from recsys.files import locked
from recsys.tracking import home
from recsys.tracking._mlflow import MlflowClient, MlflowException, database, mlflow
from recsys.workspace import Workspace

URI = "MLFLOW_TRACKING_URI"
"""Environment variable that names another store."""
TIMEOUT = 8
"""Seconds a store has to answer a report of a run; a user's MLFLOW_HTTP_REQUEST_TIMEOUT takes precedence."""
FILE_TIMEOUT = 120
"""The same for files and models."""
_REGISTRY_URI = "MLFLOW_REGISTRY_URI"
OWN = f"mlruns/{home.DATABASE}"
"""The place of a workspace's own store, wherever the workspace lies."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_FIXABLE = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")


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
    uri = given[URI] or home.uri(workspace)
    if not given[URI]:
        with quiet():
            note = home.prepare(workspace, create=create)
        if note:
            warn(note)
    with request(f"cannot open {without_password(uri)}", check=False):
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(given[_REGISTRY_URI] or uri)
        finally:
            # MLflow copies both into the environment; left there, they would override the next call's workspace.
            for name in [name for name, value in given.items() if value is None]:
                os.environ.pop(name, None)
        try:
            _open_stores()
        except OperationalError:
            raise
        except ImportError as error:
            raise TrackingError(f"cannot open {without_password(uri)}: {error}{_driver(uri)}") from error
        except (SQLAlchemyError, ValueError) as error:  # no URI
            raise TrackingError(f"cannot open {without_password(uri)}: {home.first_line(error)}") from error
    return uri


def place(workspace: Workspace) -> str:
    """Return the URI of the store that `configure` opens, without user and password; of a workspace's own, `OWN`."""
    given = os.environ.get(URI)
    return OWN if given is None or given == home.uri(workspace) else without_password(given)


def check(workspace: Workspace) -> None:
    """Refuse, before any work, a workspace's own store that cannot be used; see `home.check`."""
    if not os.environ.get(URI):
        with quiet():
            home.check(workspace)


def is_place(recorded: str, place: str) -> bool:
    """Return whether a recorded place is this one; earlier versions recorded where a workspace's own store then lay."""
    own = recorded.startswith("sqlite:") and recorded.endswith(f"/{OWN}")
    return recorded == place or (own and place == OWN)


def pending(workspace: Workspace) -> Path:
    """Return the folder of the queues of unsent events, one per run."""
    return workspace.mlruns / "pending"


def trouble(workspace: Workspace) -> str:
    """Return what is the matter where reports of a run wait: the own database takes none, or the server is away."""
    if place(workspace) == OWN:
        return f"the store {workspace.mlruns / home.DATABASE} cannot be written, or not always"
    return "the tracking server does not answer, or not always"


def unwritable(workspace: Workspace, error: OSError) -> TrackingError:
    """Return the error for a report of a run that can neither be sent nor wait on disk."""
    return TrackingError(
        f"{trouble(workspace)}, and nothing can wait in {pending(workspace)}: {error.strerror or error}; make room or "
        "give the right to write, and the same command goes on where it stopped"
    )


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


@contextmanager
def request(failure: str, *, seconds: int = TIMEOUT, of_run: bool = False, check: bool = True) -> Iterator[None]:
    """Call MLflow in the block: quietly, and with its errors, its database's and its HTTP client's turned into ours.

    Args:
        failure: beginning of the error message, such as `cannot read the registry`.
        seconds: give each attempt of a call this long.
        of_run: a report of a run, which gets one attempt because it can wait, and must not fail because the store lost
            the run or revoked the right to write: that counts as unavailable too.
        check: see whether a database server is reachable; not before `configure`, which may choose another and checks.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    with quiet(), bounded(seconds, retries=0 if of_run else 1, check=check):
        try:
            yield
        except MlflowException as error:
            if urlsplit(mlflow.get_tracking_uri()).scheme in ("http", "https"):
                unavailable = error.get_http_status_code() >= 500
            else:
                unavailable = isinstance(error.__cause__, OperationalError)
            unavailable |= error.error_code in (*_UNAVAILABLE, *(_FIXABLE if of_run else ()))
            found = (TrackingUnavailable if unavailable else TrackingError)(f"{failure}: {_reason(error)}")
            raise (absent(found) if error.error_code == _ABSENT and not unavailable else found) from error
        except OperationalError as error:
            raise TrackingUnavailable(f"{failure}: {home.first_line(error)}") from error
        except (SQLAlchemyError, UnicodeDecodeError) as error:  # the last of a damaged database
            raise TrackingError(f"{failure}: {home.first_line(error)}") from error
        except OSError as error:
            if not is_remote():
                if of_run and error.errno in _UNWRITABLE:
                    raise TrackingUnavailable(f"{failure}: {error.filename}: {error.strerror}") from error
                raise
            status = getattr(getattr(error, "response", None), "status_code", 500)  # HTTPError of the library requests
            unavailable = status >= 500 or status == 429 or (of_run and status in (401, 403, 404))
            raise (TrackingUnavailable if unavailable else TrackingError)(f"{failure}: {error}") from error


def _reason(error: MlflowException) -> str:
    """Return in one line why MLflow failed; where it is the connection or the database, in their own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SQLAlchemyError):
            return home.first_line(cause)
        if isinstance(cause, ConnectionError | TimeoutError):
            return f"{without_password(mlflow.get_tracking_uri())} does not answer: {cause.strerror or cause}"
        cause = cause.__cause__ or cause.__context__
    return home.first_line(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs, warnings and progress bars of MLflow and alembic for the block."""
    bars = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    with warnings.catch_warnings(), _variables(bars), _log_level("mlflow", logging.CRITICAL), _log_level("alembic"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def bounded(seconds: int = TIMEOUT, *, retries: int = 0, check: bool = True) -> Iterator[None]:
    """Give MLflow's calls in the block a timeout and few attempts; variables the user has set take precedence.

    MLflow logs nothing meanwhile, because the caller reports the error. With `check`, a database server that is not
    reachable raises TrackingUnavailable at once.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "PGCONNECT_TIMEOUT": str(seconds),  # of PostgreSQL's driver, which would wait for ever
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    attempts = database.MAX_RETRY_COUNT
    with _variables(limits), _log_level("mlflow", logging.CRITICAL):
        try:
            if is_remote():
                database.MAX_RETRY_COUNT = 1
                if check:
                    _check_reachable()
            yield
        finally:
            database.MAX_RETRY_COUNT = attempts


def without_password(uri: str) -> str:
    """Return a store's URI without user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no URI at all
        return uri
    if not parts.netloc:
        return uri
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()


def _driver(uri: str) -> str:
    """Return how to get the driver of a database, as the end of a message."""
    if not uri.startswith("postgres"):
        return "; install the driver that the URI asks for"
    # Which driver postgresql:// alone means depends on the version of SQLAlchemy.
    return "; pip install 'recsys[postgres]' and write the URI as postgresql+psycopg2://..."


def _open_stores() -> None:
    _check_reachable()
    client = MlflowClient()
    client.search_experiments(max_results=1)
    if mlflow.get_registry_uri() != mlflow.get_tracking_uri():
        client.search_registered_models(max_results=1)


def _check_reachable() -> None:
    """Raise TrackingUnavailable if a database server accepts no connections; MLflow itself would retry for minutes."""
    parts = urlsplit(mlflow.get_tracking_uri())
    port = _PORTS.get(parts.scheme.partition("+")[0])
    if port is None or not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), timeout=TIMEOUT).close()
    except OSError as error:
        place = without_password(mlflow.get_tracking_uri())
        raise TrackingUnavailable(f"{place} does not answer: {error}") from error


def _lock_folder(uri: str) -> Path:
    """Return the folder of a registry's locks: beside its database file, or a temporary one for a server."""
    if uri.startswith("sqlite"):
        return Path(make_url(uri).database or "").absolute().parent / "locks"
    user = os.getuid() if hasattr(os, "getuid") else ""
    digest = hashlib.sha256(without_password(uri).encode()).hexdigest()
    return Path(tempfile.gettempdir(), f"recsys-{user}", digest[:16])


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set the environment variables that are not set, for the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _log_level(name: str, level: int = logging.WARNING) -> Iterator[None]:
    """Set the level of a logger for the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_remote() -> bool:
    """Return whether the store is a server."""
    try:
        parts = urlsplit(mlflow.get_tracking_uri())
    except ValueError:  # no URI, which is found when it is opened
        return False
    return bool(parts.netloc) and parts.scheme not in ("sqlite", "file")
