"""The feature consistent autoencoder: its loss in dense arithmetic, its two phases, what it refuses."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from recsys.errors import ConfigError, TrainingError
from recsys.models import BottleneckAE, FeatureConsistentAE
from recsys.sparse import Rows
from tests.contract import batch_of, cells_of, csr, interrupt, ratings

N_USERS, N_ITEMS = 18, 11
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
MATRIX = csr(CELLS)
COUNTS = torch.from_numpy(np.nan_to_num(CELLS))
TINY = {
    "epochs": 4,
    "batch_size": 7,
    "learning_rate": 0.05,
    "hidden": 6,
    "latent": 3,
    "perceptual": (5, 4),
    "pretraining_share": 0.5,
    "seed": 2,
}


def fit(**changes):
    return FeatureConsistentAE(**{**TINY, **changes}).fit(MATRIX, show_progress=False)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model, perceptual):
    state = model.network_.state_dict()
    return {name: tensor for name, tensor in state.items() if name.startswith("perceptual.") is perceptual}


@pytest.mark.parametrize("decoder", ["deep", "affine"])
@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli", "gaussian"])
def test_the_loss_is_that_of_dense_arithmetic(likelihood, decoder):
    options = {**TINY, "dropout": 0.0, "beta": 0.3, "likelihood_weight": 0.2}
    model = FeatureConsistentAE(**options, likelihood=likelihood, decoder=decoder)
    network = model._network(N_ITEMS, rng()).double()
    (turn,) = model._objective(network, Rows(MATRIX)).turns(2)
    cells = np.where(np.isnan(CELLS), np.nan, 1.0)
    loss = turn.objective(batch_of(cells), 0, rng(3))

    x = torch.from_numpy(np.nan_to_num(cells))
    unit = torch.nn.functional.normalize(x, dim=1)
    posterior = network.posterior_layer(torch.tanh(unit @ network.input.weight + network.input.bias))
    mean, deviation = posterior[:, :3], (0.5 * posterior[:, 3:]).exp()
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
    latent = mean + deviation * torch.randn(mean.shape, generator=rng(3), dtype=torch.float64)
    logits = network.output(torch.tanh(network.decoder(latent)) if decoder == "deep" else latent)
    rebuilt, nll = {
        "multinomial": (torch.softmax(logits, 1), -(x * torch.log_softmax(logits, 1)).sum()),
        "bernoulli": (
            torch.sigmoid(logits),
            torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum"),
        ),
        "gaussian": (logits, 0.5 * (x - logits).square().sum()),
    }[likelihood]
    features = 0.0
    one, other = unit, torch.nn.functional.normalize(rebuilt, dim=1)
    first, second = network.perceptual.input, network.perceptual.encoder.layers[0]
    for width, layer in ((5, lambda rows: rows @ first.weight + first.bias), (4, second)):
        one, other = torch.tanh(layer(one)), torch.tanh(layer(other))
        features = features + (one - other).square().sum() / (2 * width)  # Hou et al., §3.2
    assert loss.parts["features"].item() == pytest.approx(features.item(), rel=1e-6)
    assert loss.parts["kl"].item() == pytest.approx(kl.item(), rel=1e-6)
    assert loss.total.item() == pytest.approx((features + 0.3 * kl + 0.2 * nll).item(), rel=1e-6)
    assert (loss.count, turn.objective(batch_of(cells), 0, rng(3)).total.item()) == (N_USERS, loss.total.item())


def test_the_frozen_encoder_trains_first_and_then_no_more():
    states = []
    model = FeatureConsistentAE(**TINY)

    def keep(entry):
        states.append({name: tensor.clone() for name, tensor in model.network_.state_dict().items()})

    model.fit(MATRIX, show_progress=False, on_epoch=keep)
    for before, after, phase in zip(states, states[1:], ("first", "second", "second"), strict=False):
        for name in before:
            moves = name.startswith("perceptual.") is (phase == "first")
            assert torch.equal(before[name], after[name]) is not moves, (name, phase)
    assert [set(entry) & {"features", "kl", "nll"} for entry in model.record_.epochs] == [
        set(),
        set(),
        {"features", "kl", "nll"},
        {"features", "kl", "nll"},
    ]


def test_the_frozen_encoder_is_a_plain_autoencoder():
    plain = BottleneckAE(epochs=2, batch_size=7, learning_rate=0.05, hidden=(5,), latent=4, weight_decay=0.0, seed=2)
    model = FeatureConsistentAE(**TINY)
    first = model._network(N_ITEMS, rng(7)).perceptual.state_dict()
    later = fit().network_.perceptual.state_dict()
    assert first.keys() == plain._network(N_ITEMS, rng()).state_dict().keys() == later.keys()
    losses = [entry["loss"] for entry in fit(epochs=40, likelihood_weight=0.0).record_.epochs[:20]]
    assert losses[-1] < 0.9 * losses[0]


def test_without_pretraining_the_features_are_random_and_stay():
    model = FeatureConsistentAE(**{**TINY, "pretraining_share": 0.0})
    kept = []
    model.fit(
        MATRIX,
        show_progress=False,
        on_epoch=lambda e: kept.append(weights(model, True)["perceptual.input.weight"].clone()),
    )
    assert all(torch.equal(kept[0], tensor) for tensor in kept)
    assert fit(epochs=1).record_.epochs[0]["features"] > 0  # a share of one epoch is none


def test_a_run_interrupted_in_either_phase_ends_with_the_same_weights(tmp_path):
    whole = fit()
    for last in (2, 3, 4):  # with one, two and three epochs behind it
        interrupt(FeatureConsistentAE(**TINY), MATRIX, tmp_path / "run", epoch=last)
        with pytest.raises(TrainingError, match=r"differs in .*pretraining_share"):
            FeatureConsistentAE(**{**TINY, "pretraining_share": 0.25}).fit(
                MATRIX, show_progress=False, checkpoint=tmp_path / "run"
            )
        again = FeatureConsistentAE(**TINY).fit(MATRIX, show_progress=False, checkpoint=tmp_path / "run")
        for name, tensor in whole.network_.state_dict().items():
            assert torch.equal(again.network_.state_dict()[name], tensor), (name, last)


def test_features_alone_teach_it_to_rebuild():
    """With neither likelihood nor KL term the reconstruction comes nearer to the row in the frozen layers."""
    entries = fit(epochs=60, beta=0.0, likelihood_weight=0.0, dropout=0.0, pretraining_share=0.2).record_.epochs[12:]
    assert entries[-1]["features"] < 0.5 * entries[0]["features"]
    assert "nll" not in entries[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perceptual": ()}, "perceptual of .* must be a tuple .*, not empty"),
        ({"perceptual": (4, 0)}, "with each entry a whole number ≥ 1"),
        ({"pretraining_share": 1.0}, "pretraining_share of .* must be a finite number ≥ 0 and < 1"),
        ({"pretraining_share": -0.1}, "pretraining_share of .* must be a finite number ≥ 0 and < 1"),
        ({"beta": -0.1}, "beta of .* must be a finite number ≥ 0"),
        ({"likelihood_weight": -0.1}, "likelihood_weight of .* must be a finite number ≥ 0"),
        ({"patience": 2}, "patience must be above the 2 epochs of pretraining"),
        ({"hidden": 0}, "hidden of .* must be a whole number ≥ 1"),
        ({"dropout": 1.0}, "dropout of .* must be a finite number ≥ 0 and < 1"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        fit(**options)


def test_precision_of_dense_layers_changes_little():
    losses = [
        [entry["loss"] for entry in fit(dropout=0.0, precision=precision).record_.epochs]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=0.02)
    assert losses[0][2:] == pytest.approx(losses[1][2:], rel=0.5)  # the noise of z is drawn in another precision
