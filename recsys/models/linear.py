"""Linear autoencoders in closed form: EASE (Steck 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import ConfigError, TrainingError
from recsys.models.base import Fitting, Recommender, pick_device
from recsys.nn.layers import weighted_rows
from recsys.sparse import Rows


@dataclass(kw_only=True, eq=False)
class EASE(Recommender):
    """Linear item-to-item autoencoder with a zero diagonal, for ranking.

    Minimises ‖X − XB‖² + λ ‖B‖² with diag(B) = 0 (eq. 1), whose solution is P = (XᵀX + λI)⁻¹, B = I − P · diag(P)⁻¹
    (eq. 8). Scores are x B. Similar items go by the partial correlation −P_ij / √(P_ii P_jj). It keeps nothing of its
    users: `recommend_users` and `similar_users` need the histories.
    """

    regularization: float = 500.0
    """λ: larger for denser data; 200 to 1000 in the paper."""
    precision: Literal["float64", "float32"] = "float64"
    """Precision of the inverse, which takes about 2 · n_items² values; float32 halves it for large catalogues."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    def _fit(self, matrix: sp.csr_matrix, fitting: Fitting) -> None:
        if not self.regularization > 0:
            raise ConfigError(f"regularization must be positive, got {self.regularization}")
        if self.precision not in ("float64", "float32"):
            raise ConfigError(f"precision must be 'float64' or 'float32', got {self.precision!r}")
        counts = matrix.astype(self.precision)
        gram = torch.from_numpy((counts.T @ counts).toarray()).to(pick_device(self.device))
        gram.diagonal().add_(self.regularization)
        try:
            torch.linalg.cholesky(gram, out=gram)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise TrainingError(
                f"the Gram matrix is singular in {self.precision}: raise regularization (now {self.regularization})"
                + ("" if self.precision == "float64" else ", or use precision='float64'")
            ) from None
        inverse = torch.cholesky_inverse(gram, out=gram)
        inverse.div_(-inverse.diagonal().clone())  # column j by −P_jj: B_ij = −P_ij / P_jj
        inverse.fill_diagonal_(0.0)
        self.weights_ = inverse.float().contiguous()  # LAPACK leaves columns together; scoring gathers rows

    def _scores(
        self, histories: sp.csr_matrix | None, userid: npt.NDArray[np.int64], items: npt.NDArray[np.int64] | None
    ) -> Tensor:
        device = self.weights_.device
        table = self.weights_ if items is None else self.weights_[:, torch.from_numpy(items).to(device)]
        rows = Rows(histories, device)
        batch = rows.slice(0, len(rows))
        return weighted_rows(table, batch, batch.values)

    def _item_similarity(self, asked: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> Tensor:
        rows, columns = (torch.from_numpy(index).to(self.weights_.device) for index in (asked, among))
        there, back = self.weights_[rows][:, columns], self.weights_[columns][:, rows].T
        return there.sign() * (there * back).clamp_min(0.0).sqrt()  # B_ij · B_ji = P_ij² / (P_ii · P_jj)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"weights": self.weights_.cpu().numpy()}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        self.weights_ = torch.from_numpy(arrays["weights"]).to(pick_device(self.device))
