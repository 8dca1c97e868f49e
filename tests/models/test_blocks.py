"""What a verb answers for one user or item does not depend on what else is asked in the same call, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.models import MODELS
from tests.contract import CASES, new_model, quick, ratings

USERS, ITEMS = 130, 1100
WIDTHS = {"hidden": 37, "latent": 21, "factors": 19}
"""Widths that no tile of a matrix product divides."""
SIZES = (1, 2, 7, 31, 63, 65)
NEW = ratings(USERS, ITEMS, density=0.02, seed=5)


@pytest.fixture(scope="module", params=CASES)
def model(request):
    name, case = request.param, CASES[request.param]
    wide = {key: (width,) if isinstance(case[key], tuple) else width for key, width in WIDTHS.items() if key in case}
    changes = {**quick(MODELS[name]), **wide}
    return new_model(name, **changes).fit(ratings(60, ITEMS, density=0.02), show_progress=False)


def assert_alone_as_in_the_block(answer, whole):
    """`answer` takes indices and returns arrays with a row for each; `whole` is how many indices there are."""
    rng = np.random.default_rng(0)
    expected = answer(np.arange(whole))
    for size in (size for size in SIZES if size <= whole):
        for _ in range(2):
            chosen = rng.permutation(whole)[:size]
            for found, wanted in zip(answer(chosen), expected, strict=True):
                np.testing.assert_array_equal(found, wanted[chosen], err_msg=f"in blocks of {size}")


@pytest.mark.parametrize("items", [None, np.arange(0, ITEMS, 41), np.array([7])], ids=["all", "some", "one"])
def test_the_list_of_a_stranger(model, items):
    everything = {"N": ITEMS, "filter_already_liked_items": False, "items": items}
    assert_alone_as_in_the_block(lambda rows: model.recommend(np.full(len(rows), -1), NEW[rows], **everything), USERS)


def test_the_list_of_a_training_user(model):
    everything = {"N": ITEMS, "filter_already_liked_items": False}
    assert_alone_as_in_the_block(lambda rows: model.recommend(rows, NEW[rows], **everything), 60)
    if model.capabilities.scores_known_users:
        assert_alone_as_in_the_block(lambda rows: model.recommend(rows, None, **everything), 60)


def test_the_best_users_of_an_item(model):
    options = {"N": USERS, "filter_already_liked_users": False}
    assert_alone_as_in_the_block(lambda items: model.recommend_users(items, NEW, **options), 100)
    if model.capabilities.keeps_users:
        assert_alone_as_in_the_block(lambda items: model.recommend_users(items, N=60), 100)


def test_embeddings_and_what_is_similar(model):
    if model.capabilities.encodes:
        assert_alone_as_in_the_block(lambda rows: (model.encode(NEW[rows]),), USERS)
    if model.capabilities.compares_items:
        assert_alone_as_in_the_block(lambda items: model.similar_items(items, N=ITEMS), 100)
    if model.capabilities.keeps_users:
        assert_alone_as_in_the_block(lambda users: model.similar_users(users, N=60), 60)


@pytest.mark.parametrize("name", [name for name in CASES if MODELS[name].capabilities.rates])
def test_predicted_ratings(name):
    case = {key: (37,) if isinstance(CASES[name][key], tuple) else 37 for key in ("hidden",)}
    model = new_model(name, **quick(MODELS[name]), **case, unobserved_weight=0.0)
    model.fit(ratings(60, 90, density=0.3), show_progress=False)
    new = ratings(USERS, 90, density=0.3, seed=5)
    items = np.arange(90)

    def answer(rows):
        return (model.predict(np.full(len(rows), -1), new[rows], np.tile(items, (len(rows), 1))),)

    assert_alone_as_in_the_block(answer, USERS)
