"""Least squares beside the networks: biases of ratings, and a factor model whose new users are solved for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import DataError
from recsys.models.learner import Floats
from recsys.models.selection import Histories, Indices

_ROUNDS = 10
_SMALLEST_RIDGE = 1e-6


@dataclass
class Biases:
    """The baseline μ + b_u + b_i: a mean rating, and how far each user and item lies from it.

    The b minimize Σ over stored r of (r − μ − b_u − b_i)² + damping · (Σ b_u² + Σ b_i²), in alternation: b_i given all
    b_u, then b_u given all b_i (Koren 2010, §2.1, but one damping for both, and ten rounds in place of one). A user's
    bias follows from their history and the items' biases alone, so it can be computed for new users as well.
    """

    mean: float
    items: npt.NDArray[np.float64]
    """b_i, (n_items,)."""
    damping: float
    """In ratings."""
    trained: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """b_u of the training users."""

    @classmethod
    def of(cls, matrix: sp.csr_matrix, damping: float) -> Biases:
        """Return the biases of a users × items matrix of ratings."""
        self = cls(float(matrix.data.mean(dtype=np.float64)), np.zeros(matrix.shape[1]), damping)
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1]) + damping
        lengths, values = np.diff(matrix.indptr), matrix.data - self.mean
        for _ in range(_ROUNDS):
            rest = values - np.repeat(self.users(matrix), lengths)
            self.items = _ratio(np.bincount(matrix.indices, weights=rest, minlength=matrix.shape[1]), counts)
        self.trained = self.users(matrix)
        return self

    def users(self, histories: sp.csr_matrix) -> npt.NDArray[np.float64]:
        """Return b_u of each row, (n_rows,); 0 where there are no ratings."""
        lengths = np.diff(histories.indptr)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        rest = histories.data - self.mean - self.items[histories.indices]
        return _ratio(np.bincount(rows, weights=rest, minlength=len(lengths)), lengths + self.damping)

    def residuals(self, histories: sp.csr_matrix) -> sp.csr_matrix:
        """Return r − μ − b_u − b_i in place of each stored r; an entry that becomes 0 stays stored."""
        base = self.mean + self.items[histories.indices] + np.repeat(self.users(histories), np.diff(histories.indptr))
        data = (histories.data - base).astype(np.float32)
        return sp.csr_matrix((data, histories.indices, histories.indptr), shape=histories.shape)

    def base(self, users: npt.NDArray[np.float64], items: npt.NDArray[np.int64] | slice) -> Floats:
        """Return μ + b_u + b_i for pairs, b_u as `users` gives it; float32."""
        return (self.mean + users + self.items[items]).astype(np.float32)


def _ratio(total: npt.NDArray[Any], count: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.divide(total, count, out=np.zeros(len(total)), where=count > 0)
    return found


def fold_in(
    items: Tensor, histories: sp.csr_matrix, *, ridge: float, unobserved_weight: float = 0.0, free_columns: int = 0
) -> Tensor:
    """Return each row's vector v that minimizes Σ stored (x − v·q)² + a · Σ unstored (v·q)² + ridge · ‖v‖².

    The normal equations are ((1 − a) QₛᵀQₛ + a QᵀQ + ridge I) v = Qₛᵀx, with Qₛ the item vectors of the history
    (Hu, Koren and Volinsky 2008, eq. 4, with one weight for all stored entries).

    Args:
        items: (n_items, d) item vectors Q.
        histories: (n_rows, n_items) csr.
        ridge: weight of ‖v‖²; taken as 1e-6 at least, so that the equations have one solution.
        unobserved_weight: a.
        free_columns: number of last columns of Q without ridge, such as a column of ones for an offset.

    Returns:
        (n_rows, d) on the device of `items`; a row without entries gets zeros.

    Raises:
        DataError: the equations are singular in float64.
    """
    width = items.shape[1]
    penalty = torch.full((width,), max(ridge, _SMALLEST_RIDGE), device=items.device, dtype=torch.float64)
    penalty[width - free_columns :] = _SMALLEST_RIDGE
    base = torch.diag(penalty)
    if unobserved_weight:
        everything = items.double()
        base += unobserved_weight * (everything.T @ everything)
    out = torch.zeros(histories.shape[0], width, device=items.device, dtype=items.dtype)
    for row, (start, stop) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        if start == stop:
            continue
        own = items[torch.from_numpy(histories.indices[start:stop].astype(np.int64)).to(items.device)].double()
        values = torch.from_numpy(histories.data[start:stop].astype(np.float64)).to(items.device)
        if not unobserved_weight and len(own) < width:
            # Fewer entries than unknowns: the same minimizer through the smaller system (QₛD⁻¹Qₛᵀ + I) a = x.
            scaled = own / penalty
            kernel = scaled @ own.T
            kernel.diagonal().add_(1.0)
            out[row] = (scaled.T @ _solved(kernel, values)).to(items.dtype)
        else:
            normal = base + (1.0 - unobserved_weight) * (own.T @ own)
            out[row] = _solved(normal, own.T @ values).to(items.dtype)
    return out


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    try:
        solved: Tensor = torch.linalg.solve(matrix, right)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise DataError(
            "a user's vector cannot be solved for: the item vectors are so large, and so much alike, that the ridge "
            "beside them is lost in rounding; fit the model again with a lower learning_rate or more regularization"
        ) from None
    return solved


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """The factor model that an autoencoder of items' columns is once trained.

    Item i has the last hidden layer as its vector, user u the row w_u and offset b_u of the output layer. A user whom
    training never saw gets the w and b that minimize the same objective over their own history with the item vectors
    fixed: a ridge regression in closed form.
    """

    items: Tensor
    """(n_items, d)."""
    users: Tensor
    """(n_users, d)."""
    offsets: Tensor
    """(n_users,)."""

    @classmethod
    def of(cls, network: Any, items: Tensor, user_counts: npt.NDArray[np.int64]) -> ItemFactors:
        """Return the factors of a network that gives the items these vectors.

        Users without training entries have zeros, which is what an empty history gives: nothing was learned of them.
        """
        output = network.output  # read once: a kernelized layer makes its weight anew at each reading
        users, offsets = output.weight.detach(), output.bias.detach()
        if not user_counts.all():
            trained = torch.from_numpy(user_counts > 0).to(users.device)
            users, offsets = users * trained[:, None], offsets * trained
        return cls(items, users, offsets)

    def of_users(
        self, userid: Indices, histories: Histories, ridge: float, unobserved_weight: float
    ) -> tuple[Tensor, Tensor]:
        """Return the vectors and offsets of users.

        Args:
            userid: (n,) training indices, -1 for users of whom training had no entries.
            histories: (n, n_items) as the network reads them; None if all are known.
            ridge: penalty on ‖w‖² beside the sum of squared errors.
        """
        index = torch.from_numpy(userid.clip(0)).to(self.items.device)
        vectors, offsets = self.users[index], self.offsets[index]
        new = np.flatnonzero(userid < 0)
        if histories is not None and len(new):
            solved = fold_in(
                torch.cat([self.items, self.items.new_ones(len(self.items), 1)], 1),
                histories[new],
                ridge=ridge,
                unobserved_weight=unobserved_weight,
                free_columns=1,
            )
            rows = torch.from_numpy(new).to(self.items.device)
            vectors[rows], offsets[rows] = solved[:, :-1], solved[:, -1]
        return vectors, offsets
