"""The one training loop: every network trains here, each with its own rows and objective."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from recsys import ranks
from recsys.devices import fast_products
from recsys.errors import DataError, TrainingError, warn
from recsys.nn.products import add_gradient_buffers
from recsys.sparse import Batch, Rows
from recsys.training.checkpoint import Checkpoint
from recsys.training.config import TrainingConfig
from recsys.training.optimizer import Optimizer
from recsys.training.order import Floats, epoch_order, weights_checksum
from recsys.workspace import as_path


@dataclass(frozen=True)
class Loss:
    """A batch's loss as a sum and the count it is a sum over; the epoch divides once."""

    total: Tensor
    """Scalar to minimize, summed over the batch."""
    count: int
    """What the reported loss is a mean over: observed entries for a rating loss, rows for a likelihood."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars summed over the batch that are reported beside the loss, divided by `count` too; not minimized."""


class Objective(Protocol):
    """A model's loss on one batch."""

    def __call__(self, batch: Batch, step: int, noise: torch.Generator) -> Loss:
        """Return the loss; `step` counts optimizer steps from 0, `noise` draws dropout and samples."""


@dataclass(frozen=True)
class Turn:
    """A step in which some parameters follow a loss of their own."""

    objective: Objective
    parameters: Sequence[nn.Parameter] | None = None
    """What moves; None: all that the network trains. Adam keeps its moments per parameter and leaves alone what a turn
    does not move, so that turns behave as optimizers of their own would."""


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
    row_weights: Floats | None = None,
) -> Record:
    """Minimize the objective's mean over rows by Adam, and leave the best weights in `network`, in evaluation mode.

    All rows are visited once per epoch, or as often as their weights say, in a new order each time. A warning tells of
    a `patience` that met too few steps (`TrainingConfig.why_too_early`). Where several processes train together
    (`recsys.ranks`), each takes its share of every batch, the sums of all are the batch's, and the first measures.

    Args:
        objective: one loss for all parameters, or turns with a loss each.
        generator: CPU generator; the order of rows and the noise are drawn from generators seeded by it.
        watch: measured after each epoch; without it the last weights are kept.
        on_epoch: called with each epoch's entry of the record.
        checkpoint: file to continue from where it exists, and to write at each epoch's end and every
            `checkpoint_seconds` between; it is removed when training is complete. An interrupted run continues to
            the same weights, bit for bit on one CPU configuration. From a damaged one, or one of an earlier version
            without a checksum, the training begins anew with a warning, and one that cannot be written is left out.
        identity: JSON values that, beside the configuration, the data and the shape of the network, tell this run's
            checkpoint from another's, such as the model's hyperparameters.
        row_weights: (len(rows),) above 0. An epoch has as many visits as there are rows, of which a row gets a share
            that is its share of the weights (`order.weighted_order`), so that the mean of the losses is weighted.

    Raises:
        DataError: `row_weights` are not one per row.
        TrainingError: the loss is no longer finite, or the checkpoint belongs to another run or is another file.
    """
    run = _Run(network, rows, objective, config, generator, watch, row_weights)
    if checkpoint is not None:
        run.keep_checkpoint(as_path(checkpoint), checkpoint_seconds, identity or {})
    hidden = not show_progress or not ranks.first()
    bar = tqdm(total=config.last_epoch, initial=run.epoch, unit="epoch", disable=hidden, desc="training")
    with bar, _tf32() if config.precision == "tf32" else nullcontext():
        while not run.ended:
            with fast_products():
                entry = run.train_epoch()
            run.measure(entry)
            if on_epoch:
                on_epoch(entry)
            bar.update()
            bar.set_postfix({k: f"{v:.4f}" for k, v in entry.items() if k not in ("epoch", "seconds")})
            run.begin_next_epoch()
    run.finish()
    if (
        ranks.first()
        and run.stalled
        and run.epoch < config.last_epoch
        and (why := config.why_too_early(run.epoch, run.steps_per_epoch))
    ):
        warn(why)
    return run.record


