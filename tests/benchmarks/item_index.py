"""Lists by an index beside exact ones: `python -m tests.benchmarks.item_index [--model FOLDER] [--items N ...]`.

For each share of the exact lists that is asked for: how many lists of items are searched, the share that is found,
users a second, and how many times faster that is than `recommend`. Without a model, Mult-VAEs are trained for two
epochs on catalogues of the sizes given, drawn as `tests.benchmarks.sampled` draws them.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

import recsys
from recsys.approximate import ItemIndex
from tests.benchmarks import machine
from tests.benchmarks.sampled import histories, split_of_gowalla

SHARES = (0.8, 0.9, 0.95, 0.99)


def measure(model: Any, matrix: Any, title: str) -> None:
    """Print a line for each share."""
    users = np.full(matrix.shape[0], -1)
    few = slice(0, 2000)
    began = time.perf_counter()
    model.recommend(users[few], matrix[few], 20)
    exact = len(users[few]) / (time.perf_counter() - began)
    began = time.perf_counter()
    index = ItemIndex(model)
    built = time.perf_counter() - began
    for share in SHARES:
        found = index.calibrate(users, matrix, share, 20)
        began = time.perf_counter()
        index.recommend(users, matrix, 20)
        rate = len(users) / (time.perf_counter() - began)
        about = {"data": title, "items": model.n_items_, "asked": share, "found": round(found, 4), "lists": index.lists}
        speed = {"probes": index.probes, "users_a_second": round(rate), "exact": round(exact), "times": rate / exact}
        print(json.dumps({**about, **speed, "build_s": round(built, 1)}), flush=True)


def main() -> None:
    """Read the command, train or load, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder of a model of Gowalla")
    parser.add_argument("--items", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--users", type=int, default=100_000)
    arguments = parser.parse_args()
    print(machine.name("cpu"))
    if arguments.model:
        measure(recsys.load(arguments.model), split_of_gowalla().test.context[:10_000], "Gowalla")
        return
    for n in arguments.items:
        matrix = histories(arguments.users, n)
        options: dict[str, Any] = {"hidden": 128, "latent": 64, "decoder": "affine", "epochs": 2, "keep_users": False}
        model = recsys.MultVAE(**options, negatives=1024).fit(matrix, show_progress=False)
        measure(model, matrix[:10_000], "drawn")


if __name__ == "__main__":
    main()
