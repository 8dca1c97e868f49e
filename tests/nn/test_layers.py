"""Sparse layers against dense arithmetic, and the random draws of training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from recsys.nn.layers import (
    ACTIVATIONS,
    Output,
    SparseLinear,
    dropout,
    gated,
    l2_normalized,
    linear,
    standard_normal,
    xavier,
)
from recsys.nn.networks import AutoRecNetwork, MultDAENetwork, MultVAENetwork
from recsys.nn.products import weighted_rows
from tests.contract import batch_of, random_cells

shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.sampled_from([0.0, 0.2, 1.0]))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(shape=shapes, seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_sparse_linear_equals_the_dense_product_and_its_gradient(shape, seed):
    n_rows, n_columns, width, density = shape
    cells = random_cells(np.random.default_rng(seed), n_rows, n_columns, density)
    layer = SparseLinear(n_columns, width, generator(seed)).double()
    upstream = torch.randn(n_rows, width, generator=generator(1), dtype=torch.float64)

    found = layer(batch_of(cells))
    expected = torch.from_numpy(np.nan_to_num(cells)) @ layer.weight + layer.bias
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(found, layer.parameters(), upstream),
        torch.autograd.grad(expected, layer.parameters(), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


def test_rows_without_entries_give_the_bias():
    layer = SparseLinear(3, 2, generator())
    torch.nn.init.uniform_(layer.bias, generator=generator(1))
    nothing = np.full((2, 3), np.nan)
    some = np.array([[np.nan] * 3, [1.0, np.nan, np.nan], [np.nan] * 3])
    assert torch.equal(layer(batch_of(nothing, torch.float32)), layer.bias.expand(2, 2))
    assert torch.equal(layer(batch_of(some, torch.float32))[[0, 2]], layer.bias.expand(2, 2))
    layer(batch_of(nothing, torch.float32)).sum().backward()
    assert not layer.weight.grad.any()
    assert layer.bias.grad.tolist() == [2.0, 2.0]


def test_values_passed_in_replace_the_stored_ones():
    layer = SparseLinear(3, 2, generator()).double()
    batch = batch_of([[5.0, np.nan, 7.0]])
    values = torch.tensor([2.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(layer(batch, values)[0], 2 * layer.weight[0] - layer.weight[2] + layer.bias)


def test_weighted_rows_passes_gradcheck_in_table_and_values():
    batch = batch_of(random_cells(np.random.default_rng(1), 4, 5, 0.5))
    table = torch.randn(5, 3, generator=generator(), dtype=torch.float64).requires_grad_()
    values = batch.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, v: weighted_rows(t, batch, v), [table, values])


@given(shape=shapes, seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_l2_normalized_rows_have_length_one_and_zeros_stay(shape, seed):
    n_rows, n_columns, _, density = shape
    cells = random_cells(np.random.default_rng(seed), n_rows, n_columns, density)
    cells[0] = np.where(np.isnan(cells[0]), np.nan, 0.0)
    dense = np.nan_to_num(cells)
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    expected = (dense / np.where(lengths == 0, 1.0, lengths))[~np.isnan(cells)]
    batch = batch_of(cells)
    before = batch.values.clone()
    np.testing.assert_allclose(l2_normalized(batch).numpy(), expected, rtol=0.0, atol=1e-12)
    assert torch.equal(batch.values, before)


def test_dropout_drops_the_rate_and_keeps_the_expectation():
    values, rate, n = torch.tensor([1.0, -2.0, 4.0]), 0.3, 20_000
    rng = generator()
    draws = torch.stack([dropout(values, rate, rng) for _ in range(n)])
    dropped = (draws == 0).double().mean(0)
    assert ((dropped - rate).abs() < 5 * (rate * (1 - rate) / n) ** 0.5).all()
    # Each draw is 0 or value / (1 - rate), so its standard deviation is |value| · sqrt(rate / (1 - rate)).
    error = values.abs() * (rate / (1 - rate) / n) ** 0.5
    assert ((draws.mean(0) - values).abs() < 5 * error).all()
    torch.testing.assert_close(draws[draws != 0].unique(), values.sort().values / (1 - rate))
    assert torch.corrcoef(draws.T).triu(1).abs().max() < 5 / n**0.5  # entries are dropped independently


def test_dropout_is_reproducible_and_does_not_change_its_input():
    values = torch.arange(1.0, 101.0)
    kept = values.clone()
    assert torch.equal(dropout(values, 0.5, generator(3)), dropout(values, 0.5, generator(3)))
    assert not torch.equal(dropout(values, 0.5, generator(3)), dropout(values, 0.5, generator(4)))
    assert torch.equal(values, kept)
    assert torch.equal(dropout(values, 0.5, None), values)
    assert torch.equal(dropout(values, 0.0, generator()), values)


def test_noise_is_standard_normal():
    n = 200_000
    noise = standard_normal(torch.empty(n // 2, 2), generator()).flatten().double()
    assert noise.mean().abs() < 5 / n**0.5
    assert (noise.std() - 1).abs() < 5 / (2 * n) ** 0.5
    assert ((noise.abs() < 1).double().mean() - 0.682689).abs() < 5 * (0.6827 * 0.3173 / n) ** 0.5
    like = torch.empty(3, dtype=torch.float64)
    assert standard_normal(like, generator()).dtype == torch.float64
    assert torch.equal(standard_normal(like, generator(1)), standard_normal(like, generator(1)))


def test_xavier_weights_fill_their_bounds_evenly():
    weights = xavier(300, 500, generator())
    bound = (6 / 800) ** 0.5
    assert weights.shape == (300, 500)
    assert 0.999 * bound < weights.abs().max() <= bound
    n = weights.numel()
    assert (weights.double().std() - bound / 3**0.5).abs() < 5 * bound / n**0.5
    assert weights.double().mean().abs() < 5 * bound / n**0.5


def test_output_and_linear_are_plain_affine_layers():
    hidden = torch.randn(4, 3, generator=generator())
    for layer in (Output(3, 5, generator(1)), linear(3, 5, generator(1))):
        assert layer.weight.shape == (5, 3)
        assert not layer.bias.any()
        torch.nn.init.uniform_(layer.bias, generator=generator(2))
        torch.testing.assert_close(layer(hidden), hidden @ layer.weight.T + layer.bias)
        torch.testing.assert_close(layer(hidden), functional.linear(hidden, layer.weight, layer.bias))


@pytest.mark.parametrize("name", [*ACTIVATIONS, "gated"])
def test_an_activation_is_the_same_in_training_and_anywhere_in_a_block_that_is_scored(name):
    function = gated if name == "gated" else ACTIVATIONS[name]
    values = 4 * torch.randn(200, 74, generator=generator())
    with torch.inference_mode():
        whole = function(values)
        for rows in (1, 3, 63, 64, 199):
            assert torch.equal(function(values[-rows:].clone()), whole[-rows:])
    torch.testing.assert_close(whole.clone(), function(values), rtol=1e-5, atol=1e-6)


def test_a_dense_layer_gives_a_row_the_same_bits_in_every_block_that_is_scored():
    layer = linear(37, 21, generator())
    values = torch.randn(200, 37, generator=generator(1))
    with torch.inference_mode():
        whole = layer(values)
        for rows in (1, 2, 3, 7, 65):
            assert torch.equal(layer(values[:rows]), whole[:rows])
    torch.testing.assert_close(whole.clone(), layer(values).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda rng: AutoRecNetwork(7, 3, rng),
        lambda rng: MultVAENetwork(7, 4, 2, 0.5, rng),
        lambda rng: MultDAENetwork(7, 3, 0.5, rng),
    ],
    ids=["AutoRec", "MultVAE", "MultDAE"],
)
def test_networks_use_only_their_own_generator(build):
    before = torch.get_rng_state()
    one, other, third = (build(generator(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_variational_networks_start_with_small_biases():
    network = MultVAENetwork(50, 40, 20, 0.5, generator())
    biases = torch.cat([p.detach() for name, p in network.named_parameters() if name.endswith("bias")])
    assert 0.0005 < biases.std() < 0.0015
    assert biases.abs().max() <= 0.002
