"""Coverage, concentration and popularity of what is recommended."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys.errors import DataError
from recsys.metrics import ranking
from recsys.metrics.lists import recommendation_counts, unit_rows

IDS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]], dtype=np.int32)
POPULARITY = np.array([8, 4, 2, 0, 1])


def test_counts_stop_at_k_and_leave_empty_slots_out():
    assert recommendation_counts(IDS, 5, 3).tolist() == [2, 1, 1, 1, 0]
    assert recommendation_counts(IDS, 5, 1).tolist() == [2, 0, 0, 0, 0]
    assert recommendation_counts(IDS, 5, 9).tolist() == [2, 1, 1, 1, 0]


def test_coverage_is_a_share_of_the_whole_catalogue():
    assert ranking.coverage(np.array([2, 1, 1, 1, 0])) == 0.8
    assert ranking.coverage(np.zeros(5, dtype=np.int64)) == 0


def test_gini_extremes():
    assert ranking.gini(np.full(6, 3)) == 0
    assert ranking.gini(np.array([0, 0, 9, 0])) == 0.75
    assert np.isnan(ranking.gini(np.zeros(4, dtype=np.int64)))


@given(hnp.arrays(np.int64, st.integers(1, 15), elements=st.integers(0, 50)).filter(np.any))
@settings(max_examples=80, deadline=None)
def test_gini_is_half_the_relative_mean_difference(counts):
    differences = np.abs(counts[:, None] - counts[None, :]).sum()
    assert ranking.gini(counts) == pytest.approx(differences / (2 * len(counts) * counts.sum()), abs=1e-12)


def test_novelty_is_self_information_in_bits():
    # Shares of 8 users: 1, 1/2, 1/4; item 3 is unseen and counts as if one of the 8 had it.
    np.testing.assert_allclose(ranking.novelty(IDS, POPULARITY, 8, 3), [(0 + 1 + 2) / 3, (0 + 3) / 2, np.nan])
    np.testing.assert_allclose(ranking.novelty(IDS, POPULARITY, 8, 2), [0.5, 1.5, np.nan])


def test_average_popularity_is_over_filled_slots():
    np.testing.assert_allclose(ranking.average_popularity(IDS, POPULARITY, 3), [14 / 3, 4, np.nan])
    np.testing.assert_allclose(ranking.average_popularity(IDS, POPULARITY, 1), [8, 8, np.nan])


def pairwise(items, vectors):
    """Mean of 1 - cos over the pairs of a list, as a loop."""
    distances = []
    for place, i in enumerate(items):
        for j in items[place + 1 :]:
            lengths = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
            distances.append(1 - (vectors[i] @ vectors[j] / lengths if lengths else 0.0))
    return np.mean(distances) if distances else np.nan


@given(
    hnp.arrays(np.float64, (7, 3), elements=st.integers(-3, 3).map(float)),
    st.lists(st.permutations(range(7)).flatmap(lambda p: st.integers(0, 7).map(lambda n: p[:n])), max_size=4),
    st.integers(1, 9),
)
@settings(max_examples=100, deadline=None)
def test_diversity_is_the_mean_distance_of_all_pairs(vectors, lists, k):
    ids = np.full((len(lists), 7), -1)
    for row, items in enumerate(lists):
        ids[row, : len(items)] = items
    expected = [pairwise(items[:k], vectors) for items in lists]
    for table in (vectors, vectors.astype(np.float32), sp.csr_matrix(vectors), sp.coo_array(vectors)):
        values = ranking.diversity(ids, unit_rows(table, 7), k)
        np.testing.assert_allclose(values, expected, atol=1e-6)
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known <= 2)).all()


def test_diversity_of_genres():
    genres = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]])
    units = unit_rows(genres, 5)
    values = ranking.diversity(np.array([[0, 1, -1], [0, 2, -1], [2, 3, -1], [0, 4, -1], [0, -1, -1]]), units, 3)
    np.testing.assert_allclose(values, [0, 1, 1 - 1 / np.sqrt(2), 1, np.nan], atol=1e-12)
    assert genres.dtype == np.int64


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((4, 2)), r"one row for each of the 5 items, got float64 of shape \(4, 2\)"),
        (np.ones(5), "one row for each of the 5 items"),
        (np.full((5, 1), "a"), "must be numbers"),
        (np.array([[1.0], [np.nan], [2], [3], [np.inf]]), "2 numbers in the item vectors are NaN or infinite"),
    ],
)
def test_vectors_that_are_not_the_items_are_refused(vectors, message):
    with pytest.raises(DataError, match=message):
        unit_rows(vectors, 5)


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-1, 8)), st.data())
@settings(max_examples=60, deadline=None)
def test_what_lists_together_show_does_not_depend_on_the_order_of_users(ids, data):
    moved = ids[data.draw(st.permutations(range(len(ids))))]
    popularity = np.arange(9)
    before = 0.0
    for k in range(1, 8):
        counts = recommendation_counts(ids, 9, k)
        again = recommendation_counts(moved, 9, k)
        share, index = ranking.coverage(counts), ranking.gini(counts)
        assert before <= share == ranking.coverage(again)
        assert np.isnan(index) == (not counts.any())
        assert np.isnan(index) or 0 <= index <= 1 - 1 / 9
        np.testing.assert_equal(ranking.gini(again), index)
        for values in (ranking.novelty(ids, popularity, 8, k), ranking.average_popularity(ids, popularity, k)):
            known = values[~np.isnan(values)]
            assert (known >= 0).all()
        before = share
