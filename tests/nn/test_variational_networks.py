"""Layers of the variational networks in NumPy, and the zero diagonal of the shallow path."""

import numpy as np
import torch
import torch.nn.functional as F

from recsys.nn.layers import Output
from recsys.nn.products import add_gradient_buffers
from recsys.nn.variational import (
    DenseResidual,
    Gated,
    GatedLayers,
    GaussianEncoder,
    GaussianLayer,
    HVampNetwork,
    ResidualDecoder,
    TanhLayers,
    VASPNetwork,
)
from tests.contract import batch_of, random_cells

ITEMS = 9
CELLS = random_cells(np.random.default_rng(0), 7, ITEMS, 0.5, counts=True)
COUNTS = np.nan_to_num(CELLS)
UNIT = COUNTS / np.maximum(np.linalg.norm(COUNTS, axis=1, keepdims=True), 1e-12)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def perturbed(network, seed=5):
    """The network in float64 with all weights and biases moved from their initial values."""
    generator = rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double()


def arrays(network):
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def swish(values):
    return values * sigmoid(values)


def layer_norm(values, weight, bias, eps):
    spread = np.sqrt(values.var(1, keepdims=True) + eps)
    return (values - values.mean(1, keepdims=True)) / spread * weight + bias


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_gates_by_hand():
    layer = perturbed(Gated(4, 3, rng()))
    x, w = np.random.default_rng(1).normal(size=(5, 4)), arrays(layer)
    a, b = np.split(w["layer.weight"], 2)
    bias_a, bias_b = np.split(w["layer.bias"], 2)
    close(layer(torch.from_numpy(x)), (x @ a.T + bias_a) * sigmoid(x @ b.T + bias_b))


def test_the_sparse_first_layer_is_gated_too():
    encoder = perturbed(GaussianEncoder(ITEMS, GatedLayers([4, 3], rng()), 2, 0.5, rng(), bounds=(-0.1, 0.1)))
    w = arrays(encoder)
    both = UNIT @ w["input.weight"] + w["input.bias"]
    hidden = both[:, :4] * sigmoid(both[:, 4:])
    both = hidden @ w["body.layers.0.layer.weight"].T + w["body.layers.0.layer.bias"]
    hidden = both[:, :3] * sigmoid(both[:, 3:])
    both = hidden @ w["posterior_layer.layer.weight"].T + w["posterior_layer.layer.bias"]
    mean, log_variance = encoder(batch_of(CELLS))
    close(mean, both[:, :2])
    assert (np.abs(both[:, 2:]) > 0.1).any()
    close(log_variance, np.clip(both[:, 2:], -0.1, 0.1))


def test_dense_residual_layers_by_hand():
    body = perturbed(DenseResidual(4, 3, rng(), eps=0.1))
    first, w = np.random.default_rng(1).normal(size=(5, 4)), arrays(body)
    h1 = layer_norm(swish(first), w["norms.0.weight"], w["norms.0.bias"], 0.1)
    a2 = h1 @ w["layers.0.weight"].T + w["layers.0.bias"] + h1
    h2 = layer_norm(swish(a2), w["norms.1.weight"], w["norms.1.bias"], 0.1)
    a3 = h2 @ w["layers.1.weight"].T + w["layers.1.bias"] + h1 + h2
    close(body(torch.from_numpy(first)), layer_norm(swish(a3), w["norms.2.weight"], w["norms.2.bias"], 0.1))


def test_one_residual_layer_is_a_normalized_swish():
    first = torch.randn(5, 4, generator=rng(), dtype=torch.float64)
    expected = F.layer_norm(F.silu(first), (4,), eps=0.1)
    torch.testing.assert_close(DenseResidual(4, 1, rng()).double()(first), expected)


