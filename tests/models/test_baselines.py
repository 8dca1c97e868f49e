"""The baselines against counting, `implicit` itself, and normal equations by hand."""

import pickle
import warnings
from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from implicit.utils import ParameterWarning
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from recsys.errors import (
    BundleError,
    ConfigError,
    DataError,
    NotFittedError,
    TrainingError,
    UnsupportedError,
)
from recsys.models import ALS, BPR, ItemKNN, Popularity, pairwise
from recsys.models.pairwise import pairwise_fold_in
from tests.contract import NO_SCORE, cells_of, csr, random_cells, ratings

N_USERS, N_ITEMS = 30, 17
MATRIX = ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35)
UNSEEN = ratings(n_users=6, n_items=N_ITEMS, density=0.25, seed=1)
USERS = np.arange(N_USERS)
KNN = {"cosine": CosineRecommender, "bm25": BM25Recommender, "tfidf": TFIDFRecommender}

factor_models = pytest.mark.parametrize("model_class", [ALS, BPR])
every_baseline = pytest.mark.parametrize("model_class", [Popularity, ALS, BPR, ItemKNN])


def fit(model_class, matrix=MATRIX, **options):
    if model_class is BPR:
        options = {"popularity_exponent": 0.0, **options}
    if model_class in (ALS, BPR):
        options = {"factors": 5, "iterations": 6, "regularization": 0.05, "seed": 3, **options}
    return model_class(**options).fit(matrix, show_progress=False)


@pytest.fixture
def one_blas_thread():
    """`implicit` warns of more, as it runs threads of its own."""
    with threadpool_limits(1, "blas"):
        yield


def implicits_als(**options):
    model = AlternatingLeastSquares(**{"factors": 5, "iterations": 6, "regularization": 0.05, **options})
    model.fit(MATRIX, show_progress=False)
    return model


def implicits_bpr(**options):
    options = {"factors": 5, "iterations": 6, "regularization": 0.05, "num_threads": 1, **options}
    model = BayesianPersonalizedRanking(**options)
    model.fit(MATRIX, show_progress=False)
    return model


def implicits_knn(similarity, neighbors, matrix=MATRIX):
    model = KNN[similarity](K=neighbors)
    with pytest.warns(ParameterWarning):
        model.fit(matrix, show_progress=False)
    return model


def alike(found, expected):
    """The same lists, with scores equal within rounding."""
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)


# Popularity


@given(n_users=st.integers(1, 9), n_items=st.integers(1, 9), density=st.floats(0, 1), seed=st.integers(0, 9999))
@settings(max_examples=60, deadline=None)
def test_popularity_counts_users_and_breaks_ties_by_index(n_users, n_items, density, seed):
    cells = random_cells(np.random.default_rng(seed), n_users, n_items, density)
    cells[0, 0] = -2.0
    matrix = csr(cells)
    counts = [int((~np.isnan(cells[:, item])).sum()) for item in range(n_items)]
    order = sorted(range(n_items), key=lambda item: (-counts[item], item))
    model = fit(Popularity, matrix)
    ids, scores = model.recommend([0, 0], None, N=n_items, filter_already_liked_items=False)
    assert ids.tolist() == [order] * 2
    assert scores.tolist() == [[counts[item] for item in order]] * 2
    ids, scores = model.recommend(np.arange(n_users), matrix, N=n_items)
    for user in range(n_users):
        unseen = [item for item in order if np.isnan(cells[user, item])]
        empty = n_items - len(unseen)
        assert ids[user].tolist() == unseen + [-1] * empty
        assert scores[user].tolist() == [counts[item] for item in unseen] + [NO_SCORE] * empty


def test_popularity_ignores_values_and_new_histories():
    counted, binary = (fit(Popularity, matrix) for matrix in (MATRIX, MATRIX.sign()))
    alike(
        counted.recommend(np.full(6, -1), UNSEEN, filter_already_liked_items=False),
        binary.recommend(USERS[:6], MATRIX[:6], filter_already_liked_items=False),
    )


