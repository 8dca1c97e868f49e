"""SparseFC and GLocal-K against dense arithmetic, and what they become when a part of them is left out."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.errors import ConfigError, UnsupportedError
from recsys.models import DeepAutoRec, GLocalK, SparseFC
from recsys.models.autoencoder import encode_rows
from recsys.models.fitting import new_generator
from recsys.nn.kernelized import KernelNetwork
from recsys.nn.layers import as_stored
from recsys.nn.networks import DeepNetwork
from recsys.sparse import Rows
from tests.contract import cells_of, interrupt, ratings

MATRIX = ratings(n_users=18, n_items=11, density=0.35)
TINY = {"hidden": (6, 4), "dim": 2, "epochs": 3, "batch_size": 4, "learning_rate": 0.05, "weight_decay": 2.0}

both = pytest.mark.parametrize("model_class", [SparseFC, GLocalK])


def fit(model_class, matrix=MATRIX, **changes):
    options = {**TINY, **({"pretrain_epochs": 1} if model_class is GLocalK else {}), **changes}
    return model_class(**options).fit(matrix, show_progress=False)


def predicted(model, matrix=MATRIX):
    users = np.arange(matrix.shape[0])
    return model.predict(users, None, np.tile(np.arange(matrix.shape[1]), (len(users), 1)))


def losses(model, name="loss"):
    return [entry[name] for entry in model.record_.epochs]


def test_it_takes_the_steps_of_a_dense_torch_loop():
    """All pairs of units, all entries of the matrix, both penalties written out."""
    options = {"epochs": 4, "seed": 4, "schedule": "constant", "kernel_decay": 0.3}
    model = fit(SparseFC, **options)

    generator = new_generator(4)
    plain = KernelNetwork(18, (6, 4), 2, generator)
    order = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    cells = torch.from_numpy(cells_of(MATRIX).T.copy()).float()
    mask, targets = ~cells.isnan(), cells.nan_to_num()
    torch.nn.init.constant_(plain.output.bias, float(targets[mask].mean()))
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    found = []
    for _ in range(4):
        total = errors = 0.0
        for rows in torch.randperm(11, generator=order).split(4):
            layers, penalty = [], 0.0
            for layer in (*plain.kernels, plain.output.kernel):
                distances = (layer.row_vectors[:, None] - layer.column_vectors[None]).square().sum(2)
                kernel = (1 - distances).clamp_min(0)
                layers.append(layer.weight * kernel)
                penalty += 2.0 / 2 * layer.weight.square().sum() + 0.3 / 2 * kernel.square().sum()
            hidden = targets[rows]
            for matrix, bias in zip(layers[:-1], plain.biases, strict=True):
                hidden = torch.sigmoid(hidden @ matrix + bias)
            error = (targets[rows] - hidden @ layers[-1].T - plain.output.bias).square()[mask[rows]].sum()
            loss = error + penalty * len(rows) / 11
            optimiser.zero_grad()
            (loss / len(rows)).backward()
            optimiser.step()
            total, errors = total + float(loss.detach()), errors + float(error.detach())
        found.append((total / MATRIX.nnz, errors / MATRIX.nnz))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[name], tensor, rtol=0.0, atol=5e-5)
    assert losses(model) == pytest.approx([total for total, _ in found], rel=1e-4)
    assert losses(model, "squared_error") == pytest.approx([error for _, error in found], rel=1e-4)


def test_with_a_kernel_of_1_it_is_deep_autorec():
    """Vectors at one place stay there: the gradient of ‖u − v‖² is zero."""

    class OnePlace(SparseFC):
        def _network(self, n_in, generator):
            network = super()._network(n_in, generator)
            for layer in (*network.kernels, network.output.kernel):
                torch.nn.init.zeros_(layer.row_vectors)
                torch.nn.init.zeros_(layer.column_vectors)
            return network

    class SameStart(DeepAutoRec):
        def _network(self, n_in, generator):
            kernels = KernelNetwork(n_in, (6, 4, 6), 2, generator)
            network = DeepNetwork(n_in, (6,), 4, torch.Generator(), activation="sigmoid", scale=as_stored)
            first, second, third = (layer.weight.detach() for layer in kernels.kernels)
            with torch.no_grad():
                network.input.weight.copy_(first)
                network.encoder.layers[0].weight.copy_(second.T)
                network.decoder.layers[0].weight.copy_(third.T)
                network.output.weight.copy_(kernels.output.kernel.weight)
            return network

        def _initialize(self, network, rows):
            super(DeepAutoRec, self)._initialize(network, rows)  # the weights have their scale already

    kernels = fit(OnePlace, hidden=(6, 4, 6), kernel_decay=0.0)
    options = {key: value for key, value in TINY.items() if key != "dim"}
    deep = SameStart(**{**options, "hidden": (6,)}, latent=4, pretrain_epochs=0).fit(MATRIX, show_progress=False)
    np.testing.assert_allclose(predicted(kernels), predicted(deep), atol=2e-4)
    assert losses(kernels, "squared_error") == pytest.approx(losses(deep), rel=1e-4)


@both
def test_it_predicts_by_dense_arithmetic(model_class):
    model = fit(model_class, clip=False)
    network = model.network_
    image = torch.from_numpy(np.nan_to_num(cells_of(MATRIX)).T.copy()).float()
    if model_class is GLocalK:
        kernel = network.global_kernel().detach()
        assert (kernel - torch.eye(3)).abs().max() > 0.01
        image = torch.nn.functional.conv2d(image[None, None], kernel[None, None], padding=1)[0, 0]
    with torch.no_grad():
        hidden = image
        for layer, bias in zip(network.kernels, network.biases, strict=True):
            hidden = torch.sigmoid(hidden @ layer().matrix + bias)
        expected = hidden @ network.output.weight.T + network.output.bias
    np.testing.assert_allclose(predicted(model), expected.T.numpy(), atol=1e-4)
    np.testing.assert_allclose(model.item_vectors(), hidden.numpy(), atol=1e-5)
    np.testing.assert_array_equal(model._user_vectors().numpy(), network.output.weight.detach().numpy())


def test_kernel_decay_moves_units_apart_until_connections_are_cut():
    def share_cut(**changes):
        model = fit(SparseFC, epochs=60, batch_size=11, **changes)
        return np.mean([(kernel().matrix == 0).float().mean().item() for kernel in model.network_.kernels])

    assert share_cut(kernel_decay=0.0, learning_rate=0.02) < 0.1
    assert share_cut(kernel_decay=5.0, learning_rate=0.02) > 0.5


def test_the_vectors_of_the_kernels_carry_no_weight_decay():
    """Without errors to learn from (kernels off), only what is penalised moves."""
    model = SparseFC(**TINY)
    rows = Rows(sp.csr_matrix(MATRIX.T))
    network = KernelNetwork(18, (6, 4), 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in (*network.kernels, network.output.kernel):
            layer.row_vectors.fill_(5.0)
    assert model._decay(rows) == 0
    model._objective(network, rows)(rows.slice(0, 11), 0, torch.Generator()).total.backward()
    for layer in (*network.kernels, network.output.kernel):
        torch.testing.assert_close(layer.weight.grad, 2.0 * layer.weight.detach())
        assert not layer.row_vectors.grad.any()
        assert not layer.column_vectors.grad.any()


# GLocal-K


def test_before_fine_tuning_it_is_sparse_fc():
    glocal, plain = fit(GLocalK, pretrain_epochs=3), fit(SparseFC)
    np.testing.assert_allclose(predicted(glocal), predicted(plain), atol=1e-6)
    assert losses(glocal) == pytest.approx(losses(plain), rel=1e-6)
    assert not glocal.network_.pooled.any()


def test_fine_tuning_begins_where_pre_training_ended():
    glocal, plain = fit(GLocalK, epochs=3, pretrain_epochs=2, batch_size=11), fit(SparseFC, batch_size=11)
    assert losses(glocal) == pytest.approx(losses(plain), rel=1e-5)  # of the steps before the kernel first moves
    assert np.abs(predicted(glocal) - predicted(plain)).max() > 1e-3


def test_it_pools_what_the_pre_trained_network_rebuilds():
    seen = {}

    class Spying(GLocalK):
        def _pool(self, network, rows):
            super()._pool(network, rows)
            with torch.no_grad():
                seen["dense"] = (
                    network.output.weight @ network.encode(rows.slice(0, 11)).T + network.output.bias[:, None]
                )
            seen["times"] = seen.get("times", 0) + 1

    model = fit(Spying, epochs=4, pretrain_epochs=2)
    assert seen["times"] == 1
    torch.testing.assert_close(model.network_.pooled, seen["dense"].mean(0), atol=1e-5, rtol=1e-5)
    assert 2 < float(seen["dense"].mean()) < 4


def test_neighbours_are_read_only_when_fine_tuning():
    """Items 4 and 5 apart: what is said of one changes the other's vector by the global kernel alone."""
    changed = MATRIX.copy()
    column = changed.indices == 4
    changed.data[column] = 6 - changed.data[column]
    for pretrain_epochs, moves in ((3, False), (1, True)):
        model = fit(GLocalK, pretrain_epochs=pretrain_epochs)
        vectors = [
            encode_rows(model.network_.encode, model._training_rows(matrix)).numpy() for matrix in (MATRIX, changed)
        ]
        difference = np.abs(vectors[0] - vectors[1]).max(1)
        assert difference[4] > 1e-3
        assert (difference[[3, 5]] > 1e-5).all() == moves
        assert not difference[[0, 1, 2, 6, 7, 8, 9, 10]].any()


