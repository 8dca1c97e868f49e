"""What is learned of a training user and what is solved for from the same history score on one scale, equally well."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys import datasets, evaluate, splits
from recsys.models import MODELS
from tests.contract import CASES, quick

FOLDING = {
    "ALS": {"factors": 16, "regularization": 1.0},
    "BPR": {"factors": 16, "iterations": 60, "learning_rate": 0.05},
    "IAutoRec": {"hidden": 32, "epochs": 60, "weight_decay": 5.0, "learning_rate": 5e-3},
    "DeepAutoRec": {"hidden": (32,), "latent": 24, "epochs": 60, "weight_decay": 5.0, "learning_rate": 5e-3},
    "SparseFC": {"hidden": (32, 32), "epochs": 60, "weight_decay": 5.0, "learning_rate": 5e-3},
    "GLocalK": {"hidden": (32, 32), "epochs": 60, "weight_decay": 5.0, "learning_rate": 5e-3},
}
"""Hyperparameters with which each model ranks well on the generated data."""


def test_every_model_that_folds_in_is_here():
    assert {name for name in CASES if MODELS[name].capabilities.new_users == "fold-in"} == set(FOLDING)


class Served:
    """A model as it serves training users, or as it serves them as strangers."""

    def __init__(self, model, strangers):
        self.model, self.strangers = model, strangers

    def recommend(self, userid, user_items, **options):
        return self.model.recommend(userid, user_items, **options | {"recalculate_user": self.strangers})

    def of_own_items(self, matrix):
        """The mean score of what the users have."""
        users, width = np.arange(matrix.shape[0]), matrix.shape[1]
        ids, scores = self.recommend(users, matrix, N=width, filter_already_liked_items=False)
        table = np.empty(scores.shape)
        np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
        return table[np.repeat(users, np.diff(matrix.indptr)), matrix.indices].mean()


def measured(name, data, **options):
    """Mean score of own items, and nDCG@10 on the validation part: (trained, folded in) each."""
    split = splits.hold_out_ratings(data.binarized(), test=0.1, validation=0.1, seed=0)
    model = MODELS[name](**options).fit(split.train, show_progress=False)
    both = Served(model, False), Served(model, True)
    own = [served.of_own_items(split.train.matrix) for served in both]
    return own, [evaluate(served, split.validation, "ndcg@10")["ndcg@10"] for served in both]


@pytest.mark.parametrize("name", FOLDING)
def test_folded_in_vectors_are_like_the_trained_ones(name):
    weight = {} if MODELS[name].capabilities.ranks_with is None else {"unobserved_weight": 0.2}
    data = datasets.synthetic(users=400, items=150, interactions=14_000, seed=1)
    (own, own_folded), (ndcg, ndcg_folded) = measured(name, data, **FOLDING[name], **weight)
    assert 0.85 < own_folded / own < 1.15
    assert ndcg > 0.1
    assert ndcg_folded > 0.97 * ndcg
    if name == "ALS":  # the same equations, by a few steps and exactly
        assert own_folded == pytest.approx(own, rel=0.02)
        assert ndcg_folded == pytest.approx(ndcg, rel=0.02)


@pytest.mark.parametrize("name", ["ALS", "IAutoRec"])
def test_at_test_everyone_reads_training_and_validation(name):
    """And where the model is fitted again to both, it is served from what it learned of both."""
    data = datasets.synthetic(users=120, items=60, interactions=2_400, seed=2)
    split = splits.hold_out_ratings(data, test=0.1, validation=0.2, seed=0)
    grown = (split.test.context != split.train.matrix).getnnz(axis=1) > 0
    assert 0.3 < grown.mean() < 1
    metric, model = "ndcg@10" if name == "ALS" else "rmse", MODELS[name](**quick(MODELS[name]))
    model.fit(split.train, show_progress=False)

    def values(part, **changes):
        return evaluate(model, replace(part, **changes), metric).per_user[metric].to_numpy()

    found, strangers = values(split.test), values(split.test, user_index=np.full(120, -1, np.int32))
    np.testing.assert_array_equal(found[grown], strangers[grown])
    trained = values(split.test, context=split.train.matrix, seen=split.test.context)
    np.testing.assert_array_equal(found[~grown], trained[~grown])
    assert np.nanmax(np.abs(found - trained)[grown]) > 0
    model.fit(split.refit(), show_progress=False)
    both = split.test.context
    scores = [
        model.recommend(np.arange(120), history, N=60, filter_already_liked_items=False)[1] for history in (both, None)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "scale"),
    [
        ("ALS", {"regularization": 10.0, "alpha": 5.0}, 0.02),
        ("BPR", {}, 0.1),
        ("BPR", {"factors": 16, "learning_rate": 0.02, "iterations": 20, "regularization": 1e-3}, 0.1),
        ("BPR", {"factors": 32, "learning_rate": 0.1, "iterations": 50, "regularization": 0.05}, 0.1),
        ("IAutoRec", {"unobserved_weight": 0.2, "weight_decay": 100.0}, 0.05),
    ],
)
def test_so_are_they_on_movielens_100k(name, options, scale):
    folder = Path(os.environ.get("RECSYS_DATA", "data/raw")) / "ml-100k"
    if not folder.is_dir():
        pytest.skip("needs a copy of MovieLens-100K in $RECSYS_DATA/ml-100k or data/raw/ml-100k")
    (own, own_folded), (ndcg, ndcg_folded) = measured(name, datasets.load("ml-100k", path=folder), **options)
    assert own_folded == pytest.approx(own, rel=scale)
    assert ndcg > 0.1
    assert ndcg_folded > 0.97 * ndcg
