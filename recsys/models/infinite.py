"""∞-AE (Sachdeva, Dhaliwal, Wu and McAuley 2022): an autoencoder of infinite width, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from annotated_types import Gt, Le
from torch import Tensor

from recsys.devices import pick_device
from recsys.errors import TrainingError
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.fitting import FitOptions
from recsys.models.inverse import PANEL, gram_matrix, invert
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Stored, number
from recsys.nn.products import affine, weighted_rows
from recsys.nn.tangent import relu_tangent_kernel
from recsys.params import Positive
from recsys.sparse import Rows


@register
class InfiniteAE(Recommender):
    """Autoencoder with one hidden layer of infinitely many ReLUs, trained to the end in closed form, for ranking.

    Gradient descent on such a network is kernel ridge regression with its neural tangent kernel K (Jacot et al. 2018):
    α = (K(X, X) + λ' I)⁻¹ X and scores K(x, X) α, with λ' = λ · tr K(X, X) / n_users as in the authors' code, weights
    of variance 2, biases of variance `bias_std`² (NTK parameterization), and rows not divided by their lengths.

    Time grows as n_users³, memory as 8 · n_users² bytes in fitting and 4 · n_users · n_items after: tens of thousands
    of users at most. `similar_items` ranks by the cosine of the items' output functions x ↦ K(x, X) α_i in the inner
    product of the kernel, α_iᵀ K α_j. A network of infinite width has no embeddings of users.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        encodes=False,
        keeps_users=False,
        no_graph="it compares a history with that of every training user, whom the file would hold as dense rows",
    )
    search_space = spaces.INFINITE

    regularization: Positive = 5.0
    """λ: the ridge as a multiple of the kernel's mean diagonal."""
    bias_std: Annotated[float, Gt(0), Le(1e6)] = 0.1
    """Standard deviation of the biases; 0.1 in the authors' code."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    def _memory(self, matrix: sp.csr_matrix) -> Need:
        n_users, n_items = matrix.shape
        instead = "fit it on a sample of the users, since it serves any other user as well, or use EASE or MultVAE"
        # Each pair of users, the panels that `invert` sweeps, each user and item.
        return Need(8 * n_users * (n_users + 3 * PANEL) + 4 * n_users * n_items, instead)

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        device = pick_device(self.device)
        by_item = sp.csr_matrix(matrix.T)
        kernel = torch.from_numpy(gram_matrix(by_item, np.dtype(np.float64))).to(device)
        squares = kernel.diagonal().clone()
        for rows in _pieces(*kernel.shape):
            relu_tangent_kernel(kernel[rows], squares[rows], squares, self.n_items_, self.bias_std)
        ridge = self.regularization * float(kernel.diagonal().mean())
        kernel.diagonal().add_(ridge)
        try:
            invert(kernel)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise TrainingError(
                f"the kernel is singular in float64: raise regularization (now {self.regularization})"
            ) from None
        rows_of_items = Rows(by_item, device)
        dual = torch.empty(len(rows_of_items), len(kernel), device=device)
        for items in _pieces(len(rows_of_items), len(kernel)):
            batch = rows_of_items.slice(items.start, items.stop)
            dual[items] = weighted_rows(kernel, batch, batch.values.double()).float()  # αᵀ = Xᵀ (K + λ' I)⁻¹
        self._keep(by_item, dual, ridge)

    def _keep(self, by_item: sp.csr_matrix, dual: Tensor, ridge: float) -> None:
        self.by_item_ = by_item
        self.dual_ = dual
        self.ridge_ = ridge
        self.squares_ = torch.from_numpy(_squares(by_item.tocsc().data, by_item.tocsc().indptr))

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        device = self.dual_.device
        squares = torch.from_numpy(_squares(histories.data, histories.indptr))
        kernel = torch.empty(histories.shape[0], len(self.squares_), device=device)
        for rows in _pieces(*kernel.shape):
            products = torch.from_numpy((histories[rows] @ self.by_item_).toarray()).to(device).double()
            own, others = squares[rows].to(device), self.squares_.to(device)
            kernel[rows] = relu_tangent_kernel(products, own, others, self.n_items_, self.bias_std)
        dual = self.dual_ if items is None else self.dual_[torch.from_numpy(items).to(device)]
        return affine(kernel, dual, out=out)

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        # K α = X − λ' α, so that α_iᵀ K α_j needs no kernel.
        one, other = (self.dual_[torch.from_numpy(index).to(self.dual_.device)].cpu() for index in (asked, among))
        inner = torch.from_numpy(self.by_item_[among] @ one.T.numpy()).T - self.ridge_ * affine(one, other)
        lengths = []
        for index, rows in ((asked, one), (among, other)):
            explained = np.asarray(self.by_item_[index].multiply(rows.numpy()).sum(1)).ravel()
            squared = torch.from_numpy(explained) - self.ridge_ * rows.square().sum(1)
            lengths.append(squared.clamp_min(1e-12).sqrt())
        return inner / torch.outer(*lengths)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        parts = {f"by_item.{name}": getattr(self.by_item_, name) for name in ("data", "indices", "indptr")}
        return {"dual": self.dual_.cpu().numpy(), **parts}

    def _state(self) -> dict[str, Any]:
        return {"ridge": self.ridge_}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        dual = torch.from_numpy(arrays.array("dual", (self.n_items_, self.n_users_))).to(pick_device(self.device))
        by_item = arrays.csr((self.n_items_, self.n_users_), "by_item.")
        self._keep(by_item, dual, number(state, "ridge", Positive))


def _squares(data: npt.NDArray[np.float32], indptr: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the squared lengths of a matrix's rows, or of its columns where it is compressed by them."""
    segments = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return np.bincount(segments, np.square(data, dtype=np.float64), minlength=len(indptr) - 1).astype(np.float64)


def _pieces(n: int, width: int) -> list[slice]:
    step = max(1, _BLOCK_BYTES // (8 * max(1, width)))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


_BLOCK_BYTES = 64 * 2**20
