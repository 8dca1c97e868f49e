"""What a user without a usable history gets: the most popular items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.models.selection import Indices


def readable(histories: sp.csr_matrix, popularity: npt.NDArray[np.float32]) -> sp.csr_matrix:
    """Return the histories, empty where no training user has any of the items: nothing was learned of these."""
    learned = popularity[histories.indices] > 0
    if learned.all():
        return histories
    rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    kept = (np.bincount(rows[learned], minlength=histories.shape[0]) > 0)[rows]
    return sp.csr_matrix((histories.data[kept], (rows[kept], histories.indices[kept])), shape=histories.shape)


def fill(
    scores: Tensor,
    cold: npt.NDArray[np.bool_],
    items: Indices | None,
    popularity: npt.NDArray[np.float32],
    whole: Callable[[Indices], Tensor],
) -> None:
    """Put popularity in the place of the scores of cold users, and of users for whom every item scores 0.

    Args:
        scores: (rows, items) of these items, or of all; changed in place.
        cold: (rows,) users with nothing to read.
        whole: returns the scores of some rows for all items.
    """
    silent = _all_zero(scores)
    if items is not None and len(rows := silent.nonzero()[:, 0].cpu().numpy()):
        silent[silent.clone()] = _all_zero(whole(rows))  # a row may be silent about these items alone
    silent |= torch.from_numpy(cold).to(silent.device)
    scores[silent] = torch.from_numpy(popularity if items is None else popularity[items]).to(scores)


def _all_zero(scores: Tensor) -> Tensor:
    first = scores[:, 0] == 0
    # Most blocks have no such row, and reading them whole would take as long as a cheap model's scores.
    return (scores.amax(1) == 0) & (scores.amin(1) == 0) if bool(first.any()) else first
