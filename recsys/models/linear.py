"""Linear autoencoders in closed form: EASE (Steck 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import ConfigError, TrainingError
from recsys.models.base import Fitting, Recommender, pick_device
from recsys.nn.products import weighted_rows
from recsys.sparse import Rows


@dataclass(kw_only=True, eq=False)
class EASE(Recommender):
    """Linear item-to-item autoencoder with a zero diagonal, for ranking.

    Minimises ‖X − XB‖² + λ ‖B‖² with diag(B) = 0 (eq. 2 and 3), whose solution is P = (XᵀX + λI)⁻¹,
    B = I − P · diag(P)⁻¹ (eq. 8). Scores are x B. Similar items go by the partial correlation −P_ij / √(P_ii P_jj).
    It keeps nothing of its users: `recommend_users` needs the histories.
    """

    _silent_without_history: ClassVar[bool] = True

    regularization: float = 500.0
    """λ: larger for denser data; 200 to 1000 in the paper."""
    precision: Literal["float64", "float32"] = "float64"
    """Precision of the Gram matrix and its inverse, which share n_items² values of memory; float32 halves it."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    def _check_params(self) -> None:
        if not self.regularization > 0:
            raise ConfigError(f"regularization must be positive, got {self.regularization}")
        if self.precision not in ("float64", "float32"):
            raise ConfigError(f"precision must be 'float64' or 'float32', got {self.precision!r}")

    def _fit(self, matrix: sp.csr_matrix, fitting: Fitting) -> None:
        gram = gram_matrix(matrix, np.dtype(self.precision))
        gram.flat[:: len(gram) + 1] += self.regularization
        try:
            inverse = inverse_in_place(gram, pick_device(self.device))
        except np.linalg.LinAlgError:
            raise TrainingError(
                f"the Gram matrix is singular in {self.precision}: raise regularization (now {self.regularization})"
                + ("" if self.precision == "float64" else ", or use precision='float64'")
            ) from None
        inverse.div_(-inverse.diagonal().clone())  # column j by −P_jj: B_ij = −P_ij / P_jj
        inverse.fill_diagonal_(0.0)
        self.weights_ = inverse.float()

    def _scores(
        self,
        histories: sp.csr_matrix | None,
        userid: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64] | None,
        out: Tensor | None = None,
    ) -> Tensor:
        device = self.weights_.device
        table = self.weights_ if items is None else self.weights_[:, torch.from_numpy(items).to(device)]
        rows = Rows(histories, device)
        batch = rows.slice(0, len(rows))
        return weighted_rows(table, batch, batch.values)

    def _item_similarity(self, asked: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> Tensor:
        rows, columns = (torch.from_numpy(index).to(self.weights_.device) for index in (asked, among))
        there, back = self.weights_[rows][:, columns], self.weights_[:, rows][columns].T
        return there.sign() * (there * back).clamp_min(0.0).sqrt()  # B_ij · B_ji = P_ij² / (P_ii · P_jj)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"weights": self.weights_.cpu().numpy()}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        self.weights_ = torch.from_numpy(arrays["weights"]).to(pick_device(self.device))


def gram_matrix(matrix: sp.csr_matrix, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the dense XᵀX, (n_columns, n_columns), made a block of rows at a time: it never exists twice."""
    n = matrix.shape[1]
    gram = np.empty((n, n), dtype)
    matrix = matrix.astype(dtype)
    turned = sp.csr_matrix(matrix.T)
    step = max(1, _BLOCK_BYTES // (12 * max(1, n)))  # a sparse block of products holds up to 12 bytes per entry
    for start in range(0, n, step):
        (turned[start : start + step] @ matrix).toarray(out=gram[start : start + step])
    return gram


def inverse_in_place(matrix: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return the inverse of a symmetric positive definite matrix, by Cholesky, in the matrix's own memory on the CPU.

    Raises:
        numpy.linalg.LinAlgError: not positive definite in this precision.
    """
    if device.type == "cuda":
        there = torch.from_numpy(matrix).to(device)
        try:
            torch.linalg.cholesky(there, out=there)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise np.linalg.LinAlgError(str(error)) from None
        return torch.cholesky_inverse(there).contiguous()
    factor, invert = scipy.linalg.get_lapack_funcs(("potrf", "potri"), (matrix,))
    # The transpose of a C array is the Fortran array that LAPACK works in without a copy; its upper triangle is the
    # C array's lower one.
    turned, info = factor(matrix.T, lower=False, overwrite_a=True, clean=False)
    if info == 0:
        turned, info = invert(turned, lower=False, overwrite_c=True)
    if info != 0:
        raise np.linalg.LinAlgError(f"the leading minor of order {info} is not positive definite")
    assert np.shares_memory(turned, matrix)
    step = 1024
    for start in range(0, len(matrix), step):  # the lower triangle to the upper
        stop = start + step
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T
        corner = matrix[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    return torch.from_numpy(matrix)


_BLOCK_BYTES = 256 * 2**20
