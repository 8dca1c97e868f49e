"""The search itself: Optuna proposes settings, each is trained, and a database remembers them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm.auto import tqdm

from recsys import tracking
from recsys.config import JobConfig, Range, TuneConfig
from recsys.errors import TrainingError
from recsys.evaluation import Validation
from recsys.splits import Split
from recsys.workspace import Workspace

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Trial(NamedTuple):
    """A setting that was tried."""

    number: int
    state: str
    """`complete`, `pruned` or `fail`."""
    value: float | None
    """The validation metric of a complete trial."""
    seconds: float | None
    """None where the process was killed during the trial."""
    params: dict[str, Any]
    error: str | None
    """Why the training failed."""


@dataclass(frozen=True, eq=False)
class Search:
    """A search for the hyperparameters of a job's model."""

    workspace: Workspace
    job: JobConfig
    settings: TuneConfig
    split: Split
    validation: Validation

    def run(self, name: str) -> list[Trial]:
        """Make the trials that are missing in the study `name`, and return all that have ended."""
        trials, minutes = self.settings.trials, self.settings.minutes
        file = self.workspace.mlruns / "studies.db"
        with _study(file, name, self.settings.prune, self.validation.higher_is_better) as study:
            for killed in study.get_trials(states=(TrialState.RUNNING,)):  # left by a process that was killed
                study.tell(killed.number, state=TrialState.FAIL)
            study.sampler = _sampler(self.settings, len(study.trials))
            if not study.trials:
                self._enqueue_given(study)
            ended = _ended(study)
            count, spent = len(ended), sum(trial.user_attrs.get("seconds", 0.0) for trial in ended)
            hidden = not self.workspace.progress
            with tqdm(total=trials, initial=count, unit="trial", desc="tuning", disable=hidden) as bar:
                _show_best(bar, study)
                while count < trials and (minutes is None or spent < 60 * minutes or count == 0):
                    spent += self._make_trial(study)
                    count += 1
                    bar.update()
                    _show_best(bar, study)
            return [self._trial(trial) for trial in _ended(study)]

    def _enqueue_given(self, study: optuna.Study) -> None:
        """Let the configuration's own values be the first to be tried, where it has them all."""
        space, model = self.settings.space, self.job.model
        if all(name in model and _within(values, model[name]) for name, values in space.items()):
            study.enqueue_trial(
                {n: model[n] if isinstance(values, Range) else json.dumps(model[n]) for n, values in space.items()}
            )

    def _make_trial(self, study: optuna.Study) -> float:
        """Try one setting, store its result, and return the seconds it took."""
        began = time.perf_counter()
        trial = study.ask()
        value: float | None = None
        state = TrialState.FAIL
        try:
            value = self._train(trial)
            state = TrialState.COMPLETE
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except TrainingError as error:  # such as a learning rate with which the loss diverges
            trial.set_user_attr("error", str(error))
        seconds = time.perf_counter() - began
        trial.set_user_attr("seconds", seconds)
        study.tell(trial, value, state=state)
        return seconds

    def _train(self, trial: optuna.Trial) -> float:
        """Fit one setting in a run of its own and return its best validation metric.

        Raises:
            optuna.TrialPruned: its curve lies below the median of the trials before it.
            TrainingError: its training failed, or the metric is not finite.
        """
        metric = self.validation.metric
        params = {name: _suggest(trial, name, values) for name, values in self.settings.space.items()}
        model = self.job.with_model(**params).new_model()
        per_epoch = self.validation if self.job.train.validate_epochs else None
        tags = {"model": type(model).__name__, "trial": trial.number}
        with tracking.start_run(self.workspace, self.job.track.experiment, f"trial {trial.number}", tags) as tracker:
            tracker.log_params({"model": {"name": type(model).__name__, **model.params()}})

            def on_epoch(entry: dict[str, float]) -> None:
                tracker.log_epoch(entry)
                if self.settings.prune and metric in entry and model.capabilities.trains_by_epochs:
                    trial.report(entry[metric], int(entry["epoch"]))
                    if trial.should_prune():
                        raise optuna.TrialPruned

            try:
                model.fit(self.split.train, False, validation=per_epoch, on_epoch=on_epoch)
            except optuna.TrialPruned:
                tracker.set_tags({"pruned": True})
                raise
            record = model.record_
            if per_epoch is None:
                value = self.validation(model)[metric]
            else:
                value = record.epochs[(record.best_epoch or len(record.epochs)) - 1][metric]
            tracker.log_metrics({f"validation_{metric}": value})
        if not np.isfinite(value):
            raise TrainingError(f"the validation metric {metric} is {value}")
        return value

    def _trial(self, trial: FrozenTrial) -> Trial:
        """Return a trial in plain values; choices are stored as JSON, since Optuna keeps no lists."""
        params = {
            name: value if isinstance(self.settings.space[name], Range) else json.loads(value)
            for name, value in trial.params.items()
        }
        value = trial.value if trial.state == TrialState.COMPLETE else None
        facts = trial.user_attrs
        return Trial(trial.number, trial.state.name.lower(), value, facts.get("seconds"), params, facts.get("error"))


def _suggest(trial: optuna.Trial, name: str, values: Range | list[Any]) -> Any:
    if not isinstance(values, Range):
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in values]))
    if values.whole:
        step = 1 if values.step is None else int(values.step)
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log, step=step)
    return trial.suggest_float(name, values.low, values.high, log=values.log, step=values.step)


def _within(values: Range | list[Any], value: Any) -> bool:
    if isinstance(values, Range):
        return bool(values.low <= value <= values.high)
    return json.dumps(value) in map(json.dumps, values)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=_ENDED)


def _show_best(bar: tqdm[Any], study: optuna.Study) -> None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    bar.set_postfix(best=f"{study.best_value:.4f}" if complete else "-")


@contextmanager
def _study(file: Path, name: str, prune: bool, higher_is_better: bool) -> Iterator[optuna.Study]:
    """Open the study of that name without Optuna's own lines; close the database's connections at the block's end."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3) if prune else optuna.pruners.NopPruner()
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        stack.callback(storage.engine.dispose)
        stack.callback(storage.remove_session)
        yield optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if higher_is_better else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )


def _sampler(settings: TuneConfig, done: int) -> optuna.samplers.BaseSampler:
    """Return the sampler; a continued search draws other settings than it began with."""
    seed = (settings.seed + done) % 2**32
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, settings.trials // 3)))
