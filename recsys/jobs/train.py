"""Train, evaluate, track and register one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recsys import ranks, report, tracking
from recsys.config import JobConfig
from recsys.errors import RegistrationRefused, TrackingUnavailable
from recsys.evaluation import DEFAULT, Evaluation, Validation, along_k
from recsys.interactions import Interactions
from recsys.jobs.baseline import Baseline
from recsys.jobs.champion import champion_beside
from recsys.jobs.common import Sources, measure, split_of, start_of, validation_of
from recsys.jobs.list_rules import costs_of, items_for
from recsys.jobs.origin import name_of_run, origin
from recsys.jobs.progress import Lines
from recsys.jobs.train_files import forget, in_order, resume_files, trained_earlier
from recsys.jobs.train_ranks import announce, dismiss, follow
from recsys.models import Recommender
from recsys.splits import Split
from recsys.training import Record
from recsys.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Trained:
    """A model, what it scored, and where it went."""

    model: Recommender
    validation: dict[str, float]
    """Metrics of the kept weights on the validation part: what choices may read."""
    test: Evaluation
    run_id: str | None
    registered: tracking.RegisteredModel | None
    waiting: Path | None = None
    """Folder of what the tracking server has not been sent yet, such as the model; None where it has everything."""
    files: tuple[Path, ...] = ()
    """By which the job would continue if it were killed now."""
    refused: str = ""
    """Why the model was not registered, though it was to be: it is worse than the baseline. Empty where it was."""
    table: str = ""
    """`test` as text, with the baseline beside it."""

    def done(self) -> None:
        """Forget how to continue, when the result is kept; until then the same job resumes its run.

        A model that was refused is not forgotten: the same job registers it if it is told to, and trains nothing again.
        """
        if not self.refused:
            forget(self.files)


def run(workspace: Workspace, config: JobConfig, *, force: bool = False) -> list[Trained]:
    """Run a training job: data, split, fit, test, MLflow run and registry; one result per repeat.

    Prints what it does and a table of the test metrics, beside those of the baseline. Of several processes that
    `torchrun` has started the first does all of it, and the others train with it (`recsys.ranks`); they return [].

    Args:
        force: register the model even if it is worse than the baseline.

    Raises:
        ConfigError: the configuration cannot work (see `JobConfig.check`); nothing has been done then.
        RegistrationRefused: a model is worse than the baseline by `train.metric`; all else has been done then.
    """
    config.check()
    if ranks.asked() == 1 or ranks.size() > 1:
        return _run(workspace, config, force)
    with ranks.joined():
        if not ranks.first():
            follow(workspace)
            return []
        try:
            trained = _run(workspace, config, force)
        except RegistrationRefused:  # all fits are done; after any other error the others may be within one
            dismiss()
            raise
        dismiss()
        return trained


def _run(workspace: Workspace, config: JobConfig, force: bool) -> list[Trained]:
    """Do what `run` says, in the only process or the first."""
    tracking.check(workspace)
    data = Sources.read(workspace, config).data
    print(data)
    items_for(config.rules, None, config.data, data)  # refused before the training
    name, repeats = config.model["name"], config.train.repeats
    results = []
    for number in range(repeats):
        job = config.repeat(number)
        number_of = f" {number + 1}/{repeats}" if repeats > 1 else ""
        run_name = (config.track.run_name or name) + number_of
        split = split_of(job, data)
        job.check_memory(split.train)
        print(f"\n{run_name}: train {split.train}, test {split.test}")
        results.append(train_one(workspace, job, split, data, run_name=name_of_run(config) + number_of, force=force))
        print(results[-1].table)
    if repeats > 1:
        values = pd.DataFrame([result.test.values for result in results])
        over_seeds = pd.DataFrame({"mean": values.mean(), "sd": values.std()}).join(values.T.add_prefix("seed "))
        print(f"\n{name}, test, {repeats} seeds\n{over_seeds.to_string(float_format='{:.4f}'.format)}")
    print()
    for result in results:
        if result.waiting is not None:
            print(f"model    not registered yet, nor logged: {tracking.trouble(workspace)}")
            sent = "logs it" if result.refused else "logs and registers it"
            print(f"         it waits in {result.waiting}; recsys sync {sent}")
            continue
        print(f"model    {result.registered.uri if result.registered else f'runs:/{result.run_id}/model'}")
        if result.run_id is not None:
            with suppress(TrackingUnavailable):
                print(f"report   {tracking.address(result.run_id, 'report.html')}")
    print(f"runs     {tracking.describe(workspace)}")
    for result in results:
        result.done()
    if refused := [result.refused for result in results if result.refused]:
        more = f" (and {len(refused) - 1} more of {repeats}, see above)" if len(refused) > 1 else ""
        raise RegistrationRefused(
            f"{refused[0]}{more}; the same command with --force registers it all the same, and trains nothing again"
        )
    return results


def tests(results: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return the metrics on the test part as rows: a row per model and metric."""
    return [
        {
            "model": type(result.model).__name__,
            "run_id": result.run_id,
            "registered": None if result.registered is None else result.registered.uri,
            **{str(name): value for name, value in row.items()},
        }
        for result in results
        for row in result.test.summary.to_dict("records")
    ]


