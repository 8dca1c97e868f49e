"""Search for hyperparameters on the validation part, with the extra `tune`: pruned, tracked, and continued."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys.config import JobConfig
from recsys.errors import ConfigError
from recsys.evaluation import Validation
from recsys.extras import check_installed
from recsys.files import locked, sha256_of_json
from recsys.splits import Split
from recsys.tuning import study
from recsys.workspace import Workspace

__all__ = ["Tuned", "check_extra", "is_finished", "study_name", "tune"]


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
    """Check that the extra `tune` is installed; a ConfigError says how to install it."""
    check_installed("tuning", "optuna", "tomli-w", extra="tune")


def tune(
    workspace: Workspace,
    job: JobConfig,
    split: Split,
    *,
    fingerprint: str,
    within_budget: bool = False,
    run_name: str | None = None,
) -> Tuned:
    """Try `job.tune.trials` settings of the model and return the one that is best on the validation part.

    They are drawn from `job.space`: `job.tune.space`, or what the class of the model declares.

    Every trial is fitted on the training part and measured by `train.metric`; it is an MLflow run of its own, the
    child of the run within which this is called. The test part is not looked at.

    The trials that have ended are kept in `mlruns/studies`. The same search on the same data, killed at any moment,
    continues where it stopped and ends as it would have undisturbed: the trial that was killed is made again from its
    beginning, with the same setting, in the same run. A finished search returns at once.

    Args:
        fingerprint: of the data; it tells this search from one on other data.
        within_budget: consider no more trials than `job.tune` asks for, though an earlier call with a larger budget may
            have made more.
        run_name: begin a run of this name for the trials to be children of, unless no trial is missing.

    Raises:
        ConfigError: the extra `tune` is not installed, neither the configuration nor the model names a search space,
            the split has no validation part, no trial succeeded, another process runs the same search, or a newer
            version has begun it.
    """
    check_extra()
    from recsys.tuning.search import Search

    settings = job.search()
    if split.validation is None:
        raise ConfigError("tuning needs a validation part; choose a share above 0 for it when splitting")
    validation = Validation(split.validation, job.train.metric, min_relevance=job.evaluate.min_relevance)
    name = study_name(job, fingerprint)
    busy = ConfigError("another process runs the same search; wait for it, or tune something else")
    with locked(workspace.mlruns / "studies" / f"{name}.lock", busy=busy):
        trials = Search(workspace, name, job, settings, split, validation).run(run_name)
    if within_budget:
        spent = np.cumsum([trial.seconds for trial in trials])
        allowed = np.inf if settings.minutes is None else 60 * settings.minutes
        trials = trials[: min(settings.trials, 1 + int((spent < allowed).sum()))]
    complete = [(trial.value, trial.params) for trial in trials if trial.value is not None]
    if not complete:
        reasons = {trial.error or trial.state for trial in trials}
        raise ConfigError(f"none of {len(trials)} trials could be trained: {'; '.join(sorted(reasons))}")
    value, params = (max if validation.higher_is_better else min)(complete, key=lambda pair: pair[0])
    rows = [{"trial": t.number, "state": t.state, "value": t.value, "seconds": t.seconds, **t.params} for t in trials]
    return Tuned(job.with_model(**params), value, pd.DataFrame(rows))


def is_finished(workspace: Workspace, job: JobConfig, fingerprint: str) -> bool:
    """Return whether the search that `tune` would make has ended within its budget."""
    file = study.file_of(workspace, study_name(job, fingerprint))
    return not study.is_wanting(study.read(file, lambda trial: None), job.search())


def study_name(job: JobConfig, fingerprint: str) -> str:
    """Return a name that only the same search on the same data has; the budget may grow from one call to the next."""
    facts = job.as_dict()
    searched = job.search().model_dump(mode="json", exclude_none=True, by_alias=True, exclude={"trials", "minutes"})
    model = {name: value for name, value in job.model.items() if name != "device"}
    kept = {name: facts[name] for name in ("data", "split", "evaluate")}
    measured = job.train.metric if job.train.validate_epochs else f"{job.train.metric} of the last epoch"
    digest = sha256_of_json([kept, measured, model, searched, fingerprint])
    return f"{job.model['name']}-{digest[:24]}"
