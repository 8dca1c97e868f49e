"""Models that read features of items in training: neighbors by content, and EASE with features and a content prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.errors import DataError
from recsys.memory import Need
from recsys.metrics.lists import squared_lengths, unit_rows
from recsys.models import spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.codes import Doubles
from recsys.models.described import Described
from recsys.models.fitting import FitOptions
from recsys.models.inverse import regularized_inverse
from recsys.models.linear import EASE
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices, dense_table
from recsys.models.stored import Stored
from recsys.nn.graphs import LinearScores
from recsys.params import Fraction, NotNegative, Positive


@register
class ContentKNN(Described):
    """Item-to-item similarity of features alone: what every model with features has to beat.

    The score of item j is Σ_i x_i cos(f_i, f_j) · |f_j|^γ over the items i of the history, f being rows of features
    (TF-IDF of tags and words). Nothing is learned of interactions, so that an item that nobody has met is scored as any
    other. A bare matrix has no features: an item's are then its users, and the similarity is that of ItemKNN.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(encodes=False, keeps_users=False, popularity_fallback=True)
    search_space = spaces.CONTENT_KNN

    length_exponent: Fraction = 0.25
    """γ: how much an item gains by having many or rare features; 0 is the cosine."""

    def _memory(self, matrix: sp.csr_matrix) -> Need:
        stored = matrix.nnz  # of features there are about as many, or fewer
        return Need(24.0 * stored + 8.0 * self.n_items_, "keep fewer features (min_count) or items")

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        self._describe(options)
        self.table_ = sp.csr_matrix(matrix.T, dtype=np.float32)
        self._settle()

    def _settle(self) -> None:
        if self.features_ is not None:
            self.table_ = self.features_.matrix
            self._count_new(self._new_items())
        self.unit_ = sp.csr_matrix(unit_rows(self.table_, self.n_items_))
        lengths = np.sqrt(squared_lengths(self.table_))
        self.weight_ = np.where(lengths > 0, np.maximum(lengths, 1e-12) ** self.length_exponent, 0.0).astype(np.float32)

    def _similarity(self, rows: Indices, items: Indices | None) -> sp.csr_matrix:
        """Return the (rows, items) similarities, weighted by the length of the second."""
        chosen = slice(None) if items is None else items
        columns = sp.diags_array(self.weight_[chosen]) @ self.unit_[chosen]
        return sp.csr_matrix(self.unit_[rows] @ columns.T)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        chosen = slice(None) if items is None else items
        columns = sp.diags_array(self.weight_[chosen]) @ self.unit_[chosen]
        return torch.from_numpy(np.asarray(((histories @ self.unit_) @ columns.T).toarray(), dtype=np.float32))

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        shares: Doubles = self._similarity(history.indices.astype(np.int64), items).toarray().astype(np.float64)
        return history.data[:, None] * shares

    def _graph(self) -> nn.Module:
        return LinearScores(dense_table(self._similarity(np.arange(self.n_items_), None)))

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        return torch.from_numpy((self.unit_[asked] @ self.unit_[among].T).toarray().astype(np.float32))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        if self.features_ is not None:
            return self._feature_arrays()
        return {name: getattr(self.table_, name) for name in ("data", "indices", "indptr")}

    def _state(self) -> dict[str, Any]:
        return self._feature_state()

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self._restore_features(arrays, state)
        if self.features_ is None:
            self.table_ = arrays.csr((self.n_items_, self.n_users_))
        self._settle()


