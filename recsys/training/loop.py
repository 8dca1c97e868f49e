"""The one training loop: every network trains here, each with its own rows and objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from recsys.errors import ConfigError, TrainingError
from recsys.nn.products import keep_gradients
from recsys.sparse import Batch, Rows
from recsys.training.checkpoint import Checkpoint

Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train."""

    epochs: int
    """Passes over the rows."""
    batch_size: int
    """Rows per step."""
    learning_rate: float
    """Adam's step size at the first step."""
    weight_decay: float = 0.0
    """L2 coefficient c: c/2 · Σ w² of every weight matrix joins each step's mean loss per row; biases are free."""
    schedule: Schedule = "constant"
    """`cosine` lowers the learning rate to zero along half a cosine over all epochs."""
    patience: int | None = None
    """Stop after this many epochs without a better validation metric; None trains all epochs."""
    precision: Precision = "float32"
    """`tf32` lets a GPU multiply with 10 bits of mantissa; `bfloat16` runs the dense hidden layers in it, while sparse
    layers, output layer and losses stay in float32."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if int(getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.schedule not in ("constant", "cosine"):
            raise ConfigError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        if self.precision not in ("float32", "tf32", "bfloat16"):
            raise ConfigError(f"precision must be 'float32', 'tf32' or 'bfloat16', got {self.precision!r}")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience must be at least 1 or None, got {self.patience}")


@dataclass(frozen=True)
class Loss:
    """A batch's loss as a sum and the count it is a sum over; the epoch divides once."""

    total: Tensor
    """Scalar to minimise, summed over the batch."""
    count: int
    """What the reported loss is a mean over: observed entries for a rating loss, rows for a likelihood."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars summed over the batch that are reported beside the loss, divided by `count` too; not minimised."""


class Objective(Protocol):
    """A model's loss on one batch."""

    def __call__(self, batch: Batch, step: int, noise: torch.Generator) -> Loss:
        """Return the loss; `step` counts optimiser steps from 0, `noise` draws dropout and samples."""


@dataclass(frozen=True)
class Turn:
    """A step in which some parameters follow a loss of their own."""

    objective: Objective
    parameters: Sequence[nn.Parameter] | None = None
    """What moves; None: all that the network trains. Adam keeps its moments per parameter and leaves alone what a turn
    does not move, so that turns behave as optimisers of their own would."""


@dataclass(frozen=True)
class Alternation:
    """Turns that take each other's place: within a batch, as players of a game do, or from epoch to epoch."""

    turns: Callable[[int], Sequence[Turn]]
    """Called as an epoch begins (from 0), and again when an interrupted epoch is continued, with the network as it is:
    the turns that each batch of the epoch takes, in order. The first turn's loss is the epoch's; the parts of all are
    reported."""


@dataclass
class Record:
    """What training did, one entry per epoch."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    """`epoch` (from 1), `loss`, `seconds`, the loss's parts and the validation metrics of each epoch."""
    best_epoch: int | None = None
    """The epoch whose weights were kept; None where nothing was validated."""
    metric: str | None = None
    """The validation metric that chose it."""


@dataclass(frozen=True)
class Watch:
    """What to measure after each epoch, and which of it chooses the weights to keep."""

    measure: Callable[[], Mapping[str, float]]
    metric: str
    higher_is_better: bool = True


