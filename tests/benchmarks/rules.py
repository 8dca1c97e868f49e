"""What rules cost in time: `OMP_NUM_THREADS=1 python -m tests.benchmarks.rules --users 100000`.

Histories of about 20 of 20,000 items are drawn; a MultVAE that one epoch on 5,000 of them has trained gives all ten
items, without rules and under each. The time is that of the lists alone, in blocks as `score` cuts them; one user in a
hundred is scored before, to warm up.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import recsys
from recsys.rules import Rules, bind
from recsys.scoring.kernel import Kernel, Source
from recsys.scoring.local import BATCH_SIZE

EACH = 20


def draw(users: int, items: int) -> recsys.Interactions:
    """Histories of items that follow a Zipf-like law."""
    rng = np.random.default_rng(0)
    columns = np.minimum(
        (items ** rng.random(users * EACH)).astype(np.int64) - 1 + rng.integers(0, 50, users * EACH), items - 1
    )
    rows = np.repeat(np.arange(users), EACH)
    keys = np.unique(np.concatenate([rows * items + columns, (np.arange(items) % users) * items + np.arange(items)]))
    matrix = sp.csr_matrix((np.ones(len(keys), np.float32), (keys // items, keys % items)), shape=(users, items))
    return recsys.Interactions(matrix, recsys.IdMap(range(users)), recsys.IdMap(range(items)))


def table(items: int) -> pd.DataFrame:
    """A brand of 300, a price and up to three genres of 20 per item."""
    rng = np.random.default_rng(1)
    genres = [[f"g{value}" for value in rng.integers(0, 20, rng.integers(1, 4))] for _ in range(items)]
    brands = np.minimum((rng.pareto(1.0, items) * 5).astype(int), 300)
    return pd.DataFrame(
        {"item_id": range(items), "brand": brands.astype(str), "price": rng.random(items), "genres": genres}
    )


def cases(items: int) -> dict[str, Rules]:
    """Rules by what they are."""
    rng = np.random.default_rng(2)
    some = [int(item) for item in np.sort(rng.permutation(items)[:500])]
    return {
        "allow 500": Rules(allow=some),
        "allow 90 % (price < 0.9)": Rules(allow="price < 0.9"),
        "at most 2 of a brand": Rules(at_most={"brand": 2}),
        "at most 2 of a genre": Rules(at_most={"genres": 2}),
        "allow 500, at most 2 of a brand": Rules(allow=some, at_most={"brand": 2}),
        "diversity 0.3 of 100": Rules(diversity=0.3),
        "calibration 0.5 of 100": Rules(calibration={"genres": 0.5}),
        "all of these": Rules(allow="price < 0.9", at_most={"brand": 2}, calibration={"genres": 0.5}),
    }


def seconds(kernel: Kernel, source: Source, users: int) -> float:
    """Time of all lists."""
    kernel.lists(source, np.arange(0, users, 100, dtype=np.int32))
    began = time.perf_counter()
    for start in range(0, users, BATCH_SIZE):
        kernel.lists(source, np.arange(start, min(start + BATCH_SIZE, users), dtype=np.int32))
    return time.perf_counter() - began


def main() -> None:
    """Draw, fit, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, described = draw(arguments.users, arguments.items), table(arguments.items)
    model = recsys.MultVAE(hidden=200, latent=64, epochs=1).fit(data.take_users(np.arange(5000)), show_progress=False)
    source = Source(model, data, None)
    plain = seconds(Kernel(model), source, arguments.users)
    print(f"{'rules':<34} {'s':>8} {'times':>6}\n{'none':<34} {plain:>8.1f} {1:>6.2f}", flush=True)
    for name, rules in cases(arguments.items).items():
        taken = seconds(Kernel(model, rules=bind(rules, described, model.items_)), source, arguments.users)
        print(f"{name:<34} {taken:>8.1f} {taken / plain:>6.2f}", flush=True)
    again = seconds(Kernel(model), source, arguments.users)  # what else the machine does shows here
    print(f"{'none, again':<34} {again:>8.1f} {again / plain:>6.2f}")


if __name__ == "__main__":
    main()
