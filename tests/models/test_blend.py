"""Blends: what they add up, how their weights are chosen, and that their parts are what they would be alone."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import recsys
from recsys import IdMap, Interactions, Validation, evaluate, load, splits
from recsys.artifacts import read_bundle, write_bundle
from recsys.errors import BundleError, ConfigError, DataError, TrainingError, UnsupportedError
from recsys.export import ScoreGraph
from recsys.models import (
    ALS,
    EASE,
    Blend,
    IAutoRec,
    ItemKNN,
    MultVAE,
    Popularity,
    Recommender,
    UAutoRec,
    register,
    registry,
    weighing,
)
from recsys.models import parts as made_of
from recsys.models.capabilities import Capabilities
from recsys.models.weighing import KeptScores, least_squares, searched_weights
from recsys.splits import Part
from tests.contract import AUTOREC, CASES, VAE, csr, new_model, ratings, same

pytestmark = pytest.mark.filterwarnings("ignore:patience = ")  # so few steps are meant
RATES = {**AUTOREC, "unobserved_weight": 0.0, "epochs": 15}
TASTES = ratings(40, 30, density=0.4)
DATA = Interactions(TASTES, IdMap([f"u{row}" for row in range(40)]), IdMap(range(100, 130)))
SPLIT = splits.hold_out_ratings(DATA, test=0.2, validation=0.2, seed=1)
ALL = {"N": 30, "filter_already_liked_items": False}
TRAIN = SPLIT.train.matrix
LINEAR, DEEP = {"name": "EASE", "regularization": 2.0}, {"name": "MultVAE", **VAE, "hidden": 16, "latent": 4}


def table(model, users=None, histories=TASTES):
    """The (users, items) scores of a model in float64."""
    users = np.arange(histories.shape[0]) if users is None else users
    ids, scores = model.recommend(users, histories, **ALL)
    found = np.empty(scores.shape)
    np.put_along_axis(found, ids.astype(np.int64), scores.astype(np.float64), axis=1)
    return found


def standardized(scores):
    rest = scores - scores.mean(1, keepdims=True)
    return rest / scores.std(1, keepdims=True)


def fit(*parts, data=SPLIT.train, validation=None, **options):
    return Blend(parts=parts, **options).fit(data, show_progress=False, validation=validation)


# What is added up


def test_scores_are_the_weighted_sum_of_standardized_scores():
    blend = fit(LINEAR, DEEP, {"name": "ItemKNN"}, weights=(0.5, 0.2, 0.3))
    expected = sum(w * standardized(table(m)) for w, m in zip((0.5, 0.2, 0.3), blend.parts_, strict=True))
    np.testing.assert_allclose(table(blend), expected, atol=2e-5)
    assert [type(part) for part in blend.parts_] == [EASE, MultVAE, ItemKNN]


def test_the_scale_is_that_of_all_items_whichever_are_asked_for():
    blend = fit(LINEAR, DEEP)
    whole = table(blend)
    ids, scores = blend.recommend(np.arange(40), TASTES, items=[3, 9, 20], filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(whole, ids.astype(np.int64), 1), rtol=1e-6)


def test_ratings_are_the_weighted_sum_of_ratings_within_the_range():
    parts = UAutoRec(**RATES), IAutoRec(**RATES)
    blend = fit(*parts, weights=(0.7, 0.6), intercept=-0.9)
    items = np.tile(np.arange(30), (40, 1))
    each = [part.predict(np.arange(40), TASTES, items).astype(np.float64) for part in blend.parts_]
    raw = -0.9 + 0.7 * each[0] + 0.6 * each[1]
    assert (raw > 5).any()  # else nothing was clipped
    found = blend.predict(np.arange(40), TASTES, items)
    np.testing.assert_allclose(found, np.clip(raw, 1, 5), atol=1e-5)
    np.testing.assert_allclose(table(blend), 0.7 * table(blend.parts_[0]) + 0.6 * table(blend.parts_[1]), atol=1e-4)


def test_similar_items_go_by_the_mean_similarity_of_the_parts_that_compare_items():
    blend = fit(LINEAR, {"name": "Popularity"}, {"name": "ItemKNN"}, weights=(0.2, 0.5, 0.3))
    ids, scores = blend.similar_items(4, N=30)
    by_part = []
    for part in (blend.parts_[0], blend.parts_[2]):
        found = np.empty(30)
        own = part.similar_items(4, N=30)
        found[own[0]] = own[1]
        by_part.append(found)
    np.testing.assert_allclose(scores, (0.4 * by_part[0] + 0.6 * by_part[1])[ids], atol=1e-6)
    unweighted = fit(LINEAR, {"name": "Popularity"}, weights=(0.0, 1.0))
    same(unweighted.similar_items(4), unweighted.parts_[0].similar_items(4))


def test_a_part_of_weight_zero_is_not_asked():
    blend = fit(LINEAR, DEEP, weights=(1.0, 0.0))
    blend.parts_[1]._scores = None
    np.testing.assert_allclose(table(blend), standardized(table(blend.parts_[0])), atol=1e-5)


@register
class Choosy(Recommender):
    """Recommends the first half of the catalog only."""

    capabilities = Capabilities(encodes=False, compares_items=False, keeps_users=False)

    def _fit(self, matrix, options):
        self.size_ = matrix.shape[1]

    def _scores(self, histories, userid, items, out):
        scores = torch.arange(self.size_).float().repeat(len(userid), 1)
        scores[:, self.size_ // 2 :] = -torch.inf
        return scores if items is None else scores[:, torch.from_numpy(items)]

    def _arrays(self):
        return {}

    def _restore(self, arrays, state):
        self.size_ = self.n_items_


registry._REGISTERED.pop("Choosy")


@pytest.fixture
def choosy():
    registry._REGISTERED["Choosy"] = Choosy
    yield Choosy
    registry._REGISTERED.pop("Choosy")


def test_what_a_part_never_recommends_the_blend_does_not(choosy):
    blend = fit({"name": "Choosy"}, LINEAR, validation=Validation(SPLIT.validation, "ndcg@5"))
    blend.weights_ = (0.5, 0.5)
    ids, _ = blend.recommend(np.arange(40), TASTES, **ALL)
    assert (np.sort(ids, axis=1)[:, 15:] == np.arange(15)).all()
    assert np.isfinite(blend.recommend(np.arange(40), TASTES, N=15, filter_already_liked_items=False)[1]).all()


def test_a_part_that_scores_in_a_way_of_its_own_has_no_graph():
    class Louder(EASE):
        """EASE, twice."""

        def _scores(self, histories, userid, items, out):
            return 2 * super()._scores(histories, userid, items, out)

    blend = fit(Louder(), LINEAR)
    with pytest.raises(UnsupportedError, match="Louder cannot be exported to ONNX: it scores in a way of its own"):
        ScoreGraph(blend)


# What it can do


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((EASE(), MultVAE()), {"compares_items": True}),
        ((EASE(), ItemKNN()), {"compares_items": True, "popularity_fallback": True}),
        ((ALS(), EASE()), {"compares_items": True, "popularity_fallback": True, "new_users": "fold-in"}),
        ((ALS(), IAutoRec()), {"scores_known_users": True, "popularity_fallback": True, "new_users": "fold-in"}),
        ((UAutoRec(), IAutoRec()), {"rates": True, "new_users": "fold-in"}),
        ((UAutoRec(unobserved_weight=0.1), IAutoRec()), {"rates": False}),
        ((Popularity(), Popularity()), {"personal": False, "compares_items": False, "scores_known_users": True}),
    ],
)
def test_it_can_what_its_parts_can(parts, expected):
    can = Blend(parts=parts).capabilities
    assert {name: getattr(can, name) for name in expected} == expected
    assert bool(can.no_graph) == any(part.capabilities.no_graph for part in parts)
    assert not can.encodes
    assert not can.keeps_users


def test_the_class_declares_what_its_default_parts_can():
    assert Blend().capabilities == Blend.capabilities == Blend(**CASES["Blend"]).capabilities


def test_it_says_which_part_predicts_no_ratings():
    blend = fit({"name": "UAutoRec", **RATES}, LINEAR)
    with pytest.raises(UnsupportedError, match="Blend has a part EASE, which predicts no ratings; use UAutoRec"):
        blend.predict(0, TASTES[0], [1])


def test_known_users_are_those_of_the_parts_that_know_them():
    blend = fit({"name": "ALS", "factors": 4}, {"name": "IAutoRec", **RATES}, weights=(0.5, 0.5))
    both = standardized(table(blend.parts_[0], histories=TRAIN)) + standardized(table(blend.parts_[1], histories=TRAIN))
    np.testing.assert_allclose(table(blend, histories=TRAIN), both / 2, atol=2e-5)
    same(blend.recommend(np.arange(40), None, **ALL), blend.recommend(np.arange(40), TRAIN, **ALL))
    mixed = fit({"name": "ALS", "factors": 4}, LINEAR)
    assert not np.array_equal(table(mixed, histories=TRAIN), table(mixed, np.full(40, -1), TRAIN))
    with pytest.raises(DataError, match="needs the users' histories"):
        mixed.recommend(0, None, **ALL)
    # What ALS knows of a user counts, though tonight's history is empty.
    empty = sp.csr_matrix((1, 30), dtype=np.float32)
    assert not np.array_equal(mixed.recommend(0, empty, **ALL)[0], mixed.recommend(1, empty, **ALL)[0])
    assert mixed.recommend(-1, empty, **ALL)[1][0] == blend.popularity_.max()


def test_a_graph_of_models_that_fold_in_is_refused_with_the_part():
    blend = fit({"name": "ALS", "factors": 4}, LINEAR)
    with pytest.raises(UnsupportedError, match="Blend cannot be exported to ONNX: of its part ALS, it finds a user's"):
        ScoreGraph(blend)


# The choice of weights


def by_halves(n=60):
    """Even users like the next even items, odd users like what is popular: neither a ring nor counts tell both."""
    rng = np.random.default_rng(4)
    cells = np.full((n, 40), np.nan)
    for user in range(n):
        base = rng.integers(0, 40)
        liked = (base + np.arange(8)) % 40 if user % 2 else rng.permutation(14)[:8]
        cells[user, liked] = 1.0
    return Interactions(csr(cells), IdMap(range(n)), IdMap(range(40)))


def test_the_weights_rank_better_than_any_part_and_as_well_as_any_on_a_grid():
    split = splits.hold_out_ratings(by_halves(), test=0.2, validation=0.3, seed=0)
    validation = Validation(split.validation, "ndcg@5")
    blend = fit(LINEAR, {"name": "Popularity"}, data=split.train, validation=validation)
    chosen = validation(blend)["ndcg@5"]
    assert sum(blend.weights_) == pytest.approx(1)
    assert min(blend.weights_) > 0
    assert chosen > max(validation(part)["ndcg@5"] for part in blend.parts_)
    other, values = copy.copy(blend), []
    for weight in np.linspace(0, 1, 41):
        other.weights_ = (weight, 1 - weight)
        values.append(validation(other)["ndcg@5"])
    assert chosen > max(values) - 0.003
    assert blend.record_.epochs[-1]["ndcg@5"] == chosen
    assert blend.record_.best_epoch == len(blend.record_.epochs)


@pytest.mark.parametrize("around", [2, 100])
def test_kept_scores_give_the_lists_of_the_blend(monkeypatch, around):
    """With so few items kept per part the leading ones of the blend are among them nevertheless."""
    monkeypatch.setattr(weighing, "AROUND", around)
    monkeypatch.setattr(weighing, "_BLOCK_VALUES", 30 * 7)
    blend = fit(LINEAR, DEEP, weights=(0.6, 0.4))
    kept = KeptScores(blend.parts_)
    kept.weights = np.array([0.6, 0.4])
    users, seen = np.arange(40), ratings(40, 30, density=0.5, seed=3)
    for options in ({}, {"recalculate_user": True}, {"seen": seen}):
        expected = blend.recommend(users, TASTES, N=2, **options)
        for _ in range(2):
            kept.place = 0
            found = kept.recommend(users, TASTES, N=2, **options)
            same(found, expected, rtol=1e-5)
        kept = KeptScores(blend.parts_)
        kept.weights = np.array([0.6, 0.4])


def test_many_users_are_sampled_for_the_search(monkeypatch):
    validation = Validation(SPLIT.validation, "ndcg@5")
    blend = fit(LINEAR, DEEP)
    asked = []
    recommend = KeptScores.recommend
    monkeypatch.setattr(
        KeptScores,
        "recommend",
        lambda self, users, *args, **kw: (asked.append(users), recommend(self, users, *args, **kw))[1],
    )
    monkeypatch.setattr(weighing, "MOST_BYTES", 10 * 4 * 30 * 4)
    weights = searched_weights(blend.parts_, validation, 3)
    assert {tuple(users) for users in asked} == {tuple(asked[0])}
    assert len(asked[0]) == 10
    assert np.all(np.diff(asked[0]) > 0)
    assert searched_weights(blend.parts_, validation, 3) == weights


def test_an_error_is_made_small_and_a_gain_large():
    class Reversed(Validation):
        higher_is_better = False

    validation = Validation(SPLIT.validation, "ndcg@5")
    parts = fit(LINEAR, {"name": "Popularity"}).parts_
    values = [validation(part)["ndcg@5"] for part in parts]
    assert values[0] != values[1]
    blend = Blend(parts=parts).fit(SPLIT.train, show_progress=False, validation=validation)
    assert blend.weights_[int(np.argmax(values))] > 0.4
    turned = Blend(parts=parts).fit(SPLIT.train, show_progress=False, validation=Reversed(SPLIT.validation, "ndcg@5"))
    assert validation(turned)["ndcg@5"] <= min(values) + 1e-9


def test_ratings_are_weighed_by_least_squares():
    part = SPLIT.validation
    models = fit({"name": "UAutoRec", **RATES}, {"name": "IAutoRec", **RATES}).parts_
    weights, intercept = least_squares(models, part)
    target = part.target.tocoo()
    columns = [m.predict_pairs(part.user_index, part.context, target.row, target.col) for m in models]
    design = np.stack([np.ones(target.nnz), *columns], 1).astype(np.float64)
    solution = np.linalg.lstsq(design, target.data, rcond=None)[0]
    if (solution[1:] >= 0).all():
        np.testing.assert_allclose([intercept, *weights], solution, rtol=1e-6)
    errors = target.data - design @ np.array([intercept, *weights])
    gradient = -design.T @ errors
    assert abs(gradient[0]) < 1e-6  # of the intercept, which is free
    for slope, weight in zip(gradient[1:], weights, strict=True):  # Karush, Kuhn and Tucker
        assert weight >= 0
        assert slope > -1e-6
        assert abs(slope * weight) < 1e-6


def test_a_blend_of_ratings_beats_its_parts_on_validation():
    validation = Validation(SPLIT.validation, "rmse")
    blend = fit({"name": "UAutoRec", **RATES, "seeds": [0, 1]}, {"name": "IAutoRec", **RATES}, validation=validation)
    assert len(blend.weights_) == 3
    assert validation(blend)["rmse"] <= min(validation(part)["rmse"] for part in blend.parts_)
    assert blend.record_.epochs[-1]["rmse"] == validation(blend)["rmse"]


@pytest.mark.parametrize("validation", [None, "own"])
def test_without_a_validation_part_weights_are_equal(validation):
    class Own:
        metric, higher_is_better = "size", True

        def __call__(self, model):
            return {"size": 1.0}

    blend = fit(LINEAR, DEEP, validation=Own() if validation else None)
    assert blend.weights_ == (0.5, 0.5)
    assert blend.intercept_ == 0
    assert ("size" in blend.record_.epochs[-1]) == bool(validation)


# The parts


def test_parts_are_fitted_as_they_would_be_alone():
    validation = Validation(SPLIT.validation, "ndcg@5")
    given = MultVAE(**VAE, hidden=16, latent=4, patience=2)
    blend = fit(LINEAR, given, validation=validation)
    alone = MultVAE(**VAE, hidden=16, latent=4, patience=2).fit(SPLIT.train, False, validation=validation)
    assert not hasattr(given, "network_")  # what the caller passed in is as it was
    same(blend.parts_[1].recommend(np.arange(40), TASTES), alone.recommend(np.arange(40), TASTES))
    own = blend.parts_[1].record_
    assert own.best_epoch == alone.record_.best_epoch
    assert len(own.epochs) == len(alone.record_.epochs) < 20
    numbered = [(e["epoch"], e.get("part"), e["ndcg@5"]) for e in blend.record_.epochs]
    assert numbered[1:-1] == [(1 + e["epoch"], 1.0, e["ndcg@5"]) for e in alone.record_.epochs]
    assert [part.items_ for part in blend.parts_] == [DATA.items] * 2


def test_a_fitted_part_is_taken_as_it_is():
    part = EASE(regularization=3.0).fit(SPLIT.train, show_progress=False)
    weights = part.weights_.clone()
    blend = fit(part, DEEP)
    assert blend.parts_[0] is part
    assert torch.equal(part.weights_, weights)
    assert [entry.get("part") for entry in blend.record_.epochs] == [1.0] * 20 + [None]
    with pytest.raises(DataError, match=r"parts\.0 of Blend was fitted to 30 items and the matrix has 29"):
        fit(part, DEEP, data=TASTES[:, :29])
    other = Interactions(SPLIT.train.matrix, DATA.users, IdMap(range(30)))
    with pytest.raises(DataError, match=r"parts\.0 of Blend was fitted to 30 items and the matrix has 30, or others"):
        fit(part, data=other)


def test_seeds_stand_for_a_part_each_and_the_blends_own_is_added():
    blend = fit({**DEEP, "seeds": [4, 7]}, {**DEEP, "seed": 1}, LINEAR, seed=10)
    assert [part.params().get("seed") for part in blend.parts_] == [14, 17, 11, None]
    alone = MultVAE(**VAE, hidden=16, latent=4, seed=17).fit(SPLIT.train, show_progress=False)
    same(blend.parts_[1].recommend(np.arange(40), TASTES), alone.recommend(np.arange(40), TASTES))


def test_a_refit_keeps_the_weights_and_fits_each_part_as_it_would_be_alone():
    stopping = {**DEEP, "epochs": 40, "patience": 2, "seeds": [0, 1]}
    validation = Validation(SPLIT.validation, "ndcg@5")
    blend = fit(LINEAR, stopping, seed=3, validation=validation)
    again = blend.for_refit().fit(SPLIT.refit(), show_progress=False)
    assert again.weights_ == blend.weights_
    alone = MultVAE(**{**VAE, "epochs": 40}, hidden=16, latent=4, patience=2, seed=4)
    alone = alone.fit(SPLIT.train, False, validation=validation).for_refit().fit(SPLIT.refit(), show_progress=False)
    assert [part.params().get("seed") for part in again.parts_] == [None, 3, 4]
    assert again.parts_[2].params() == alone.params()
    same(again.parts_[2].recommend(np.arange(40), TASTES), alone.recommend(np.arange(40), TASTES))
    rating = rated()
    assert (rating.for_refit().weights, rating.for_refit().intercept) == (rating.weights_, rating.intercept_)


def test_a_part_folds_in_a_known_user_whose_history_has_changed():
    parts, trained = ({"name": "ALS", "factors": 4}, {"name": "IAutoRec", **RATES}), TRAIN
    given = trained.tolil()
    given[::2, 3] = 4.5  # half of the users have seen one more item, or rate it anew
    given = given.tocsr()
    for more in ((), (LINEAR,)):
        blend = fit(*parts, *more)
        found = table(blend, histories=given)
        each = [standardized(table(part, histories=given)) for part in blend.parts_]
        np.testing.assert_allclose(found, sum(each) / len(each), atol=2e-5)
        np.testing.assert_allclose(found[1::2], table(blend, histories=trained)[1::2], atol=2e-5)
        strangers = np.full(40, -1)
        np.testing.assert_allclose(found[::2], table(blend, strangers, given)[::2], atol=2e-5)
        assert not np.allclose(found[1::2], table(blend, strangers, given)[1::2], atol=1e-3)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"name": "EASE", "regularisation": 1.0},
            r"EASE has no hyperparameter 'regularisation'; did you mean 'regular",
        ),
        ({"name": "EASE", "regularization": -1.0}, r"regularization of EASE must be a finite number > 0, got -1\.0"),
        ({"name": "MultVEA"}, "unknown model 'MultVEA'; did you mean 'MultVAE'"),
        ({"regularization": 1.0}, "a part is a model or a table with its name"),
        ({"name": "EASE", "seeds": [1]}, "seeds stands for one part per seed, but EASE has no seed"),
        ({"name": "MultVAE", "seeds": [1], "seed": 1}, "seeds stands for one part per seed, but seed is given too"),
        ({"name": "MultVAE", "seeds": []}, "seeds must be a tuple"),
        ({"name": "UAutoRec", "center": True, "unobserved_weight": 0.1}, "center=True with unobserved_weight"),
        ({"name": "Blend"}, "a Blend has parts itself"),
    ],
)
def test_what_a_part_cannot_be_is_said_with_its_place(part, message):
    for build in (lambda: fit(LINEAR, part), lambda: recsys_config([LINEAR, part])):
        with pytest.raises(ConfigError, match=rf"parts\.1 of Blend: {message}"):
            build()


def recsys_config(parts, **sections):
    from recsys.config import check_config

    return check_config({"model": {"name": "Blend", "parts": parts}, **sections})


def test_a_configuration_checks_all_parts_together():
    with pytest.raises(ConfigError, match=r"weights must be one for each of the 3 parts, got 2"):
        fit(LINEAR, {**DEEP, "seeds": [1, 2]}, weights=(0.5, 0.5))
    with pytest.raises(ConfigError, match="EASE, which predicts no ratings, so it has no rmse"):
        recsys_config([LINEAR, {"name": "UAutoRec"}], train={"metric": "rmse"})
    config = recsys_config([{"name": "UAutoRec", "hidden": 5, "seeds": [1]}], train={"metric": "rmse"})
    assert config.model["parts"] == ({"name": "UAutoRec", "hidden": 5, "seeds": (1,)},)
    assert json.loads(json.dumps(config.as_dict()))["model"]["parts"] == [
        {"name": "UAutoRec", "hidden": 5, "seeds": [1]}
    ]
    assert config.repeat(2).new_model().members()[0].seed == 3
    with pytest.raises(ConfigError, match="device must be"):
        recsys_config([{"name": "MultVAE", "device": "gpu"}])


def test_a_blend_needs_the_memory_of_its_largest_fit_beside_what_is_kept():
    sizes = sp.csr_matrix((np.ones(10, np.float32), (np.arange(10), np.arange(10))), shape=(50_000, 20_000))
    linear, knn = EASE(device="cpu"), ItemKNN()
    need, small = linear.memory_needed(sizes), knn.memory_needed(sizes)
    blend = Blend(parts=(linear, linear, knn))
    found = blend.memory_needed(sizes)
    assert found.bytes == pytest.approx(need.kept + need.bytes)
    assert need.kept == 4 * 20_000**2
    assert "for EASE: use SANSA" in found.instead
    fewer = Blend(parts=(knn, knn)).memory_needed(sizes)
    assert fewer.bytes == pytest.approx(2 * small.bytes + weighing.MOST_BYTES)


# Keeping


def rated():
    validation = Validation(SPLIT.validation, "rmse")
    return fit({"name": "UAutoRec", **RATES}, {"name": "IAutoRec", **RATES}, validation=validation)


def test_a_saved_blend_is_one_bundle_with_the_ids_and_the_parts_in_it(tmp_path):
    blend = rated()
    blend.save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "config.json",
        "items.parquet",
        "metrics.json",
        "users.parquet",
        "weights.safetensors",
    ]
    again = load(tmp_path / "model", device="cpu")
    assert (again.weights_, again.intercept_, again.rating_range_) == (
        blend.weights_,
        blend.intercept_,
        blend.rating_range_,
    )
    asked = np.tile(np.arange(30), (40, 1))
    np.testing.assert_array_equal(
        again.predict(np.arange(40), TASTES, asked), blend.predict(np.arange(40), TASTES, asked)
    )
    assert [part.items_ for part in again.parts_] == [DATA.items] * 2
    assert [part.record_ for part in again.parts_] == [part.record_ for part in blend.parts_]


def break_(state, what):
    if what == "fewer":
        state["parts"] = state["parts"][:1]
    elif what == "turned":
        state["parts"] = state["parts"][::-1]
    elif what == "weights":
        state["weights"] = [1.0]
    elif what == "no list":
        state["parts"] = {"0": state["parts"][0]}
    elif what == "class":
        state["parts"][0]["model"] = "Nothing"
    elif what == "size":
        state["parts"][0]["state"]["n_items"] = 29
    elif what == "hyperparameter":
        state["parts"][0]["params"]["hidden"] = -1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fewer", "must be those that its hyperparameters name"),
        ("turned", r"part 0 .*|must be those"),
        ("weights", "a weight for each of 2 parts, got 1"),
        ("no list", "its parts must be a list of models"),
        ("class", "part 0 holds a Nothing, which is not registered"),
        ("size", "part 0"),
        ("hyperparameter", "hidden of UAutoRec must be"),
    ],
)
def test_a_bundle_that_no_blend_has_written_is_refused(tmp_path, what, message):
    rated().save(tmp_path / "model")
    bundle = read_bundle(tmp_path / "model")
    break_(bundle.state, what)
    write_bundle(bundle, tmp_path / "model")
    with pytest.raises(BundleError, match=message):
        load(tmp_path / "model")


def test_an_array_of_no_part_is_refused(tmp_path):
    rated().save(tmp_path / "model")
    bundle = read_bundle(tmp_path / "model")
    bundle.arrays["parts.2.popularity"] = bundle.arrays["popularity"]
    write_bundle(bundle, tmp_path / "model")
    with pytest.raises(BundleError, match=r"it has no arrays parts\.2\.popularity"):
        load(tmp_path / "model")


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [1, 5, 21, 24, 40, 41])
def test_a_fit_that_was_killed_goes_on_where_it_stopped(tmp_path, at):
    """Entry 1 is of EASE, 2 to 21 are of MultVAE, 22 to 41 of another, and 42 is of the blend."""
    parts, options = (LINEAR, DEEP, {**DEEP, "seed": 5}), {"show_progress": False}
    options["validation"] = Validation(SPLIT.validation, "ndcg@5")
    undisturbed = Blend(parts=parts).fit(SPLIT.train, **options)
    file = tmp_path / "fit.safetensors"

    def stop(entry):
        if entry["epoch"] == at:
            raise Stop

    with pytest.raises(Stop):
        Blend(parts=parts).fit(SPLIT.train, checkpoint=file, on_epoch=stop, **options)
    with pytest.raises(TrainingError, match=r"belongs to another run \(differs in parts\)"):
        Blend(parts=parts[:2]).fit(SPLIT.train, checkpoint=file, **options)
    seen = []
    resumed = Blend(parts=parts).fit(
        SPLIT.train, checkpoint=file, on_epoch=lambda e: seen.append(e["epoch"]), **options
    )
    assert list(tmp_path.iterdir()) == []
    assert seen[-1] == 42
    assert seen[0] == at if at in (1, 21, 41) else seen[0] in (at, at + 1)
    assert resumed.weights_ == undisturbed.weights_
    one, other = undisturbed.learned_arrays(), resumed.learned_arrays()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    for before, after in zip(undisturbed.record_.epochs, resumed.record_.epochs, strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}


def test_a_damaged_checkpoint_is_begun_anew(tmp_path):
    file = tmp_path / "fit.safetensors"

    def stop(entry):
        if entry["epoch"] == 3:
            raise Stop

    with pytest.raises(Stop):
        Blend(parts=(LINEAR, DEEP)).fit(SPLIT.train, False, checkpoint=file, on_epoch=stop)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.warns(recsys.errors.DataWarning, match="is damaged .*begins anew"):
        resumed = Blend(parts=(LINEAR, DEEP)).fit(SPLIT.train, False, checkpoint=file)
    same(resumed.recommend(np.arange(40), TASTES), fit(LINEAR, DEEP).recommend(np.arange(40), TASTES))


def test_a_module_of_ones_own_among_the_parts_is_known_from_the_bundle(choosy, tmp_path):
    blend = fit({"name": "Choosy"}, LINEAR)
    blend.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert made_of.classes_in(config) == [
        ("Blend", "recsys.models.blend"),
        ("Choosy", "tests.models.test_blend"),
        ("EASE", "recsys.models.linear"),
    ]
    same(load(tmp_path / "model").recommend(np.arange(40), TASTES), blend.recommend(np.arange(40), TASTES))
    registry._REGISTERED.pop("Choosy")
    with pytest.raises(BundleError, match=r"unknown model 'Choosy'.*--import MODULE"):
        load(tmp_path / "model")
    registry._REGISTERED["Choosy"] = choosy


def test_it_is_measured_like_any_model():
    blend = fit(LINEAR, DEEP, validation=Validation(SPLIT.validation, "ndcg@5"))
    assert isinstance(SPLIT.test, Part)
    assert 0 < evaluate(blend, SPLIT.test, "ndcg@5")["ndcg@5"] < 1
    assert blend.recommend_users(3, TASTES, N=3)[0].shape == (3,)
    frame = recsys.recommend_frame(blend, DATA, n=3)
    assert len(frame) == 120


def test_what_tests_make_of_it_is_what_users_get():
    assert new_model("Blend").fit(TASTES, show_progress=False).params()["parts"][0]["name"] == "EASE"
