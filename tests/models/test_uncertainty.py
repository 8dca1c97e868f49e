"""The uncertainty autoencoder: its measurements, its noise, and what a linear one has in common with PCA."""

from unittest import mock

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.models import UAE
from recsys.nn.layers import standard_normal
from recsys.nn.networks import AcquisitionNetwork
from recsys.sparse import Rows
from tests.contract import batch_of, cells_of, csr, ratings

N_USERS, N_ITEMS, M = 18, 11, 3
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
MATRIX = csr(CELLS)
DENSE = torch.from_numpy(np.nan_to_num(CELLS))
BATCH = batch_of(CELLS)
TINY = {"epochs": 2, "batch_size": 7, "hidden": (6,), "latent": M}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def new(**changes):
    return UAE(**{**TINY, **changes})


def fit(matrix=MATRIX, **changes):
    return new(**changes).fit(matrix, show_progress=False)


def network_of(**changes):
    return new(**changes)._network(N_ITEMS, rng()).double()


# The model


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
@pytest.mark.parametrize("acquisition", ["linear", "network"])
def test_the_layers_are_those_of_acquisition_and_decoder(acquisition, hidden):
    network = network_of(acquisition=acquisition, hidden=hidden)
    measured = DENSE @ network.input.weight + network.input.bias
    for layer in network.acquisition:
        measured = layer(torch.tanh(measured))
    assert measured.shape == (N_USERS, M)
    torch.testing.assert_close(network.encode(BATCH), measured, rtol=1e-12, atol=1e-12)
    assert len(network.acquisition) == (len(hidden) if acquisition == "network" else 0)
    recovered = measured
    for layer in network.decoder.layers:
        recovered = torch.tanh(layer(recovered))
    assert recovered.shape[1] == (hidden[0] if hidden else M)
    torch.testing.assert_close(network.decode(measured), recovered, rtol=1e-12, atol=1e-12)


