"""Devices by name: which there is, what is free there, whether the host waits for it, and how the host multiplies."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from recsys.errors import ConfigError

_CPU = Path("/proc/cpuinfo")


def named_device(device: str) -> torch.device:
    """Return the device of that name, whether or not this machine has it; ConfigError if nothing has that name."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"  # the one that `ranks.joined` has set
    try:
        return torch.device(device)
    except (RuntimeError, ValueError):
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}") from None


def pick_device(device: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: no such device, or this machine has none.
    """
    chosen = named_device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={device!r}, but torch {torch.__version__} sees no CUDA device here; use 'auto' or 'cpu'"
        )
    return chosen


def is_apart(place: torch.device | Tensor) -> bool:
    """Return whether a device, or that of a tensor, is not the host: to read a number from it, the host waits."""
    device = place.device if isinstance(place, Tensor) else place
    return device.type != "cpu"


def free_on(device: torch.device) -> float | None:
    """Return the bytes that are free on a device beside the host; None for the host, and where it does not say."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + kept)


@contextmanager
def fast_products() -> Iterator[None]:
    """Multiply float32 matrices on the host by oneDNN within, where it is as exact as MKL and faster.

    MKL 2024 uses no AVX-512 on processors of AMD and takes twice as long as oneDNN on a Zen 5. torch hands products to
    oneDNN only where it may round to bfloat16 inside, which oneDNN does on processors with AMX and nowhere else; there,
    and where torch has no such setting, nothing changes. The choice depends on the processor alone, so that a training
    repeats to the same bits. Do not score within: a list must not depend on who shares the block
    (`nn.products.affine`).
    """
    if not _mkl_is_slower():
        yield
        return
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@functools.cache
def _mkl_is_slower() -> bool:
    """Return whether this is a processor of AMD with AVX-512 and without AMX, and torch can be told to use oneDNN."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    settable = hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision")
    if not (available and settable) or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        about = _CPU.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in about and "amx_tile" not in about
