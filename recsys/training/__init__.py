"""The one training loop and its checkpoints."""

from recsys.training.loop import train
from recsys.training.parts import (
    Alternation,
    Loss,
    Objective,
    Precision,
    Record,
    Schedule,
    TrainingConfig,
    Turn,
    Watch,
)

__all__ = [
    "Alternation",
    "Loss",
    "Objective",
    "Precision",
    "Record",
    "Schedule",
    "TrainingConfig",
    "Turn",
    "Watch",
    "train",
]
