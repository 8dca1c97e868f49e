"""Diagonal Gaussians of latent variables: samples, densities and divergences, and priors other than N(0, I)."""

from __future__ import annotations

import copy
import math
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from recsys.nn.layers import standard_normal
from recsys.sparse import Batch

COMPOSITE_WEIGHTS: Final = (3 / 20, 3 / 4, 1 / 10)
"""Weights of N(0, 1), of the old posterior and of the wide N(0, e^10) in RecVAE's prior, as in the authors' code."""
WIDE_LOG_VARIANCE: Final = 10.0


class PosteriorEncoder(Protocol):
    """q(z|x): an `nn.Module` that encodes rows."""

    def __call__(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (len(batch), latent); `noise` draws the input dropout."""

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same for dense rows (n, n_in), without noise."""


def reparameterized(mean: Tensor, log_variance: Tensor, noise: torch.Generator) -> Tensor:
    """Return a sample μ + ε · σ, ε ~ N(0, 1), differentiable in both (Kingma and Welling 2014, §2.4)."""
    return mean + standard_normal(mean, noise) * (0.5 * log_variance).exp()


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

    The distances to all components come from two matrix products, which take (rows × components) values of memory
    instead of (rows × components × width). They subtract large terms, so they are computed in float64.

    Args:
        values: (n_rows, width).
        means, log_variances: (components, width).

    Returns:
        (n_rows,)
    """
    with torch.autocast(values.device.type, enabled=False):
        values, means, log_variances = values.double(), means.double(), log_variances.double()
        precisions = (-log_variances).exp()
        constant = (math.log(2.0 * math.pi) + log_variances + means.square() * precisions).sum(1)
        squares = values.square() @ precisions.T - 2.0 * values @ (means * precisions).T
        return torch.logsumexp(-0.5 * (squares + constant), 1) - math.log(len(means))


class VampPrior(nn.Module):
    """p(z) = 1/K Σ_k q(z|u_k) with learned pseudo-inputs u_k in 0..1 (Tomczak and Welling 2018, §2).

    A pseudo-input is a dense row over all items: there are K × items weights, and every step encodes all of them.
    """

    def __init__(self, n_pseudo_inputs: int, n_in: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        start = torch.empty(n_pseudo_inputs, n_in).normal_(0.05, 0.01, generator=generator)
        self.pseudo_inputs = nn.Parameter(start)

    def log_density(self, latent: Tensor, batch: Batch, encoder: PosteriorEncoder) -> Tensor:
        """Return log p(z) of each row of `latent`, (n_rows,)."""
        del batch
        return mixture_log_density(latent, *encoder.of_rows(self.pseudo_inputs.clamp(0.0, 1.0)))


class CompositePrior(nn.Module):
    """p(z|x) = Π_d 3/20 N(z_d; 0, 1) + 3/4 q_old(z_d|x) + 1/10 N(z_d; 0, e^10) (Shenbin et al. 2020).

    q_old is a copy of the encoder as it was at the last call of `remember`; it is saved, never trained. As in the
    authors' code, each latent dimension has its own mixture; the paper's formula mixes whole vectors.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.old = copy.deepcopy(encoder).requires_grad_(False)

    def remember(self, encoder: nn.Module) -> None:
        """Copy the current weights of `encoder` to the old encoder."""
        self.old.load_state_dict(encoder.state_dict())

    def log_density(self, latent: Tensor, batch: Batch, encoder: PosteriorEncoder) -> Tensor:
        """Return log p(z|x) of each row of `latent`, (n_rows,); the old posterior reads the input without dropout."""
        del encoder
        with torch.no_grad():
            mean, log_variance = self.old(batch)
        return composite_log_density(latent, mean, log_variance).sum(1)


def composite_log_density(values: Tensor, old_mean: Tensor, old_log_variance: Tensor) -> Tensor:
    """Return the log density of the composite prior's mixture for each element of `values`."""
    zero = torch.zeros_like(old_mean)
    parts = (
        gaussian_log_density(values, 0.0, zero),
        gaussian_log_density(values, old_mean, old_log_variance),
        gaussian_log_density(values, 0.0, zero + WIDE_LOG_VARIANCE),
    )
    weighted = [part + math.log(weight) for part, weight in zip(parts, COMPOSITE_WEIGHTS, strict=True)]
    return torch.logsumexp(torch.stack(weighted), 0)