def train_one(
    workspace: Workspace,
    job: JobConfig,
    split: Split,
    data: Interactions,
    *,
    run_name: str,
    model_tags: Mapping[str, str] | None = None,
    force: bool = False,
) -> Trained:
    """Fit one model in one MLflow run: choose on validation, log the model, test once, register.

    The training of a network that was killed continues where it stopped, in the same run, when the same job is called
    again on the same data. A tracking server that does not answer costs no training: see `tracking.start_run`.

    Args:
        job: one repeat of a configuration, with its seeds written out (`JobConfig.repeat`), as it is saved.
        model_tags: of the model in MLflow, and of its version.
        force: register a model that is worse than the baseline (`Baseline.above`) too.
    """
    everything = split.refit() if job.train.refit else None
    model, fitted_on = job.new_model(), split.train if everything is None else everything
    start, pinned = start_of(workspace, job)
    about, tags = origin(job, split, fitted_on, data, model_tags, pinned)
    files = resume_files(workspace, model, about)
    with tracking.start_run(
        workspace,
        job.track.experiment,
        run_name,
        tags,
        resume=files["run"],
        interrupted=any(path.exists() for path in in_order(files)[:-1]),
        keep=True,
        system_metrics=job.track.system_metrics,
    ) as tracker:
        _log_inputs(tracker, model, split, data, about["config"])
        earlier = trained_earlier()
        model, chosen, record = earlier or _train(workspace, model, job, (split, everything), files, tracker, start)
        tracker.log_best(record)
        metrics = {f"validation/{name}": value for name, value in chosen.items()}
        if earlier is None:  # before the test, so that an error there does not cost the training
            about["chosen"] = {"validation": chosen, "record": asdict(record)}
            tracking.log_model(model, name=None, metrics=metrics, about=about, examples=split.train)
        else:
            tracker.log_metrics(metrics)
        _log_curve(tracker, record)
        curves, test = _test(workspace, model, job, split, tracker)
        baseline = Baseline.of(workspace, job, split, fitted_on, tuple(test.values))
        tracker.log_metrics(baseline.figures)
        register_as = job.track.register_as
        worse = baseline.above(model, test, job.train.metric)
        refused = _refusal(worse, register_as, force, tracker.run_id)
        if register_as is not None and not refused:
            tracker.register(register_as)
        # Last: a report that fails costs nothing else.
        cost = costs_of(model, split, job.rules, items_for(job.rules, None, job.data, data))
        registered = None if register_as is None else tracker.registered.get(register_as)
        source = registered.uri if registered else f"runs:/{tracker.run_id}/{tracking.MODEL}"
        shown: dict[str, Any] = {"about": about, "record": record, "source": source, "rules": cost}
        shown |= {"min_relevance": job.evaluate.min_relevance, "baseline": (baseline.title, baseline.values)}
        names = tuple(test.values)
        if not tracker.waiting:
            shown["champion"] = champion_beside(job, split, names, own=source)
        tracker.log_text(report.page(model, split, curves, metrics=names, **shown), "report.html")
    table = baseline.table(test) + (f"\n{worse}" if worse else "")
    return Trained(model, chosen, test, tracker.run_id, registered, tracker.waiting, in_order(files), refused, table)


def _refusal(worse: str, register_as: str | None, force: bool, run_id: str | None) -> str:
    """Return why a model is not registered; empty if it is, or was not to be."""
    if not worse or register_as is None or force:
        return ""
    return f"{worse}. It is logged as runs:/{run_id}/{tracking.MODEL} and not registered as {register_as!r}"


