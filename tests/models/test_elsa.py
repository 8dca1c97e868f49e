"""ELSA against dense arithmetic, and its likeness to EASE."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from recsys.errors import ConfigError, UnsupportedError
from recsys.models import EASE, ELSA
from recsys.models.fitting import new_generator
from tests.contract import cells_of, ratings

MATRIX = ratings(n_users=24, n_items=13, density=0.4)
UNSEEN = ratings(n_users=7, n_items=13, density=0.3, seed=1)
TINY = {"factors": 4, "epochs": 3, "batch_size": 10, "learning_rate": 0.05}


def fit(matrix=MATRIX, **options):
    return ELSA(**{**TINY, **options}).fit(matrix, show_progress=False)


def dense(matrix):
    return torch.from_numpy(np.nan_to_num(cells_of(matrix))).float()


def scores_of(model, histories):
    """All scores as a (users, items) table, by way of the lists."""
    users, width = np.arange(histories.shape[0]), histories.shape[1]
    ids, scores = model.recommend(users, histories, N=width, filter_already_liked_items=False)
    table = np.empty(histories.shape, dtype=np.float32)
    np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
    return torch.from_numpy(table)


def weights_of(model):
    """A Aᵀ − I."""
    unit = F.normalize(model.network_.weight.detach())
    return unit @ unit.T - torch.eye(len(unit))


@pytest.mark.parametrize("histories", [MATRIX, UNSEEN], ids=["training users", "strangers"])
def test_scores_are_the_history_times_weights_without_a_diagonal(histories):
    model = fit()
    weights = weights_of(model)
    assert weights.diagonal().abs().max() < 1e-6
    torch.testing.assert_close(scores_of(model, histories), dense(histories) @ weights, rtol=0, atol=1e-5)
    _, scores = model.recommend_users([11, 0, 5], histories, N=50, filter_already_liked_users=False)
    expected = (dense(histories) @ weights)[:, [11, 0, 5]].T.sort(dim=1, descending=True).values
    torch.testing.assert_close(torch.from_numpy(scores[:, : histories.shape[0]]), expected, rtol=0, atol=1e-5)


def test_an_item_does_not_explain_itself():
    one = sp.csr_matrix(([1.0], ([0], [5])), shape=(1, 13), dtype=np.float32)
    assert abs(float(scores_of(fit(), one)[0, 5])) < 1e-6


@pytest.mark.parametrize("epochs", [1, 3])
def test_it_takes_the_steps_of_a_dense_torch_loop(epochs):
    model = fit(epochs=epochs, schedule="constant", seed=4)
    generator = new_generator(4)
    raw = ELSA(**TINY)._network(13, generator).weight.detach().clone().requires_grad_()
    order_rng = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    optimiser = torch.optim.Adam([raw], lr=0.05)
    x = dense(MATRIX)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(24, generator=order_rng)
        total = 0.0
        for start in range(0, 24, 10):
            rows = x[order[start : start + 10]]
            unit = F.normalize(raw)
            loss = (1 - F.cosine_similarity(rows, rows @ unit @ unit.T - rows)).sum()
            optimiser.zero_grad()
            (loss / len(rows)).backward()
            optimiser.step()
            total += loss.item()
        losses.append(total / 24)
    torch.testing.assert_close(model.network_.weight.detach(), raw.detach(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose([entry["loss"] for entry in model.record_.epochs], losses, rtol=1e-4)


def test_training_lowers_the_loss_and_wide_models_lower_it_more():
    losses = {}
    for factors in (2, 8):
        record = fit(factors=factors, epochs=40).record_.epochs
        losses[factors] = record[-1]["loss"]
        assert record[-1]["loss"] < 0.9 * record[0]["loss"]
    assert losses[8] < 0.9 * losses[2]


def test_it_finds_the_weights_that_ease_finds():
    weights = weights_of(fit(factors=13, epochs=60))
    ease = EASE(regularization=5.0).fit(MATRIX, show_progress=False).weights_
    free = ~torch.eye(13, dtype=torch.bool)
    assert np.corrcoef(weights[free], ease[free])[0, 1] > 0.6


def test_embeddings_are_sums_of_item_vectors_and_items_compare_by_cosine():
    model = fit()
    unit = F.normalize(model.network_.weight.detach())
    np.testing.assert_allclose(model.encode(UNSEEN), (dense(UNSEEN) @ unit).numpy(), rtol=0, atol=1e-5)
    ids, scores = model.similar_items(np.arange(13), N=13)
    np.testing.assert_allclose(scores, np.take_along_axis((unit @ unit.T).numpy(), ids.astype(int), 1), atol=1e-5)


def test_it_keeps_nothing_of_its_users(tmp_path):
    model = fit()
    assert not hasattr(model, "embeddings_")
    for call in (lambda: model.similar_users(0), lambda: model.recommend_users(0)):
        with pytest.raises(UnsupportedError, match="ELSA keeps no vectors of its training users"):
            call()
    ids, _ = model.similar_users(3, user_items=UNSEEN)
    assert ids[0] == 3
    model.save(tmp_path / "elsa")
    assert torch.equal(scores_of(ELSA.load(tmp_path / "elsa"), UNSEEN), scores_of(model, UNSEEN))


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="factors of ELSA must be a whole number ≥ 1, got 0"):
        fit(factors=0)
