"""Penalties of regularized autoencoders, per batch or per row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys import ranks
from recsys.sparse import Rows


def chance_decay(rows: Rows) -> float:
    """Return the c of c/2 · Σ w² beside a mean log-likelihood per row that outweighs what chance gives the weights.

    Take an encoder V and a decoder W without hidden layers, over rows divided by their length. Where both are small,
    c/2 (‖V‖² + ‖W‖²) is c times the nuclear norm of M = V W (Srebro, Rennie and Jaakkola 2005), so that what has a
    singular value below c in the gradient of the mean log-likelihood in M is not learned. That gradient is the mean of
    (x − n π) x̂ᵀ over the rows x, of n entries, π being the share of each column in all entries. In rows that chance has
    filled, what it holds between two columns has the variance n π_i π_j / rows, and the largest singular value of such
    a symmetric matrix is, with columns alike and fewer than rows, 2 √(stored entries / columns) / rows: the c returned.
    Counts add up as their squares.
    """
    return 2.0 * math.sqrt(rows.squares() / rows.n_columns) / len(rows)


def activation_kl(code: Tensor, target: float) -> Tensor:
    """Return Σ_j KL(ρ ‖ ρ̂_j) of Bernoulli means, with ρ = `target` and ρ̂_j the batch mean of unit j (Ng 2011).

    `code` are (n_rows, latent) activations between 0 and 1. The batch mean estimates the mean over all rows; as KL is
    convex in ρ̂, the expected value is above that of all rows, and more so for smaller batches.
    """
    dtype = torch.promote_types(code.dtype, torch.float32)
    if ranks.size() > 1:
        mean = ranks.total(code.sum(0, dtype=dtype)) / ranks.totals([len(code)])[0]
    else:
        mean = code.mean(0, dtype=dtype)
    mean = mean.clamp(1e-7, 1 - 1e-7)
    desired = torch.as_tensor(target, dtype=mean.dtype, device=mean.device)
    return (desired * (desired / mean).log() + (1 - desired) * ((1 - desired) / (1 - mean)).log()).sum()


def squared_jacobian(
    code: Tensor, projected: Tensor, table: Tensor, probes: int | None, noise: torch.Generator
) -> Tensor:
    """Return ‖∂code/∂x‖²_F, (n_rows,), where x is dense and `projected` = x · `table` + b (Rifai et al. 2011, eq. 1).

    `code` (n_rows, latent) is computed in this graph from `projected` (n_rows, width), each row independently. Let V be
    the table and G = ∂code/∂projected. Then the Jacobian is J = G Vᵀ, and ‖J‖² = tr(G VᵀV Gᵀ): only VᵀV, which is
    computed once, depends on the length of a row. The terms g_k VᵀV g_kᵀ take one backward pass through the layers
    after the first for each unit of the code (`probes` None, exact), or for each of `probes` vectors v of random signs:
    E ‖vᵀJ‖² = ‖J‖²_F (Hutchinson 1990).
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
    """Return the same for a code of one layer, at the cost of the table: Σ_j g′(a_j)² ‖V_j‖² (Rifai et al. 2011)."""
    with torch.autocast(table.device.type, enabled=False):
        (slopes,) = torch.autograd.grad(code.sum(), projected, create_graph=True)
        return slopes.to(table.dtype).square() @ table.square().sum(0)
