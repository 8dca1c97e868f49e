"""The uncertainty autoencoder (Grover and Ermon 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from recsys.models.autoencoder import Autoencoder, WholeRow
from recsys.models.params import Count, NotNegative, Widths
from recsys.models.registry import register
from recsys.nn.layers import standard_normal
from recsys.nn.networks import AcquisitionNetwork
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective

Acquisition = Literal["linear", "network"]


@register
class UAE(WholeRow, Autoencoder):
    """Uncertainty autoencoder: a few noisy measurements of a row, and a decoder that recovers the row from them.

    Grover and Ermon 2019. A row x is measured as y = f(x) + ε, ε ~ N(0, `noise`² I), with m = `latent` measurements.
    Acquisition f and decoder are trained together to maximize E log q(x|y), the decoder's log-likelihood, which plus
    the constant H(X) is a lower bound of the mutual information I(X; Y) (Barber and Agakov 2003). There is no prior on
    y. The acquisition is linear, as in compressed sensing, or a network; the decoder, with hidden layers of the widths
    `hidden` (none: linear), recovers a row in one pass.

    It ranks by the decoder's output for y = f(x), without noise. To recover rows, use `likelihood="gaussian"` (the
    output is the row) or `"bernoulli"` (its sigmoid is the probability of each entry). The row itself is measured, not
    divided by its length, so that the length can be recovered too.

    Without `weight_decay` the acquisition can grow until its noise no longer matters. Differs from the paper in: the
    acquisition has an offset, which carries no information about x; a multinomial likelihood by default, to rank.
    """

    acquisition: Acquisition = "linear"
    """`linear`: y is an affine function of the row; `network`: through the widths of `hidden` reversed."""
    hidden: Widths = (600,)
    """Widths of the decoder's hidden layers, from the row's side inwards; none: a linear decoder."""
    latent: Count = 200
    """Number of measurements m."""
    noise: NotNegative = 0.1
    """Standard deviation σ of the measurements' noise in training."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        acquisition = self.hidden if self.acquisition == "network" else ()
        return AcquisitionNetwork(n_in, acquisition, self.latent, self.hidden, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        nll, output = self._likelihood(), network.output

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            measured = network.encode(batch)
            measured = measured + self.noise * standard_normal(measured, noise)
            return Loss(nll(network.decode(measured), output.weight, output.bias, batch), len(batch))

        return objective
