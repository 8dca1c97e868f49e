"""Train, evaluate, track and register one model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys import report, tracking
from recsys.config import JobConfig
from recsys.errors import TrackingUnavailable
from recsys.evaluation import DEFAULT, Evaluation, Validation, along_k, evaluate
from recsys.files import sha256_of_json
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Split
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
    """The folder of what the tracking server has not been told yet, such as the model; None where it knows all."""


def run(workspace: Workspace, config: JobConfig, *, tags: Mapping[str, str] | None = None) -> list[Trained]:
    """Run a training job: data, split, fit, test, MLflow run and registry; one result per repeat.

    Prints what it does and a table of the test metrics.

    Args:
        tags: of the models in MLflow, and of their versions from the moment they are registered.

    Raises:
        ConfigError: the configuration cannot work (see `JobConfig.check`); nothing has been done then.
    """
    config.check()
    data = config.load_data(workspace.folder)
    print(data)
    name = config.model["name"]
    results = []
    for number in range(config.train.repeats):
        job = config.repeat(number)
        split = job.split.split(data)
        suffix = f" {number + 1}/{config.train.repeats}" if config.train.repeats > 1 else ""
        print(f"\n{name}{suffix}: train {split.train}, test {split.test}")
        run_name = (config.track.run_name or name) + suffix
        trained = train_one(workspace, job, split, data, run_name=run_name, model_tags=tags)
        print(trained.test)
        results.append(trained)
    if len(results) > 1:
        print(f"\n{name}, test, {len(results)} seeds\n{_over_seeds(results).to_string(float_format='{:.4f}'.format)}")
    where(workspace, results)
    return results


def train_one(
    workspace: Workspace,
    job: JobConfig,
    split: Split,
    data: Interactions,
    *,
    run_name: str,
    model_tags: Mapping[str, str] | None = None,
) -> Trained:
    """Fit one model in one MLflow run: choose on validation, log the model, test once, register.

    The training of a network that was killed continues where it stopped, in the same run, when the same job is called
    again on the same data. A tracking server that does not answer costs no training: see `tracking.Tracker`.

    Args:
        job: one repeat of a configuration, with its seeds written out (`JobConfig.repeat`): what the saved model says
            of itself.
        model_tags: of the model in MLflow, and of its version.
    """
    measure = job.evaluate
    model = job.new_model()
    validation = None
    if split.validation is not None:
        validation = Validation(split.validation, job.train.metric, min_relevance=measure.min_relevance)
    everything = split.refit() if job.train.refit else None
    about: dict[str, Any] = {
        "config": job.as_dict(),
        "data": data.summary(),
        "trained_on": {
            "refit": job.train.refit,
            "fingerprint": (split.train if everything is None else everything).fingerprint(),
            # Of a split by time: nothing that a model was trained on is as late as its test entries.
            **({} if split.first_test_time is None else {"until": split.first_test_time - 1}),
        },
    }
    tags = {
        "model": type(model).__name__,
        "data.fingerprint": data.fingerprint(),
        "split.kind": job.split.kind,
        "protocol": "new users" if (split.test.user_index < 0).all() else "training users",
    }
    checkpoints = {step: _checkpoint(workspace, model, about, step) for step in ("fit", "refit")}
    interrupted = any(path is not None and path.exists() for path in checkpoints.values())
    with tracking.start_run(
        workspace,
        job.track.experiment,
        run_name,
        tags,
        resume=_run_file(workspace, model, about),
        interrupted=interrupted,
        system_metrics=job.track.system_metrics,
    ) as tracker:
        config = {key: value for key, value in about["config"].items() if key != "model"}
        parameters = {"name": type(model).__name__, **model.params()}
        tracker.log_params({"model": parameters, "config": config, "parts": _sizes(split)})
        tracker.log_data(data, "all")
        tracker.log_parts(split)
        each_epoch = validation if job.train.validate_epochs else None
        _fit(model, split.train, checkpoints["fit"], workspace.progress, each_epoch, tracker)
        record = model.record_
        chosen = dict(record.epochs[(record.best_epoch or len(record.epochs)) - 1])
        if validation and each_epoch is None:
            chosen.update(validation(model))
        if everything is not None:
            overrides: dict[str, Any] = {"patience": None} if hasattr(model, "patience") else {}
            if getattr(model, "schedule", "cosine") == "constant" and record.best_epoch:
                overrides["epochs"] = record.best_epoch
            model = type(model)(**{**vars_of(model), **overrides})
            _fit(model, everything, checkpoints["refit"], workspace.progress)
        measured = (validation.metric, *validation.also) if validation else ()
        chosen = {name: chosen[name] for name in measured}
        tracker.log_best(record)
        # Before the test, so that what goes wrong there does not cost the training.
        tracking.log_model(
            model,
            name=None,
            metrics={f"validation_{k}": v for k, v in chosen.items()},
            about={**about, "tags": dict(model_tags)} if model_tags else about,
            examples=split.train,
        )
        if "loss" in record.epochs[0]:
            tracker.log_figure(
                report.learning_curve(pd.DataFrame(record.epochs), metric=record.metric), "learning_curve.png"
            )
        asked = tuple(dict.fromkeys(measure.metrics or DEFAULT))
        curves = evaluate(
            model,
            split.test,
            along_k(asked, split.test.target.shape[1]),
            min_relevance=measure.min_relevance,
            popularity=split.train,
            show_progress=workspace.progress,
        )
        test = curves.only(asked)
        tracker.log_metrics(test.values)
        tracker.log_frame(test.per_user, "per_user.parquet")
        tracker.log_frame(test.summary, "summary.parquet")
        if any("@" in name for name in test.values):
            tracker.log_figure(report.metric_at_k(curves), "metric_at_k.png")
        name = job.track.register_as
        if name is not None:
            tracker.register(name)
        # Last: a report that fails costs nothing else.
        page = report.page(
            model,
            split,
            curves,
            metrics=asked,
            about=about,
            record=record,
            min_relevance=measure.min_relevance,
            source=f"runs:/{tracker.run_id}/{tracking.MODEL}",
        )
        tracker.log_text(page, "report.html")
    registered = None if name is None else tracker.registered.get(name)
    return Trained(model, chosen, test, tracker.run_id, registered, tracker.waiting)


def _fit(
    model: Recommender,
    interactions: Interactions,
    checkpoint: Path | None,
    show_progress: bool,
    validation: Validation | None = None,
    tracker: tracking.Tracker | None = None,
) -> None:
    """Fit the model, from its checkpoint where there is one; `tracker` is told of every epoch."""
    tracker = tracker or tracking.Tracker()
    reported: list[int] = []

    def on_epoch(entry: dict[str, float]) -> None:
        epoch = int(entry["epoch"])
        if checkpoint and not reported and epoch > 1:
            print(f"continuing from epoch {epoch}")
        reported.append(epoch)
        tracker.log_epoch(entry)

    model.fit(interactions, show_progress, validation=validation, on_epoch=on_epoch, checkpoint=checkpoint)
    for entry in model.record_.epochs:
        if int(entry["epoch"]) not in reported:  # of the training that was killed
            tracker.log_epoch(entry)


def _checkpoint(workspace: Workspace, model: Recommender, about: dict[str, Any], step: str) -> Path | None:
    """Return the file from which a killed training continues: one per job with its seeds, data and step."""
    return _beside(workspace, model, about, step, ".safetensors")


def _run_file(workspace: Workspace, model: Recommender, about: dict[str, Any]) -> Path | None:
    """Return the file that names the run of a training while it can go on."""
    return _beside(workspace, model, about, "run", ".json")


def _beside(workspace: Workspace, model: Recommender, about: dict[str, Any], step: str, suffix: str) -> Path | None:
    if not model.trains_by_epochs:
        return None
    job = {name: section for name, section in about["config"].items() if name != "track"}
    # A training may go on on another device.
    job["model"] = {name: value for name, value in model.params().items() if name != "device"}
    facts = [step, type(model).__name__, job, about["data"]["fingerprint"]]
    digest = sha256_of_json(facts)
    return workspace.mlruns / "checkpoints" / f"{digest[:32]}{suffix}"


def where(workspace: Workspace, results: list[Trained]) -> None:
    """Print where the models are, and how to open the runs."""
    print()
    for result in results:
        if result.waiting is not None:
            print("model    not registered yet, nor logged: the tracking server does not answer, or not always")
            print(f"         it waits in {result.waiting}; recsys sync logs and registers it")
            continue
        print(f"model    {result.registered.uri if result.registered else f'runs:/{result.run_id}/model'}")
        if result.run_id is not None:
            with suppress(TrackingUnavailable):
                print(f"report   {tracking.address(result.run_id, 'report.html')}")
    print(f"runs     {tracking.describe(workspace)}")


def vars_of(model: Recommender) -> dict[str, Any]:
    """Return the hyperparameters as they were given."""
    return {name: getattr(model, name) for name in model.params()}


def _sizes(split: Split) -> dict[str, int]:
    sizes = {"train": split.train.nnz, "test": split.test.target.nnz}
    return sizes if split.validation is None else {**sizes, "validation": split.validation.target.nnz}


def _over_seeds(results: list[Trained]) -> pd.DataFrame:
    values = pd.DataFrame([result.test.values for result in results])
    return pd.DataFrame(
        {
            "mean": values.mean(),
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            **{f"seed {i}": values.loc[i] for i in values.index},
        }
    )