def test_popularity_tells_no_users_and_no_items_apart():
    model = fit(Popularity)
    counts = np.diff(MATRIX.tocsc().indptr)
    ids, scores = model.recommend_users([2, 5], MATRIX, N=4, filter_already_liked_users=False)
    assert ids.tolist() == [[0, 1, 2, 3]] * 2
    assert scores.tolist() == [[counts[2]] * 4, [counts[5]] * 4]
    with pytest.raises(UnsupportedError, match="Popularity has no similarity of items; use EASE or ItemKNN"):
        model.similar_items(0)
    with pytest.raises(UnsupportedError, match="Popularity keeps no vectors of its training users"):
        model.similar_users(0)
    with pytest.raises(UnsupportedError, match="Popularity has no embeddings of users"):
        model.encode(MATRIX)


# ALS and BPR are implicit's


ALS_OPTIONS = [{}, {"alpha": 4.0}, {"regularization": 3.0, "factors": 2}, {"iterations": 1}]
BPR_OPTIONS = [{}, {"learning_rate": 0.2}, {"regularization": 0.3, "factors": 2}, {"iterations": 1}]
PAIRS = [(ALS, implicits_als, options) for options in ALS_OPTIONS]
PAIRS += [(BPR, implicits_bpr, options) for options in BPR_OPTIONS]


@pytest.mark.parametrize(("model_class", "implicits", "options"), PAIRS)
@pytest.mark.usefixtures("one_blas_thread")
def test_it_answers_as_implicits_model_does(model_class, implicits, options):
    ours, theirs = fit(model_class, **options), implicits(random_state=3, **options)
    np.testing.assert_array_equal(ours.user_factors_.numpy(), theirs.user_factors)
    np.testing.assert_array_equal(ours.item_factors_.numpy(), theirs.item_factors)
    alike(ours.recommend(USERS, MATRIX, N=6), theirs.recommend(USERS, MATRIX, N=6))
    alike(ours.recommend(4, MATRIX[4], N=6), theirs.recommend(4, MATRIX[4], N=6))
    for restriction in ({"items": [1, 4, 9, 16]}, {"filter_items": [0, 3]}, {}):
        arguments = {"N": 4, "filter_already_liked_items": False, **restriction}
        alike(ours.recommend(USERS, MATRIX, **arguments), theirs.recommend(USERS, MATRIX, **arguments))
    alike(ours.similar_items(np.arange(N_ITEMS), N=7), theirs.similar_items(np.arange(N_ITEMS), N=7))
    alike(ours.similar_users(USERS, N=7), theirs.similar_users(USERS, N=7))


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_bpr_adds_what_popular_negatives_take_away(exponent, tmp_path):
    plain, ours = fit(BPR), fit(BPR, popularity_exponent=exponent)
    counts = np.diff(MATRIX.tocsc().indptr)
    for items in (None, np.array([1, 4, 9])):
        (ids, scores), (found, more) = (
            m.recommend(USERS, MATRIX, N=N_ITEMS, filter_already_liked_items=False, items=items) for m in (plain, ours)
        )
        for row in range(len(USERS)):
            own, kept = dict(zip(ids[row], scores[row], strict=True)), found[row] >= 0
            expected = [own[item] + exponent * np.log(max(counts[item], 0.5)) for item in found[row][kept]]
            np.testing.assert_allclose(more[row][kept], expected, rtol=1e-5, atol=1e-5)
    ours.save(tmp_path / "model")
    alike(BPR.load(tmp_path / "model").recommend(USERS, MATRIX), ours.recommend(USERS, MATRIX))
    alike(ours.similar_items(np.arange(N_ITEMS)), plain.similar_items(np.arange(N_ITEMS)))


def test_a_bpr_of_before_ranks_as_it_did(tmp_path, monkeypatch):
    plain = fit(BPR)
    monkeypatch.setattr(BPR, "_arrays", BPR.__mro__[1]._arrays)
    plain.save(tmp_path / "model")
    monkeypatch.undo()
    alike(BPR.load(tmp_path / "model").recommend(USERS, MATRIX), plain.recommend(USERS, MATRIX))


