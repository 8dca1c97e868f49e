"""Report on a data set, on a file, or on the data and the split of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys import datasets
from recsys.config import load_config
from recsys.data_report import DataReport, describe, leaks
from recsys.datasets import NAMES
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.interactions import Interactions
from recsys.workspace import Workspace


def run(workspace: Workspace, source: str) -> DataReport:
    """Print a report on `source`, and on its split if it is a configuration (a .toml file); return the report.

    Of rows that repeat a user and item the latest is described, and the repeats are counted; a configuration has its
    own policy for them.

    Raises:
        ConfigError: `source` is no file or folder, no name of a data set, and no valid configuration.
        DataError: the data cannot be read or split.
    """
    if source.endswith(".toml"):
        config = load_config(source)
        data = config.load_data(workspace.folder)
        report = describe(data, repeated=0 if config.data.given.get("duplicates", "error") == "error" else None)
        print(report)
        split = config.split.split(data)
        print(f"\ntraining {split.train}\nvalidation {split.validation}\ntest {split.test}\n")
        print(leaks(data, split).to_string(index=False))
        return report
    data, repeated = _read(workspace, source)
    report = describe(data, repeated=repeated)
    print(report)
    return report


def _read(workspace: Workspace, source: str) -> tuple[Interactions, int]:
    """Return the data, and how many of their rows repeat a user and item."""

    def read(**options: Any) -> Interactions:
        if Path(source).expanduser().exists():
            return datasets.read(source, **options)
        if source in NAMES:
            return datasets.load(source, root=workspace.folder, **options)
        raise ConfigError(
            f"there is no file or folder {source}, nor a data set of that name{did_you_mean(source, NAMES)}"
        )

    try:
        return read(), 0
    except DataError:
        rows = read(rating=None, duplicates="sum").matrix.data  # of each pair; any other fault raises again
        if (rows == 1).all():
            raise
        return read(duplicates="last"), int(rows.sum(dtype="float64")) - len(rows)
