"""The trials of a search on disk: one file per search, written whole whenever a trial has ended."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from recsys.config import TuneConfig
from recsys.errors import ConfigError, warn
from recsys.files import sha256_of_json, write_text
from recsys.workspace import Workspace

SCHEMA = 1


@dataclass(frozen=True)
class Trial:
    """A setting that was tried, to its end."""

    number: int
    state: Literal["complete", "pruned", "fail"]
    value: float | None
    """The validation metric of a complete trial."""
    seconds: float
    params: dict[str, Any]
    epochs: list[tuple[int, float]]
    """The validation metric by epoch, which the pruning of later trials reads."""
    error: str | None
    """Why the training failed."""


_TRIALS = TypeAdapter(list[Trial])


def file_of(workspace: Workspace, name: str) -> Path:
    """Return the file of a search's trials."""
    return workspace.mlruns / "studies" / f"{name}.json"


def is_wanting(trials: Sequence[Trial], budget: TuneConfig) -> bool:
    """Return whether a search with these trials has budget for more."""
    spent = sum(trial.seconds for trial in trials)  # what was spent on killed trials is not known
    in_time = budget.minutes is None or spent < 60 * budget.minutes or not trials
    return len(trials) < budget.trials and in_time


def write(file: Path, trials: Sequence[Trial]) -> None:
    """Replace the file by one with these trials, whole or not at all."""
    kept = [asdict(trial) for trial in trials]
    facts = {"schema": SCHEMA, "search": file.stem, "trials": kept, "sha256": _digest(file, kept)}
    write_text(file, json.dumps(facts, indent=1) + "\n", durable=True)


def read(file: Path, check: Callable[[Trial], object]) -> list[Trial]:
    """Return the trials in a file; none where there is no file.

    A file that is damaged, or of another search, is set aside under another name, and a DataWarning says so: the search
    begins anew.

    Args:
        check: raises ValueError for a trial that does not belong to this search.

    Raises:
        ConfigError: a newer version of the package wrote the file, or the system does not let us read it.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"the trials of this search are kept in {file}, which cannot be read ({error}); make it readable, or move "
            "it away to begin the search anew"
        ) from None
    try:
        trials = _parsed(file, content)
        for trial in trials:
            check(trial)
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        aside = next(path for number in count(1) if not (path := file.with_suffix(f".damaged-{number}")).exists())
        file.rename(aside)
        reason = str(error).partition("\n")[0]
        warn(
            f"{file} does not hold the trials of this search as recsys wrote them ({reason}); it is now {aside.name}, "
            "and the search begins anew; to continue it, stop, and restore the file from a copy"
        )
        return []
    return trials


def _parsed(file: Path, content: bytes) -> list[Trial]:
    facts = json.loads(content)
    if not isinstance(facts, dict) or type(facts.get("schema")) is not int:
        raise ValueError("it is no study")
    if facts["schema"] > SCHEMA:
        raise ConfigError(
            f"{file} has schema {facts['schema']}, and this version of recsys reads schema {SCHEMA}; update recsys, or "
            "move the file away to begin the search anew"
        )
    if facts["sha256"] != _digest(file, facts["trials"]):
        raise ValueError("its checksum differs")
    trials = _TRIALS.validate_json(json.dumps(facts["trials"]), strict=True)
    if [trial.number for trial in trials] != list(range(len(trials))):
        raise ValueError("its trials are not numbered from 0")
    for trial in trials:
        if (trial.state == "complete") != (trial.value is not None and math.isfinite(trial.value)):
            raise ValueError(f"trial {trial.number} is {trial.state} with the value {trial.value}")
    return trials


def _digest(file: Path, trials: Any) -> str:
    """Return the checksum of trials; the name of their search is part of it, so a copy under another name is none."""
    return sha256_of_json([file.stem, trials])