def test_popular_negatives_teach_how_much_more_than_others_a_user_likes_an_item():
    """Where nobody has a taste, that is nothing: scores then grow with popularity only by the exponent."""
    rng = np.random.default_rng(0)
    chance = (np.arange(200) + 5.0) ** -1.0
    matrix = csr(np.where(rng.random((2000, 200)) < 6 * chance / chance.sum(), 1.0, np.nan))
    for exponent in (0.0, 1.0):
        options = {"factors": 1, "regularization": 0.0, "iterations": 60, "learning_rate": 0.02}
        model = BPR(**options, popularity_exponent=exponent).fit(matrix, show_progress=False)
        ids, scores = model.recommend(0, matrix[0], N=200, filter_already_liked_items=False)
        slope = np.polyfit(np.log(np.diff(matrix.tocsc().indptr)[ids]), scores, 1)[0]
        assert slope == pytest.approx(exponent, abs=0.2)


@pytest.mark.parametrize(
    ("model_class", "option", "value"),
    [
        (ALS, "factors", 4),
        (ALS, "iterations", 3),
        (ALS, "regularization", 2.0),
        (ALS, "alpha", 3.0),
        (BPR, "factors", 4),
        (BPR, "iterations", 3),
        (BPR, "regularization", 2.0),
        (BPR, "learning_rate", 0.3),
    ],
)
def test_every_option_reaches_implicit(model_class, option, value):
    one, other = fit(model_class).item_factors_, fit(model_class, **{option: value}).item_factors_
    assert one.shape != other.shape or (one - other).abs().max() > 1e-3


@factor_models
def test_the_seed_decides_everything(model_class):
    one, again, other = (fit(model_class, seed=seed) for seed in (3, 3, 4))
    for name in ("user_factors_", "item_factors_"):
        assert (getattr(one, name) == getattr(again, name)).all()
        assert (getattr(one, name) != getattr(other, name)).any()
    fresh = [fit(model_class, seed=None).item_factors_ for _ in range(2)]
    assert (fresh[0] != fresh[1]).any()


@pytest.mark.parametrize("alpha", [1.0, 4.0])
@pytest.mark.usefixtures("one_blas_thread")
def test_als_folds_new_users_in_as_implicit_does(alpha):
    ours, theirs = fit(ALS, alpha=alpha), implicits_als(alpha=alpha, random_state=3)
    expected = theirs.recalculate_user(np.arange(6), UNSEEN)
    np.testing.assert_allclose(ours.encode(UNSEEN), expected, rtol=1e-5, atol=1e-6)
    found = ours.recommend(np.full(6, -1), UNSEEN, N=5)
    alike(found, theirs.recommend(np.arange(6), UNSEEN, N=5, recalculate_user=True))
    alike(ours.recommend(np.arange(6), UNSEEN, N=5, recalculate_user=True), found)
    alike(ours.recommend(np.arange(99, 105), UNSEEN, N=5), found)
    alike(ours.recommend(np.arange(6), UNSEEN, N=5), found)  # it is not their history of training


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_als_folds_new_users_in_by_the_normal_equations(alpha):
    """(QᵀQ + Qᵀ(C − I)Q + λI) v = Qᵀ C p with C = α·x where stored and 1 elsewhere (Hu et al. 2008, eq. 4)."""
    model = fit(ALS, alpha=alpha)
    q = model.item_factors_.double().numpy()
    for row, cells in enumerate(cells_of(UNSEEN)):
        liked = ~np.isnan(cells)
        confidence = np.where(liked, alpha * np.nan_to_num(cells), 1.0)
        normal = q.T @ (confidence[:, None] * q) + 0.05 * np.eye(5)
        expected = np.linalg.solve(normal, q.T @ (confidence * liked))
        np.testing.assert_allclose(model.encode(UNSEEN)[row], expected, rtol=1e-3, atol=1e-4)


