"""Rows whose order has a meaning, in batches with the neighbors of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.sparse import Batch, Rows


@dataclass(frozen=True, eq=False)
class Window(Batch):
    """Some rows of a grid, each with the row above and the row below; at the edges that is an empty row."""

    above: Batch
    below: Batch


class Grid(Rows):
    """Rows whose order has a meaning: batches come with the neighbors of their rows."""

    def __init__(self, matrix: sp.csr_matrix, device: torch.device | str = "cpu") -> None:
        # An empty row at the end stands above the first row and below the last one.
        n_rows, n_columns = matrix.shape
        indptr = np.append(matrix.indptr, matrix.indptr[-1])
        super().__init__(sp.csr_matrix((matrix.data, matrix.indices, indptr), shape=(n_rows + 1, n_columns)), device)
        self.n_rows = int(n_rows)

    def batch(self, rows: Tensor) -> Window:
        """Cut the given rows with their neighbors."""
        own, above, below = (super(Grid, self).batch((rows + step) % (self.n_rows + 1)) for step in (0, -1, 1))
        parts = own.rows, own.offsets, own.columns, own.values, own.segments, own.n_columns
        return Window(*parts, above=above, below=below)