def test_a_run_that_is_continued_while_fine_tuning_pools_once(tmp_path):
    options = {**TINY, "epochs": 5, "pretrain_epochs": 2}
    unbroken = GLocalK(**options).fit(MATRIX, show_progress=False)
    interrupt(GLocalK(**options), MATRIX, tmp_path / "run", epoch=3)
    resumed = GLocalK(**options).fit(MATRIX, show_progress=False, checkpoint=tmp_path / "run")
    assert unbroken.network_.pooled.any()
    for name, tensor in unbroken.network_.state_dict().items():
        assert torch.equal(resumed.network_.state_dict()[name], tensor), name


# New users, ratings, hyperparameters


@both
def test_new_users_fold_in_by_the_objective_of_their_row(model_class):
    model = fit(model_class, clip=False)
    users, items = np.arange(18), np.tile(np.arange(11), (18, 1))
    strangers = model.predict(users - 99, MATRIX, items)
    q = np.hstack([model.item_vectors(), np.ones((11, 1))]).astype(np.float64)
    cells = cells_of(MATRIX)
    for user in users:
        own = ~np.isnan(cells[user])
        penalty = np.diag([2.0 / 2] * 4 + [1e-6])
        w = np.linalg.solve(q[own].T @ q[own] + penalty, q[own].T @ cells[user, own])
        np.testing.assert_allclose(strangers[user], q @ w, atol=1e-3)


@both
def test_it_ranks_or_rates(model_class):
    with pytest.raises(UnsupportedError, match="fit with unobserved_weight=0 to predict ratings"):
        predicted(fit(model_class, unobserved_weight=0.1))
    assert np.isfinite(predicted(fit(model_class))).all()
    assert MATRIX.data.min() <= predicted(fit(model_class)).min()


@both
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("hidden", [(), (0,), (3, -1), 6]),
        ("dim", [0, -1, 2.5]),
        ("kernel_decay", [-0.1, np.nan]),
        ("weight_decay", [-1.0]),
        ("pretrain_epochs", [-1]),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(model_class, option, values):
    if not hasattr(model_class, option):
        return
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{option} of \w+ must be .*, got"):
            fit(model_class, **{option: value})


def test_the_defaults_are_those_of_the_paper():
    model = SparseFC()
    assert (model.hidden, model.dim) == ((500, 500), 5)
    assert model.clip
