"""Deep AutoRec (Sedhain et al. 2015) and DeepRecommender with dense re-feeding (Kuchaiev and Ginsburg 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys import ranks
from recsys.errors import ConfigError
from recsys.models import spaces
from recsys.models.autorec import OVER_ITEMS, AutoRec
from recsys.models.least_squares import squared_error
from recsys.models.registry import register
from recsys.nn.layers import SIGMOID_GAIN, ActivationName, dropout
from recsys.nn.losses import masked_squared_error
from recsys.nn.networks import DeepNetwork
from recsys.params import Count, Natural, Rate, Widths
from recsys.sparse import Batch, DenseRows, Rows
from recsys.training import Alternation, Loss, Objective
from recsys.training.loop import Turn


@register
class DeepAutoRec(AutoRec):
    """Deep I-AutoRec: items' columns of ratings go through `hidden`, `latent` and `hidden` in reverse, all sigmoids.

    Sedhain et al. 2015, §3 (going deeper: 500, 250, 500, with greedy pre-training); the objective is that of eq. 3 with
    the penalty on the weights of all layers. Item i has the last hidden layer as its vector, so that new users fold in
    as in `IAutoRec`.

    For `pretrain_epochs` each pair of layers learns as if the deeper ones were not there: the outermost is I-AutoRec,
    the next rebuilds its hidden layer so that what the outer pair makes of it errs least, and so on; a pair moves
    nothing but itself, and `loss` sums over the depths. Then all layers learn together. Differs from the paper in: the
    pairs are pre-trained side by side, each on the current output of those around it, by the error of the ratings; Adam
    with a cosine schedule over both stages; predictions are clipped (`clip`).
    """

    search_space = spaces.DEEP_AUTOREC
    over_items = True
    capabilities = OVER_ITEMS

    hidden: Widths = (500,)
    """Widths of the layers between input and code; the decoder has them in reverse."""
    latent: Count = 250
    """Width of the code."""
    pretrain_epochs: Natural | None = None
    """How many of the `epochs` train each pair of layers by itself; None for half. `patience` counts them too."""

    def _check_params(self) -> None:
        super()._check_params()
        if self.pretrain_epochs is not None and self.pretrain_epochs >= self.epochs:
            left = f"must leave one of the {self.epochs} epochs for all layers together"
            raise ConfigError(f"pretrain_epochs {left}, got {self.pretrain_epochs}")

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        scale = self._scale()
        return DeepNetwork(n_in, self.hidden, self.latent, generator, activation="sigmoid", scale=scale)

    def _initialize(self, network: Any, rows: Rows) -> None:
        super()._initialize(network, rows)
        with torch.no_grad():  # smaller, the code tells almost nothing of the row, and the penalty makes it nothing
            for layer in (*network.encoder.layers, *network.decoder.layers):
                layer.weight.mul_(SIGMOID_GAIN)

    def _objective(self, network: Any, rows: Rows) -> Alternation:
        together = Turn(squared_error(network, self.unobserved_weight))
        greedy = Turn(greedy_squared_error(network, self.unobserved_weight))
        first = self.epochs // 2 if self.pretrain_epochs is None else self.pretrain_epochs
        return Alternation(lambda epoch: (greedy if epoch < first else together,))


def greedy_squared_error(network: Any, unobserved_weight: float) -> Objective:
    """Return the sum, over the depths of a network, of the error of what its layers down to there rebuild.

    Of the layers that rebuild at some depth only the innermost pair gets a gradient from that depth's error.
    """
    output, encoder, decoder = network.output, network.encoder.layers, network.decoder.layers

    def error(hidden: Tensor, batch: Batch, fixed: bool) -> Tensor:
        weight, bias = (output.weight.detach(), output.bias.detach()) if fixed else (output.weight, output.bias)
        return masked_squared_error(hidden, weight, bias, batch, unobserved_weight)

    def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
        hidden = network.activation(network.project(batch, noise))
        total = error(hidden, batch, fixed=False)
        for depth, layer in enumerate(encoder, 1):
            hidden = network.activation(layer(hidden.detach()))
            own, *outer = decoder[-depth:]
            back = network.activation(own(hidden))
            for fixed in outer:
                back = network.activation(F.linear(back, fixed.weight.detach(), fixed.bias.detach()))
            total = total + error(back, batch, fixed=True)
        return Loss(total, len(batch.columns))

    return objective


@register
class DeepRecommender(AutoRec):
    """A deep autoencoder of users' rows that is fed its own output again.

    After each step on the stored ratings of a batch, f(x) is itself a row, and a dense one: `refeeds` further steps
    minimize ‖f(x) − f(f(x))‖², since a perfect f leaves its own output alone (Kuchaiev and Ginsburg 2017, §2.3). Both
    losses count per entry, as theirs (eq. 1): the second is a mean over all entries times the number of stored ones.
    SELU in all layers but the affine output, `dropout` on the code. Serves any user from their history.

    An epoch costs 6 · users · items · hidden[0] for each re-feeding, whatever is stored; `refeeds=0` costs in
    proportion to the stored entries alone.

    Differs from the paper in: Adam with a cosine schedule in place of SGD with momentum; `weight_decay`, which is
    AutoRec's λ here and 0 in the authors' code; narrower layers by default (512, 512 and 1024 in the paper); ratings
    are centered (`center`), predictions clipped (`clip`).
    """

    search_space = spaces.DEEP_RECOMMENDER

    def _copies(self) -> int:
        return 1  # the gradient of a pass over dense rows

    hidden: Widths = (512,)
    """Widths of the layers between input and code; the decoder has them in reverse."""
    latent: Count = 512
    """Width of the code."""
    activation: ActivationName = "selu"
    """Activation function of every layer but the last."""
    dropout: Rate = 0.8
    """Share of the code hidden from the decoder in training."""
    refeeds: Natural = 1
    """Steps on the network's own output after each step on ratings."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        scale = self._scale()
        return DeepNetwork(n_in, self.hidden, self.latent, generator, activation=self.activation, scale=scale)

    def _objective(self, network: Any, rows: Rows) -> Objective | Alternation:
        output, fed = network.output, torch.empty(0)

        def decoded(code: Tensor, noise: torch.Generator) -> Tensor:
            hidden: Tensor = network.decode(dropout(code, self.dropout, noise))
            return hidden.to(output.weight.dtype)

        def observed(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            nonlocal fed
            hidden = decoded(network.encode(batch), noise)
            if self.refeeds:
                fed = output(hidden.detach()).detach()
            total = masked_squared_error(hidden, output.weight, output.bias, batch, self.unobserved_weight)
            return Loss(total, len(batch.columns))

        def refed(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            nonlocal fed
            code = network.encode(DenseRows(fed))
            again = output(decoded(code, noise))
            stored, all_entries = ranks.totals([len(batch.columns), fed.numel()])
            total = (again - fed).square().sum() * (stored / max(1.0, all_entries))
            fed = again.detach()
            return Loss(total, len(batch.columns), {"refed": total})

        turns = (Turn(observed), *[Turn(refed)] * self.refeeds)
        return Alternation(lambda epoch: turns)
