"""Every ranking model with no choice made: far above popularity on long and short histories, on four data sets."""

import functools
import os

import pytest

from recsys import datasets, evaluate
from recsys.models import EASE, MODELS, Popularity
from recsys.splits import given, hold_out_ratings

METRIC = "ndcg@10"
ABOVE_POPULARITY = 1.5
OF_EASE = 0.5
NO_AUTOENCODERS = {"ALS", "BPR", "ItemKNN", "Blend"}


def _ranks(name):
    model = MODELS[name]()
    needed = model.capabilities.ranks_with
    return model.capabilities.personal and (needed is None or getattr(model, needed) > 0)


RANKING = [name for name in MODELS if MODELS[name].__module__.startswith("recsys.") and _ranks(name)]


def _movielens_1m():
    return given(datasets.load("ml-1m", keep=["split_infae"]).binarized(), column="split_infae")


def _movielens_100k():
    return hold_out_ratings(datasets.load("ml-100k").binarized(), test=0.2, validation=0.0, seed=0)


def _citeulike_a():
    return hold_out_ratings(datasets.load("citeulike-a").binarized(), test=0.2, validation=0.0, seed=0)


def _short_rows():
    """Twelve items a user, of which ten are seen."""
    data = datasets.synthetic(users=6000, items=1000, interactions=72_000, seed=0).binarized()
    return hold_out_ratings(data, test=0.2, validation=0.0, seed=0)


SPLITS = {"ml-1m": _movielens_1m, "ml-100k": _movielens_100k, "citeulike-a": _citeulike_a, "short rows": _short_rows}


@functools.cache
def _split(name):
    return SPLITS[name]()


@functools.cache
def _reached(data, name):
    split = _split(data)
    model = MODELS[name]().fit(split.train, show_progress=False)
    return evaluate(model, split.test, METRIC)[METRIC]


@pytest.mark.slow
@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("data", SPLITS)
def test_defaults_travel(data, name):
    if data != "short rows" and not os.environ.get("RECSYS_DATA"):
        pytest.skip("RECSYS_DATA names no folder with real data")
    reached, popular, linear = (_reached(data, which) for which in (name, Popularity.__name__, EASE.__name__))
    print(f"{data}: {name} {reached:.4f}, Popularity {popular:.4f}, EASE {linear:.4f}")
    assert reached >= ABOVE_POPULARITY * popular
    if name not in NO_AUTOENCODERS:
        assert reached >= OF_EASE * linear
