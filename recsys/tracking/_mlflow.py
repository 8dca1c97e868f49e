"""The only file of the library that imports MLflow."""

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from recsys.errors import TrackingError

with warnings.catch_warnings():
    # Importing MLflow warns of its own type hints, an error for users who turn warnings into errors.
    warnings.simplefilter("ignore")
    import mlflow.models
    import mlflow.pyfunc
    from mlflow import MlflowClient, entities, types
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils as database
    from mlflow.tracking.context.registry import resolve_tags

__all__ = [
    "MlflowClient",
    "MlflowException",
    "database",
    "entities",
    "mlflow",
    "resolve_tags",
    "system_monitors",
    "types",
]


def system_monitors() -> list[Any]:
    """Return MLflow's monitors of the machine's load: CPU, and GPU if there is one.

    Raises:
        TrackingError: psutil, which they use, is not installed.
    """
    if find_spec("psutil") is None:
        raise TrackingError("system metrics need psutil: pip install psutil")
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors = [CPUMonitor()]
    with suppress(Exception):  # no GPU, or its library is missing
        monitors.append(GPUMonitor())
    return monitors
