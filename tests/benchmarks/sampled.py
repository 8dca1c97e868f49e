"""The sampled softmax beside the whole one: `python -m tests.benchmarks.sampled gowalla|generated`.

`gowalla`: Mult-VAE on LightGCN's split with each loss. Of 2,500 users a fifth of the training items chooses the epoch
by recall@20; test figures are of the weights of that epoch. `generated`: the time of a step and the memory of an epoch
for catalogues of several sizes, where every user has `EACH` items, each half of them drawn from a popularity that falls
as 1 / rank.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys import MultVAE, Validation, datasets, evaluate, splits
from tests.benchmarks import machine

EACH = 30
MODEL: dict[str, Any] = {"hidden": 600, "latent": 200, "decoder": "affine", "epochs": 60, "schedule": "cosine"}
LOSSES = {
    "softmax": {},
    "popularity": {"negatives": 1024},
    "batch": {"negatives": 1024, "negatives_from": "batch"},
    "uniform": {"negatives": 1024, "negatives_from": "uniform"},
}
METRICS = ("recall@20", "ndcg@20")


def split_of_gowalla(seed: int = 0) -> Any:
    """Return the published split, with a fifth of 2,500 users' training items for validation."""
    data = datasets.load("gowalla-lightgcn", keep=["split"]).binarized()
    marks = np.array(data.columns["split"], dtype=object)
    rows = np.repeat(np.arange(data.shape[0]), np.diff(data.matrix.indptr))
    rng = np.random.default_rng(seed)
    some = np.isin(rows, rng.choice(data.shape[0], 2500, replace=False))
    marks[some & (marks == "train") & (rng.random(len(marks)) < 0.2)] = "validation"
    return splits.given(replace(data, columns={"split": marks}), "split")


def gowalla(names: list[str], options: dict[str, Any]) -> None:
    """Train with each loss and print a line for each."""
    split = split_of_gowalla()
    validation = Validation(split.validation, "recall@20", also=("ndcg@20",))
    for name in names:
        model = MultVAE(**{**MODEL, **LOSSES[name], **options})
        began = time.perf_counter()

        def told(entry: dict[str, float], name: str = name) -> None:
            print(name, {key: round(value, 5) for key, value in entry.items()}, flush=True)

        model.fit(split.train, show_progress=False, validation=validation, on_epoch=told)
        record = model.record_
        found = {
            "loss": name,
            "options": options,
            "seconds": round(time.perf_counter() - began, 1),
            "seconds_an_epoch": round(float(np.median([entry["seconds"] for entry in record.epochs])), 2),
            "best_epoch": record.best_epoch,
            "validation": record.epochs[record.best_epoch - 1]["recall@20"],
            "test": evaluate(model, split.test, METRICS).values,
        }
        print(json.dumps(found), flush=True)


def histories(users: int, items: int, seed: int = 0) -> sp.csr_matrix:
    """Return drawn histories."""
    rng = np.random.default_rng(seed)
    popular = np.exp(rng.random((users, EACH // 2)) * np.log(items)).astype(np.int64) - 1
    columns = np.concatenate([popular, rng.integers(0, items, (users, EACH - EACH // 2))], axis=1)
    rows = np.repeat(np.arange(users), EACH)
    matrix = sp.csr_matrix((np.ones(users * EACH, np.float32), (rows, columns.ravel())), shape=(users, items))
    matrix.data[:] = 1.0
    return matrix


def generated(users: int, items: list[int], options: dict[str, Any]) -> None:
    """Train for two epochs on each catalogue; print the second one's milliseconds a step and the peak memory."""
    for n in items:
        model = MultVAE(**{**MODEL, "negatives": 1024, **options, "epochs": 2, "keep_users": False})
        model.fit(histories(users, n), show_progress=False)
        seconds = model.record_.epochs[-1]["seconds"]
        steps = -(-users // model.batch_size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            json.dumps(
                {"items": n, "users": users, "ms_a_step": 1e3 * seconds / steps, "epoch_s": seconds, "peak_gib": peak}
            )
        )


def main() -> None:
    """Read the command and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("gowalla", "generated"))
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--options", type=json.loads, default={}, help="hyperparameters, as JSON")
    arguments = parser.parse_args()
    print(machine.name("cpu"))
    if arguments.what == "gowalla":
        gowalla(arguments.losses, arguments.options)
    else:
        generated(arguments.users, arguments.items, arguments.options)


if __name__ == "__main__":
    main()
