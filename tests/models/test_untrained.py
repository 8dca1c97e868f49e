"""Known means trained: a user without training entries is as any stranger, for every verb and after loading."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import DataError, UnsupportedError
from recsys.models import MODELS
from recsys.models import load as load_model
from tests.contract import CASES, new_model, quick, ratings

USERS, ITEMS = 40, 25
EMPTY = np.array([0, 7, 39])
"""Users without training entries."""
LATER = ratings(USERS, ITEMS, density=0.3, seed=9)
"""Histories of a later day, when everyone has some."""


def trained():
    matrix = ratings(USERS, ITEMS, density=0.3).tolil()
    matrix[EMPTY] = 0
    return sp.csr_matrix(matrix, dtype=np.float32)


@pytest.fixture(scope="module", params=CASES)
def model(request):
    return new_model(request.param, **quick(MODELS[request.param])).fit(trained(), show_progress=False)


def same(one, other):
    for found, wanted in zip(one, other, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("loaded", [False, True], ids=["fitted", "loaded"])
def test_a_user_without_training_entries_is_a_stranger(model, tmp_path, loaded):
    if loaded:
        model.save(tmp_path / "model")
        model = load_model(tmp_path / "model")
    assert model.untrained_users_.tolist() == EMPTY.tolist()
    for histories in (LATER[EMPTY], sp.csr_matrix((3, ITEMS), dtype=np.float32)):
        known = model.recommend(EMPTY, histories, N=ITEMS)
        same(known, model.recommend(np.full(3, -1), histories, N=ITEMS))
        assert np.isfinite(known[1]).all()


@pytest.mark.parametrize("name", [name for name in CASES if MODELS[name].capabilities.rates])
def test_its_ratings_are_those_of_a_stranger(name):
    model = new_model(name, **{**quick(MODELS[name]), "unobserved_weight": 0.0}).fit(trained(), show_progress=False)
    items = np.tile(np.arange(ITEMS), (3, 1))
    same([model.predict(EMPTY, LATER[EMPTY], items)], [model.predict([-1] * 3, LATER[EMPTY], items)])


def test_users_without_training_entries_are_in_no_list_of_users(model):
    try:
        users, _ = model.recommend_users(np.arange(ITEMS), N=USERS)
    except UnsupportedError:
        pass
    else:
        assert set(np.unique(users)) - {-1} == set(range(USERS)) - {*EMPTY.tolist()}
    if model.capabilities.keeps_users:
        users, _ = model.similar_users([1, 2], N=USERS)
        assert not np.isin(users, EMPTY).any()
        users, _ = model.similar_users([1], N=USERS, users=[1, 7, 9])
        assert sorted(users[0].tolist()) == [-1, 1, 9]
        with pytest.raises(DataError, match="nothing was learned of user 7, who had no training entries"):
            model.similar_users([1, 7])
