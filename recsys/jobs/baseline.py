"""What a model must beat to be worth anything: the most popular items in its lists, biases in its ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.config import JobConfig
from recsys.evaluation import Evaluation
from recsys.interactions import Interactions
from recsys.jobs.common import measure
from recsys.metrics import higher_is_better, of
from recsys.models import Popularity, Recommender
from recsys.models.least_squares import Biases
from recsys.ranking import Ids, Scores
from recsys.shards import in_memory
from recsys.splits import Split
from recsys.workspace import Workspace

DAMPING: Final = 3.0
"""Ratings by which biases are shrunk: best on validation parts of MovieLens-100K, MovieLens-1M and Douban (RMSE .9295,
.9092 and .7327; 0 and 10 are .0004 to .005 worse)."""


@dataclass(frozen=True)
class Baseline:
    """What is reached on the test part without any taste, fitted to what the model was fitted to."""

    values: Mapping[str, float]
    """By metric: of `Popularity` in lists, of μ + b_u + b_i (`Biases`) in errors of ratings."""

    @classmethod
    def of(
        cls, workspace: Workspace, job: JobConfig, split: Split, fitted_on: Interactions, metrics: Sequence[str]
    ) -> Baseline:
        """Measure it on the test part, in a small part of the time that a model takes."""
        biases = Biases.of(in_memory(fitted_on).matrix, DAMPING) if any(of(name).rates for name in metrics) else None
        ranker = _Tasteless(Popularity().fit(fitted_on, show_progress=False), biases)
        return cls(measure(replace(workspace, progress=False), job, ranker, split, metrics).values)

    @property
    def title(self) -> str:
        """What it is, in a word or two, for the head of a column."""
        return " or ".join(dict.fromkeys(map(_name, self.values)))

    @property
    def figures(self) -> dict[str, float]:
        """The values under names for MLflow, such as `popularity/ndcg@10` and `biases/rmse`."""
        return {f"{_name(name).lower()}/{name}": value for name, value in self.values.items()}

    def table(self, test: Evaluation) -> str:
        """Return a model's evaluation as text, with the baseline beside it."""
        return test.beside(self.title, self.values)

    def above(self, model: Recommender, test: Evaluation, metric: str) -> str:
        """Return in what the baseline is better than a model, and what to do about it; empty where it is not.

        Args:
            metric: that decides; the first evaluated one if this one was not evaluated.
        """
        name = metric if metric in self.values else next(iter(self.values))
        value, other = test[name], self.values[name]
        if not (value < other if higher_is_better(name) else value > other):
            return ""
        does, ranks_with = "predicts" if of(name).rates else "ranks", model.capabilities.ranks_with
        advice = "tune it, or choose another model"
        if not of(name).rates and ranks_with is not None and not getattr(model, ranks_with):
            advice = f"its scores are ratings: set model.{ranks_with} above 0 to rank, or choose another model"
        compared = f"{name} {value:.4f} against {other:.4f}"
        return f"{type(model).__name__} {does} worse than {_name(name)} ({compared}); {advice}"


def _name(metric: str) -> str:
    return "Biases" if of(metric).rates else "Popularity"


@dataclass(frozen=True, eq=False)
class _Tasteless:
    """Popularity, which looks only at items that can be in a list; and biases."""

    popularity: Popularity
    biases: Biases | None

    def recommend(
        self,
        userid: Any,
        user_items: sp.csr_matrix,
        *,
        N: int,
        items: npt.NDArray[np.int64] | None = None,
        seen: sp.csr_matrix | None = None,
        **options: bool,
    ) -> tuple[Ids, Scores]:
        """Return ids and scores as `Popularity.recommend`."""
        longest = int(np.diff((user_items if seen is None else seen).indptr).max(initial=0))
        able = np.arange(self.popularity.n_items_) if items is None else items
        first = able[np.argsort(-self.popularity.counts_.numpy()[able], kind="stable")[: N + longest]]
        return self.popularity.recommend(userid, user_items, N=N, items=first, seen=seen, **options)

    def predict_pairs(
        self, userid: Any, user_items: sp.csr_matrix, rows: npt.NDArray[np.integer], items: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float32]:
        """Return μ + b_u + b_i, b_u from the histories."""
        assert self.biases is not None  # made where ratings are measured
        return self.biases.base(self.biases.users(user_items)[rows], items.astype(np.int64))
