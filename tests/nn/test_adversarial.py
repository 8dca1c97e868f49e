"""Spectral norm, discriminators and expected rows against dense arithmetic."""

from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional

from recsys.nn import adversarial, products
from recsys.nn.adversarial import Discriminator, RowDiscriminator, SpectralLinear, SpectralNorm, expected_rows
from tests.contract import batch_of, random_cells

CELLS = random_cells(np.random.default_rng(3), 6, 11, 0.4, counts=True)
DENSE = torch.from_numpy(np.nan_to_num(CELLS))
BATCH = batch_of(CELLS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def largest(matrix):
    return torch.linalg.matrix_norm(matrix, ord=2)


# Spectral norm


@pytest.mark.parametrize("shape", [(5, 5), (3, 9), (9, 3), (1, 4), (4, 1)])
def test_the_norm_is_the_largest_singular_value_and_so_is_its_gradient(shape):
    weight = normal(*shape).requires_grad_()
    norm = SpectralNorm(weight, rng(1)).double()
    for _ in range(200):
        sigma = norm(weight)
    torch.testing.assert_close(sigma, largest(weight), rtol=1e-8, atol=0.0)
    (found,) = torch.autograd.grad(sigma, weight)
    (expected,) = torch.autograd.grad(largest(weight), weight)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


def test_a_new_norm_is_already_close():
    for seed in range(10):
        weight = normal(30, 20, seed=seed)
        assert float(SpectralNorm(weight, rng(seed))(weight) / largest(weight)) == pytest.approx(1.0, abs=0.05)


def test_one_step_per_update_follows_a_trained_weight():
    weight = torch.nn.Parameter(normal(12, 8))
    norm = SpectralNorm(weight, rng(1))
    before = norm.direction.clone()
    optimizer, target = torch.optim.Adam([weight], lr=0.02), normal(12, 8, seed=9)
    for _ in range(200):
        optimizer.zero_grad()
        (weight / norm(weight) - target).square().sum().backward()
        optimizer.step()
    assert (norm.direction - before).abs().max() > 0.05
    assert float((norm(weight) / largest(weight)).detach()) == pytest.approx(1.0, abs=0.01)


def test_the_direction_changes_only_in_training_and_is_saved():
    layer, state = SpectralLinear(4, 3, rng()), torch.get_rng_state()
    torch.nn.init.uniform_(layer.linear.weight, generator=rng(5))  # as an update would: the direction is behind
    values = torch.randn(5, 4, generator=rng(1))

    def moved(call):
        before = layer.norm.direction.clone()
        call()
        return not torch.equal(layer.norm.direction, before)

    assert moved(lambda: layer(values))
    layer.linear.weight.requires_grad_(False)  # the generator's turn
    assert not moved(lambda: layer(values))
    layer.linear.weight.requires_grad_(True)
    layer.eval()
    assert not moved(lambda: layer(values))
    assert torch.equal(layer.state_dict()["norm.direction"], layer.norm.direction)
    other = SpectralLinear(4, 3, rng(7)).eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(values), layer(values))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_zero_weight_stays_zero():
    layer = SpectralLinear(4, 3, rng())
    torch.nn.init.zeros_(layer.linear.weight)
    assert torch.equal(layer(torch.ones(2, 4)), torch.zeros(2, 3))


def test_two_passes_before_one_backward_do_not_disturb_each_other():
    layer = SpectralLinear(4, 3, rng()).double()
    one, other = normal(5, 4, seed=1), normal(5, 4, seed=2)
    (layer(one).square().sum() + layer(other).sum()).backward()
    assert layer.linear.weight.grad.abs().max() > 0


def test_a_logit_changes_at_most_as_much_as_the_vector():
    network = Discriminator((6, 16, 8), rng()).double()
    for layer in (*network.hidden, network.last):
        for _ in range(300):
            layer.norm(layer.linear.weight)
    a, b = normal(2000, 6, seed=1), normal(2000, 6, seed=2)
    slope = (network(a) - network(b)).abs() / (a - b).norm(dim=1)
    assert slope.max() <= 1.0 + 1e-6
    assert network(a).shape == (2000,)
    assert network.features(a).shape == (2000, 8)


