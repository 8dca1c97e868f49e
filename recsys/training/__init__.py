"""The one training loop and its checkpoints."""

from recsys.training.loop import Alternation, Loss, Objective, Record, TrainingConfig, Turn, train

__all__ = ["Alternation", "Loss", "Objective", "Record", "TrainingConfig", "Turn", "train"]
