"""Requests to a store: quiet, bounded in time, and with MLflow's errors translated into ours."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from urllib.parse import SplitResult, urlsplit

import sqlalchemy.exc

from recsys.errors import TrackingError, TrackingUnavailable
from recsys.tracking._mlflow import MlflowException, database, mlflow

TIMEOUT = 10
"""Seconds a store has to answer a report of a run; a user's MLFLOW_HTTP_REQUEST_TIMEOUT takes precedence."""
FILE_TIMEOUT = 120
"""The same for files and models."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_FIXABLE = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")


@contextmanager
def request(failure: str, *, seconds: int | None = None, of_run: bool = False) -> Iterator[None]:
    """Call MLflow in the block: quietly, and with errors of ours.

    Args:
        failure: beginning of the error message, such as `cannot read the registry`.
        seconds: give each call this long and one attempt; None leaves MLflow's own timeouts and retries.
        of_run: a report of a run, which must not fail because the store lost the run or revoked the right to write:
            that counts as unavailable too.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    with quiet(), nullcontext() if seconds is None else bounded(seconds), translate_errors(failure, of_run=of_run):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs, warnings and progress bars of MLflow and alembic for the block."""
    bars = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    with warnings.catch_warnings(), _variables(bars), _log_level("mlflow"), _log_level("alembic"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def bounded(seconds: int = TIMEOUT, *, check: bool = True) -> Iterator[None]:
    """Give MLflow's calls in the block a timeout and one attempt; variables the user has set take precedence.

    MLflow logs nothing meanwhile, because the caller reports the error.

    Args:
        check: check first that a database server is reachable.

    Raises:
        TrackingUnavailable: it is not.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    attempts = database.MAX_RETRY_COUNT
    with _variables(limits), _log_level("mlflow", logging.CRITICAL):
        try:
            if _is_remote():
                database.MAX_RETRY_COUNT = 1
                if check:
                    check_reachable()
            yield
        finally:
            database.MAX_RETRY_COUNT = attempts


def check_reachable() -> None:
    """Check that the database server of the store accepts connections; MLflow itself would retry for minutes.

    Raises:
        TrackingUnavailable: it does not.
    """
    parts = urlsplit(mlflow.get_tracking_uri())
    port = _PORTS.get(parts.scheme.partition("+")[0])
    if port is None or not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), timeout=TIMEOUT).close()
    except OSError as error:
        place = without_password(mlflow.get_tracking_uri())
        raise TrackingUnavailable(f"{place} does not answer: {error}") from error


@contextmanager
def translate_errors(failure: str, *, of_run: bool = False) -> Iterator[None]:
    """Turn errors of MLflow, its database and its HTTP client into ours; see `request`."""
    try:
        yield
    except MlflowException as error:
        unavailable = _is_unavailable(error) or (of_run and error.error_code in _FIXABLE)
        raise (TrackingUnavailable if unavailable else TrackingError)(f"{failure}: {error.message}") from error
    except sqlalchemy.exc.OperationalError as error:
        raise TrackingUnavailable(f"{failure}: {error.orig}") from error
    except OSError as error:
        if not _is_remote():
            raise
        status = getattr(getattr(error, "response", None), "status_code", 500)  # HTTPError of the library requests
        unavailable = status >= 500 or status == 429 or (of_run and status in (401, 403, 404))
        raise (TrackingUnavailable if unavailable else TrackingError)(f"{failure}: {error}") from error


def without_password(uri: str) -> str:
    """Return a store's URI without user, password and query."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()


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


def _is_unavailable(error: MlflowException) -> bool:
    if error.error_code in _UNAVAILABLE:
        return True
    if urlsplit(mlflow.get_tracking_uri()).scheme in ("http", "https"):
        return bool(error.get_http_status_code() >= 500)
    return isinstance(error.__cause__, sqlalchemy.exc.OperationalError)


def _is_remote() -> bool:
    parts = urlsplit(mlflow.get_tracking_uri())
    return bool(parts.netloc) and parts.scheme not in ("sqlite", "file")
