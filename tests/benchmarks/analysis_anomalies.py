"""Planted attackers on MovieLens-1M: how well reconstruction error finds them, beside plain methods.

python -m tests.benchmarks.analysis_anomalies [--seed 1] [--models MultVAE EASE] [--shares 0.01 0.05] [--settings ...]

Users with at least five ratings of 4 and more are divided at random: 50 % to train, 30 % known to be normal, 20 % to
test. `clean`: training is clean, attackers are planted among the test users, three times anew for each kind and share.
`contaminated`: attackers are planted among the training users, the model is trained on all of them and scores them;
p-values are against those users themselves (`p self`) or against the normal ones, whom training did not see.

Each method gives a score per user; AUC is against the planted flags, precision is that of as many users as were
planted. Plain methods: the length of the history; Popularity in the same pipeline as the model, that is how rare the
items are, for their number; the squared error of 64 principal components, lengths taken out as from the model's; an
isolation forest of the rows, and one of three features (log length, mean and spread of the items' log popularity).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import recsys
from recsys.analysis import anomalies, plant_attack
from recsys.analysis.attacks import ATTACKS
from recsys.analysis.conformal import standardized
from recsys.columns import USER

MODELS: dict[str, dict[str, Any]] = {
    "MultVAE": {"hidden": 200, "latent": 64, "batch_size": 100, "epochs": 30},
    "EASE": {},
}
PLANTINGS = 3


def divided(seed: int) -> list[recsys.Interactions]:
    """Return training, normal and test users."""
    data = recsys.datasets.load("ml-1m").filter(min_rating=4.0, min_user=5).binarized()
    order = np.random.default_rng(seed).permutation(data.shape[0])
    cuts = (np.array([0.5, 0.8]) * len(order)).astype(int)
    return [data.take_users(codes) for codes in np.split(order, cuts)]


def figures(score: np.ndarray, planted: np.ndarray) -> dict[str, float]:
    """Return the AUC, and the precision at the planted share."""
    first = np.argsort(-score, kind="stable")[: planted.sum()]
    return {"auc": roc_auc_score(planted, score), "precision": planted[first].mean()}


def by_user(frame: pd.DataFrame, data: recsys.Interactions) -> pd.DataFrame:
    """Return the rows of `anomalies` in the order of the users."""
    return frame.set_index(USER).loc[data.users.ids()]


def plain(train: recsys.Interactions, scored: recsys.Interactions, normal: recsys.Interactions, seed: int) -> Any:
    """Yield the name and the scores of each plain method."""
    yield "length", np.diff(scored.matrix.indptr).astype(float)
    popularity = recsys.Popularity().fit(train, show_progress=False)
    yield "Popularity", by_user(anomalies(popularity, scored, normal), scored)["z"].to_numpy()
    svd = TruncatedSVD(64, random_state=seed).fit(train.matrix)

    def error(data: recsys.Interactions) -> np.ndarray:
        return np.asarray(data.matrix.sum(1)).ravel() - np.square(svd.transform(data.matrix)).sum(1)

    lengths = [np.diff(data.matrix.indptr).astype(float) for data in (scored, normal)]
    yield "PCA", standardized(error(scored), lengths[0], error(normal), lengths[1])
    forest = IsolationForest(random_state=seed).fit(train.matrix)
    yield "forest, rows", -forest.score_samples(scored.matrix)
    users = np.log1p(np.bincount(train.matrix.indices, minlength=train.shape[1]))

    def features(data: recsys.Interactions) -> np.ndarray:
        counts = np.diff(data.matrix.indptr)
        rows = np.repeat(np.arange(len(counts)), counts)
        mean, square = (np.bincount(rows, weights=users[data.matrix.indices] ** k) / counts for k in (1, 2))
        return np.stack([np.log(counts), mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1)

    forest = IsolationForest(random_state=seed).fit(features(train))
    yield "forest, features", -forest.score_samples(features(scored))


def listed(frame: pd.DataFrame, planted: np.ndarray) -> dict[str, float]:
    """Return false alarms at 5 %, and what the list of Benjamini and Hochberg at 5 % finds and how much is false."""
    flagged = frame["flagged"].to_numpy()
    return {
        "false alarms": float((frame["p"].to_numpy()[~planted] <= 0.05).mean()),
        "found": float(flagged[planted].mean()),
        "false share": float((flagged & ~planted).sum() / max(1, flagged.sum())),
    }


def clean(name: str, shares: list[float], seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per kind, share, planting and method; training is clean."""
    train, normal, test = divided(seed)
    model = getattr(recsys, name)(**MODELS[name]).fit(train, show_progress=False)
    for kind in ATTACKS:
        for share in shares:
            for planting in range(PLANTINGS):
                found = plant_attack(test, kind, share, seed=1000 * seed + planting)
                scored, planted = found.interactions, found.planted
                frame = by_user(anomalies(model, scored, normal, seed=seed), scored)
                own = {"kind": kind, "share": share}
                yield {**own, "method": name, **figures(frame["z"].to_numpy(), planted), **listed(frame, planted)}
                if name == "MultVAE":
                    frame = by_user(anomalies(model, scored, normal, error="density", seed=seed), scored)
                    score = frame["z"].to_numpy()
                    yield {**own, "method": "density", **figures(score, planted), **listed(frame, planted)}
                    for method, score in plain(train, scored, normal, seed):
                        yield {**own, "method": method, **figures(score, planted)}


def contaminated(name: str, shares: list[float], seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per kind, share and method; attackers are among the training users, who are scored."""
    train, normal, _ = divided(seed)
    for share in shares:
        for kind in ATTACKS:
            found = plant_attack(train, kind, share, seed=1000 * seed)
            scored, planted = found.interactions, found.planted
            model = getattr(recsys, name)(**MODELS[name]).fit(scored, show_progress=False)
            own = {"kind": kind, "share": share}
            frame = by_user(anomalies(model, scored, seed=seed), scored)
            known = by_user(anomalies(model, scored, normal, seed=seed), scored)
            itself = {f"{key}, self": value for key, value in listed(frame, planted).items()}
            yield {**own, "method": name, **figures(known["z"].to_numpy(), planted), **listed(known, planted), **itself}
            if name == "MultVAE":
                for method, score in plain(scored, scored, normal, seed):
                    yield {**own, "method": method, **figures(score, planted)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.05])
    parser.add_argument("--settings", nargs="+", default=["clean", "contaminated"])
    options = parser.parse_args()
    for setting in options.settings:
        for name in options.models:
            began, rows = time.perf_counter(), []
            for row in {"clean": clean, "contaminated": contaminated}[setting](name, options.shares, options.seed):
                rows.append(row)
                print(setting, {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
            means = pd.DataFrame(rows).groupby(["share", "kind", "method"], sort=False).mean()
            print(
                f"\n{setting}, {name}, {time.perf_counter() - began:.0f} s\n{means.round(3).to_string()}\n", flush=True
            )
