"""SparseFC (Muller, Martel and Indiveri 2018) and GLocal-K (Han et al. 2021): I-AutoRec with kernelized weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import nn

from recsys.grid import Grid
from recsys.models import spaces
from recsys.models.autoencoder import encode_rows
from recsys.models.autorec import OVER_ITEMS, AutoRec
from recsys.models.registry import register
from recsys.nn.kernelized import GlobalKernelNetwork, KernelNetwork
from recsys.nn.losses import masked_squared_error
from recsys.params import Count, Natural, NotNegative, Widths
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Objective
from recsys.training.loop import Turn


@dataclass(kw_only=True, eq=False)
class Kernelized:
    """Base of SparseFC and GLocal-K: the local kernels' widths, and the objective with both penalties."""

    def _copies(self) -> int:
        return 2  # W ∘ K and its gradient

    hidden: Annotated[Widths, MinLen(1)] = (500, 500)
    """Widths of the hidden layers; the last is that of the item vectors."""
    dim: Count = 5
    """Length of the vectors u and v."""
    weight_decay: NotNegative = 120.0
    """λ of λ/2 · Σ W² over all layers, on the scale of the squared error summed over all training ratings."""
    kernel_decay: NotNegative = 0.026
    """κ of κ/2 · Σ K² over all layers, on the same scale."""

    def _decay(self, rows: Rows) -> float:
        return 0.0  # the objective has the penalties: the vectors u and v carry none

    def _kernel_objective(self, network: Any, rows: Rows, unobserved_weight: float) -> Objective:
        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            layers = [kernel() for kernel in (*network.kernels, network.output.kernel)]
            *inner, outer = (layer.matrix for layer in layers)
            hidden = network.hidden(batch, inner)
            error = masked_squared_error(hidden, outer, network.output.bias, batch, unobserved_weight)
            weights = sum(layer.weight_squares for layer in layers)
            kernels = sum(layer.kernel_squares for layer in layers)
            penalty = 0.5 * (self.weight_decay * weights + self.kernel_decay * kernels)
            return Loss(error + penalty * (len(batch) / len(rows)), len(batch.columns), {"squared_error": error})

        return objective


@register
class SparseFC(Kernelized, AutoRec):  # type: ignore[misc]  # its weight decay is always a number
    """SparseFC (kernelNet): an item autoencoder whose weights are W ∘ K with K_ij = max(0, 1 − ‖u_i − v_j‖²).

    Objective: Σ over stored r of (r − h(r))² + λ/2 · Σ W² + κ/2 · Σ K² over all layers, λ = `weight_decay`,
    κ = `kernel_decay`. The second penalty moves units apart until the kernel cuts their connection, so that the layers
    become sparse. The authors' λ₂ = 60 and λ_s = 0.013 stand in half of this objective: λ = 120 and κ = 0.026 here.

    Muller, Martel and Indiveri 2018 (finite-support kernel of the collaborative filtering experiment) and the authors'
    code: two hidden layers of 500 sigmoids, an affine output, predictions clipped; new users fold in as in `IAutoRec`.
    Differs from the paper in: Adam with a cosine schedule in place of L-BFGS over the whole matrix. Each step makes the
    matrices W ∘ K once: users × hidden × (`dim` + 2).
    """

    over_items = True
    capabilities = OVER_ITEMS
    search_space = spaces.SPARSE_FC

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return KernelNetwork(n_in, self.hidden, self.dim, generator, scale=self._scale())

    def _objective(self, network: Any, rows: Rows) -> Objective:
        return self._kernel_objective(network, rows, self.unobserved_weight)


@register
class GLocalK(Kernelized, AutoRec):  # type: ignore[misc]  # its weight decay is always a number
    """GLocal-K: SparseFC with its local kernels, then a global kernel that lets neighbors in the grid be read too.

    For `pretrain_epochs` it is SparseFC. Then each item's mean reconstructed rating μ_i is pooled, the global kernel is
    the 3 × 3 combination Σ_i μ_i k_i of kernels k_i learned per item, and the same network goes on to learn the ratings
    from conv(R), the items × users matrix under the global kernel (Han et al. 2021, §3.2). The order of items and users
    matters therefore, unlike in any other model here: it is that of the external ids, where ids were given in order.

    conv(R) is never made: by linearity the kernel goes to the first layer's weights (`convolved_rows`), at the cost of
    three sparse products instead of one. As in `IAutoRec`, new users fold in.

    Differs from the paper and the authors' code in: the kernel is the unit kernel plus the mean, not the sum, of
    μ_i k_i with k_i from 0, so that fine-tuning starts from the pre-trained network (theirs starts from a random
    kernel that multiplies the ratings several times over); μ is that of the end of pre-training; no ReLU after the
    convolution; Adam with one cosine schedule over both stages in place of L-BFGS. The authors report the test error
    of their best epoch on the test part itself.
    """

    over_items = True
    capabilities = OVER_ITEMS
    search_space = spaces.SPARSE_FC

    rows_type = Grid

    def _copies(self) -> int:
        return 5  # W ∘ K moved by a column each way, too

    pretrain_epochs: Natural = 30
    """How many of the `epochs` train without the global kernel; the rest fine-tunes."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return GlobalKernelNetwork(n_in, self.n_items_, self.hidden, self.dim, generator, scale=self._scale())

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        turn = Turn(self._kernel_objective(network, rows, self.unobserved_weight))

        def turns(epoch: int) -> Sequence[Turn]:
            network.convolves = epoch >= self.pretrain_epochs
            if network.convolves and not network.pooled.any():  # a resumed run may have pooled before
                self._pool(network, rows)
            return (turn,)

        return Alternation(turns)

    def _pool(self, network: Any, rows: Rows) -> None:
        """Keep μ: each item's mean over all users of h(r), from the means of the output layer alone."""
        with torch.no_grad():
            codes, output = encode_rows(network.encode, rows), network.output
            network.pooled.copy_(codes @ output.weight.mean(0) + output.bias.mean())