def test_a_linear_acquisition_is_an_affine_function_of_the_row_as_it_is():
    model = fit()
    measured = model.encode(MATRIX)
    weight, bias = (p.detach().numpy() for p in (model.network_.input.weight, model.network_.input.bias))
    np.testing.assert_allclose(measured, DENSE.float().numpy() @ weight + bias, atol=1e-4)
    np.testing.assert_allclose(model.encode(3 * MATRIX) - bias, 3 * (measured - bias), rtol=1e-4, atol=1e-4)
    curved = fit(acquisition="network")
    three_times = curved.encode(3 * MATRIX) - curved.encode(csr(np.full((N_USERS, N_ITEMS), np.nan)))
    assert np.abs(three_times - 3 * (curved.encode(MATRIX) - curved.encode(0 * MATRIX))).max() > 0.01


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "multinomial"])
@pytest.mark.parametrize("acquisition", ["linear", "network"])
def test_the_loss_and_its_gradients_are_those_of_dense_arithmetic(likelihood, acquisition):
    cells = np.where(np.isnan(CELLS), np.nan, 1.0)
    dense, batch = torch.from_numpy(np.nan_to_num(cells)), batch_of(cells)
    model = new(likelihood=likelihood, acquisition=acquisition, noise=0.7)
    network = model._network(N_ITEMS, rng()).double()
    found = model._objective(network, Rows(MATRIX))(batch, 0, rng(2))

    measured = network.encode(batch)
    measured = measured + 0.7 * torch.randn(measured.shape, generator=rng(2), dtype=torch.float64)
    predicted = network.output(network.decode(measured))
    expected = {
        "gaussian": 0.5 * (dense - predicted).square().sum(),
        "bernoulli": torch.nn.functional.binary_cross_entropy_with_logits(predicted, dense, reduction="sum"),
        "multinomial": -(dense * torch.log_softmax(predicted, 1)).sum(),
    }[likelihood]
    assert found.count == N_USERS
    torch.testing.assert_close(found.total, expected, rtol=1e-10, atol=0.0)
    parameters = list(network.parameters())
    for one, other in zip(*(torch.autograd.grad(loss, parameters) for loss in (found.total, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0])
def test_the_noise_of_the_measurements_has_its_standard_deviation(sigma):
    n = 4000
    rows = Rows(csr(np.tile(CELLS, (n // N_USERS + 1, 1))[:n]))
    model = new(noise=sigma)
    network, batch = model._network(N_ITEMS, rng()), rows.slice(0, n)
    with mock.patch.object(network, "decode", side_effect=network.decode) as decode:
        model._objective(network, rows)(batch, 0, rng(1))
    noise = (decode.call_args.args[0] - network.encode(batch)).detach()
    assert float(noise.std()) == pytest.approx(sigma, abs=5 * sigma / (2 * noise.numel()) ** 0.5 + 1e-6)
    assert float(noise.mean().abs()) <= 5 * sigma / noise.numel() ** 0.5 + 1e-6


def test_nothing_is_drawn_in_prediction():
    model = fit(noise=5.0)
    np.testing.assert_array_equal(model.encode(MATRIX), model.encode(MATRIX))
    ids = np.arange(N_ITEMS)
    _, scores = model.recommend(0, MATRIX[0], N=N_ITEMS, filter_already_liked_items=False)
    with torch.no_grad():
        measured = model.network_.encode(Rows(MATRIX).slice(0, 1))
        expected = model.network_.output(model.network_.decode(measured))[0].numpy()
    np.testing.assert_allclose(scores, np.sort(expected)[::-1], atol=1e-5)
    assert len(ids) == len(scores)


# Recovery


def low_rank(n=60, width=9, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) @ draw.normal(size=(2, width)) + 0.3 * draw.normal(size=(n, width)) + 0.5


def pca_error(rows, m):
    centred = rows - rows.mean(0)
    return float((np.linalg.svd(centred, compute_uv=False)[m:] ** 2).sum())


def recovery_error(model, rows):
    with torch.no_grad():
        network = model.network_
        found = network.output(network.decode(torch.from_numpy(model.encode(csr(rows))))).numpy()
    return float(((found - rows) ** 2).sum())


@pytest.mark.parametrize("m", [1, 2])
def test_a_linear_one_without_noise_recovers_as_pca_does(m):
    """The least squared error of any affine m-dimensional recovery is that of PCA (Eckart and Young 1936)."""
    rows = low_rank()
    options = {"likelihood": "gaussian", "hidden": (), "latent": m, "noise": 0.0, "schedule": "cosine"}
    model = fit(csr(rows), **options, epochs=250, batch_size=60, learning_rate=0.1)
    least = pca_error(rows, m)
    assert least * (1 - 1e-4) < recovery_error(model, rows) < least * 1.01
    assert pca_error(rows, m - 1) > 1.2 * least  # so that one measurement less would show


def test_the_loss_falls_with_measurements_and_rises_with_noise():
    rows = csr(low_rank())
    options = {"likelihood": "gaussian", "hidden": (), "epochs": 80, "batch_size": 60, "learning_rate": 0.1}

    def last(**changes):
        return fit(rows, **{**options, "weight_decay": 0.05, **changes}).record_.epochs[-1]["loss"]

    few, quiet, loud = last(latent=1, noise=0.1), last(latent=2, noise=0.1), last(latent=2, noise=3.0)
    assert quiet < 0.8 * few
    assert loud > 1.3 * quiet


# Mistakes


@pytest.mark.parametrize(
    ("option", "value"),
    [("acquisition", "random"), ("noise", -0.1), ("latent", 0), ("hidden", (4, 0)), ("likelihood", "poisson")],
)
def test_hyperparameters_out_of_range_are_refused_by_name(option, value):
    with pytest.raises(ConfigError, match=option):
        fit(**{option: value})


def test_a_network_of_measurements_is_an_autoencoder():
    network = AcquisitionNetwork(N_ITEMS, (), M, (6,), rng())
    assert network.output(network.decode(standard_normal(torch.empty(4, M), rng()))).shape == (4, N_ITEMS)
