"""The intrinsic dimension: that of points of known dimension, and the estimators' formulas by brute force."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.analysis import intrinsic_dimension
from recsys.errors import ConfigError, DataError


def cube(n, dimension, among=30):
    """Points of a cube of some dimension, turned into a space of more."""
    rng = np.random.default_rng(dimension)
    axes = np.linalg.qr(rng.normal(size=(among, dimension)))[0]
    return rng.random((n, dimension)) @ axes.T


@pytest.mark.parametrize("method", ["two-nn", "mle"])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_a_cube_has_its_dimension_wherever_it_lies(method, dimension):
    points = cube(2000, dimension)
    found = intrinsic_dimension(points, method=method, neighbors=10)
    assert found == pytest.approx(dimension, rel=0.15)
    assert intrinsic_dimension(7 * points + 3, method=method, neighbors=10) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("method", ["two-nn", "mle"])
def test_a_rolled_sheet_has_two_dimensions(method):
    rng = np.random.default_rng(0)
    turn, across = 1.5 * np.pi * (1 + 2 * rng.random(3000)), 21 * rng.random(3000)
    sheet = np.column_stack([turn * np.cos(turn), across, turn * np.sin(turn)])
    assert intrinsic_dimension(sheet, method=method, neighbors=10) == pytest.approx(2, rel=0.1)


def distances(points):
    found = np.sqrt(np.square(points[:, None] - points).sum(2))
    return np.sort(found, axis=1)[:, 1:]


def test_two_nn_is_the_slope_of_the_paper():
    points = np.random.default_rng(1).normal(size=(40, 4))
    near = distances(points)
    ratios = np.sort(near[:, 1] / near[:, 0])
    x = np.log(ratios[:36])
    y = [-np.log(1 - i / 40) for i in range(1, 37)]
    assert intrinsic_dimension(points) == pytest.approx(sum(x * y) / sum(x * x))
    x, y = np.log(ratios[:39]), [-np.log(1 - i / 40) for i in range(1, 40)]
    assert intrinsic_dimension(points, discard=0.0) == pytest.approx(sum(x * y) / sum(x * x))


def test_mle_averages_the_inverses_over_points():
    points = np.random.default_rng(2).normal(size=(30, 4))
    near = distances(points)
    inverses = [sum(np.log(row[4] / row[j]) for j in range(4)) / 4 for row in near]
    assert intrinsic_dimension(points, method="mle", neighbors=5) == pytest.approx(1 / np.mean(inverses))


def test_equal_points_count_once_and_sparse_ones_as_dense():
    points = (np.random.default_rng(3).random((200, 12)) < 0.4).astype(np.float32)
    once = np.unique(points, axis=0)
    expected = intrinsic_dimension(once, method="mle", neighbors=8)
    assert intrinsic_dimension(points, method="mle", neighbors=8) == pytest.approx(expected)
    assert intrinsic_dimension(sp.coo_matrix(points), method="mle", neighbors=8) == pytest.approx(expected)


def test_what_has_no_dimension_is_refused():
    with pytest.raises(DataError, match="more than 2 distinct points, got 1"):
        intrinsic_dimension(np.ones((5, 3)))
    with pytest.raises(DataError, match="at one distance"):
        intrinsic_dimension(np.eye(6))
    with pytest.raises(DataError, match="at one distance"):
        intrinsic_dimension(np.eye(6), method="mle", neighbors=3)
    with pytest.raises(DataError, match="finite"):
        intrinsic_dimension(np.full((5, 3), np.nan))
    with pytest.raises(ConfigError, match="two-nn"):
        intrinsic_dimension(np.eye(6), method="pca")
    with pytest.raises(ConfigError, match="discard"):
        intrinsic_dimension(np.eye(6), discard=1.0)
    with pytest.raises(ConfigError, match="neighbors"):
        intrinsic_dimension(np.eye(6), method="mle", neighbors=1)
