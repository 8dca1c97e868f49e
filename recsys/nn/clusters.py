"""An autoencoder's network that keeps centers of clusters beside it (Yang et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys import ranks
from recsys.nn.layers import ActivationName
from recsys.nn.networks import DeepNetwork


class ClusteringNetwork(DeepNetwork):
    """A deep network with the centers of clusters of its codes; they are saved, and no gradient moves them."""

    centers: Tensor
    """m_k, (clusters, latent)."""
    counts: Tensor
    """c_k, (clusters,): how many codes a center is the mean of; 0: it is none, and nothing is assigned to it."""
    joint: Tensor
    """Scalar: 1 once the centers are part of the loss, 0 before."""

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        latent: int,
        clusters: int,
        generator: torch.Generator,
        *,
        activation: ActivationName,
    ) -> None:
        super().__init__(n_in, hidden, latent, generator, activation=activation)
        self.register_buffer("centers", torch.zeros(clusters, latent))
        self.register_buffer("counts", torch.zeros(clusters))
        self.register_buffer("joint", torch.zeros(()))

    def nearest(self, codes: Tensor) -> Tensor:
        """Return the center nearest to each code, (n,) int64; of equal ones the first."""
        with torch.no_grad():
            codes, centers = codes.to(self.centers.dtype), self.centers
            # ‖code‖² is the same for all centers.
            distances = centers.square().sum(1) - 2.0 * codes @ centers.T
            return distances.masked_fill(self.counts == 0, torch.inf).argmin(1)

    def begin(self, centers: Tensor, counts: Tensor) -> None:
        """Take the first centers, each the mean of so many codes; there may be fewer than places for them."""
        self.centers.zero_()[: len(centers)] = centers
        self.counts.zero_()[: len(counts)] = counts

    def follow(self, codes: Tensor, assigned: Tensor, counted: Tensor) -> None:
        """Move each center toward the codes (n, latent) assigned to it, as far as keeps it a running mean.

        m_k ← m_k + Σ_i (code_i − m_k) / c_k over its codes, c_k counted with them: what Yang et al. (2017, §4.2) do for
        one code after another, at an assignment that stays the same within the batch. Codes whose `counted` ((n,), else
        1) is 0 move nothing.
        """
        with torch.no_grad():
            codes = codes.detach().to(self.centers.dtype)
            counted = counted.to(self.counts.dtype)
            added = torch.zeros_like(self.counts).index_add_(0, assigned, counted)
            sums = torch.zeros_like(self.centers).index_add_(0, assigned, codes * counted[:, None])
            ranks.add_up([added, sums])
            self.counts.add_(added)
            self.centers.add_((sums - added[:, None] * self.centers) / self.counts.clamp_min(1.0)[:, None])