def test_dense_rows_are_encoded_as_stored_ones_are():
    for body in (TanhLayers([4, 3], rng()), DenseResidual(4, 2, rng()), GatedLayers([4, 3], rng())):
        encoder = perturbed(GaussianEncoder(ITEMS, body, 2, 0.5, rng()))
        stored, dense = encoder(batch_of(CELLS)), encoder.of_rows(torch.from_numpy(COUNTS))
        for one, other in zip(stored, dense, strict=True):
            torch.testing.assert_close(one, other)


def test_noise_only_drops_out_the_input():
    encoder = perturbed(GaussianEncoder(ITEMS, DenseResidual(4, 2, rng()), 2, 0.5, rng()))
    batch = batch_of(CELLS)
    assert torch.equal(encoder(batch)[0], encoder(batch)[0])
    assert not torch.equal(encoder(batch, rng(1))[0], encoder(batch)[0])
    encoder.dropout = 0.0
    assert torch.equal(encoder(batch, rng(1))[0], encoder(batch)[0])


def test_two_levels_by_hand():
    network = perturbed(HVampNetwork(ITEMS, 4, 2, 3, 0.5, rng()))
    w, batch = arrays(network), batch_of(CELLS)

    def gated(values, name):
        both = values @ w[f"{name}.layer.weight"].T + w[f"{name}.layer.bias"]
        value, gate = np.split(both, 2, axis=1)
        return value * sigmoid(gate)

    def halves(values, name):
        mean, log_variance = np.split(values @ w[f"{name}.layer.weight"].T + w[f"{name}.layer.bias"], 2, axis=1)
        return mean, np.clip(log_variance, -12, 4)

    both = UNIT @ w["lower_input.weight"] + w["lower_input.bias"]
    of_row = both[:, :4] * sigmoid(both[:, 4:])
    upper = network.upper(batch)[0]
    z2 = upper.detach().numpy()
    joint = gated(np.hstack([of_row, gated(z2, "lower_of_upper")]), "lower_joint")
    z1, log_variance = halves(joint, "lower_posterior")
    for found, expected in zip(network.lower(batch, upper), (z1, log_variance), strict=True):
        close(found, expected)
    conditional = halves(gated(gated(z2, "conditional_layers.0"), "conditional_layers.1"), "conditional_prior")
    for found, expected in zip(network.conditional(upper), conditional, strict=True):
        close(found, expected)
    code = network.encode(batch)
    close(code, np.hstack([z1, z2]))
    close(
        network.decode(code),
        gated(np.hstack([gated(z1, "decoder_of_lower"), gated(z2, "decoder_of_upper")]), "decoder_joint"),
    )


def test_a_gaussian_layer_splits_mean_and_log_variance():
    layer = GaussianLayer(3, 2, rng())
    values = torch.randn(4, 3, generator=rng())
    mean, log_variance = layer(values)
    assert torch.equal(torch.cat([mean, log_variance], 1), layer.layer(values))


def shallow_network():
    encoder = GaussianEncoder(ITEMS, DenseResidual(4, 1, rng()), 2, 0.0, rng())
    return VASPNetwork(ITEMS, encoder, ResidualDecoder(2, 4, 1, rng()), Output(4, ITEMS, rng())).double()


def test_the_shallow_path_is_linear_and_its_gradient_has_no_diagonal():
    for buffered in (False, True):
        network, batch = shallow_network(), batch_of(CELLS)
        with torch.no_grad():
            network.item_weights.normal_(generator=rng(1)).fill_diagonal_(0.0)
        if buffered:
            network.item_weights.gradient_buffer = torch.empty_like(network.item_weights)
        add_gradient_buffers(network)
        logits = network.shallow(batch)
        close(logits, COUNTS @ network.item_weights.detach().numpy())
        slopes = torch.randn(7, ITEMS, generator=rng(2), dtype=torch.float64)
        (logits * slopes).sum().backward()
        expected = COUNTS.T @ slopes.numpy()
        assert (np.diag(expected) != 0).any()
        np.fill_diagonal(expected, 0.0)
        np.testing.assert_allclose(network.item_weights.grad.numpy(), expected, atol=1e-12)
