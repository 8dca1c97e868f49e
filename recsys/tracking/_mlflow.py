"""MLflow as the rest of this package sees it: the only file of the library that imports it."""

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from recsys.errors import TrackingError

with warnings.catch_warnings():
    # MLflow warns of its own type hints, which would stop whoever turns warnings into errors.
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunStatus, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel
    from mlflow.store.db import utils as database
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, ColSpec

__all__ = [
    "AnyType",
    "Array",
    "ColSpec",
    "DataType",
    "Dataset",
    "DatasetInput",
    "InputTag",
    "LoggedModelStatus",
    "Metric",
    "MlflowClient",
    "MlflowException",
    "ModelSignature",
    "Param",
    "ParamSchema",
    "ParamSpec",
    "PythonModel",
    "RunStatus",
    "RunTag",
    "Schema",
    "database",
    "mlflow",
    "resolve_tags",
    "system_monitors",
]


def system_monitors() -> list[Any]:
    """Return MLflow's monitors of the machine's load, that of the GPU where there is one.

    Raises:
        TrackingError: psutil, which they ask, is not installed.
    """
    if find_spec("psutil") is None:
        raise TrackingError("system metrics need psutil: pip install psutil")
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors = [CPUMonitor()]
    with suppress(Exception):  # no GPU, or not the library that asks it
        monitors.append(GPUMonitor())
    return monitors
