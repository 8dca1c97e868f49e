"""Reconstructed rows, which are dense, as the input of another network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recsys.nn.losses import LikelihoodName

_MEANS: Final[dict[LikelihoodName, Callable[[Tensor], Tensor]]] = {
    "multinomial": lambda logits: torch.softmax(logits, dim=1),
    "bernoulli": torch.sigmoid,
    "gaussian": lambda logits: logits,
}


def project_means(
    hidden: Tensor, weight: Tensor, bias: Tensor, table: Tensor, name: LikelihoodName, *, memory: int = 2**28
) -> Tensor:
    """Return x̄ · `table` for the rows x̄ that the likelihood expects under `hidden` Wᵀ + b, each divided by its length.

    The rows x̄ are dense. Where all of them would exceed `memory` bytes they go through in parts, each of which is made
    anew on the way back.

    Args:
        hidden: (n_rows, width) with `weight` (n_columns, width) and `bias` (n_columns,).
        table: (n_columns, other width), as of the first layer of a network that reads normalised rows.

    Returns:
        (n_rows, other width), differentiable in all.
    """

    def project(part: Tensor) -> Tensor:
        with torch.autocast(part.device.type, enabled=False):
            means = _MEANS[name](torch.addmm(bias, part.to(weight.dtype), weight.T))
            lengths = means.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
            return (means @ table) / lengths

    rows = max(1, memory // (weight.shape[0] * weight.element_size()))
    if rows >= len(hidden):
        return project(hidden)
    parts = [
        checkpoint(project, hidden[start : start + rows], use_reentrant=False, preserve_rng_state=False)
        for start in range(0, len(hidden), rows)
    ]
    return torch.cat(parts)
