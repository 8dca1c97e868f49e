"""Kernel weights: local kernels between units (Muller et al. 2018), a global kernel over a grid (Han et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.devices import is_apart
from recsys.grid import Window
from recsys.nn.layers import SIGMOID_GAIN, Scale, as_stored, xavier
from recsys.nn.networks import Autoencoding
from recsys.nn.products import accumulate_grad, weighted_rows
from recsys.sparse import Batch


class KernelizedWeight(NamedTuple):
    """The effective weights W ∘ K of a layer, (n_rows, n_columns), and the sums Σ W² and Σ K² that penalties need."""

    matrix: Tensor
    weight_squares: Tensor
    kernel_squares: Tensor


class KernelWeight(nn.Module):
    """Weights W ∘ K with K_ij = max(0, 1 − ‖u_i − v_j‖²), a vector u_i per row and v_j per column.

    This is the finite-support kernel of Muller, Martel and Indiveri (2018): units that are far apart are not connected.
    As in their code, the vectors start within about 0.001 of each other, so K starts near 1. All squared distances
    come from one product of width `dim` + 2, without an array of (n_rows, n_columns, dim).
    """

    __call__: Callable[..., KernelizedWeight]

    def __init__(self, n_rows: int, n_columns: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier(n_rows, n_columns, generator))
        self.row_vectors = nn.Parameter(torch.empty(n_rows, dim).normal_(0.0, 1e-3, generator=generator))
        self.column_vectors = nn.Parameter(torch.empty(n_columns, dim).normal_(0.0, 1e-3, generator=generator))

    def forward(self) -> KernelizedWeight:
        """Compute the current weights and their sums of squares; call this once per step."""
        u, v = self.row_vectors.T, self.column_vectors.T
        of_u, of_v = u.square().sum(0, keepdim=True), v.square().sum(0, keepdim=True)
        # 1 − ‖u − v‖² = (2u, 1 − ‖u‖², 1) · (v, 1, −‖v‖²)
        left = torch.cat([2 * u, 1 - of_u, torch.ones_like(of_u)])
        right = torch.cat([v, torch.ones_like(of_v), -of_v])
        return KernelizedWeight(*_Kernelize.apply(self.weight, left, right))  # type: ignore[no-untyped-call]


class KernelOutput(nn.Module):
    """An output layer with weights W ∘ K; `weight` recomputes them each time it is read."""

    def __init__(self, n_in: int, n_out: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.kernel = KernelWeight(n_out, n_in, dim, generator)
        self.bias = nn.Parameter(torch.zeros(n_out))

    @property
    def weight(self) -> Tensor:
        """(n_out, n_in)."""
        return self.kernel().matrix


class KernelNetwork(Autoencoding):
    """n_in → hidden… → n_in with kernel weights in every layer, sigmoids between and an affine output."""

    def __init__(
        self, n_in: int, hidden: Sequence[int], dim: int, generator: torch.Generator, *, scale: Scale = as_stored
    ) -> None:
        super().__init__()
        self.scale = scale
        kernels = [KernelWeight(a, b, dim, generator) for a, b in pairwise([n_in, *hidden])]
        self.kernels = nn.ModuleList(kernels)
        with torch.no_grad():
            for kernel in kernels[1:]:
                kernel.weight.mul_(SIGMOID_GAIN)
        self.biases = nn.ParameterList(torch.zeros(width) for width in hidden)
        self.output = KernelOutput(hidden[-1], n_in, dim, generator)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        return self.hidden(batch, [kernel().matrix for kernel in self.kernels])

    def hidden(self, batch: Batch, matrices: Sequence[Tensor]) -> Tensor:
        """Return the last hidden layer, (len(batch), hidden[-1]), given the effective weights of each hidden layer."""
        first, *others = matrices
        values = torch.sigmoid(self.first(batch, first) + self.biases[0])
        for matrix, bias in zip(others, list(self.biases)[1:], strict=True):
            values = torch.sigmoid(values @ matrix + bias)
        return values

    def first(self, batch: Batch, matrix: Tensor) -> Tensor:
        """Return the product of the sparse rows with the first layer's weights."""
        return weighted_rows(matrix, batch, self.scale(batch))


