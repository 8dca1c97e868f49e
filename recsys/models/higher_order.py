"""EASE that reads pairs of items beside the items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.devices import pick_device
from recsys.errors import BundleError
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.capabilities import Capabilities
from recsys.models.codes import Doubles
from recsys.models.fitting import FitOptions
from recsys.models.inverse import dense_inverse_need
from recsys.models.linear import EASE
from recsys.models.pairs import frequent_pairs
from recsys.models.registry import register
from recsys.models.selection import Indices
from recsys.models.stored import Stored
from recsys.nn.graphs import LinearScores
from recsys.params import Natural, Positive


@register
class HigherOrderEASE(EASE):
    """EASE that also reads which pairs of items a history holds, for ranking (Steck and Liang 2021).

    Z has one column per pair (i, k) of items, z_u = x_ui · x_uk, for the pairs that most users have. Minimizes
    ‖X − XB − ZC‖² + λ_B ‖B‖² + λ_C ‖C‖² where no item predicts itself: B_jj = 0, and C_pj = 0 for pairs p with item j
    (eq. 5 to 8). Scores are x B + z C; C is mostly negative, for what a pair says its two items have said before.

    The paper alternates between B and C (ADMM, with a step ρ). The minimum has a closed form, which is used here: with
    F = [X Z], Λ its penalties, P = (FᵀF + diag Λ)⁻¹ and E_j = {j and the pairs with j}, column j of [B; C] is
    e_j − P_{·E} (P_EE)⁻¹ e_j, which is 0 on E_j and satisfies the gradient everywhere else; without pairs it is EASE.
    Differs from the paper in: the number of pairs is given, not the threshold on how many users have them.

    `similar_items` ranks by ±√(B_ij · B_ji), which is the partial correlation if there are no pairs.
    """

    capabilities: ClassVar[Capabilities] = replace(EASE.capabilities, starts_from=False)
    search_space = spaces.HIGHER_ORDER

    pairs: Natural = 1000
    """How many pairs of items to read: those that most users have; fewer if fewer occur."""
    pair_regularization: Positive = 5000.0
    """λ_C of λ_C · ‖C‖², on the scale of `regularization`; 5 to 30 times as large in the paper."""

    def _why_no_update(self) -> str:
        return "reads the pairs that most users have, which change"

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        n_users, n_items = matrix.shape
        shape, dtype = (n_users, n_items + self.pairs), np.dtype(self.precision)
        inverse = dense_inverse_need(shape, n_items, dtype, pick_device(self.device))
        return inverse._replace(bytes=inverse.bytes + dtype.itemsize * shape[1] * n_items)  # the weights beside it

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        self.pairs_ = frequent_pairs(matrix, self.pairs)
        super()._fit(matrix, options)

    def _features(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        columns = matrix.tocsc()
        products = columns[:, self.pairs_[:, 0]].multiply(columns[:, self.pairs_[:, 1]])
        return sp.csr_matrix(sp.hstack([matrix, products]), dtype=np.float32)

    def _penalty(self, energy: Tensor) -> Tensor:
        penalty = torch.full_like(energy, self.pair_regularization)
        penalty[: self.n_items_] = self.regularization
        return penalty

    def _weights(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        n = self.n_items_
        weights = inverse[:, :n] / -inverse.diagonal()[:n]
        for item in np.unique(self.pairs_).tolist():
            bound = [item, *(n + np.flatnonzero((self.pairs_ == item).any(axis=1))).tolist()]
            rows = inverse[bound]
            weights[:, item] = -torch.linalg.solve(rows[:, bound], rows)[0]
            weights[bound, item] = 0.0
        weights.fill_diagonal_(0.0)
        return weights

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        found, n = super()._contributions(history, items), self.n_items_
        features = self._features(history)
        pairs, products = features.indices[features.indices >= n], features.data[features.indices >= n]
        shares = 0.5 * products[:, None] * self._weights_of(pairs, items)  # of each of the two items
        place = np.zeros(n, dtype=np.int64)
        place[history.indices] = np.arange(history.nnz)
        for one in self.pairs_[pairs - n].T:
            np.add.at(found, place[one], shares)
        return found

    def _graph(self) -> nn.Module:
        return LinearScores(self.weights_, torch.from_numpy(self.pairs_.astype(np.int64)).to(self.weights_.device))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._arrays(), "pairs": self.pairs_}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self.pairs_ = arrays.array("pairs", (None, 2), np.int32, within=(0, self.n_items_ - 1))
        if (self.pairs_[:, 0] >= self.pairs_[:, 1]).any():
            raise BundleError("the first item of each of the pairs must lie below the second")
        self._restore_weights(arrays, self.n_items_ + len(self.pairs_))
