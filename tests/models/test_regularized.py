"""Regularised autoencoders: each one's own term, what they reduce to, users of CDAE, and what they refuse."""

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError, DataError
from recsys.models import CDAE, BottleneckAE, ContractiveAE, DenoisingAE, SparseAE
from recsys.nn.layers import l2_normalized
from recsys.nn.networks import MultDAENetwork
from recsys.sparse import Rows
from recsys.training import Loss
from tests.contract import batch_of, cells_of, csr, ratings

N_USERS, N_ITEMS = 18, 11
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
MATRIX = csr(CELLS)
LIKED = csr(np.where(np.isnan(CELLS), np.nan, 1.0))
TINY = {"epochs": 3, "batch_size": 7, "learning_rate": 0.05, "latent": 4, "weight_decay": 0.01, "seed": 2}

all_of_them = pytest.mark.parametrize("model_class", [BottleneckAE, SparseAE, DenoisingAE, ContractiveAE, CDAE])


def fit(model_class, matrix=MATRIX, **changes):
    return model_class(**{**TINY, **changes}).fit(matrix, show_progress=False)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.network_.state_dict().items()}


def loss_of(model, network, batch, seed=0):
    return model._objective(network, Rows(MATRIX))(batch, 0, rng(seed))


def in_double(model_class, cells=CELLS, **options):
    """A model, its untrained network and all rows, in double precision."""
    model = model_class(**{**TINY, **options})
    model.n_users_ = len(cells)
    network = model._network(N_ITEMS, rng()).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng(1), dtype=torch.float64))
    return model, network, batch_of(cells)


def dense_rows(batch):
    rows = torch.zeros(len(batch), N_ITEMS, dtype=torch.float64)
    return rows.index_put_((batch.segments, batch.columns), l2_normalized(batch))


def multinomial(network, code, cells=CELLS):
    logits = network.output(network.decode(code))
    return -(torch.from_numpy(np.nan_to_num(cells)) * torch.log_softmax(logits, 1)).sum()


# Own terms


