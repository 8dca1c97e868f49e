"""Segments of users: clusters of a model's codes, and what is typical of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.clusters import (
    Labels,
    agreement,
    chosen,
    counts_by,
    k_means,
    log_odds,
    prediction_strength,
    tokens,
)
from recsys.columns import USER
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.models import ClusteringAE, Recommender
from recsys.params import check_count, random_generator

SAMPLE: Final = 4000
"""Users, at most, whose codes k-means and the choice of its number see; all others get the nearest center."""
BLOCK: Final = 8192
"""Users encoded at a time."""
CANDIDATES: Final = tuple(range(2, 11))
REPEATS: Final = 5
MOST_TEXTS: Final = 200
"""Different texts of a column of items beyond which it is no kind of item, and is left out."""
SHOWN: Final = 5
"""Typical items, and kinds of items, that are named."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """Segments of users, the largest first."""

    users: pd.DataFrame
    """`user_id, segment`: a row per user, in the order of the interactions; -1 without interactions."""
    segments: pd.DataFrame
    """`segment, name, users, share, items` and a column per kind of item: the typical ones, joined by `; `."""
    typical: pd.DataFrame
    """`segment, kind, value, z, entries, lift`: what the segment holds more of than the others, the most certain first;
    `kind` is `item` or a kept column of items, z the log-odds in standard errors (`recsys.analysis.clusters.log_odds`),
    lift the share of the segment's entries over the share of all entries."""
    choice: pd.DataFrame
    """`clusters, strength, standard_error`: prediction strength of each number tried; empty if it was given."""
    stability: float
    """Mean adjusted Rand index between k-means of all seeds; NaN for clusters that the model learned itself."""
    centers: npt.NDArray[np.float32]
    """(segments, d): centers in the space of the codes."""
    learned: bool
    """Whether the model learned the clusters itself."""

    def assign(self, model: Recommender, user_items: Any) -> Labels:
        """Return the segment of other histories, (n_rows,): that of the nearest center, -1 for an empty history."""
        return _nearest(model, model._matrix(user_items), self.centers)


def segments(
    model: Recommender,
    interactions: Interactions,
    *,
    clusters: int | None = None,
    candidates: Sequence[int] = CANDIDATES,
    seeds: int = 3,
    top: int = SHOWN,
    seed: int = 0,
) -> Segments:
    """Return segments of users: clusters of their codes, named by their typical items.

    The clusters are those that the model learned (`ClusteringAE`), or k-means on the codes. The number of the latter
    is the largest candidate that reproduces between halves of the users: whose prediction strength plus its standard
    error is at least 0.8, else the one with the greatest strength (Tibshirani and Walther 2005). Codes of at most 4,000
    users, drawn at random, decide; every other user gets the nearest center.

    Args:
        interactions: the histories; users without any are in no segment.
        clusters: number of segments of k-means, whatever reproduces; with it learned clusters are not used.
        candidates: numbers of clusters to choose from.
        seeds: runs of k-means whose agreement is measured; the first gives the segments.
        top: typical items, and kinds of items, to name.

    Raises:
        UnsupportedError: the model has no codes of users.
        DataError: fewer users with interactions than clusters, or too few to choose their number.
    """
    model._require("encodes")
    matrix, rng = model._matrix(interactions), random_generator(seed)
    has = np.flatnonzero(np.diff(matrix.indptr))
    drawn = np.sort(rng.choice(has, min(SAMPLE, len(has)), replace=False))
    choice, stability = pd.DataFrame({"clusters": [], "strength": [], "standard_error": []}), float("nan")
    learned = clusters is None and isinstance(model, ClusteringAE)
    if learned:
        assert isinstance(model, ClusteringAE)
        centers = model.centers
    else:
        codes = model.encode(matrix[drawn])
        if clusters is None:
            tried = _checked_candidates(candidates, len(drawn))
            choice = prediction_strength(codes, tried, repeats=REPEATS, rng=rng)
            clusters = chosen(choice)
        if len(drawn) < check_count("clusters", clusters):
            raise DataError(
                f"{clusters} clusters need as many users with interactions, got {len(drawn)}; ask for fewer clusters"
            )
        runs = [k_means(codes, clusters, int(rng.integers(2**31))) for _ in range(check_count("seeds", seeds))]
        stability, centers = agreement([run.labels_ for run in runs]), runs[0].cluster_centers_
    labels = _nearest(model, matrix, centers)
    sizes = np.bincount(labels[labels >= 0], minlength=len(centers))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]  # a center may have no user
    place = np.full(len(centers), -1)
    place[order] = np.arange(len(order))
    labels = np.where(labels >= 0, place[labels], -1)
    typical = _typical(labels, len(order), matrix, model, interactions, check_count("top", top))
    return Segments(
        users=pd.DataFrame({USER: interactions.users.ids(), "segment": labels}),
        segments=_summary(typical, sizes[order]),
        typical=typical,
        choice=choice,
        stability=stability,
        centers=np.asarray(centers[order], dtype=np.float32),
        learned=learned,
    )


