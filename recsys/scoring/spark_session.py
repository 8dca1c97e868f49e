"""A Spark session whose workers run this Python."""

from __future__ import annotations

import os
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
def session(master: str | None = None, *, progress: bool = False, purpose: str = PURPOSE) -> Iterator[SparkSession]:
    """Give a Spark session, by default on all cores of this machine, and stop it after the block if it is a new one.

    Workers run this Python unless `PYSPARK_PYTHON` says which. Messages say what it is for, its `purpose`.

    Raises:
        ConfigError: pyspark or Java is missing, or the session does not start.
    """
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
    builder = SparkSession.builder.appName("recsys score").master(master or "local[*]")
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


def first_line(error: Exception) -> str:
    """Return what an error of Spark, which may be a page, says first."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
