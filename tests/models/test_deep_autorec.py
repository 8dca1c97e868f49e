"""Deep AutoRec and DeepRecommender against dense torch loops, and against AutoRec where they are as shallow."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys.errors import ConfigError, UnsupportedError
from recsys.models import DeepAutoRec, DeepRecommender, IAutoRec, UAutoRec
from recsys.models.fitting import new_generator
from recsys.nn.layers import as_stored
from recsys.nn.networks import AutoRecNetwork, DeepNetwork
from tests.contract import cells_of, ratings

MATRIX = ratings(n_users=18, n_items=11, density=0.35)
TINY = {"hidden": (6,), "latent": 4, "epochs": 3, "batch_size": 7, "learning_rate": 0.02, "weight_decay": 2.0}
CELLS = torch.from_numpy(cells_of(MATRIX)).float()

both = pytest.mark.parametrize("model_class", [DeepAutoRec, DeepRecommender])


def fit(model_class, **changes):
    return model_class(**{**TINY, **changes}).fit(MATRIX, show_progress=False)


def predicted(model):
    users = np.arange(18)
    return model.predict(users, MATRIX, np.tile(np.arange(11), (18, 1)))


def unit(unobserved_weight):
    """What the network reads as 1: of ratings from 1 to 5 that is 1, of entries to be ranked their root mean square."""
    return float(np.sqrt(np.mean(MATRIX.data**2))) if unobserved_weight else 1.0


def losses(model, name="loss"):
    return [entry[name] for entry in model.record_.epochs]


def dense(network, values, noise=None, rate=0.0):
    """The network on dense rows; draws come in the library's order."""
    code = network.activation(values @ network.input.weight + network.input.bias)
    code = network.encoder(code)
    if noise is not None and rate:
        code = code * (torch.rand(code.shape, generator=noise) >= rate) / (1 - rate)
    return network.output(network.decoder(code))


@pytest.mark.parametrize("refeeds", [0, 1, 3])
@pytest.mark.parametrize(
    ("dropout", "unobserved_weight", "normalize"),
    [(0.0, 0.0, False), (0.4, 0.0, False), (0.0, 0.3, False), (0, 0, True)],
)
def test_re_feeding_takes_the_steps_of_a_dense_torch_loop(refeeds, dropout, unobserved_weight, normalize):
    options = {"seed": 4, "schedule": "constant", "dropout": dropout, "refeeds": refeeds, "normalize": normalize}
    model = fit(DeepRecommender, unobserved_weight=unobserved_weight, **options)

    generator = new_generator(4)
    plain = DeepNetwork(11, (6,), 4, generator, activation="selu", scale=as_stored)
    order, noise = (torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator))) for _ in "on")
    mask = ~CELLS.isnan()
    mean = 0.0 if unobserved_weight else float(CELLS[mask].mean())
    targets = torch.where(mask, CELLS - mean, 0.0) / unit(unobserved_weight)
    weight = torch.where(mask, 1.0, unobserved_weight)
    torch.nn.init.constant_(plain.output.bias, float((weight * targets).sum() / weight.sum()))
    matrices = [p for p in plain.parameters() if p.ndim == 2]
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.02)
    typical = targets.norm(dim=1).square().mean().sqrt()

    def read(values):
        return values * typical / values.norm(dim=1, keepdim=True) if normalize else values

    def step(loss, n):
        penalty = 2.0 / 2 * sum(p.square().sum() for p in matrices) * n / 18
        optimiser.zero_grad()
        ((loss + penalty) / n).backward()
        optimiser.step()

    found = []
    for _ in range(3):
        first = second = 0.0
        for rows in torch.randperm(18, generator=order).split(7):
            fed = dense(plain, read(targets[rows]), noise, dropout)
            loss = (weight[rows] * (fed - targets[rows]).square()).sum()
            step(loss, len(rows))
            first += float(loss.detach())
            for _ in range(refeeds):
                fed = fed.detach()
                again = dense(plain, read(fed), noise, dropout)
                loss = F.mse_loss(again, fed) * mask[rows].sum()  # both losses are means over their entries (eq. 1)
                step(loss, len(rows))
                second, fed = second + float(loss.detach()), again
        found.append((first / MATRIX.nnz, second / MATRIX.nnz / max(1, refeeds)))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[name], tensor, rtol=0.0, atol=5e-5)
    assert losses(model) == pytest.approx([a for a, _ in found], rel=1e-4)
    if refeeds:
        assert losses(model, "refed") == pytest.approx([b for _, b in found], rel=1e-4)
    if not unobserved_weight:
        with torch.no_grad():
            expected = (dense(plain, read(targets)) + mean).clamp(1, 5)
        np.testing.assert_allclose(predicted(model), expected.numpy(), atol=2e-4)


