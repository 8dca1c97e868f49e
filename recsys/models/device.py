"""Where a model computes, and the generator that its weights, order and noise are drawn from."""

from __future__ import annotations

import numpy as np
import torch

from recsys.errors import ConfigError


def pick_device(device: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: no such device, or this machine has none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={device!r}, but torch {torch.__version__} sees no CUDA device here; use 'auto' or 'cpu'"
        )
    return chosen


def new_generator(seed: int | np.random.Generator | None) -> torch.Generator:
    """Return a CPU generator from a seed, from a numpy generator, or from fresh entropy."""
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