def _checked_candidates(candidates: Sequence[int], users: int) -> list[int]:
    tried = sorted({check_count("candidates", k) for k in candidates})
    if not tried or tried[0] < 2:
        raise ConfigError(f"candidates must be numbers of clusters of at least 2, got {list(candidates)}")
    possible = [k for k in tried if 4 * k <= users]  # two of each cluster in either half
    if not possible:
        raise DataError(
            f"{users} users with interactions are too few to choose a number of clusters from {tried}; give clusters"
        )
    return possible


def _nearest(model: Recommender, matrix: sp.csr_matrix, centers: npt.NDArray[np.floating[Any]]) -> Labels:
    from sklearn.metrics import pairwise_distances_argmin

    labels = np.full(matrix.shape[0], -1, dtype=np.int64)
    centers = np.ascontiguousarray(centers, dtype=np.float32)
    for start in range(0, matrix.shape[0], BLOCK):
        block = matrix[start : start + BLOCK]
        if (has := np.diff(block.indptr) > 0).any():
            labels[start : start + BLOCK][has] = pairwise_distances_argmin(model.encode(block[has]), centers)
    return labels


def _typical(
    labels: Labels, clusters: int, matrix: sp.csr_matrix, model: Recommender, interactions: Interactions, top: int
) -> pd.DataFrame:
    """Return `Segments.typical`."""
    prior = matrix.nnz / max(1, int(np.count_nonzero(np.diff(matrix.indptr))))  # as many entries as a user has
    counts = counts_by(labels, clusters, matrix)
    of_model = interactions.items if model.items_ is None else model.items_
    place = interactions.items.codes_of(of_model, "item")
    ids, titles = of_model.ids(), interactions.titles
    names = [str(ids[i] if titles is None or place[i] < 0 else titles[place[i]]) for i in range(len(ids))]
    tables = [("item", counts, names)]
    for column, values in interactions.item_columns.items():
        of_items, texts = tokens(np.asarray(values, dtype=object))
        if 1 < len(texts) <= MOST_TEXTS:
            aligned = sp.csr_matrix(of_items[np.maximum(place, 0)].multiply((place >= 0)[:, None]))
            tables.append((str(column), np.asarray(counts @ aligned), texts))
    rows = []
    for kind, table, texts in tables:
        z = log_odds(table, prior)
        shares = table.sum(0) / table.sum()
        for segment in range(clusters):
            best = np.argsort(-z[segment], kind="stable")[:top]
            for at in best[z[segment, best] > 0].tolist():
                entries = table[segment, at]
                lift = entries / table[segment].sum() / shares[at]
                rows.append((segment, kind, texts[at], z[segment, at], int(entries), lift))
    return pd.DataFrame(rows, columns=["segment", "kind", "value", "z", "entries", "lift"])


def _summary(typical: pd.DataFrame, sizes: npt.NDArray[np.intp]) -> pd.DataFrame:
    """Return `Segments.segments`."""
    kinds = list(dict.fromkeys(typical["kind"].tolist()))
    rows = []
    for segment, users in enumerate(sizes.tolist()):
        own = typical[typical["segment"] == segment]
        found = {kind: own.loc[own["kind"] == kind, "value"].tolist() for kind in kinds}
        best = next((values for kind, values in found.items() if kind != "item" and values), found.get("item", []))
        name = f"{segment + 1}: {', '.join(best[:2]) or 'as all'}"
        texts = {"items" if kind == "item" else kind: "; ".join(values) for kind, values in found.items()}
        rows.append({"segment": segment, "name": name, "users": users, "share": users / float(sizes.sum()), **texts})
    return pd.DataFrame(rows)
