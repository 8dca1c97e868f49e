"""Rating errors: sums and counts, divided once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error

from recsys.errors import DataError
from recsys.metrics import rating


def f32(*values):
    return np.array(values, dtype=np.float32)


def sums_per_user(errors, rows, n):
    return np.bincount(rows, weights=errors, minlength=n)


def test_the_error_is_over_ratings_and_not_over_users():
    # One user errs by 3 on one rating, another by 0 on three: 9 / 4, where a mean of users would give 9 / 2.
    rows, counts = np.array([0, 2, 2, 2]), np.array([1, 0, 3])
    squared = sums_per_user(rating.squared_error(f32(1, 4, 4, 4), f32(4, 4, 4, 4)), rows, 3)
    absolute = sums_per_user(rating.absolute_error(f32(1, 4, 4, 4), f32(4, 4, 4, 4)), rows, 3)
    assert squared.tolist() == [9, 0, 0]
    assert absolute.tolist() == [3, 0, 0]
    assert rating.mean_error(squared, counts, root=True)[0] == 1.5
    assert rating.mean_error(absolute, counts)[0] == 0.75
    np.testing.assert_array_equal(rating.per_user(squared, counts, root=True), [3, np.nan, 0])
    np.testing.assert_array_equal(rating.per_user(absolute, counts), [3, np.nan, 0])


@given(st.lists(st.tuples(st.floats(0, 6, width=32), st.floats(1, 5, width=32), st.integers(0, 4)), min_size=1))
@settings(max_examples=60, deadline=None)
def test_agrees_with_sklearn_over_all_ratings(ratings):
    predicted, actual = (np.array(column, dtype=np.float32) for column in list(zip(*ratings, strict=True))[:2])
    rows = np.array([user for *_, user in ratings])
    counts = np.bincount(rows, minlength=5)
    squared = sums_per_user(rating.squared_error(predicted, actual), rows, 5)
    absolute = sums_per_user(rating.absolute_error(predicted, actual), rows, 5)
    wide = predicted.astype(np.float64), actual.astype(np.float64)
    assert rating.mean_error(squared, counts, root=True)[0] ** 2 == pytest.approx(
        mean_squared_error(*wide), rel=1e-9, abs=1e-15
    )
    assert rating.mean_error(absolute, counts)[0] == pytest.approx(mean_absolute_error(*wide), rel=1e-9, abs=1e-15)


def test_the_standard_error_with_one_rating_per_user_is_that_of_a_mean():
    sums = np.array([0.5, 2.0, 1.0, 0.25])
    ones = np.ones(4, dtype=np.int64)
    of_mean = sums.std(ddof=1) / 2
    assert rating.mean_error(sums, ones)[1] == pytest.approx(of_mean, rel=1e-12)
    value, error = rating.mean_error(sums, ones, root=True)
    assert error == pytest.approx(of_mean / (2 * value), rel=1e-12)


def test_the_standard_error_agrees_with_a_bootstrap_over_users():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 30, size=400)
    # Each user errs in a way of their own, so that ratings are not independent.
    sums = np.array([(rng.normal(scale=rng.uniform(0.3, 2), size=count) ** 2).sum() for count in counts])
    drawn = rng.integers(0, 400, size=(3000, 400))
    again = np.sqrt(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    assert rating.mean_error(sums, counts, root=True)[1] == pytest.approx(again.std(), rel=0.05)


def test_a_perfect_prediction_and_a_single_user():
    assert rating.mean_error(np.zeros(3), np.array([1, 2, 0]), root=True) == (0.0, 0.0)
    value, error = rating.mean_error(np.array([2.0]), np.array([4]))
    assert value == 0.5
    assert np.isnan(error)


def test_without_a_rating_there_is_no_error():
    with pytest.raises(DataError, match="no rating"):
        rating.mean_error(np.zeros(2), np.zeros(2, dtype=np.int64), root=True)
