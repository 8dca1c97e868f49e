"""The plain methods of dimension reduction that an encoder is held against: PCA, truncated SVD, Isomap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.models import Recommender
from recsys.params import random_generator, seed_of_32_bits

Codes = npt.NDArray[np.float64]
ISOMAP_USERS: Final = 2000
"""Training users that Isomap learns from: it needs the square of their number."""
ISOMAP_NEIGHBORS: Final = 10
BLOCK: Final = 500
"""Users whose dense rows are held at once."""
PLAIN: Final = ("PCA", "truncated SVD", "Isomap")


@dataclass(frozen=True, eq=False)
class Code:
    """A map of users' rows to d numbers each."""

    method: str
    """Name of the plain method, or of the model's class."""
    dimension: int
    encode: Callable[[sp.csr_matrix], Codes]
    """Maps unit rows, of a plain method, or stored rows, of a model, to (n, d)."""
    model: Recommender | None = None
    """None of a plain method."""


def unit_rows(rows: sp.csr_matrix) -> sp.csr_matrix:
    """Return rows divided by their Euclidean length, float32; rows of length 0 stay as they are."""
    found = lengths(rows)
    return sp.csr_matrix(sp.diags_array(1 / np.where(found > 0, found, 1.0)) @ rows, dtype=np.float32)


def lengths(rows: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Return the Euclidean length of each row."""
    return np.sqrt(np.asarray(rows.multiply(rows).sum(1), dtype=np.float64).ravel())


def plain_codes(rows: sp.csr_matrix, dimensions: Sequence[int], seed: int) -> Iterator[Code]:
    """Yield each plain method at each dimension below the rank that the rows can have; each is fitted once.

    Their first d coordinates are their code of dimension d: components are in the order of what they explain. PCA and
    SVD are exact (ARPACK). Isomap (Tenenbaum, de Silva and Langford 2000) learns from 2,000 drawn rows, from the graph
    of the 10 nearest neighbors, whose separate parts scikit-learn joins by their shortest distance. It has as many
    dimensions at most as its matrix of geodesic distances has positive eigenvalues.

    Args:
        rows: (n, n_items) unit rows of the training users.
    """
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.manifold import Isomap

    whole = rows.astype(np.float64)
    feasible = [d for d in dimensions if d < min(whole.shape)]
    if not feasible:
        return
    most, state = max(feasible), seed_of_32_bits(seed)
    pca = PCA(most, svd_solver="arpack", random_state=state).fit(whole)
    yield from _cut("PCA", pca, feasible)
    svd = TruncatedSVD(most, algorithm="arpack", random_state=state).fit(whole)
    yield from _cut("truncated SVD", svd, feasible)
    n = min(ISOMAP_USERS, whole.shape[0])
    some = np.sort(random_generator(seed).choice(whole.shape[0], n, replace=False))
    few = sorted(d for d in feasible if d < n)
    while few:
        isomap = Isomap(n_neighbors=min(ISOMAP_NEIGHBORS, n - 1), n_components=few[-1], eigen_solver="dense")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the graph had separate parts, and how they were joined
                isomap.fit(whole[some])
        except ValueError:  # so many components have no distances between points: negative eigenvalues
            few.pop()
        else:
            yield from _cut("Isomap", isomap, few)
            return


def _cut(method: str, fitted: Any, dimensions: Sequence[int]) -> Iterator[Code]:
    for dimension in dimensions:

        def encode(rows: sp.csr_matrix, d: int = dimension) -> Codes:
            pieces = [fitted.transform(rows[start : start + BLOCK]) for start in range(0, rows.shape[0], BLOCK)]
            return np.asarray(np.concatenate(pieces)[:, :d], dtype=np.float64)

        yield Code(method, dimension, encode)
