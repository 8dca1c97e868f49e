"""Reconstructed rows as the input of another network."""

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
    """Return x̄ · `table`, where x̄ are the rows expected under the likelihood of `hidden` Wᵀ + b, scaled to length 1.

    The rows x̄ are dense. If they would exceed `memory` bytes, they are processed in parts, and each part is recomputed
    in the backward pass.

    Args:
        hidden: (n_rows, width) with `weight` (n_columns, width) and `bias` (n_columns,).
        table: (n_columns, other width), such as the first layer of a network that reads normalized rows.

    Returns:
        (n_rows, other width), differentiable in all four tensors.
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
