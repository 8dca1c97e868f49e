"""Training checkpoints: one safetensors file that holds all that an interrupted run needs to continue exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recsys.errors import TrainingError
from recsys.files import replacing

_OPTIMIZER = "optimiser."
"""Prefix of the optimizer's tensors, spelled as in the files of version 0.1.0."""


class Checkpoint:
    """The checkpoint file of one run; `identity`, JSON values, tells runs apart."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity

    def save(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        order_state: Tensor,
        noise_state: Tensor,
        state: dict[str, Any],
    ) -> None:
        """Write weights, best weights, optimizer, generator states and position, whole or not at all."""
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors.update({f"{_OPTIMIZER}{index}.{name}": value for name, value in values.items()})
        tensors.update({f"best.{name}": tensor for name, tensor in (state["best"] or {}).items()})
        tensors["rng.order"], tensors["rng.noise"] = order_state, noise_state
        rest = {name: value for name, value in state.items() if name != "best"}
        metadata = {"state": json.dumps(rest), "identity": json.dumps(self.identity, sort_keys=True)}
        with replacing(self.path) as new:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, new, metadata)

    def load(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        order_rng: torch.Generator,
        noise: torch.Generator,
    ) -> dict[str, Any] | None:
        """Restore everything in place and return the position; None without a checkpoint.

        Raises:
            TrainingError: the file is damaged or belongs to another configuration or data set.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            state: dict[str, Any] = json.loads(metadata["state"])
            identity = json.loads(metadata["identity"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise TrainingError(f"checkpoint {self.path} cannot be read ({error}); delete it to start again") from None
        expected = json.loads(json.dumps(self.identity))
        if identity != expected:
            differs = sorted(k for k in expected.keys() | identity.keys() if expected.get(k) != identity.get(k))
            raise TrainingError(
                f"checkpoint {self.path} belongs to another run (differs in {', '.join(differs)}); "
                "delete it or choose another path"
            )
        network.load_state_dict(_under(tensors, "network."))
        saved = optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(tensors, _OPTIMIZER).items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        saved["state"] = moments
        optimizer.load_state_dict(saved)
        order_rng.set_state(tensors["rng.order"])
        noise.set_state(tensors["rng.noise"])
        device = next(network.parameters()).device
        state["best"] = {name: tensor.to(device) for name, tensor in _under(tensors, "best.").items()} or None
        return state


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
