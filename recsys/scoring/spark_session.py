"""A Spark session whose workers run this Python."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from recsys.errors import ConfigError
from recsys.extras import check_installed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PURPOSE: Final = "scoring on Spark"


@contextmanager
def session(
    master: str | None = None, *, progress: bool = False, purpose: str = PURPOSE, memory: str | None = None
) -> Iterator[SparkSession]:
    """Give a Spark session, by default on all cores of this machine, and stop it after the block if it is a new one.

    Workers run this Python unless `PYSPARK_PYTHON` says which. Messages say what it is for, its `purpose`.

    Args:
        memory: heap of the process of Java that is started here, such as `700MB`; `PYSPARK_SUBMIT_ARGS` goes before it.

    Raises:
        ConfigError: pyspark or Java is missing, the session does not start, or `memory` is too little or no size.
    """
    heap: dict[str, bool | float | int | str | None] = {}
    if memory is not None:
        heap["spark.driver.memory"] = f"{_mebibytes(memory)}m"
    check_installed(purpose, "pyspark", extra="spark")
    home = os.environ.get("JAVA_HOME")
    if shutil.which(f"{home}/bin/java" if home else "java") is None:
        raise ConfigError(
            f"{purpose} needs Java 17 or later{f', and JAVA_HOME is {home}' if home else ''}: "
            "install openjdk-17-jre-headless (Debian, Ubuntu)"
        )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("recsys score").master(master or "local[*]").config(map=heap)
    try:
        spark = builder.config("spark.ui.showConsoleProgress", str(progress).lower()).getOrCreate()
    except (PySparkException, OSError) as error:
        raise ConfigError(f"Spark does not start at {master or 'local[*]'}: {first_line(error)}") from None
    except Exception as error:
        if not type(error).__module__.startswith("py4j"):
            raise
        raise ConfigError(f"Spark does not start at {master or 'local[*]'}: {first_line(error)}") from None
    try:
        yield spark
    finally:
        if active is None:
            spark.stop()


_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])(i?)B", re.IGNORECASE)
_LEAST: Final = 471_859_200
"""Bytes of the smallest heap with which Spark starts."""


def _mebibytes(size: str) -> int:
    """Return a size such as `1GB` or `700MiB` in MiB; a ConfigError where it is none, or too little for Spark."""
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise ConfigError(f"memory must be a size such as 1GB or 700MB, got {size!r}")
    value = float(found[1]) * (1024 if found[3] else 1000) ** ("KMGT".index(found[2].upper()) + 1)
    if value < _LEAST:
        raise ConfigError(f"Spark needs at least 472MB of memory, got {size!r}")
    return int(value / 2**20)


def first_line(error: Exception) -> str:
    """Return what an error of Spark, which may be a page, says first."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