@pytest.mark.parametrize("hidden", [(6,), (7, 5)])
@pytest.mark.parametrize("unobserved_weight", [0.0, 0.3])
def test_greedy_pre_training_takes_the_steps_of_a_dense_torch_loop(hidden, unobserved_weight):
    """Every pair of layers with the deeper ones left out, by an optimiser of its own; then all of them together."""
    model = fit(
        DeepAutoRec, hidden=hidden, seed=4, schedule="constant", pretrain_epochs=2, unobserved_weight=unobserved_weight
    )

    generator = new_generator(4)
    plain = DeepNetwork(18, hidden, 4, generator, activation="sigmoid", scale=as_stored)
    order = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    cells = CELLS.T
    mask, targets = ~cells.isnan(), cells.nan_to_num(0.0) / unit(unobserved_weight)
    weight = torch.where(mask, 1.0, unobserved_weight)
    layers = [*plain.encoder.layers, *plain.decoder.layers]
    with torch.no_grad():
        plain.output.bias.fill_((weight * targets).sum() / weight.sum())
        for layer in layers:
            layer.weight.mul_(4)
    pairs = [[plain.input, plain.output], *zip(plain.encoder.layers, reversed(plain.decoder.layers), strict=True)]
    groups = [[p for layer in pair for p in layer.parameters()] for pair in pairs]
    optimisers = [torch.optim.Adam(group, lr=0.02) for group in groups]

    def rebuilt(rows, depth):
        values = torch.sigmoid(targets[rows] @ plain.input.weight + plain.input.bias)
        for layer in layers[:depth] + layers[len(layers) - depth :]:
            values = torch.sigmoid(layer(values))
        return (weight[rows] * (plain.output(values) - targets[rows]).square()).sum()

    found = []
    for epoch in range(3):
        total = 0.0
        for rows in torch.randperm(11, generator=order).split(7):
            errors = [rebuilt(rows, depth) for depth in range(len(pairs))]
            if epoch == 2:
                errors = errors[-1:] * len(pairs)
            steps = []
            for group, error in zip(groups, errors, strict=True):
                penalty = 2.0 / 2 * sum(p.square().sum() for p in group if p.ndim == 2) * len(rows) / 11
                steps.append(torch.autograd.grad((error + penalty) / len(rows), group, retain_graph=True))
            for group, gradients, optimiser in zip(groups, steps, optimisers, strict=True):
                for parameter, gradient in zip(group, gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()
            total += sum(float(error.detach()) for error in (errors if epoch < 2 else errors[:1]))
        found.append(total / MATRIX.nnz)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[name], tensor, rtol=0.0, atol=5e-5)
    assert losses(model) == pytest.approx(found, rel=1e-4)


def test_pre_training_leaves_an_epoch_for_all_layers():
    with pytest.raises(ConfigError, match="leave one of the 3 epochs for all layers together, got 3"):
        fit(DeepAutoRec, pretrain_epochs=3)
    with pytest.raises(ConfigError, match="pretrain_epochs of DeepAutoRec must be a whole number ≥ 0 or None, got -1"):
        fit(DeepAutoRec, pretrain_epochs=-1)


def test_half_of_the_epochs_pre_train():
    assert losses(fit(DeepAutoRec, epochs=5)) == losses(fit(DeepAutoRec, epochs=5, pretrain_epochs=2))
    assert losses(fit(DeepAutoRec, epochs=5)) != losses(fit(DeepAutoRec, epochs=5, pretrain_epochs=3))


