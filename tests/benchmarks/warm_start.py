"""Training that starts from yesterday's model: `python -m tests.benchmarks.warm_start [--model NAME] [--seeds N]`.

MovieLens-1M, the split of the ∞-AE paper. Yesterday's model is fitted to 99 % of the training entries, today's to all
of them: cold, and with yesterday's weights. Both are measured after every epoch on the validation part. The figure is
the epoch at which the warm one is as good as the cold one at its best, beside the one at which that was.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np

from recsys import Validation, datasets, splits
from recsys.models import model_class
from tests.benchmarks import machine

OPTIONS: dict[str, dict[str, Any]] = {
    "MultVAE": {"decoder": "affine", "beta": 0.3, "epochs": 30, "learning_rate": 2e-3, "batch_size": 250},
    "MultDAE": {"epochs": 30, "weight_decay": 4e-3, "learning_rate": 5e-3, "batch_size": 250},
    "UAutoRec": {"epochs": 30, "unobserved_weight": 0.1},
}
METRIC = "ndcg@10"


def measured(name: str, seed: int) -> dict[str, Any]:
    """Return the epochs of both, and their validation values."""
    data = datasets.load("ml-1m", keep=["split_infae"]).binarized()
    split = splits.given(data, "split_infae")
    kept = np.random.default_rng(seed).random(split.train.nnz) < 0.99
    yesterday = split.train.select(kept)
    cls, options = model_class(name), {**OPTIONS[name], "seed": seed}
    validation = Validation(split.validation, METRIC)
    earlier = Validation(replace(split.validation, context=yesterday.matrix), METRIC)
    found: dict[str, Any] = {"model": name, "seed": seed}
    start = cls(**options).fit(yesterday, show_progress=False, validation=earlier)
    for label, beginning in (("cold", None), ("warm", start)):
        began = time.perf_counter()
        model = cls(**options).fit(split.train, show_progress=False, validation=validation, start=beginning)
        values = [round(entry[METRIC], 4) for entry in model.record_.epochs]
        found[label] = {"best": max(values), "at": int(np.argmax(values)) + 1, "seconds": time.perf_counter() - began}
        found[label]["values"] = values
    reached = [epoch for epoch, value in enumerate(found["warm"]["values"], 1) if value >= found["cold"]["best"]]
    found["warm reaches it after"] = reached[0] if reached else None
    return found


def main() -> None:
    """Print a line for each model and seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.warm_start", description=__doc__)
    parser.add_argument("--model", choices=OPTIONS, action="append", help="default: MultVAE")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print(machine.name("cpu"), flush=True)
    for name in options.model or ["MultVAE"]:
        for seed in range(options.seeds):
            print(measured(name, seed), flush=True)


if __name__ == "__main__":
    main()
