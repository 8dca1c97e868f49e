"""How far an item falls without its reasons: `python -m tests.benchmarks.reasons [--users N] [--removed N] [--seed N]`.

For each of some users of MovieLens-1M whom the models have not seen: the best item is explained, the `removed` items of
the history with the largest contributions are taken out of the history, and the place of the item among all that the
user had not seen is looked up again; likewise without as many random items of the history, and without its most popular
ones. Places are counted from 1, which is that of the item before.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys
from tests.benchmarks import machine


def models(seed: int) -> list[tuple[recsys.Recommender, tuple[Any, ...]]]:
    """Return unfitted models, and the methods by which each is explained."""
    network = recsys.MultVAE(epochs=20, batch_size=500, keep_users=False, seed=seed)
    return [
        (recsys.EASE(regularization=800.0), (None,)),
        (recsys.ALS(factors=64, seed=seed), (None, "leave-one-out")),
        (network, ("leave-one-out", "gradients")),
    ]


def places(model: recsys.Recommender, histories: sp.csr_matrix, unseen: np.ndarray, item: int) -> np.ndarray:
    """Return the place of an item among the unseen ones, by each of these histories."""
    users = np.full(histories.shape[0], -1)
    ids, _ = model.recommend(users, histories, N=len(unseen), items=unseen, filter_already_liked_items=False)
    return np.argmax(ids == item, axis=1) + 1


def without(history: sp.csr_matrix, gone: np.ndarray) -> sp.csr_matrix:
    """Return a history of one row without some of its items."""
    kept = ~np.isin(history.indices, gone)
    parts = history.data[kept], history.indices[kept], np.array([0, kept.sum()])
    return sp.csr_matrix(parts, shape=history.shape)


def measure(model: recsys.Recommender, method: Any, test: sp.csr_matrix, removed: int, seed: int) -> dict[str, Any]:
    """Return the mean and median places without reasons, random items and popular items, and milliseconds a user."""
    rng = np.random.default_rng(seed)
    found, seconds = [], 0.0
    best, _ = model.recommend(np.full(test.shape[0], -1), test, N=1)
    for row, item in enumerate(best[:, 0]):
        history = test[row]
        began = time.perf_counter()
        one = model.explain(-1, history, int(item), method=method)
        seconds += time.perf_counter() - began
        named = one.contributions["item_id"].to_numpy()[:removed]
        if model.items_ is not None:
            named = model.items_.codes(named)
        popular = history.indices[np.argsort(-model.popularity_[history.indices], kind="stable")][:removed]
        random = rng.choice(history.indices, removed, replace=False)
        rows = sp.vstack([without(history, gone) for gone in (named, random, popular)], format="csr")
        unseen = np.setdiff1d(np.arange(test.shape[1]), history.indices)
        found.append(places(model, rows, unseen, int(item)))
    table = np.array(found)
    names = ("without_reasons", "without_random", "without_popular")
    figures: dict[str, Any] = {f"{name}_mean": round(float(x), 2) for name, x in zip(names, table.mean(0), strict=True)}
    figures |= {f"{name}_median": float(x) for name, x in zip(names, np.median(table, axis=0), strict=True)}
    lower = float((table[:, 0] > table[:, 1]).mean()), float((table[:, 0] < table[:, 1]).mean())
    return {**figures, "lower_than_random": lower[0], "higher": lower[1], "ms": round(1e3 * seconds / len(table), 2)}


def main() -> None:
    """Read the command, train, measure and print a line for each model and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--removed", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine.name("cpu"))
    data = recsys.datasets.load("ml-1m").filter(min_rating=4, min_user=5).binarized()
    split = recsys.splits.hold_out_users(data, n_users=0.1, seed=arguments.seed)
    train = split.train
    test = split.test.context
    test = test[np.flatnonzero(np.diff(test.indptr) >= 2 * arguments.removed)][: arguments.users]
    print(f"{train}; {test.shape[0]} users with {np.diff(test.indptr).mean():.0f} items each", flush=True)
    for model, methods in models(arguments.seed):
        model.fit(train, show_progress=False)
        for method in methods:
            about = {"model": type(model).__name__, "method": method or "exact"}
            print(json.dumps({**about, **measure(model, method, test, arguments.removed, arguments.seed)}), flush=True)


if __name__ == "__main__":
    main()
