"""The processes that train one model together, as `torchrun` starts them: who this is, and what all of them sum up.

Outside `joined` there is one process, and every function here returns what it is given.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import torch  # and not torch.distributed by name: with that import torch.export takes a batch's size for fixed
from torch import Tensor

from recsys.errors import ConfigError, PeerEnded, TrainingError

ENVIRONMENT: Final = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells each process."""
PATIENCE: Final = timedelta(days=7)
"""How long a process waits for another that still runs: the first one may measure and write for hours."""
_ALONE: Final = (0, 1)
_place = _ALONE
"""Number of this process, and how many there are."""


def asked() -> int:
    """Return how many processes were started to train together; 1 where `torchrun` has not started this one.

    Raises:
        ConfigError: the environment is half that of `torchrun`.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" not in os.environ or size == "1":
        return 1
    missing = [name for name in ENVIRONMENT if not os.environ.get(name)]
    if missing or not size.isdigit():
        raise ConfigError(
            f"torchrun sets {', '.join(ENVIRONMENT)}; missing here: {', '.join(missing) or 'a number in WORLD_SIZE'}"
        )
    return int(size)


@contextmanager
def joined() -> Iterator[None]:
    """Train together with the other processes that `torchrun` started, within the block.

    Every process calls `fit` with the same data and the same hyperparameters, on networks. Each visits its share of
    every batch; gradients, losses and statistics of a batch are summed, so that all end with the weights that one
    process would have found. The first process alone calls `validation` and writes checkpoints. On GPUs each process
    takes the one of its `LOCAL_RANK`.

    Raises:
        ConfigError: `torchrun` has not started this process.
        TrainingError: the processes do not find each other.
    """
    global _place
    if asked() == 1:
        raise ConfigError("start the processes with torchrun, such as torchrun --nproc-per-node 2 -m recsys train ...")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # Its functions take the group of all processes as a default: imported later, as torch's optimizers do, they would
    # keep that group and its threads until the interpreter ends, which can abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes of torchrun do not find each other: {error}") from None
    _place = torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        yield
    finally:
        _place = _ALONE
        torch.distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Be one process within the block: what is done there, the others do not do."""
    global _place
    before, _place = _place, _ALONE
    try:
        yield
    finally:
        _place = before


def size() -> int:
    """Return how many processes train together."""
    return _place[1]


def number() -> int:
    """Return the number of this one, from 0."""
    return _place[0]


def first() -> bool:
    """Return whether this is the one that measures and writes."""
    return _place[0] == 0


def share(rows: Tensor) -> Tensor:
    """Return this process's part of the rows of a batch; the parts of all are the batch, in order."""
    own, all_of_them = _place
    return rows[len(rows) * own // all_of_them : len(rows) * (own + 1) // all_of_them]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, the same bits in all of them."""
    if size() > 1:
        with _talking():
            for work in [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()


def total(tensor: Tensor) -> Tensor:
    """Return the sum over the processes of a statistic of the batch; gradients reach the parts of all of them."""
    if size() == 1:
        return tensor
    result: Tensor = _Total.apply(tensor)  # type: ignore[no-untyped-call]
    return result


def totals(values: Sequence[float]) -> list[float]:
    """Return the sums over the processes of numbers of the host."""
    if size() == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.float64)
    add_up([numbers])
    return [float(value) for value in numbers]


def from_first(make: Callable[[], Any]) -> Any:
    """Return the JSON value that the first process makes; the others do not call `make`."""
    if size() == 1:
        return make()
    text = json.dumps(make()).encode() if first() else b""
    with _talking():
        length = torch.tensor([len(text)])
        torch.distributed.broadcast(length, 0)
        content = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
        if not first():
            content = torch.empty(int(length), dtype=torch.uint8)
        torch.distributed.broadcast(content, 0)
    return json.loads(content.numpy().tobytes())


def tensors_from_first(tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the tensors of the first process, on the host; the others give None."""
    if size() == 1:
        assert tensors is not None
        return tensors
    own = tensors or {}
    kinds = from_first(
        lambda: [[name, str(tensor.dtype).split(".")[1], list(tensor.shape)] for name, tensor in own.items()]
    )
    found = {}
    with _talking():
        for name, dtype, shape in kinds:
            tensor = own[name].cpu().contiguous() if first() else torch.empty(shape, dtype=getattr(torch, dtype))
            if tensor.numel():
                torch.distributed.broadcast(tensor.view(-1).view(torch.uint8), 0)
            found[name] = tensor
    return found


def check_same(what: str, value: str | int | float) -> None:
    """Refuse to train together where the processes do not agree; `what` is for the message.

    Raises:
        TrainingError: this process has something else than the first.
    """
    expected = from_first(lambda: value)
    [differing] = totals([float(expected != value)])
    if differing:
        raise TrainingError(
            f"{int(differing)} of {size()} processes have other {what} than the first; give all of them the same "
            "configuration, files and version of recsys"
        )


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone(memory_format=torch.contiguous_format)
        add_up([whole])
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The loss of each process holds the whole sum: what any of them says of it is a part of its gradient.
        whole = grads[0].clone(memory_format=torch.contiguous_format)
        add_up([whole])
        return whole


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        why = "" if "losed by peer" in str(error) or "reset by peer" in str(error) else f": {error}"
        raise PeerEnded(f"another of the {size()} processes has ended, and so does this one{why}") from None
