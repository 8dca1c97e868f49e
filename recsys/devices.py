"""Devices by name: which there is, what is free on it, and whether work on it goes on while the host does."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.errors import ConfigError


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
