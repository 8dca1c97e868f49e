"""Split and models that suit a table nobody has measured yet, by its size alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from recsys.config import SplitConfig
from recsys.errors import DataError, DataWarning
from recsys.interactions import Interactions
from recsys.splits import Split

_LEAST_TEST_USERS: Final = 30
"""Users with something to find that a validation and a test part should have."""
_MOST_ITEMS_DENSE: Final = 12_000
"""Up to here a model of items × items is computed as a whole: its time grows with the cube."""
_LARGE: Final = 5_000_000
"""Interactions from which an epoch takes minutes."""


class Suited(NamedTuple):
    """A section of a configuration, and why it suits."""

    section: dict[str, Any]
    reason: str


def suited_split(data: Interactions) -> Suited:
    """Return the first split that leaves enough users to measure: by time, by users, else by entries.

    Raises:
        DataError: there is too little for any.
    """
    why = "not measured by time, since nothing is known of when"
    if data.timestamps is not None:
        split = _tried({"kind": "by_time"}, data)
        if split is not None and _enough(split) and _known_share(split) > 0.3:
            return Suited(
                {"kind": "by_time"}, "the latest tenth of the interactions is the test, the tenth before chooses"
            )
        why = "not measured by time, since hardly anybody comes back in the latest tenth"
    many = int((np.diff(data.matrix.indptr) >= 5).sum())
    if many >= 10 * _LEAST_TEST_USERS:
        section = {"kind": "hold_out_users", "n_users": 0.1, "stable": True}
        if (split := _tried(section, data)) is not None and _enough(split):
            return Suited(section, f"a tenth of the users is the test, whom training never sees; {why}")
    share = 0.1 if data.nnz >= 2_000 else 0.2
    section = {"kind": "hold_out_ratings", "test": share, "validation": share}
    if _tried(section, data) is None:
        raise DataError(f"{data} holds too little to hold any of it out; expected some dozens of interactions")
    return Suited(section, f"{share:.0%} of the interactions are the test, drawn at random; {why}")


def _tried(section: Mapping[str, Any], data: Interactions) -> Split | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            return SplitConfig.model_validate(dict(section)).split(data)
    except DataError:
        return None


def _enough(split: Split) -> bool:
    return all(
        part is not None and np.count_nonzero(np.diff(part.target.indptr)) >= _LEAST_TEST_USERS
        for part in (split.validation, split.test)
    )


def _known_share(split: Split) -> float:
    """Return the share of the users with something to find of whom a history is known."""
    asked = np.diff(split.test.target.indptr) > 0
    return float((np.diff(split.test.context.indptr)[asked] > 0).mean())


def suited_models(data: Interactions, features: Mapping[str, str]) -> list[Suited]:
    """Return models that suit the size, the one to begin with first, without Popularity, which each must beat.

    Args:
        features: columns of the items by kind, for a model that recommends new items too.
    """
    n_items = data.shape[1]
    per_item = data.nnz / max(1, n_items)
    found = []
    if n_items <= _MOST_ITEMS_DENSE:
        strength = _round(min(1000.0, max(10.0, 3 * per_item)))
        linear = Suited({"name": "EASE", "regularization": strength}, "linear, one solution, hard to beat at this size")
    else:
        linear = Suited({"name": "SANSA"}, f"linear and sparse, for {n_items:,} items")
    if features:
        section = {"name": "WithFeatures", "model": linear.section, "columns": dict(features)}
        linear = Suited(section, f"{linear.section['name']}, and items that nobody has met yet by their features")
    found.append(linear)
    if data.nnz < 2_000:
        return [*found, Suited({"name": "ItemKNN"}, "neighbors, for a small table")]
    found.append(Suited(_network(data), "an autoencoder; stops when the validation part no longer gains"))
    factors = 32 if data.nnz < 200_000 else 64
    found.append(Suited({"name": "ALS", "factors": factors, "regularization": 10.0, "alpha": 5.0}, "factors"))
    return found


def _network(data: Interactions) -> dict[str, Any]:
    """Return Mult-VAE with a width and epochs that suit the size."""
    n_users, n_items = data.shape
    batch = int(min(500, max(50, 10 * round(n_users / 200))))
    small = data.nnz < 300_000
    section: dict[str, Any] = {"name": "MultVAE", "hidden": 200 if small else 600, "latent": 64 if small else 200}
    section |= {"epochs": 20 if data.nnz > _LARGE else 60, "batch_size": batch}
    # A network is not given up before it had some 110 steps without a gain.
    section["patience"] = max(5, -(-110 // max(1, int(0.8 * n_users / batch))))
    return section | ({"negatives": 1024} if n_items > 50_000 else {})


def _round(number: float) -> float:
    """Return a number with one digit that counts."""
    size = 10 ** np.floor(np.log10(number))
    return float(round(number / size) * size)