def test_bpr_folds_new_users_in_by_its_own_objective():
    """The mean of ln σ(x_ui − x_uj) over all items j beside the history by their popularity, with a ridge."""
    model = fit(BPR, learning_rate=0.1, iterations=40)
    q, bias = np.split(model.item_factors_.double().numpy(), [5], axis=1)
    popularity = np.diff(MATRIX.tocsc().indptr) / MATRIX.nnz
    found = model.encode(UNSEEN)
    with mock.patch.object(pairwise, "_PAIRS", 2**16):
        exact = model.encode(UNSEEN)
    assert found.shape == (6, 6)
    assert (found[:, 5] == 1).all()
    for row, cells in enumerate(cells_of(UNSEEN)):
        own, others = np.flatnonzero(~np.isnan(cells)), np.flatnonzero(np.isnan(cells))
        x = (q[own][:, None] - q[others]).reshape(-1, 5)
        offset = (bias[own] - bias[others].T).ravel()
        weight = np.tile(popularity[others] / popularity[others].sum(), len(own)) / len(own)
        ridge = 0.05 + 1 / (0.1 * 40 * len(own) * popularity[others].sum())

        def loss(v, x=x, offset=offset, weight=weight, ridge=ridge):
            return weight @ np.logaddexp(0, -(x @ v + offset)) + ridge / 2 * v @ v

        expected = minimize(loss, np.zeros(5), tol=1e-10).x
        assert np.linalg.norm(expected) > 0.5
        np.testing.assert_allclose(exact[row, :5], expected, atol=1e-3)
        np.testing.assert_allclose(found[row, :5], expected, atol=0.05 * np.linalg.norm(expected))
        ids, scores = model.recommend(-1, UNSEEN[row], N=N_ITEMS, filter_already_liked_items=False)
        np.testing.assert_allclose(scores, (q @ found[row, :5] + bias[:, 0])[ids], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.encode(UNSEEN.sign()), found)  # values are not read


