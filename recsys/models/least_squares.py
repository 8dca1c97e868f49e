"""Least squares beside the networks: biases of ratings, and a factor model whose new users are solved for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.errors import DataError
from recsys.models.learner import Floats
from recsys.models.selection import Histories, Indices
from recsys.nn.losses import masked_squared_error
from recsys.nn.products import affine
from recsys.sparse import Batch
from recsys.training import Loss, Objective

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


@dataclass(frozen=True, eq=False)
class FoldIn:
    """Solves for the vectors of users, whose items have fixed vectors; what all users have in common is computed once.

    A row x gets the v that minimizes Σ stored (x − v·q)² + a · Σ unstored (v·q)² + ridge · ‖v‖². Its normal equations
    are (A + (1 − a) QₛᵀQₛ) v = Qₛᵀx with A = a QᵀQ + ridge I and Qₛ the item vectors of the history (Hu, Koren and
    Volinsky 2008, eq. 4, with one weight for all stored entries). With A⁻¹ = WᵀW and z = Wq they are those of
    ridge regression on z with ridge 1, whose smaller form is solved: one equation per stored entry, or one per number.

    Raises:
        DataError: the equations are singular in float64.
    """

    items: Tensor
    """(n_items, d) item vectors Q."""
    ridge: float
    """Weight of ‖v‖²; taken as 1e-6 at least, so that the equations have one solution."""
    unobserved_weight: float = 0.0
    """a."""
    free_columns: int = 0
    """Number of last columns of Q without ridge, such as a column of ones for an offset."""

    @cached_property
    def _whitening(self) -> Tensor:
        """W, (d, d); (d,) where it is diagonal."""
        width = self.items.shape[1]
        ridge = torch.full((width,), max(self.ridge, _SMALLEST_RIDGE), device=self.items.device, dtype=torch.float64)
        ridge[width - self.free_columns :] = _SMALLEST_RIDGE
        if not self.unobserved_weight:
            return ridge.rsqrt()
        everything = self.items.double()
        factor = cholesky(torch.diag(ridge) + self.unobserved_weight * (everything.T @ everything))
        inverse: Tensor = torch.linalg.solve_triangular(factor, torch.eye(width).to(factor), upper=False)
        return inverse

    def __call__(self, histories: sp.csr_matrix) -> Tensor:
        """Return (n_rows, d) vectors, on the device of the items; a row without entries gets zeros."""
        whiten, stored = self._whitening, 1.0 - self.unobserved_weight
        some, place = np.unique(histories.indices, return_inverse=True)
        table = self.items[torch.from_numpy(some.astype(np.int64)).to(self.items.device)].double()
        table = affine(table, whiten) if whiten.ndim > 1 else table * whiten
        entries = torch.from_numpy(place.astype(np.int64)).to(table.device)
        values = torch.from_numpy(histories.data.astype(np.float64)).to(table.device)
        out = torch.zeros(histories.shape[0], table.shape[1], device=table.device, dtype=self.items.dtype)
        for row, (start, stop) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
            if start == stop:
                continue
            own, x = table[entries[start:stop]], values[start:stop]
            wide = len(own) < own.shape[1]
            gram = (own @ own.T if wide else own.T @ own).mul_(stored)
            gram.diagonal().add_(1.0)
            right = (x if wide else own.T @ x)[:, None]
            solved = torch.cholesky_solve(right, cholesky(gram))[:, 0]
            vector = own.T @ solved if wide else solved
            out[row] = (whiten.T @ vector if whiten.ndim > 1 else whiten * vector).to(out.dtype)
        return out


def cholesky(matrix: Tensor) -> Tensor:
    """Return the lower Cholesky factor of the equations for a user's vector; a DataError where they are singular."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed) or not bool(factor.diagonal().isfinite().all()):
        raise DataError(
            "a user's vector cannot be solved for: the item vectors are so large, and so much alike, that the ridge "
            "beside them is lost in rounding; fit the model again with a lower learning_rate or more regularization"
        )
    return factor


def pair_products(left: Tensor, right: Tensor, rows: Indices, items: Indices) -> Floats:
    """Return left[rows[k]] · right[items[k]] for every k, some at a time so that memory stays bounded."""
    raw = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(raw), 2**16):
        part = slice(start, start + 2**16)
        some, others = (torch.from_numpy(index[part]).to(left.device) for index in (rows, items))
        raw[part] = (left[some] * right[others]).sum(1).cpu().numpy()
    return raw


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
    fold_in: FoldIn
    """Over the item vectors and a column of ones."""

    @classmethod
    def of(
        cls, network: Any, items: Tensor, user_counts: npt.NDArray[np.int64], ridge: float, unobserved_weight: float
    ) -> ItemFactors:
        """Return the factors of a network that gives the items these vectors; `FoldIn` says what the numbers are.

        Users without training entries have zeros, which is what an empty history gives: nothing was learned of them.
        """
        output = network.output  # read once: a kernelized layer makes its weight anew at each reading
        users, offsets = output.weight.detach(), output.bias.detach()
        if not user_counts.all():
            trained = torch.from_numpy(user_counts > 0).to(users.device)
            users, offsets = users * trained[:, None], offsets * trained
        with_ones = torch.cat([items, items.new_ones(len(items), 1)], 1)
        return cls(items, users, offsets, FoldIn(with_ones, ridge, unobserved_weight, free_columns=1))

    def of_users(self, userid: Indices, histories: Histories) -> tuple[Tensor, Tensor]:
        """Return the vectors and offsets of users.

        Args:
            userid: (n,) training indices, -1 for users to fold in.
            histories: (n, n_items) as the network reads them; None if all are known.
        """
        index = torch.from_numpy(userid.clip(0)).to(self.items.device)
        vectors, offsets = self.users[index], self.offsets[index]
        new = np.flatnonzero(userid < 0)
        if histories is not None and len(new):
            solved = self.fold_in(histories[new])
            rows = torch.from_numpy(new).to(self.items.device)
            vectors[rows], offsets[rows] = solved[:, :-1], solved[:, -1]
        return vectors, offsets


def squared_error(network: Any, unobserved_weight: float) -> Objective:
    """Return the objective of eq. 2 without its penalty: the squared error of what the network rebuilds of its rows."""

    def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
        hidden, output = network.decode(network.encode(batch, noise)), network.output
        total = masked_squared_error(hidden, output.weight, output.bias, batch, unobserved_weight)
        return Loss(total, len(batch.columns))

    return objective
