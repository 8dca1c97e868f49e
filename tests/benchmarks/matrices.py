"""The three sizes: two real data sets, found as `recsys.datasets` finds them, and a generated one of ML-20M's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from recsys import datasets, splits

CACHE = Path("data/processed/benchmarks")
SIZES = ("ml-1m", "gowalla", "ml-20m")


def matrix(size: str) -> sp.csr_matrix:
    """Return users × items, float32: MovieLens-1M's ratings ≥ 4, Gowalla's training part, or a generated matrix."""
    file = CACHE / f"{size}.npz"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        sp.save_npz(file, _make(size), compressed=False)
    return sp.csr_matrix(sp.load_npz(file))


def file_of(size: str) -> Path:
    """Return the file of that matrix, written if it is not there yet."""
    matrix(size)
    return CACHE / f"{size}.npz"


def _make(size: str) -> sp.csr_matrix:
    if size == "ml-1m":
        return datasets.load("ml-1m").filter(min_rating=4).binarized().matrix
    if size == "gowalla":
        return splits.given(datasets.load("gowalla-lightgcn", keep=["split"]), "split").train.matrix
    return generated(136_677, 20_108, 10_000_000)


def generated(users: int, items: int, stored: int, seed: int = 0) -> sp.csr_matrix:
    """Return ones at about `stored` places, users of log-normal activity and items of a long tail, as in MovieLens."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(sigma=1.1, size=users)
    popularity = (1.0 + np.arange(items)) ** -0.9
    places = np.empty(0, dtype=np.int64)
    while len(places) < stored:  # draws that meet a place already taken are drawn again
        drawn = int(1.3 * (stored - len(places))) + 100
        rows = rng.choice(users, drawn, p=activity / activity.sum())
        columns = rng.choice(items, drawn, p=popularity / popularity.sum())
        places = np.unique(np.concatenate([places, rows * np.int64(items) + columns]))
    places = rng.permutation(places)[:stored]
    values = np.ones(stored, dtype=np.float32)
    return sp.csr_matrix((values, (places // items, places % items)), shape=(users, items), dtype=np.float32)
