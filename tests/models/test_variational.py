"""Mult-VAE and Mult-DAE against the paper, dense arithmetic, and the mistakes that published ports make."""

from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.distributions import Normal, kl_divergence

from recsys.errors import ConfigError, DataError, NotFittedError
from recsys.models import VAE, MultDAE, MultVAE, variational, whole_rows
from recsys.models.fitting import new_generator
from recsys.nn.networks import MultDAENetwork, MultVAENetwork
from recsys.sparse import Rows
from tests.contract import NO_SCORE, cells_of, csr, ratings

N_USERS, N_ITEMS = 18, 11
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
CELLS[4, np.flatnonzero(~np.isnan(CELLS[4]))[0]] = 0.0
MATRIX = csr(CELLS)
COUNTS = np.nan_to_num(CELLS)
UNIT = COUNTS / np.maximum(np.linalg.norm(COUNTS, axis=1, keepdims=True), 1e-12)
TINY = {"epochs": 3, "batch_size": 7, "learning_rate": 0.05, "latent": 3}
STEPS = 3  # per epoch: 7, 7 and 4 users

both = pytest.mark.parametrize("model_class", [MultVAE, MultDAE])


def new(model_class, **changes):
    return model_class(**{**TINY, **({"hidden": 6} if model_class is MultVAE else {}), **changes})


def fit(model_class, matrix=MATRIX, **changes):
    return new(model_class, **changes).fit(matrix, show_progress=False)


def network_of(model_class, dropout=0.4, seed=0, **options):
    if model_class is MultVAE:
        return MultVAENetwork(N_ITEMS, 6, 3, dropout, rng(seed), **options)
    return MultDAENetwork(N_ITEMS, 3, dropout, rng(seed))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def everyone():
    rows = Rows(MATRIX)
    return rows.slice(0, len(rows))


def scores_of(model, matrix=MATRIX):
    """All scores as a (users, items) table, by way of the lists."""
    users, width = np.arange(matrix.shape[0]), matrix.shape[1]
    ids, scores = model.recommend(users, matrix, N=width, filter_already_liked_items=False)
    table = np.empty(matrix.shape, dtype=np.float32)
    np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
    return table


def weights_of(model):
    return {name: tensor.double().numpy() for name, tensor in model.network_.state_dict().items()}


# Training


def dense_loss(network, unit, counts, stored, beta, noise):
    """What one step minimises, summed over its users, by dense arithmetic alone; draws come in the library's order."""
    keep = torch.ones(stored.shape)
    if network.dropout:
        keep[stored] = (torch.rand(int(stored.sum()), generator=noise) >= network.dropout).float()
    hidden = torch.tanh((unit * keep / (1 - network.dropout)) @ network.input.weight + network.input.bias)
    kl = 0.0
    if isinstance(network, MultVAENetwork):
        posterior = hidden @ network.posterior_layer.weight.T + network.posterior_layer.bias
        mean, deviation = posterior[:, :3], posterior[:, 3:].exp().sqrt()
        kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
        latent = mean + deviation * torch.randn(mean.shape, generator=noise)
        deep = network.output.weight.shape[1] == 6
        hidden = torch.tanh(latent @ network.decoder.weight.T + network.decoder.bias) if deep else latent
    logits = hidden @ network.output.weight.T + network.output.bias
    return -(counts * torch.log_softmax(logits, dim=1)).sum() + beta * kl


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    ("model_class", "strength", "choice"),
    [
        (MultVAE, 0.0, {}),
        (MultVAE, 0.0, {"decoder": "affine"}),
        (MultVAE, 0.02, {"decoder": "affine"}),
        (MultDAE, 0.0, {}),
        (MultDAE, 0.02, {}),
    ],
)
def test_it_takes_the_steps_of_a_dense_torch_loop(model_class, strength, choice, dropout, epochs):
    doubled = 2 if model_class is MultVAE else 1  # its penalty is halved
    options = {"epochs": epochs, "dropout": dropout, "weight_decay": doubled * strength, "seed": 4, **choice}
    if model_class is MultVAE:
        options |= {"beta": 0.7, "anneal_steps": 8}
    model = fit(model_class, **options)

    generator = new_generator(4)
    plain = network_of(model_class, dropout, **choice)
    plain.load_state_dict(new(model_class, **options)._network(N_ITEMS, generator).state_dict())
    order, noise = (torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator))) for _ in "on")
    unit, counts, stored = (torch.from_numpy(a) for a in (UNIT.astype("f"), COUNTS.astype("f"), ~np.isnan(CELLS)))
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    losses, step = [], 0
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(N_USERS, generator=order).split(7):
            loss = dense_loss(plain, unit[rows], counts[rows], stored[rows], 0.7 * min(1, step / 8), noise)
            penalty = sum(p.square().sum() for p in plain.parameters() if p.ndim == 2)
            optimiser.zero_grad()
            (loss / len(rows) + strength * penalty).backward()
            optimiser.step()
            total += float(loss.detach())
            step += 1
        losses.append(total / N_USERS)
    assert step == epochs * STEPS
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[name], tensor, rtol=0.0, atol=2e-5)
    assert [entry["loss"] for entry in model.record_.epochs] == pytest.approx(losses, rel=1e-5)


