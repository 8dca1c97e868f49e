"""What a fit needs besides the data: the caller's options, a device, a generator of weights, order and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from recsys.errors import ConfigError


class Validates(Protocol):
    """Measures a model on held-out users after each epoch; `metric` names what chooses the weights to keep."""

    @property
    def metric(self) -> str:
        """Name of the metric that chooses."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""

    def __call__(self, model: Any) -> Mapping[str, float]:
        """Return the metrics of the model as it is now."""


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `Recommender.fit` besides the matrix, which says what each is."""

    show_progress: bool = False
    callback: Callable[[int, float, float | None], Any] | None = None
    validation: Validates | None = None
    on_epoch: Callable[[dict[str, float]], None] | None = None
    checkpoint: str | Path | None = None


def named_device(device: str) -> torch.device:
    """Return the device of that name, whether or not this machine has it; ConfigError if nothing has that name."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
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


def free_on(device: torch.device) -> float | None:
    """Return the bytes that are free on a GPU; None for a CPU."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + kept)


def new_generator(seed: int | np.random.Generator | None) -> torch.Generator:
    """Return a CPU generator from a seed, from a numpy generator, or from fresh entropy."""
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