@given(
    n_items=st.integers(2, 9),
    width=st.integers(1, 5),
    ridge=st.sampled_from([0.0, 0.01, 1.0]),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 9999),
)
@example(n_items=3, width=5, ridge=1.0, scale=0.1, seed=835)
@settings(max_examples=80, deadline=None)
def test_a_pairwise_vector_is_where_the_gradient_vanishes(n_items, width, ridge, scale, seed):
    rng = np.random.default_rng(seed)
    items = torch.from_numpy(scale * rng.normal(size=(n_items, width + 1)))
    popularity = rng.random(n_items).astype(np.float32) + 0.01
    history = csr(np.where(rng.random((1, n_items)) < 0.5, 1.0, np.nan))
    found = pairwise_fold_in(items, history, popularity, ridge=ridge, epochs=10, learning_rate=0.1)[0].double()
    own = history.indices
    liked, others = pairwise._pairs(own, np.cumsum(popularity, dtype=np.float64))
    if not len(own) or len(own) == n_items:
        assert not found.any()
        assert not len(liked)
        return
    assert np.isin(liked, own).all()
    assert not np.isin(others, own).any()
    left = 1 - popularity[own].sum() / popularity.sum()
    share = len(others) / (len(own) * -(-256 // len(own)))
    assert share == pytest.approx(left, abs=0.05)
    v = found.clone().requires_grad_()
    score = items[:, :-1] @ v + items[:, -1]
    mean = torch.nn.functional.logsigmoid(score[liked] - score[others]).mean()
    total = mean - (ridge + 1 / (0.1 * 10 * len(own) * left)) / 2 * v @ v
    (gradient,) = torch.autograd.grad(total, v)
    assert gradient.abs().max() < 1e-5 * scale


@factor_models
def test_a_training_user_folded_in_is_like_the_trained_one(model_class):
    """Two groups of users, each with items of its own of which every user has five of eight."""
    rng, group = np.random.default_rng(0), np.arange(40) % 2
    liked = np.zeros((40, 16), dtype=bool)
    for user in range(40):
        liked[user, group[user] + 2 * rng.choice(8, 5, replace=False)] = True
    matrix = csr(np.where(liked, 1.0, np.nan))
    options = {"iterations": 20, "learning_rate": 0.1} if model_class is BPR else {"factors": 2}
    model = fit(model_class, matrix, **options)
    for users in (np.arange(40), np.full(40, -1)):
        ids, _ = model.recommend(users, matrix, N=3)
        assert (ids % 2 == group[:, None]).all()


@factor_models
def test_an_empty_history_is_a_vector_of_zeros(model_class):
    empty = sp.csr_matrix((2, N_ITEMS), dtype=np.float32)
    assert not fit(model_class).encode(empty)[:, :5].any()
    assert fit(model_class).encode(empty[:0]).shape == (0, 5 if model_class is ALS else 6)


# ItemKNN


@pytest.mark.parametrize("similarity", KNN)
@pytest.mark.parametrize("neighbors", [3, 8, 50])
def test_item_knn_answers_as_implicits_does(similarity, neighbors):
    ours = fit(ItemKNN, similarity=similarity, neighbors=neighbors)
    theirs = implicits_knn(similarity, neighbors)
    table = ours.similarity_.toarray()
    np.testing.assert_allclose(table, theirs.similarity.toarray(), rtol=1e-6)
    assert (np.count_nonzero(table, axis=1) <= neighbors).all()
    for matrix in (MATRIX, UNSEEN):
        users = np.arange(matrix.shape[0])
        ids, scores = ours.recommend(users, matrix, N=N_ITEMS)
        for user in users:
            # Theirs ends in zeros: items that no neighbour speaks for, those of the history among them.
            theirs_ids, theirs_scores = theirs.recommend(user, matrix[user], N=N_ITEMS)
            n = np.count_nonzero(theirs_scores)
            assert n > 0
            alike((ids[user, :n], scores[user, :n]), (theirs_ids[:n], theirs_scores[:n]))
            assert (scores[user, n:][ids[user, n:] >= 0] == 0).all()
    for item in range(N_ITEMS):
        expected = theirs.similar_items(item, N=neighbors)
        found = ours.similar_items(item, N=len(expected[0]))
        # BM25 is no cosine: an item's similarity to itself is the unit.
        alike(found, (expected[0], expected[1] / table[item, item]))


def test_item_knn_is_the_cosine_of_columns():
    x = np.nan_to_num(cells_of(MATRIX))
    unit = x / np.linalg.norm(x, axis=0)
    similarity = unit.T @ unit
    np.testing.assert_allclose(fit(ItemKNN, neighbors=N_ITEMS).similarity_.toarray(), similarity, atol=1e-6)
    few = fit(ItemKNN, neighbors=4).similarity_.toarray()
    for item in range(N_ITEMS):
        best = np.argsort(-similarity[item])[:4]
        assert np.flatnonzero(few[item]).tolist() == sorted(best)
    expected = np.nan_to_num(cells_of(UNSEEN)) @ few
    ids, scores = fit(ItemKNN, neighbors=4).recommend(np.arange(6), UNSEEN, N=8, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=1e-5)


def test_item_knn_needs_histories_and_has_no_embeddings():
    model = fit(ItemKNN)
    with pytest.raises(DataError, match="ItemKNN needs the users' histories"):
        model.recommend(0, filter_already_liked_items=False)
    with pytest.raises(UnsupportedError, match="ItemKNN has no embeddings of users"):
        model.encode(MATRIX)
    with pytest.raises(UnsupportedError, match="ItemKNN keeps no vectors of its training users"):
        model.similar_users(0)


# Keeping, and errors


@every_baseline
def test_it_is_kept_without_pickle(model_class, tmp_path):
    model = fit(model_class)
    refuse = mock.Mock(side_effect=AssertionError("pickle"))
    with mock.patch.multiple(pickle, load=refuse, loads=refuse, dump=refuse, dumps=refuse, Unpickler=refuse):
        model.save(tmp_path / "model")
        again = model_class.load(tmp_path / "model")
    files = {file.name for file in (tmp_path / "model").iterdir()}
    assert files == {"config.json", "metrics.json", "weights.safetensors"}
    assert again.params() == model.params()
    for one, other in zip(model._arrays().values(), again._arrays().values(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for users, histories in ((USERS, MATRIX), (np.full(6, -1), UNSEEN)):
        one, other = (m.recommend(users, histories, N=N_ITEMS) for m in (model, again))
        np.testing.assert_array_equal(one, other)
    if model_class is not Popularity:
        np.testing.assert_array_equal(model.similar_items(USERS[:9]), again.similar_items(USERS[:9]))
    with pytest.raises(BundleError, match=f"holds a {model_class.__name__}"):
        next(c for c in (ALS, BPR) if c is not model_class).load(tmp_path / "model")


@pytest.mark.parametrize(
    ("model_class", "options", "message"),
    [
        (ALS, {"factors": 0}, "factors of ALS must be a whole number ≥ 1, got 0"),
        (ALS, {"iterations": 0}, "iterations of ALS must be a whole number ≥ 1, got 0"),
        (ALS, {"regularization": -0.1}, "regularization of ALS must be a finite number ≥ 0, got -0.1"),
        (BPR, {"factors": -1}, "factors of BPR must be a whole number ≥ 1, got -1"),
        (BPR, {"iterations": -2}, "iterations of BPR must be a whole number ≥ 1, got -2"),
        (BPR, {"regularization": -0.1}, "regularization of BPR must be a finite number ≥ 0, got -0.1"),
        (ItemKNN, {"neighbors": 0}, "neighbors of ItemKNN must be a whole number ≥ 1, got 0"),
        (
            ItemKNN,
            {"similarity": "jaccard"},
            "similarity of ItemKNN must be 'cosine' or 'bm25' or 'tfidf', got 'jaccard'",
        ),
    ],
)
def test_hyperparameters_out_of_range_are_refused(model_class, options, message):
    with pytest.raises(ConfigError, match=message):
        fit(model_class, **options)


@every_baseline
def test_a_history_or_a_fit_that_is_missing_is_said(model_class):
    with pytest.raises(NotFittedError, match=f"{model_class.__name__} is not fitted"):
        model_class().recommend(0, MATRIX[0])
    model = fit(model_class)
    with pytest.raises(DataError, match=rf"one column per training item \({N_ITEMS}\), got shape \(1, 5\)"):
        model.recommend(0, MATRIX[0, :5])
    with pytest.raises(DataError, match="pass user_items with one row per userid"):
        model.recommend(0)


@factor_models
def test_strangers_without_a_history_are_refused(model_class):
    with pytest.raises(DataError, match=f"{model_class.__name__} needs the users' histories"):
        fit(model_class).recommend([0, N_USERS], None, filter_already_liked_items=False)


def test_similar_items_of_bm25_keep_implicits_order():
    nan = np.nan
    matrix = csr([[1, 3, 5, *[nan] * 5], [nan, nan, nan, 1, 1, 1, 1, 1]])
    theirs = BM25Recommender(K=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # of implicit's own conversion
        theirs.fit(matrix, show_progress=False)
    expected = [item for item in theirs.similar_items(0, N=3)[0] if item != 0]
    found = ItemKNN(similarity="bm25", neighbors=3).fit(matrix, show_progress=False).similar_items(0, N=3)[0]
    assert found.tolist() == [0, *expected]
    assert expected == [2, 1]


def test_an_item_of_stored_zeros_is_similar_to_none_and_hides_no_other():
    matrix = csr([[1, 0, np.nan], [1, np.nan, 1], [np.nan, np.nan, 1]])
    model = ItemKNN(neighbors=3).fit(matrix, show_progress=False)
    ids, scores = model.recommend(0, matrix[0], N=3, filter_already_liked_items=False)
    assert sorted(ids) == [0, 1, 2]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ALS(alpha=0.0), "alpha of ALS must be a finite number > 0, got 0.0"),
        (BPR(learning_rate=-1.0), "learning_rate of BPR must be a finite number > 0, got -1.0"),
        (ALS(regularization=float("nan")), "regularization of ALS must be a finite number ≥ 0, got nan"),
    ],
)
def test_options_that_implicit_would_let_pass_are_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        model.fit(csr([[1.0, np.nan], [np.nan, 1.0]]), show_progress=False)


def test_a_fit_that_implicit_gives_up_is_a_training_error():
    rng = np.random.default_rng(0)
    matrix = csr(np.where(rng.random((30, 20)) < 0.5, 1.0, np.nan))
    with pytest.raises(TrainingError, match="implicit could not fit BPR"):
        BPR(learning_rate=1e6, iterations=20).fit(matrix, show_progress=False)


def test_counts_are_not_negative():
    with pytest.raises(DataError, match="2 are negative"):
        ItemKNN(similarity="tfidf").fit(csr([[1, -1, np.nan], [1, 2, -1]]), show_progress=False)