@both
def test_users_come_in_a_new_order_each_epoch_and_each_comes_once(model_class):
    """Ports shuffle never, or once; some drop the last, smaller batch."""
    visited = []

    class Spying(whole_rows.MultinomialNLL):
        def __call__(self, hidden, weight, bias, batch):
            visited.append(batch.rows.tolist())
            return super().__call__(hidden, weight, bias, batch)

    with mock.patch.object(whole_rows, "MultinomialNLL", Spying):
        fit(model_class, epochs=4)
    assert [len(rows) for rows in visited] == [7, 7, 4] * 4
    epochs = np.concatenate(visited).reshape(4, N_USERS).tolist()
    assert all(sorted(epoch) == list(range(N_USERS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(N_USERS)]}) == 5
    assert len({frozenset(epoch[-4:]) for epoch in epochs}) > 1  # nor is it always the same users who come last


def test_the_noise_of_the_sample_has_standard_deviation_1():
    """Ports draw it with 0.01, which leaves an autoencoder without the V."""
    n, mean, deviation = 4000, torch.tensor([3.0, 0.0, -1.0]), torch.tensor([2.0, 1.0, 0.5])
    network = network_of(MultVAE)
    with torch.no_grad():
        network.posterior_layer.weight.zero_()
        network.posterior_layer.bias.copy_(torch.cat([mean, 2 * deviation.log()]))
    rows = Rows(sp.csr_matrix(MATRIX[np.arange(n) % N_USERS]))
    with mock.patch.object(network, "decode", side_effect=network.decode) as decode:
        new(MultVAE)._objective(network, rows)(rows.slice(0, n), 0, rng(1))
    latent = decode.call_args.args[0].detach()
    assert latent.shape == (n, 3)
    noise = ((latent - mean) / deviation).double()
    assert (noise.mean(0).abs() < 5 / n**0.5).all()
    assert ((noise.std(0) - 1).abs() < 5 / (2 * n) ** 0.5).all()
    assert torch.corrcoef(noise.T).triu(1).abs().max() < 5 / n**0.5


def test_the_kl_is_a_sum_over_latents_and_users():
    """Ports average it over latents, which divides β by their number."""
    network, batch = network_of(MultVAE), everyone()
    with torch.no_grad():
        network.posterior_layer.bias.uniform_(-1, 1, generator=rng(2))

    def loss(beta):
        objective = new(MultVAE, beta=beta, anneal_steps=0)._objective(network, Rows(MATRIX))
        found = objective(batch, 0, rng(1))
        return float(found.total.detach()), found.count

    mean, log_variance = network.posterior(batch, rng(1))
    expected = float(kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum().detach())
    assert expected > 5
    for beta in (0.5, 2.0):
        total, count = loss(beta)
        assert count == N_USERS
        assert total - loss(0.0)[0] == pytest.approx(beta * expected, rel=1e-4)


