"""User and item biases of ratings: subtracted before a network reads them, added back to what it predicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.models.learner import Floats

_ROUNDS = 10


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
