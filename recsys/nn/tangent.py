"""Kernels of infinitely wide networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def relu_tangent_kernel(products: Tensor, left: Tensor, right: Tensor, n_in: int, bias_std: float) -> Tensor:
    """Return the neural tangent kernel of f(x) = √(2/m) · W₂ relu(√(2/n_in) · W₁ x + b β₁) + b β₂ for m → ∞.

    W₁, W₂, β₁ and β₂ are standard normal and trained; b is `bias_std`. Let Σ = 2 x·x' / n_in + b² be the covariance of
    the hidden layer, q and q' its values at (x, x) and (x', x'), and cos θ = Σ / √(q q'). The arc-cosine kernels of Cho
    and Saul (2009, eq. 3) of order 1 (gradient of the output layer) and 0 (gradient of the hidden layer) give

        Θ(x, x') = b² + (√(q q') (sin θ + (π − θ) cos θ) + (π − θ) Σ) / π

    (Jacot et al. 2018, theorem 1).

    `products` are the (n, m) inner products x·x', overwritten with the result; `left` (n,) and `right` (m,) the squared
    lengths of x and x'. Near x = x' the square root of a difference loses digits, so use float64.
    """
    variance = bias_std**2
    scale = 2.0 / n_in
    covariance = products.mul_(scale).add_(variance)
    sine = torch.outer(left * scale + variance, right * scale + variance)
    sine.addcmul_(covariance, covariance, value=-1.0).clamp_min_(0.0).sqrt_()  # √(q q') sin θ
    angle = torch.atan2(sine, covariance)
    # √(q q') cos θ equals Σ, so the two terms with π − θ are the same.
    return covariance.mul_(2.0).mul_(angle.neg_().add_(math.pi)).add_(sine).div_(math.pi).add_(variance)
