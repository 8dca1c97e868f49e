"""Tables of items that lean on features while a network is trained: the row of item i is v_i + f_i W.

f_i are the features of the item, W is learned with the network and shared by all items, so that items of few entries
borrow from those of like features, and an item that nobody has met has the vector f W. The input table, the output
table and the output biases each have a W of their own, zeros at first. Items that training has no entries of have no
v_i, and take no part in the softmax: as answers that are never right they would teach what their features are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recsys.nn.products import weighted_rows
from recsys.sparse import Batch, Rows

_NEVER = -1e4
"""Logit that is nothing in a softmax, and finite in every precision."""


class _Leaning(nn.Module):
    """Gives a table, or the biases, of items as v + F W."""

    trained: Tensor

    def __init__(self, features: Rows, trained: Tensor, width: int | None) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(features.n_columns, 1 if width is None else width))
        self.width = width
        self.register_buffer("trained", trained, persistent=False)
        self.features = features
        self._rows: Batch | None = None

    def forward(self, own: Tensor) -> Tensor:
        """Return what the network reads in place of the table or the biases `own`."""
        if self._rows is None or self._rows.values.device != own.device:
            rows = Rows(self.features.matrix, own.device)
            self._rows = rows.slice(0, len(rows))
        lent = weighted_rows(self.shared, self._rows, self._rows.values)
        if self.width is not None:
            return torch.where(self.trained[:, None], own, 0.0) + lent
        if self.training:
            return torch.where(self.trained, own + lent[:, 0], _NEVER)
        return torch.where(self.trained, own, own[self.trained].mean()) + lent[:, 0]


def lean_on_features(network: Any, features: Rows, trained: Tensor) -> None:
    """Let the tables of items of a network lean on features.

    Args:
        network: with a `SparseLinear` as `input` and an `Output` as `output`.
        features: a row per item, (n_items, d), of length 1.
        trained: (n_items,) bool: whether training has entries of an item.
    """
    for layer, name in _places(network):
        table = getattr(layer, name)
        width = table.shape[1] if table.ndim > 1 else None
        parametrize.register_parametrization(layer, name, _Leaning(features, trained, width))


def is_leaning(network: Any) -> bool:
    """Return whether the tables of a network lean on features."""
    output = getattr(network, "output", None)
    return isinstance(output, nn.Module) and parametrize.is_parametrized(output, "weight")


def lent(network: Any) -> tuple[Tensor, Tensor]:
    """Return W of the output table, (d, width), and of the output biases, (d,)."""
    both = [getattr(network.output.parametrizations, name)[0].shared.detach() for name in ("weight", "bias")]
    return both[0].cpu().clone(), both[1][:, 0].cpu().clone()


def stand_alone(network: Any) -> None:
    """Let tables that lean on features hold what they give: the network is as one that never did."""
    with torch.no_grad():
        for layer, name in _places(network):
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)


def _places(network: Any) -> tuple[tuple[nn.Module, str], ...]:
    return (network.input, "weight"), (network.output, "weight"), (network.output, "bias")
