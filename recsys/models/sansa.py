"""SANSA (Spišák, Bartyzal, Hoskovec, Peska and Tůma 2023): EASE for catalogs too large for a dense inverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from recsys.errors import TrainingError
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.fitting import FitOptions
from recsys.models.params import Positive
from recsys.models.registry import register
from recsys.models.selection import Indices
from recsys.models.sparse_inverse import inverse_factor
from recsys.nn.graphs import LinearScores


@register
class SANSA(Recommender):
    """Scalable approximate non-symmetric autoencoder: EASE with a sparse inverse, for ranking.

    EASE's P = (XᵀX + λI)⁻¹ becomes W Wᵀ with W sparse, the transposed inverse of a Cholesky factor, and scores are
    x (I − W Wᵀ · diag(W Wᵀ)⁻¹), two sparse products, with a zero diagonal as in EASE. W holds `density` · n_items²
    entries of 8 bytes, twice in memory. Fitting also needs the sparse XᵀX, some 40 bytes for each pair of items that
    share a user, but never a dense n_items² array. From a density of one half on, it is EASE.

    `similar_items` ranks by the partial correlation −P_ij / √(P_ii P_jj), the negative cosine between rows of W.
    Nothing is kept of the training users.

    Differs from the paper in: how W is computed. The paper makes an incomplete Cholesky factor and improves its inverse
    by residual steps, pruning after each; here each column of W is the exact minimizer of that residual over its few
    entries, so that no factor is needed and nothing can break down (`recsys.models.sparse_inverse`). Items are ordered
    by popularity, so that each is explained by more popular ones, instead of by least fill-in.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(encodes=False, keeps_users=False, popularity_fallback=True)

    regularization: Positive = 500.0
    """λ of λ · ‖B‖², on the scale of the squared error summed over all users, as in EASE."""
    density: Annotated[float, Gt(0), Le(1)] = 0.01
    """Entries of W as a share of n_items²; an item has `density` · n_items of them on average."""

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        n = self.n_items_
        order = np.argsort(-self.popularity_, kind="stable")
        ordered = matrix[:, order]
        gram = sp.csr_matrix(ordered.T @ ordered + sp.diags_array(np.full(n, np.float32(self.regularization))))
        try:
            factor = inverse_factor(gram, int(self.density * n**2)).tocoo()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise TrainingError(
                f"the Gram matrix is singular: raise regularization (now {self.regularization})"
            ) from None
        places = order[factor.col], factor.row  # items, and the rows of the factor
        self._keep(sp.csr_matrix((factor.data.astype(np.float32), places), shape=(n, n)))

    def _keep(self, encoder: sp.csr_matrix) -> None:
        self.encoder_ = encoder
        self.decoder_ = sp.csr_matrix((sp.diags_array(-1.0 / _squares(encoder)) @ encoder).T)

    def _scores(
        self, histories: sp.csr_matrix | None, userid: Indices, items: Indices | None, out: Tensor | None = None
    ) -> Tensor:
        assert histories is not None  # no user is known without
        decoder, own = (self.decoder_, histories) if items is None else (self.decoder_[:, items], histories[:, items])
        scores = (histories @ self.encoder_) @ decoder + own
        return torch.from_numpy(scores.toarray(out=None if out is None else out.numpy()))

    def _graph(self) -> nn.Module:
        whole = self.encoder_ @ self.decoder_ + sp.identity(self.n_items_, np.float32, "csr")
        return LinearScores(torch.from_numpy(whole.toarray()))

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        one, other = self.encoder_[asked], self.encoder_[among]
        inner = (one @ other.T).toarray()
        return torch.from_numpy(-inner / np.sqrt(np.outer(_squares(one), _squares(other))))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self.encoder_, name) for name in ("data", "indices", "indptr")}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        parts = arrays["data"], arrays["indices"], arrays["indptr"]
        self._keep(sp.csr_matrix(parts, shape=(self.n_items_, self.n_items_)))


def _squares(matrix: sp.csr_matrix) -> npt.NDArray[np.float32]:
    """Return each row's squared length."""
    squares: npt.NDArray[np.float32] = np.asarray(matrix.multiply(matrix).sum(1)).ravel()
    return squares
