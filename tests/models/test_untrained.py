"""A user or an item without training entries is as one whom training never saw: nothing was learned of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys import IdMap, Interactions, evaluate, load, splits
from recsys.artifacts import read_bundle, write_bundle
from recsys.errors import BundleError
from recsys.models import MODELS
from recsys.scoring import recommend_frame
from tests.contract import CASES, csr, new_model, quick, ratings, same

USERS, ITEMS = 40, 25
UNTRAINED = np.array([5, 39])
EVERYTHING = {"N": ITEMS, "filter_already_liked_items": False}
WHOLE = ratings(USERS, ITEMS)
"""All that is known of the users when they are scored."""
KNOWING = [name for name in CASES if MODELS[name].capabilities.scores_known_users and name != "Popularity"]


def training_part():
    kept = WHOLE.toarray()
    kept[UNTRAINED] = 0
    return csr(np.where(kept, kept, np.nan))


@pytest.fixture(scope="module", params=KNOWING)
def model(request):
    name = request.param
    return new_model(name, **quick(MODELS[name])).fit(training_part(), show_progress=False)


@pytest.fixture(params=["fitted", "loaded"])
def either(model, request, tmp_path):
    if request.param == "fitted":
        return model
    model.save(tmp_path / "model")
    return load(tmp_path / "model")


def test_the_history_given_is_read(either):
    strangers = either.recommend(np.full(USERS, -1), WHOLE, **EVERYTHING)
    listed = either.recommend(np.arange(USERS), WHOLE, **EVERYTHING)
    same(tuple(found[UNTRAINED] for found in listed), tuple(found[UNTRAINED] for found in strangers))
    trained = np.delete(np.arange(USERS), UNTRAINED)
    assert not np.array_equal(listed[1][trained], strangers[1][trained])


def test_without_a_history_the_list_is_that_of_an_empty_one(either):
    empty = either.recommend(-1, sp.csr_matrix((1, ITEMS)), **EVERYTHING)
    for user in UNTRAINED:
        same(either.recommend(user, None, **EVERYTHING), empty)
        same(either.recommend(user, sp.csr_matrix((1, ITEMS)), **EVERYTHING), empty)
    ids, scores = either.recommend(np.array([0, *UNTRAINED]), None, **EVERYTHING)
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(ids[1], empty[0])


def test_the_best_users_of_an_item_are_found_in_the_same_way(either):
    items = np.arange(ITEMS)
    options = {"N": USERS, "filter_already_liked_users": False}
    kept = either.recommend_users(items, N=USERS)
    given = either.recommend_users(items, training_part(), userid=np.arange(USERS), **options)
    np.testing.assert_allclose(kept[1], given[1], rtol=2e-5, atol=2e-5)
    strangers = either.recommend_users(items, WHOLE[UNTRAINED], **options | {"N": 2})
    named = either.recommend_users(items, WHOLE[UNTRAINED], userid=UNTRAINED, **options | {"N": 2})
    same(named, strangers)


def test_all_without_entries_are_alike(either):
    ids, scores = either.similar_users(UNTRAINED, N=USERS)
    order = np.argsort(ids, axis=1)
    by_user = np.take_along_axis(scores, order, axis=1)
    others = np.delete(np.arange(USERS), UNTRAINED)
    np.testing.assert_array_equal(by_user[0, others], by_user[1, others])


@pytest.mark.parametrize("name", [name for name in KNOWING if MODELS[name].capabilities.rates])
@pytest.mark.parametrize("biases", [None, 1.0])
def test_predicted_ratings_come_from_the_history_given(name, biases):
    model = new_model(name, **quick(MODELS[name]), unobserved_weight=0.0, biases=biases)
    model.fit(training_part(), show_progress=False)
    items = np.tile(np.arange(ITEMS), (2, 1))
    found = model.predict(UNTRAINED, WHOLE[UNTRAINED], items)
    np.testing.assert_array_equal(found, model.predict([-1, -1], WHOLE[UNTRAINED], items))
    empty = sp.csr_matrix((2, ITEMS))
    np.testing.assert_array_equal(model.predict(UNTRAINED, None, items), model.predict([-1, -1], empty, items))


def by_time():
    """Users 30 to 39 come last, so that a split by time leaves their training rows empty."""
    cells = WHOLE.tocoo()
    matrix = sp.csr_matrix((np.ones(len(cells.data), np.float32), (cells.row, cells.col)), shape=WHOLE.shape)
    times = np.repeat(np.arange(USERS), np.diff(matrix.indptr)) // 30 * 1000.0 + np.arange(matrix.nnz) % 10
    data = Interactions(matrix, IdMap(range(USERS)), IdMap(range(ITEMS)), times)
    return splits.by_time(data, test=0.1, validation=0.18)


def test_evaluating_and_scoring_take_them_for_strangers():
    split = by_time()
    untrained = np.flatnonzero(np.diff(split.train.matrix.indptr) == 0)
    assert len(untrained) >= 10
    model = new_model("IAutoRec", **quick(MODELS["IAutoRec"])).fit(split.train, show_progress=False)

    class FromHistories:
        def recommend(self, userid, user_items, **options):
            return model.recommend(userid, user_items, **options | {"recalculate_user": True})

    found, expected = (evaluate(one, split.test, "ndcg@5").per_user for one in (model, FromHistories()))
    there = np.isin(split.test.user_index, untrained) & found["ndcg@5"].notna()
    assert there.any()
    assert found["ndcg@5"][there].tolist() == expected["ndcg@5"][there].tolist()
    known = Interactions(split.test.context, split.train.users, split.train.items)
    frame = recommend_frame(model, known, users=untrained.tolist(), n=3)
    ids, _ = model.recommend(np.full(len(untrained), -1), split.test.context[untrained], N=3)
    assert frame["item_id"].tolist() == ids.ravel().tolist()


def test_a_bundle_that_does_not_say_who_was_trained_counts_all(tmp_path):
    model = new_model("ALS").fit(training_part(), show_progress=False)
    model.save(tmp_path / "model")
    bundle = read_bundle(tmp_path / "model")
    assert bundle.state.pop("trained_users") == USERS - 2
    counts = bundle.arrays.pop("user_counts")
    write_bundle(bundle, tmp_path / "model")
    assert load(tmp_path / "model").user_counts_.tolist() == [1] * USERS
    for state, arrays in (({"trained_users": 38}, {}), ({"trained_users": 37}, {"user_counts": counts})):
        bundle.state.update(state)
        bundle.arrays.update(arrays)
        write_bundle(bundle, tmp_path / "model")
        with pytest.raises(BundleError, match="user_counts"):
            load(tmp_path / "model")


def test_a_bundle_that_does_not_say_what_was_read_takes_every_history_for_that(tmp_path):
    """As version 0.2.0 did, which wrote no digests."""
    model = new_model("ALS").fit(training_part(), show_progress=False)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").user_digests_.tolist() == model.user_digests_.tolist()
    bundle = read_bundle(tmp_path / "model")
    bundle.arrays.pop("user_digests")
    write_bundle(bundle, tmp_path / "model")
    old, users = load(tmp_path / "model"), np.delete(np.arange(USERS), UNTRAINED)
    same(old.recommend(users, WHOLE[::-1][users], **EVERYTHING), model.recommend(users, None, **EVERYTHING))
    bundle.arrays["user_digests"] = model.user_digests_[:-1]
    write_bundle(bundle, tmp_path / "model")
    with pytest.raises(BundleError, match=r"user_digests must be uint64 \(40\)"):
        load(tmp_path / "model")


@pytest.mark.parametrize("name", ["UAutoRec", "DeepRecommender"])
@pytest.mark.parametrize(("biases", "cold_rating"), [(None, None), (None, 2.0), (1.0, None)])
def test_items_without_entries_are_ranked_by_their_predicted_rating(name, biases, cold_rating):
    """A masked loss never moves their weights, and lists would depend on the seed."""
    matrix = sp.csr_matrix(sp.hstack([WHOLE, sp.csr_matrix((USERS, 8))]), dtype=np.float32)
    model = new_model(name, unobserved_weight=0.0, weight_decay=0.0, biases=biases, cold_rating=cold_rating, clip=False)
    model.fit(matrix, show_progress=False)
    users, items = np.full(USERS, -1), np.arange(ITEMS + 8)
    predicted = model.predict(users, matrix, np.tile(items, (USERS, 1)))
    ids, scores = model.recommend(users, matrix, N=ITEMS + 8, filter_already_liked_items=False)
    offset = np.take_along_axis(predicted, ids.astype(np.int64), axis=1) - scores
    assert np.ptp(offset, axis=1).max() < 1e-4
