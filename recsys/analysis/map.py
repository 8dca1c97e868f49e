"""Maps: users and items at two coordinates each, with what they can be colored by."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.analysis.clusters import k_means
from recsys.analysis.reduction import some
from recsys.columns import ITEM, USER
from recsys.errors import DataError, UnsupportedError
from recsys.extras import check_installed
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count, check_value, random_generator, seed_of_32_bits
from recsys.report.items import principal_plane

Of = Literal["items", "users"]
Method = Literal["pca", "umap"]
Floats = npt.NDArray[np.float32]
POINTS: Final = 1_200
"""Points of a map by default, so that a page with several of them stays small."""
CLUSTERS: Final = 5


def map(
    model: Recommender,
    interactions: Any,
    *,
    of: Of = "items",
    method: Method = "pca",
    clusters: int = CLUSTERS,
    points: int = POINTS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a map of the items or of the users: vectors near each other by cosine lie near each other, if they can.

    Items have the vectors of `item_vectors`, users the codes of `encode`, both divided by their length. `pca` shows
    the first two principal components; `umap` (McInnes, Healy and Melville 2018; the extra `umap`) keeps neighbors
    rather than distances, so that distances between groups, and their sizes, say little.

    Args:
        interactions: users and items of the model, such as its training interactions, or any scipy sparse format;
            popularity and activity are counted there. Users without an entry are left out.
        of: `items` or `users`.
        method: `pca` or `umap`.
        clusters: number of clusters of k-means, among the points of the map.
        points: the most popular items, or users drawn by `seed`, that are shown where there are more.
        seed: of drawn users, k-means and UMAP.

    Returns:
        A row per point: `item_id` or `user_id`, `index` of the model's column or of the interactions' row, `x`, `y`,
        `interactions` of the item or user, `cluster` from 1, and for items `title`. `attrs` hold `shown` and `total`,
        numbers of points, and `explained`, the share of the variance that each coordinate of `pca` explains.

    Raises:
        UnsupportedError: the model has no such vectors.
        ConfigError: an option is out of range, or UMAP is not installed.
        DataError: fewer points than clusters, or UMAP finds no place for one.
    """
    check_value("of", Of, of)
    check_value("method", Method, method)
    index, ids, counts, vectors = (_items if of == "items" else _users)(
        model, interactions, check_count("points", points), seed
    )
    clusters = check_count("clusters", clusters)
    if len(index) < max(clusters, 3):
        raise DataError(f"a map of {clusters} clusters needs at least {max(clusters, 3)} {of}, got {len(index)}")
    plane, explained = principal_plane(vectors) if method == "pca" else (_umap(vectors, seed), np.full(2, np.nan))
    frame = pd.DataFrame(
        {
            ITEM if of == "items" else USER: ids,
            "index": index,
            "x": plane[:, 0],
            "y": plane[:, 1],
            "interactions": counts[index],
            "cluster": _clusters(vectors, clusters, seed),
        }
    )
    if of == "items":
        frame["title"] = [title_of(model, item) for item in index.tolist()]
    total = model.n_items_ if of == "items" else int(np.count_nonzero(counts))
    frame.attrs = {"shown": len(frame), "total": total, "explained": explained.tolist()}
    return frame


def title_of(model: Recommender, item: int) -> str:
    """Return the title of an item, or else its external id, or else its index."""
    if model.titles_ is not None:
        return str(model.titles_[item])
    return str(item if model.items_ is None else model.items_.ids([item])[0])


def _items(model: Recommender, interactions: Any, points: int, seed: int) -> tuple[Any, Any, Any, Floats]:
    """Return index, ids, counts of all and vectors of the most popular items."""
    vectors = item_vectors(model)
    counts = np.bincount(model._matrix(interactions).indices, minlength=model.n_items_)
    shown = np.sort(np.argsort(-counts, kind="stable")[:points])
    return shown, shown if model.items_ is None else model.items_.ids(shown), counts, vectors[shown]


def _users(model: Recommender, interactions: Any, points: int, seed: int) -> tuple[Any, Any, Any, Floats]:
    """Return index, ids, counts of all and codes of drawn users."""
    model._require("encodes")
    rows = model._matrix(interactions)
    counts = np.diff(rows.indptr)
    shown = some(np.flatnonzero(counts), points, random_generator(seed))
    ids = interactions.users.ids(shown) if isinstance(interactions, Interactions) else shown
    return shown, ids, counts, model.encode(rows[shown])


def item_vectors(model: Recommender) -> Floats:
    """Return the vectors of the items; an UnsupportedError that names models that have some."""
    try:
        return model.item_vectors()
    except UnsupportedError:
        raise UnsupportedError(
            f"{type(model).__name__} has no vectors of items to map; use a model that has, such as MultVAE or ALS"
        ) from None


def _umap(vectors: Floats, seed: int) -> npt.NDArray[np.float64]:
    check_installed("a map by UMAP", "umap", extra="umap")
    from umap import UMAP

    fitted = UMAP(n_components=2, metric="cosine", random_state=seed_of_32_bits(seed), n_jobs=1).fit_transform(vectors)
    plane = np.asarray(fitted, dtype=np.float64)
    if plane.shape != (len(vectors), 2) or not np.isfinite(plane).all():
        raise DataError("UMAP found no place for some points; use method='pca'")
    return plane


def _clusters(vectors: Floats, clusters: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the cluster of each vector divided by its length, from 1; cluster 1 is the largest."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    labels = k_means(unit, clusters, seed).labels_
    order = np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")
    place = np.empty(clusters, dtype=np.int64)
    place[order] = np.arange(1, clusters + 1)
    numbered: npt.NDArray[np.int64] = place[labels]
    return numbered
