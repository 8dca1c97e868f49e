"""The machine a run uses: what its result depends on besides its inputs, and the time."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import torch

from recsys.workspace import Workspace

_LIBRARIES = ("torch", "numpy", "scipy", "implicit", "mlflow", "recsys")


def environment(workspace: Workspace) -> dict[str, str]:
    """Return git commit, Python, libraries, platform and device: tags of a run.

    Args:
        workspace: its folder may be a git checkout.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": str(os.cpu_count()),
        **{f"version.{name}": version(name) for name in _LIBRARIES},
    }
    commit = _git(workspace.folder, "rev-parse", "HEAD")
    if commit:
        facts["git.commit"] = commit
        facts["git.dirty"] = str(bool(_git(workspace.folder, "status", "--porcelain"))).lower()
    return facts


def version(distribution: str) -> str:
    """Return the version of an installed distribution, or `not installed`."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def now() -> str:
    """Return the time in UTC as tags hold it, such as `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def milliseconds() -> int:
    """Return the time in milliseconds since 1970, as MLflow records it."""
    return int(time.time() * 1000)


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
