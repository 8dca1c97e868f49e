"""Deep clustering: its loss in dense arithmetic, its centers by hand, its two phases, clusters that are known."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from recsys.errors import ConfigError
from recsys.models import BottleneckAE, ClusteringAE
from recsys.nn.clusters import ClusteringNetwork
from recsys.sparse import Rows
from tests.contract import batch_of, cells_of, csr, interrupt, ratings

N_USERS, N_ITEMS = 18, 11
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
CELLS = np.where(np.isnan(CELLS), np.nan, 1.0)
MATRIX = csr(CELLS)
TINY = {
    "epochs": 4,
    "batch_size": 7,
    "learning_rate": 0.05,
    "hidden": (6,),
    "latent": 3,
    "clusters": 3,
    "clustering": 0.7,
    "pretraining_share": 0.5,
    "seed": 2,
}


def fit(matrix=MATRIX, **changes):
    return ClusteringAE(**{**TINY, **changes}).fit(matrix, show_progress=False)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def begun(n_clusters=3):
    """A network in double precision whose centers are drawn."""
    model = ClusteringAE(**{**TINY, "clusters": n_clusters})
    network = model._network(N_ITEMS, rng()).double()
    network.begin(torch.randn(n_clusters, 3, generator=rng(1)), torch.arange(1, n_clusters + 1))
    return model, network


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli", "gaussian"])
def test_the_loss_and_its_gradients_are_those_of_dense_arithmetic(likelihood):
    model, network = begun()
    model.likelihood = likelihood
    centers = network.centers.clone()
    (turn,) = model._objective(network, Rows(MATRIX)).turns(2)
    loss = turn.objective(batch_of(CELLS), 3 * model._steps_per_epoch(Rows(MATRIX)) + 1, rng())

    x = torch.from_numpy(np.nan_to_num(CELLS))
    weights = list(network.parameters())
    table, offset = network.input.weight, network.input.bias
    (second,) = network.encoder.layers
    (back,) = network.decoder.layers
    code = torch.tanh(second(torch.tanh(torch.nn.functional.normalize(x, dim=1) @ table + offset)))
    logits = network.output(torch.tanh(back(code)))
    nll = {
        "multinomial": -(x * torch.log_softmax(logits, 1)).sum(),
        "bernoulli": torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum"),
        "gaussian": 0.5 * (x - logits).square().sum(),
    }[likelihood]
    penalty = sum(
        0.35 * min((row - center).square().sum() for center in centers)
        for row, items in zip(code, x, strict=True)
        if items.any()
    )
    assert loss.total.item() == pytest.approx((nll + penalty).item(), rel=1e-9)
    assert loss.parts["clustering"].item() == pytest.approx(penalty.item(), rel=1e-9)
    assert loss.count == N_USERS
    found = torch.autograd.grad(loss.total, weights)
    expected = torch.autograd.grad(nll + penalty, weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_centers_are_the_running_means_of_their_codes():
    _, network = begun()
    codes = torch.randn(20, 3, generator=rng(5), dtype=torch.float64)
    centers, counts = network.centers.clone(), network.counts.clone()
    assigned = network.nearest(codes)
    assert assigned.tolist() == [int(((code - centers) ** 2).sum(1).argmin()) for code in codes]
    assert len(set(assigned.tolist())) == 3
    counted = torch.arange(20) % 5 > 0
    network.follow(codes, assigned, counted)
    for code, k in zip(codes[counted], assigned[counted].tolist(), strict=True):  # Yang et al., §4.2
        counts[k] += 1
        centers[k] += (code - centers[k]) / counts[k]
    torch.testing.assert_close(network.centers, centers)
    torch.testing.assert_close(network.counts, counts)


def test_a_center_of_nothing_is_nobody_s():
    network = ClusteringNetwork(N_ITEMS, (), 3, 4, rng(), activation="tanh")
    network.begin(torch.ones(2, 3), torch.tensor([2, 0]))
    assert network.nearest(torch.zeros(5, 3)).tolist() == [0] * 5
    assert network.counts.tolist() == [2, 0, 0, 0]
    network.follow(torch.zeros(2, 3), torch.tensor([0, 0]), torch.ones(2))
    assert network.centers.tolist() == [[0.5] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3]


def test_k_means_of_the_codes_begins_the_second_phase():
    """With no weight and no step, the centers are those of k-means on the codes of users with entries."""
    model = fit(epochs=2, stop_after=1)  # ends with the pre-training
    has = np.diff(MATRIX.indptr) > 0
    codes = model.encode(MATRIX)[has]
    expected = KMeans(3, n_init=4, random_state=2).fit(codes)
    np.testing.assert_allclose(model.centers, expected.cluster_centers_, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.cluster(MATRIX)[has], expected.labels_)
    plain = BottleneckAE(epochs=2, stop_after=1, **{k: TINY[k] for k in ("batch_size", "learning_rate", "hidden")})
    plain.set_params(latent=3, seed=2).fit(MATRIX, show_progress=False)
    np.testing.assert_array_equal(model.encode(MATRIX), plain.encode(MATRIX))


def test_the_phases_report_what_they_minimize():
    epochs = fit().record_.epochs
    assert ["clustering" in entry for entry in epochs] == [False, False, True, True]
    assert epochs[3]["loss"] == pytest.approx(epochs[3]["nll"] + epochs[3]["clustering"])


def test_counts_are_halved_as_an_epoch_begins():
    model = fit(epochs=6)
    n, halves = N_USERS - 1, 0.0
    for _ in range(3):  # joint epochs after the first, which begins with the users themselves
        halves = 0.5 * (halves or 2 * n) + n if halves else 2 * n
    assert float(model.network_.counts.sum()) == pytest.approx(halves)


class Measured:
    """A validation that finds one epoch best."""

    metric, higher_is_better = "made up", True

    def __init__(self, best):
        self.best, self.calls = best, 0

    def __call__(self, model):
        self.calls += 1
        return {"made up": float(self.calls == self.best)}


def test_weights_of_the_pre_training_have_centers_too():
    model = ClusteringAE(**TINY).fit(MATRIX, show_progress=False, validation=Measured(1))
    assert model.record_.best_epoch == 1
    alone = fit(stop_after=1)
    np.testing.assert_array_equal(model.centers, alone.centers)
    assert set(model.cluster(MATRIX)) == {-1, 0, 1, 2}


def test_measuring_does_not_change_the_training():
    measured = ClusteringAE(**TINY).fit(MATRIX, show_progress=False, validation=Measured(4))
    for name, tensor in fit().network_.state_dict().items():
        assert torch.equal(measured.network_.state_dict()[name], tensor), name


def test_a_run_interrupted_in_either_phase_ends_with_the_same_weights(tmp_path):
    whole = fit()
    for last in (2, 3, 4):  # with one, two and three epochs behind it
        interrupt(ClusteringAE(**TINY), MATRIX, tmp_path / "run", epoch=last)
        again = ClusteringAE(**TINY).fit(MATRIX, show_progress=False, checkpoint=tmp_path / "run")
        for name, tensor in whole.network_.state_dict().items():
            assert torch.equal(again.network_.state_dict()[name], tensor), (name, last)


def planted(seed=0, groups=3, users=30, items=12):
    """Users of a few groups, each with items of its own."""
    draws = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), users)
    likes = np.where(group[:, None] == np.repeat(np.arange(groups), items), 0.5, 0.03)
    cells = draws.random(likes.shape) < likes
    cells[np.arange(len(group)), group * items] = True
    return sp.csr_matrix(cells.astype(np.float32)), group


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_groups_are_found(seed):
    matrix, group = planted(seed)
    model = fit(matrix, epochs=30, latent=8, hidden=(), batch_size=30, learning_rate=0.02, seed=seed)
    assert adjusted_rand_score(group, model.cluster(matrix)) == 1.0
    fresh, of = planted(seed + 10)
    assert adjusted_rand_score(of, model.cluster(fresh)) > 0.95


def test_the_weight_draws_codes_to_their_centers():
    def within(weight):
        model = fit(epochs=30, latent=8, hidden=(), clustering=weight)
        has = model.cluster(MATRIX) >= 0
        codes = model.encode(MATRIX)[has]
        apart = codes - model.centers[model.cluster(MATRIX)[has]]
        return (apart**2).sum() / ((codes - codes.mean(0)) ** 2).sum()

    assert within(20.0) < 0.5 * within(0.0)


def test_fewer_users_than_clusters_and_a_saved_model(tmp_path):
    model = fit(MATRIX[:3], clusters=8)
    assert set(model.cluster(MATRIX)) <= {-1, 0, 1, 2}
    model.save(tmp_path / "model")
    again = ClusteringAE.load(tmp_path / "model")
    np.testing.assert_array_equal(again.centers, model.centers)
    np.testing.assert_array_equal(again.cluster(MATRIX), model.cluster(MATRIX))
    assert again.cluster(sp.csr_matrix((2, N_ITEMS))).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters of .* must be a whole number ≥ 1"),
        ({"clustering": -1.0}, "clustering of .* must be a finite number ≥ 0"),
        ({"pretraining_share": 1.0}, "pretraining_share of .* must be a finite number ≥ 0 and < 1"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        fit(**options)
