"""VAE, RecVAE, HVamp, FLVAE and VASP: reductions to each other, their terms by hand, turns, halves, error paths."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from recsys.errors import ConfigError, DataError, TrainingError
from recsys.models import FLVAE, MODELS, VAE, VASP, HVamp, MultVAE, RecVAE
from recsys.models.fitting import new_generator
from recsys.models.variational import ENCODER_EPOCHS
from recsys.nn.gaussian import composite_log_density, gaussian_log_density, mixture_log_density
from recsys.sparse import Rows
from recsys.training import Loss, loop
from tests.contract import batch_of, cells_of, csr, ratings

N_USERS, N_ITEMS = 18, 11
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
MATRIX = csr(CELLS)
BINARY = csr(np.where(np.isnan(CELLS), np.nan, 1.0))
COUNTS = np.nan_to_num(CELLS)
TINY = {"epochs": 3, "batch_size": 7, "learning_rate": 0.05, "latent": 3, "seed": 4}
OPTIONS = {
    "VAE": {"hidden": (6,)},
    "RecVAE": {"hidden": 6, "layers": 2},
    "HVamp": {"hidden": 6, "pseudo_inputs": 4},
    "FLVAE": {"hidden": 6, "layers": 2, "decoder_layers": 2},
    "VASP": {"hidden": 6, "layers": 2, "decoder_layers": 2},
}
every = pytest.mark.parametrize("name", OPTIONS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def new(name, **changes):
    return MODELS[name](**{**TINY, **OPTIONS[name], **changes})


def fit(name, matrix=MATRIX, **changes):
    return new(name, **changes).fit(matrix, show_progress=False)


def everyone(matrix=MATRIX):
    rows = Rows(matrix)
    return rows.slice(0, len(rows))


def network_of(model, seed=1):
    """Its network with all parameters off their start."""
    network = model._network(N_ITEMS, rng())
    generator = rng(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "item_weights" not in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def mult_vae_name(name):
    """What Mult-VAE calls a weight of a VAE with one hidden layer."""
    for long, short in (("encoder.input", "input"), ("encoder.posterior_layer.layer", "posterior_layer")):
        name = name.replace(long, short)
    return name.replace("decoder.layers.0", "decoder")


def weights_of(model):
    return {name: tensor.double().numpy() for name, tensor in model.network_.state_dict().items()}


def test_a_penalty_moves_weights_and_no_pseudo_inputs(monkeypatch):
    """Where the objective is the same everywhere, only the penalty moves anything."""
    for name in ("VAE", "HVamp"):
        options = {**OPTIONS[name], "pseudo_inputs": 4, **({"prior": "vamp"} if name == "VAE" else {})}
        model = new(name, weight_decay=1.0, **options)

        def flat(network, rows):
            return lambda batch, step, noise: Loss(sum(0.0 * p.sum() for p in network.parameters()), len(batch))

        monkeypatch.setattr(model, "_objective", flat)
        before = model._network(N_ITEMS, new_generator(model.seed)).state_dict()
        after = model.fit(MATRIX, show_progress=False).network_.state_dict()
        for key, values in before.items():
            kept = torch.equal(values, after[key])
            assert kept == (values.ndim == 1 or "pseudo_inputs" in key), key


# VAE


@pytest.mark.parametrize("decoder", ["deep", "affine"])
def test_with_its_defaults_it_is_mult_vae(decoder):
    """Losses and gradients, to the last bit."""
    options = {"dropout": 0.4, "beta": 0.7, "anneal_steps": 4, "decoder": decoder}
    general, special = new("VAE", **options), MultVAE(**{**TINY, "hidden": 6, **options})
    network, plain = network_of(general), special._network(N_ITEMS, rng())
    plain.load_state_dict({mult_vae_name(name): tensor for name, tensor in network.state_dict().items()})
    rows, batch = Rows(MATRIX), everyone()
    for step in (0, 2, 9):
        losses = []
        for model, net in ((general, network), (special, plain)):
            net.zero_grad()
            losses.append(model._objective(net, rows)(batch, step, rng(step)))
            losses[-1].total.backward()
        assert losses[0].count == losses[1].count == N_USERS
        assert torch.equal(losses[0].total, losses[1].total)
        gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter.grad, gradients.pop(mult_vae_name(name))), name
        assert not gradients


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli", "gaussian"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_loss_is_the_mean_over_samples_of_each_likelihood_and_the_exact_kl(likelihood, samples):
    model = new("VAE", likelihood=likelihood, samples=samples, dropout=0.0, beta=0.5, anneal_steps=0)
    network = network_of(model).double()
    batch, target = batch_of(np.where(COUNTS > 0, 1.0, np.nan)), torch.from_numpy((COUNTS > 0) * 1.0)
    mean, log_variance = (tensor.detach() for tensor in network.posterior(batch))
    noise, expected = rng(3), 0.0
    for _ in range(samples):
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise, dtype=torch.float64)
        logits = network.output(network.decode(latent)).detach()
        expected -= {
            "multinomial": lambda at: (target * at.log_softmax(1)).sum(),
            "bernoulli": lambda at: Bernoulli(logits=at).log_prob(target).sum(),
            "gaussian": lambda at: (Normal(at, 1.0).log_prob(target) + 0.5 * np.log(2 * np.pi)).sum(),
        }[likelihood](logits) / samples
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    loss = model._objective(network, Rows(MATRIX))(batch, 0, rng(3))
    torch.testing.assert_close(loss.parts["nll"], expected)
    torch.testing.assert_close(loss.parts["kl"], kl)
    torch.testing.assert_close(loss.total, expected + 0.5 * kl)


@pytest.mark.parametrize("prior", ["vamp", "composite"])
def test_the_divergence_from_other_priors_is_log_q_minus_log_p_at_the_samples(prior):
    model = new("VAE", prior=prior, samples=2, dropout=0.0, beta=0.5, anneal_steps=0, pseudo_inputs=4)
    network, batch = network_of(model).double(), batch_of(CELLS)
    objective = model._objective(network, Rows(MATRIX))
    if prior == "composite":
        objective(batch, 0, rng())  # an epoch begins: the old posterior becomes the present one
        with torch.no_grad():
            network.encoder.input.weight.add_(0.5)
    mean, log_variance = (tensor.detach() for tensor in network.posterior(batch))
    noise, expected = rng(3), 0.0
    for _ in range(2):
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise, dtype=torch.float64)
        if prior == "vamp":
            inputs = network.prior.pseudo_inputs.clamp(0, 1).detach()
            density = mixture_log_density(latent, *network.posterior(batch_of(inputs.numpy())))
        else:
            density = composite_log_density(latent, *network.prior.old(batch)).sum(1)
        expected += (gaussian_log_density(latent, mean, log_variance).sum(1) - density).sum() / 2
    loss = objective(batch, 1, rng(3))
    torch.testing.assert_close(loss.parts["kl"], expected)
    torch.testing.assert_close(loss.total, loss.parts["nll"] + 0.5 * expected)
    loss.total.backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert ("prior.pseudo_inputs" in trained) == (prior == "vamp")
    assert not any(name.startswith("prior.old") for name in trained)


def test_the_composite_prior_of_a_vae_remembers_the_epoch_before():
    """It is refreshed by the first step of each epoch, which a continued epoch does not repeat."""
    model = new("VAE", prior="composite")
    network = model._network(N_ITEMS, rng())
    objective, start = model._objective(network, Rows(MATRIX)), network.encoder.input.weight.detach().clone()
    with torch.no_grad():
        network.encoder.input.weight.add_(1.0)
    for step, refreshed in ((1, False), (2, False), (3, True), (4, True)):  # three steps are an epoch
        objective(everyone(), step, rng())
        assert torch.equal(network.prior.old.input.weight, start + 1 if refreshed else start)


def test_deeper_ones_have_the_widths_in_reverse():
    model = fit("VAE", hidden=(8, 5))
    shapes = {name: weight.shape for name, weight in weights_of(model).items() if name.endswith("weight")}
    assert shapes["encoder.input.weight"] == (N_ITEMS, 8)
    assert shapes["encoder.body.dense.layers.0.weight"] == (5, 8)
    assert shapes["encoder.posterior_layer.layer.weight"] == (6, 5)
    assert shapes["decoder.layers.0.weight"] == (5, 3)
    assert shapes["decoder.layers.1.weight"] == (8, 5)
    assert shapes["output.weight"] == (N_ITEMS, 8)


# RecVAE


def test_each_users_divergence_is_weighted_by_the_length_of_the_history():
    model = new("RecVAE", gamma=0.3, dropout=0.0)
    network, batch = network_of(model).double(), batch_of(CELLS)
    (turn,) = model._objective(network, Rows(MATRIX)).turns(0)
    mean, log_variance = (tensor.detach() for tensor in network.posterior(batch))
    latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=rng(3), dtype=torch.float64)
    kl = gaussian_log_density(latent, mean, log_variance) - composite_log_density(latent, *network.prior.old(batch))
    logits = latent @ network.output.weight.detach().T + network.output.bias.detach()  # the decoder is linear
    nll = -(torch.from_numpy(COUNTS) * logits.log_softmax(1)).sum()
    loss = turn.objective(batch, 0, rng(3))
    torch.testing.assert_close(loss.parts["nll"], nll)
    torch.testing.assert_close(loss.total, nll + (0.3 * torch.from_numpy(COUNTS.sum(1)) * kl.sum(1)).sum())
    assert loss.count == N_USERS


def test_turns_move_one_half_and_the_old_posterior_is_refreshed_before_the_decoders():
    states = []

    def keep(entry):
        states.append({name: tensor.clone() for name, tensor in model.network_.state_dict().items()})

    model = new("RecVAE", epochs=2 * (ENCODER_EPOCHS + 1))
    start = model._network(N_ITEMS, new_generator(TINY["seed"])).state_dict()
    model.fit(MATRIX, show_progress=False, on_epoch=keep)

    def moved(before, after):
        names = {name for name in before if not torch.equal(before[name], after[name])}
        return {name.split(".")[0] for name in names}

    for epoch, (before, after) in enumerate(zip([start, *states[:-1]], states, strict=True)):
        if epoch % 4 < ENCODER_EPOCHS:
            assert moved(before, after) == {"encoder"}
        else:
            assert moved(before, after) == {"output", "prior"}
            old = {name.removeprefix("prior.old."): after[name] for name in after if name.startswith("prior.old.")}
            assert all(torch.equal(tensor, before["encoder." + name]) for name, tensor in old.items())


def test_only_the_encoders_turn_drops_out_its_input():
    model = new("RecVAE", dropout=0.5)
    network, batch = network_of(model), everyone()
    alternation, seen = model._objective(network, Rows(MATRIX)), []
    network.encoder.input.register_forward_pre_hook(lambda layer, args: seen.append(args[1].clone()))
    for epoch in (0, 1, 2, 3):
        (turn,) = alternation.turns(epoch)
        turn.objective(batch, 0, rng())
    assert [bool((values == 0).any()) for values in seen] == [True, True, True, False]


def test_an_epoch_that_was_interrupted_goes_on_alike_in_either_turn(tmp_path):
    class Interrupt(Exception):
        pass

    unbroken = fit("RecVAE", epochs=5)
    for stop in (5, 10, 11, 13):  # the second and third lie in the decoder's epoch
        taken = []

        def stopping(network, rows, objective, *args, stop=stop, taken=taken, **kwargs):
            inner = objective.turns

            def turns(epoch):
                found = inner(epoch)

                def counted(batch, step, noise):
                    if len(taken) == stop:
                        raise Interrupt
                    taken.append(step)
                    return found[0].objective(batch, step, noise)

                return (loop.Turn(counted, found[0].parameters),)

            return loop.train(network, rows, loop.Alternation(turns), *args, checkpoint_seconds=-1.0, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recsys.models.autoencoder.train", stopping)
            with pytest.raises(Interrupt):
                new("RecVAE", epochs=5).fit(MATRIX, show_progress=False, checkpoint=tmp_path / "run")
        resumed = new("RecVAE", epochs=5).fit(MATRIX, show_progress=False, checkpoint=tmp_path / "run")
        for key, array in unbroken._arrays().items():
            np.testing.assert_array_equal(resumed._arrays()[key], array, err_msg=key)


# HVamp


def test_the_divergence_of_two_levels():
    model = new("HVamp", dropout=0.0, beta=0.5, anneal_steps=0)
    network, batch = network_of(model).double(), batch_of(CELLS)

    def sample(posterior, noise):
        return posterior[0] + (0.5 * posterior[1]).exp() * torch.randn(N_USERS, 3, generator=noise, dtype=torch.float64)

    noise = rng(3)
    upper_posterior = network.upper(batch)
    upper = sample(upper_posterior, noise)
    lower_posterior = network.lower(batch, upper)
    lower = sample(lower_posterior, noise)
    density = network.prior.log_density(upper, batch, network.upper)
    upper_kl = (gaussian_log_density(upper, *upper_posterior).sum(1) - density).sum()
    gaussians = [Normal(mean, (0.5 * spread).exp()) for mean, spread in (lower_posterior, network.conditional(upper))]
    lower_kl = kl_divergence(*gaussians).sum()
    logits = network.output(network.decode(torch.cat([lower, upper], 1)))
    nll = -(torch.from_numpy(COUNTS) * logits.log_softmax(1)).sum()
    loss = model._objective(network, Rows(MATRIX))(batch, 0, rng(3))
    for name, expected in {"nll": nll, "upper_kl": upper_kl, "lower_kl": lower_kl}.items():
        torch.testing.assert_close(loss.parts[name], expected)
    torch.testing.assert_close(loss.total, nll + 0.5 * (upper_kl + lower_kl))
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_embeddings_hold_both_levels():
    model = fit("HVamp")
    code = model.encode(MATRIX)
    assert code.shape == (N_USERS, 6)
    np.testing.assert_allclose(code[:, 3:], model.network_.upper(everyone())[0].detach().numpy(), atol=1e-6)


# FLVAE and VASP


def test_halves_share_out_each_row():
    batch, noise = everyone(), rng(1)
    lengths = np.diff(MATRIX.indptr)
    seen = np.zeros(MATRIX.shape)
    for _ in range(60):
        parts = batch.halves(noise)
        dense = [sp.csr_matrix((p.values, p.columns, p.offsets), MATRIX.shape) for p in parts]
        assert abs(dense[0] + dense[1] - MATRIX).sum() == 0
        assert [np.diff(half.indptr).tolist() for half in dense] == [
            (lengths // 2).tolist(),
            (-(-lengths // 2)).tolist(),
        ]
        for part in parts:
            assert torch.equal(part.segments, torch.repeat_interleave(torch.arange(N_USERS), part.offsets.diff()))
            assert torch.equal(part.rows, batch.rows)
        seen += dense[0].toarray() > 0
    rows = lengths > 1
    shares = seen[rows].sum(1) / 60
    np.testing.assert_allclose(shares, lengths[rows] // 2)
    free = seen[(COUNTS > 0) & rows[:, None]] / 60
    assert free.min() > 0.1
    assert free.max() < 0.9


@pytest.mark.parametrize("name", ["FLVAE", "VASP"])
def test_beta_grows_unless_it_is_to_be_the_notebooks(name):
    steps = 9  # of three epochs; 85 % of them are 7
    for options, weights in (({}, [0.0, 1 / 7, 1.0]), ({"anneal_steps": 0}, [1.0, 1.0, 1.0])):
        model = new(name, beta=0.5, **options)
        network = network_of(model)
        objective = model._objective(network, Rows(MATRIX))
        for step, share in zip((0, 1, steps - 1), weights, strict=True):
            loss = objective(everyone(), step, rng(step))
            torch.testing.assert_close(loss.total, loss.parts["focal"] + 0.5 * share * loss.parts["kl"])


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("name", ["FLVAE", "VASP"])
def test_one_half_is_read_and_the_other_is_to_be_found(name, halves):
    model = new(name, halves=halves, beta=0.5, anneal_steps=0, alpha=0.3, focus=1.5)
    network, batch = network_of(model).double(), batch_of(np.where(COUNTS > 0, 1.0, np.nan))
    if name == "VASP":
        with torch.no_grad():
            network.item_weights.normal_(generator=rng(7)).fill_diagonal_(0.0)
    noise = rng(3)
    given, wanted = batch.halves(noise) if halves else (batch, batch)
    dense = [
        torch.from_numpy(sp.csr_matrix((p.values, p.columns, p.offsets), MATRIX.shape).toarray())
        for p in (given, wanted)
    ]
    mean, log_variance = network.posterior(given)
    latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise, dtype=torch.float64)
    p = torch.sigmoid(network.output(network.decode(latent)))
    if name == "VASP":
        p = p * torch.sigmoid(dense[0] @ network.item_weights)
    x = dense[1]
    focal = -(0.3 * x * (1 - p) ** 1.5 * p.log() + 0.7 * (1 - x) * p**1.5 * (1 - p).log()).sum()
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    loss = model._objective(network, Rows(MATRIX))(batch, 0, rng(3))
    torch.testing.assert_close(loss.parts["focal"], focal)
    torch.testing.assert_close(loss.parts["kl"], kl)
    torch.testing.assert_close(loss.total, focal + 0.5 * kl)


def test_vasp_scores_are_the_logs_of_products_and_its_diagonal_stays_zero():
    model = fit("VASP", epochs=4)
    w = weights_of(model)
    assert (np.diag(w["item_weights"]) == 0).all()
    assert (w["item_weights"] != 0).sum() == N_ITEMS * (N_ITEMS - 1)
    with torch.inference_mode():
        deep = model.network_.output(model.network_.decode(torch.from_numpy(model.encode(MATRIX)))).numpy()
    shallow = COUNTS @ w["item_weights"]
    expected = -np.log1p(np.exp(-deep)) - np.log1p(np.exp(-shallow))
    ids, scores = model.recommend(np.arange(N_USERS), MATRIX, N=N_ITEMS, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(np.int64), 1), rtol=1e-5)
    some = [7, 2, 5]
    ids, scores = model.recommend(0, MATRIX[0], items=some, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, expected[0, ids], rtol=1e-5)
    assert not hasattr(model, "embeddings_")


def test_the_shallow_paths_penalty_joins_the_mean_loss_per_user():
    network = network_of(new("VASP"))
    with torch.no_grad():
        network.item_weights.normal_(generator=rng(7)).fill_diagonal_(0.0)
    found = []
    for strength in (0.0, 0.2):
        network.zero_grad()
        loss = new("VASP", regularization=strength)._objective(network, Rows(BINARY))(everyone(BINARY), 0, rng(3))
        (loss.total / N_USERS).backward()
        found.append((loss.total.detach() / N_USERS, network.item_weights.grad.clone(), loss.parts["focal"].detach()))
    weights = network.item_weights.detach()
    torch.testing.assert_close(found[1][0] - found[0][0], 0.1 * weights.square().sum(), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(found[1][1] - found[0][1], 0.2 * weights, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[0][2], found[1][2])
    assert (weights.diagonal() == 0).all()


def test_without_a_shallow_path_it_starts_as_flvae():
    """B starts at zero, where the other sigmoid is a half everywhere: both rank alike."""
    one, other = (new(name)._network(N_ITEMS, rng()) for name in ("FLVAE", "VASP"))
    state = other.state_dict()
    assert not state.pop("item_weights").any()
    assert state.keys() == one.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("name", ["FLVAE", "VASP"])
def test_negative_entries_are_refused(name):
    bad = MATRIX.copy()
    bad.data[:2] = -1.0
    with pytest.raises(DataError, match=rf"{name} reads entries as counts of positives: 2 are negative"):
        fit(name, bad)
    model = fit(name)
    with pytest.raises(DataError, match="2 are negative"):
        model.recommend(np.arange(N_USERS), bad)


# All


@every
def test_prediction_draws_nothing(name):
    model = fit(name, dropout=0.5)
    first, again = (model.recommend(np.arange(N_USERS), MATRIX) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not model.network_.training


@every
def test_the_parts_of_the_loss_are_recorded(name):
    names = {"VAE": {"nll", "kl"}, "RecVAE": {"nll", "kl"}, "HVamp": {"nll", "upper_kl", "lower_kl"}}
    for entry in fit(name).record_.epochs:
        assert entry.keys() == {"epoch", "loss", "seconds"} | names.get(name, {"focal", "kl"})
        assert all(np.isfinite(value) for value in entry.values())


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("VAE", "hidden", [(), (4, 0)]),
        ("VAE", "samples", [0]),
        ("VAE", "pseudo_inputs", [0]),
        ("VAE", "prior", ["gamma"]),
        ("VAE", "likelihood", ["poisson"]),
        ("VAE", "beta", [-0.1]),
        ("VAE", "anneal_steps", [-1]),
        ("VAE", "latent", [0]),
        ("RecVAE", "layers", [0]),
        ("RecVAE", "gamma", [-0.1]),
        ("RecVAE", "dropout", [1.0]),
        ("HVamp", "pseudo_inputs", [0]),
        ("HVamp", "beta", [-0.1]),
        ("HVamp", "hidden", [0]),
        ("FLVAE", "layers", [0]),
        ("FLVAE", "decoder_layers", [0]),
        ("FLVAE", "alpha", [0.0, 1.0]),
        ("FLVAE", "focus", [-1.0]),
        ("VASP", "beta", [-1.0]),
        ("VASP", "regularization", [-1.0]),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(name, option, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{option} of \w+ must be .*, got"):
            fit(name, **{option: value})


def test_the_least_that_is_allowed():
    fit("VAE", hidden=(1,), latent=1, beta=0.0, anneal_steps=0, prior="vamp", pseudo_inputs=1)
    fit("RecVAE", hidden=1, layers=1, latent=1, gamma=0.0, epochs=4)
    fit("HVamp", hidden=1, latent=1, pseudo_inputs=1, beta=0.0)
    fit("VASP", hidden=1, layers=1, decoder_layers=1, latent=1, focus=0.0, beta=0.0)


@every
def test_bfloat16_is_near_float32(name):
    full, half = (fit(name, epochs=2, dropout=0.0, precision=precision) for precision in ("float32", "bfloat16"))
    losses = [[entry["loss"] for entry in model.record_.epochs] for model in (full, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in half.network_.state_dict().values())


def test_a_loss_that_diverges_is_reported():
    with pytest.raises(TrainingError, match="lower learning_rate"):
        fit("RecVAE", learning_rate=1e30, epochs=6)


def test_the_defaults_are_those_of_the_papers():
    assert (RecVAE().hidden, RecVAE().layers, RecVAE().latent, RecVAE().learning_rate) == (600, 5, 200, 5e-4)
    assert (HVamp().hidden, HVamp().latent, HVamp().pseudo_inputs, HVamp().beta) == (600, 200, 1000, 0.3)
    assert (FLVAE().layers, FLVAE().decoder_layers, FLVAE().alpha, FLVAE().focus) == (7, 5, 0.25, 2.0)
    assert VASP().halves
    assert VAE().prior == "standard"
