"""Train, evaluate, track and register one model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys import report, tracking
from recsys.config import JobConfig
from recsys.evaluation import DEFAULT, Evaluation, Validation, along_k, evaluate
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Split


@dataclass(frozen=True, eq=False)
class Trained:
    """A model, what it scored, and where it went."""

    model: Recommender
    validation: dict[str, float]
    """Metrics of the kept weights on the validation part: what choices may read."""
    test: Evaluation
    run_id: str | None
    registered: tracking.RegisteredModel | None


def run(config: JobConfig, *, root: Path | None = None, show_progress: bool = True) -> list[Trained]:
    """Run a training job: data, split, fit, test, MLflow run and registry; one result per repeat.

    Prints what it does and a table of the test metrics.

    Raises:
        ConfigError: the configuration cannot work (see `JobConfig.check`); nothing has been done then.
    """
    config.check()
    data = config.load_data(root)
    print(data)
    name = config.model["name"]
    results = []
    for number in range(config.train.repeats):
        job = config.repeat(number)
        split = job.split.split(data)
        suffix = f" {number + 1}/{config.train.repeats}" if config.train.repeats > 1 else ""
        print(f"\n{name}{suffix}: train {split.train}, test {split.test}")
        run_name = (config.track.run_name or name) + suffix
        trained = train_one(job, split, data, run_name=run_name, root=root, show_progress=show_progress)
        print(trained.test)
        results.append(trained)
    if len(results) > 1:
        print(f"\n{name}, test, {len(results)} seeds\n{_over_seeds(results).to_string(float_format='{:.4f}'.format)}")
    where(results, root)
    return results


def train_one(
    job: JobConfig,
    split: Split,
    data: Interactions,
    *,
    run_name: str,
    root: Path | None = None,
    show_progress: bool = True,
) -> Trained:
    """Fit one model in one MLflow run: choose on validation, log the model, test once, register.

    The training of a network that was killed continues where it stopped, in a run of its own, when the same job is
    called again on the same data.

    Args:
        job: one repeat of a configuration, with its seeds written out (`JobConfig.repeat`): what the saved model says
            of itself.
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
        },
    }
    tags = {"model": type(model).__name__, "data.fingerprint": data.fingerprint()}
    with tracking.start_run(job.track.experiment, run_name, tags, root=root) as tracker:
        config = {key: value for key, value in about["config"].items() if key != "model"}
        parameters = {"name": type(model).__name__, **model.params()}
        tracker.log_params({"model": parameters, "config": config, "parts": _sizes(split)})
        tracker.log_data(data)
        each_epoch = validation if job.train.validate_epochs else None
        _fit(model, split.train, _checkpoint(model, about, root, "fit"), show_progress, each_epoch, tracker)
        record = model.record_
        chosen = dict(record.epochs[(record.best_epoch or len(record.epochs)) - 1])
        if validation and each_epoch is None:
            chosen.update(validation(model))
        if everything is not None:
            overrides: dict[str, Any] = {"patience": None} if hasattr(model, "patience") else {}
            if getattr(model, "schedule", "cosine") == "constant" and record.best_epoch:
                overrides["epochs"] = record.best_epoch
            model = type(model)(**{**vars_of(model), **overrides})
            _fit(model, everything, _checkpoint(model, about, root, "refit"), show_progress)
        chosen = {k: v for k, v in chosen.items() if k not in ("epoch", "loss", "seconds")}
        tracker.log_best(record)
        # Before the test, so that what goes wrong there does not cost the training.
        tracking.log_model(
            model,
            name=None,
            metrics={f"validation_{k}": v for k, v in chosen.items()},
            about=about,
            examples=split.train,
        )
        if "loss" in record.epochs[0]:
            tracker.log_figure(
                report.learning_curve(pd.DataFrame(record.epochs), metric=record.metric), "learning_curve.png"
            )
        asked = measure.metrics or DEFAULT
        curves = evaluate(
            model,
            split.test,
            along_k(asked, split.test.target.shape[1]),
            min_relevance=measure.min_relevance,
            popularity=split.train,
            show_progress=show_progress,
        )
        test = curves.only(asked)
        tracker.log_metrics(test.values)
        tracker.log_frame(test.per_user, "per_user.parquet")
        tracker.log_frame(test.summary, "summary.parquet")
        if any("@" in name for name in test.values):
            tracker.log_figure(report.metric_at_k(curves), "metric_at_k.png")
        name = job.track.register_as
        registered = None if name is None else tracking.register(tracker.run_id, name)
        return Trained(model, chosen, test, tracker.run_id, registered)


def _fit(
    model: Recommender,
    interactions: Interactions,
    checkpoint: Path | None,
    show_progress: bool,
    validation: Validation | None = None,
    tracker: tracking.Tracker | None = None,
) -> None:
    """Fit the model, from its checkpoint where there is one; `tracker` is told of every epoch."""
    tracker = tracker or tracking.NullTracker()
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


def _checkpoint(model: Recommender, about: dict[str, Any], root: Path | None, step: str) -> Path | None:
    """Return the file from which a killed training continues: one per job with its seeds, data and step."""
    if not model.trains_by_epochs:
        return None
    job = {name: section for name, section in about["config"].items() if name != "track"}
    # A training may go on on another device.
    job["model"] = {name: value for name, value in model.params().items() if name != "device"}
    facts = [step, type(model).__name__, job, about["data"]["fingerprint"]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return tracking.home(root) / "checkpoints" / f"{digest[:32]}.safetensors"


def where(results: list[Trained], root: Path | None) -> None:
    """Print where the models are, and how to open the runs."""
    print()
    for result in results:
        print(f"model    {result.registered.uri if result.registered else f'runs:/{result.run_id}/model'}")
    print(f"runs     {tracking.describe(root)}")


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
