"""Items that nobody has met, on citeulike-a: `python -m tests.benchmarks.cold_items [NAME ...]`.

The papers of part `test` are cold. Models are fitted to those of part `train`; choices are made on those of part `val`.
Lists hold cold papers alone; users have the history of training, as a content baseline would read it, or that of
training and validation. With `--warm` a tenth of the entries of warm papers is held out too, and lists are measured
with and without cold papers among the candidates.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recsys import Validation, datasets, evaluate, splits
from recsys.models import WithFeatures, model_class
from tests.benchmarks import machine

FEATURES: dict[str, Any] = {"columns": {"tags": "tags"}, "min_count": 3}
EASE: dict[str, Any] = {"name": "EASE", "regularization": 200.0, "precision": "float32"}
INSIDE: dict[str, dict[str, Any]] = {
    "EASE": EASE,
    "ELSA": {"name": "ELSA", "factors": 256, "epochs": 15},
    "MultVAE": {"name": "MultVAE", "epochs": 40, "decoder": "affine", "schedule": "cosine"},
    "MultDAE": {"name": "MultDAE", "epochs": 40, "schedule": "cosine"},
    "RecVAE": {"name": "RecVAE", "epochs": 40},
    "ALS": {"name": "ALS", "factors": 128},
    "ItemKNN": {"name": "ItemKNN"},
}
SMALL: dict[str, Any] = {
    "name": "MultVAE",
    "epochs": 25,
    "hidden": 200,
    "latent": 100,
    "decoder": "affine",
    "batch_size": 250,
    "learning_rate": 2e-3,
    "keep_users": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "ContentKNN": {"name": "ContentKNN", **FEATURES},
    **{f"{name} with features": {"name": "WithFeatures", "model": own, **FEATURES} for name, own in INSIDE.items()},
    "MultVAE that leans": {"name": "WithFeatures", "model": SMALL, "in_training": True, **FEATURES},
    "MultVAE of that size": {"name": "WithFeatures", "model": SMALL, **FEATURES},
    "FEASE": {**EASE, "name": "FEASE", "feature_weight": 3.0, "prior_weight": 1000.0, **FEATURES},
    "Blend": {
        "name": "Blend",
        "parts": (
            {"name": "WithFeatures", "model": EASE, "warm_loss": 1.0, **FEATURES},
            {"name": "ContentKNN", **FEATURES},
        ),
    },
}
METRICS = ("recall@20", "ndcg@20", "recall@100")


def made(options: dict[str, Any]) -> Any:
    own = dict(options)
    return model_class(own.pop("name"))(**own)


def cold(names: list[str], *, refit: bool) -> None:
    """Print a line for each model."""
    split = splits.cold_items(datasets.load("citeulike-a").binarized(), item_column="part")
    validation = Validation(split.validation, "ndcg@20", also=("recall@20", "recall@100"))
    alone = replace(split.test, context=split.train.matrix)
    for name in names:
        began = time.perf_counter()
        model = made(MODELS[name]).fit(split.train, show_progress=False, validation=validation)
        line: dict[str, Any] = {"model": name, "seconds": round(time.perf_counter() - began, 1)}
        line["validation"] = {metric: round(value, 4) for metric, value in validation(model).items()}
        line["test, training history"] = _rounded(evaluate(model, alone, METRICS))
        line["test, whole history"] = _rounded(evaluate(model, split.test, METRICS))
        if refit:
            again = model.for_refit().fit(split.refit(), show_progress=False)
            line["test, refitted"] = _rounded(evaluate(again, split.test, METRICS))
        print(line, flush=True)


def warm(names: list[str]) -> None:
    """Print what warm papers lose by cold ones in the same lists, and what cold ones get there.

    New papers are held back as much as the validation part says; without `warm_loss`, they are not.
    """
    data = datasets.load("citeulike-a").binarized()
    split = splits.cold_items(data, item_column="part", entries=0.1, among="all")
    validation = Validation(split.validation, "ndcg@20")
    marks = pd.Series(data.item_columns["part"])
    of_warm, of_cold = (np.flatnonzero(one) for one in (~marks.isin(["test", "val"]), marks.eq("test")))
    for name in names:
        models = {name: made(MODELS[name]).fit(split.train, show_progress=False, validation=validation)}
        if isinstance(model := models[name], WithFeatures):
            given = {**model.get_params(), "model": model.inner(), "strength": model.strength_}
            for label, options in {"without warm_loss": {"warm_loss": 1.0}, "without validation": {}}.items():
                models[label] = WithFeatures(**{**given, **options}).fit(split.train, show_progress=False)
        for label, model in models.items():
            few, many = (
                evaluate(model, split.test.of_items(of_warm, *only), ("ndcg@20",)).values["ndcg@20"]
                for only in ((of_warm,), ())
            )
            cold_among_all = evaluate(model, split.test.of_items(of_cold), METRICS)
            figures = {"warm alone": few, "warm among all": many, "lost": 1 - many / few}
            line = {key: round(value, 4) for key, value in figures.items()}
            held = getattr(model, "held_back_", None)
            print({"model": label, "held back": held, **line, "cold among all": _rounded(cold_among_all)}, flush=True)


def _rounded(found: Any) -> dict[str, float]:
    return {metric: round(value, 4) for metric, value in found.values.items()}


def main() -> None:
    """Measure the models that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cold_items", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--warm", action="store_true", help="what warm papers lose by cold ones in the catalog")
    parser.add_argument("--refit", action="store_true", help="also fit to training and validation papers alike")
    options = parser.parse_args()
    print(machine.name("cpu"), flush=True)
    names = options.names or list(MODELS)
    warm(names) if options.warm else cold(names, refit=options.refit)


if __name__ == "__main__":
    main()
