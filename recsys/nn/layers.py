"""Layers for sparse rows, at a cost of stored entries × width, and the random draws of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.paths import whole_values
from recsys.nn.products import affine, row_sums, weighted_rows
from recsys.sparse import Batch, DenseRows


def sigmoid(values: Tensor) -> Tensor:
    """Return σ(values).

    torch's own sigmoid, swish, SELU and gated unit compute the last few values of a block, and of each thread's share
    of it, in another way. In scoring they are made of functions that do not, so that no list depends on the block.
    """
    if not torch.is_inference_mode_enabled():
        return torch.sigmoid(values)
    return 1.0 / (1.0 + torch.exp(-values))


def swish(values: Tensor) -> Tensor:
    """Return values ⊙ σ(values)."""
    return values * sigmoid(values) if torch.is_inference_mode_enabled() else F.silu(values)


def selu(values: Tensor) -> Tensor:
    """Return the scaled exponential linear unit of Klambauer et al. (2017)."""
    if not torch.is_inference_mode_enabled():
        return F.selu(values)
    return 1.0507009873554805 * torch.where(values > 0.0, values, 1.6732632423543772 * torch.expm1(values))


def gated(values: Tensor) -> Tensor:
    """Return the first half of the columns, each times σ of its column in the second half."""
    if not torch.is_inference_mode_enabled():
        return F.glu(values, 1)
    own, gates = values.chunk(2, 1)
    return own * sigmoid(gates)


ActivationName = Literal["tanh", "sigmoid", "relu", "selu", "swish", "identity"]
ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "tanh": torch.tanh,
    "sigmoid": sigmoid,
    "relu": torch.relu,
    "selu": selu,
    "swish": swish,
    "identity": lambda values: values,
}
assert tuple(ACTIVATIONS) == get_args(ActivationName)
SIGMOID_GAIN: Final = 4.0
"""Factor for Xavier weights between sigmoid layers: at 0 a sigmoid has a quarter of the slope of tanh."""


class Layer(nn.Module):
    """A module that maps to one tensor."""

    __call__: Callable[..., Tensor]


class SparseLinear(Layer):
    """Affine layer over sparse rows: `x @ weight + bias` as a gather and sum over the stored entries.

    The forward pass and the gradient of `weight` each cost stored entries × `n_out`.
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, n_out, generator))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, batch: Batch | DenseRows, values: Tensor | None = None) -> Tensor:
        """Return (len(batch), n_out); `values` replaces the stored values, for instance after dropout."""
        return weighted_rows(self.weight, batch, batch.values if values is None else values) + self.bias


class Output(Layer):
    """The last affine layer: `weight` (n_out, n_in) and `bias` (n_out,), which the losses and ranking read directly."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_in, n_out, generator).T.contiguous())
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (n_rows, n_out)."""
        return F.linear(hidden, self.weight, self.bias)


class Linear(nn.Linear):
    """torch's dense layer, but in scoring a row has the same bits whatever rows stand beside it (`affine`)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (n_rows, n_out)."""
        return affine(input, self.weight, self.bias) if torch.is_inference_mode_enabled() else super().forward(input)


def linear(n_in: int, n_out: int, generator: torch.Generator) -> Linear:
    """Return a dense layer with Xavier weights drawn from `generator` and zero bias."""
    layer = Linear(n_in, n_out, device="meta")  # no draw from the global generator
    layer.weight = nn.Parameter(xavier(n_in, n_out, generator).T.contiguous())
    layer.bias = nn.Parameter(torch.zeros(n_out))
    return layer


def xavier(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    """Draw (n_in, n_out) weights uniformly within ± sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010, eq. 16)."""
    bound = (6.0 / (n_in + n_out)) ** 0.5
    return torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator)


Scale = Callable[[Batch | DenseRows], Tensor]
"""Gives the values that a first layer reads in place of the stored values."""


def as_stored(batch: Batch | DenseRows) -> Tensor:
    """Return the stored values themselves."""
    return batch.values


def l2_normalized(batch: Batch | DenseRows, floor: float | Tensor = 1e-12) -> Tensor:
    """Return the stored values, each row divided by its Euclidean length, or by `floor` if the row is shorter."""
    least = floor**2
    if isinstance(batch, DenseRows):
        return batch.values * batch.values.square().sum(1, keepdim=True).clamp_min(least).rsqrt()
    squares = row_sums(batch, whole_values(batch).square())
    return batch.values * squares.clamp_min(least).rsqrt()[batch.segments]


class TypicalLength(nn.Module):
    """Scales every row to one Euclidean length, that of a typical training row (`length`; set it before training).

    The pre-activations of long rows are many times those of short rows, so no initial weights and no penalty suit both.
    At unit length all of them would be small compared with what the penalty was chosen for. Rows shorter than a
    thousandth of `length` stay shorter: after biases are subtracted from ratings, such a row may be rounding error.
    """

    length: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("length", torch.ones(()))

    def forward(self, batch: Batch | DenseRows) -> Tensor:
        """Return the values that replace the stored values."""
        return l2_normalized(batch, 1e-3 * self.length) * self.length


def dropout(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero each value with probability `rate` and scale the others by 1 / (1 - rate); without a generator, do nothing.

    This equals dropout on the dense row, as unstored entries are zero either way.
    """
    if generator is None or rate == 0.0:
        return values
    keep = torch.rand(values.shape, generator=generator, device=values.device) >= rate
    return values * keep / (1.0 - rate)


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise of mean 0 and standard deviation 1 with the shape, type and device of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def standard_gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise of the standard Gumbel distribution, −log E with E ~ Exp(1), as `standard_normal` does."""
    return -torch.empty_like(like).exponential_(generator=generator).log()
