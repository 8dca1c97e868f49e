"""The run that a report tells of, and the figures that several sections need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.evaluation import Evaluation, intervals
from recsys.mapped import column_counts
from recsys.metrics import parse
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.splits import Split
from recsys.training import Record

LISTED: Final = 10
"""Length of the lists that are shown and counted."""
_LONGEST: Final = 100
"""Characters of a title."""
_DRAWS: Final = 30_000_000
"""Users drawn by the bootstrap in all, which takes about a second."""


@dataclass(frozen=True, eq=False)
class Run:
    """What the sections of a page read; see `recsys.report.page` for the fields."""

    model: Recommender
    split: Split
    evaluation: Evaluation
    metrics: Sequence[str]
    about: Mapping[str, Any]
    record: Record
    min_relevance: float | None
    source: str | None
    baseline: tuple[str, Mapping[str, float]] | None
    champion: tuple[str, Mapping[str, float]] | None

    @property
    def rivals(self) -> list[tuple[str, Mapping[str, float]]]:
        """Names and values, by metric, of what the model is held against: the baseline, then the champion."""
        return [rival for rival in (self.baseline, self.champion) if rival is not None and rival[1]]

    @property
    def data(self) -> Mapping[str, Any]:
        """Options with which the data was read."""
        return part_of(self.about, "config", "data")

    @property
    def title(self) -> str:
        """Heading of the page."""
        name = self.data.get("name")
        return type(self.model).__name__ + (f" on {name}" if name else "")

    @cached_property
    def resamples(self) -> int:
        """Bootstrap samples of each interval: fewer for many users, whose intervals are narrow."""
        return int(np.clip(_DRAWS // max(1, len(self.evaluation.per_user)), 200, 1000))

    @cached_property
    def results(self) -> pd.DataFrame:
        """`value`, the ends `low` and `high` of its interval, and `users`, their number, of each metric by its name."""
        ends = intervals(self.evaluation, resamples=self.resamples).set_index("metric")
        return ends.assign(users=self.evaluation.summary["n"].to_numpy(int))

    @cached_property
    def popularity(self) -> npt.NDArray[np.int64]:
        """Training interactions of each item."""
        return column_counts(self.split.train.matrix)

    @cached_property
    def cutoff(self) -> int | None:
        """Length of the lists whose items are counted: 10, or else the first cut-off; None without any list."""
        cutoffs = [k for _, k in map(parse, (*self.metrics, *self.evaluation.values)) if k is not None]
        if not cutoffs or self.evaluation.per_item is None:
            return None
        return LISTED if LISTED in cutoffs else cutoffs[0]

    def item(self, index: int) -> str:
        """Return the title of an item, shortened where it is too long."""
        text = self.split.train.title(index)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

    def details(self, index: int) -> str:
        """Return what else is known of an item, such as its category; empty if nothing is."""
        return self.split.train.details(index)