class GlobalKernelNetwork(KernelNetwork):
    """A kernel network that reads the grid of its rows through a 3 × 3 convolution.

    The kernel is the unit kernel plus the mean over the grid's rows of pooled_i · C_i, where pooled_i is one number and
    C_i nine learned numbers per row. It is the unit kernel as long as `pooled` or C is zero.
    """

    pooled: Tensor

    def __init__(
        self,
        n_in: int,
        n_rows: int,
        hidden: Sequence[int],
        dim: int,
        generator: torch.Generator,
        *,
        scale: Scale = as_stored,
    ) -> None:
        """`n_rows` is the number of rows of the whole grid."""
        super().__init__(n_in, hidden, dim, generator, scale=scale)
        self.global_weight = nn.Parameter(torch.zeros(n_rows, 9))
        self.register_buffer("pooled", torch.zeros(n_rows))
        self.convolves = True
        """Set to False to skip the convolution while the kernel is known to be the unit kernel."""

    def global_kernel(self) -> Tensor:
        """Return the (3, 3) kernel: entry (a, b) weights the neighbor a − 1 rows below and b − 1 columns right."""
        unit = torch.zeros_like(self.global_weight[0])
        unit[4] = 1.0
        return (unit + self.pooled @ self.global_weight / len(self.pooled)).view(3, 3)

    def first(self, batch: Batch, matrix: Tensor) -> Tensor:
        if not self.convolves:
            return super().first(batch, matrix)
        assert isinstance(batch, Window)
        return convolved_rows(batch, self.global_kernel(), matrix, self.scale)


def convolved_rows(window: Window, kernel: Tensor, matrix: Tensor, scale: Scale = as_stored) -> Tensor:
    """Return conv(R) @ matrix at the window's rows, (len(window), width), without computing conv(R).

    conv(R)_iu = Σ_ab kernel_ab · R_(i+a−1, u+b−1) is the cross-correlation of `torch.conv2d` with zero padding and a
    (3, 3) `kernel`. It is linear, so the shift along columns can be applied to the rows of `matrix` (n_columns, width)
    instead: three products of stored entries × width, while conv(R) has up to nine times the entries.
    """
    n, padded = len(matrix), F.pad(matrix, (0, 0, 1, 1))
    total = matrix.new_zeros(len(window), matrix.shape[1])
    for weights, batch in zip(kernel, (window.above, window, window.below), strict=True):
        # Σ_u R_(i, u+b−1) · M_u = Σ_u R_iu · M_(u−b+1)
        table = weights[0] * padded[2:] + weights[1] * matrix + weights[2] * padded[:n]
        total = total + weighted_rows(table, batch, scale(batch))
    return total


class _Kernelize(torch.autograd.Function):
    """W ∘ K, Σ W² and Σ K² with K = max(0, left.T @ right), in blocks of rows that fit in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(weight, left, right)
        matrix, weight_squares, kernel_squares = torch.empty_like(weight), weight.new_zeros(()), weight.new_zeros(())
        for rows in _blocks(weight):
            own, kernel = weight[rows], torch.mm(left[:, rows].T, right).clamp_min_(0.0)
            torch.mul(own, kernel, out=matrix[rows])
            weight_squares += torch.dot(own.view(-1), own.view(-1))
            kernel_squares += torch.dot(kernel.view(-1), kernel.view(-1))
        return matrix, weight_squares, kernel_squares

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, left, right = ctx.saved_tensors
        of_matrix, of_weights, of_kernels = grads[0], 2.0 * grads[1], 2.0 * grads[2]
        of_left, of_right = torch.empty_like(left), torch.zeros_like(right)

        def write(out: Tensor, beta: float) -> None:
            for rows in _blocks(weight):
                own, grad, place = weight[rows], of_matrix[rows], out[rows]
                kernel = torch.mm(left[:, rows].T, right).clamp_min_(0.0)
                to_kernel = torch.mul(grad, own).addcmul_(kernel, of_kernels).mul_(kernel.sign())
                of_left[:, rows] = torch.mm(right, to_kernel.T)
                of_right.addmm_(left[:, rows], to_kernel)
                if beta:
                    place.mul_(beta).addcmul_(kernel, grad).addcmul_(own, of_weights)
                else:
                    torch.mul(kernel, grad, out=place).addcmul_(own, of_weights)

        return accumulate_grad(weight, write), of_left, of_right


def _blocks(weight: Tensor) -> Iterator[slice]:
    size = len(weight) if is_apart(weight) else max(1, 2**16 // weight.shape[1])
    return (slice(start, start + size) for start in range(0, len(weight), size))