@pytest.mark.parametrize("hidden", [(), (6, 5)])
@pytest.mark.parametrize("name", ["bottleneck", "l1", "kl", "contractive"])
def test_the_loss_is_that_of_dense_arithmetic(name, hidden):
    options = {
        "bottleneck": (BottleneckAE, {"activation": "tanh"}),
        "l1": (SparseAE, {"sparsity": 0.3, "activation": "tanh"}),
        "kl": (SparseAE, {"sparsity": 0.3, "penalty": "kl", "activation": "sigmoid", "target": 0.2}),
        "contractive": (ContractiveAE, {"contraction": 0.3, "probes": None}),
    }
    model_class, changes = options[name]
    model, network, batch = in_double(model_class, hidden=hidden, **changes)
    found = loss_of(model, network, batch)

    rows = dense_rows(batch).requires_grad_()
    act = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}[model.activation]

    def encode(row):
        values = act(row @ network.input.weight + network.input.bias)
        for layer in network.encoder.layers:
            values = act(layer(values))
        return values

    code = encode(rows)
    expected = multinomial(network, code)
    if name == "l1":
        expected = expected + 0.3 * sum(abs(value.item()) for value in code.flatten())
    if name == "kl":
        mean = code.mean(0)
        expected = expected + 0.3 * N_USERS * (0.2 * (0.2 / mean).log() + 0.8 * (0.8 / (1 - mean)).log()).sum()
    if name == "contractive":
        jacobian = torch.autograd.functional.jacobian(lambda x: encode(x).sum(0), rows)  # rows do not meet
        expected = expected + 0.3 * jacobian.square().sum()
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert found.count == N_USERS
    if name != "bottleneck":
        likelihood = multinomial(network, code).item()
        assert found.parts["penalty"].item() == pytest.approx(expected.item() - likelihood, rel=1e-4)


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (SparseAE, {"sparsity": 0.3}),
        (SparseAE, {"sparsity": 0.3, "penalty": "kl", "activation": "sigmoid"}),
        (ContractiveAE, {"contraction": 0.3}),
        (ContractiveAE, {"contraction": 0.3, "hidden": (6,), "probes": None}),
        (DenoisingAE, {"corruption": "gaussian", "level": 0.2}),
        (CDAE, {"dropout": 0.3}),
    ],
)
def test_gradients_are_those_of_finite_differences(model_class, options):
    model, network, batch = in_double(model_class, **options)
    loss_of(model, network, batch).total.backward()
    for parameter in network.parameters():
        step, flat = 1e-6, parameter.data.view(-1)
        for place in (0, len(flat) // 2, len(flat) - 1):
            values = []
            for sign in (1, -1):
                flat[place] += sign * step
                values.append(float(loss_of(model, network, batch).total.detach()))
                flat[place] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert float(parameter.grad.view(-1)[place]) == pytest.approx(slope, rel=2e-4, abs=2e-4)


def test_penalties_do_what_they_are_for():
    code = {}
    for sparsity in (0.0, 3.0):
        code[sparsity] = fit(SparseAE, sparsity=sparsity, epochs=30, batch_size=18).encode(MATRIX)
    assert np.abs(code[3.0]).mean() < 0.7 * np.abs(code[0.0]).mean()
    towards = fit(
        SparseAE,
        penalty="kl",
        activation="sigmoid",
        target=0.1,
        sparsity=50.0,
        epochs=80,
        batch_size=18,
        weight_decay=0.0,
    )
    np.testing.assert_allclose(towards.encode(MATRIX).mean(0), 0.1, atol=0.02)

    def movement(model):
        nudged = MATRIX.copy()
        nudged.data = nudged.data + 0.1 * np.random.default_rng(0).normal(size=nudged.nnz).astype(np.float32)
        return np.linalg.norm(model.encode(nudged) - model.encode(MATRIX))

    for hidden in ((), (6,)):
        free, held = (fit(ContractiveAE, contraction=c, hidden=hidden, epochs=30, batch_size=18) for c in (0.0, 1.0))
        assert movement(held) < 0.7 * movement(free)


@pytest.mark.parametrize("corruption", ["masking", "gaussian", "salt-and-pepper"])
def test_the_encoder_reads_the_corrupted_row_and_the_loss_the_clean_one(corruption):
    model, network, batch = in_double(DenoisingAE, corruption=corruption, level=0.4, likelihood="gaussian")
    clean = network.encode(batch)
    codes, decode = [], network.decode
    network.decode = lambda code: codes.append(code.detach()) or decode(code)
    loss = loss_of(model, network, batch, seed=3)
    (code,) = codes
    assert (code - clean).abs().max() > 0.01
    rebuilt = network.output(decode(code))
    expected = 0.5 * (torch.from_numpy(np.nan_to_num(CELLS)) - rebuilt).square().sum()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(codes[0], code)
    loss_of(model, network, batch, seed=4)
    assert not torch.equal(codes[1], code)  # another draw


# What they reduce to


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (SparseAE, {"sparsity": 0.0, "activation": "tanh"}),
        (SparseAE, {"sparsity": 0.0, "penalty": "kl", "activation": "sigmoid"}),
        (DenoisingAE, {"level": 0.0}),
        (DenoisingAE, {"level": 0.0, "corruption": "salt-and-pepper"}),
        (DenoisingAE, {"level": 0.0, "corruption": "gaussian"}),
        (ContractiveAE, {"contraction": 0.0}),
        (ContractiveAE, {"contraction": 0.0, "hidden": (5,)}),
    ],
)
def test_without_its_term_each_is_the_plain_autoencoder(model_class, options):
    shared = {key: options[key] for key in ("activation", "hidden") if key in options}
    model = fit(model_class, **options)
    plain = fit(BottleneckAE, **{"activation": model.activation, **shared})
    for name, tensor in arrays_of(plain).items():
        np.testing.assert_allclose(arrays_of(model)[name], tensor, atol=1e-6, err_msg=name)
    # A penalty of weight 0 keeps its place in the record.
    assert [e["loss"] for e in model.record_.epochs] == pytest.approx([e["loss"] for e in plain.record_.epochs])


def test_masking_is_the_dropout_of_mult_dae():
    model, network, batch = in_double(DenoisingAE, level=0.4)
    other = MultDAENetwork(N_ITEMS, 4, 0.4, rng()).double()
    other.load_state_dict(network.state_dict())
    code, _ = model._code(network, batch, rng(5))
    torch.testing.assert_close(code, other.encode(batch, rng(5)))
    assert not torch.allclose(code, network.encode(batch))


