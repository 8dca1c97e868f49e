"""Gender and age group of MovieLens-1M's users from what they rated: codes against rows, at few labels.

python -m tests.benchmarks.analysis_labels

A fifth of the users is for testing: neither the encoder (Mult-DAE, all ratings as positives) nor any label of theirs is
used before. `recsys.analysis.labels` says what the methods are and how each is regularized.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from recsys.analysis import labels
from recsys.analysis.labels import METHODS, SHARES
from recsys.datasets import load
from recsys.models import MultDAE


def main(options: argparse.Namespace) -> None:
    """Print a table per property."""
    torch.set_num_threads(1)
    seed = options.seed
    data = load("ml-1m").binarized()
    users = pd.read_parquet(Path(os.environ["RECSYS_DATA"]) / "ml-1m" / "users.parquet").set_index("user_id")
    order = np.random.default_rng(seed).permutation(data.shape[0])
    test, known = order[: data.shape[0] // 5], np.sort(order[data.shape[0] // 5 :])
    began = time.perf_counter()
    model = MultDAE(latent=50, epochs=options.epochs, seed=seed).fit(data.take_users(known), show_progress=False)
    print(f"encoder: {time.perf_counter() - began:.0f} s", flush=True)
    for column in options.columns:
        for share in options.shares:
            began = time.perf_counter()
            table = labels(
                model,
                data,
                users[column],
                shares=[share],
                methods=options.methods,
                draws=options.draws,
                test=data.users.ids(test),
                seed=seed,
            )
            print(f"{column}, {time.perf_counter() - began:.0f} s\n{table.round(4).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", nargs="+", default=["gender", "age"])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    main(parser.parse_args())
