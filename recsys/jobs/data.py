"""Report on a data set, on a file, or on the data and the split of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from recsys import datasets
from recsys.config import load_config, overridden
from recsys.config.data import READ
from recsys.data_report import DataReport, describe, leaks
from recsys.datasets.recognize import recognize
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.jobs.common import section_of, split_of
from recsys.jobs.first_plan import setting
from recsys.shards import in_memory
from recsys.workspace import Workspace


def run(workspace: Workspace, source: str, overrides: Sequence[str] = ()) -> DataReport:
    """Print a report on `source`, and on its split if it is a configuration (a .toml file); return the report.

    `overrides` are keys of the configuration, or of `[data]` for a file or data set: `data.user=customer`.

    Of rows that repeat a user and item the latest is described, and the repeats are counted; a configuration has its
    own policy for them. A table whose columns have other names is read as `recsys init` understands it, which is
    printed first.

    Raises:
        ConfigError: `source` is no file or folder, no name of a data set, and no valid configuration.
        DataError: the data cannot be read or split.
    """
    repeated: int | None
    config = load_config(source, overrides) if source.endswith(".toml") else None
    if config is None:
        data, repeated = _described(workspace, source, _reading(source, overrides))
    else:
        given = config.load_data(workspace.folder)
        data = in_memory(given)
        repeated = 0 if config.data.given.get("duplicates", "error") == "error" else None
    report = describe(data, repeated=repeated)
    if workspace.in_words:
        print(report)
    if config is not None:
        print()
        split = split_of(config, given)
        split = replace(split, train=in_memory(split.train))
        print(f"training {split.train}\nvalidation {split.validation}\ntest {split.test}\n")
        print(leaks(data, split).to_string(index=False))
    return report


def _reading(source: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the keys of `[data]` that say how a file or data set is read; a ConfigError for those that select."""
    given = overridden({"data": section_of(source)}, overrides).data.check()
    if other := [name for name in given if name not in READ]:
        raise ConfigError(f"data.{other[0]} selects entries, and all of {source} are described; leave it out")
    return given


def _described(workspace: Workspace, source: str, given: Mapping[str, Any]) -> tuple[Interactions, int]:
    """Return what `_read` does; of a table whose columns nobody has named, with those that it is understood to have."""
    try:
        return _read(workspace, source, given)
    except DataError:
        if "file" not in section_of(source) or {"user", "item"} & given.keys():
            raise
        with suppress(DataError):
            found = recognize(source, said=given, say=setting)
            options = {key: value for key, value in found.options.items() if key in READ and key != "duplicates"}
            described = _read(workspace, source, {**options, **given})
            if workspace.in_words:
                found.facts = [fact for fact in found.facts if fact[0] != "repeated"]  # which the report counts
                print(f"{found}\n")
            return described
        raise


def _read(workspace: Workspace, source: str, given: Mapping[str, Any]) -> tuple[Interactions, int]:
    """Return the data, read with the given keys, and how many of their rows repeat a user and item."""
    is_file, root = "file" in section_of(source), workspace.folder

    def read(**options: Any) -> Interactions:
        whole = {**given, **options}
        return datasets.read(source, **whole) if is_file else datasets.load(source, root=root, **whole)

    try:
        return read(), 0
    except DataError:
        weights = given.get("weights")  # of which 0 leaves rows out
        ones = (
            {"rating": None} if weights is None else {"weights": {event: int(w != 0) for event, w in weights.items()}}
        )
        rows = read(**ones, duplicates="sum").matrix.data  # of each pair; any other fault raises again
        if (rows == 1).all():
            raise
        return read(duplicates="last"), int(rows.sum(dtype="float64")) - len(rows)
