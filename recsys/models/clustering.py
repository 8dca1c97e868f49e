"""Deep clustering: an autoencoder whose codes are drawn to the centers of clusters while it learns them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from recsys.models import spaces
from recsys.models.autoencoder import encode_rows
from recsys.models.registry import register
from recsys.models.regularized import BottleneckAE
from recsys.nn.clusters import ClusteringNetwork
from recsys.params import Count, NotNegative, Rate, seed_of_32_bits
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Turn

STARTS = 4
"""Runs of k-means from other draws of k-means++, of which the best gives the first centers."""


@register
class ClusteringAE(BottleneckAE):
    """Deep clustering network, for ranking and segments: users' codes and the clusters of them are learned together.

    Minimizes, per user, −log p(x|z) + `clustering`/2 · ‖z − m_s‖², z the code of the row and m_s the nearest of
    `clusters` centers (Yang, Fu, Sidiropoulos and Hong 2017, §3.2). Network and centers take turns on every batch
    (§4.2): with the centers fixed, a step on the loss; then each code is assigned to the nearest center, and a center
    moves to the running mean of its codes. The first `pretraining_share` of the epochs train the autoencoder alone;
    k-means on its codes gives the first centers (§4.1).

    Differs from the paper in: −log p(x|z) is the `likelihood` of whole rows in place of the squared error; the whole
    network is pre-trained at once, not layer by layer; codes are assigned before the step on the batch, and the centers
    follow a batch at once; c_k, the number of codes that a center is the mean of, is halved as an epoch begins, so that
    codes of earlier weights are forgotten (there it only grows); users without entries belong to no cluster and move
    none; k-means counts all other users alike, also under `user_weights`. Encoder and decoder weights are not tied: a
    small code with a large decoder would evade the penalty, so keep `weight_decay` above 0. A center that no code is
    nearest to stays where it is.
    """

    search_space = spaces.CLUSTERING

    clusters: Count = 8
    """Number of centers; with fewer users who have entries, that many."""
    clustering: NotNegative = 10.0
    """λ, the weight of the squared distance to the center; 0: clusters of the codes of a plain autoencoder."""
    pretraining_share: Rate = 0.3
    """Share of the epochs that train the autoencoder alone."""

    def _pretraining_epochs(self) -> int:
        return int(self.pretraining_share * self.epochs)

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        shape = n_in, self.hidden, self.latent, self.clusters
        return ClusteringNetwork(*shape, generator, activation=self.activation)

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        likelihood, first = self._likelihood(), self._pretraining_epochs()
        steps_per_epoch = self._steps_per_epoch(rows)

        def alone(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            output = network.output
            return Loss(
                likelihood(network.decode(network.encode(batch)), output.weight, output.bias, batch), len(batch)
            )

        def joint(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            epoch, position = divmod(step, steps_per_epoch)
            if position == 0 and epoch == first:
                self._begin(network, rows)
                network.joint.fill_(1.0)
            elif position == 0:
                network.counts.mul_(0.5)
            code, output = network.encode(batch), network.output
            nll = likelihood(network.decode(code), output.weight, output.bias, batch)
            has = (batch.offsets.diff() > 0).to(code.dtype)  # a mask would make the host wait for a GPU
            assigned = network.nearest(code)
            penalty = 0.5 * self.clustering * (code - network.centers[assigned]).square().sum(1).dot(has)
            network.follow(code, assigned, has)
            return Loss(nll + penalty, len(batch), {"nll": nll, "clustering": penalty})

        pretraining, clustering = Turn(alone), Turn(joint)
        return Alternation(lambda epoch: (pretraining if epoch < first else clustering,))

    def _begin(self, network: Any, rows: Rows) -> None:
        """Give the network the centers that k-means finds in the codes of the training users."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        codes = encode_rows(network.encode, rows).float().cpu().numpy()[self.user_counts_ > 0]
        seed = seed_of_32_bits(self.seed if isinstance(self.seed, int) else 0)
        found = KMeans(min(self.clusters, len(codes)), n_init=STARTS, random_state=seed)
        # Threads would add up the codes in an order that is not the same each time.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # codes of few users may be equal
            found.fit(codes)
        network.begin(torch.from_numpy(found.cluster_centers_), torch.from_numpy(np.bincount(found.labels_)))

    def _refresh(self, rows: Rows) -> None:
        if not self.network_.joint:  # weights of the pre-training were kept: they have no centers yet
            self._begin(self.network_, rows)

    @property
    def centers(self) -> npt.NDArray[np.float32]:
        """The centers of the clusters, (clusters, latent)."""
        self._check_fitted()
        centers: Tensor = self.network_.centers
        return centers.cpu().numpy()

    def cluster(self, user_items: Any) -> npt.NDArray[np.int64]:
        """Return the cluster of each history, (n_rows,): that of the nearest center, -1 for an empty history.

        Args:
            user_items: histories, as in `encode`.
        """
        self._check_fitted()
        histories = self._matrix(user_items)
        with torch.inference_mode():
            nearest: Tensor = self.network_.nearest(self._encode(histories))
        return np.where(np.diff(histories.indptr) > 0, nearest.cpu().numpy(), -1)
