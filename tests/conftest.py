"""What all tests share: an MLflow home of their own, without the seconds that its database takes to create."""

import os
import shutil

import pytest

from recsys.workspace import Workspace

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory):
    """A folder with a fresh MLflow home, to copy."""
    from recsys import tracking

    root = tmp_path_factory.mktemp("template")
    tracking.configure(Workspace(root))
    return root


@pytest.fixture
def mlflow_root(tmp_path, mlflow_template, monkeypatch):
    """A project root with an empty MLflow home, which is also the working directory."""
    shutil.copytree(mlflow_template / "mlruns", tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    return tmp_path
