"""The only file of the library that imports MLflow."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Final

from recsys.errors import TrackingError

with warnings.catch_warnings():
    # Importing MLflow warns of its own type hints, an error for users who turn warnings into errors.
    warnings.simplefilter("ignore")
    import mlflow.models
    import mlflow.pyfunc
    from mlflow import MlflowClient, entities, types
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as repositories
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository as artifact_repository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.store.db import utils as database
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking.context.registry import resolve_tags

__all__ = [
    "ArtifactRepository",
    "Base",
    "Load",
    "MlflowClient",
    "MlflowException",
    "SqlAlchemyStore",
    "artifact_repository",
    "database",
    "entities",
    "mlflow",
    "resolve_tags",
    "types",
]


UPLOADS: Final = 8
"""Files that are sent to a server at the same time."""


class ParallelRepository(MlflowArtifactsRepository):  # type: ignore[misc]
    """A server's artifacts. The files of a folder are sent at the same time; by MLflow's own, one after the other."""

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Send the files of a folder and its folders; the first error is raised."""
        folder = Path(local_dir).absolute()
        with ThreadPoolExecutor(UPLOADS) as pool:
            waiting = []
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                place = PurePosixPath(artifact_path or "", file.parent.relative_to(folder).as_posix()).as_posix()
                waiting.append(pool.submit(self.log_artifact, str(file), None if place == "." else place))
            try:
                for sent in waiting:
                    sent.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


repositories.register("mlflow-artifacts", ParallelRepository)


class Load:
    """The load of the machine, measured by MLflow's own monitors: of the CPU, and of the GPU if there is one.

    Raises:
        TrackingError: psutil, which they use, is not installed.
    """

    def __init__(self) -> None:
        if find_spec("psutil") is None:
            raise TrackingError("system metrics need psutil: pip install psutil")
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._monitors: list[Any] = [CPUMonitor()]
        with suppress(Exception):  # no GPU, or its library is missing
            self._monitors.append(GPUMonitor())
        self.figures()  # psutil's first figure covers the time since the process started

    def figures(self) -> dict[str, float]:
        """Return the load since the last call, with names `system/...` as MLflow's pages expect them."""
        figures: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            figures |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return figures
