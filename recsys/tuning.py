"""Search for hyperparameters on the validation part, with Optuna: pruned, tracked, and continued where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from tqdm.auto import tqdm

from recsys import tracking
from recsys.config import JobConfig, Range, TuneConfig
from recsys.errors import ConfigError, TrainingError
from recsys.evaluation import Validation
from recsys.files import locked, sha256_of_json
from recsys.splits import Split
from recsys.workspace import Workspace

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_SECONDS = "seconds"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search found."""

    job: JobConfig
    """The configuration with the best hyperparameters."""
    value: float
    """Its metric on the validation part."""
    trials: pd.DataFrame
    """`trial, state, value, seconds` and one column per hyperparameter, in order of the trials."""


def tune(workspace: Workspace, job: JobConfig, split: Split, *, fingerprint: str, within_budget: bool = False) -> Tuned:
    """Try `job.tune.trials` settings of the model and return the one that is best on the validation part.

    Every trial is fitted on the training part and measured by `train.metric`; it is a run of its own in MLflow, the
    child of the run within which this is called. The test part is not looked at. The trials are kept in
    `mlruns/studies.db`: the same search on the same data goes on where it stopped, and ends at once when it was done.

    Args:
        fingerprint: of the data, which tells this search from one on other data.
        within_budget: look at no more trials than `job.tune` asks for, though an earlier call with a larger budget may
            have made more.

    Raises:
        ConfigError: the configuration has no search space or the split no validation part, no trial succeeded, or
            another process is at the same search.
    """
    settings = job.search()
    if split.validation is None:
        raise ConfigError("tuning needs a validation part; choose a share above 0 for it when splitting")
    validation = Validation(split.validation, job.train.metric, min_relevance=job.evaluate.min_relevance)
    home = workspace.mlruns
    name = _study_name(job, fingerprint)
    home.mkdir(parents=True, exist_ok=True)
    try:
        with (
            _quiet(),
            locked(home / "studies" / f"{name}.lock", wait=False),
            _study(home / "studies.db", name, settings, validation.higher_is_better) as study,
        ):
            _search(workspace, study, job, settings, split, validation)
            return _found(study, job, settings, within_budget)
    except BlockingIOError:
        raise ConfigError("another process is at the same search; wait for it, or tune something else") from None


def _search(
    workspace: Workspace,
    study: optuna.Study,
    job: JobConfig,
    settings: TuneConfig,
    split: Split,
    validation: Validation,
) -> None:
    for left in study.get_trials(states=(TrialState.RUNNING,)):  # of a search that was killed
        study.tell(left.number, state=TrialState.FAIL)
    study.sampler = _sampler(settings, len(study.trials))
    if not study.trials:
        given = {name: job.model[name] for name in settings.space if name in job.model}
        if len(given) == len(settings.space) and all(_within(settings.space[n], v) for n, v in given.items()):
            # The configuration's own values are the first to be tried.
            study.enqueue_trial(
                {n: v if isinstance(settings.space[n], Range) else json.dumps(v) for n, v in given.items()}
            )
    done = _ended(study)
    spent = sum(trial.user_attrs.get(_SECONDS, 0.0) for trial in done)
    best = f"{study.best_value:.4f}" if any(t.state == TrialState.COMPLETE for t in done) else "-"
    with tqdm(
        total=settings.trials, initial=len(done), unit="trial", desc="tuning", disable=not workspace.progress
    ) as bar:
        bar.set_postfix(best=best)
        while len(_ended(study)) < settings.trials and (
            settings.minutes is None or spent < 60 * settings.minutes or not _ended(study)
        ):
            began = time.perf_counter()
            trial = study.ask()
            value: float | None = None
            state = TrialState.FAIL
            try:
                value = _try(workspace, trial, job, settings, split, validation)
                state = TrialState.COMPLETE
            except optuna.TrialPruned:
                state = TrialState.PRUNED
            except TrainingError as error:  # such as a learning rate with which the loss explodes
                trial.set_user_attr("error", str(error))
            seconds = time.perf_counter() - began
            trial.set_user_attr(_SECONDS, seconds)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
            spent += seconds
            bar.update()
            if any(t.state == TrialState.COMPLETE for t in study.trials):
                bar.set_postfix(best=f"{study.best_value:.4f}")


