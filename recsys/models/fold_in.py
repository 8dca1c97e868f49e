"""Vectors of new users of a factor model, in closed form from their history and the fixed item vectors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

_SMALLEST_RIDGE = 1e-6


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
            # Fewer entries than unknowns: the same minimiser through the smaller system (QₛD⁻¹Qₛᵀ + I) a = x.
            scaled = own / penalty
            kernel = scaled @ own.T
            kernel.diagonal().add_(1.0)
            out[row] = (scaled.T @ torch.linalg.solve(kernel, values)).to(items.dtype)
        else:
            normal = base + (1.0 - unobserved_weight) * (own.T @ own)
            out[row] = torch.linalg.solve(normal, own.T @ values).to(items.dtype)
    return out
