"""Commands in forked children of a process that has everything imported, so that none pays for the start."""

from __future__ import annotations

import gc
import os
import selectors
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from recsys.cli import main
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


MODULES = (
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PpmImagePlugin",
    "alembic.command",
    "alembic.config",
    "git",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "mlflow.pyfunc.model",
    "mlflow.store.db_migrations.env",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "multiprocessing.synchronize",
    "networkx",
    "onnx",
    "onnxscript",
    "onnxscript.function_libs.torch_lib.ops",
    "onnxscript.rewriter",
    "opentelemetry.sdk.trace",
    "optuna.storages",
    "optuna.storages._rdb.storage",
    "pandas.io.parquet",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "recsys.jobs.compare",
    "recsys.jobs.contest",
    "recsys.jobs.nightly",
    "recsys.jobs.registry",
    "recsys.jobs.serve",
    "recsys.jobs.train",
    "recsys.jobs.tune",
    "recsys.tuning.search",
    "sqlalchemy.dialects.sqlite",
    "sympy.combinatorics",
    "sympy.tensor",
    "tomli_w",
    "torch._dynamo",
    "torch._dynamo.output_graph",
    "torch._export",
    "torch._inductor.decomposition",
    "torch.distributed.tensor",
    "torch.export",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._fx_passes",
    "torch.onnx._internal.exporter._registration",
)
"""What commands import when they first use it."""


def preload() -> None:
    """Import what commands import, and fill the caches of the libraries; no database is opened, no kernel runs."""
    import matplotlib

    matplotlib.use("agg")
    for name in MODULES:
        with suppress(ImportError, AttributeError):  # internal ones come and go
            import_module(name)
    from mlflow.utils import requirements_utils
    from sqlalchemy.orm import configure_mappers

    configure_mappers()
    requirements_utils._init_packages_to_modules_map()
    # A collection of garbage in a child would touch, and so copy, all memory that it shares with its parent.
    gc.collect()
    gc.freeze()


def variables(box: Box) -> dict[str, str]:
    """Return the environment of commands in a box."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "TMPDIR": str(box.path / "tmp")}


def run(box: Box, arguments: Sequence[str], before: Callable[[], Any] | None = None) -> Ended:
    """Run `recsys` with these arguments in a child, and wait for it."""
    began = time.monotonic()
    pipes = os.pipe(), os.pipe()
    pid = start(box, arguments, before, [sending for _, sending in pipes])
    for _, sending in pipes:
        os.close(sending)
    out, err = _read([receiving for receiving, _ in pipes], began + PATIENCE)
    status, hung = wait(pid, max(1.0, began + PATIENCE - time.monotonic()))
    return Ended(status, out, err, time.monotonic() - began, hung)


def _read(pipes: Sequence[int], until: float) -> list[str]:
    """Read pipes until they are closed, or until a time."""
    texts = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(1.0):
                part = os.read(key.fd, 65536)
                texts[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
    for pipe in pipes:
        os.close(pipe)
    return [text.decode(errors="replace") for text in texts.values()]


def start(
    box: Box,
    arguments: Sequence[str],
    before: Callable[[], Any] | None = None,
    outputs: Sequence[int] = (),
) -> int:
    """Start `recsys` in a child and return its process id.

    Args:
        before: runs in the child first; what it returns runs there last.
        outputs: where standard output and standard error go, by default nowhere.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number, handle in zip((1, 2), outputs or (nowhere, nowhere), strict=True):
            os.dup2(handle, number)
        # The old objects remember whether the old files could be sought in.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        status = _command(box, arguments, before)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(box: Box, arguments: Sequence[str], before: Callable[[], Any] | None) -> int:
    os.environ.clear()
    os.environ.update(variables(box))
    tempfile.tempdir = None
    os.chdir(box.path / "work")
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