def betas(model, steps):
    """β of each step: what remains of the loss with a likelihood of 0 and a KL of 1."""
    objective, batch = model._objective(network_of(MultVAE), Rows(MATRIX)), everyone()
    with (
        mock.patch.object(variational.MultinomialNLL, "__call__", return_value=torch.zeros((), dtype=torch.float64)),
        mock.patch.object(variational, "gaussian_kl", return_value=torch.ones(1, dtype=torch.float64)),
    ):
        return [float(objective(batch, step, rng()).total) for step in range(steps)]


@pytest.mark.parametrize("anneal_steps", [1, 5, 40])
def test_beta_grows_linearly_to_its_value_and_stays(anneal_steps):
    """A port lets it climb towards 1 and then drop."""
    expected = np.minimum(np.arange(60) / anneal_steps, 1.0) * 0.3
    np.testing.assert_allclose(betas(new(MultVAE, beta=0.3, anneal_steps=anneal_steps), 60), expected, atol=1e-12)


def test_no_annealing_is_a_constant_beta():
    assert betas(new(MultVAE, beta=0.3, anneal_steps=0), 5) == pytest.approx([0.3] * 5)
    assert betas(new(MultVAE, beta=0.0), 5) == [0.0] * 5


@pytest.mark.parametrize(("epochs", "batch_size"), [(20, 7), (20, 18), (10, 5)])
def test_beta_reaches_its_value_after_85_percent_of_all_steps(epochs, batch_size):
    steps = epochs * -(-N_USERS // batch_size)
    found = betas(new(MultVAE, beta=0.3, epochs=epochs, batch_size=batch_size), steps)
    turn = round(0.85 * steps)
    assert turn == 0.85 * steps
    np.testing.assert_allclose(found, 0.3 * np.minimum(np.arange(steps) / turn, 1.0), atol=1e-12)
    assert found[turn - 1] < 0.3 == found[turn]


# The input


def inputs_of(network, noise):
    """The values that the first layer is given."""
    seen = []
    handle = network.input.register_forward_pre_hook(lambda layer, args: seen.append(args[1].detach().numpy()))
    network.encode(everyone(), noise)
    handle.remove()
    return seen[0]


@both
def test_rows_are_normalized_then_dropped_out_on_their_stored_entries(model_class):
    """Ports leave out the division, the dropout, or its scale."""
    network, unit = network_of(model_class, dropout=0.3), UNIT[~np.isnan(CELLS)]
    np.testing.assert_allclose(inputs_of(network, None), unit, atol=1e-6)
    noise, draws = rng(1), 400
    values = np.stack([inputs_of(network, noise) for _ in range(draws)])
    assert values.shape == (draws, MATRIX.nnz)
    kept = values != 0
    np.testing.assert_allclose(values, np.where(kept, unit / 0.7, 0.0), atol=1e-6)
    assert len(np.unique(kept, axis=0)) == draws
    n = draws * (unit > 0).sum()
    assert abs(1 - kept[:, unit > 0].mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5


@both
def test_the_length_of_a_history_does_not_matter_in_prediction(model_class):
    model = fit(model_class)
    table = scores_of(model)
    np.testing.assert_allclose(scores_of(model, MATRIX * np.float32(8)), table, atol=1e-5)
    binary = csr(np.where(COUNTS > 0, 1.0, np.nan))
    assert np.abs(scores_of(model, binary) - table).max() > 1e-3  # the counts within it do


@both
def test_negative_entries_are_refused_with_their_number(model_class):
    cells = CELLS.copy()
    cells[5, np.flatnonzero(~np.isnan(cells[5]))[:2]] = [-1.0, -0.5]
    cells[9, np.flatnonzero(~np.isnan(cells[9]))[0]] = -3.0
    bad = csr(cells)
    message = rf"{model_class.__name__} has a multinomial likelihood .*: 3 are negative; use \.binarized\(\)"
    model = new(model_class)
    with pytest.raises(DataError, match=message):
        model.fit(bad, show_progress=False)
    with pytest.raises(NotFittedError):
        model.recommend(0, MATRIX[0])
    model.fit(MATRIX, show_progress=False)
    before = scores_of(model)
    for call in (
        lambda: model.recommend(np.arange(N_USERS), bad),
        lambda: model.encode(bad),
        lambda: model.recommend_users(0, bad),
        lambda: model.similar_users(0, user_items=bad),
    ):
        with pytest.raises(DataError, match=message):
            call()
    np.testing.assert_array_equal(scores_of(model), before)


# Prediction


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (MultVAE, {"dropout": 0.5, "beta": 1.0, "anneal_steps": 0}),
        (MultVAE, {"dropout": 0.5, "beta": 1.0, "anneal_steps": 0, "decoder": "affine"}),
        (MultDAE, {}),
    ],
)
def test_nothing_is_drawn_in_prediction(model_class, options):
    """Ports sample z there, or leave the dropout on."""
    model = fit(model_class, **options)
    w = weights_of(model)
    embeddings = np.tanh(UNIT @ w["input.weight"] + w["input.bias"])
    hidden = embeddings
    if model_class is MultVAE:
        posterior = embeddings @ w["posterior_layer.weight"].T + w["posterior_layer.bias"]
        embeddings = posterior[:, :3]
        assert np.exp(0.5 * posterior[:, 3:]).min() > 0.1  # a sample would be far from the mean
        hidden = embeddings
        if "decoder" not in options:
            hidden = np.tanh(embeddings @ w["decoder.weight"].T + w["decoder.bias"])
    expected = hidden @ w["output.weight"].T + w["output.bias"]
    first = scores_of(model)
    np.testing.assert_allclose(first, expected, atol=1e-5)
    np.testing.assert_array_equal(scores_of(model), first)
    np.testing.assert_allclose(model.encode(MATRIX), embeddings, atol=1e-5)
    np.testing.assert_allclose(model.embeddings_.numpy(), embeddings, atol=1e-5)
    assert not model.network_.training


