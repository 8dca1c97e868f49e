"""Commands in forked children of a process that has everything imported, so that none pays for the start."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crashes.boxes import Box

PATIENCE = 90.0
"""Seconds after which a command counts as hanging, and is killed."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Its exit status; minus the number of the signal that killed it."""
    out: str
    err: str
    seconds: float
    hung: bool = False


def preload() -> None:
    """Import what commands import, and fill the caches of the libraries; no database is opened, no kernel runs."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot
    import onnxscript  # noqa: F401
    import optuna  # noqa: F401
    import tomli_w  # noqa: F401
    from mlflow.utils import requirements_utils
    from sqlalchemy.orm import configure_mappers

    import recsys.jobs.compare
    import recsys.jobs.contest
    import recsys.jobs.nightly
    import recsys.jobs.registry
    import recsys.jobs.serve
    import recsys.jobs.train
    import recsys.jobs.tune  # noqa: F401

    configure_mappers()
    requirements_utils._init_packages_to_modules_map()


def variables(box: Box) -> dict[str, str]:
    """Return the environment of commands in a box."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "TMPDIR": str(box.path / "tmp")}


def run(box: Box, arguments: Sequence[str], before: Callable[[], Any] | None = None) -> Ended:
    """Run `recsys` with these arguments in a child, and wait for it."""
    began = time.monotonic()
    pid = start(box, arguments, before)
    status, hung = wait(pid, PATIENCE)
    out, err = (output(box, name).read_text(errors="replace") for name in ("out", "err"))
    return Ended(status, out, err, time.monotonic() - began, hung)


def output(box: Box, name: str) -> Path:
    """Return the file of a command's `out` or `err`."""
    return box.base / f"std{name}"


def start(box: Box, arguments: Sequence[str], before: Callable[[], Any] | None = None) -> int:
    """Start `recsys` in a child and return its process id; `before` runs in the child first."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = _command(box, arguments, before)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(box: Box, arguments: Sequence[str], before: Callable[[], Any] | None) -> int:
    import tempfile

    import torch

    from recsys.cli import main

    os.environ.clear()
    os.environ.update(variables(box))
    tempfile.tempdir = None
    os.chdir(box.path / "work")
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(output(box, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    sys.argv = ["recsys", *arguments]
    torch.set_num_threads(1)
    after = before() if before is not None else None
    try:
        status = main(list(arguments))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    if after is not None:
        after()
    return status


def wait(pid: int, patience: float) -> tuple[int, bool]:
    """Wait for a child; return its status, and whether it took too long and was killed."""
    until = time.monotonic() + patience
    pause = 0.001
    while time.monotonic() < until:
        found, code = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(code), False
        time.sleep(pause)
        pause = min(0.02, pause * 1.2)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), True


def call(function: Callable[[], Any]) -> Any:
    """Return what a function gives in a child of its own."""
    receiving, sending = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            os.close(receiving)
            with os.fdopen(sending, "wb") as file:
                pickle.dump(function(), file)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as file:
        content = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(content)
