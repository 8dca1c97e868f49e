"""The intrinsic dimension of points: how many coordinates they need near each of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from annotated_types import Ge

from recsys.errors import DataError
from recsys.params import Rate, Whole, check_value
from recsys.sparse import as_csr, row_digests

Estimator = Literal["two-nn", "mle"]
_Neighbors = Annotated[Whole, Ge(3)]


def intrinsic_dimension(
    points: Any, *, method: Estimator = "two-nn", neighbors: int = 20, discard: float = 0.1
) -> float:
    """Estimate the dimension of the surface that points lie near, from Euclidean distances to their neighbors.

    `two-nn` (Facco, d'Errico, Rodriguez and Laio 2017): the ratio μ of a point's distances to its second and its first
    neighbor has the distribution F(μ) = 1 − μ^−d where the density is constant as far as these. d is the slope, through
    0, of −log(1 − F) against log μ. `mle` (Levina and Bickel 2004, eq. 8): with T_j the distance to the j-th of k
    neighbors, 1/d is the mean over points of 1/(k − 1) Σ_{j<k} log(T_k / T_j); the inverses are averaged, as MacKay and
    Ghahramani (2005) correct it.

    Both are too low where d is large for the number of points, which would have to grow exponentially with d.

    Args:
        points: (n, m), dense or any scipy sparse format. Of equal points one is read.
        method: `two-nn` or `mle`.
        neighbors: k of `mle`, at least 3; more average over a larger neighborhood.
        discard: share of the points with the largest μ that the line of `two-nn` leaves out.

    Raises:
        ConfigError: an option is out of range.
        DataError: not more distinct points than neighbors, or the neighbors of every point are at one distance.
    """
    check_value("method", Estimator, method)
    check_value("neighbors", _Neighbors, neighbors)
    check_value("discard", Rate, discard)
    distinct = _distinct(points)
    k = 2 if method == "two-nn" else neighbors
    if distinct.shape[0] <= k:
        raise DataError(f"the intrinsic dimension needs more than {k} distinct points, got {distinct.shape[0]}")
    distances = _to_neighbors(distinct, k)
    if method == "mle":
        slope = _inverse(float(np.log(distances[:, -1:] / distances[:, :-1]).mean()))
    else:
        n = len(distances)
        place = np.arange(1, min(n - 1, int((1 - discard) * n)) + 1)  # of the last, 1 − F is 0
        across = np.sort(np.log(distances[:, 1] / distances[:, 0]))[place - 1]
        slope = float(across @ -np.log1p(-place / n)) * _inverse(float(across @ across))
    if not np.isfinite(slope):
        raise DataError("the neighbors of every point are at one distance, which says nothing of the dimension")
    return slope


def _to_neighbors(points: npt.NDArray[np.float64] | sp.csr_matrix, k: int) -> npt.NDArray[np.float64]:
    """Return the (n, k) ascending distances of distinct points to their nearest others."""
    from sklearn.neighbors import NearestNeighbors

    centered = points if sp.issparse(points) else points - points.mean(0)
    distances, nearest = NearestNeighbors(n_neighbors=k).fit(centered).kneighbors()  # without the point itself
    if not sp.issparse(points):  # found by products, which lose the digits of small distances
        for place in range(k):
            distances[:, place] = np.linalg.norm(centered[nearest[:, place]] - centered, axis=1)
        distances.sort(axis=1)
    positive: npt.NDArray[np.float64] = np.maximum(distances, np.finfo(np.float64).tiny)
    return positive


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else np.inf


def _distinct(points: Any) -> npt.NDArray[np.float64] | sp.csr_matrix:
    """Return the points in float64, each once: a neighbor at distance 0 has no ratio to the next."""
    if sp.issparse(points):
        rows = as_csr(points, name="points")
        return rows[np.sort(np.unique(row_digests(rows), return_index=True)[1])].astype(np.float64)
    dense = np.asarray(points, dtype=np.float64)
    if dense.ndim != 2 or not np.isfinite(dense).all():
        raise DataError(f"points must be finite numbers of shape (n, m), got shape {dense.shape}")
    return dense[np.sort(np.unique(dense, axis=0, return_index=True)[1])]
