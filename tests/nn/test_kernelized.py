"""Kernel weights against brute force over pairs, and the sparse convolution against `conv2d`."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from recsys.grid import Grid
from recsys.nn import kernelized
from recsys.nn.kernelized import GlobalKernelNetwork, KernelNetwork, KernelOutput, KernelWeight, convolved_rows
from recsys.nn.products import add_gradient_buffers
from recsys.sparse import Rows
from tests.contract import csr, random_cells, ratings

N_ROWS, N_COLUMNS = 13, 9


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(n_rows=N_ROWS, n_columns=N_COLUMNS, scale=0.45, dim=3):
    """Weights with some kernel values of zero, and none close to the edge of the support."""
    weights = KernelWeight(n_rows, n_columns, dim, rng()).double()
    with torch.no_grad():
        for vectors in (weights.row_vectors, weights.column_vectors):
            vectors.copy_(scale * torch.randn(vectors.shape, generator=rng(len(vectors)), dtype=torch.float64))
    return weights


def by_pairs(weights):
    """K, one pair at a time."""
    u, v = weights.row_vectors.detach().numpy(), weights.column_vectors.detach().numpy()
    return np.array([[max(0.0, 1.0 - sum((a - b) ** 2)) for b in v] for a in u])


@pytest.mark.parametrize("block", [2**16, 20])
def test_weights_equal_a_loop_over_pairs(block, monkeypatch):
    monkeypatch.setattr(kernelized, "_blocks", lambda weight: _slices(len(weight), block // weight.shape[1]))
    weights = spread()
    kernel = by_pairs(weights)
    assert 0.2 < (kernel == 0).mean() < 0.8
    made = weights()
    plain = weights.weight.detach().numpy()
    np.testing.assert_allclose(made.matrix.detach().numpy(), plain * kernel, atol=1e-12)
    assert float(made.weight_squares.detach()) == pytest.approx((plain**2).sum())
    assert float(made.kernel_squares.detach()) == pytest.approx((kernel**2).sum())


def _slices(total, size):
    return [slice(start, start + size) for start in range(0, total, size)]


def test_blocks_cover_all_rows_once():
    for n_rows, n_columns in ((1, 1), (7, 3), (1000, 500), (300, 2**17)):
        slices = list(kernelized._blocks(torch.empty(n_rows, n_columns, device="meta")))
        covered = [row for block in slices for row in range(n_rows)[block]]
        assert covered == list(range(n_rows))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_gradients_are_those_of_finite_differences(part):
    weights = spread(6, 4)

    def function(w, u, v):
        return torch.func.functional_call(weights, {"weight": w, "row_vectors": u, "column_vectors": v}, ())[part]

    parameters = [p.detach().clone().requires_grad_() for p in weights.parameters()]
    assert torch.autograd.gradcheck(function, parameters)


def test_gradients_are_those_of_autograd_through_all_pairs():
    weights = spread()
    made = weights()
    mix = torch.randn(made.matrix.shape, generator=rng(1), dtype=torch.float64)
    (made.matrix * mix).sum().add(0.3 * made.weight_squares + 0.7 * made.kernel_squares).backward()
    found = [p.grad.clone() for p in weights.parameters()]
    weights.zero_grad()
    w, u, v = weights.parameters()
    kernel = (1 - (u[:, None] - v[None]).square().sum(2)).clamp_min(0)
    ((w * kernel * mix).sum() + 0.3 * w.square().sum() + 0.7 * kernel.square().sum()).backward()
    for one, parameter in zip(found, weights.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-9, atol=1e-9)


def test_a_buffer_for_the_gradient_changes_nothing(monkeypatch):
    monkeypatch.setattr("recsys.nn.products.LARGE", 1)
    plain, kept = spread(), spread()
    add_gradient_buffers(kept)
    for weights in (plain, kept):
        for _ in range(2):  # the second adds to the first
            made = weights()
            (made.matrix.sum() + made.weight_squares).backward()
    assert kept.weight.grad is kept.weight.gradient_buffer
    for one, other in zip(plain.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_new_kernels_are_near_1_and_use_the_generator():
    weights = KernelWeight(30, 20, 5, rng(3))
    made = weights()
    torch.testing.assert_close(made.matrix, weights.weight, atol=1e-3, rtol=1e-3)
    assert float((made.matrix != weights.weight).float().mean()) > 0.5
    again = KernelWeight(30, 20, 5, rng(3))
    assert all(torch.equal(a, b) for a, b in zip(weights.parameters(), again.parameters(), strict=True))
    assert 0.5e-3 < float(weights.row_vectors.detach().std()) < 2e-3


def test_an_output_layer_recomputes_its_weights():
    output = KernelOutput(4, 7, 2, rng())
    assert output.weight.shape == (7, 4)
    with torch.no_grad():
        output.kernel.weight.mul_(2.0)
        output.kernel.row_vectors[3] = 5.0  # far from all others
    assert not output.weight[3].any()
    torch.testing.assert_close(output.weight[0], output.kernel.weight[0], atol=1e-3, rtol=1e-3)


def test_the_network_by_dense_arithmetic():
    matrix = ratings(n_users=12, n_items=8)
    network = KernelNetwork(8, (5, 4), 3, rng())
    with torch.no_grad():
        for kernel in (*network.kernels, network.output.kernel):
            kernel.row_vectors.normal_(std=0.6, generator=rng(1))
        for bias in network.biases:
            bias.uniform_(-1, 1, generator=rng(2))
    values = torch.from_numpy(matrix.toarray())
    for kernel, bias in zip(network.kernels, network.biases, strict=True):
        effective = torch.from_numpy(by_pairs(kernel)).float() * kernel.weight
        assert (effective == 0).any()
        values = torch.sigmoid(values @ effective + bias)
    batch = Rows(matrix).slice(0, 12)
    torch.testing.assert_close(network.encode(batch), values)
    assert network.decode(values) is values


# The global kernel


def grid_of(cells):
    return Grid(csr(cells))


def dense_convolution(cells, kernel):
    image = torch.from_numpy(np.nan_to_num(cells))
    return F.conv2d(image[None, None], kernel[None, None], padding=1)[0, 0]


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (7, 1), (1, 1), (2, 2)])
def test_the_sparse_convolution_is_conv2d(shape, density):
    cells = random_cells(np.random.default_rng(1), *shape, density).astype(np.float32)
    kernel = torch.randn(3, 3, generator=rng()).requires_grad_()
    matrix = torch.randn(shape[1], 4, generator=rng(1)).requires_grad_()
    order = torch.randperm(shape[0], generator=rng(2))
    expected = (dense_convolution(cells, kernel) @ matrix)[order]
    found = convolved_rows(grid_of(cells).batch(order), kernel, matrix)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    mix = torch.randn(expected.shape, generator=rng(3))
    gradients = [torch.autograd.grad((value * mix).sum(), (kernel, matrix)) for value in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_unit_kernel_changes_nothing():
    cells = random_cells(np.random.default_rng(0), 6, 5, 0.5)
    matrix, unit = torch.randn(5, 3, generator=rng()), torch.zeros(3, 3)
    unit[1, 1] = 1.0
    found = convolved_rows(grid_of(cells).slice(0, 6), unit, matrix)
    torch.testing.assert_close(found, torch.from_numpy(np.nan_to_num(cells)).float() @ matrix)


def test_a_grid_cuts_the_rows_that_rows_cut_and_their_neighbors():
    matrix = ratings(n_users=9, n_items=6)
    grid, rows = Grid(matrix), Rows(matrix)
    assert (len(grid), grid.nnz, grid.n_columns, grid.total()) == (len(rows), rows.nnz, rows.n_columns, rows.total())
    padded = sp.vstack([sp.csr_matrix((1, 6)), matrix, sp.csr_matrix((1, 6))]).toarray()
    batches = list(grid.batches(torch.randperm(9, generator=rng()).split(4)))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    for window in batches:
        for batch, step in ((window.above, 0), (window, 1), (window.below, 2)):
            cut = sp.csr_matrix(
                (batch.values.numpy(), batch.columns.numpy(), batch.offsets.numpy()), shape=(len(window), 6)
            )
            np.testing.assert_array_equal(cut.toarray(), padded[window.rows.numpy() + step])


def test_the_global_kernel_is_the_unit_kernel_and_the_mean_of_what_is_pooled():
    network = GlobalKernelNetwork(5, 4, (3,), 2, rng())
    unit = torch.zeros(3, 3)
    unit[1, 1] = 1.0
    assert torch.equal(network.global_kernel(), unit)
    with torch.no_grad():
        network.global_weight.normal_(generator=rng(1))
    assert torch.equal(network.global_kernel(), unit)  # pooled is still zero
    network.pooled.copy_(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    expected = sum(network.pooled[i] * network.global_weight[i].view(3, 3) for i in range(4)) / 4
    torch.testing.assert_close(network.global_kernel(), unit + expected)


def test_the_network_reads_the_convolved_grid():
    cells = random_cells(np.random.default_rng(2), 7, 5, 0.5).astype(np.float32)
    network = GlobalKernelNetwork(5, 7, (4, 3), 2, rng())
    plain = KernelNetwork(5, (4, 3), 2, rng())
    with torch.no_grad():
        network.global_weight.normal_(generator=rng(1))
        network.pooled.normal_(generator=rng(2))
    convolved = dense_convolution(cells, network.global_kernel().detach()).numpy()
    expected = plain.encode(Rows(sp.csr_matrix(convolved)).slice(0, 7))
    torch.testing.assert_close(network.encode(grid_of(cells).slice(0, 7)), expected, atol=1e-5, rtol=1e-5)
    network.convolves = False
    torch.testing.assert_close(network.encode(grid_of(cells).slice(0, 7)), plain.encode(Rows(csr(cells)).slice(0, 7)))