@pytest.mark.parametrize("unobserved_weight", [0.0, 0.2])
def test_without_hidden_layers_and_re_feeding_it_is_u_autorec(unobserved_weight):
    class SameStart(UAutoRec):
        def _network(self, n_in, generator):
            deep = DeepNetwork(n_in, (), 4, generator)
            network = AutoRecNetwork(n_in, 4, torch.Generator())
            network.load_state_dict(deep.state_dict())
            return network

    options = {key: value for key, value in TINY.items() if key not in ("hidden", "latent")}
    plain = SameStart(**options, hidden=4, unobserved_weight=unobserved_weight).fit(MATRIX, show_progress=False)
    deep = fit(
        DeepRecommender, hidden=(), activation="sigmoid", dropout=0.0, refeeds=0, unobserved_weight=unobserved_weight
    )
    assert losses(deep) == pytest.approx(losses(plain), rel=1e-5)
    np.testing.assert_allclose(deep.encode(MATRIX), plain.encode(MATRIX), atol=1e-5)


def test_without_hidden_layers_deep_autorec_is_i_autorec():
    class SameStart(IAutoRec):
        def _network(self, n_in, generator):
            network = AutoRecNetwork(n_in, 4, torch.Generator())
            network.load_state_dict(DeepNetwork(n_in, (), 4, generator).state_dict())
            return network

    options = {key: value for key, value in TINY.items() if key not in ("hidden", "latent")}
    plain = SameStart(**options, hidden=4).fit(MATRIX, show_progress=False)
    deep = fit(DeepAutoRec, hidden=())
    assert losses(deep) == pytest.approx(losses(plain), rel=1e-5)
    np.testing.assert_allclose(predicted(deep), predicted(plain), atol=1e-4)


def test_deep_autorec_is_a_factor_model_of_its_last_hidden_layer():
    model = fit(DeepAutoRec, hidden=(7, 5), clip=False)
    network = model.network_
    values = torch.from_numpy(np.nan_to_num(cells_of(MATRIX)).T.copy()).float()
    with torch.no_grad():
        values = torch.sigmoid(values @ network.input.weight + network.input.bias)
        for layer in (*network.encoder.layers, *network.decoder.layers):
            values = torch.sigmoid(layer(values))
        expected = network.output(values).T
    assert model.item_vectors().shape == (11, 7)
    np.testing.assert_allclose(model.item_vectors(), values.numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted(model), expected.numpy(), atol=1e-4)
    assert model.encode(MATRIX[:3]).shape == (3, 7)
    q = np.hstack([values.numpy(), np.ones((11, 1))]).astype(np.float64)
    cells = cells_of(MATRIX)[5]
    own = ~np.isnan(cells)
    w = np.linalg.solve(q[own].T @ q[own] + np.diag([1.0] * 7 + [1e-6]), q[own].T @ cells[own])
    np.testing.assert_allclose(model.predict(-1, MATRIX[5], np.arange(11)), q @ w, atol=1e-3)


def test_re_feeding_brings_the_output_nearer_to_a_fixed_point():
    def distance(refeeds):
        model = fit(DeepRecommender, epochs=40, dropout=0.0, refeeds=refeeds, weight_decay=0.01)
        with torch.no_grad():
            once = dense(model.network_, torch.where(CELLS.isnan(), 0.0, CELLS - model.mean_))
            return float(F.mse_loss(dense(model.network_, once), once) / once.var())

    assert distance(1) < 0.5 * distance(0)


def test_nothing_is_drawn_in_prediction():
    model = fit(DeepRecommender, dropout=0.5)
    np.testing.assert_array_equal(predicted(model), predicted(model))
    assert not model.network_.training


@both
def test_it_ranks_or_rates(model_class):
    with pytest.raises(UnsupportedError, match="fit with unobserved_weight=0 to predict ratings"):
        predicted(fit(model_class, unobserved_weight=0.1))


@both
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("hidden", [(0,), (3, -1), 6]),
        ("latent", [0, 2.5]),
        ("activation", ["step"]),
        ("dropout", [-0.1, 1.0]),
        ("refeeds", [-1, 0.5]),
        ("weight_decay", [-1.0]),
        ("unobserved_weight", [-0.5]),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(model_class, option, values):
    if not hasattr(model_class, option):
        return
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{option} of \w+ must be .*, got"):
            fit(model_class, **{option: value})


def test_deep_recommender_has_the_penalty_of_autorec():
    assert DeepRecommender().weight_decay == UAutoRec().weight_decay > 0


def test_the_defaults_of_deep_autorec_are_those_of_the_paper():
    model = DeepAutoRec()
    assert (model.hidden, model.latent) == ((500,), 250)
