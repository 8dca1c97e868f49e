"""How long and how fast a network trains, and whether it stopped before it could tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from recsys.params import Count, NotNegative, Positive, check

Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "tf32", "bfloat16"]
FEW_STEPS: Final = 100
"""Steps without a better validation metric that tell little: it often stands still for as long and then rises again."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train."""

    epochs: Count
    """Passes over the rows, of which `schedule` is made."""
    batch_size: Count
    """Rows per step."""
    learning_rate: Positive
    """Adam's step size at the first step."""
    weight_decay: NotNegative = 0.0
    """L2 coefficient c: c/2 · Σ w² of every weight matrix joins each step's mean loss per row; biases are free, and so
    is what a network marks as no weight (`undecayed`)."""
    schedule: Schedule = "constant"
    """`cosine` lowers the learning rate to zero along half a cosine over all epochs."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation metric; None trains all epochs."""
    stop_after: Count | None = None
    """End after so many of the `epochs`, at the learning rates that these have; None trains all."""
    precision: Precision = "float32"
    """`tf32` lets a GPU multiply with 10 bits of mantissa; `bfloat16` runs the dense hidden layers in it, while sparse
    layers, output layer and losses stay in float32."""

    def __post_init__(self) -> None:
        check(type(self), vars(self))

    @property
    def last_epoch(self) -> int:
        """The epoch with which training ends, unless `patience` ends it before."""
        return min(self.epochs, self.stop_after or self.epochs)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / (self.epochs * steps_per_epoch)))

    def why_too_early(self, epochs: int, steps_per_epoch: int) -> str:
        """Return why `patience` ended a training too early to tell; empty where it waited for enough steps.

        Args:
            epochs: those that were trained.
        """
        waited = (self.patience or 0) * steps_per_epoch
        if self.patience is None or waited >= FEW_STEPS:
            return ""
        return (
            f"patience = {self.patience} ended the training after epoch {epochs}: it waited for {waited} steps, "
            f"{steps_per_epoch} an epoch at batch_size = {self.batch_size}, too few to tell that it gets no better; "
            f"give patience = {math.ceil(FEW_STEPS / steps_per_epoch)} or a smaller batch_size"
        )
