"""The scale of ratings: penalties, step sizes and initial weights go with it, and what is not rated lies on it."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.models import MODELS, IAutoRec, UAutoRec, load
from tests.contract import new_model, ratings

MATRIX = ratings(n_users=40, n_items=25, density=0.4)
RATES = [name for name, cls in MODELS.items() if cls.capabilities.rates]


def scaled(by, matrix=MATRIX):
    return sp.csr_matrix((matrix.data * np.float32(by), matrix.indices, matrix.indptr), shape=matrix.shape)


def made(name, matrix, **changes):
    stages = {"pretrain_epochs": 3} if name == "GLocalK" else {}
    return new_model(
        name, **stages, **{"unobserved_weight": 0.0, "epochs": 6, "batch_size": 8, "weight_decay": 3.0, **changes}
    ).fit(matrix, show_progress=False)


def predicted(model, matrix, users):
    return model.predict(users, matrix, np.tile(np.arange(matrix.shape[1]), (matrix.shape[0], 1)))


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    "options", [{}, {"normalize": True}, {"biases": 2.0}, {"cold_rating": "middle", "clip": False}], ids=str
)
def test_ratings_times_20_give_predictions_times_20(name, options):
    empty = MATRIX.tolil()
    empty[:, 3], empty[5] = 0, 0
    matrix = sp.csr_matrix(empty)
    stars, points = made(name, matrix, **options), made(name, scaled(20, matrix), **options)
    for users in (np.arange(40), np.full(40, -1)):  # as they were trained, and as strangers
        one, other = predicted(stars, matrix, users), predicted(points, scaled(20, matrix), users)
        assert one.std() > 0.1
        np.testing.assert_allclose(other, 20 * one, rtol=2e-4)
        kept = np.flatnonzero(np.diff(matrix.indptr))
        ids, scores = stars.recommend(users[kept], matrix[kept], N=5)
        found, high = points.recommend(users[kept], scaled(20, matrix)[kept], N=5)
        assert (ids == found).mean() > 0.98
        np.testing.assert_allclose(high, 20 * scores, atol=5e-3)


@pytest.mark.parametrize("name", RATES)
def test_a_scale_of_one_to_five_is_trained_on_as_it_is(name):
    """So that what was published and configured for five stars keeps its meaning."""
    assert made(name, MATRIX).unit_ == 1.0
    assert made(name, scaled(0.3)).unit_ == pytest.approx(0.3)
    binary = scaled(0)
    binary.data[:] = 1.0
    assert made(name, binary, unobserved_weight=0.3).unit_ == 1.0


@pytest.mark.parametrize("name", RATES)
def test_entries_to_be_ranked_may_have_any_scale(name):
    one, other = (made(name, matrix, unobserved_weight=0.3) for matrix in (MATRIX, scaled(20)))
    users = np.arange(40)
    (ids, scores), (found, high) = one.recommend(users, MATRIX, N=5), other.recommend(users, scaled(20), N=5)
    assert (ids == found).mean() > 0.98
    np.testing.assert_allclose(high, 20 * scores, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("model_class", [UAutoRec, IAutoRec])
@pytest.mark.parametrize("low", [1.0, 20.0])
def test_the_middle_of_the_scale_is_what_the_cold_get(model_class, low):
    without = MATRIX.tolil()
    without[:, 3] = 0
    matrix = scaled(low, sp.csr_matrix(without))
    model = model_class(hidden=4, epochs=2, cold_rating="middle").fit(matrix, show_progress=False)
    assert predicted(model, matrix, np.arange(40))[:, 3] == pytest.approx(3.0 * low)


@pytest.mark.parametrize("model_class", [UAutoRec, IAutoRec])
def test_the_scale_is_saved_and_a_model_of_before_has_none(model_class, tmp_path, monkeypatch):
    model = model_class(hidden=4, epochs=3).fit(scaled(7), show_progress=False)
    model.save(tmp_path / "new")
    new = load(tmp_path / "new")
    assert new.unit_ == pytest.approx(7.0)
    np.testing.assert_array_equal(predicted(new, scaled(7), np.arange(40)), predicted(model, scaled(7), np.arange(40)))

    monkeypatch.setattr(model_class, "_unit", lambda self, matrix: 1.0)
    before = model_class(hidden=4, epochs=3).fit(scaled(7), show_progress=False)
    kept = model_class._state
    monkeypatch.setattr(model_class, "_state", lambda self: {k: v for k, v in kept(self).items() if k != "unit"})
    before.save(tmp_path / "old")
    old = load(tmp_path / "old")
    np.testing.assert_array_equal(predicted(old, scaled(7), np.arange(40)), predicted(before, scaled(7), np.arange(40)))
