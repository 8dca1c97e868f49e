"""Segments of MovieLens-1M's users: learned with the model, k-means on a code, k-means on principal components.

python -m tests.benchmarks.analysis_segments

Every rating is a positive; a fifth of each user's is held out. All have `--clusters` segments and the same width of
code (`--latent`). For each, over seeds of model and k-means: how alike the partitions of the seeds are (adjusted Rand),
what a segment tells of a user's age, gender and occupation (normalized mutual information), how much likelier a
held-out rating is under the training ratings of the user's segment than under those of all users, and nDCG@10 of the
model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import normalize

from recsys import evaluate
from recsys.analysis import segments
from recsys.analysis.clusters import agreement, counts_by, held_out_gain, k_means
from recsys.datasets import load
from recsys.models import BottleneckAE, ClusteringAE
from recsys.splits import Split, hold_out_ratings

COLUMNS = ("gender", "age", "occupation")


def partitions(split: Split, seed: int, clusters: int, options: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, model (None without one) and the cluster of each training user."""
    rows = split.train.matrix
    joint = ClusteringAE(clusters=clusters, seed=seed, **options).fit(split.train, show_progress=False)
    yield "ClusteringAE", joint, joint.cluster(split.train)
    alone = BottleneckAE(seed=seed, **options).fit(split.train, show_progress=False)
    yield "k-means on BottleneckAE", alone, k_means(alone.encode(split.train), clusters, seed).labels_
    unit = normalize(rows.astype(np.float64))
    components = TruncatedSVD(options["latent"], random_state=seed).fit_transform(unit)
    components -= components.mean(0)
    yield "k-means on PCA", None, k_means(components, clusters, seed).labels_


def main(clusters: int, latent: int, epochs: int, seeds: int) -> None:
    """Print a row per method, means over seeds, and the segments of the first seed."""
    torch.set_num_threads(1)
    split = hold_out_ratings(load("ml-1m").binarized(), test=0.2, validation=0.0, seed=0)
    users = pd.read_parquet(Path(os.environ["RECSYS_DATA"]) / "ml-1m" / "users.parquet").set_index("user_id")
    users = users.loc[split.train.users.ids()]
    prior = split.train.nnz / split.train.shape[0]
    found: dict[str, list[Any]] = {}
    figures: list[dict[str, Any]] = []
    for seed in range(seeds):
        for name, model, labels in partitions(split, seed, clusters, {"latent": latent, "epochs": epochs}):
            began = time.perf_counter()
            found.setdefault(name, []).append(labels)
            of_test = labels[split.test.user_index]
            gain = held_out_gain(counts_by(labels, clusters, split.train.matrix), of_test, split.test.target, prior)
            ndcg = np.nan if model is None else evaluate(model, split.test, "ndcg@10")["ndcg@10"]
            told = {f"NMI {column}": normalized_mutual_info_score(users[column], labels) for column in COLUMNS}
            figures.append({"method": name, **told, "gain in nats": gain, "nDCG@10": ndcg})
            sizes = np.bincount(labels, minlength=clusters)
            print(seed, figures[-1], sizes, f"{time.perf_counter() - began:.0f} s", flush=True)
            if seed == 0 and model is not None:
                made = segments(model, split.train, clusters=None if name == "ClusteringAE" else clusters)
                print(made.segments.to_string(), f"agreement of k-means runs {made.stability:.3f}", flush=True)
            if seed == 0 and name == "k-means on BottleneckAE":
                print(segments(model, split.train).choice.round(3).to_string(), flush=True)
    table = pd.DataFrame(figures).groupby("method", sort=False).mean()
    table.insert(0, "adjusted Rand", [agreement(labels) for labels in found.values()])
    print(table.round(4).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--latent", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    main(options.clusters, options.latent, options.epochs, options.seeds)