def _try(
    workspace: Workspace,
    trial: optuna.Trial,
    job: JobConfig,
    settings: TuneConfig,
    split: Split,
    validation: Validation,
) -> float:
    """Fit one setting and return its best validation metric.

    Raises:
        optuna.TrialPruned: its curve lies below the median of the trials before it.
        TrainingError: its training went wrong.
    """
    params = {name: _suggest(trial, name, values) for name, values in settings.space.items()}
    model = job.with_model(**params).new_model()
    per_epoch = validation if job.train.validate_epochs else None
    tags = {"model": type(model).__name__, "trial": trial.number}
    with tracking.start_run(workspace, job.track.experiment, f"trial {trial.number}", tags) as tracker:
        tracker.log_params({"model": {"name": type(model).__name__, **model.params()}})

        def on_epoch(entry: dict[str, float]) -> None:
            tracker.log_epoch(entry)
            if settings.prune and validation.metric in entry and model.capabilities.trains_by_epochs:
                trial.report(entry[validation.metric], int(entry["epoch"]))
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            model.fit(split.train, False, validation=per_epoch, on_epoch=on_epoch)
        except optuna.TrialPruned:
            tracker.set_tags({"pruned": True})
            raise
        record = model.record_
        if per_epoch is None:
            value = validation(model)[validation.metric]
        else:
            value = record.epochs[(record.best_epoch or len(record.epochs)) - 1][validation.metric]
        tracker.log_metrics({f"validation_{validation.metric}": value})
    if not np.isfinite(value):
        raise TrainingError(f"the validation metric {validation.metric} is {value}")
    return value


def _found(study: optuna.Study, job: JobConfig, settings: TuneConfig, within_budget: bool) -> Tuned:
    done = _within_budget(_ended(study), settings) if within_budget else _ended(study)
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    if not complete:
        reasons = {trial.user_attrs.get("error", trial.state.name.lower()) for trial in done}
        raise ConfigError(f"none of {len(done)} trials could be trained: {'; '.join(sorted(reasons))}")
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state == TrialState.COMPLETE else np.nan,
            _SECONDS: trial.user_attrs.get(_SECONDS, np.nan),
            **_params(trial, settings),
        }
        for trial in done
    ]
    choose = max if study.direction == StudyDirection.MAXIMIZE else min
    value, best = choose(
        ((trial.value, trial) for trial in complete if trial.value is not None), key=lambda found: found[0]
    )
    return Tuned(job.with_model(**_params(best, settings)), value, pd.DataFrame(rows))


def _within_budget(done: list[FrozenTrial], settings: TuneConfig) -> list[FrozenTrial]:
    """Return the first trials, as many as a search of this budget makes."""
    spent = np.cumsum([trial.user_attrs.get(_SECONDS, 0.0) for trial in done])
    allowed = np.inf if settings.minutes is None else 60 * settings.minutes
    return done[: min(settings.trials, 1 + int((spent < allowed).sum()))]


def _suggest(trial: optuna.Trial, name: str, values: Range | list[Any]) -> Any:
    if not isinstance(values, Range):
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in values]))
    if values.whole:
        step = 1 if values.step is None else int(values.step)
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log, step=step)
    return trial.suggest_float(name, values.low, values.high, log=values.log, step=values.step)


def _params(trial: FrozenTrial, settings: TuneConfig) -> dict[str, Any]:
    """Return a trial's hyperparameters; choices stand in the store as JSON, since Optuna keeps no lists."""
    return {
        name: value if isinstance(settings.space[name], Range) else json.loads(value)
        for name, value in trial.params.items()
    }


def _within(values: Range | list[Any], value: Any) -> bool:
    if isinstance(values, Range):
        return bool(values.low <= value <= values.high)
    return json.dumps(value) in map(json.dumps, values)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=_ENDED)


@contextmanager
def _study(file: Path, name: str, settings: TuneConfig, higher_is_better: bool) -> Iterator[optuna.Study]:
    """Open the study of that name, and close the database's connections with the block."""
    direction: Literal["maximize", "minimize"] = "maximize" if higher_is_better else "minimize"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3) if settings.prune else None
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        yield optuna.create_study(
            storage=storage,
            study_name=name,
            direction=direction,
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _sampler(settings: TuneConfig, done: int) -> optuna.samplers.BaseSampler:
    """Return the sampler; one that goes on draws other settings than it began with."""
    seed = (settings.seed + done) % 2**32
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, settings.trials // 3)))


def _study_name(job: JobConfig, fingerprint: str) -> str:
    """Return a name that only the same search on the same data has; the budget may grow from one call to the next."""
    facts = job.as_dict()
    searched = {name: value for name, value in facts["tune"].items() if name not in ("trials", "minutes")}
    model = {name: value for name, value in job.model.items() if name != "device"}
    kept = {name: facts[name] for name in ("data", "split", "evaluate")}
    measured = job.train.metric if job.train.validate_epochs else f"{job.train.metric} of the last epoch"
    digest = sha256_of_json([kept, measured, model, searched, fingerprint])
    return f"{job.model['name']}-{digest[:24]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own lines off the screen: the progress bar and the table say it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
