"""What regularised autoencoders add to their loss, per batch or per row."""

from __future__ import annotations

import torch
from torch import Tensor


def activation_kl(code: Tensor, target: float) -> Tensor:
    """Return Σ_j KL(ρ ‖ ρ̂_j) of Bernoulli means: ρ = `target`, ρ̂_j the mean of unit j over the batch (Ng 2011).

    Args:
        code: (n_rows, latent) activations between 0 and 1.

    Returns:
        Scalar; the mean over a batch stands for that over all rows, and as KL is convex in ρ̂ its expectation is above
        that of all rows, the more the smaller the batch.
    """
    mean = code.mean(0, dtype=torch.promote_types(code.dtype, torch.float32)).clamp(1e-7, 1 - 1e-7)
    wanted = torch.as_tensor(target, dtype=mean.dtype, device=mean.device)
    return (wanted * (wanted / mean).log() + (1 - wanted) * ((1 - wanted) / (1 - mean)).log()).sum()


def squared_jacobian(
    code: Tensor, projected: Tensor, table: Tensor, probes: int | None, noise: torch.Generator
) -> Tensor:
    """Return ‖∂code/∂x‖²_F of each row (Rifai et al. 2011, eq. 1), x the dense row with `projected` = x · `table` + b.

    With G = ∂code/∂projected the Jacobian is G Vᵀ, V the table, so that ‖J‖² = tr(G VᵀV Gᵀ): all that is as long as a
    row is in VᵀV, which is worked out once. The terms g_k VᵀV g_kᵀ take a backward pass through the layers after the
    first for each of the code's units, or for each of `probes` random directions of signs v: E ‖vᵀJ‖² = ‖J‖²_F
    (Hutchinson 1990).

    Args:
        code: (n_rows, latent), computed from `projected` (n_rows, width) in this graph; each row from its own.
        probes: None for all units, which is exact.

    Returns:
        (n_rows,), differentiable.
    """
    if probes is None:
        units = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
        directions = [unit.expand_as(code) for unit in units]
    else:
        directions = [
            torch.randint(2, code.shape, generator=noise, device=code.device).to(code.dtype) * 2 - 1
            for _ in range(probes)
        ]
    with torch.autocast(table.device.type, enabled=False):
        gram = table.T @ table
        total = gram.new_zeros(len(code))
        for direction in directions:
            (slopes,) = torch.autograd.grad(code, projected, direction, create_graph=True)
            slopes = slopes.to(gram.dtype)
            total = total + ((slopes @ gram) * slopes).sum(1)
    return total if probes is None else total / probes


def squared_jacobian_of_one_layer(code: Tensor, projected: Tensor, table: Tensor) -> Tensor:
    """Return the same where unit j of the code depends on unit j of `projected` alone: Σ_j g′(a_j)² ‖V_j‖².

    The closed form of Rifai et al. (2011) for one layer; exact, at the cost of the table's size.
    """
    with torch.autocast(table.device.type, enabled=False):
        (slopes,) = torch.autograd.grad(code.sum(), projected, create_graph=True)
        return slopes.to(table.dtype).square() @ table.square().sum(0)
