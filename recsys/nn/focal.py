"""Focal loss of whole rows (Lin et al. 2017), as the variational autoencoders of Vančura and Kordík (2021) use it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.blocks import GradientsInForward, OutputGradients, column_blocks
from recsys.nn.products import apply_exactly
from recsys.sparse import Batch


class FocalLoss:
    """−Σ_u Σ_i α x (1 − p)^γ log p + (1 − α) max(0, 1 − x) p^γ log(1 − p), p = σ(h Wᵀ + b).

    For x of 0 and 1 this is eq. 5 of Lin et al. (2017); an entry above 1 counts as that many positives. With other
    logits o, p is σ(h Wᵀ + b) · σ(o). Like `bernoulli_nll` it takes the memory of a block of columns.
    """

    def __init__(self, alpha: float, focus: float, width: int | None = None) -> None:
        """`focus` is γ; `width` is the columns per block, see `column_blocks`."""
        self.alpha, self.focus, self.width = alpha, focus, width

    def __call__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, other_logits: Tensor | None = None
    ) -> Tensor:
        """Return the sum over the batch, scalar; `other_logits` (n_rows, n_columns) is o."""
        return apply_exactly(_FocalLoss, hidden, weight, bias, other_logits, batch, self)

    def absent(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of entries that are 0, and its derivative with respect to log p."""
        p, q = _probabilities(log_p)
        powered = (1.0 - self.alpha) * p**self.focus
        loss = powered * -q.log()
        return loss, self.focus * loss + powered * p / q

    def present(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of entries that are 1, and its derivative with respect to log p."""
        p, q = _probabilities(log_p)
        loss = -self.alpha * q**self.focus * log_p
        return loss, -self.alpha * q**self.focus - self.focus * loss * p / q


def _probabilities(log_p: Tensor) -> tuple[Tensor, Tensor]:
    return log_p.exp(), -torch.expm1(log_p).clamp_max_(-torch.finfo(log_p.dtype).tiny)


class _FocalLoss(GradientsInForward):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, batch: Batch, owner: FocalLoss
    ) -> Tensor:
        gradients = OutputGradients(hidden, weight, bias, ctx.needs_input_grad)
        of_other = torch.empty_like(other) if other is not None and ctx.needs_input_grad[3] else None
        loss = hidden.new_zeros(())
        for block, places, values in column_blocks(batch, owner.width):
            logits = torch.addmm(bias[block], hidden, weight[block].T)
            log_p = F.logsigmoid(logits)
            if other is not None:
                log_p += F.logsigmoid(other[:, block])
            losses, slopes = owner.absent(log_p)
            stored = log_p.view(-1)[places]
            share = (1.0 - values).clamp_min(0.0)
            for all_entries, absent, present in zip(
                (losses, slopes), owner.absent(stored), owner.present(stored), strict=True
            ):
                all_entries.view(-1)[places] = share * absent + values * present
            loss += losses.sum()
            if of_other is not None and other is not None:  # d log σ(o) / do = σ(−o)
                torch.mul(slopes, torch.sigmoid(-other[:, block]), out=of_other[:, block])
            slopes.mul_(torch.sigmoid(-logits))
            gradients.add(block, slopes, hidden, weight)
        ctx.save_for_backward(weight)
        ctx.gradients, ctx.others = gradients, (of_other, None, None)
        return loss
