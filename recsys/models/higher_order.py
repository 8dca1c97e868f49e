"""EASE with pairs of items as further inputs (Steck and Liang 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.models.fitting import FitOptions
from recsys.models.linear import EASE
from recsys.models.registry import register
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

    pairs: Natural = 1000
    """How many pairs of items to read: those that most users have; fewer if fewer occur."""
    pair_regularization: Positive = 5000.0
    """λ_C of λ_C · ‖C‖², on the scale of `regularization`; 5 to 30 times as large in the paper."""

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

    def _weights(self, inverse: Tensor, penalty: Tensor) -> Tensor:
        n = self.n_items_
        weights = inverse[:, :n] / -inverse.diagonal()[:n]
        for item in np.unique(self.pairs_).tolist():
            bound = [item, *(n + np.flatnonzero((self.pairs_ == item).any(axis=1))).tolist()]
            rows = inverse[bound]
            weights[:, item] = -torch.linalg.solve(rows[:, bound], rows)[0]
            weights[bound, item] = 0.0
        weights.fill_diagonal_(0.0)
        return weights

    def _graph(self) -> nn.Module:
        return LinearScores(self.weights_, torch.from_numpy(self.pairs_.astype(np.int64)).to(self.weights_.device))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._arrays(), "pairs": self.pairs_}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        super()._restore(arrays, state)
        self.pairs_ = arrays["pairs"]


def frequent_pairs(matrix: sp.csr_matrix, number: int) -> npt.NDArray[np.int32]:
    """Return the (number, 2) pairs of columns, first below second, that most rows have stored together.

    Ties go to the smaller first and then second column. There are fewer where fewer pairs occur.
    """
    stored = sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
    turned = sp.csr_matrix(stored.T)
    first, second, counts = (np.empty(0, np.int64) for _ in range(3))
    for start in range(0, matrix.shape[1], _COLUMNS):
        block = sp.triu(turned[start : start + _COLUMNS] @ stored, k=start + 1, format="csr").tocoo()
        first = np.concatenate([first, block.row + start])
        second = np.concatenate([second, block.col])
        counts = np.concatenate([counts, block.data])
        best = np.lexsort((second, first, -counts))[:number]
        first, second, counts = first[best], second[best], counts[best]
    return np.stack([first, second], axis=1).astype(np.int32)


_COLUMNS = 1024
"""Columns whose pairs are counted at a time."""
