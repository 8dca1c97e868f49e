"""What a caller of `fit` asks for besides the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Validates(Protocol):
    """Measures a model on held-out users after each epoch; `metric` names what chooses the weights to keep."""

    @property
    def metric(self) -> str:
        """Name of the metric that chooses."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""

    def __call__(self, model: Any) -> Mapping[str, float]:
        """Return the metrics of the model as it is now."""


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `Recommender.fit` besides the matrix, which says what each is."""

    show_progress: bool = False
    callback: Callable[[int, float, float | None], Any] | None = None
    validation: Validates | None = None
    on_epoch: Callable[[dict[str, float]], None] | None = None
    checkpoint: str | Path | None = None
