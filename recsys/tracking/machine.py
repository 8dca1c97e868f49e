"""The machine on which a run runs: what a result depends on besides its inputs, and the load."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import torch

from recsys.tracking._mlflow import system_monitors
from recsys.workspace import Workspace

_LIBRARIES = ("torch", "numpy", "scipy", "implicit", "mlflow", "recsys")


def environment(workspace: Workspace) -> dict[str, str]:
    """Return what a run depends on besides its inputs: git commit, Python, libraries, platform and device.

    Args:
        workspace: its folder may be a git checkout.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": str(os.cpu_count()),
        **{f"version.{name}": version(name) for name in _LIBRARIES},
    }
    commit = _git(workspace.folder, "rev-parse", "HEAD")
    if commit:
        found["git.commit"] = commit
        found["git.dirty"] = str(bool(_git(workspace.folder, "status", "--porcelain"))).lower()
    return found


def version(distribution: str) -> str:
    """Return the version of an installed distribution, or `not installed`."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def now() -> str:
    """Return the time as tags hold it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Load:
    """The load of the machine, as MLflow's own monitor of system metrics names it.

    Raises:
        TrackingError: psutil is not installed.
    """

    def __init__(self) -> None:
        self._monitors = system_monitors()
        self.figures()  # the first figure is that since the start of the process

    def figures(self) -> dict[str, float]:
        """Return the load since the last call, as `system/...`."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
