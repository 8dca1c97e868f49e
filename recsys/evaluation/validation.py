"""The measure that chooses the weights while a model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from recsys.errors import DataError
from recsys.evaluation.lists import Ranker, check_part
from recsys.evaluation.measure import evaluate, requested
from recsys.interactions import Interactions
from recsys.metrics import higher_is_better
from recsys.splits import Part


@dataclass(frozen=True, eq=False)
class Validation:
    """Measures a model on a validation part: called with the model after each epoch.

    Raises:
        ConfigError: an unknown metric.
        DataError: the split has no validation part.
    """

    part: Part | None
    """Users to evaluate, such as `split.validation`."""
    metric: str = "ndcg@10"
    """The metric that chooses the best epoch."""
    also: tuple[str, ...] = ()
    """Further metrics to report."""
    min_relevance: float | None = None
    """As in `evaluate`."""
    popularity: Interactions | None = None
    """As in `evaluate`."""
    item_vectors: Any = None
    """As in `evaluate`."""
    batch_size: int = 1024
    """As in `evaluate`."""

    def __post_init__(self) -> None:
        if self.part is None:
            raise DataError("the split has no validation part; choose a share above 0 for it when splitting")
        check_part(self.part, "split.validation")
        requested((self.metric, *self.also), self.item_vectors)

    @property
    def higher_is_better(self) -> bool:
        """Direction of `metric`."""
        return higher_is_better(self.metric)

    def __call__(self, model: Ranker) -> dict[str, float]:
        """Return the value of `metric`, then of `also`, by name."""
        return evaluate(
            model,
            cast(Part, self.part),
            (self.metric, *self.also),
            min_relevance=self.min_relevance,
            popularity=self.popularity,
            item_vectors=self.item_vectors,
            batch_size=self.batch_size,
        ).values
