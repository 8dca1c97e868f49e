"""Log-likelihoods of sparse rows, one number each, given the scores of all columns; the losses sum over a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.losses import LikelihoodName
from recsys.sparse import Batch


def row_log_likelihood(scores: Tensor, batch: Batch, name: LikelihoodName, unobserved_weight: float = 1.0) -> Tensor:
    """Return log p(x|z) of each row in nats, (n_rows,) float64, given the (n_rows, n_columns) `scores` of the z.

    `multinomial`: Σ_i x_i log softmax_i, without the coefficient N! / Π x_i!; `bernoulli`: x_i l_i − softplus(l_i) over
    all columns; `gaussian`: log N(x_i; l_i, 1/w_i) over all columns, w_i = 1 at stored entries, `unobserved_weight`
    elsewhere, where x_i = 0.
    """
    at_stored, values = scores[batch.segments, batch.columns].double(), batch.values.double()

    def per_row(entries: Tensor) -> Tensor:
        return entries.new_zeros(len(batch)).index_add_(0, batch.segments, entries)

    if name == "multinomial":
        return per_row(values * at_stored) - per_row(values) * torch.logsumexp(scores, 1).double()
    if name == "bernoulli":
        return per_row(values * at_stored) - F.softplus(scores).sum(1, dtype=torch.float64)
    stored = batch.offsets.diff().double()
    unstored = batch.n_columns - stored
    squares = scores.square().sum(1, dtype=torch.float64) - per_row(at_stored.square())
    error = per_row((values - at_stored).square()) + unobserved_weight * squares
    return 0.5 * (unstored * math.log(unobserved_weight) - batch.n_columns * math.log(2.0 * math.pi) - error)
