"""Coverage, concentration and popularity of what is recommended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys.metrics import beyond

IDS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]], dtype=np.int32)
POPULARITY = np.array([8, 4, 2, 0, 1])


def test_counts_stop_at_k_and_leave_empty_slots_out():
    assert beyond.recommendation_counts(IDS, 5, 3).tolist() == [2, 1, 1, 1, 0]
    assert beyond.recommendation_counts(IDS, 5, 1).tolist() == [2, 0, 0, 0, 0]
    assert beyond.recommendation_counts(IDS, 5, 9).tolist() == [2, 1, 1, 1, 0]


def test_coverage_is_a_share_of_the_whole_catalogue():
    assert beyond.coverage(np.array([2, 1, 1, 1, 0])) == 0.8
    assert beyond.coverage(np.zeros(5, dtype=np.int64)) == 0


def test_gini_extremes():
    assert beyond.gini(np.full(6, 3)) == 0
    assert beyond.gini(np.array([0, 0, 9, 0])) == 0.75
    assert np.isnan(beyond.gini(np.zeros(4, dtype=np.int64)))


@given(hnp.arrays(np.int64, st.integers(1, 15), elements=st.integers(0, 50)).filter(np.any))
@settings(max_examples=80, deadline=None)
def test_gini_is_half_the_relative_mean_difference(counts):
    differences = np.abs(counts[:, None] - counts[None, :]).sum()
    assert beyond.gini(counts) == pytest.approx(differences / (2 * len(counts) * counts.sum()), abs=1e-12)


def test_novelty_is_self_information_in_bits():
    # Shares of 8 users: 1, 1/2, 1/4; item 3 is unseen and counts as if one of the 8 had it.
    np.testing.assert_allclose(beyond.novelty(IDS, POPULARITY, 8, 3), [(0 + 1 + 2) / 3, (0 + 3) / 2, np.nan])
    np.testing.assert_allclose(beyond.novelty(IDS, POPULARITY, 8, 2), [0.5, 1.5, np.nan])


def test_average_popularity_is_over_filled_slots():
    np.testing.assert_allclose(beyond.average_popularity(IDS, POPULARITY, 3), [14 / 3, 4, np.nan])
    np.testing.assert_allclose(beyond.average_popularity(IDS, POPULARITY, 1), [8, 8, np.nan])
