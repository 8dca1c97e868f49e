"""SANSA (Spišák, Bartyzal, Hoskovec, Peska and Tůma 2023): EASE for catalogs too large for a dense inverse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from recsys.errors import BundleError, TrainingError
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.codes import Doubles
from recsys.models.fitting import FitOptions
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices, dense_table
from recsys.models.stored import Stored
from recsys.nn.graphs import LinearScores
from recsys.params import Positive

_CANDIDATES = 4
"""Times the entries to keep from which they are chosen."""
_SKEW = 8
"""Times the mean number of entries that a row may have: work goes with its third power."""
_CORNER = 4096
"""Rows of the table, which takes 64 MiB in float32."""
_BLOCK_VALUES = 2**21
_BLOCKS = 3 * 2**26
"""Bytes of the table and of a block with what is computed of it."""


@register
class SANSA(Recommender):
    """Scalable approximate non-symmetric autoencoder: EASE with a sparse inverse, for ranking.

    EASE's P = (XᵀX + λI)⁻¹ becomes W Wᵀ with W sparse, the transposed inverse of a Cholesky factor, and scores are
    x (I − W Wᵀ · diag(W Wᵀ)⁻¹), two sparse products, with a zero diagonal as in EASE. W holds `density` · n_items²
    entries of 8 bytes, twice in memory. Fitting also needs the sparse XᵀX, some 40 bytes for each pair of items that
    share a user, but never a dense n_items² array. From a density of one half on, it is EASE. `similar_items` ranks by
    the partial correlation −P_ij / √(P_ii P_jj), the negative cosine between rows of W.

    Differs from the paper in: it makes an incomplete Cholesky factor and improves its inverse by residual steps,
    pruning after each; here each column of W is the exact minimizer of that residual over its few entries
    (`inverse_factor`), so that nothing can break down. Items are ordered by popularity, so that each is explained by
    more popular ones, instead of by least fill-in.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(encodes=False, keeps_users=False, popularity_fallback=True)
    search_space = spaces.SANSA

    regularization: Positive = 500.0
    """λ of λ · ‖B‖², on the scale of the squared error summed over all users, as in EASE."""
    density: Annotated[float, Gt(0), Le(1)] = 0.01
    """Entries of W as a share of n_items²; an item has `density` · n_items of them on average."""

    def _memory(self, matrix: sp.csr_matrix) -> Need:
        n = self.n_items_
        pairs = _pairs(matrix)
        kept = min(self.density * n**2, pairs / 2)
        instead = "lower density, keep fewer items (min_item), or use ELSA, ALS or ItemKNN"
        fixed = _BLOCKS * min(1.0, (n / _CORNER) ** 2)
        return Need(fixed + 27 * pairs + 40 * kept, instead)

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        n = self.n_items_
        order = np.argsort(-self.popularity_, kind="stable")
        ordered = matrix[:, order]
        gram = sp.csr_matrix(ordered.T @ ordered + sp.diags_array(np.full(n, np.float32(self.regularization))))
        try:
            factor = inverse_factor(gram, int(self.density * n**2)).tocoo()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            now = self.regularization
            raise TrainingError(f"the Gram matrix is singular: raise regularization (now {now})") from None
        places = order[factor.col], factor.row  # items, and the rows of the factor
        self._keep(sp.csr_matrix((factor.data.astype(np.float32), places), shape=(n, n)))

    def _keep(self, encoder: sp.csr_matrix) -> None:
        self.encoder_ = encoder
        self.decoder_ = sp.csr_matrix((sp.diags_array(-1.0 / _squares(encoder)) @ encoder).T)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        decoder, own = (self.decoder_, histories) if items is None else (self.decoder_[:, items], histories[:, items])
        scores = (histories @ self.encoder_) @ decoder + own
        return torch.from_numpy(scores.toarray(out=None if out is None else out.numpy()))

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        shares: Doubles = (self.encoder_[history.indices] @ self.decoder_[:, items]).toarray().astype(np.float64)
        shares += history.indices[:, None] == items
        return history.data[:, None] * shares

    def _graph(self) -> nn.Module:
        whole = self.encoder_ @ self.decoder_ + sp.identity(self.n_items_, np.float32, "csr")
        return LinearScores(dense_table(whole))

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        one, other = self.encoder_[asked], self.encoder_[among]
        inner = (one @ other.T).toarray()
        return torch.from_numpy(-inner / np.sqrt(np.outer(_squares(one), _squares(other))))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self.encoder_, name) for name in ("data", "indices", "indptr")}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        encoder = arrays.csr((self.n_items_, self.n_items_))
        squares = _squares(encoder)
        if not (np.isfinite(squares) & (squares > 0)).all():
            raise BundleError("each row of the encoder must have a length above 0")
        self._keep(encoder)


def _pairs(matrix: sp.csr_matrix) -> float:
    """Return about how many pairs of items share a user: s draws of an item from n others find n (1 − e^(−s/n))."""
    n, lengths = matrix.shape[1], np.diff(matrix.indptr)
    draws = np.bincount(matrix.indices, weights=np.repeat(lengths, lengths), minlength=n)
    return float((n * -np.expm1(-draws / n)).sum())


def _squares(matrix: sp.csr_matrix) -> npt.NDArray[np.float32]:
    """Return each row's squared length."""
    return np.asarray(matrix.multiply(matrix).sum(1)).ravel()