def test_with_its_term_none_is():
    plain = {act: arrays_of(fit(BottleneckAE, activation=act)) for act in ("tanh", "sigmoid")}
    for model_class, options in [
        (SparseAE, {"sparsity": 0.1}),
        (SparseAE, {"sparsity": 0.1, "penalty": "kl", "activation": "sigmoid"}),
        (DenoisingAE, {"level": 0.3}),
        (DenoisingAE, {"level": 0.3, "corruption": "salt-and-pepper"}),
        (DenoisingAE, {"level": 0.3, "corruption": "gaussian"}),
        (ContractiveAE, {"contraction": 0.1}),
    ]:
        model = fit(model_class, **options)
        assert not np.allclose(arrays_of(model)["input.weight"], plain[model.activation]["input.weight"], atol=1e-4)


def test_a_cdae_whose_users_are_alike_is_a_denoising_autoencoder_without_them():
    """Weight decay that outweighs everything would do it too; here the vectors just stay where they begin."""
    model, network, batch = in_double(CDAE, dropout=0.0)
    plain, other, _ = in_double(BottleneckAE)
    other.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name != "users"})
    with torch.no_grad():
        network.users.zero_()
    assert loss_of(model, network, batch).total.item() == pytest.approx(loss_of(plain, other, batch).total.item())


# Likelihoods


@all_of_them
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_other_likelihoods_train(model_class, likelihood):
    model = fit(model_class, LIKED, likelihood=likelihood, epochs=30)
    losses = [entry["loss"] for entry in model.record_.epochs]
    assert losses[-1] < losses[0]
    if likelihood == "bernoulli":
        with pytest.raises(DataError, match="bernoulli"):
            fit(model_class, MATRIX, likelihood=likelihood)


@all_of_them
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_less_precise_layers_give_nearly_the_same_losses(model_class, precision):
    options = {"dropout": 0.0} if model_class is CDAE else {"level": 0.0} if model_class is DenoisingAE else {}
    if model_class is ContractiveAE:
        options = {"probes": None}
    full, less = (fit(model_class, hidden=(6,), precision=p, **options) for p in ("float32", precision))
    losses = [[entry["loss"] for entry in model.record_.epochs] for model in (full, less)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


# Users of CDAE


def test_the_user_node_enters_the_first_layer():
    _, network, batch = in_double(CDAE, hidden=(6,), activation="tanh", dropout=0.0)
    users = torch.arange(N_USERS)
    users[5:7] = -1
    found = network.encode(batch, users=users)
    node = network.users.clone()
    node[5:7] = network.users.mean(0)
    first = torch.tanh(dense_rows(batch) @ network.input.weight + network.input.bias + node)
    torch.testing.assert_close(found, torch.tanh(network.encoder.layers[0](first)))
    strangers = network.encode(batch)
    torch.testing.assert_close(strangers[5:7], found[5:7])
    assert (strangers - found).abs().max(1).values[:5].min() > 1e-3


def test_the_penalty_is_on_weights_and_user_vectors_and_on_no_offsets(monkeypatch):
    """Where the objective is the same everywhere, only the penalty moves anything."""
    model = CDAE(**{**TINY, "weight_decay": 1.0})

    def flat(network, rows):
        return lambda batch, step, noise: Loss(sum(0.0 * p.sum() for p in network.parameters()), len(batch))

    def off_the_start(network, rows):
        before.update({name: parameter.fill_(0.5).clone() for name, parameter in network.named_parameters()})

    before = {}
    monkeypatch.setattr(model, "_objective", flat)
    monkeypatch.setattr(model, "_initialize", torch.no_grad()(off_the_start))
    network = model.fit(MATRIX, show_progress=False).network_
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"input.weight", "output.weight", "users"}


