"""Train, evaluate, track and register one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys import report, tracking
from recsys.config import EvaluateConfig, JobConfig, TrainConfig
from recsys.evaluation import DEFAULT, Evaluation, Validation, evaluate
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
    """
    data = config.load_data()
    print(data)
    name = config.model["name"]
    results = []
    for repeat in range(config.train.repeats):
        split = config.split.split(data, seed_offset=repeat)
        overrides = {} if config.train.repeats == 1 else {"seed": int(config.model.get("seed", 0)) + repeat}
        suffix = f" {repeat + 1}/{config.train.repeats}" if config.train.repeats > 1 else ""
        print(f"\n{name}{suffix}: train {split.train}, test {split.test}")
        trained = train_one(
            config.new_model(**overrides),
            split,
            data,
            train=config.train,
            measure=config.evaluate,
            run_name=(config.track.run_name or name) + suffix,
            experiment=config.track.experiment,
            register=config.track.register_as,
            about=config.as_dict(),
            root=root,
            show_progress=show_progress,
        )
        print(trained.test)
        results.append(trained)
    if len(results) > 1:
        print(f"\n{name}, test, {len(results)} seeds\n{_over_seeds(results).to_string(float_format='{:.4f}'.format)}")
    where(results, root)
    return results


def train_one(
    model: Recommender,
    split: Split,
    data: Interactions,
    *,
    train: TrainConfig,
    measure: EvaluateConfig,
    run_name: str,
    experiment: str,
    register: str | None = None,
    about: dict[str, Any] | None = None,
    root: Path | None = None,
    show_progress: bool = True,
) -> Trained:
    """Fit one model in one MLflow run: choose on validation, test once, log everything, register."""
    about = {"config": about or {}, "data": data.summary()}
    validation = None
    if split.validation is not None:
        validation = Validation(split.validation, train.metric, min_relevance=measure.min_relevance)
    tags = {"model": type(model).__name__, "data.fingerprint": data.fingerprint()}
    with tracking.start_run(experiment, run_name, tags, root=root) as tracker:
        config = {key: value for key, value in about["config"].items() if key != "model"}
        parameters = {"name": type(model).__name__, **model.params()}
        tracker.log_params({"model": parameters, "config": config, "parts": _sizes(split)})
        tracker.log_data(data)
        each_epoch = validation if train.validate_epochs else None
        model.fit(split.train, show_progress, validation=each_epoch, on_epoch=tracker.log_epoch)
        record = model.record_
        chosen = dict(record.epochs[(record.best_epoch or len(record.epochs)) - 1])
        if validation and each_epoch is None:
            chosen.update(validation(model))
        if train.refit:
            overrides: dict[str, Any] = {"patience": None} if hasattr(model, "patience") else {}
            if getattr(model, "schedule", "cosine") == "constant" and record.best_epoch:
                overrides["epochs"] = record.best_epoch
            model = type(model)(**{**vars_of(model), **overrides}).fit(split.refit(), show_progress)
        chosen = {k: v for k, v in chosen.items() if k not in ("epoch", "loss", "seconds")}
        test = evaluate(
            model,
            split.test,
            measure.metrics or DEFAULT,
            min_relevance=measure.min_relevance,
            popularity=split.train,
            show_progress=show_progress,
        )
        tracker.log_best(record)
        tracker.log_metrics({f"validation_{k}": v for k, v in chosen.items()})
        tracker.log_metrics(test.values)
        tracker.log_frame(test.per_user, "per_user.parquet")
        tracker.log_frame(test.summary, "summary.parquet")
        if "loss" in record.epochs[0]:
            tracker.log_figure(
                report.learning_curve(pd.DataFrame(record.epochs), metric=record.metric), "learning_curve.png"
            )
        if any("@" in name for name in test.values):
            tracker.log_figure(report.metric_at_k(test), "metric_at_k.png")
        registered = tracking.log_model(
            model,
            name=register,
            metrics={**test.values, **{f"validation_{k}": v for k, v in chosen.items()}},
            about=about,
            examples=split.train,
        )
        return Trained(model, chosen, test, tracker.run_id, registered)


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
