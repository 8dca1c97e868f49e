"""Penalties against autograd's Jacobian of the dense function, and against a plain loop."""

import math

import numpy as np
import pytest
import torch

from recsys.nn.networks import DeepNetwork
from recsys.nn.penalties import activation_kl, chance_decay, squared_jacobian, squared_jacobian_of_one_layer
from recsys.sparse import Rows
from tests.contract import batch_of, csr, random_cells

BATCH = batch_of(random_cells(np.random.default_rng(1), 5, 9, 0.5, counts=True))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def network_of(hidden, activation):
    network = DeepNetwork(9, hidden, 3, rng(), activation=activation).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0).add_(0.1)
    return network


def dense_penalty(network):
    """Σ over all entries of ∂code/∂x̂ squared, row by row, where x̂ is the dense normalized row."""
    rows = torch.zeros(5, 9).double().index_put_((BATCH.segments, BATCH.columns), BATCH.values)
    rows = torch.nn.functional.normalize(rows, dim=1)

    def encode(row):
        return network.layers(row @ network.input.weight + network.input.bias)[-1]

    jacobians = [torch.autograd.functional.jacobian(encode, row, create_graph=True) for row in rows]
    return torch.stack([jacobian.square().sum() for jacobian in jacobians])


def gradients(network, value):
    names = [name for name, _ in network.named_parameters() if name.startswith(("input", "encoder"))]
    parameters = [network.get_parameter(name) for name in names]
    return torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "swish", "relu", "identity"])
@pytest.mark.parametrize("hidden", [(), (4,), (4, 5)])
def test_penalty_and_gradients_are_those_of_the_dense_jacobian(hidden, activation):
    network = network_of(hidden, activation)
    projected = network.project(BATCH)
    code = network.layers(projected)[-1]
    wanted = dense_penalty(network)
    forms = [squared_jacobian(code, projected, network.input.weight, None, rng())]
    if not hidden:
        forms.append(squared_jacobian_of_one_layer(code, projected, network.input.weight))
    weights = torch.linspace(0.5, 2.0, 5).double()  # rows have different weights
    for found in forms:
        torch.testing.assert_close(found, wanted)
        pairs = zip(gradients(network, weights @ found), gradients(network, weights @ wanted), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other)


def test_random_directions_are_right_on_average():
    network = network_of((4,), "tanh")
    projected = network.project(BATCH)
    code = network.layers(projected)[-1]
    exact = squared_jacobian(code, projected, network.input.weight, None, rng())
    draw = rng(5)
    several = torch.stack([squared_jacobian(code, projected, network.input.weight, 2, draw) for _ in range(800)])
    assert several.std(0).min() > 0.01  # it is an estimate, not the exact value
    torch.testing.assert_close(several.mean(0), exact, rtol=0.05, atol=0)


def test_the_divergence_of_activations_is_that_of_a_plain_loop():
    code = torch.rand(6, 4, generator=rng(), dtype=torch.float64)
    expected = 0.0
    for unit in range(4):
        mean = sum(float(code[row, unit]) for row in range(6)) / 6
        expected += 0.2 * math.log(0.2 / mean) + 0.8 * math.log(0.8 / (1 - mean))
    assert float(activation_kl(code, 0.2)) == pytest.approx(expected, rel=1e-5)
    assert float(activation_kl(torch.full((3, 4), 0.2), 0.2)) == pytest.approx(0.0, abs=1e-6)


def test_units_that_never_or_always_fire_have_a_finite_divergence():
    code = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    value = activation_kl(code, 0.05)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(code.grad).all()


def test_a_small_batch_overstates_the_divergence_as_the_docstring_says():
    """By Var(a) / (2 m ρ (1 − ρ)) per unit if the mean is at the target."""
    draw, target, m = rng(), 0.3, 20
    code = torch.where(torch.rand(m * 4000, generator=draw) < 0.5, 0.2, 0.4)[:, None]
    found = torch.stack([activation_kl(part, target) for part in code.split(m)]).mean()
    assert float(found) == pytest.approx(0.01 / (2 * m * target * (1 - target)), rel=0.1)


def by_chance(shape=(1500, 300), length=20, seed=0):
    """Rows whose entries have nothing to do with each other."""
    return csr(np.where(np.random.default_rng(seed).random(shape) < length / shape[1], 1.0, np.nan))


@pytest.mark.parametrize(("shape", "length"), [((1500, 300), 20), ((4000, 300), 30), ((3000, 200), 8)])
@pytest.mark.parametrize("value", [1.0, 3.0])
def test_the_decay_is_the_largest_slope_that_chance_gives(shape, length, value):
    """Against the singular values of the gradient of the mean likelihood in M = V W, by autograd.

    Of what it has between columns: each column also speaks for itself, and all of them a little against one another.
    """
    matrix = by_chance(shape, length) * np.float32(value)
    x = torch.from_numpy(matrix.toarray()).double()
    m = torch.zeros(shape[1], shape[1], dtype=torch.float64, requires_grad=True)
    bias = (x.sum(0) / x.sum()).log()
    nll = -(x * torch.log_softmax(torch.nn.functional.normalize(x) @ m + bias, 1)).sum() / shape[0]
    (gradient,) = torch.autograd.grad(nll, m)
    between = ~torch.eye(shape[1], dtype=torch.bool)
    gradient = (gradient - gradient[between].mean()) * between
    assert chance_decay(Rows(matrix)) == pytest.approx(float(torch.linalg.svdvals(gradient)[0]), rel=0.2)