class _Run:
    """A training in progress: what moves, how far it is, what was best."""

    def __init__(
        self,
        network: nn.Module,
        rows: Rows,
        objective: Objective | Alternation,
        config: TrainingConfig,
        generator: torch.Generator,
        watch: Watch | None,
        row_weights: Floats | None,
    ) -> None:
        if row_weights is not None and len(row_weights) != len(rows):
            raise DataError(f"row_weights must be one for each of the {len(rows)} rows, got {len(row_weights)}")
        self.network, self.rows, self.config, self.watch = network.to(rows.device), rows, config, watch
        self.row_weights = row_weights
        seeds = ranks.from_first(lambda: [_draw_seed(generator), _draw_seed(generator)])
        self.order_rng = torch.Generator().manual_seed(seeds[0])
        self.noise = torch.Generator(device=rows.device).manual_seed(seeds[1])
        self.noise_seed = seeds[1]
        self.turns = objective.turns if isinstance(objective, Alternation) else lambda epoch: (Turn(objective),)
        self.trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = Optimizer(network, config)
        add_gradient_buffers(network)
        if ranks.size() > 1:
            ranks.check_same("training rows", rows.checksum())
            network.load_state_dict(ranks.tensors_from_first(network.state_dict() if ranks.first() else None))
        self.record = Record(metric=watch.metric if watch else None)
        self.best: dict[str, Tensor] | None = None
        self.best_value = math.nan
        self.steps_per_epoch = math.ceil(len(rows) / config.batch_size)
        self.epoch, self.position = 0, 0
        """Epochs completed, and batches of the present one."""
        self.sums: dict[str, Tensor | float] = {}
        """The epoch's, in float64 on the device: nothing waits for them before its end."""
        self.counts: Counter[str] = Counter()
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_seconds = math.inf

    @property
    def ended(self) -> bool:
        """Whether the epochs are done, or `patience` of them were no better than the best."""
        return self.epoch >= self.config.last_epoch or self.stalled

    @property
    def stalled(self) -> bool:
        """Whether `patience` epochs were no better than the best."""
        best, patience = self.record.best_epoch, self.config.patience
        return patience is not None and best is not None and len(self.record.epochs) - best >= patience

    def keep_checkpoint(self, path: Path, seconds: float, identity: Mapping[str, Any]) -> None:
        """Continue from a checkpoint where there is one, and keep it up to date from now on."""
        facts = {
            "data": self.rows.checksum(),
            "network": {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()},
            "metric": self.record.metric,
            "device": self.rows.device.type,  # generators of one kind of device cannot continue those of another
        }
        own = {**asdict(self.config), **facts, **identity}
        if own["stop_after"] is None:
            del own["stop_after"]  # as in the files of version 0.2.0
        if self.row_weights is not None:
            own["row_weights"] = weights_checksum(self.row_weights)
        self.checkpoint = Checkpoint(path, own)
        self.checkpoint_seconds = seconds
        state = self.checkpoint.load(self.network, self.optimizer, {"order": self.order_rng, "noise": self.noise})
        if state is not None:
            self.epoch, self.position = state["epoch"], state["position"]
            self.sums = {name: total for name, (total, _) in state["sums"].items()}
            self.counts = Counter({name: count for name, (_, count) in state["sums"].items()})
            self.record = Record(state["record"], state["best_epoch"], self.record.metric)
            self.best, self.best_value = state["best"], state["best_value"]

    def train_epoch(self) -> dict[str, float]:
        """Visit all rows, or what is left of them in an interrupted epoch; return the epoch's entry of the record."""
        began = last_saved = time.perf_counter()
        order_state = self.order_rng.get_state()
        order = epoch_order(self.rows, self.row_weights, self.order_rng)
        size = self.config.batch_size
        self.network.train()
        turns = self.turns(self.epoch)
        visits = [order[start : start + size] for start in range(self.position * size, len(order), size)]
        for visited, batch in zip(visits, self.rows.batches([ranks.share(part) for part in visits]), strict=True):
            step = self.epoch * self.steps_per_epoch + self.position
            if not ranks.first():  # the first alone keeps the state of its generator in the checkpoint
                self.noise.manual_seed(_seed_of(self.noise_seed, ranks.number(), step))
            self.optimizer.begin(self.config.rate(step, self.steps_per_epoch))
            for number, turn in enumerate(turns):
                self.optimizer.forget_gradients()
                with nullcontext() if turn.parameters is None else _moving(turn.parameters, self.trained):
                    bfloat16 = self.config.precision == "bfloat16"
                    with torch.autocast(self.rows.device.type, torch.bfloat16, enabled=bfloat16):
                        loss = turn.objective(batch, step, self.noise)
                    (loss.total / len(visited)).backward()  # type: ignore[no-untyped-call]
                reported = {"loss": loss.total, **loss.parts} if number == 0 else loss.parts
                totals = {name: total.detach().to(torch.float64, copy=True) for name, total in reported.items()}
                moved = [weight.grad for weight in turn.parameters or self.trained if weight.grad is not None]
                ranks.add_up([*moved, *totals.values()])
                self.optimizer.step()
                for name, total in totals.items():
                    self.sums[name] = self.sums.get(name, 0.0) + total
                    self.counts[name] += loss.count if ranks.size() == 1 else int(ranks.totals([loss.count])[0])
            self.position += 1
            due = ranks.first() and time.perf_counter() - last_saved > self.checkpoint_seconds
            if any(ranks.totals([due])):
                self._save(order_state)
                last_saved = time.perf_counter()
        self.network.eval()
        means = {name: float(total) / max(1, self.counts[name]) for name, total in self.sums.items()}
        if not math.isfinite(means["loss"]):
            raise TrainingError(
                f"the loss of epoch {self.epoch + 1} is {means['loss']}; "
                f"lower learning_rate (now {self.config.learning_rate})"
            )
        return {"epoch": self.epoch + 1, **means, "seconds": time.perf_counter() - began}

    def measure(self, entry: dict[str, float]) -> None:
        """Add the validation metrics to the epoch's entry, and keep the weights if they are the best so far."""
        if self.watch:
            entry.update(ranks.from_first(self.watch.measure))
            value = entry[self.watch.metric] if self.watch.higher_is_better else -entry[self.watch.metric]
            if math.isnan(self.best_value) or value > self.best_value:
                self.best_value, self.record.best_epoch = value, self.epoch + 1
                self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.record.epochs.append(entry)

    def begin_next_epoch(self) -> None:
        """Count the epoch, and write the checkpoint unless it was the last."""
        self.epoch, self.position, self.sums, self.counts = self.epoch + 1, 0, {}, Counter()
        if self.checkpoint and self.epoch < self.config.last_epoch:
            self._save(self.order_rng.get_state())

    def finish(self) -> None:
        """Leave the best weights in the network, and no checkpoint."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.network.eval()
        if self.checkpoint:
            self.checkpoint.remove()

    def _save(self, order_state: Tensor) -> None:
        """Write the checkpoint; `order_state` is that of the generator before it drew the order of this epoch."""
        assert self.checkpoint is not None  # without one the seconds between saves are infinite
        state = {
            "epoch": self.epoch,
            "position": self.position,
            "sums": {name: (float(total), self.counts[name]) for name, total in self.sums.items()},
            "record": self.record.epochs,
            "best_epoch": self.record.best_epoch,
            "best": self.best,
            "best_value": self.best_value,
        }
        generators = {"order": order_state, "noise": self.noise.get_state()}
        self.checkpoint.save(self.network, self.optimizer, generators, state)


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _moving(parameters: Sequence[nn.Parameter], trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach these parameters alone."""
    chosen = {id(parameter) for parameter in parameters}
    for parameter in trained:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _seed_of(seed: int, number: int, step: int) -> int:
    """Return the seed of a process's noise in a step: an interrupted training continues with the same."""
    return int(np.random.SeedSequence([seed, number, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
