"""Users without a history: lists by their features, bundles, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import recsys
from recsys.errors import BundleError, ConfigError, DataError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, MODELS, WithUserFeatures
from recsys.models.new_users import STRENGTHS
from tests.contract import CASES, checkerboard

SIZE = 24
WHO = pd.DataFrame(
    {
        "user_id": [f"u{n:02}" for n in range(SIZE)],
        "side": [["even", "odd"][n % 2] for n in range(SIZE)],
        "age": [20.0 + n for n in range(SIZE)],
    }
)
NEW = pd.DataFrame(
    {"user_id": ["an even one", "an odd one", "nobody"], "side": ["even", "odd", None], "age": [30.0, 31.0, None]}
)
SIDE = {"side": "category"}


def world(users=WHO):
    """Even users like the even items."""
    rows, columns = checkerboard(SIZE).nonzero()
    frame = pd.DataFrame({"user_id": [f"u{row:02}" for row in rows], "item_id": [f"i{column}" for column in columns]})
    return Interactions.from_frame(frame, users=users)


@pytest.fixture(scope="module")
def data():
    return world()


def empty(n, model):
    return sp.csr_matrix((n, model.n_items_), dtype=np.float32)


@pytest.mark.parametrize("name", ["EASE", "MultVAE", "ALS", "ItemKNN", "Popularity", "ELSA"])
def test_a_user_without_a_history_gets_what_their_kind_likes(data, name):
    inside = MODELS[name](**CASES[name]).fit(data, show_progress=False)
    model = inside.with_users(pd.concat([WHO, NEW]), data, columns=SIDE, strength=1.0)
    users = model.users_.codes(NEW["user_id"])
    ids, _ = model.recommend(users, empty(3, model), N=SIZE // 2)
    parity = np.array([int(id.removeprefix("i")) % 2 for id in model.items_.ids()])
    if name != "Popularity":  # which scores everybody alike
        assert (parity[ids[0]] == 0).all()
        assert (parity[ids[1]] == 1).all()
    # Of whom nothing is known, and who has a history, is as in the model inside.
    np.testing.assert_array_equal(ids[2], inside.recommend(-1, empty(1, model), N=SIZE // 2)[0])
    own = model.recommend(np.arange(SIZE), data, N=5)
    for mine, theirs in zip(own, inside.recommend(np.arange(SIZE), data, N=5), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_scores_are_those_of_the_ridge_by_hand(data):
    model = WithUserFeatures(model={"name": "EASE", "regularization": 2.0}, strength=0.7).fit(data, show_progress=False)
    new = model.with_users(NEW)
    weights = model.inner().weights_.double().numpy()
    scores = data.matrix.toarray() @ weights
    scores = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    rows = model.features_.matrix.toarray().astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = scores.mean(0)
    ridge = np.linalg.solve(rows.T @ rows + 0.7 * np.eye(rows.shape[1]), rows.T @ (scores - mean))
    own = new.features_.matrix[SIZE:].toarray().astype(np.float64)[:2]
    expected = own / np.linalg.norm(own, axis=1, keepdims=True) @ ridge + mean
    ids, found = new.recommend([SIZE, SIZE + 1], empty(2, new), N=SIZE)
    np.testing.assert_allclose(found, np.take_along_axis(expected, ids, 1), atol=1e-4)
    some = np.array([1, 5, 7])
    ids, found = new.recommend([SIZE, SIZE + 1], empty(2, new), items=some)
    np.testing.assert_allclose(found, np.take_along_axis(expected, ids, 1), atol=1e-4)


def test_the_strength_is_chosen_by_users_who_are_held_out(data):
    sure = WithUserFeatures(model={"name": "EASE", "regularization": 1.0}, columns=SIDE).fit(data, show_progress=False)
    assert sure.strength_ in STRENGTHS
    noise = world(WHO.assign(side=[f"s{n // 2}" for n in range(SIZE)]))  # says nothing of parity
    unsure = WithUserFeatures(model="EASE", columns=SIDE, min_count=1).fit(noise, show_progress=False)
    assert sure.strength_ < 1e6
    assert unsure.strength_ in STRENGTHS
    refit = sure.for_refit()
    assert refit.strength == sure.strength_


@pytest.mark.parametrize("name", ["EASE", "MultVAE", "ALS"])
def test_a_bundle_answers_as_before_and_takes_more_users(data, tmp_path, name):
    inside = {"name": name, **CASES[name]}
    model = WithUserFeatures(model=inside, columns=SIDE).fit(data, show_progress=False).with_users(NEW)
    model.save(tmp_path / "m")
    again = recsys.load(tmp_path / "m")
    assert again.users_ == model.users_
    users = np.arange(again.n_users_)
    for one, other in zip(*(m.recommend(users, empty(len(users), m), N=9) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(one, other)
    more = again.with_users(pd.DataFrame({"user_id": ["another", "nobody"], "side": ["odd", "even"]}))
    assert more.n_users_ == again.n_users_ + 1
    codes = more.users_.codes(["an odd one", "another", "an even one", "nobody"])
    lists = more.recommend(codes, empty(4, more), N=5)[0]
    np.testing.assert_array_equal(lists[0], lists[1])
    np.testing.assert_array_equal(lists[2], lists[3])  # of whom something is known by now
    assert again.n_users_ == model.n_users_


def test_frames_name_new_users_by_their_ids(data):
    model = WithUserFeatures(model="EASE", columns=SIDE).fit(data, show_progress=False).with_users(NEW)
    ids = recsys.ids.IdMap([*data.users.ids(), "an odd one"])
    matrix = sp.vstack([data.matrix, sp.csr_matrix((1, SIZE), dtype=np.float32)], format="csr")
    lists = recsys.recommend_frame(model, Interactions(matrix, ids, data.items), ["an odd one"], n=5)
    assert [int(item.removeprefix("i")) % 2 for item in lists["item_id"]] == [1] * 5
    assert set(lists["source"]) == {"learned"}


def test_columns_of_users_follow_the_users(data):
    some = data.take_users([3, 1])
    assert some.user_columns["side"].tolist() == ["odd", "odd"]
    few = data.select(data.matrix.indices == 0, keep_shape=False)  # who has the first item
    assert few.user_columns["side"].tolist() == [["even", "odd"][int(user[1:]) % 2] for user in few.users.ids()]
    with pytest.raises(DataError, match="one value per user"):
        replace(data, user_columns={"side": np.array(["even"])})
    with pytest.raises(DataError, match="the table of users: no user of the table of users is in"):
        world(WHO.assign(user_id=[f"x{n}" for n in range(SIZE)]))


def test_what_is_refused(data):
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    with pytest.raises(DataError, match="describes none of the users"):
        model.with_users(NEW, data, min_count=1)
    with pytest.raises(DataError, match="pass the Interactions"):
        model.with_users(WHO)
    with pytest.raises(DataError, match="knows no external ids of users"):
        EASE().fit(data.matrix, show_progress=False).with_users(WHO, data)
    with pytest.raises(ConfigError, match="the table of users has no column 'sidee'; it has"):
        model.with_users(WHO, data, columns={"sidee": "category"})
    whole = model.with_users(WHO, data, columns=SIDE)
    with pytest.raises(UnsupportedError, match="takes nothing else"):
        whole.with_users(NEW, data)
    with pytest.raises(DataError, match="the table of users has no column side"):
        whole.with_users(pd.DataFrame({"user_id": ["x"]}))
    with pytest.raises(DataError, match="new users need ids of the same type"):
        whole.with_users(NEW.assign(user_id=[7, 8, 9]))
    with pytest.raises(UnsupportedError, match="new items into the model inside first"):
        whole.with_items(NEW)
    with pytest.raises(UnsupportedError, match="knows no features of users"):
        WithUserFeatures().fit(data.matrix, show_progress=False).with_users(NEW)
    with pytest.warns(recsys.errors.DataWarning, match="say nothing about their users"):
        WithUserFeatures().fit(world(None), show_progress=False)


def test_damaged_bundles_are_refused(data):
    bundle = WithUserFeatures(model="EASE", columns=SIDE).fit(data, show_progress=False).to_bundle()
    for name, value in (("by_features.table", np.zeros((2, 2), np.float32)), ("by_features.offsets", None)):
        own = bundle.arrays[name] * np.float32(np.nan) if value is None else value
        with pytest.raises(BundleError, match=name):
            WithUserFeatures._from_bundle(replace(bundle, arrays={**bundle.arrays, name: own}), "x")
    state = {**bundle.state, "inside": {**bundle.state["inside"], "n_users": SIZE + 1}}
    with pytest.raises(BundleError, match="more than the 24 of the whole"):
        WithUserFeatures._from_bundle(replace(bundle, state=state), "x")


def test_new_users_of_a_model_with_vectors_and_without_histories(data):
    model = ALS(**CASES["ALS"]).fit(data, show_progress=False).with_users(pd.concat([WHO, NEW]), data, columns=SIDE)
    ids, _ = model.recommend(np.arange(SIZE + 2), None, N=5, filter_already_liked_items=False)
    parity = np.array([int(id.removeprefix("i")) % 2 for id in model.items_.ids()])
    assert (parity[ids[SIZE]] == 0).all()
    assert (parity[ids[SIZE + 1]] == 1).all()
    np.testing.assert_array_equal(
        ids[:SIZE], model.inner().recommend(np.arange(SIZE), None, N=5, filter_already_liked_items=False)[0]
    )