@both
def test_seen_items_stay_away_when_all_logits_are_negative(model_class):
    """Ports mask them with 0, which is then the best score of all."""
    model = fit(model_class)
    with torch.no_grad():
        model.network_.output.bias.sub_(100.0)
    table = scores_of(model)
    assert table.max() < -50
    ids, scores = model.recommend(np.arange(N_USERS), MATRIX, N=N_ITEMS)
    for user in range(N_USERS):
        unseen = np.flatnonzero(np.isnan(CELLS[user]))
        expected = unseen[np.argsort(-table[user, unseen], kind="stable")]
        assert ids[user].tolist() == expected.tolist() + [-1] * (N_ITEMS - len(unseen))
        np.testing.assert_allclose(scores[user, : len(unseen)], table[user, expected], rtol=1e-6)
        assert (scores[user, len(unseen) :] == NO_SCORE).all()


@both
def test_it_finds_two_groups_of_users_with_items_of_their_own(model_class):
    draw = np.random.default_rng(0)
    group, kind = np.arange(60) % 2, np.arange(24) % 2
    liked = (group[:, None] == kind[None, :]) & (draw.random((60, 24)) < 0.35)
    liked[np.arange(60), group] = True  # nobody is without history
    assert liked.sum(1).max() <= 8  # four of the twelve are always left
    matrix = csr(np.where(liked, 1.0, np.nan))
    training, strangers = matrix[:40], matrix[40:]

    def share(**options):
        model = fit(model_class, training, epochs=40, batch_size=10, **options)
        known = model.recommend(np.arange(40), training, N=4)[0]
        new_users = model.recommend(np.full(20, -1), strangers, N=4)[0]
        return (np.concatenate([known, new_users]) % 2 == group[:, None]).mean()

    assert share(learning_rate=0.02, latent=4) == 1.0
    assert share(learning_rate=1e-7, latent=4) < 0.8  # untrained, it is not


