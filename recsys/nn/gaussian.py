"""Diagonal Gaussians of latent variables: samples, densities and divergences."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys.nn.layers import standard_normal


def reparameterized(mean: Tensor, log_variance: Tensor, noise: torch.Generator) -> Tensor:
    """Return a sample μ + ε · σ, ε ~ N(0, 1), differentiable in both (Kingma and Welling 2014, §2.4)."""
    return mean + standard_normal(mean, noise) * (0.5 * log_variance).exp()


def drawn(mean: Tensor, log_variance: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a sample of each row, and the log density of that row there, (n_rows,) float64."""
    values = reparameterized(mean, log_variance, noise)
    return values, gaussian_log_density(values.double(), mean.double(), log_variance.double()).sum(1)


def gaussian_log_density(values: Tensor, mean: Tensor | float, log_variance: Tensor) -> Tensor:
    """Return log N(values; mean, exp(log_variance)) of each element."""
    return -0.5 * (math.log(2.0 * math.pi) + log_variance + (values - mean).square() * (-log_variance).exp())


def kl_between(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(other_mean, exp(other_log_variance))) of each row, (n_rows,)."""
    ratio = log_variance - other_log_variance
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (ratio.exp() + distance - 1.0 - ratio).sum(1)


def mixture_log_density(values: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """Return log 1/K Σ_k N(values; means_k, exp(log_variances_k)) of each row.

    `values` are (n_rows, width), the others (components, width). The distances come from two matrix products, in memory
    of rows × components, not × width too. They subtract large terms, so they are computed in float64.
    """
    with torch.autocast(values.device.type, enabled=False):
        values, means, log_variances = values.double(), means.double(), log_variances.double()
        precisions = (-log_variances).exp()
        constant = (math.log(2.0 * math.pi) + log_variances + means.square() * precisions).sum(1)
        squares = values.square() @ precisions.T - 2.0 * values @ (means * precisions).T
        return torch.logsumexp(-0.5 * (squares + constant), 1) - math.log(len(means))


def composite_log_density(values: Tensor, old_mean: Tensor, old_log_variance: Tensor) -> Tensor:
    """Return the log density of `CompositePrior`'s mixture for each element of `values`."""
    zero = torch.zeros_like(old_mean)
    parts = (3 / 20, 0.0, zero), (3 / 4, old_mean, old_log_variance), (1 / 10, 0.0, zero + 10.0)
    weighted = [math.log(weight) + gaussian_log_density(values, *moments) for weight, *moments in parts]
    return torch.logsumexp(torch.stack(weighted), 0)
