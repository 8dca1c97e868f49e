"""AutoRec against the paper's equations, a plain torch loop and brute force."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataError, OutOfRangeError, UnsupportedError
from recsys.evaluation import Validation, evaluate
from recsys.ids import IdMap
from recsys.models import IAutoRec, UAutoRec
from recsys.models.fitting import new_generator
from recsys.models.least_squares import FoldIn
from recsys.nn.networks import AutoRecNetwork
from recsys.splits import Part
from tests.contract import cells_of, csr, random_cells, ratings

MATRIX = ratings(n_users=18, n_items=11, density=0.35)
TINY = {"hidden": 4, "epochs": 3, "batch_size": 7, "learning_rate": 0.05, "weight_decay": 2.0}

both = pytest.mark.parametrize("model_class", [UAutoRec, IAutoRec])


def fit(model_class, matrix=MATRIX, **changes):
    return model_class(**{**TINY, **changes}).fit(matrix, show_progress=False)


def everything(matrix=MATRIX):
    """All users against all items, as `predict` takes them."""
    return np.arange(matrix.shape[0]), np.tile(np.arange(matrix.shape[1]), (matrix.shape[0], 1))


def predicted(model, matrix=MATRIX):
    users, items = everything(matrix)
    return model.predict(users, matrix, items)


def numpy_weights(model):
    network = model.network_
    parts = (network.input.weight, network.input.bias, network.output.weight, network.output.bias)
    return [part.detach().double().numpy() for part in parts]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("unobserved_weight", [0.0, 0.3])
def test_u_autorec_takes_the_steps_of_a_dense_torch_loop(epochs, unobserved_weight):
    options = {**TINY, "epochs": epochs, "schedule": "constant", "seed": 4, "unobserved_weight": unobserved_weight}
    model = fit(UAutoRec, **options)

    generator = new_generator(4)
    plain = AutoRecNetwork(11, 4, generator)
    order_rng = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    cells = torch.from_numpy(cells_of(MATRIX))
    mask = ~cells.isnan()
    mean = 0.0 if unobserved_weight else float(cells[mask].mean())
    unit = np.sqrt(np.mean(MATRIX.data**2)) if unobserved_weight else 1.0  # ratings go from 1 to 5
    targets = (torch.where(mask, cells - mean, 0.0) / unit).float()
    weight = torch.where(mask, 1.0, unobserved_weight)
    torch.nn.init.constant_(plain.output.bias, float((weight * targets).sum() / weight.sum()))
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(18, generator=order_rng).split(7):
            hidden = torch.sigmoid(targets[rows] @ plain.input.weight + plain.input.bias)
            errors = (targets[rows] - (hidden @ plain.output.weight.T + plain.output.bias)).square()
            loss = errors[mask[rows]].sum() + unobserved_weight * errors[~mask[rows]].sum()
            penalty = plain.input.weight.square().sum() + plain.output.weight.square().sum()
            # The step sees its rows' share of λ/2 (‖W‖² + ‖V‖²), and the mean over its rows.
            optimiser.zero_grad()
            ((loss + 2.0 / 2 * penalty * len(rows) / 18) / len(rows)).backward()
            optimiser.step()
            total += float(loss.detach())
        losses.append(total / MATRIX.nnz)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[name], tensor, rtol=0.0, atol=1e-5)
    assert [entry["loss"] for entry in model.record_.epochs] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("center", [True, False])
def test_u_autorec_predicts_by_equation_2(center):
    model = fit(UAutoRec, center=center, clip=False)
    v, mu, w, b = numpy_weights(model)
    cells = cells_of(MATRIX)
    mean = np.nanmean(cells) if center else 0.0
    assert model.mean_ == pytest.approx(mean, rel=1e-6)
    hidden = sigmoid(np.nan_to_num(cells - mean) @ v + mu)
    np.testing.assert_allclose(predicted(model), hidden @ w.T + b + mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode(MATRIX), hidden, rtol=0, atol=1e-6)
    ids, scores = model.recommend(0, MATRIX[0], N=11, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, (hidden @ w.T + b)[0, ids], rtol=0, atol=1e-5)


@pytest.mark.parametrize("center", [True, False])
def test_i_autorec_predicts_by_equation_2_over_columns(center):
    model = fit(IAutoRec, center=center, clip=False)
    v, mu, w, b = numpy_weights(model)
    cells = cells_of(MATRIX)
    mean = np.nanmean(cells) if center else 0.0
    hidden = sigmoid(np.nan_to_num(cells - mean).T @ v + mu)
    assert w.shape == (18, 4)
    np.testing.assert_allclose(predicted(model), (hidden @ w.T + b).T + mean, rtol=0, atol=1e-5)


def test_i_autorec_is_u_autorec_of_the_transposed_matrix():
    transposed = sp.csr_matrix(MATRIX.T)
    for options in ({}, {"unobserved_weight": 0.2}, {"schedule": "constant", "clip": False}):
        by_items = fit(IAutoRec, **options)
        by_users = fit(UAutoRec, transposed, center=False, **options)
        for one, other in zip(numpy_weights(by_items), numpy_weights(by_users), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        if "unobserved_weight" not in options:
            np.testing.assert_allclose(predicted(by_items), predicted(by_users, transposed).T, rtol=0, atol=1e-5)
        losses = [[entry["loss"] for entry in model.record_.epochs] for model in (by_items, by_users)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_centering_is_training_on_ratings_less_their_mean():
    mean = np.float32(MATRIX.data.mean(dtype=np.float64))
    shifted = sp.csr_matrix((MATRIX.data - mean, MATRIX.indices, MATRIX.indptr), shape=MATRIX.shape)
    for model_class in (UAutoRec, IAutoRec):
        centered = predicted(fit(model_class, center=True))
        plain = predicted(fit(model_class, shifted, center=False), shifted)
        np.testing.assert_allclose(centered, plain + mean, rtol=0, atol=1e-5)
        assert np.abs(centered - predicted(fit(model_class, center=False))).max() > 0.05


def test_users_are_centered_by_default_and_items_and_rankings_are_not():
    assert fit(UAutoRec).mean_ == pytest.approx(MATRIX.data.mean(), rel=1e-6)
    assert fit(UAutoRec, unobserved_weight=0.1).mean_ == 0
    assert fit(IAutoRec).mean_ == 0
    assert fit(IAutoRec, center=True).mean_ == pytest.approx(MATRIX.data.mean(), rel=1e-6)


@both
def test_centering_with_unstored_entries_as_zeros_is_refused(model_class):
    with pytest.raises(ConfigError, match="center=True with unobserved_weight > 0"):
        fit(model_class, center=True, unobserved_weight=0.1)


@both
def test_it_learns_ratings_that_have_a_structure(model_class):
    rng = np.random.default_rng(3)
    users, items = rng.normal(size=(120, 1)), rng.normal(size=(1, 60))
    truth = 3 + users * items + 0.5 * rng.normal(size=(1, 60))
    draw = rng.random(truth.shape)
    train, test = csr(np.where(draw < 0.5, truth, np.nan)), csr(np.where(draw > 0.85, truth, np.nan))
    part = Part(train, test, IdMap(range(120)), np.arange(120, dtype=np.int32))
    options = {"hidden": 10, "epochs": 40, "batch_size": 20, "learning_rate": 0.03, "center": True}
    model = fit(model_class, train, **options)
    mean_only = np.sqrt(np.mean((test.data - train.data.mean()) ** 2))
    assert mean_only > 0.95
    assert evaluate(model, part, "rmse")["rmse"] < 0.4 * mean_only


# Ratings


@both
def test_predict_is_predict_pairs_on_a_grid(model_class):
    model = fit(model_class)
    users, items = np.array([4, 0, 17]), np.array([[0, 5, 5], [10, 1, 2], [3, 3, 3]])
    histories = MATRIX[users]
    grid = model.predict(users, histories, items)
    assert (grid.shape, grid.dtype) == ((3, 3), np.float32)
    np.testing.assert_array_equal(grid, np.take_along_axis(predicted(model)[users], items, axis=1))
    rows, order = np.repeat(np.arange(3), 3), np.random.default_rng(0).permutation(9)
    pairs = model.predict_pairs(users, histories, rows[order], items.ravel()[order])
    np.testing.assert_array_equal(pairs, grid.ravel()[order])
    np.testing.assert_array_equal(model.predict(4, MATRIX[4], [0, 5, 5]), grid[0])
    assert model.predict(4, MATRIX[4], 0).shape == ()
    assert model.predict(4, MATRIX[4], 0) == grid[0, 0]
    assert model.predict([], MATRIX[:0], np.empty((0, 3), dtype=int)).shape == (0, 3)


@both
def test_predict_refuses_what_does_not_fit(model_class):
    model = fit(model_class)
    with pytest.raises(DataError, match=r"one row per user \(2\)"):
        model.predict([0, 1], MATRIX[:2], [[1, 2]])
    with pytest.raises(DataError, match=r"one row per userid \(2\), got 3 rows"):
        model.predict([0, 1], MATRIX[:3], [[1], [2]])
    with pytest.raises(DataError, match="one column per training item"):
        model.predict(0, MATRIX[:1, :5], [1])
    for wrong in (11, -1):
        with pytest.raises(OutOfRangeError):
            model.predict(0, MATRIX[0], [wrong])


def test_u_autorec_rates_strangers_from_their_history():
    model = fit(UAutoRec)
    with pytest.raises(DataError, match="needs the users' histories"):
        model.predict(0, None, [1])
    users, items = everything()
    np.testing.assert_array_equal(model.predict(users - 99, MATRIX, items), predicted(model))


def test_i_autorec_rates_its_users_without_a_history_and_strangers_with_one():
    model = fit(IAutoRec, clip=False)
    users, items = everything()
    np.testing.assert_array_equal(model.predict(users, None, items), predicted(model))
    strangers = model.predict(users - 99, MATRIX, items)
    assert np.abs(strangers - predicted(model)).max() > 0.01  # three epochs leave the trained rows short of the optimum
    with torch.inference_mode():
        vectors, offsets = model._users(MATRIX, users - 99)
    by_hand = vectors @ torch.from_numpy(model.item_vectors()).T + offsets[:, None]
    np.testing.assert_allclose(strangers, by_hand, rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="needs the users' histories"):
        model.predict(-1, None, [1])


@both
@pytest.mark.parametrize("cold_rating", [None, 3.0])
def test_the_cold_are_given_one_rating(model_class, cold_rating):
    cells = cells_of(MATRIX)
    cells[2], cells[:, 6] = np.nan, np.nan  # a user and an item that nobody knows
    matrix = csr(cells)
    model = fit(model_class, matrix, cold_rating=cold_rating)
    expected = np.float32(np.nanmean(cells) if cold_rating is None else 3.0)
    found = predicted(model, matrix)
    np.testing.assert_allclose(found[2], expected, rtol=1e-6)
    np.testing.assert_allclose(found[:, 6], expected, rtol=1e-6)
    warm = np.delete(np.delete(found, 2, axis=0), 6, axis=1)
    assert (np.abs(warm - expected) > 1e-4).mean() > 0.9
    stranger = model.predict([-1, -1], sp.vstack([matrix[2], matrix[3]]).tocsr(), [[0, 1], [0, 6]])
    np.testing.assert_allclose(stranger[[0, 0, 1], [0, 1, 1]], expected, rtol=1e-6)
    assert abs(stranger[1, 0] - expected) > 1e-4


def test_a_user_is_cold_by_history_unless_i_autorec_learned_of_them():
    cells = cells_of(MATRIX)
    cells[2] = np.nan
    matrix = csr(cells)
    empty = sp.csr_matrix((1, 11), dtype=np.float32)
    expected = np.float32(np.nanmean(cells))
    users, items = fit(UAutoRec, matrix), fit(IAutoRec, matrix)
    assert users.predict(0, empty, 0) == pytest.approx(expected, rel=1e-6)
    assert users.predict(2, MATRIX[2], 0) == users.predict(-1, MATRIX[2], 0) != pytest.approx(expected, rel=1e-4)
    assert items.predict(2, empty, 0) == pytest.approx(expected, rel=1e-6)
    assert items.predict(2, MATRIX[2], 0) == items.predict(-1, MATRIX[2], 0) != pytest.approx(expected, rel=1e-4)
    assert items.predict(0, empty, 0) == items.predict(0, None, 0) != pytest.approx(expected, rel=1e-4)


@both
def test_ratings_are_clipped_to_the_range_of_the_training(model_class):
    clipped, free = fit(model_class), fit(model_class, clip=False)
    for model in (clipped, free):
        bias = model.network_.output.bias.data
        bias += torch.linspace(-9, 9, len(bias))
    assert (MATRIX.data.min(), MATRIX.data.max()) == (1, 5)
    assert predicted(free).min() < -1
    assert predicted(free).max() > 7
    np.testing.assert_allclose(predicted(clipped), np.clip(predicted(free), 1, 5), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:patience = ")  # so few steps are meant
@both
def test_the_validation_metric_chooses_the_epoch(model_class):
    """Scripted values, so that an epoch in the middle must win; what the model keeps must all be of that epoch."""

    class Scripted:
        metric = "rmse"
        higher_is_better = False

        def __init__(self):
            self.seen = []

        def __call__(self, model):
            self.seen.append(predicted(model))
            return {"rmse": [3.0, 2.0, 1.0, 2.0][len(self.seen) - 1]}

    script = Scripted()
    model = model_class(**{**TINY, "epochs": 4}).fit(MATRIX, show_progress=False, validation=script)
    assert (model.record_.best_epoch, model.record_.metric) == (3, "rmse")
    np.testing.assert_array_equal(predicted(model), script.seen[2])
    assert not np.array_equal(script.seen[2], script.seen[3])
    stopped = model_class(**{**TINY, "epochs": 4, "patience": 1}).fit(
        MATRIX, show_progress=False, validation=type("Rising", (Scripted,), {"higher_is_better": True})()
    )
    assert (stopped.record_.best_epoch, len(stopped.record_.epochs)) == (1, 2)


@both
def test_different_metrics_may_choose_different_epochs(model_class):
    cells = cells_of(ratings(n_users=40, n_items=20, density=0.5))
    draw = np.random.default_rng(0).random(cells.shape)
    train, held = csr(np.where(draw < 0.6, cells, np.nan)), csr(np.where(draw >= 0.6, cells, np.nan))
    part = Part(train, held, IdMap(range(40)), np.arange(40, dtype=np.int32))
    chosen = {}
    for metric in ("rmse", "ndcg@5"):
        model = model_class(**{**TINY, "epochs": 12, "weight_decay": 0.01, "learning_rate": 0.2})
        model.fit(train, show_progress=False, validation=Validation(part, metric))
        values = [entry[metric] for entry in model.record_.epochs]
        best = int(np.argmin(values) if metric == "rmse" else np.argmax(values)) + 1
        assert model.record_.best_epoch == best
        assert evaluate(model, part, metric)[metric] == pytest.approx(values[best - 1], abs=1e-6)
        chosen[metric] = best
    assert chosen["rmse"] != chosen["ndcg@5"]


# Folding in


def objective(v, items, cells, ridge, unobserved_weight, free_columns):
    """What `FoldIn` minimises, written out for one row."""
    stored = torch.from_numpy(~np.isnan(cells))
    scores = items @ v
    errors = (torch.from_numpy(np.nan_to_num(cells)) - scores).square()
    penalised = v[: len(v) - free_columns]
    return errors[stored].sum() + unobserved_weight * errors[~stored].sum() + ridge * penalised.square().sum()


@given(
    width=st.integers(1, 6),
    n_items=st.integers(1, 9),
    ridge=st.sampled_from([0.05, 1.0, 20.0]),
    unobserved_weight=st.sampled_from([0.0, 0.1, 1.0]),
    free_columns=st.sampled_from([0, 1]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=150, deadline=None)
def test_fold_in_is_where_the_gradient_vanishes(width, n_items, ridge, unobserved_weight, free_columns, seed):
    rng = np.random.default_rng(seed)
    items = torch.from_numpy(rng.normal(size=(n_items, width)))
    if free_columns:
        items[:, -1] = 1.0
    cells = random_cells(rng, 4, n_items, 0.5).astype(np.float32).astype(np.float64)
    found = FoldIn(items, ridge, unobserved_weight, free_columns)(csr(cells))
    assert found.shape == (4, width)
    for row in range(4):
        if np.isnan(cells[row]).all():
            assert not found[row].any()
            continue
        v = found[row].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(v, items, cells[row], ridge, unobserved_weight, free_columns), v)
        # The free column carries a ridge of 1e-6 in place of none.
        assert gradient.abs().max() < 1e-8 + 1e-5 * free_columns * max(1.0, float(found[row].abs().max()))


@pytest.mark.parametrize("n_stored", [2, 5])  # fewer and no fewer entries than unknowns: the two systems
def test_fold_in_is_ridge_regression(n_stored):
    rng = np.random.default_rng(1)
    items = rng.normal(size=(8, 3))
    cells = np.full(8, np.nan)
    cells[:n_stored] = rng.integers(1, 6, n_stored)
    own, x = items[:n_stored], cells[:n_stored]
    expected = np.linalg.inv(own.T @ own + 0.7 * np.eye(3)) @ own.T @ x
    found = FoldIn(torch.from_numpy(items), 0.7)(csr(cells[None]))
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-10)


def test_a_folded_in_row_is_no_worse_than_the_trained_one():
    model = fit(IAutoRec, epochs=100, weight_decay=0.5)
    q = torch.cat([torch.from_numpy(model.item_vectors()), torch.ones(11, 1)], 1).double()
    with torch.inference_mode():
        trained, folded = (
            torch.cat([vectors, offsets[:, None]], 1).double()
            for vectors, offsets in (model._users(None, np.arange(18)), model._users(MATRIX, np.full(18, -1)))
        )
    cells = cells_of(MATRIX)
    losses = np.array(
        [[float(objective(v[row], q, cells[row], 0.25, 0.0, 1)) for v in (trained, folded)] for row in range(18)]
    )
    assert (losses[:, 1] < losses[:, 0]).all()
    assert losses[:, 0].sum() < 1.5 * losses[:, 1].sum()  # both answer the same question


@both
def test_what_was_trained_to_rank_predicts_no_ratings(model_class):
    with pytest.raises(UnsupportedError, match="fit with unobserved_weight=0 to predict ratings"):
        fit(model_class, unobserved_weight=0.1).predict(0, MATRIX[0], [1])


@both
def test_equal_ratings_teach_a_masked_loss_nothing(model_class):
    ones = sp.csr_matrix((np.ones_like(MATRIX.data), MATRIX.indices, MATRIX.indptr), shape=MATRIX.shape)
    with pytest.raises(DataError, match="stored values are 1: a loss over stored entries has nothing to learn"):
        fit(model_class, ones)
    assert fit(model_class, ones, unobserved_weight=0.1).n_items_ == 11


@both
def test_a_device_that_is_not_there_is_named(model_class):
    with pytest.raises(ConfigError, match="device must be"):
        fit(model_class, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device here"):
            fit(model_class, device="cuda")
