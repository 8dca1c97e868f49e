"""Layers whose cost follows the stored entries, and the random draws that training needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.products import weighted_rows
from recsys.sparse import Batch, DenseRows

ActivationName = Literal["tanh", "sigmoid", "relu", "selu", "swish", "identity"]
ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "selu": F.selu,
    "swish": F.silu,
    "identity": lambda values: values,
}
assert tuple(ACTIVATIONS) == get_args(ActivationName)
SIGMOID_GAIN: Final = 4.0
"""Factor of Xavier weights between sigmoid layers: a sigmoid's slope at 0 is a quarter of the tangent's."""


class SparseLinear(nn.Module):
    """Affine layer over sparse rows: `x @ weight + bias` as a gather and sum over the stored entries.

    Cost of the forward and of the gradient of `weight`: stored entries × `n_out`.
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, n_out, generator))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, batch: Batch | DenseRows, values: Tensor | None = None) -> Tensor:
        """Return (len(batch), n_out); `values` replaces the stored ones, for instance after dropout."""
        return weighted_rows(self.weight, batch, batch.values if values is None else values) + self.bias


class Output(nn.Module):
    """The last affine layer, held as `weight` (n_out, n_in) and `bias` (n_out,): ranking and the losses read both."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, n_out, generator).T.contiguous())
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the dense product (n_rows, n_out)."""
        return F.linear(hidden, self.weight, self.bias)


def linear(n_in: int, n_out: int, generator: torch.Generator | None = None) -> nn.Linear:
    """Return a dense layer with Xavier weights drawn from `generator` and zero bias."""
    layer = nn.Linear(n_in, n_out, device="meta")  # no draw from the global generator
    layer.weight = nn.Parameter(xavier(n_in, n_out, generator).T.contiguous())
    layer.bias = nn.Parameter(torch.zeros(n_out))
    return layer


def xavier(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw (n_in, n_out) weights uniformly within ± sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010, eq. 16)."""
    bound = (6.0 / (n_in + n_out)) ** 0.5
    return torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator)


Scale = Callable[[Batch | DenseRows], Tensor]
"""What a first layer reads of rows: values in the place of the stored ones."""


def as_stored(batch: Batch | DenseRows) -> Tensor:
    """Return the stored values themselves."""
    return batch.values


def l2_normalised(batch: Batch | DenseRows, floor: float | Tensor = 1e-12) -> Tensor:
    """Return the stored values, each row divided by its Euclidean length, or by `floor` where that is more.

    Rows of zeros stay zero.
    """
    least = floor**2
    if isinstance(batch, DenseRows):
        return batch.values * batch.values.square().sum(1, keepdim=True).clamp_min(least).rsqrt()
    squares = torch.zeros(len(batch), dtype=batch.values.dtype, device=batch.values.device)
    squares.index_add_(0, batch.segments, batch.values.square())
    return batch.values * squares.clamp_min(least).rsqrt()[batch.segments]


class TypicalLength(nn.Module):
    """Rows brought to one Euclidean length, that of a typical training row (`length`, to be set before training).

    The pre-activations of a long row are many times those of a short one, so that no initial weights and no penalty
    suit both; at unit length they would all be small beside what the penalty was chosen for. Rows shorter than a
    thousandth of `length` stay shorter: what is left of a rating less its biases may be rounding and nothing else.
    """

    length: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("length", torch.ones(()))

    def forward(self, batch: Batch | DenseRows) -> Tensor:
        """Return the values that take the place of the stored ones."""
        return l2_normalised(batch, 1e-3 * self.length) * self.length


def dropout(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero each value with probability `rate` and scale the others by 1 / (1 - rate); no generator, no change.

    Equal to dropping entries of the dense row, since unstored entries are zero either way.
    """
    if generator is None or rate == 0.0:
        return values
    keep = torch.rand(values.shape, generator=generator, device=values.device) >= rate
    return values * keep / (1.0 - rate)


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise of mean 0 and standard deviation 1 in the shape of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
