"""The made-up data set: exact sizes, plausible shapes, and something to learn."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import generator, synthetic
from recsys.errors import DataError


@pytest.fixture(scope="module")
def data():
    return synthetic()


def test_sizes_are_those_asked_for(data):
    assert data.shape == (2000, 800)
    assert data.nnz == 120_000
    assert data.matrix.has_canonical_format
    assert data.users.ids().tolist() == list(range(1, 2001))
    assert data.items.ids().tolist() == list(range(1, 801))


@settings(max_examples=40, deadline=None)
@given(users=st.integers(1, 25), items=st.integers(2, 25), seed=st.integers(0, 5), share=st.floats(0, 1))
def test_any_possible_request_is_met_exactly(users, items, seed, share):
    if users > users * items // 2:
        return
    interactions = users + int(share * (users * items // 2 - users))
    data = synthetic(users, items, interactions, seed=seed)
    counts = np.diff(data.matrix.indptr)
    assert data.matrix.has_canonical_format
    assert data.nnz == interactions
    assert counts.min() >= min(5, interactions // users, max(1, 3 * items // 4))
    assert counts.max() < items
    assert set(data.matrix.data) <= {1, 2, 3, 4, 5}


def test_equal_seeds_give_equal_data_whatever_the_block(data, monkeypatch):
    monkeypatch.setattr(generator, "_BLOCK", 7 * 800)
    again = synthetic()
    assert again.fingerprint() == data.fingerprint()
    assert again.titles.tolist() == data.titles.tolist()
    other = synthetic(seed=1)
    assert (other.matrix != data.matrix).nnz > 100_000
    assert other.titles.tolist() != data.titles.tolist()


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    synthetic(20, 10, 60)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_popularity_and_activity_have_long_tails(data):
    per_item = np.sort(np.bincount(data.matrix.indices, minlength=800))
    per_user = np.diff(data.matrix.indptr)
    assert per_item[-80:].sum() > 0.3 * data.nnz
    assert per_item[-1] > 8 * np.median(per_item)
    assert per_user.min() >= 5
    assert np.quantile(per_user, 0.9) > 8 * np.quantile(per_user, 0.1)


def test_ratings_are_mostly_threes_and_fours(data):
    share = np.bincount(data.matrix.data.astype(int), minlength=6)[1:] / data.nnz
    assert (share > 0.01).all()
    assert share[0] < share[1] < share[2] < share[3]
    assert share[2] + share[3] > 0.55
    assert 3.3 < data.matrix.data.mean() < 3.9


def test_users_arrive_over_two_years(data):
    assert data.timestamps.dtype == np.int64
    days = (data.timestamps - data.timestamps.min()) / 86_400
    assert 650 < days.max() <= 730
    first = np.minimum.reduceat(days, data.matrix.indptr[:-1])
    assert np.histogram(first, bins=4, range=(0, 730))[0].min() > 200


def test_titles_are_distinct_films_with_a_year(data):
    many = synthetic(200, 30_000, 1000)
    for titles in (data.titles, many.titles):
        assert len(set(titles)) == len(titles)
        assert all(re.fullmatch(r"[A-Z][A-Za-z ]+(, Part \d+)? \((19[5-9]\d|20[012]\d)\)", title) for title in titles)


def test_a_linear_model_beats_popularity_but_not_by_far(data):
    """EASE (Steck 2019, eq. 8) against item counts, nDCG@10 on a random tenth: 0.27 and 0.13 when this was written."""
    held = np.random.default_rng(0).random(data.nnz) < 0.1
    train, test = (data.select(part).binarized().matrix for part in (~held, held))
    gram = (train.T @ train).toarray().astype(np.float64)
    popularity = np.tile(np.diag(gram), (2000, 1))
    inverse = np.linalg.inv(gram + 100 * np.eye(800))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    ratio = ndcg(train @ weights, train, test) / ndcg(popularity, train, test)
    assert 1.7 < ratio < 2.6


def test_taste_explains_more_of_a_rating_than_the_biases_do(data):
    """A rank-3 factorisation of the residuals lowers the held-out error of user and item biases (here by 4 %)."""
    held = np.random.default_rng(0).random(data.nnz) < 0.1
    rows = np.repeat(np.arange(2000), np.diff(data.matrix.indptr))
    cols, values = data.matrix.indices, data.matrix.data.astype(np.float64)
    fit = ~held
    user, item, mean = np.zeros(2000), np.zeros(800), values[fit].mean()
    for _ in range(10):
        rest = values[fit] - mean - user[rows[fit]]
        item = np.bincount(cols[fit], rest, 800) / (np.bincount(cols[fit], minlength=800) + 5)
        rest = values[fit] - mean - item[cols[fit]]
        user = np.bincount(rows[fit], rest, 2000) / (np.bincount(rows[fit], minlength=2000) + 5)
    residual = values - mean - user[rows] - item[cols]
    matrix = sp.csr_matrix((residual[fit], (rows[fit], cols[fit])), shape=data.shape)
    factors = [np.zeros((2000, 3)), np.random.default_rng(1).normal(0, 0.1, (800, 3))]
    for _ in range(6):
        for side, stored in enumerate((matrix, matrix.T.tocsr())):
            for row in range(stored.shape[0]):
                entries = slice(stored.indptr[row], stored.indptr[row + 1])
                other = factors[1 - side][stored.indices[entries]]
                factors[side][row] = np.linalg.solve(other.T @ other + 8 * np.eye(3), other.T @ stored.data[entries])
    left = residual - (factors[0][rows] * factors[1][cols]).sum(axis=1)
    with_taste, biases, spread = (np.sqrt(np.mean(e[held] ** 2)) for e in (left, residual, values - mean))
    assert biases < 0.9 * spread
    assert with_taste < 0.975 * biases


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 10, 10), "users must be a positive integer, got 0"),
        ((10, -1, 10), "items must be a positive integer, got -1"),
        ((10, 10, 2.5), "interactions must be a positive integer, got 2.5"),
        ((10, 10, 51), r"half of users × items \(50\), got 51"),
        ((10, 10, 9), r"number of users \(10\)"),
    ],
)
def test_an_impossible_request_is_refused(sizes, message):
    with pytest.raises(DataError, match=message):
        synthetic(*sizes)


def ndcg(scores, seen, relevant, k=10):
    """Mean nDCG@k over users with held-out items, the ideal list cut at k."""
    scores = np.array(scores)
    scores[seen.nonzero()] = -np.inf
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    truth = relevant.toarray() > 0
    discount = 1 / np.log2(np.arange(k) + 2)
    count = truth.sum(axis=1)
    gain = (np.take_along_axis(truth, top, axis=1) * discount).sum(axis=1)
    return (gain[count > 0] / np.cumsum(discount)[np.minimum(count[count > 0], k) - 1]).mean()
