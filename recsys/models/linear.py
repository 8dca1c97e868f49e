"""Linear autoencoders in closed form: EASE, EDLAE, DLAE, RDLAE and DEQL, with or without DAN.

The first four weigh the items of a history by one items × items matrix B that minimizes

    ‖X − XB‖² + Σ_ij Λ_i B_ij²,   Λ_i > 0, perhaps with a bound on the diagonal of B.

With G = XᵀX and P = (G + diag Λ)⁻¹ the gradient in column j vanishes where (G + diag Λ) B_j = G e_j − ν_j e_j, ν_j
being the multiplier of the bound on B_jj, so that B_j = e_j − (Λ_j + ν_j) P e_j. Its entry j says that
Λ_j + ν_j = (1 − B_jj) / P_jj. Every one of them is therefore

    B = I − P · diag((1 − b) / diag P),   b the diagonal of B,

and the models differ in Λ and in b alone:

    EASE   Λ = λ                     b = 0
    EDLAE  Λ = λ + p/(1−p) · diag G  b = 0
    DLAE   as EDLAE                  b = 1 − Λ · diag P             (no bound: ν = 0)
    RDLAE  as EDLAE                  b = min(ξ, 1 − Λ · diag P)     (ν ≥ 0 where the bound B_jj ≤ ξ holds it)

DEQL, whose error is not the same in every column, comes close to them: see there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.devices import pick_device
from recsys.errors import ConfigError, TrainingError
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.codes import Doubles
from recsys.models.fitting import FitOptions
from recsys.models.inverse import dense_inverse_need, regularized_inverse
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Stored
from recsys.models.updating import Gram, energy_of, updated_inverse
from recsys.nn.graphs import LinearScores
from recsys.nn.products import weighted_rows
from recsys.params import Fraction, NotNegative, Positive, Rate
from recsys.sparse import Rows

ROWS = "rows."


@register
class EASE(Recommender):
    """Linear item-to-item autoencoder with a zero diagonal, for ranking (Steck 2019).

    Minimizes ‖X − XB‖² + λ ‖B‖² with diag(B) = 0 (eq. 2 and 3), whose solution is P = (XᵀX + λI)⁻¹,
    B = I − P · diag(P)⁻¹ (eq. 8); scores are x B. `similar_items` ranks by the partial correlation
    −P_ij / √(P_ii P_jj). Nothing is kept of the training users, unless `keep_rows` keeps their histories: then
    `fit(start=model)` gives what a full fit gives, up to rounding, in the time of the rows that differ (see
    `models.updating`).

    Two exponents turn on the normalization of DAN (Park et al. 2025); both are 0 (off) by default. Each user's row is
    weighted by (items in the history)^−β, and the input becomes X D^−α, where D counts the users of each item:

        ‖D_U^{−β/2} (X D^−α − X D^−α V)‖² + ‖Λ^{1/2} D^−α V‖²

    With B = D^−α V D^α, which has the diagonal of V, and up to a weight d_j^{−2α} per column, which does not move the
    minimum, this is the objective above in B with G = Xᵀ D_U^−β X. Raw histories are scored by V = D^α B D^−α: the
    larger α, the less popular items gain. Differs from the authors' code in: dropout adds p/(1−p) · diag G to Λ, its
    exact expectation, where theirs uses the number of users of each item; the two agree if β = 0.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        encodes=False, keeps_users=False, weighs_users=True, popularity_fallback=True, starts_from=True
    )
    search_space = spaces.EASE

    regularization: Positive = 500.0
    """λ of λ · ‖B‖², on the scale of the squared error summed over all users; 200 to 1000 in the papers, larger for
    denser data, smaller if β > 0."""
    item_exponent: Fraction = 0.0
    """α of DAN: exponent of the items' popularity; 0 is off."""
    user_exponent: Fraction = 0.0
    """β of DAN: exponent of the users' numbers of items; 0 is off."""
    precision: Literal["float64", "float32"] = "float64"
    """Precision of the Gram matrix and its inverse, which share n_items² values of memory; float32 halves it."""
    keep_rows: bool = False
    """Keep the training rows, so that `fit(start=model)` works in only those that differ; a bundle grows by 8 bytes per
    entry."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    def _features(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Return the columns that B weighs: the items, and after them what a model adds."""
        return matrix

    def _rows(self, weighed: sp.csr_matrix) -> sp.csr_matrix:
        """Return the rows of the squared error: weighed histories, and below them what a model adds."""
        return weighed

    def _penalty(self, energy: Tensor) -> Tensor:
        """Return Λ from diag G, both (n_features,)."""
        return torch.full_like(energy, self.regularization)

    def _diagonal(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        """Return the diagonal b of B from diag P, Λ and diag G, all (n_features,)."""
        return torch.zeros_like(inverse)

    def _share(self, diagonal: Tensor) -> Tensor:
        """Return what the other items have to explain of each item whose weight for itself is `diagonal`."""
        return 1.0 - diagonal

    def _weights(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        """Return B, (n_features, n_items), perhaps in the memory of P."""
        own = inverse.diagonal().clone()
        diagonal = self._diagonal(own, penalty, energy)
        inverse.mul_(-self._share(diagonal) / own)
        inverse.diagonal().copy_(diagonal)
        return inverse

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        return dense_inverse_need(matrix.shape, self.n_items_, np.dtype(self.precision), pick_device(self.device))

    def _check_params(self) -> None:
        super()._check_params()
        if self.keep_rows and (reason := self._why_no_update()):
            raise ConfigError(
                f"{type(self).__name__} {reason}, so that no later fit can begin with it; leave out keep_rows"
            )

    def _why_no_update(self) -> str:
        """Return why yesterday's model cannot be made today's by the rows that differ; empty where it can."""
        return ""

    def torch_precision(self) -> torch.dtype:
        """Return `precision` as a type of torch."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def weighed_rows(self, matrix: sp.csr_matrix, weights: npt.NDArray[np.float64] | None = None) -> sp.csr_matrix:
        """Return the rows whose products add up to G, (n, n_features) float64.

        Args:
            weights: (n,) how much each row counts, beside what DAN makes of its length.
        """
        weighed = self._features(matrix).astype(np.float64)
        shares = np.ones(matrix.shape[0]) if weights is None else weights
        if self.user_exponent:
            shares = shares * np.maximum(np.diff(matrix.indptr), 1) ** -self.user_exponent
        if (shares != 1.0).any():
            weighed = sp.csr_matrix(sp.diags_array(np.sqrt(shares)) @ weighed)
        return self._rows(weighed)

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        weighed = self.weighed_rows(matrix, options.user_weights)
        energy = energy_of(weighed)
        penalty = self._penalty(energy)
        found = None
        if options.start is not None and options.user_weights is None:
            found = updated_inverse(self, options.start, matrix, Gram(weighed, penalty))
        self.updated_rows_ = None if found is None else found[1]
        inverse = self._inverse(weighed, penalty) if found is None else found[0]
        self.rows_, self.inverse_diagonal_ = None, None
        if self.keep_rows and options.user_weights is None:
            self.rows_, self.inverse_diagonal_ = matrix.copy(), inverse.diagonal().double().cpu().numpy().copy()
        weights = self._weights(inverse, penalty.to(inverse), energy.to(inverse))
        if self.item_exponent:
            scale = torch.from_numpy(self._scale(self._features(matrix))).to(weights)
            weights.mul_(scale[:, None]).div_(scale[: self.n_items_])
        self.weights_ = weights.float()

    def _inverse(self, weighed: sp.csr_matrix, penalty: Tensor) -> Tensor:
        """Return P."""
        try:
            return regularized_inverse(weighed, penalty, np.dtype(self.precision), pick_device(self.device))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise TrainingError(
                f"the Gram matrix is singular in {self.precision}: raise regularization (now {self.regularization})"
                + ("" if self.precision == "float64" else ", or use precision='float64'")
            ) from None

    def _scale(self, features: sp.csr_matrix) -> Doubles:
        """Return D^α of DAN, (n_features,)."""
        users: Doubles = np.maximum(np.bincount(features.indices, minlength=features.shape[1]), 1).astype(np.float64)
        return users**self.item_exponent

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        device = self.weights_.device
        table = self.weights_ if items is None else self.weights_[:, torch.from_numpy(items).to(device)]
        rows = Rows(self._features(histories), device)
        batch = rows.slice(0, len(rows))
        return weighted_rows(table, batch, batch.values)

    def _weights_for_new(self) -> Tensor:
        return self.weights_

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        return history.data[:, None] * self._weights_of(history.indices, items)

    def _weights_of(self, rows: npt.NDArray[Any], items: Indices) -> Doubles:
        """Return the (rows, items) weights of these features in the scores of these items."""
        one, other = (torch.from_numpy(index.astype(np.int64)).to(self.weights_.device) for index in (rows, items))
        return self.weights_[one[:, None], other].double().cpu().numpy()

    def _graph(self) -> nn.Module:
        return LinearScores(self.weights_)

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        rows, columns = (torch.from_numpy(index).to(self.weights_.device) for index in (asked, among))
        there, back = self.weights_[rows][:, columns], self.weights_[:, rows][columns].T
        rest = self._share(self.weights_.diagonal())
        # B_ij · B_ji = P_ij² · (1 − b_i)(1 − b_j) / (P_ii · P_jj), with normalization or without.
        return there.sign() * ((there * back).clamp_min(0.0) / (rest[rows, None] * rest[columns])).sqrt()

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = {"weights": self.weights_.cpu().numpy()}
        kept = getattr(self, "rows_", None)  # a class of one's own may have a fit of its own
        if kept is None:
            return arrays
        rows = {f"{ROWS}{name}": getattr(kept, name) for name in ("data", "indices", "indptr")}
        return {**arrays, **rows, "inverse_diagonal": self.inverse_diagonal_}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self._restore_weights(arrays, self.n_items_)

    def _restore_weights(self, arrays: Stored, n_features: int) -> None:
        weights = arrays.array("weights", (n_features, self.n_items_))
        self.weights_ = torch.from_numpy(weights).to(pick_device(self.device))
        self.updated_rows_, self.rows_, self.inverse_diagonal_ = None, None, None
        if "inverse_diagonal" in arrays:
            self.rows_ = arrays.csr((self.n_users_, self.n_items_), ROWS)
            positive = (np.finfo(np.float64).tiny, np.inf)
            self.inverse_diagonal_ = arrays.array("inverse_diagonal", (self.n_items_,), np.float64, within=positive)


@register
class EDLAE(EASE):
    """Emphasized denoising linear autoencoder of full rank, for ranking (Steck 2020).

    An entry of the input is dropped with probability p, else divided by 1 − p. In expectation E‖X − X̃B‖² = ‖X − XB‖² +
    p/(1−p) Σ_ij G_ii B_ij²: a penalty that grows with the popularity of the input item. Only dropped entries count in
    the squared error (emphasis a = 1, b = 0), so that no item is predicted from itself: ‖X − XB‖² + ‖Λ^{1/2} B‖² with
    diag(B) = 0 and Λ = λ + p/(1−p) · diag(XᵀX). With `dropout` 0 it is EASE.
    """

    search_space = spaces.EDLAE

    dropout: Rate = 0.33
    """p: share of a history's entries that training hides."""

    def _penalty(self, energy: Tensor) -> Tensor:
        return self.regularization + self.dropout / (1.0 - self.dropout) * energy


@register
class DLAE(EDLAE):
    """Denoising linear autoencoder, for ranking: like EDLAE, with the full squared error and a free diagonal.

    Steck 2020; Moon et al. 2023. B = (XᵀX + diag Λ)⁻¹ XᵀX.
    """

    def _diagonal(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        return 1.0 - penalty * inverse


@register
class RDLAE(EDLAE):
    """Relaxed denoising linear autoencoder, for ranking (Moon et al. 2023): diag(B) ≤ ξ in place of 0.

    With `relaxation` 0 it is EDLAE, from 1 on DLAE; with `dropout` 0 it is the paper's RLAE. Differs from the authors'
    code in: the diagonal stays in B, where theirs is set to 0 at the end; lists of unseen items are the same.
    """

    search_space = spaces.RDLAE

    relaxation: NotNegative = 0.1
    """ξ: upper bound of the weight of an item for itself."""

    def _diagonal(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        return (1.0 - penalty * inverse).clamp_max(self.relaxation)


@register
class DEQL(EDLAE):
    """Denoising linear autoencoder that also counts the error of kept entries, for ranking (Guo et al. 2026).

    The expected quadratic loss of EDLAE with all of its emphasis (Steck 2020): E‖A ∘ (X − X̃B)‖² + λ' ‖B‖², where
    A_ui is 1 if entry (u, i) of the input was dropped, with probability p, and `emphasis` if it was kept. With s = p
    + (1 − p) · emphasis² and θ = emphasis² / s, column j divided by s minimizes a quadratic form whose matrix is that
    of EDLAE, M = G + diag Λ with Λ = λ + p/(1−p) · diag G and λ = λ'/s, but for row and column j: θ M_ij beside the
    diagonal and θ G_jj / (1 − p) + λ on it. The paper inverts each by Miller's lemma; eliminating B_jj gives the same
    from P = M⁻¹:

        b_j = θ (1/P_jj − Λ_j) / (θ G_jj / (1−p) + λ − θ² (M_jj − 1/P_jj)),   B_ij = −(1 − θ b_j) P_ij / P_jj

    so that all columns cost one inverse, O(n_items³), as in EASE. `emphasis` 0 is EDLAE, 1 is DLAE. With diag(B) = 0
    the emphasis would only change the unit of λ: the paper's variant with that constraint is EDLAE. Differs from the
    paper in: λ is divided by s, so that the emphasis does not change how strong the penalty is.

    `similar_items` ranks by ±√(B_ij · B_ji / ((1 − θ b_i)(1 − θ b_j))), which is the partial correlation.
    """

    search_space = spaces.DEQL

    emphasis: NotNegative = 0.5
    """b / a of the paper: weight of the error of an entry that was kept, where that of a dropped one is 1."""

    @property
    def _theta(self) -> float:
        """θ of the class; the errors of kept entries are the only ones where nothing is dropped."""
        square = self.emphasis**2
        return square / (self.dropout + (1.0 - self.dropout) * square) if square else 0.0

    def _diagonal(self, inverse: Tensor, penalty: Tensor, energy: Tensor) -> Tensor:
        theta = self._theta
        reduced = theta * (energy / (1.0 - self.dropout) - theta * (energy + penalty)) + theta**2 / inverse
        return theta * (1.0 / inverse - penalty) / (reduced + self.regularization)

    def _share(self, diagonal: Tensor) -> Tensor:
        return 1.0 - self._theta * diagonal