def _log_curve(tracker: tracking.Tracker, record: Record) -> None:
    if "loss" in record.epochs[0]:
        curve = report.learning_curve(pd.DataFrame(record.epochs), metric=record.metric)
        tracker.log_figure(curve, "learning_curve.png")


def _log_inputs(
    tracker: tracking.Tracker, model: Recommender, split: Split, data: Interactions, config: Mapping[str, Any]
) -> None:
    sizes = {"train": split.train.nnz, "test": split.test.target.nnz}
    if split.validation is not None:
        sizes["validation"] = split.validation.target.nnz
    sections = {key: value for key, value in config.items() if key != "model"}
    params = {"name": type(model).__name__, **model.params()}
    tracker.log_inputs({"model": params, "config": sections, "parts": sizes}, data, "all", split)


def _train(
    workspace: Workspace,
    model: Recommender,
    job: JobConfig,
    data: tuple[Split, Interactions | None],
    files: Mapping[str, Path],
    tracker: tracking.Tracker,
    start: Recommender | None,
) -> tuple[Recommender, dict[str, float], Record]:
    """Return the model, fitted on all of the data if there is such a refit; what the first fit chose, and its record.

    Args:
        data: the split, and what a refit takes.
        start: the model with whose weights training begins.
    """
    split, everything = data
    chosen = _fit_and_validate(workspace, model, job, split, files.get("fit"), tracker, start)
    record = model.record_
    if everything is not None:
        model = model.for_refit()
        joined = announce(model, job, "refit", files.get("refit"))
        _fit(workspace, model, everything, tracking.Tracker(), files.get("refit"), joined=joined, start=start)
    return model, chosen, record


def _fit_and_validate(
    workspace: Workspace,
    model: Recommender,
    job: JobConfig,
    split: Split,
    checkpoint: Path | None,
    tracker: tracking.Tracker,
    start: Recommender | None,
) -> dict[str, float]:
    """Fit on the training part and return the validation metrics of the kept weights."""
    validation = validation_of(job, split)
    each_epoch = validation if job.train.validate_epochs else None
    joined = announce(model, job, "fit", checkpoint)
    _fit(workspace, model, split.train, tracker, checkpoint, each_epoch, joined=joined, start=start)
    if validation is None:
        return {}
    if each_epoch is None:
        return validation(model)
    record = model.record_
    best = record.epochs[(record.best_epoch or len(record.epochs)) - 1]
    return {validation.metric: best[validation.metric]}


def _fit(
    workspace: Workspace,
    model: Recommender,
    interactions: Interactions,
    tracker: tracking.Tracker,
    checkpoint: Path | None,
    validation: Validation | None = None,
    *,
    joined: bool,
    start: Recommender | None,
) -> None:
    """Fit the model, from its checkpoint where there is one, and report every epoch to `tracker`.

    Args:
        joined: the other processes that were started train with this one.
        start: the model with whose weights training begins.
    """
    reported: list[int] = []
    lines = Lines(workspace, getattr(model, "epochs", None))

    def on_epoch(entry: dict[str, float]) -> None:
        epoch = int(entry["epoch"])
        if checkpoint and not reported and epoch > 1:
            print(f"continuing from epoch {epoch}")
        reported.append(epoch)
        lines.tell(entry)
        tracker.log_epoch(entry)

    with nullcontext() if joined else ranks.alone():
        options: dict[str, Any] = {"validation": validation, "on_epoch": on_epoch, "checkpoint": checkpoint}
        model.fit(interactions, workspace.progress, **options, start=start)
    for entry in model.record_.epochs:
        if int(entry["epoch"]) not in reported:  # of the training that was killed
            tracker.log_epoch(entry)


def _test(
    workspace: Workspace, model: Recommender, job: JobConfig, split: Split, tracker: tracking.Tracker
) -> tuple[Evaluation, Evaluation]:
    """Read the test part once; return the evaluation at further cut-offs too, and that of the metrics asked for."""
    metrics = tuple(dict.fromkeys(job.evaluate.metrics or DEFAULT))
    curves = measure(workspace, job, model, split, along_k(metrics, split.test.target.shape[1]))
    test = curves.only(metrics)
    tracker.log_metrics({f"test/{name}": value for name, value in test.values.items()})
    tracker.log_frame(test.per_user, "per_user.parquet")
    tracker.log_frame(test.summary, "summary.parquet")
    if any("@" in name for name in test.values):
        tracker.log_figure(report.metric_at_k(curves), "metric_at_k.png")
    return curves, test
