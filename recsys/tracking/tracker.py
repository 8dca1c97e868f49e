"""What a job reports to, whether or not anything is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pandas as pd

from recsys.interactions import Interactions
from recsys.splits import Split
from recsys.training import Record


class Tracker(Protocol):
    """Where a job reports what it does."""

    @property
    def run_id(self) -> str | None:
        """Id of the run; None where nothing is recorded."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names."""

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Record the size and fingerprint of the data, as parameters and as the run's data set."""

    def log_parts(self, split: Split) -> None:
        """Record the training, validation and test part as data sets of the run, each with its digest."""

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Record one epoch's entry of a training record, as step `entry["epoch"]` of a series."""

    def log_best(self, record: Record) -> None:
        """Record `best_epoch`, and each figure of that epoch as `best_<metric>`."""

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run."""

    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure under a file name such as `learning_curve.png`."""

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Store a table under a file name that ends in `.parquet`."""

    def log_text(self, text: str, name: str) -> None:
        """Store a text under a file name."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""


class NullTracker:
    """A tracker that records nothing."""

    run_id: str | None = None
    """There is no run."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Drop parameters."""

    def log_data(self, data: Interactions, context: str = "training") -> None:
        """Drop the size and fingerprint of the data."""

    def log_parts(self, split: Split) -> None:
        """Drop the parts."""

    def log_epoch(self, entry: Mapping[str, float]) -> None:
        """Drop an epoch's entry."""

    def log_best(self, record: Record) -> None:
        """Drop the best epoch."""

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Drop figures of the run."""

    def log_figure(self, figure: Any, name: str) -> None:
        """Drop a figure."""

    def log_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Drop a table."""

    def log_text(self, text: str, name: str) -> None:
        """Drop a text."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Drop tags."""
