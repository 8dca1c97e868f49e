"""What is analyzed, and what an analysis returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.report.markup import Markup
from recsys.splits import Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A fitted model with the split that it was trained and measured on, as a job has them."""

    model: Recommender
    split: Split
    """Its training part is what the model was fitted to. The users of its test part are those whom training did not
    see, or saw without the held-out entries."""
    users: pd.DataFrame | None = None
    """Columns of users such as age and gender, with the users' external ids as index; None where there are none."""
    seed: int = 0
    """Of everything that is drawn."""

    @property
    def train(self) -> Interactions:
        """What the model was trained on."""
        return self.split.train


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What an analysis found, as the job writes it: a section of the page, tables, and figures for MLflow."""

    title: str
    """Heading of the section."""
    summary: str
    """The main result in a sentence or two, with its figures and what they are held against."""
    tables: Mapping[str, pd.DataFrame]
    """What is written as Parquet, by the name of the file without its ending."""
    metrics: Mapping[str, float]
    """Figures by the names that MLflow shows, such as `trustworthiness_32`."""
    content: Sequence[Markup]
    """Charts, tables and notes of the section (see `recsys.report.charts` and `recsys.report.markup`)."""


@dataclass(frozen=True)
class Analysis:
    """An analysis as `recsys analyze --what` knows it."""

    help: str
    """What it shows, in a line."""
    findings: Callable[[Subject], Findings]
    """Raises an UnsupportedError where the model lacks what is needed."""
