"""SANSA: EASE where it may keep everything, near it where it may keep little, and no bigger than it says."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import ConfigError, TrainingError, UnsupportedError
from recsys.models import EASE, SANSA
from recsys.models import sansa as module
from tests.contract import cells_of, csr, ratings

MATRIX = ratings(n_users=60, n_items=40, density=0.2)
UNSEEN = ratings(n_users=7, n_items=40, density=0.2, seed=1)
SPARSE = ratings(n_users=30, n_items=40, density=0.03)


def fit(matrix=MATRIX, density=0.1, regularization=4.0):
    return SANSA(regularization=regularization, density=density).fit(matrix, show_progress=False)


def ease(matrix=MATRIX, regularization=4.0):
    return EASE(regularization=regularization).fit(matrix, show_progress=False)


def scores_of(model, histories):
    """All scores as a (users, items) table, by way of the lists."""
    users, width = np.arange(histories.shape[0]), histories.shape[1]
    ids, scores = model.recommend(users, histories, N=width, filter_already_liked_items=False)
    table = np.empty(histories.shape, dtype=np.float32)
    np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
    return table


@pytest.mark.parametrize("density", [0.52, 1.0])
@pytest.mark.parametrize("matrix", [MATRIX, SPARSE], ids=["dense", "sparse"])
def test_with_a_whole_triangle_it_is_ease(matrix, density):
    exact, ours = ease(matrix), fit(matrix, density)
    np.testing.assert_allclose(scores_of(ours, UNSEEN), scores_of(exact, UNSEEN), rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        ours.similar_items(np.arange(40), N=40)[1], exact.similar_items(np.arange(40), N=40)[1], rtol=0, atol=1e-5
    )


def test_the_more_it_keeps_the_nearer_it_is_to_ease():
    expected = scores_of(ease(), UNSEEN)
    densities = (0.03, 0.1, 0.2, 1.0)
    errors = [np.linalg.norm(scores_of(fit(density=density), UNSEEN) - expected) for density in densities]
    assert all(after < 0.85 * before for before, after in pairwise(errors))
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("density", [0.03, 0.1, 0.3])
def test_scores_are_those_of_its_two_sparse_matrices(density):
    model = fit(density=density)
    w = model.encoder_.toarray()
    p = w @ w.T
    b = np.eye(40) - p / np.diag(p)
    np.testing.assert_allclose(np.diag(b), 0, atol=1e-6)
    x = np.nan_to_num(cells_of(UNSEEN))
    np.testing.assert_allclose(scores_of(model, UNSEEN), x @ b, rtol=0, atol=1e-5)
    ids, scores = model.recommend_users([11, 0], UNSEEN, N=7, filter_already_liked_users=False)
    np.testing.assert_allclose(scores, -np.sort(-(x @ b)[:, [11, 0]].T, axis=1), rtol=0, atol=1e-5)
    partial = -p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    np.fill_diagonal(partial, 1.0)
    ids, scores = model.similar_items(np.arange(40), N=40)
    np.testing.assert_allclose(scores, np.take_along_axis(partial, ids.astype(int), 1), rtol=0, atol=1e-5)


def test_what_it_keeps_is_as_much_as_it_says(tmp_path):
    for density in (0.03, 0.1, 0.3):
        model = fit(density=density)
        assert 0.9 * density * 1600 < model.encoder_.nnz <= density * 1600
        assert model.decoder_.nnz == model.encoder_.nnz
        kept = model._arrays()
        assert sum(array.nbytes for array in kept.values()) <= 8 * density * 1600 + 4 * 41
        model.save(tmp_path / str(density))
        again = SANSA.load(tmp_path / str(density))
        assert np.array_equal(scores_of(again, UNSEEN), scores_of(model, UNSEEN))


def test_the_gram_matrix_stays_sparse(monkeypatch):
    seen = []

    def spy(matrix, n_entries):
        seen.append((type(matrix), matrix.nnz, n_entries))
        return real(matrix, n_entries)

    real = module.inverse_factor
    monkeypatch.setattr(module, "inverse_factor", spy)
    fit(SPARSE, density=0.05)
    pairs = (SPARSE.T @ SPARSE).nnz
    assert seen == [(sp.csr_matrix, pairs, 80)]
    assert pairs < 0.2 * 1600


def test_items_that_nobody_has_are_left_alone():
    cells = cells_of(MATRIX)
    cells[:, [3, 17]] = np.nan
    model = fit(csr(cells))
    scores = scores_of(model, UNSEEN[:, :])
    assert not scores[:, [3, 17]].any()
    assert np.isfinite(scores).all()
    assert model.encoder_[[3, 17]].nnz == 2


def test_the_order_of_items_does_not_matter():
    """But for those of equal popularity, so each is given one of its own."""
    cells = np.full((41, 40), np.nan)
    rng = np.random.default_rng(0)
    for item in range(40):
        cells[rng.permutation(41)[: item + 1], item] = 1.0
    order = rng.permutation(40)
    one, other = fit(csr(cells)), fit(csr(cells[:, order]))
    np.testing.assert_allclose(
        scores_of(other, csr(cells[:, order])), scores_of(one, csr(cells))[:, order], rtol=0, atol=1e-5
    )


def test_it_has_no_embeddings():
    with pytest.raises(UnsupportedError, match="SANSA has no embeddings of users"):
        fit().encode(MATRIX)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(ConfigError, match="density of SANSA must be a finite number > 0 and ≤ 1, got"):
        fit(density=density)
    with pytest.raises(ConfigError, match=r"regularization of SANSA must be a finite number > 0, got 0\.0"):
        fit(regularization=0.0)


def test_a_singular_gram_matrix_is_named():
    with pytest.raises(TrainingError, match="raise regularization"):
        fit(csr(np.ones((4, 3))), density=1.0, regularization=1e-30)
