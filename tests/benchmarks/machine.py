"""What the machine gives: its name, its rate of dense float32 products, the memory of this process."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from recsys.devices import fast_products


def name(device: str) -> str:
    """Return processor or GPU, cores and memory, for the head of a table."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability()
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores ({capability}), {gib:.0f} GiB"


def best(work: Callable[[], object], device: str = "cpu", repeats: int = 3) -> float:
    """Return the seconds of the fastest of some runs, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def synchronise(device: str) -> None:
    """Wait for the GPU, if it is one."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def gemm_rate(device: str = "cpu", seconds: float = 2.0) -> float:
    """Return float32 operations per second that square products sustain: what a perfect program could reach here."""
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    out = torch.empty_like(left)
    with fast_products():
        torch.mm(left, right, out=out)
        synchronise(device)
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            torch.mm(left, right, out=out)
            synchronise(device)
            done += 1
    return 2 * size**3 * done / (time.perf_counter() - began)


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024)
