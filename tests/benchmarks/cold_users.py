"""Users without a history, on MovieLens-1M: `python -m tests.benchmarks.cold_users [--validation]`.

A tenth of the users is held out with all of their liked movies (4 or 5 stars); gender, age and occupation are known.
Lists are by these alone and are compared with the most popular movies. λ is chosen on known users; `--validation`
measures another tenth instead, by which choices were made.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recsys import ALS, EASE, Interactions, MultVAE, Popularity, WithUserFeatures, compare, datasets, evaluate
from recsys.splits import Part
from tests.benchmarks import machine

COLUMNS = {"gender": "category", "age": "category", "occupation": "category"}
METRICS = ("ndcg@10", "recall@20", "ndcg@100")


def main() -> None:
    """Print a line for each model, and the differences from popularity."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cold_users", description=__doc__)
    parser.add_argument("--validation", action="store_true", help="measure the validation users")
    options = parser.parse_args()
    print(machine.name("cpu"), flush=True)
    data = datasets.load("ml-1m").filter(min_rating=4).binarized()
    about = pd.read_parquet(Path(os.environ["RECSYS_DATA"]) / "ml-1m" / "users.parquet")
    tenths = np.array_split(np.random.default_rng(0).permutation(data.shape[0]), 10)
    held = tenths[1] if options.validation else tenths[0]
    rest = data.take_users(np.sort(np.concatenate(tenths[2:])))
    frame = rest.to_frame()
    train = Interactions.from_frame(frame[["user_id", "item_id"]], users=about)
    target = data.take_users(np.sort(held))
    wanted = target.histories(train.items)
    empty = sp.csr_matrix(np.zeros(wanted.shape, np.float32))
    found = {}
    models = [
        Popularity(),
        WithUserFeatures(model=EASE(regularization=300.0), columns=COLUMNS),
        WithUserFeatures(model=ALS(factors=64), columns=COLUMNS),
        WithUserFeatures(model=MultVAE(epochs=30), columns=COLUMNS),
    ]
    for model in models:
        model.fit(train, show_progress=False)
        name = type(model).__name__
        if isinstance(model, WithUserFeatures):
            name, whole = f"{type(model.inner()).__name__} by features of users", model.with_users(about)
        else:
            whole = model
        assert whole.users_ is not None
        part = Part(empty, wanted, target.users, whole.users_.codes(target.users.ids(), on_unknown="mark"))
        found[name] = evaluate(whole, part, METRICS)
        values = {metric: round(value, 4) for metric, value in found[name].values.items()}
        print({"model": name, "strength": getattr(whole, "strength_", None), **values}, flush=True)
    print(compare(found, "ndcg@10"))


if __name__ == "__main__":
    main()
