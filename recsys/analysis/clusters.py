"""Clusters of codes: how many reproduce, how alike they are over seeds, and what is typical of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.models.clustering import STARTS
from recsys.params import seed_of_32_bits

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
REPRODUCES: Final = 0.8
"""Prediction strength from which clusters count as reproduced (Tibshirani and Walther 2005, §2)."""


def k_means(codes: Floats, clusters: int, seed: int) -> Any:
    """Return scikit-learn's k-means fitted to codes (n, d), the best of `STARTS` runs."""
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=STARTS, random_state=seed_of_32_bits(seed)).fit(codes)


def prediction_strength(
    codes: Floats, counts: Sequence[int], *, repeats: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return how well clusters of one half of the codes predict those of the other half, for numbers of clusters.

    Tibshirani and Walther 2005, eq. 2.1: of the pairs of codes that a cluster of the second half holds, the share that
    the centers of the first half put together too; the smallest share over the clusters. A cluster of a single code has
    no pair and counts as not reproduced.

    Args:
        codes: (n, d).
        repeats: random cuts into halves.

    Returns:
        `clusters, strength, standard_error`: mean over the cuts, and its standard error.
    """
    values = np.empty((repeats, len(counts)))
    for repeat in range(repeats):
        order = rng.permutation(len(codes))
        first, second = codes[order[: len(codes) // 2]], codes[order[len(codes) // 2 :]]
        seed = int(rng.integers(2**31))
        for place, k in enumerate(counts):
            own, of_first = k_means(second, k, seed).labels_, k_means(first, k, seed).predict(second)
            values[repeat, place] = pairs_kept(own, of_first, k)
    error = values.std(0, ddof=1) / np.sqrt(repeats) if repeats > 1 else np.full(len(counts), np.nan)
    return pd.DataFrame({"clusters": list(counts), "strength": values.mean(0), "standard_error": error})


def pairs_kept(own: Labels, other: Labels, clusters: int) -> float:
    """Return the smallest share, over the clusters of `own`, of their pairs that `other` keeps together."""
    table = np.zeros((clusters, clusters))
    np.add.at(table, (own, other), 1.0)
    sizes = table.sum(1)
    together = (table * (table - 1)).sum(1)
    return float(np.min(np.divide(together, sizes * (sizes - 1), out=np.zeros(clusters), where=sizes > 1)))


def chosen(strengths: pd.DataFrame) -> int:
    """Return the largest number of clusters whose strength plus standard error is at least 0.8; else the strongest."""
    counts, values = strengths["clusters"].to_numpy(), strengths["strength"].to_numpy()
    reached = values + strengths["standard_error"].fillna(0.0).to_numpy() >= REPRODUCES
    return int(counts[reached].max() if reached.any() else counts[values.argmax()])


def agreement(partitions: Sequence[Labels]) -> float:
    """Return the mean adjusted Rand index over all pairs of partitions of the same users; NaN for a single one."""
    from sklearn.metrics import adjusted_rand_score

    values = [adjusted_rand_score(one, other) for one, other in combinations(partitions, 2)]
    return float(np.mean(values)) if values else float("nan")


def counts_by(labels: Labels, clusters: int, matrix: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Return how many stored entries each column has in each cluster, (clusters, n_columns); -1 is in none."""
    rows = np.flatnonzero(labels >= 0)
    members = sp.csr_matrix((np.ones(len(rows)), (labels[rows], rows)), shape=(clusters, len(labels)))
    stored = sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    return np.asarray((members @ stored).toarray(), dtype=np.float64)


def log_odds(counts: npt.NDArray[np.float64], prior: float) -> npt.NDArray[np.float64]:
    """Return how much more a cluster holds of a column than all other clusters do, in standard errors; like `counts`.

    Monroe, Colaresi and Quinn 2008, eq. 15 to 22: the difference of log-odds of a word between two groups under a
    Dirichlet prior that holds α_0 = `prior` words, shared out as all words are, over its approximate standard error.
    Words are columns, such as items; the second group is the rest of the clusters. A column without entries has 0.
    """
    total = counts.sum(0)
    alpha = prior * total / total.sum()
    n = counts.sum(1, keepdims=True)
    here, there = counts + alpha, total - counts + alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(here / (n + prior - here)) - np.log(there / (total.sum() - n + prior - there))
        z = odds / np.sqrt(1.0 / here + 1.0 / there)
    return np.where(total > 0, np.nan_to_num(z, posinf=0.0, neginf=0.0), 0.0)


def held_out_gain(counts: npt.NDArray[np.float64], labels: Labels, target: sp.csr_matrix, prior: float) -> float:
    """Return by how many nats a held-out entry is likelier under its user's cluster than under all users together.

    Both are shares of the columns in training entries: those of the cluster are smoothed with `prior` entries that are
    shared out as all are. The mean over the entries of `target` whose user has a cluster and whose column has entries.

    Args:
        counts: training entries, (clusters, n_columns).
        labels: (n_rows,) cluster of each row of `target`, -1 for none.
    """
    total = counts.sum(0)
    share = total / total.sum()
    of_cluster = (counts + prior * share) / (counts.sum(1, keepdims=True) + prior)
    owners = np.repeat(labels, np.diff(target.indptr))
    known = (owners >= 0) & (total[target.indices] > 0)
    owners, columns = owners[known], target.indices[known]
    return float(np.mean(np.log(of_cluster[owners, columns] / share[columns])))


def tokens(values: npt.NDArray[Any]) -> tuple[sp.csr_matrix, list[str]]:
    """Return which texts a column of items holds, as (items × texts) and their names; `|` parts several of an item."""
    found: dict[str, int] = {}
    rows, columns = [], []
    for item, value in enumerate(values.tolist()):
        for text in dict.fromkeys(value.split("|") if isinstance(value, str) else ()):
            if name := text.strip():
                rows.append(item)
                columns.append(found.setdefault(name, len(found)))
    shape = (len(values), len(found))
    return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape), list(found)
