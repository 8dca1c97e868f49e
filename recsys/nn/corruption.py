"""Corruptions of sparse rows for denoising (Vincent et al. 2010, §3.3), without dense rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys.sparse import Batch


def masked(batch: Batch, share: float, noise: torch.Generator) -> Batch:
    """Return the batch with each stored entry set to 0 with probability `share`: masking noise.

    Entries that are not stored are zero already, and those that become zero stay stored: to leave them out, the host
    would have to know their number. The others are scaled by 1 / (1 - share), so a row's product with a layer equals
    that of the clean row on average (Wu et al. 2016, §3.1); Vincent et al. do not scale.
    """
    kept = _uniform(batch, noise) >= share
    return batch.with_values(torch.where(kept, batch.values / (1.0 - share), 0.0))


def salt_and_pepper(batch: Batch, share: float, noise: torch.Generator) -> Batch:
    """Return the batch with each entry, stored or not, corrupted with probability `share`.

    A fair coin sets a corrupted entry to the smallest or to the largest value: to 0, which is not stored, or to the
    largest stored value of its row (1 if the row has none above 0). Cost: stored + corrupted entries.
    """
    cells = len(batch) * batch.n_columns
    salted = random_places(cells, share / 2, noise)
    at = batch.segments * batch.n_columns + batch.columns
    # Of the entries without salt, pepper takes (share / 2) / (1 - share / 2), which is (share / 2) of all entries.
    kept = ~torch.isin(at, salted) & (_uniform(batch, noise) >= share / 2 / (1 - share / 2))
    largest = batch.values.new_zeros(len(batch)).scatter_reduce(0, batch.segments, batch.values, "amax")
    largest = torch.where(largest > 0, largest, 1.0)
    at, order = torch.sort(torch.cat([at[kept], salted]))
    values = torch.cat([batch.values[kept], largest[salted // batch.n_columns]])[order]
    segments = at // batch.n_columns
    offsets = torch.searchsorted(segments, torch.arange(len(batch) + 1, device=at.device))
    return Batch(batch.rows, offsets, at % batch.n_columns, values, segments, batch.n_columns)


def projected_gaussian(table: Tensor, n_rows: int, deviation: float, noise: torch.Generator) -> Tensor:
    """Draw ε · `table` for dense noise rows ε ~ N(0, deviation² I), without making the rows; (n_rows, width).

    With V the table, (n_columns, width), ε V is normal with covariance σ² VᵀV, and so is σ n Lᵀ with n standard normal
    and L Lᵀ = VᵀV. The expected loss is therefore the same function of the weights, with the same gradients, which pass
    through the Cholesky factor. Because VᵀV may be singular, a ten-thousandth of its mean diagonal is added to the
    diagonal. Cost: n_columns × width².
    """
    with torch.autocast(table.device.type, enabled=False):
        gram = table.T @ table
        jitter = 1e-4 * gram.diagonal().mean() + 1e-12
        factor = torch.linalg.cholesky(gram + jitter * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
        drawn = torch.randn(n_rows, len(gram), generator=noise, dtype=gram.dtype, device=gram.device)
        projected: Tensor = deviation * (drawn @ factor.T)
        return projected


def random_places(cells: int, chance: float, noise: torch.Generator) -> Tensor:
    """Choose each of `cells` places independently with probability `chance`; int64, ascending, on `noise`'s device.

    The gaps between places are geometric, ⌈log u / log(1 − chance)⌉ with u uniform: only chosen places cost time.
    """
    parts, last = [torch.empty(0, dtype=torch.int64, device=noise.device)], -1
    while chance > 0 and last < cells - 1:
        expected = (cells - 1 - last) * chance
        size = int(expected + 4 * math.sqrt(expected)) + 4
        uniform = 1 - torch.rand(size, generator=noise, dtype=torch.float64, device=noise.device)
        gaps = (uniform.log() / math.log1p(-chance)).ceil().clamp(1, cells + 1)
        parts.append(last + gaps.long().cumsum(0))
        last = int(parts[-1][-1])
    places = torch.cat(parts)
    return places[places < cells]


def _uniform(batch: Batch, noise: torch.Generator) -> Tensor:
    return torch.rand(len(batch.values), generator=noise, device=batch.values.device)
