"""Interactions that both libraries are given."""

import pytest

import recsys


@pytest.fixture(scope="module")
def data():
    ratings = recsys.datasets.synthetic(users=300, items=90, interactions=8_000, seed=4)
    return ratings.filter(min_rating=4, min_user=5).binarized()


@pytest.fixture(scope="module")
def split(data):
    return recsys.splits.hold_out_ratings(data, test=0.2, validation=0.0)