def inverse_factor(matrix: sp.csr_matrix, n_entries: int) -> sp.csr_matrix:
    """Return a lower triangle G with GᵀG ≈ A⁻¹ for a symmetric positive definite A.

    Of all triangles with entries in its places, G has the smallest KL(N(0, A) ‖ N(0, (GᵀG)⁻¹)) (Schäfer, Katzfuss and
    Owhadi 2021, theorem 2.1) and, but for the lengths of its rows, the smallest ‖I − G L‖_F, L being the Cholesky
    factor of A, which is never made (Kolotilina and Yeremin 1993, §2): each row solves A at its places, small and
    dense.

    The places are chosen twice over the whole matrix: first where |a_ij| / √(a_ii a_jj) is largest, some times more
    than may stay, then where |g_ij| / g_ii is, the weight with which row j explains row i.

    Args:
        matrix: (n, n) csr, A, both triangles of it.
        n_entries: of G at most; the diagonal is among them and always whole. With a full triangle G is L⁻¹.

    Returns:
        (n, n) csr, float64.

    Raises:
        torch.linalg.LinAlgError: A is not positive definite.
    """
    n = matrix.shape[0]
    entries = _Entries(matrix)
    if n_entries >= n * (n + 1) // 2:
        return _rows(entries, sp.csr_matrix(np.tri(n)))
    weights = sp.csr_matrix(sp.tril(matrix, -1))
    scale = np.sqrt(matrix.diagonal())
    _divide(weights, scale, scale)
    most = -(-_SKEW * n_entries // n)
    for allowance in (_CANDIDATES, 1):
        factor = _rows(entries, _strongest(weights, allowance * max(0, n_entries - n), allowance * most))
        weights = sp.csr_matrix(sp.tril(factor, -1))
        _divide(weights, factor.diagonal(), np.ones(n))
    return factor


def _divide(matrix: sp.csr_matrix, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> None:
    """Divide each row and each column by its number, in place."""
    matrix.data /= np.repeat(rows, np.diff(matrix.indptr)).astype(matrix.dtype)
    matrix.data /= columns[matrix.indices].astype(matrix.dtype)


def _strongest(weights: sp.csr_matrix, n_entries: int, most: int) -> sp.csr_matrix:
    """Return the places of the largest magnitudes, and those of the diagonal: at most `most` besides it in a row."""
    n = weights.shape[0]
    size = np.abs(weights.data)
    rows = np.repeat(np.arange(n), np.diff(weights.indptr))
    first = max(0, len(size) - n_entries)
    kept = np.argpartition(size, first)[first:] if 0 < first < len(size) else np.arange(first, len(size))
    kept = kept[np.lexsort((-size[kept], rows[kept]))]
    own = rows[kept]
    rank = np.arange(len(own)) - np.searchsorted(own, own)
    kept = kept[rank < most]
    index = np.arange(n)
    places = np.concatenate([rows[kept], index]), np.concatenate([weights.indices[kept], index])
    return sp.csr_matrix((np.ones(len(places[0])), places), shape=weights.shape)


class _Entries:
    """The lower triangle of a matrix, read at many places at once: by a table in its corner, by search elsewhere."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        lower = sp.csr_matrix(sp.tril(matrix))
        lower.sort_indices()
        self._n = matrix.shape[0]
        self._corner = lower[:_CORNER, :_CORNER].toarray()
        self._values = np.append(lower.data, 0.0)
        starts = np.arange(self._n, dtype=np.int64) * self._n
        self._keys = np.append(np.repeat(starts, np.diff(lower.indptr)) + lower.indices, -1)

    def __call__(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the entries at these places, none of them above the diagonal."""
        near = rows < len(self._corner)
        if near.all():
            corner: npt.NDArray[Any] = self._corner[rows, columns]
            return corner
        found = np.empty(len(rows), self._values.dtype)
        found[near] = self._corner[rows[near], columns[near]]
        keys = rows[~near] * self._n + columns[~near]
        places = np.searchsorted(self._keys[:-1], keys)
        stored = self._keys[places] == keys
        found[~near] = np.where(stored, self._values[places], 0.0)
        return found


def _rows(entries: _Entries, places: sp.csr_matrix) -> sp.csr_matrix:
    """Return the best rows with these places, the diagonal last in each.

    A row with the places S has the values L_S⁻ᵀ e, where L_S is the Cholesky factor of A_SS and e ends in 1.
    """
    places.sort_indices()
    counts = np.diff(places.indptr)
    values = np.empty(places.nnz)
    for rows in _blocks(counts):
        width = int(counts[rows[-1]])
        there = np.arange(width) >= width - counts[rows, None]  # rows of fewer places begin with unit vectors
        chosen = places[rows]
        members = np.zeros((len(rows), width), dtype=np.int64)
        members[there] = chosen.indices
        pairs = np.tril(there[:, :, None] & there[:, None, :])
        group, one, other = np.nonzero(pairs)
        dense = np.zeros(pairs.shape)
        dense[:, np.arange(width), np.arange(width)] = 1.0
        dense[pairs] = entries(members[group, one], members[group, other])
        factor = torch.linalg.cholesky(torch.from_numpy(dense))
        last = factor.new_zeros(len(rows), width, 1)
        last[:, -1] = 1.0
        solved = torch.linalg.solve_triangular(factor.mT, last, upper=True)[:, :, 0].numpy()
        starts = places.indptr[rows] - chosen.indptr[:-1]
        values[np.repeat(starts, counts[rows]) + np.arange(chosen.nnz)] = solved[there]
    return sp.csr_matrix((values, places.indices, places.indptr), shape=places.shape)


def _blocks(counts: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows of about as many places each, so that their dense systems fit into a block; the longest row last."""
    order = np.argsort(counts, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, _BLOCK_VALUES // int(counts[order[start]]) ** 2)
        width = int(counts[order[min(stop, len(order)) - 1]])
        stop = start + max(1, _BLOCK_VALUES // width**2)
        yield order[start:stop]
        start = stop
