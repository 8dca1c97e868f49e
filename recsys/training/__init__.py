"""The one training loop and its checkpoints."""

from recsys.training.config import Precision, Schedule, TrainingConfig
from recsys.training.loop import Alternation, Loss, Objective, Record, Turn, Watch, train

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