def test_training_users_have_a_vector_of_their_own_and_strangers_the_mean():
    model = fit(CDAE, epochs=20, weight_decay=0.0)
    w = arrays_of(model)
    assert np.abs(w["users"]).max() > 0.01
    unit = np.nan_to_num(CELLS) / np.maximum(np.linalg.norm(np.nan_to_num(CELLS), axis=1, keepdims=True), 1e-12)

    def scores(history, node):
        hidden = np.tanh(history @ w["input.weight"] + w["input.bias"] + node)
        return hidden @ w["output.weight"].T + w["output.bias"]

    def asked(users, histories, **options):
        ids, found = model.recommend(users, histories, N=N_ITEMS, filter_already_liked_items=False, **options)
        table = np.empty(found.shape)
        np.put_along_axis(table, ids.astype(np.int64), found, axis=1)
        return table

    everyone, mean = np.arange(N_USERS), w["users"].mean(0)
    own, stranger = scores(unit, w["users"]), scores(unit, mean)
    np.testing.assert_allclose(asked(everyone, MATRIX), own, atol=1e-4)
    np.testing.assert_allclose(asked(everyone, None), own, atol=1e-4)
    np.testing.assert_allclose(asked(everyone, MATRIX, recalculate_user=True), stranger, atol=1e-4)
    np.testing.assert_allclose(asked(everyone + N_USERS, MATRIX), stranger, atol=1e-4)
    assert np.abs(own - stranger).max() > 1e-2
    # A history that has grown since training is read, beside the vector that training has left.
    turned = asked(everyone, MATRIX[::-1])
    np.testing.assert_allclose(turned, scores(unit[::-1], w["users"]), atol=1e-4)
    mixed = np.where(everyone % 2, everyone, -1)
    np.testing.assert_allclose(asked(mixed, MATRIX), np.where(everyone[:, None] % 2, own, stranger), atol=1e-4)


def test_each_row_trains_the_vector_of_its_own_user():
    model, network, _ = in_double(CDAE)
    part = Rows(MATRIX).batch(torch.tensor([4, 9]))
    network.float()
    loss_of(model, network, part).total.backward()
    moved = network.users.grad.abs().sum(1) > 0
    assert moved.nonzero().ravel().tolist() == [4, 9]


def test_input_weights_are_shared_by_users_and_the_penalty_covers_their_vectors():
    free, held = (fit(CDAE, epochs=30, weight_decay=decay) for decay in (0.0, 1.0))
    assert np.abs(arrays_of(held)["users"]).mean() < 0.2 * np.abs(arrays_of(free)["users"]).mean()


# Hyperparameters


@pytest.mark.parametrize(
    ("model_class", "options", "message"),
    [
        (BottleneckAE, {"latent": 0}, "latent of BottleneckAE must be a whole number ≥ 1, got 0"),
        (BottleneckAE, {"hidden": (3, 0)}, "hidden of BottleneckAE must be a tuple with each entry a whole number ≥ 1"),
        (BottleneckAE, {"hidden": 3}, "hidden of BottleneckAE must be a tuple"),
        (BottleneckAE, {"activation": "gelu"}, "activation of BottleneckAE must be 'tanh' or .*, got 'gelu'"),
        (BottleneckAE, {"likelihood": "poisson"}, "likelihood of BottleneckAE must be"),
        (BottleneckAE, {"likelihood": "gaussian", "unobserved_weight": 0.0}, "unobserved_weight .* > 0, got 0.0"),
        (BottleneckAE, {"weight_decay": -0.1}, "weight_decay .* ≥ 0 or None, got -0.1"),
        (SparseAE, {"penalty": "l2"}, "penalty of SparseAE must be 'l1' or 'kl', got 'l2'"),
        (SparseAE, {"sparsity": -0.1}, "sparsity .* ≥ 0, got -0.1"),
        (SparseAE, {"target": 0.0}, "target .* > 0 and < 1, got 0.0"),
        (SparseAE, {"target": 1.0}, "target .* > 0 and < 1, got 1.0"),
        (SparseAE, {"penalty": "kl", "activation": "tanh"}, "activation must be 'sigmoid' with penalty='kl'"),
        (
            DenoisingAE,
            {"corruption": "blur"},
            "corruption of DenoisingAE must be 'masking' or 'gaussian' or 'salt-and-pepper', got",
        ),
        (DenoisingAE, {"level": 1.0}, "level must be below 1 as a share"),
        (DenoisingAE, {"level": -0.1, "corruption": "gaussian"}, "level .* ≥ 0, got -0.1"),
        (ContractiveAE, {"contraction": -1.0}, "contraction .* ≥ 0, got -1.0"),
        (ContractiveAE, {"probes": 0}, "probes of ContractiveAE must be a whole number ≥ 1 or None, got 0"),
        (CDAE, {"dropout": 1.0}, "dropout .* ≥ 0 and < 1, got 1.0"),
    ],
)
def test_what_cannot_work_is_refused(model_class, options, message):
    with pytest.raises(ConfigError, match=message):
        fit(model_class, **options)


def test_a_deviation_may_exceed_1():
    assert np.isfinite(fit(DenoisingAE, corruption="gaussian", level=1.5).record_.epochs[-1]["loss"])
