"""Training checkpoints: one safetensors file that holds all that an interrupted run needs to continue exactly.

A checksum covers all of it: a run does not continue from what a full disk, a power cut or a faulty disk has left.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recsys import ranks
from recsys.claims import remove_dead_files
from recsys.errors import TrainingError, warn
from recsys.files import replacing
from recsys.training.optimizer import Optimizer

_OPTIMIZER = "optimiser."
"""Prefix of the optimizer's tensors, spelled as in the files of version 0.1.0."""
_HEAD = 2**20
"""Bytes at a file's beginning that tell a damaged checkpoint from somebody's file."""
_NAMES = (b"__metadata__", b'"network.', b'"optimiser.', b'"rng.', b'"parts.')
_SHORTEST = 9
"""Bytes without which nothing can be told of a file of safetensors."""


class Checkpoint:
    """The checkpoint file of one run; `identity`, JSON values, tells runs apart."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self._told = False

    def save(
        self, network: nn.Module, optimizer: Optimizer, generators: dict[str, Tensor], state: dict[str, Any]
    ) -> None:
        """Write weights, best weights, optimizer, states of generators and position, whole or not at all.

        What cannot be written, because the disk is full say, is left out with one warning per training.
        """
        if not ranks.first():
            return
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        tensors.update({f"{_OPTIMIZER}{name}": value for name, value in optimizer.state().items()})
        tensors.update({f"best.{name}": tensor for name, tensor in (state["best"] or {}).items()})
        tensors.update({f"rng.{name}": tensor for name, tensor in generators.items()})
        self.write(tensors, {name: value for name, value in state.items() if name != "best"})

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write tensors and JSON values, whole or not at all, or warn as `save` does."""
        metadata = {"state": json.dumps(state), "identity": json.dumps(self.identity, sort_keys=True)}
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata["checksum"] = _checksum(whole, metadata)
        try:
            with replacing(self.path, durable=True) as new:
                save_file(whole, new, metadata)
        except (OSError, SafetensorError) as error:  # the second where safetensors itself met the first
            self._tell(f"the checkpoint {self.path} could not be written ({error}); the training goes on without it")

    def remove(self) -> None:
        """Remove the checkpoint of a training that is complete, and what killed processes left when they wrote it."""
        if not ranks.first():
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self._tell(f"the checkpoint {self.path} of a complete training could not be removed ({error})")
        remove_dead_files(self.path)

    def load(
        self, network: nn.Module, optimizer: Optimizer, generators: dict[str, torch.Generator]
    ) -> dict[str, Any] | None:
        """Restore everything in place and return the position; None without a checkpoint.

        A damaged one, and one of an earlier version, which has no checksum, count as none; a warning says so.

        Raises:
            TrainingError: the file belongs to another configuration or data set, or is no checkpoint.
        """
        found = self._of_first()
        if found is None:
            return None
        tensors, state = found
        network.load_state_dict(_under(tensors, "network."))
        optimizer.restore(_under(tensors, _OPTIMIZER))
        for name, generator in generators.items():
            generator.set_state(tensors[f"rng.{name}"])
        device = next(network.parameters()).device
        state["best"] = {name: tensor.to(device) for name, tensor in _under(tensors, "best.").items()} or None
        return state

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what `write` wrote; None without a checkpoint, or as `load` says.

        Raises:
            TrainingError: the file belongs to another configuration or data set, or is no checkpoint.
        """
        remove_dead_files(self.path)
        found = self._read()
        if found is None:
            return None
        tensors, state, identity = found
        expected = json.loads(json.dumps(self.identity))
        if identity != expected:
            differs = sorted(k for k in expected.keys() | identity.keys() if expected.get(k) != identity.get(k))
            raise TrainingError(
                f"checkpoint {self.path} belongs to another run (differs in {', '.join(differs)}); "
                "delete it or choose another path"
            )
        return tensors, state

    def _of_first(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what `read` does in the first of the processes that train together."""
        found = self.read() if ranks.first() else None
        state = ranks.from_first(lambda: None if found is None else found[1])
        return None if state is None else (ranks.tensors_from_first(found[0] if found else None), state)

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]] | None:
        """Return tensors, position and identity of the file; None where there is none or it is damaged."""
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise TrainingError(f"checkpoint {self.path} is not a file; remove it or choose another path")
            with self.path.open("rb") as file:
                head = file.read(_HEAD)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TrainingError(f"checkpoint {self.path} cannot be read ({error}); delete it to start again") from None
        try:
            with safe_open(self.path, "pt") as content:
                metadata = content.metadata() or {}
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dict
            foreign = not metadata.keys() & {"state", "identity"}
        except Exception as error:  # safetensors and torch raise whatever nonsense leads them to
            problem, foreign = f"is damaged ({error})", not _was_checkpoint(head)
        else:
            if not foreign and "checksum" not in metadata:
                problem = "was written by an earlier version, without a checksum"
            elif not foreign and metadata["checksum"] == _checksum(tensors, metadata):
                return tensors, json.loads(metadata["state"]), json.loads(metadata["identity"])
            else:
                problem = "is damaged (it does not match its checksum)"
        if foreign:
            raise TrainingError(
                f"checkpoint {self.path} cannot be read: it is a file of something else; choose another path or delete "
                "it to start again"
            )
        warn(" ".join(f"the checkpoint {self.path} {problem}; the training begins anew".split()))
        return None

    def _tell(self, problem: str) -> None:
        if not self._told:
            self._told = True
            warn(" ".join(problem.split()))


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of all that a checkpoint holds but for its checksum."""
    rest = {name: text for name, text in metadata.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _was_checkpoint(head: bytes) -> bool:
    """Return whether the beginning of an unreadable file is that of a checkpoint, or says nothing at all."""
    return len(head) < _SHORTEST or not head.strip(b"\0") or any(name in head for name in _NAMES)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
