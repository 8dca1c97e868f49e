"""Groups of MovieLens-1M in the code of Mult-VAE, and training rows weighted by inverse density.

python -m tests.benchmarks.analysis_coverage [--seeds 0 1] [--powers 1]

Users with at least five ratings of 4 and more; a fifth of them is held out for the test, a fifth of whose items is to
be found. For each seed, of split and model: Mult-VAE is trained, its code gives the groups and the weights
(`inverse_density_weights`), and Mult-VAE and EASE are trained with and without them. All are measured in the groups of
the first model's code. Nothing is chosen. The worst tenth has an nDCG@10 of 0 with every model, so that of nDCG@100 is
given.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import pandas as pd

import recsys
from recsys.analysis import coverage, inverse_density_weights
from recsys.evaluation import evaluate
from recsys.splits import hold_out_users

NETWORK = {"hidden": 200, "latent": 64, "batch_size": 100, "epochs": 30}


def user_columns() -> pd.DataFrame:
    """Return gender, age and occupation by the users' ids."""
    table = pd.read_parquet(Path(os.environ["RECSYS_DATA"]) / "ml-1m" / "users.parquet")
    return table.set_index("user_id")[["gender", "age", "occupation"]]


def main(seeds: list[int], powers: list[float]) -> None:
    """Train, measure and print."""
    data = recsys.datasets.load("ml-1m").filter(min_rating=4.0, min_user=5).binarized()
    about, rows = user_columns(), []
    for seed in seeds:
        split = hold_out_users(data, n_users=0.2, seed=seed)
        began = time.perf_counter()
        first = recsys.MultVAE(**NETWORK, seed=seed).fit(split.train, show_progress=False)
        table = coverage(first, split.train, split.test, about, seed=seed)
        print(f"\nseed {seed}, {split.train}, {split.test}, {time.perf_counter() - began:.0f} s", flush=True)
        print(table.round(4).to_string(), flush=True)
        weights = {0.0: None, **{power: inverse_density_weights(first, split.train, power=power) for power in powers}}
        for power, own in weights.items():
            spread = "" if own is None else f"weights {own.min():.2f} to {own.max():.2f}"
            for name in ("MultVAE", "EASE"):
                new = recsys.EASE() if name == "EASE" else recsys.MultVAE(**NETWORK, seed=seed)
                model = first if name == "MultVAE" and own is None else new
                if model is not first:
                    model.fit(split.train, show_progress=False, user_weights=own)
                found = coverage(model, split.train, split.test, about, codes=first, seed=seed).assign(
                    seed=seed, model=name, power=power
                )
                deep = evaluate(model, split.test, "ndcg@100").per_user["ndcg@100"].dropna().sort_values()
                of_worst = {"value": deep.iloc[: round(0.1 * len(deep))].mean(), "by": "quality", "group": "ndcg@100"}
                found = pd.concat([found, pd.DataFrame([{**found.iloc[-1], **of_worst}])])
                rows.append(found)
                by = found.set_index(["by", "group"])["value"]
                print(
                    name, power, spread, f"mean {by['all', 'all']:.4f}, sparsest {by['density', 'tenth 1']:.4f}, "
                    f"worst @100 {by['quality', 'ndcg@100']:.4f}", flush=True,
                )  # fmt: skip
    whole = pd.concat(rows)
    kept = whole[whole["by"].isin(["all", "density", "cell", "gender", "age", "quality"])]
    means = kept.pivot_table(index=["by", "group"], columns=["model", "power"], values="value", sort=False)
    print(f"\nnDCG@10, mean of {len(seeds)} seeds\n{means.round(4).to_string()}")
    against = whole.pivot_table(index=["by", "group", "seed"], columns=["model", "power"], values="value", sort=False)
    for name in ("MultVAE", "EASE"):
        for power in powers:
            gain = (against[name, power] - against[name, 0.0]).groupby(["by", "group"], sort=False)
            print(f"\ngain of {name} with power {power:g}: mean over seeds, least, greatest")
            print(gain.agg(["mean", "min", "max"]).loc[["all", "density", "quality", "gender"]].round(4).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--powers", nargs="+", type=float, default=[1.0])
    options = parser.parse_args()
    main(options.seeds, options.powers)
