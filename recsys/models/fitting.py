"""What a fit needs besides the data: the caller's options, a device, a generator of weights, order and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from recsys import memory
from recsys.errors import DataError
from recsys.interactions import Interactions
from recsys.mapped import MappedMatrix
from recsys.models.selection import as_array
from recsys.sparse import as_csr


class Validates(Protocol):
    """Measures a model on held-out users after each epoch; `metric` names what chooses the weights to keep."""

    @property
    def metric(self) -> str:
        """Name of the metric that chooses."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""

    def __call__(self, model: Any) -> Mapping[str, float]:
        """Return the metrics of the model as it is now."""


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `Recommender.fit` besides the matrix, which says what each is."""

    show_progress: bool = False
    callback: Callable[[int, float, float | None], Any] | None = None
    validation: Validates | None = None
    on_epoch: Callable[[dict[str, float]], None] | None = None
    checkpoint: str | Path | None = None
    user_weights: npt.NDArray[np.float64] | None = None
    """Of mean 1; None where all count the same."""
    start: Any = None
    """A fitted model with whose weights training begins."""
    data: Interactions | None = None
    """What the matrix was taken from, if that was more than a matrix: it may have columns of items."""


def relative_weights(weights: npt.ArrayLike | None, n_users: int) -> npt.NDArray[np.float64] | None:
    """Return weights of users divided by their mean, (n_users,); None where all are the same.

    Raises:
        DataError: not one finite number above 0 per user.
    """
    if weights is None:
        return None
    given = as_array(weights, "user_weights")
    if given.shape != (n_users,) or given.dtype.kind not in "iuf":
        raise DataError(
            f"user_weights must be a number per row of user_items ({n_users}), got {given.dtype} of shape {given.shape}"
        )
    wrong = ~(np.isfinite(given) & (given > 0))
    if wrong.any():
        raise DataError(
            f"user_weights must be finite and above 0, got {given[wrong][0]} in row {int(wrong.argmax())}; "
            "leave users that should not count out of the matrix"
        )
    relative = given.astype(np.float64) / given.max()
    return None if (relative == 1.0).all() else relative / relative.mean()


def training_matrix(user_items: Any, *, on_disk: bool) -> Any:
    """Return a checked matrix to fit to: a `csr_matrix`, or the `MappedMatrix` that is given if it may stay on disk.

    Raises:
        DataError: as `as_csr`, or a matrix on disk does not fit in memory.
    """
    if not isinstance(user_items, MappedMatrix):
        return as_csr(user_items)
    if on_disk:
        return user_items
    what = f"{user_items.nnz:,} entries that this model takes in memory need"
    memory.require(
        8 * user_items.nnz, what, "use a network over users' rows, such as MultVAE, which reads them from disk"
    )
    return as_csr(user_items.to_csr())


def new_generator(seed: int | np.random.Generator | None, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on that device from a seed, from a numpy generator, or from fresh entropy."""
    return torch.Generator(device).manual_seed(int(np.random.default_rng(seed).integers(2**62)))
