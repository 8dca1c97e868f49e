"""The one training loop and its checkpoints."""

from recsys.training.loop import Loss, Objective, Record, TrainingConfig, train

__all__ = ["Loss", "Objective", "Record", "TrainingConfig", "train"]