def train(
    network: nn.Module,
    rows: Rows,
    objective: Objective | Alternation,
    config: TrainingConfig,
    *,
    generator: torch.Generator,
    watch: Watch | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    show_progress: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    identity: Mapping[str, Any] | None = None,
) -> Record:
    """Minimise the objective's mean over rows by Adam, and leave the best weights in `network`, in evaluation mode.

    All rows are visited once per epoch, in a new order each time.

    Args:
        objective: one loss for all parameters, or turns with a loss each.
        generator: CPU generator; the order of rows and the noise are drawn from generators seeded by it.
        watch: measured after each epoch; without it the last weights are kept.
        on_epoch: called with each epoch's entry of the record.
        checkpoint: file to continue from where it exists, and to write at each epoch's end and every
            `checkpoint_seconds` between; it is removed when training is complete. An interrupted run continues to
            the same weights, bit for bit on one CPU configuration.
        identity: JSON values that, beside the configuration, the data and the shape of the network, tell this run's
            checkpoint from another's, such as the model's hyperparameters.

    Raises:
        TrainingError: the loss is no longer finite, or the checkpoint is damaged or belongs to another run.
    """
    device = rows.device
    network.to(device)
    order_rng = torch.Generator().manual_seed(_draw_seed(generator))
    noise = torch.Generator(device=device).manual_seed(_draw_seed(generator))
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    trained = [p for p in network.parameters() if p.requires_grad]
    turns_of = objective.turns if isinstance(objective, Alternation) else lambda epoch: (Turn(objective),)
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free}]
    optimiser = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    keep_gradients(network)

    record = Record(metric=watch.metric if watch else None)
    best: dict[str, Tensor] | None = None
    best_value = math.nan
    steps_per_epoch = math.ceil(len(rows) / config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    epoch, position = 0, 0
    sums = _Sums(device)
    saved = None
    if checkpoint is not None:
        facts = {
            "data": rows.checksum(),
            "network": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
            "metric": record.metric,
            "device": device.type,  # generators of one kind of device cannot continue those of another
        }
        saved = Checkpoint(Path(checkpoint), {**asdict(config), **facts, **(identity or {})})
        state = saved.load(network, optimiser, order_rng, noise)
        if state is not None:
            epoch, position = state["epoch"], state["position"]
            sums.restore(state["sums"])
            record = Record(state["record"], state["best_epoch"], record.metric)
            best, best_value = state["best"], state["best_value"]

    bar = tqdm(total=config.epochs, initial=epoch, unit="epoch", disable=not show_progress, desc="training")
    with bar, _matmul_precision("high" if config.precision == "tf32" else None):
        while epoch < config.epochs and not _out_of_patience(record, config.patience):
            began = last_saved = time.perf_counter()
            order_state = order_rng.get_state()
            order = torch.randperm(len(rows), generator=order_rng)
            network.train()
            turns = turns_of(epoch)
            for batch in rows.batches(order[position * config.batch_size :], config.batch_size):
                step = epoch * steps_per_epoch + position
                if config.schedule == "cosine":
                    for group in optimiser.param_groups:
                        group["lr"] = config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / total_steps))
                for number, turn in enumerate(turns):
                    optimiser.zero_grad(set_to_none=True)
                    with _moving(turn.parameters, trained):
                        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                            loss = turn.objective(batch, step, noise)
                        (loss.total / len(batch)).backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    sums.add(loss, counts=number == 0)
                position += 1
                if saved and time.perf_counter() - last_saved > checkpoint_seconds:
                    state = _state(epoch, position, sums, record, best, best_value)
                    saved.save(network, optimiser, order_state, noise.get_state(), state)
                    last_saved = time.perf_counter()
            network.eval()
            means = sums.means()
            mean_loss = means["loss"]
            if not math.isfinite(mean_loss):
                raise TrainingError(
                    f"the loss of epoch {epoch + 1} is {mean_loss}; lower learning_rate (now {config.learning_rate})"
                )
            entry: dict[str, float] = {"epoch": epoch + 1, **means, "seconds": time.perf_counter() - began}
            if watch:
                entry.update(watch.measure())
                value = entry[watch.metric] if watch.higher_is_better else -entry[watch.metric]
                if math.isnan(best_value) or value > best_value:
                    best_value, record.best_epoch = value, epoch + 1
                    best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
            record.epochs.append(entry)
            if on_epoch:
                on_epoch(entry)
            bar.update()
            bar.set_postfix({k: f"{v:.4f}" for k, v in entry.items() if k not in ("epoch", "seconds")})
            epoch, position, sums = epoch + 1, 0, _Sums(device)
            if saved and epoch < config.epochs:
                state = _state(epoch, 0, sums, record, best, best_value)
                saved.save(network, optimiser, order_rng.get_state(), noise.get_state(), state)
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    if saved:
        saved.remove()
    return record


@contextmanager
def _matmul_precision(wanted: str | None) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    if wanted:
        torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        if wanted:
            torch.set_float32_matmul_precision(before)


@contextmanager
def _moving(parameters: Sequence[nn.Parameter] | None, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach these parameters alone."""
    if parameters is None:
        yield
        return
    chosen = {id(parameter) for parameter in parameters}
    for parameter in trained:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class _Sums:
    """An epoch's sums, in float64 on the device: nothing waits for them before the epoch's end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._totals: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, loss: Loss, *, counts: bool) -> None:
        for name, total in [*([("loss", loss.total)] if counts else []), *loss.parts.items()]:
            before = self._totals.get(name)
            total = total.detach().double()
            self._totals[name] = total if before is None else before + total
            self._counts[name] = self._counts.get(name, 0) + loss.count

    def means(self) -> dict[str, float]:
        return {name: float(total) / max(1, self._counts[name]) for name, total in self._totals.items()}

    def state(self) -> dict[str, tuple[float, int]]:
        return {name: (float(total), self._counts[name]) for name, total in self._totals.items()}

    def restore(self, state: Mapping[str, tuple[float, int]]) -> None:
        for name, (total, count) in state.items():
            self._totals[name] = torch.tensor(total, dtype=torch.float64, device=self._device)
            self._counts[name] = count


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _out_of_patience(record: Record, patience: int | None) -> bool:
    return patience is not None and record.best_epoch is not None and len(record.epochs) - record.best_epoch >= patience


def _state(
    epoch: int,
    position: int,
    sums: _Sums,
    record: Record,
    best: dict[str, Tensor] | None,
    best_value: float,
) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "position": position,
        "sums": sums.state(),
        "record": record.epochs,
        "best_epoch": record.best_epoch,
        "best": best,
        "best_value": best_value,
    }
