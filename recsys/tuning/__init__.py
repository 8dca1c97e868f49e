"""Search for hyperparameters on the validation part: pruned, tracked, and continued where it stopped.

Needs the extra `tune`, which installs Optuna.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recsys.config import JobConfig, TuneConfig
from recsys.errors import ConfigError
from recsys.evaluation import Validation
from recsys.extras import check_installed
from recsys.files import locked, sha256_of_json
from recsys.splits import Split
from recsys.workspace import Workspace

if TYPE_CHECKING:
    from recsys.tuning.search import Trial

__all__ = ["Tuned", "check_extra", "tune"]


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of a search."""

    job: JobConfig
    """The configuration with the best hyperparameters."""
    value: float
    """Its metric on the validation part."""
    trials: pd.DataFrame
    """`trial, state, value, seconds` and one column per hyperparameter, in order of the trials."""


def check_extra() -> None:
    """Check that the extra `tune` is installed.

    Raises:
        ConfigError: it is not.
    """
    check_installed("tuning", "optuna", "tomli-w", extra="tune")


def tune(workspace: Workspace, job: JobConfig, split: Split, *, fingerprint: str, within_budget: bool = False) -> Tuned:
    """Try `job.tune.trials` settings of the model and return the one that is best on the validation part.

    Every trial is fitted on the training part and measured by `train.metric`; it is an MLflow run of its own, the
    child of the run within which this is called. The test part is not looked at. The trials are kept in
    `mlruns/studies.db`: the same search on the same data continues where it stopped, and a finished one returns at
    once.

    Args:
        fingerprint: of the data; it tells this search from one on other data.
        within_budget: consider no more trials than `job.tune` asks for, though an earlier call with a larger budget may
            have made more.

    Raises:
        ConfigError: the extra `tune` is not installed, the configuration has no search space or the split no validation
            part, no trial succeeded, or another process runs the same search.
    """
    check_extra()
    from recsys.tuning.search import Search

    settings = job.search()
    if split.validation is None:
        raise ConfigError("tuning needs a validation part; choose a share above 0 for it when splitting")
    validation = Validation(split.validation, job.train.metric, min_relevance=job.evaluate.min_relevance)
    search = Search(workspace, job, settings, split, validation)
    name = _study_name(job, fingerprint)
    try:
        with locked(workspace.mlruns / "studies" / f"{name}.lock", wait=False):
            trials = search.run(name)
    except BlockingIOError:
        raise ConfigError("another process runs the same search; wait for it, or tune something else") from None
    return _result(job, _within_budget(trials, settings) if within_budget else trials, validation.higher_is_better)


def _result(job: JobConfig, trials: list[Trial], higher_is_better: bool) -> Tuned:
    complete = [(trial.value, trial) for trial in trials if trial.value is not None]
    if not complete:
        reasons = {trial.error or trial.state for trial in trials}
        raise ConfigError(f"none of {len(trials)} trials could be trained: {'; '.join(sorted(reasons))}")
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "value": np.nan if trial.value is None else trial.value,
            "seconds": np.nan if trial.seconds is None else trial.seconds,
            **trial.params,
        }
        for trial in trials
    ]
    choose = max if higher_is_better else min
    value, best = choose(complete, key=lambda pair: pair[0])
    return Tuned(job.with_model(**best.params), value, pd.DataFrame(rows))


def _within_budget(trials: list[Trial], settings: TuneConfig) -> list[Trial]:
    """Return the first trials, as many as a search with this budget makes."""
    spent = np.cumsum([trial.seconds or 0.0 for trial in trials])
    allowed = np.inf if settings.minutes is None else 60 * settings.minutes
    return trials[: min(settings.trials, 1 + int((spent < allowed).sum()))]


def _study_name(job: JobConfig, fingerprint: str) -> str:
    """Return a name that only the same search on the same data has; the budget may grow from one call to the next."""
    facts = job.as_dict()
    searched = {name: value for name, value in facts["tune"].items() if name not in ("trials", "minutes")}
    model = {name: value for name, value in job.model.items() if name != "device"}
    kept = {name: facts[name] for name in ("data", "split", "evaluate")}
    measured = job.train.metric if job.train.validate_epochs else f"{job.train.metric} of the last epoch"
    digest = sha256_of_json([kept, measured, model, searched, fingerprint])
    return f"{job.model['name']}-{digest[:24]}"