@register
class FEASE(Described, EASE):
    """EASE that learns from features of items too, and may lean on a prior made of them; for ranking.

    Minimizes ‖Z − ZB‖² + λ ‖B‖² + δ ‖B − R‖² with diag(B) = 0. Z has the users' histories as rows and, below them, a
    row per feature: how much each item has of it, times α (`feature_weight`), as if it were a user who has these items
    (Cui et al. 2025). R is what content alone says (`prior`) and δ (`prior_weight`) how much that counts: the cosine of
    features, or the semantic matrix of L3AE (2025), I − P_F diag(P_F)⁻¹ with P_F = (F Fᵀ + λ_F I)⁻¹. With P =
    (ZᵀZ + (λ + δ) I)⁻¹ the minimum is B = I + δ P R − P diag(γ), γ_j = (1 + δ (P R)_jj) / P_jj. An item that nobody has
    is a column like any other. With α = δ = 0, or for a bare matrix, which has no features, it is EASE.

    Differs from the papers in: features of users are not read; rows of features have length 1.
    """

    capabilities: ClassVar[Capabilities] = replace(EASE.capabilities, starts_from=False)
    search_space = spaces.FEASE

    feature_weight: NotNegative = 3.0
    """α: how much a row of features counts, beside that of a user."""
    prior_weight: NotNegative = 0.0
    """δ of δ · ‖B − R‖², on the scale of `regularization`."""
    prior: Literal["cosine", "semantic"] = "cosine"
    """R: the cosine of features, or EASE on features."""
    prior_regularization: Positive = 1.0
    """λ_F of the semantic prior, for rows of features of length 1."""

    def _why_no_update(self) -> str:
        return "learns from features, which are weighed anew with every catalog"

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        need = super()._memory(matrix)
        beside = np.dtype(self.precision).itemsize * self.n_items_**2 * (1 + (self.prior == "semantic"))
        return need if need is None or not self.prior_weight else need._replace(bytes=need.bytes + beside)

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        self._describe(options)
        if self.features_ is not None:
            described = np.diff(self.features_.matrix.indptr) > 0
            if not described[self._trained()].any():
                raise DataError(
                    "no item of the training data has a feature, so that nothing can be learned from features"
                )
            self._count_new(self._new_items())
        super()._fit(matrix, options)

    def _rows(self, weighed: sp.csr_matrix) -> sp.csr_matrix:
        if self.features_ is None or not self.feature_weight:
            return weighed
        rows = unit_rows(self.features_.matrix, self.n_items_)
        return sp.csr_matrix(sp.vstack([weighed, (self.feature_weight * rows.T).astype(np.float64)]))

    def _penalty(self, energy: Tensor) -> Tensor:
        return super()._penalty(energy) + (0.0 if self.features_ is None else self.prior_weight)

    def _weights(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        if self.features_ is None or not self.prior_weight:
            return super()._weights(inverse, penalty, energy)
        weights = self._prior_product(inverse).mul_(self.prior_weight)
        share = (1.0 + weights.diagonal()) / inverse.diagonal()
        weights.sub_(inverse.mul_(share))
        weights.diagonal().zero_()  # 1 + δ (P R)_jj − γ_j P_jj
        return weights

    def _prior_product(self, inverse: Tensor) -> Tensor:
        """Return P R, R without what an item says of itself."""
        assert self.features_ is not None
        rows = sp.csr_matrix(unit_rows(self.features_.matrix, self.n_items_)).astype(np.float64)
        if self.prior == "cosine":
            device, table = inverse.device, inverse.cpu().numpy()
            product = torch.from_numpy(np.asarray((table @ rows) @ rows.T)).to(device=device, dtype=inverse.dtype)
            own = torch.from_numpy((np.diff(rows.indptr) > 0).astype(np.float64)).to(inverse)
            return product.sub_(inverse * own)
        penalty = torch.full((self.n_items_,), float(self.prior_regularization), dtype=torch.float64)
        semantic = regularized_inverse(sp.csr_matrix(rows.T), penalty, np.dtype(self.precision), inverse.device)
        semantic.mul_(-1.0 / semantic.diagonal().clone())
        semantic.diagonal().zero_()
        return inverse @ semantic

    def with_items(self, items: Any, user_items: Any = None, **options: Any) -> Recommender:
        """Return a model that also recommends items that the fit never saw: see `Recommender.with_items`."""
        whole: Recommender = Recommender.with_items(self, items, user_items, **options)
        return whole

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._arrays(), **self._feature_arrays()}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), **self._feature_state()}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self._restore_features(arrays, state)
        super()._restore(arrays, state)
