"""Weights of a network that was fitted before, for one that is to be fitted to newer data: other users, other items."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recsys.errors import ConfigError, DataError
from recsys.ids import IdMap
from recsys.models.base import Recommender

Places = dict[str, npt.NDArray[np.int64]]
"""For `items` and `users`: where each of the new model was in the earlier one, -1 where it was not."""


def places_of(model: Recommender, start: Recommender) -> Places:
    """Return where the users and items of a model that is being fitted were in an earlier one.

    Raises:
        DataError: one of the two knows its external ids and the other does not, or without ids there are others.
    """
    found: Places = {}
    for what in ("items", "users"):
        own, theirs = (getattr(one, f"{what}_") for one in (model, start))
        n, before = (getattr(one, f"n_{what}_") for one in (model, start))
        if own is None or theirs is None:
            if (own is None) != (theirs is None) or (what == "items" and n != before):
                raise DataError(
                    f"the model to start from has {before:,} {what} and the data have {n:,}, and without external ids "
                    "nothing says which is which; fit both to Interactions"
                )
            found[what] = np.where(np.arange(n) < before, np.arange(n), -1)
        else:
            found[what] = codes_in(theirs, own, n, what)
    return found


def codes_in(theirs: IdMap, own: IdMap, n: int, what: str) -> npt.NDArray[np.int64]:
    """Return the codes of ids in another map; -1 for all where the model has kept none."""
    return theirs.codes_of(own, what.removesuffix("s")).astype(np.int64) if len(own) == n else np.full(n, -1)


def take_weights(model: Any, network: nn.Module, start: Any) -> None:
    """Give a new network the weights of a fitted one, row by row where they belong to an item or to a user.

    What belongs to whom is seen in networks of one item more, and of one user more. Rows of items and users that the
    earlier model did not know stay as they are, and so does what is no parameter.

    Args:
        model: being fitted; it has its users, items and sizes.
        network: its network, new.
        start: fitted, of the same class.

    Raises:
        ConfigError: another class, or other hyperparameters of the network.
        DataError: nothing says which item is which, or none is known.
    """
    if type(start) is not type(model):
        raise ConfigError(
            f"a {type(model).__name__} starts from a {type(model).__name__}, not a {type(start).__name__}"
        )
    places = places_of(model, start)
    if not (places["items"] >= 0).any():
        raise DataError("the model to start from knows none of the items")
    shapes = {what: _shapes(model, what) for what in (None, "items", "users")}
    own, theirs = dict(network.named_parameters()), dict(start.network_.named_parameters())
    for name, tensor in own.items():
        axes = [_axis(shapes, name, axis) for axis in range(tensor.ndim)]
        earlier = theirs.get(name)
        there = () if earlier is None else tuple(earlier.shape)
        same = [axis is not None or tensor.shape[i] == there[i : i + 1][0] for i, axis in enumerate(axes[: len(there)])]
        if earlier is None or len(there) != tensor.ndim or not all(same):
            raise ConfigError(
                f"the model to start from has another network: {name} is {tuple(tensor.shape)} here and "
                f"{there or 'absent'} there; give it the same hyperparameters"
            )
        value = earlier.detach().to(tensor)
        into: list[torch.Tensor] = []
        for i, axis in enumerate(axes):
            place = np.arange(tensor.shape[i]) if axis is None else places[axis]
            known = np.flatnonzero(place >= 0)
            into.append(torch.from_numpy(known).to(tensor.device))
            value = value.index_select(i, torch.from_numpy(place[known]).to(tensor.device))
        with torch.no_grad():
            tensor[torch.meshgrid(*into, indexing="ij")] = value


def checksum(start: Any) -> str:
    """Return a SHA-256 of a fitted network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(start.network_.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return digest.hexdigest()


def _shapes(model: Any, more: str | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters of a network with one item or user more."""
    probe = copy.copy(model)
    if more is not None:
        setattr(probe, f"n_{more}_", getattr(probe, f"n_{more}_") + 1)
    with torch.device("meta"):
        network = probe._network(probe._n_in(), torch.Generator("cpu"))
    return {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}


def _axis(shapes: dict[str | None, dict[str, tuple[int, ...]]], name: str, axis: int) -> str | None:
    """Return whose rows lie along an axis of a parameter: `items`, `users`, or nobody's."""
    for what in ("items", "users"):
        if shapes[what][name][axis] != shapes[None][name][axis]:
            return what
    return None
