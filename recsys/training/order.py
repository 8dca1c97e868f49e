"""The order in which an epoch visits rows: those that do not count the same, and those that lie on disk."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.mapped import order_blocks
from recsys.sparse import Rows

Floats = npt.NDArray[np.float64]


def weighted_order(weights: Floats, generator: torch.Generator) -> Tensor:
    """Return n visits of n rows in random order, (n,) int64: row i in expectation n · w_i / Σ w times.

    Systematic resampling (Kitagawa 1996): the visits are the points k + U, k = 0..n-1, of a line on which the rows lie
    in random order, each n · w_i / Σ w long. So a row has that number of visits rounded down or up, where independent
    draws would vary more. A gradient summed over an epoch is that of the weighted losses in expectation.

    Args:
        weights: (n,) above 0.
        generator: of the CPU.
    """
    n = len(weights)
    places = torch.randperm(n, generator=generator)
    ends = torch.cumsum(torch.from_numpy(weights)[places], 0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    points = (torch.arange(n, dtype=torch.float64) + start) * (ends[-1] / n)
    drawn = places[torch.searchsorted(ends, points, right=True).clamp_max(n - 1)]
    return drawn[torch.randperm(n, generator=generator)]


def epoch_order(rows: Rows, weights: Floats | None, generator: torch.Generator) -> Tensor:
    """Return the visits of an epoch, (n,) int64: all rows in random order, or as often as their weights say.

    Rows on disk are visited block by block (`mapped.order_blocks`): the order is drawn as for rows in memory, and then
    visits of one block come together, the blocks in random order. If all is one block, it is the order in memory.
    """
    order = torch.randperm(len(rows), generator=generator) if weights is None else weighted_order(weights, generator)
    starts = torch.from_numpy(order_blocks(rows.matrix))
    if len(starts) < 2:
        return order
    rank = torch.randperm(len(starts), generator=generator)
    return order[torch.argsort(rank[torch.searchsorted(starts, order, right=True) - 1], stable=True)]


def weights_checksum(weights: Floats) -> int:
    """Return a CRC-32 of weights, to tell trainings apart."""
    return zlib.crc32(np.ascontiguousarray(weights).data)
