"""What a training consists of: its settings, losses and turns, and the record of what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recsys.checks import check_fields
from recsys.sparse import Batch

Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train."""

    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(1)]
    """Rows per step."""
    learning_rate: Annotated[float, Gt(0)]
    """Adam's step size at the first step."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """L2 coefficient c: c/2 · Σ w² of every weight matrix joins each step's mean loss per row; biases are free."""
    schedule: Schedule = "constant"
    """`cosine` lowers the learning rate to zero along half a cosine over all epochs."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after this many epochs without a better validation metric; None trains all epochs."""
    precision: Precision = "float32"
    """`tf32` lets a GPU multiply with 10 bits of mantissa; `bfloat16` runs the dense hidden layers in it, while sparse
    layers, output layer and losses stay in float32."""

    def __post_init__(self) -> None:
        check_fields(self, "training")


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