# Expected rows of a decoder


@pytest.mark.parametrize("width", [1, 3, 1024])
@pytest.mark.parametrize("leaves", [(0, 1, 2, 3), (0, 1, 2), (3,), (0,), (1, 3)])
def test_expected_rows_are_softmax_times_table_with_all_gradients(width, leaves):
    tensors = [normal(6, 4), 3 * normal(11, 4, seed=1), normal(11, seed=2), normal(11, 5, seed=3)]
    for index in leaves:
        tensors[index].requires_grad_()
    hidden, weight, bias, table = tensors
    with mock.patch.object(adversarial._ExpectedRows, "width", width):
        found = expected_rows(hidden, weight, bias, table)
        expected = torch.softmax(functional.linear(hidden, weight, bias), 1) @ table
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        upstream, wanted = normal(6, 5, seed=4), [tensors[index] for index in leaves]
        for one, other in zip(
            torch.autograd.grad(found, wanted, upstream), torch.autograd.grad(expected, wanted, upstream), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_large_logits_do_not_overflow():
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[1e4], [1e4 - 1], [-1e4]])
    with mock.patch.object(adversarial._ExpectedRows, "width", 1):
        found = expected_rows(hidden, weight, torch.zeros(3), torch.eye(3))
    torch.testing.assert_close(found, torch.softmax(weight.T, 1))


# Row discriminators


def row_discriminator(latent=None):
    return RowDiscriminator(11, (5, 4), rng(), latent=latent).double()


def dense_logits(network, rows, latent=None):
    """The same judgment of (n, 11) rows, by dense arithmetic."""
    first = rows @ network.table / network.norm(network.table.T) + network.bias
    if latent is not None:
        first = first + network.codes(latent / latent.shape[1] ** 0.5)
    return network.rest(torch.relu(first))


def lengths():
    return DENSE.norm(dim=1, keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("latent", [None, 3])
@pytest.mark.parametrize("large", [1, 10**9], ids=["buffers", "no buffers"])
def test_logits_of_sparse_rows_and_pairs_equal_those_of_dense_rows(latent, large, monkeypatch):
    network = row_discriminator(latent).eval()  # the norms do not change, so both computations use the same ones
    codes = None if latent is None else normal(6, latent, seed=5)
    leaves = [normal(6, 4, seed=1), normal(11, 4, seed=2), normal(11, seed=3)]
    for leaf in leaves:
        leaf.requires_grad_()
    hidden, weight, bias = leaves
    parameters = [*network.parameters(), *leaves]

    def gradients(real, made):
        for parameter in parameters:
            parameter.grad = None
        (real.square().sum() + 2.0 * made.exp().sum()).backward()
        return [parameter.grad.clone() for parameter in parameters]

    made_rows = torch.softmax(functional.linear(hidden, weight, bias), 1) * DENSE.sum(1, keepdim=True) / lengths()
    expected = dense_logits(network, DENSE / lengths(), codes), dense_logits(network, made_rows, codes)
    expected_gradients = gradients(*expected)
    monkeypatch.setattr(products, "LARGE", large)
    products.add_gradient_buffers(network)
    found = network(network.real(BATCH, codes)), network(network.made(hidden, weight, bias, BATCH, codes))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    for one, other in zip(gradients(*found), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_an_exact_reconstruction_gets_the_logit_of_the_row():
    logits = torch.where(DENSE > 0, DENSE.clamp_min(1e-9).log(), -torch.inf).nan_to_num(neginf=-1e4)
    network, some = row_discriminator().eval(), DENSE.sum(1) > 0
    made = network.made(torch.eye(6, dtype=torch.float64), logits.T.contiguous(), torch.zeros(11).double(), BATCH)
    torch.testing.assert_close(made[some], network.real(BATCH)[some], rtol=1e-7, atol=1e-9)


def test_the_code_changes_the_logit_of_a_pair():
    network = row_discriminator(latent=3)
    one, other = (network(network.real(BATCH, normal(6, 3, seed=seed))) for seed in (1, 2))
    assert (one - other).abs().min() > 1e-6
