"""How a store is asked: quietly, for a bounded time, and so that what it refuses is an error of ours."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

import sqlalchemy.exc

from recsys.errors import TrackingError, TrackingUnavailable
from recsys.tracking._mlflow import MlflowException, database, mlflow

TIMEOUT = 10
"""Seconds that a store may take to answer a run; a user's MLFLOW_HTTP_REQUEST_TIMEOUT goes before."""
FILE_TIMEOUT = 120
"""The same for files and models."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_AWAY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_NOT_NOW = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")
_BARS = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"


@contextmanager
def quiet() -> Iterator[None]:
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


@contextmanager
def bounded(seconds: int = TIMEOUT, *, knocking: bool = True) -> Iterator[None]:
    """Let MLflow ask its store once and wait this long in the block; what the environment says goes before.

    MLflow's log says nothing then, as what went wrong is ours to say.

    Args:
        knocking: look first whether a database server is there at all.

    Raises:
        TrackingUnavailable: it is not.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    attempts = database.MAX_RETRY_COUNT
    logger = logging.getLogger("mlflow")
    level = logger.level
    os.environ.update(added)
    try:
        logger.setLevel(logging.CRITICAL)
        if _remote():
            database.MAX_RETRY_COUNT = 1
            if knocking:
                knock()
        yield
    finally:
        logger.setLevel(level)
        database.MAX_RETRY_COUNT = attempts
        for name in added:
            os.environ.pop(name, None)


def knock() -> None:
    """Refuse a database server that nobody answers for: MLflow would try for many minutes.

    Raises:
        TrackingUnavailable: nobody answers.
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
def refusals(what: str, *, within: bool = False) -> Iterator[None]:
    """Turn errors of MLflow and of what it asks into ours.

    Args:
        what: could not be done, the beginning of the message.
        within: a run, which also a store that has lost it, or the right to write, must not stop.

    Raises:
        TrackingUnavailable: the store does not answer.
        TrackingError: it refuses.
    """
    try:
        yield
    except MlflowException as error:
        away = _is_away(error) or (within and error.error_code in _NOT_NOW)
        raise (TrackingUnavailable if away else TrackingError)(f"{what}: {error.message}") from error
    except sqlalchemy.exc.OperationalError as error:
        raise TrackingUnavailable(f"{what}: {error.orig}") from error
    except OSError as error:
        if not _remote():
            raise
        status = getattr(getattr(error, "response", None), "status_code", 500)  # of requests' HTTPError
        away = status >= 500 or status == 429 or (within and status in (401, 403, 404))
        raise (TrackingUnavailable if away else TrackingError)(f"{what}: {error}") from error


def without_password(uri: str) -> str:
    """Return a store's URI without the user and password that it may hold."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()


def _is_away(error: MlflowException) -> bool:
    if error.error_code in _AWAY:
        return True
    if urlsplit(mlflow.get_tracking_uri()).scheme in ("http", "https"):
        return bool(error.get_http_status_code() >= 500)
    return isinstance(error.__cause__, sqlalchemy.exc.OperationalError)


def _remote() -> bool:
    parts = urlsplit(mlflow.get_tracking_uri())
    return bool(parts.netloc) and parts.scheme not in ("sqlite", "file")
