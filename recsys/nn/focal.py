"""Focal loss of whole rows (Lin et al. 2017), as the variational autoencoders of Vančura and Kordík (2021) use it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.losses import column_pieces, entries_by_piece
from recsys.nn.products import deliver
from recsys.sparse import Batch


class FocalLoss:
    """−Σ_u Σ_i α x (1 − p)^γ log p + (1 − α) max(0, 1 − x) p^γ log(1 − p), p = σ(h Wᵀ + b).

    For x of 0 and 1 this is eq. 5 of Lin et al. (2017); an entry above 1 counts as that many positives. With
    `beside`, p is the product of two sigmoids, the other one of these logits. Each block of columns gives its loss and
    gradients while it is in the processor's cache.
    """

    def __init__(self, alpha: float, focus: float, width: int | None = None) -> None:
        """`focus` is γ; `width` is that of a block: 1,024 on a CPU, all on a GPU."""
        self.alpha, self.focus, self.width = alpha, focus, width

    def __call__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, batch: Batch, beside: Tensor | None = None
    ) -> Tensor:
        """Return the scalar loss of `hidden` (n_rows, width) under `weight` (n_columns, width) and `bias`.

        Args:
            beside: (n_rows, n_columns) logits whose sigmoids multiply the others.
        """
        width = self.width or (weight.shape[0] if hidden.is_cuda else 1024)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(weight.dtype)
            loss: Tensor = _FocalLoss.apply(hidden, weight, bias, beside, batch, self, width)  # type: ignore[no-untyped-call]
        return loss

    def absent(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of entries that are 0, and its derivative by log p."""
        p, q = _chances(log_p)
        powered = (1.0 - self.alpha) * p**self.focus
        loss = powered * -q.log()
        return loss, self.focus * loss + powered * p / q

    def present(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of entries that are 1, and its derivative by log p."""
        p, q = _chances(log_p)
        loss = -self.alpha * q**self.focus * log_p
        return loss, -self.alpha * q**self.focus - self.focus * loss * p / q


def _chances(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return p and 1 − p."""
    return log_p.exp(), -torch.expm1(log_p).clamp_max_(-torch.finfo(log_p.dtype).tiny)


class _FocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        beside: Tensor | None,
        batch: Batch,
        owner: FocalLoss,
        width: int,
    ) -> Tensor:
        wanted = ctx.needs_input_grad
        made = [torch.zeros_like(hidden), torch.empty_like(weight), torch.empty_like(bias)]
        of_beside = None if beside is None else torch.empty_like(beside)
        loss = hidden.new_zeros(())
        pieces = column_pieces(weight.shape[0], width)
        for piece, (places, values) in zip(pieces, entries_by_piece(batch, pieces), strict=True):
            logits = torch.addmm(bias[piece], hidden, weight[piece].T)
            log_p = F.logsigmoid(logits)
            if beside is not None:
                log_p += F.logsigmoid(beside[:, piece])
            losses, slopes = owner.absent(log_p)
            # Of stored entries, those values are replaced.
            stored = log_p.view(-1)[places]
            share = (1.0 - values).clamp_min(0.0)
            for block, absent, present in zip(
                (losses, slopes), owner.absent(stored), owner.present(stored), strict=True
            ):
                block.view(-1)[places] = share * absent + values * present
            loss += losses.sum()
            if of_beside is not None and beside is not None and wanted[3]:
                torch.mul(slopes, torch.sigmoid(-beside[:, piece]), out=of_beside[:, piece])  # d log σ(e) / de
            slopes.mul_(torch.sigmoid(-logits))
            if wanted[0]:
                made[0].addmm_(slopes, weight[piece])
            if wanted[1]:
                torch.mm(slopes.T, hidden, out=made[1][piece])
            if wanted[2]:
                torch.sum(slopes, 0, out=made[2][piece])
        ctx.save_for_backward(weight)
        ctx.made, ctx.of_beside = made, of_beside
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        of_hidden, of_weight, of_bias = ctx.made

        def write(out: Tensor, beta: float) -> None:
            torch.mul(of_weight, grads[0], out=out) if not beta else out.mul_(beta).add_(of_weight * grads[0])

        return (
            of_hidden * grads[0] if ctx.needs_input_grad[0] else None,
            deliver(weight, write) if ctx.needs_input_grad[1] else None,
            of_bias * grads[0] if ctx.needs_input_grad[2] else None,
            ctx.of_beside * grads[0] if ctx.needs_input_grad[3] else None,
            None,
            None,
            None,
        )
