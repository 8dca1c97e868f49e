"""AAE, VAE/GAN and ALI: whose turn moves what, each loss against dense autograd, and games that are lost."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from recsys.errors import ConfigError, DataError
from recsys.models import AAE, ALI, VAEGAN, MultVAE
from recsys.models.adversarial import judged
from recsys.models.fitting import new_generator
from recsys.nn.adversarial import Discriminator
from recsys.nn.layers import standard_normal
from recsys.sparse import Rows
from tests.contract import batch_of, cells_of, csr, ratings

N_USERS, N_ITEMS, LATENT = 18, 11, 3
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
MATRIX = csr(CELLS)
COUNTS = torch.from_numpy(np.nan_to_num(CELLS))
LENGTHS = COUNTS.norm(dim=1, keepdim=True).clamp_min(1e-12)
BATCH = batch_of(CELLS)
TINY = {"epochs": 2, "batch_size": 7, "hidden": 6, "latent": LATENT, "dropout": 0.0, "discriminator": (5, 4)}
MODELS = [AAE, VAEGAN, ALI]

each = pytest.mark.parametrize("model_class", MODELS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def new(model_class, **changes):
    return model_class(**{**TINY, **changes})


def fit(model_class, matrix=MATRIX, **changes):
    return new(model_class, **changes).fit(matrix, show_progress=False)


def game(model_class, **changes):
    """A network in float64 and in evaluation mode, whose spectral norms keep still, and its turns."""
    model = new(model_class, **changes)
    network = model._network(N_ITEMS, rng()).double().eval()
    return network, model._objective(network, Rows(MATRIX)).turns(0)


def players(network):
    encoder = [*network.input.parameters(), *network.posterior_layer.parameters()]
    decoder = [*network.decoder.parameters(), *network.output.parameters()]
    return {"encoder": encoder, "decoder": decoder, "discriminator": list(network.discriminator.parameters())}


MOVES = {
    AAE: [{"encoder", "decoder"}, {"discriminator"}, {"encoder"}],
    VAEGAN: [{"encoder"}, {"decoder"}, {"discriminator"}],
    ALI: [{"encoder", "decoder"}, {"discriminator"}],
}


@pytest.mark.parametrize("decoder", ["deep", "affine"])
@each
def test_turns_are_those_of_the_paper_and_move_their_players_alone(model_class, decoder):
    network, turns = game(model_class, decoder=decoder)
    named = players(network)
    assert sum(map(len, named.values())) == len(list(network.parameters()))
    for turn, movers in zip(turns, MOVES[model_class], strict=True):
        expected = {id(p) for mover in movers for p in named[mover]}
        assert {id(p) for p in turn.parameters} == expected
        assert len(turn.parameters) == len(expected)


@each
def test_a_training_step_moves_every_player(model_class):
    model = fit(model_class, epochs=1, batch_size=N_USERS)
    before = new(model_class)._network(N_ITEMS, new_generator(0)).state_dict()
    after = model.network_.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name]) and "direction" not in name]
    assert not still
    assert all(parameter.requires_grad for parameter in model.network_.parameters())


# Each turn's loss and gradient against dense autograd


def posterior(network):
    hidden = torch.tanh(COUNTS / LENGTHS @ network.input.weight + network.input.bias)
    mean, log_variance = network.posterior_layer(hidden).chunk(2, 1)
    return mean, (0.5 * log_variance).exp()


def code(network, noise):
    mean, deviation = posterior(network)
    return mean + deviation * standard_normal(mean, noise)


def logits_of(network, latent):
    deep = network.output.weight.shape[1] == TINY["hidden"]
    return network.output(torch.tanh(network.decoder(latent)) if deep else latent)


def nll(network, latent):
    return -(COUNTS * torch.log_softmax(logits_of(network, latent), 1)).sum()


def made_rows(network, latent):
    return torch.softmax(logits_of(network, latent), 1) * COUNTS.sum(1, keepdim=True) / LENGTHS


def first_layer(d, rows, latent=None):
    sums = rows @ d.table / d.norm(d.table.T) + d.bias
    return torch.relu(sums if latent is None else sums + d.codes(latent / LATENT**0.5))


def log_d(logits):
    """log D and log(1 − D)."""
    return torch.sigmoid(logits).log(), (1 - torch.sigmoid(logits)).log()


def dense_aae(network, model, noise):
    d = network.discriminator

    def reconstruction():
        return nll(network, code(network, noise))

    def discrimination():
        made = code(network, noise)
        return -(log_d(d(standard_normal(made, noise)))[0] + log_d(d(made))[1]).sum()

    def deception():
        return -model.adversarial_weight * log_d(d(code(network, noise)))[0].sum()

    return reconstruction, discrimination, deception


def dense_vaegan(network, model, noise):
    d = network.discriminator

    def like(latent):
        real, made = (d.rest.features(first_layer(d, rows)) for rows in (COUNTS / LENGTHS, made_rows(network, latent)))
        return 0.5 * (real - made).square().sum() + model.likelihood_weight * nll(network, latent)

    def judgement(latent):
        return log_d(d.rest(first_layer(d, made_rows(network, latent))))

    def encoding():
        prior = kl_divergence(Normal(*posterior(network)), Normal(0.0, 1.0)).sum()
        return model.beta * prior + like(code(network, noise))

    def decoding():
        latent = code(network, noise)
        invented = standard_normal(latent, noise)
        return model.gamma * like(latent) - (judgement(latent)[0] + judgement(invented)[0]).sum()

    def discrimination():
        latent = code(network, noise)
        invented = standard_normal(latent, noise)
        real = log_d(d.rest(first_layer(d, COUNTS / LENGTHS)))[0]
        return -(real + judgement(latent)[1] + judgement(invented)[1]).sum()

    return encoding, decoding, discrimination


def dense_ali(network, model, noise):
    d = network.discriminator

    def encoders(latent):
        return log_d(d.rest(first_layer(d, COUNTS / LENGTHS, latent)))

    def decoders(latent):
        return log_d(d.rest(first_layer(d, made_rows(network, latent), latent)))

    def deception():
        latent = code(network, noise)
        fooled = -(encoders(latent)[1] + decoders(standard_normal(latent, noise))[0]).sum()
        return fooled + model.reconstruction_weight * nll(network, latent)

    def discrimination():
        latent = code(network, noise)
        return -(encoders(latent)[0] + decoders(standard_normal(latent, noise))[1]).sum()

    return deception, discrimination


@pytest.mark.parametrize(
    ("model_class", "dense", "changes"),
    [
        (AAE, dense_aae, {}),
        (AAE, dense_aae, {"adversarial_weight": 7.0}),
        (AAE, dense_aae, {"decoder": "affine"}),
        (VAEGAN, dense_vaegan, {"beta": 0.3, "gamma": 2.0, "likelihood_weight": 0.0}),
        (VAEGAN, dense_vaegan, {"likelihood_weight": 0.4}),
        (VAEGAN, dense_vaegan, {"likelihood_weight": 0.4, "decoder": "affine"}),
        (ALI, dense_ali, {"reconstruction_weight": 0.0}),
        (ALI, dense_ali, {"reconstruction_weight": 0.5}),
        (ALI, dense_ali, {"reconstruction_weight": 0.5, "decoder": "affine"}),
    ],
)
def test_each_turn_has_the_loss_and_the_gradients_of_dense_arithmetic(model_class, dense, changes):
    network, turns = game(model_class, **changes)
    draws = rng()
    for number, (turn, expected_loss) in enumerate(
        zip(turns, dense(network, new(model_class, **changes), draws), strict=True)
    ):
        moving = {id(p) for p in turn.parameters}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in moving)
        draws.manual_seed(number)
        expected = expected_loss()
        found = turn.objective(BATCH, 0, rng(number))
        assert found.count == N_USERS
        torch.testing.assert_close(found.total, expected, rtol=1e-9, atol=1e-9)
        one, other = (torch.autograd.grad(loss, turn.parameters) for loss in (found.total, expected))
        for parameter, (a, b) in enumerate(zip(one, other, strict=True)):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=f"turn {number}, parameter {parameter}")
        assert sum(float(a.abs().sum()) for a in one) > 0


# One model as a case of another


def test_without_its_adversary_an_aae_is_a_vae_without_prior():
    network, turns = game(AAE)
    plain = MultVAE(**{k: v for k, v in TINY.items() if k != "discriminator"}, beta=0.0)
    expected = plain._objective(network, Rows(MATRIX))(BATCH, 0, rng(3))
    torch.testing.assert_close(turns[0].objective(BATCH, 0, rng(3)).total, expected.total, rtol=0.0, atol=0.0)
    _, silent = game(AAE, adversarial_weight=0.0)
    assert float(silent[2].objective(BATCH, 0, rng()).total.detach()) == 0.0


def test_with_the_likelihood_alone_the_encoder_of_a_vaegan_is_that_of_a_vae():
    options = {k: v for k, v in TINY.items() if k != "discriminator"}
    network, turns = game(VAEGAN, beta=0.4, likelihood_weight=1.0)
    with torch.no_grad():
        for parameter in network.discriminator.rest.hidden.parameters():
            parameter.zero_()  # features that see nothing
    expected = MultVAE(**options, beta=0.4, anneal_steps=0)._objective(network, Rows(MATRIX))(BATCH, 0, rng(3))
    found = turns[0].objective(BATCH, 0, rng(3)).total
    torch.testing.assert_close(found, expected.total, rtol=1e-12, atol=0.0)


# The game


def test_a_judgement_counts_every_decision_and_the_accuracy_both_kinds_alike():
    real, two, three = torch.tensor([2.0, -1.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, 1.0, -1.0])
    for made, right in (([two], 5 / 6), ([two, three], (2 / 3 + (1 + 1 / 3) / 2) / 2)):
        loss = judged(real, *made)
        chances = torch.cat([torch.sigmoid(real), *(1 - torch.sigmoid(logits) for logits in made)])
        assert float(loss.total) == pytest.approx(-float(chances.log().sum()))
        assert float(loss.parts["discriminator_accuracy"]) / loss.count == pytest.approx(right)
    chance = judged(torch.zeros(4), torch.zeros(4), torch.zeros(4))
    assert float(chance.parts["discriminator_loss"]) / 4 == pytest.approx(math.log(2))
    prior = torch.full((4,), -math.log(2))  # of two made to each real one
    expected = math.log(3) - 2 / 3 * math.log(2)
    assert float(judged(prior, prior, prior).parts["discriminator_loss"]) / 4 == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "accuracy"), [(0.0, 0.5), (4.0, 0.95)])
def test_a_discriminator_learns_what_there_is_to_learn(shift, accuracy):
    """At chance where both come from one distribution, nearly sure where they lie far apart."""
    network, draws = Discriminator((2, 16), rng()), rng(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)

    def loss(n):
        real, made = (torch.randn(n, 2, generator=draws) for _ in range(2))
        return judged(network(real), network(made + shift))

    for _ in range(150):
        optimiser.zero_grad()
        (loss(128).total / 128).backward()
        optimiser.step()
    parts = loss(4000).parts
    assert float(parts["discriminator_accuracy"]) / 4000 == pytest.approx(accuracy, abs=0.05)
    if not shift:
        assert float(parts["discriminator_loss"].detach()) / 4000 == pytest.approx(math.log(2), abs=0.01)


def crowd(n_users=120, n_items=14, seed=0):
    """Random rows of an item or more."""
    draw = np.random.default_rng(seed)
    cells = np.where(draw.random((n_users, n_items)) < 0.3, 1.0, np.nan)
    cells[np.arange(n_users), np.arange(n_users) % n_items] = 1.0
    return csr(cells)


def test_the_codes_of_an_aae_become_normal_and_its_discriminator_ends_at_chance():
    def ends(weight):
        options = {"epochs": 60, "batch_size": 40, "learning_rate": 0.01, "hidden": 16, "discriminator": (32,)}
        model = fit(AAE, crowd(), **options, adversarial_weight=weight, schedule="cosine")
        rows = Rows(crowd())
        latent = []
        with torch.no_grad():
            for seed in range(20):
                mean, log_variance = model.network_.posterior(rows.slice(0, len(rows)))
                latent.append(mean + (0.5 * log_variance).exp() * standard_normal(mean, rng(seed)))
        return model.record_.epochs[-1], torch.cat(latent)

    last, codes = ends(1.0)
    assert last["discriminator_loss"] == pytest.approx(math.log(2), abs=0.02)
    assert last["discriminator_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert codes.mean(0).abs().max() < 0.25
    assert (codes.std(0) - 1.0).abs().max() < 0.25
    free, codes = ends(0.0)  # nothing draws these codes together
    assert free["discriminator_loss"] < 0.66
    assert codes.std(0).min() > 1.25


def test_wide_codes_of_an_aae_do_not_become_normal():
    """They have next to no variance in many directions, which a discriminator of bounded slope hardly sees."""
    options = {
        "epochs": 40,
        "batch_size": 40,
        "learning_rate": 0.01,
        "hidden": 32,
        "latent": 32,
        "discriminator": (32,),
    }
    matrix = crowd(n_items=400)
    model = fit(AAE, matrix, **options, schedule="cosine")
    with torch.no_grad():
        mean, log_variance = model.network_.posterior(Rows(matrix).slice(0, 120))
        codes = mean + (0.5 * log_variance).exp() * standard_normal(mean, rng())
    normal = standard_normal(codes, rng(1))
    found, wanted = (np.median(np.linalg.eigvalsh(np.cov(values.numpy().T))) for values in (codes, normal))
    assert found < 0.2 < 0.7 < wanted


@each
def test_each_epoch_tells_how_the_game_stands(model_class):
    for entry in fit(model_class).record_.epochs:
        assert 0.0 < entry["discriminator_loss"] < 3.0
        assert 0.0 <= entry["discriminator_accuracy"] <= 1.0
        assert entry["code_variance"] > 0.0


def test_the_reported_variance_is_that_of_the_codes():
    network, turns = game(AAE)
    found = float(turns[0].objective(BATCH, 0, rng()).parts["code_variance"]) / N_USERS
    assert found == pytest.approx(float(posterior(network)[0].var(0, unbiased=False).mean().detach()))


def test_codes_that_collapse_are_reported():
    options = {"epochs": 12, "batch_size": 30, "learning_rate": 0.05, "beta": 10.0, "schedule": "cosine"}
    with pytest.warns(UserWarning, match=r"the codes of VAEGAN have collapsed: their variance .* in epoch 12 "):
        fit(VAEGAN, crowd(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(VAEGAN, crowd()[:99], **options)  # too few to tell


def test_a_discriminator_that_has_won_is_reported():
    model = new(ALI)
    sound = {"epoch": 4.0, "discriminator_loss": 0.06, "code_variance": 2e-3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model._warn_of_collapse(sound)
    with pytest.warns(UserWarning, match=r"the discriminator of ALI has won: its loss is 0\.0400 in epoch 4 \(chance"):
        model._warn_of_collapse({**sound, "discriminator_loss": 0.04})


@each
def test_nothing_is_drawn_in_prediction(model_class):
    model = fit(model_class, dropout=0.5)
    with torch.no_grad():
        hidden = torch.tanh((COUNTS / LENGTHS).float() @ model.network_.input.weight + model.network_.input.bias)
        mean = model.network_.posterior_layer(hidden)[:, :LATENT]
    np.testing.assert_allclose(model.encode(MATRIX), mean.numpy(), atol=1e-5)


# Mistakes


@pytest.mark.parametrize(
    ("model_class", "option", "value"),
    [
        *((model_class, "discriminator", value) for model_class in MODELS for value in ((), (4, 0))),
        *((model_class, "dropout", 1.0) for model_class in MODELS),
        (AAE, "adversarial_weight", -0.1),
        (AAE, "likelihood", "poisson"),
        (VAEGAN, "beta", -0.1),
        (VAEGAN, "gamma", -0.1),
        (VAEGAN, "likelihood_weight", -1.0),
        (ALI, "reconstruction_weight", -1.0),
        (ALI, "latent", 0),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(model_class, option, value):
    with pytest.raises(ConfigError, match=option):
        fit(model_class, **{option: value})


@pytest.mark.parametrize("model_class", [VAEGAN, ALI])
def test_negative_entries_are_refused(model_class):
    with pytest.raises(DataError, match=f"{model_class.__name__} has a multinomial likelihood .*1 are negative"):
        fit(model_class, csr([[1.0, -1.0], [1.0, np.nan]]))


def test_an_aae_takes_the_likelihood_of_the_data():
    signed = csr(np.where(np.isnan(CELLS), np.nan, CELLS - 3.0))
    assert np.isfinite(fit(AAE, signed, likelihood="gaussian").record_.epochs[-1]["loss"])
    with pytest.raises(DataError, match="AAE has a bernoulli likelihood"):
        fit(AAE, likelihood="bernoulli")


@each
def test_bfloat16_stays_near_float32(model_class):
    full, half = (fit(model_class, precision=precision) for precision in ("float32", "bfloat16"))
    losses = [[entry["loss"] for entry in model.record_.epochs] for model in (full, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in half.network_.state_dict().values())
