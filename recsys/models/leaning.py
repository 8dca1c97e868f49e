"""Networks whose tables of items lean on features in training: see `nn.item_features` and `WithFeatures`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.errors import BundleError, ConfigError
from recsys.models.base import Recommender
from recsys.models.registry import MODELS
from recsys.models.stored import Stored
from recsys.nn.item_features import is_leaning, lean_on_features, lent, stand_alone
from recsys.sparse import Rows

PREFIX = "lent."


class Lent(NamedTuple):
    """What features give to items: W of the output table and of the output biases."""

    weight: Tensor
    """(n_features, width)."""
    bias: Tensor
    """(n_features,)."""


class Support(NamedTuple):
    """What a network is to lean on."""

    features: sp.csr_matrix
    """(n_items, n_features) float32, rows of length 1."""
    trained: npt.NDArray[np.bool_]
    """(n_items,) whether training has entries of an item."""


def check(model: Recommender) -> None:
    """Refuse a model that cannot lean on features in training; ConfigError."""
    can = [name for name, cls in MODELS.items() if getattr(cls, "leans", False)]
    if not getattr(model, "leans", False):
        raise ConfigError(
            f"in_training: {type(model).__name__} has no tables of items that can lean on features; use one of "
            f"{', '.join(can)}, or leave it out"
        )
    if hasattr(model, "n_items_"):
        raise ConfigError(f"in_training: this {type(model).__name__} is fitted already; give one that is not")
    if getattr(model, "negatives", None) is not None:
        raise ConfigError(
            "in_training: with negatives, tables of items move in a few rows of each step; leave out one of the two"
        )


def require_memory(model: Any, support: Support) -> None:
    """Refuse what is not free for the weights of features, beside what a fit of the network takes; DataError."""
    with torch.device("meta"):
        network = model._network(support.features.shape[0], torch.Generator("cpu"))
    widths = network.input.weight.shape[1] + network.output.weight.shape[1] + 1
    n_items, n_features = support.features.shape
    # Weights, best weights, gradients and moments of W; the tables as they are read, what features lend, and gradients.
    bytes_ = 4.0 * widths * (5 * n_features + 3 * n_items)
    what = f"{type(model).__name__} that leans on {n_features:,} features of {n_items:,} items needs, beside its own,"
    memory.require(bytes_, what, "raise min_count, name fewer columns, or leave out in_training")


def begin(network: Any, support: Support | None) -> None:
    """Let a new network lean on features, where it has any."""
    if support is not None:
        lean_on_features(network, Rows(support.features), torch.from_numpy(support.trained))


def end(model: Any, network: Any) -> None:
    """Keep what features lend, and let the network stand alone, once it is trained."""
    if is_leaning(network):
        model.lent_ = Lent(*lent(network))
        stand_alone(network)


def identity(support: Support | None) -> dict[str, int]:
    """Return what tells a training apart from one with other features, for its checkpoint."""
    return {} if support is None else {"features": Rows(support.features).checksum()}


def lent_by(model: Any) -> Lent | None:
    """Return what features lend to the items of a network, perhaps in training; None for any other model."""
    network = getattr(model, "network_", None)
    if network is not None and is_leaning(network):
        return Lent(*lent(network))
    found: Lent | None = getattr(model, "lent_", None)
    return found


def arrays_of(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Return what features lend, for the bundle."""
    found: Lent | None = getattr(model, "lent_", None)
    return {} if found is None else {f"{PREFIX}{name}": tensor.numpy() for name, tensor in found._asdict().items()}


def restore(model: Any, arrays: Stored) -> None:
    """Set what `arrays_of` gave, checked."""
    if f"{PREFIX}weight" not in arrays:
        return
    if not getattr(model, "leans", False):
        raise BundleError(f"a {type(model).__name__} does not lean on features")
    weight = arrays.array(f"{PREFIX}weight", (None, model.network_.output.weight.shape[1]))
    bias = arrays.array(f"{PREFIX}bias", (len(weight),))
    model.lent_ = Lent(torch.from_numpy(weight), torch.from_numpy(bias))