# Hyperparameters


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("latent", [0, -2]),
        ("dropout", [-0.1, 1.0, 1.5, np.nan]),
        ("epochs", [0]),
        ("batch_size", [0, -1]),
        ("learning_rate", [0.0, -0.1, np.nan]),
        ("weight_decay", [-0.1]),
        ("schedule", ["linear"]),
        ("patience", [0]),
        ("hidden", [0, -2]),
        ("beta", [-0.1]),
        ("anneal_steps", [-1]),
        ("decoder", ["linear", "", None]),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(option, values):
    for model_class in (MultVAE, MultDAE):
        if not hasattr(model_class(), option):
            continue
        for value in values:
            model = new(model_class, **{option: value})
            with pytest.raises(ConfigError, match=rf"^{option} of \w+ must be .*, got"):
                model.fit(MATRIX, show_progress=False)


def test_the_ends_of_the_ranges_are_allowed():
    least = {"dropout": 0.0, "latent": 1, "weight_decay": 0.0, "batch_size": 1, "epochs": 1}
    assert np.isfinite(scores_of(fit(MultVAE, **least, hidden=1, beta=0.0, anneal_steps=0))).all()
    assert np.isfinite(scores_of(fit(MultDAE, **least))).all()


@pytest.mark.parametrize(
    ("model", "without"),
    [
        (MultVAE(hidden=6, latent=3), {"decoder.weight", "decoder.bias"}),
        (VAE(hidden=(6, 5), latent=3), {f"decoder.layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}),
    ],
)
def test_an_affine_decoder_has_the_output_layer_alone(model, without):
    deep = model._network(N_ITEMS, rng()).state_dict()
    model.set_params(decoder="affine")
    network = model._network(N_ITEMS, rng())
    assert deep.keys() - network.state_dict().keys() == without
    assert network.output.weight.shape == (N_ITEMS, 3)
    for name, tensor in network.state_dict().items():
        if name.endswith("weight") and name != "output.weight":  # what comes before has the same first weights
            assert torch.equal(tensor, deep[name]), name
    codes = torch.randn(4, 3, generator=rng())
    assert network.decode(codes) is codes


def test_the_vectors_of_items_score_by_product_with_an_affine_decoder():
    model = fit(MultVAE, decoder="affine")
    items = model.network_.output.weight.detach().numpy()
    offset = model.network_.output.bias.detach().numpy()
    np.testing.assert_allclose(scores_of(model), model.embeddings_.numpy() @ items.T + offset, atol=1e-5)


def test_the_defaults_are_those_of_the_paper():
    vae, dae = MultVAE(), MultDAE()
    assert vae.decoder == "deep"
    assert (vae.hidden, vae.latent, dae.latent, vae.beta) == (600, 200, 200, 0.2)
    for model in (vae, dae):
        assert (model.dropout, model.batch_size, model.learning_rate, model.epochs) == (0.5, 500, 1e-3, 200)
    assert (vae.weight_decay, dae.weight_decay) == (0.0, 0.01 / 500)


@pytest.mark.parametrize("model_class", [MultVAE, MultDAE])
def test_bfloat16_is_near_float32_and_leaves_no_trace(model_class):
    before = torch.get_float32_matmul_precision()
    full = fit(model_class, epochs=3, dropout=0.0)
    half = fit(model_class, epochs=3, dropout=0.0, precision="bfloat16")
    fit(model_class, epochs=1, precision="tf32")
    losses = [[entry["loss"] for entry in model.record_.epochs] for model in (full, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1] or model_class is MultDAE  # Mult-DAE has no dense hidden layer
    assert all(tensor.dtype == torch.float32 for tensor in half.network_.state_dict().values())
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ConfigError, match=r"precision of Mult\w+ must be"):
        fit(model_class, precision="float16")
