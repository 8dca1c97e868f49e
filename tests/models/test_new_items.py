"""Items that training never saw: what they score, how they are read in histories, bundles, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import recsys
from recsys.errors import BundleError, ConfigError, DataError, UnsupportedError
from recsys.features import Features
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, FEASE, MODELS, ContentKNN, WithFeatures
from recsys.models.described import ridge_duals
from recsys.models.new_items import ByShares, ByVectors, ByWeights, Trial, derived, nearest
from tests.contract import CASES, checkerboard

SIZE = 24
PARITY = ["even", "odd"]
ABOUT = pd.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(SIZE)],
        "title": [f"Item {n}" for n in range(SIZE)],
        "kind": [[PARITY[n % 2], f"any{n % 3}"] for n in range(SIZE)],
    }
)
NEW = pd.DataFrame(
    {
        "item_id": ["new even", "new odd", "nothing known"],
        "title": ["A new even one", "A new odd one", None],
        "kind": [["even"], ["odd", "any1"], ["unheard of"]],
    }
)
FITTED = {
    "EASE": ByWeights,
    "DEQL": ByWeights,
    "HigherOrderEASE": ByWeights,
    "MultVAE": ByVectors,
    "RecVAE": ByVectors,
    "ELSA": ByVectors,
    "ALS": ByVectors,
    "BPR": ByVectors,
    "ItemKNN": ByShares,
    "SANSA": ByShares,
    "VASP": ByShares,
    "InfiniteAE": ByShares,
}


def world(about=ABOUT):
    """Even users like the even items."""
    matrix = checkerboard(SIZE)
    rows, columns = matrix.nonzero()
    frame = pd.DataFrame({"user_id": [f"u{row:02}" for row in rows], "item_id": [f"i{column}" for column in columns]})
    return Interactions.from_frame(frame, items=about)


@pytest.fixture(scope="module")
def data():
    return world()


def model_of(name):
    return MODELS[name](**CASES[name])


@pytest.fixture(scope="module")
def extended(data):
    made = {}

    def get(name):
        if name not in made:
            made[name] = model_of(name).fit(data, show_progress=False).with_items(ABOUT_AND_NEW, data, min_count=1)
        return made[name]

    return get


ABOUT_AND_NEW = pd.concat([ABOUT, NEW], ignore_index=True)


def histories(model, parity, n_users=1):
    """The history of a user of a parity, in the columns of the model."""
    ids = model.items_.ids().tolist()
    row = [ids.index(f"i{n}") for n in range(parity, SIZE, 2)][: SIZE // 3]
    return sp.csr_matrix((np.ones(len(row), np.float32), ([0] * len(row), row)), shape=(n_users, len(ids)))


@pytest.mark.parametrize("name", FITTED)
def test_a_new_item_is_recommended_to_those_who_like_its_kind(extended, name):
    model = extended(name)
    assert type(model.derived_) is FITTED[name]
    place = {id: model.items_.codes([id])[0] for id in NEW["item_id"]}
    for parity in (0, 1):
        history = histories(model, parity)
        ids, scores = model.recommend(-1, history, N=model.n_items_, filter_already_liked_items=False)
        score = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        own, other = (place[f"new {PARITY[which]}"] for which in (parity, 1 - parity))
        assert score[own] > score[other]
        mine = [model.items_.codes([f"i{n}"])[0] for n in range(1 - parity, SIZE, 2)]
        assert score[own] > np.mean([score[code] for code in mine]), "the items of the other kind"
        assert place["nothing known"] not in ids
        assert -1 in ids


def test_known_items_score_as_the_model_inside(extended, data):
    for name in ("EASE", "MultVAE", "ALS"):
        model = extended(name)
        inside = model.inner()
        users = np.arange(SIZE)
        own = model.recommend(users, data, N=5, items=np.arange(data.shape[1]))
        same = inside.recommend(users, data, N=5)
        np.testing.assert_array_equal(own[0], same[0])
        np.testing.assert_array_equal(own[1], same[1])


@pytest.mark.parametrize("name", ["EASE", "MultVAE", "ItemKNN", "ALS"])
def test_scores_do_not_depend_on_which_items_are_asked_for(extended, name):
    model = extended(name)
    history = sp.vstack([histories(model, 0), histories(model, 1)]).tocsr()
    some = np.array([0, 5, SIZE, SIZE + 1, SIZE + 2])
    ids, scores = model.recommend([-1, -1], history, items=some)
    assert set(ids[1].tolist()) <= {*some.tolist(), -1}
    whole = model.recommend(-1, history[1], N=model.n_items_)
    expected = dict(zip(*map(list, whole), strict=True))
    assert all(
        expected[one] == pytest.approx(score, rel=1e-5)
        for one, score in zip(ids[1], scores[1], strict=True)
        if one >= 0
    )


def test_a_new_item_in_a_history_is_read_as_the_nearest_known_ones(extended):
    model = extended("EASE")
    code = model.items_.codes(["new odd"])[0]
    history = sp.csr_matrix(([1.0], ([0], [code])), shape=(1, model.n_items_), dtype=np.float32)
    ids, _ = model.recommend(-1, history, N=8)
    assert code not in ids
    odd = [int(model.items_.ids([one])[0].removeprefix("i")) % 2 for one in ids if one < SIZE]
    assert odd == [1] * len(odd)
    share = model.read_as_[model.new_.tolist().index(code)]
    assert share.sum() == pytest.approx(1.0)
    assert share.nnz <= model.neighbors
    # It is among the known ones, so that what the model says of it is what it says of them.
    read = sp.csr_matrix(share, shape=(1, SIZE))
    inside = model.inner().recommend(-1, read, N=SIZE, filter_already_liked_items=False)
    own = model.recommend(-1, history, N=SIZE, items=np.arange(SIZE))
    np.testing.assert_allclose(dict(zip(*inside, strict=True))[own[0][0]], own[1][0], rtol=1e-5)


@pytest.mark.parametrize("name", ["EASE", "MultVAE", "ItemKNN", "ALS"])
def test_a_bundle_answers_as_before_and_takes_more_items(extended, tmp_path, name):
    model = extended(name)
    model.save(tmp_path / "m")
    again = recsys.load(tmp_path / "m")
    history = histories(model, 0)
    for left, right in zip(model.recommend(-1, history, N=9), again.recommend(-1, history, N=9), strict=True):
        np.testing.assert_array_equal(left, right)
    assert (again.items_, again.titles_.tolist()) == (model.items_, model.titles_.tolist())
    assert again.titles_[-1] == "nothing known"
    more = again.with_items(pd.DataFrame({"item_id": ["newest", "nothing known"], "kind": [["even"], ["odd"]]}))
    assert len(more.items_) == len(model.items_) + 1
    even = histories(more, 0)
    found = model.items_.codes(["new even"])[0], more.items_.codes(["newest"])[0]
    ids, scores = more.recommend(-1, even, N=more.n_items_)
    score = dict(zip(ids.tolist(), scores.tolist(), strict=True))
    assert score[found[0]] == pytest.approx(score[found[1]], rel=1e-4)  # of the same features
    assert more.items_.codes(["nothing known"])[0] in ids  # of which something is known by now
    assert len(again.items_) == len(model.items_), "the model itself is as it was"


def test_a_fit_makes_new_items_of_those_without_entries(data):
    some = np.arange(0, SIZE, 5)
    train = data.select(~np.isin(data.matrix.indices, some))
    model = WithFeatures(model={"name": "EASE", "regularization": 1.0}, min_count=1).fit(train, show_progress=False)
    np.testing.assert_array_equal(model.new_, some)
    assert model.strength_ in recsys.models.new_items.STRENGTHS
    parity = np.array([int(id.removeprefix("i")) % 2 for id in model.items_.ids()])
    ids, _ = model.recommend(np.arange(SIZE), train, N=2, items=some)
    for user, best in enumerate(ids):
        assert parity[best[0]] == user % 2
    refit = model.for_refit()
    assert refit.strength == model.strength_
    assert refit.fit(data, show_progress=False).new_.tolist() == []


def test_titles_are_features_where_they_are_named(data):
    table = ABOUT_AND_NEW.assign(title=[f"Item of {kind[0]}" for kind in ABOUT_AND_NEW["kind"]])
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    whole = model.with_items(table, data, columns={"title": "text"}, min_count=1)
    assert whole.features_.recipe.encodings[0].column == "title"
    code = whole.items_.codes(["new even", "new odd"])
    ids, _ = whole.recommend(-1, histories(whole, 0), N=whole.n_items_)
    assert ids.tolist().index(code[0]) < ids.tolist().index(code[1])


@pytest.mark.parametrize("name", FITTED)
def test_what_new_items_score_does_not_depend_on_what_is_known_of_the_others(extended, name):
    model = extended(name)
    history = sp.vstack([histories(model, 0), histories(model, 1)]).tocsr()
    users = np.array([-1, -1])
    with torch.no_grad():
        whole = model._scores(history, users, None, None)
        some = model._scores(history, users, model.new_, None)
    np.testing.assert_array_equal(whole[:, torch.from_numpy(model.new_)], some)


def test_similar_items_of_a_new_one(extended):
    for name in ("EASE", "MultVAE", "ALS"):
        model = extended(name)
        code = model.items_.codes(["new even"])[0]
        ids, scores = model.similar_items(code, N=6)
        assert (ids[0], scores[0]) == (code, 1.0)
        known = [int(model.items_.ids([one])[0].removeprefix("i")) for one in ids[1:] if one < SIZE]
        assert known
        assert all(number % 2 == 0 for number in known)


def test_the_ridge_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    rows = sp.csr_matrix(sp.random(30, 12, 0.3, random_state=1), dtype=np.float32)
    targets = rng.normal(size=(30, 4)).astype(np.float32)
    for strength in (0.1, 3.0):
        dense = rows.toarray().astype(np.float64)
        primal = np.linalg.solve(dense.T @ dense + strength * np.eye(12), dense.T @ targets)
        np.testing.assert_allclose(rows.T @ ridge_duals(rows, targets, strength), primal, atol=2e-4)
    assert not ridge_duals(rows, np.zeros((30, 2), np.float32), 1.0).any()


def test_weights_of_new_items_are_shares_in_the_known_columns(data):
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    features = Features.from_frame(ABOUT_AND_NEW, columns={"kind": "tags"}, min_count=1)
    rows = sp.csr_matrix(recsys.metrics.lists.unit_rows(features.matrix, len(ABOUT_AND_NEW)))
    known = np.arange(SIZE)
    new = derived(model, known, rows[:SIZE], rows[SIZE : SIZE + 2], 0.5)
    weights = model.weights_.double().numpy()
    gram = (rows[:SIZE] @ rows[:SIZE].T).toarray() + 0.5 * np.eye(SIZE)
    shares = np.linalg.solve(gram, (rows[:SIZE] @ rows[SIZE : SIZE + 2].T).toarray())
    center = weights.mean(1, keepdims=True)
    raw = (weights - center) @ shares
    length = np.linalg.norm(weights - center, axis=0).mean()
    np.testing.assert_allclose(new.weights.numpy(), raw / np.linalg.norm(raw, axis=0) * length + center, atol=1e-4)


def test_nearest_keeps_the_best_of_a_positive_cosine():
    known = np.array([0, 2, 3])
    rows = sp.csr_matrix(np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32))
    found = nearest(sp.csr_matrix(np.array([[1, 0], [0, 0]], np.float32)), rows, known, 5, 2).toarray()
    np.testing.assert_allclose(found, [[1 / 1.6, 0, 0.6 / 1.6, 0, 0], [0] * 5], rtol=1e-6)


def test_the_strength_is_chosen_by_items_that_are_held_out(data):
    rows = sp.csr_matrix(np.eye(SIZE, dtype=np.float32))  # features that say nothing of other items: all alike
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    trial = Trial(model, data.matrix, np.arange(SIZE), rows, 0)
    assert trial.strength() in recsys.models.new_items.STRENGTHS
    assert trial.trust(1.0) == pytest.approx(0.0, abs=1e-6)
    few = Trial(model, data.matrix, np.arange(3), rows[:3], 0)  # too few to hold any out
    assert (few.strength(), few.trust(1.0)) == (1.0, 1.0)


def test_trust_is_the_slope_of_scores_on_what_the_ridge_says(data):
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    rows = sp.csr_matrix(np.eye(2, dtype=np.float32)[np.arange(SIZE) % 2])
    trial = Trial(model, data.matrix, np.arange(SIZE), rows, 0)
    assert set(trial.context.indices) & set(trial.held) == set()
    weights = model.weights_.double().numpy()
    new = derived(model, *trial.known, 0.3).weights.double().numpy()
    own, found = trial.context @ weights[:, trial.held], trial.context @ new
    own, found = (table - table.mean(1, keepdims=True) for table in (own, found))
    expected = min(1.0, max(0.0, (own * found).sum() / (found**2).sum()))
    assert trial.trust(0.3) == pytest.approx(expected, abs=1e-5)
    less = derived(model, *trial.known, 0.3, 0.5).weights.double().numpy()
    center = weights[:, trial.known[0]].mean(1, keepdims=True)
    np.testing.assert_allclose(less - center, (new - center) / 2, atol=1e-6)


def test_what_is_refused(data, tmp_path):
    model = EASE(regularization=1.0).fit(data, show_progress=False)
    with pytest.raises(DataError, match="describes none of the items"):
        model.with_items(NEW, data, min_count=1)
    with pytest.raises(DataError, match="knows no external ids"):
        EASE().fit(data.matrix, show_progress=False).with_items(ABOUT, data.matrix)
    bare = WithFeatures().fit(data.matrix, show_progress=False)
    with pytest.raises(UnsupportedError, match="was fitted to a bare matrix"):
        bare.with_items(NEW)
    whole = model.with_items(ABOUT_AND_NEW, data, min_count=1)
    with pytest.raises(DataError, match="ids of the same type"):
        whole.with_items(NEW.assign(item_id=[7, 8, 9]))
    with pytest.raises(UnsupportedError, match="takes nothing else"):
        whole.with_items(NEW, data)
    with pytest.raises(DataError, match="has no column kind"):
        whole.with_items(pd.DataFrame({"item_id": ["x"]}))
    with pytest.raises(UnsupportedError, match="predicts no ratings"):
        whole.predict(0, data.matrix[0], [1])
    with pytest.raises(ConfigError, match="model inside: unknown model 'EASEE'; did you mean 'EASE'"):
        WithFeatures(model="EASEE").fit(data, show_progress=False)
    with pytest.raises(DataError, match="no item of the training data has a feature"):
        WithFeatures(min_count=1).fit(
            world(ABOUT.assign(kind=[["x"]] + [None] * (SIZE - 1))).select(world().matrix.indices != 0),
            show_progress=False,
        )


def test_a_bundle_with_other_new_items_is_refused(extended):
    bundle = extended("EASE").to_bundle()
    arrays = {**bundle.arrays, "new.items": bundle.arrays["new.items"][:1]}
    with pytest.raises(BundleError, match="those with features that training did not see"):
        WithFeatures._from_bundle(replace(bundle, arrays=arrays), "x")


def test_content_neighbors_are_the_cosine_of_features(data):
    model = ContentKNN(min_count=1, length_exponent=0.5).fit(data, show_progress=False)
    rows = model.features_.matrix.toarray().astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    cosine = (rows / lengths[:, None]) @ (rows / lengths[:, None]).T
    expected = data.matrix.toarray() @ (cosine * np.sqrt(lengths))
    ids, scores = model.recommend(np.arange(SIZE), data, N=SIZE, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids, 1), rtol=1e-5)
    more = model.with_items(NEW)
    assert more.n_items_ == SIZE + 3
    ids, _ = more.recommend(-1, histories(more, 1), N=30)
    assert ids.tolist().index(more.items_.codes(["new odd"])[0]) < ids.tolist().index(
        more.items_.codes(["new even"])[0]
    )


def fease_by_hand(matrix, features, options, prior):
    """The minimum column by column, B_jj left out of the variables."""
    z = np.vstack([matrix, options["feature_weight"] * features.T])
    gram, n = z.T @ z, matrix.shape[1]
    strength = options["regularization"] + options["prior_weight"]
    found = np.zeros((n, n))
    for j in range(n):
        rest = np.setdiff1d(np.arange(n), [j])
        right = gram[rest, j] + options["prior_weight"] * prior[rest, j]
        found[rest, j] = np.linalg.solve(gram[np.ix_(rest, rest)] + strength * np.eye(n - 1), right)
    return found


@pytest.mark.parametrize("prior", ["cosine", "semantic"])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0)])
def test_fease_is_the_minimum_of_its_objective(data, prior, weights):
    options = {"regularization": 2.0, "feature_weight": weights[0], "prior_weight": weights[1]}
    model = FEASE(**options, prior=prior, prior_regularization=0.7, min_count=1).fit(data, show_progress=False)
    rows = model.features_.matrix.toarray().astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if prior == "cosine":
        content = rows @ rows.T - np.eye(SIZE)
    else:
        inverse = np.linalg.inv(rows @ rows.T + 0.7 * np.eye(SIZE))
        content = np.eye(SIZE) - inverse / np.diag(inverse)
    expected = fease_by_hand(data.matrix.toarray().astype(np.float64), rows, options, content)
    np.testing.assert_allclose(model.weights_, expected, atol=1e-5)
    if not any(weights):
        plain = EASE(regularization=2.0).fit(data, show_progress=False)
        np.testing.assert_allclose(model.weights_, plain.weights_, atol=1e-6)


def test_fease_scores_items_that_nobody_has(data):
    train = data.select(~np.isin(data.matrix.indices, [3]))
    model = FEASE(regularization=1.0, min_count=1).fit(train, show_progress=False)
    odd = int(data.items.ids([3])[0].removeprefix("i")) % 2
    _, scores = model.recommend(np.arange(SIZE), train, N=1, items=[3], filter_already_liked_items=False)
    likes = np.arange(SIZE) % 2 == odd
    assert scores[likes].min() > scores[~likes].max()


def test_features_within_a_blend(data, tmp_path):
    parts = ({"name": "WithFeatures", "model": "ItemKNN", "min_count": 1}, {"name": "ContentKNN", "min_count": 1})
    some = np.arange(0, SIZE, 5)
    train = data.select(~np.isin(data.matrix.indices, some))
    model = recsys.Blend(parts=parts).fit(train, show_progress=False)
    assert all(part.features_ is not None for part in model.parts_)
    model.save(tmp_path / "b")
    again = recsys.load(tmp_path / "b")
    assert again.recommend(0, train.matrix[0])[0].tolist() == model.recommend(0, train.matrix[0])[0].tolist()
    kept = {type(part).__name__ for part in again.parts_}
    assert kept == {"WithFeatures", "ContentKNN"}
    with pytest.raises(ConfigError, match="has parts itself"):
        recsys.Blend(parts=({"name": "Blend"},)).fit(train, show_progress=False)


def test_known_training_users_of_a_model_with_vectors(data):
    model = ALS(**CASES["ALS"]).fit(data, show_progress=False)
    whole = model.with_items(ABOUT_AND_NEW, data, min_count=1)
    assert whole.capabilities.scores_known_users
    ids, _ = whole.recommend(0, None, N=5, filter_already_liked_items=False)
    assert len(ids) == 5
    np.testing.assert_array_equal(whole.similar_users(0, N=3)[0], model.similar_users(0, N=3)[0])
