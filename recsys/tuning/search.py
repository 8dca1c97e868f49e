"""The search itself: Optuna proposes settings, each is trained, and a file remembers them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from tqdm.auto import tqdm

from recsys import tracking
from recsys.config import JobConfig, TuneConfig
from recsys.errors import TrainingError
from recsys.evaluation import Validation
from recsys.models import Range, Recommender
from recsys.params import plain
from recsys.splits import Split
from recsys.tuning import study
from recsys.tuning.study import Trial, is_wanting
from recsys.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Search:
    """A search for the hyperparameters of a job's model.

    Every trial is proposed by a study and a sampler of its own, which know the ended trials and the trial's number and
    nothing else. So a search that is killed and continued is the search that was not.
    """

    workspace: Workspace
    name: str
    """Of the search; it is that of its file."""
    job: JobConfig
    settings: TuneConfig
    split: Split
    validation: Validation

    def run(self, run_name: str | None = None) -> list[Trial]:
        """Make the trials that are missing, and return all that have ended.

        Args:
            run_name: of the run whose children the trials are; None for the one within which this is called. It is not
                begun if no trial is missing.
        """
        with _quiet():
            trials = study.read(self.file, self._frozen)
            resume = tracking.resume_file(self.workspace, "search", self.name)
            if run_name is None:
                self._continue(trials)
            elif is_wanting(trials, self.settings) or resume.exists():
                with tracking.start_run(self.workspace, self.job.track.experiment, run_name, resume=resume):
                    self._continue(trials)
        return trials

    @property
    def file(self) -> Path:
        """The file of the trials that have ended."""
        return study.file_of(self.workspace, self.name)

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """What Optuna may propose; choices are JSON, since it keeps no lists."""
        return {name: _distribution(values) for name, values in self.settings.space.items()}

    def propose(self, ended: Sequence[Trial]) -> optuna.Trial:
        """Return the next trial: it follows from those that have ended, its number and the seed."""
        asked = optuna.create_study(
            direction="maximize" if self.validation.higher_is_better else "minimize",
            sampler=_sampler(self.settings, len(ended)),
            pruner=_pruner(self.settings),
        )
        asked.add_trials([self._frozen(trial) for trial in ended])
        if not ended and (first := self._first()):
            asked.enqueue_trial(first)
        return asked.ask(self.space)

    def _continue(self, trials: list[Trial]) -> None:
        """Append the trials that are missing."""
        self._end_last_run(trials)
        total, hidden = self.settings.trials, not self.workspace.progress
        with tqdm(total=total, initial=len(trials), unit="trial", desc="tuning", disable=hidden) as bar:
            self._show_best(bar, trials)
            while is_wanting(trials, self.settings):
                self._make_trial(trials)
                bar.update()
                self._show_best(bar, trials)

    def _first(self) -> dict[str, Any]:
        """Return what the space holds of the setting that is to be tried first; Optuna samples the rest."""
        named = all(name in self.job.model for name in self.space)
        start = self.settings.start or ("configuration" if named else "sample")
        if start == "sample":
            return {}
        model = self.job.new_model()
        if start == "defaults":
            model = type(model)()
        found: dict[str, Any] = {}
        for name, values in self.settings.space.items():
            value = plain(getattr(model, name))
            if not isinstance(values, Range):  # as the space writes it: 0 may stand for 0.0
                value = next((choice for choice in values if plain(choice) == value), value)
            proposed = self._proposable({name: value})
            with suppress(ValueError):
                optuna.trial.create_trial(value=0.0, params=proposed, distributions={name: self.space[name]})
                found |= proposed
        return found

    def _make_trial(self, trials: list[Trial]) -> None:
        """Try the next setting and append its result, which is kept before its run ends: see `_end_last_run`."""
        began = time.perf_counter()
        trial = self.propose(trials)
        params = {
            name: value if isinstance(self.settings.space[name], Range) else json.loads(value)
            for name, value in trial.params.items()
        }
        model = self.job.with_model(**params).new_model()
        epochs: list[tuple[int, float]] = []
        with self._run(len(trials), params) as tracker:
            tracker.log_params({"model": {"name": type(model).__name__, **model.params()}})
            state: Literal["complete", "pruned", "fail"] = "complete"
            value: float | None = None
            reason: Exception | None = None
            try:
                value = self._train(trial, model, tracker, epochs)
            except optuna.TrialPruned as pruned:
                state, reason = "pruned", pruned
                tracker.set_tags({"pruned": True})
            except TrainingError as failure:  # such as a learning rate with which the loss diverges
                state, reason = "fail", failure
                tracker.set_tags({"error": failure})
            seconds, error = time.perf_counter() - began, str(reason) if state == "fail" else None
            trials.append(Trial(len(trials), state, value, seconds, params, epochs, error))
            study.write(self.file, trials)
            if reason is not None:
                raise reason

    def _train(
        self, trial: optuna.Trial, model: Recommender, tracker: tracking.Tracker, epochs: list[tuple[int, float]]
    ) -> float:
        """Fit one setting and return its best validation metric; `epochs` gets what decides about pruning.

        Raises:
            optuna.TrialPruned: its curve lies below the median of the trials before it.
            TrainingError: its training failed, or the metric is not finite.
        """
        metric = self.validation.metric
        per_epoch = self.validation if self.job.train.validate_epochs else None

        def on_epoch(entry: dict[str, float]) -> None:
            tracker.log_epoch(entry)
            if self.settings.prune and metric in entry and model.capabilities.trains_by_epochs:
                epochs.append((int(entry["epoch"]), float(entry[metric])))
                trial.report(entry[metric], int(entry["epoch"]))
                if trial.should_prune():
                    raise optuna.TrialPruned

        model.fit(self.split.train, False, validation=per_epoch, on_epoch=on_epoch)
        record = model.record_
        if per_epoch is None:
            value = self.validation(model)[metric]
        else:
            value = record.epochs[(record.best_epoch or len(record.epochs)) - 1][metric]
        if not np.isfinite(value):
            raise TrainingError(f"the validation metric {metric} is {value}")
        tracker.log_metrics({f"validation_{metric}": value})
        return float(value)

    def _run_file(self, number: int, params: dict[str, Any]) -> Path:
        """Return the file by which the run of a killed trial is found again."""
        return tracking.resume_file(self.workspace, "trial", self.name, number, params)

    @contextmanager
    def _run(self, number: int, params: dict[str, Any]) -> Iterator[tracking.Tracker]:
        """Record the block as a trial's run, that which a killed process began if there is one; pruned is FAILED."""
        file, experiment = self._run_file(number, params), self.job.track.experiment
        tags = {"model": self.job.model["name"], "trial": number}
        started = tracking.start_run(self.workspace, experiment, f"trial {number}", tags, resume=file)
        with suppress(optuna.TrialPruned, TrainingError), started as tracker:
            yield tracker
        file.unlink(missing_ok=True)  # a run that failed would be resumed, and this trial is over

    def _end_last_run(self, trials: Sequence[Trial]) -> None:
        """End the run of a trial that was kept just before its process was killed."""
        if trials and self._run_file(trials[-1].number, trials[-1].params).exists():
            with self._run(trials[-1].number, trials[-1].params):
                if trials[-1].state != "complete":
                    raise TrainingError(trials[-1].error or trials[-1].state)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Return an ended trial as Optuna keeps it; a ValueError where it does not belong to the space."""
        return optuna.trial.create_trial(
            state=TrialState[trial.state.upper()],
            value=trial.value,
            params=self._proposable(trial.params),
            distributions=self.space,
            intermediate_values=dict(trial.epochs),
        )

    def _proposable(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return settings as Optuna proposes them."""
        space = self.settings.space
        return {n: v if isinstance(space.get(n), Range) else json.dumps(v) for n, v in params.items()}

    def _show_best(self, bar: tqdm[Any], trials: Sequence[Trial]) -> None:
        values = [trial.value for trial in trials if trial.value is not None]
        best = max if self.validation.higher_is_better else min
        bar.set_postfix(best=f"{best(values):.4f}" if values else "-")


def _distribution(values: Range | list[Any]) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution([json.dumps(value) for value in values])
    if values.whole:
        step = 1 if values.step is None else int(values.step)
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _sampler(settings: TuneConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial: the hash that is its seed makes the trials' draws independent."""
    seed = int(np.random.SeedSequence(settings.seed, spawn_key=(number,)).generate_state(1)[0])
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, settings.trials // 3)))


def _pruner(settings: TuneConfig) -> optuna.pruners.BasePruner:
    if not settings.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Optuna logs of every study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
