"""Epochs whose rows do not count the same."""

import numpy as np
import pytest
import torch

from recsys.errors import DataError
from recsys.sparse import Rows
from recsys.training import train
from recsys.training.order import weighted_order
from tests.training.test_loop import MATRIX, config, network_of, run, squared, weights


def orders(shares, seeds=400):
    return np.stack([weighted_order(shares, torch.Generator().manual_seed(seed)).numpy() for seed in range(seeds)])


def test_a_row_is_visited_as_often_as_its_weight_says_rounded_down_or_up():
    shares = np.random.default_rng(0).gamma(0.5, size=37) + 1e-3
    expected = 37 * shares / shares.sum()
    visits = np.stack([np.bincount(order, minlength=37) for order in orders(shares)])
    assert (visits.sum(1) == 37).all()
    assert ((visits == np.floor(expected)) | (visits == np.ceil(expected))).all()
    np.testing.assert_allclose(visits.mean(0), expected, atol=5 * 0.5 / np.sqrt(400))


def test_places_in_the_epoch_are_random():
    """Each place gets each row by its share: no row comes first, and copies of a row do not follow each other."""
    found = orders(np.array([1.0, 1.0, 4.0, 2.0]), 4000)
    for place in range(4):
        shares = np.bincount(found[:, place], minlength=4) / 4000
        np.testing.assert_allclose(shares, np.array([1, 1, 4, 2]) / 8, atol=5 * 0.5 / np.sqrt(4000))


def test_equal_weights_give_a_permutation():
    assert (np.sort(orders(np.full(29, 0.3), 50)) == np.arange(29)).all()


def test_a_weighted_row_trains_as_its_copies_do():
    times = np.array([2, 0, 1, 3, 1, 0, 0, 2, 1, 1, 0, 1, 1])
    assert times.sum() == len(times) == MATRIX.shape[0]
    whole = config(epochs=8, batch_size=13)  # so that the order within an epoch changes rounding alone
    weighted, record = run(config=whole, row_weights=0.7 * times)
    copied, other = run(config=whole, matrix=MATRIX[np.repeat(np.arange(13), times)])
    for name, tensor in weights(copied).items():
        torch.testing.assert_close(weights(weighted)[name], tensor, rtol=1e-4, atol=1e-5)
    losses = [[epoch["loss"] for epoch in one.epochs] for one in (record, other)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_there_is_a_weight_for_each_row():
    network = network_of()
    with pytest.raises(DataError, match="row_weights must be one for each of the 13 rows, got 7"):
        train(
            network,
            Rows(MATRIX),
            squared(network),
            config(),
            generator=torch.Generator(),
            row_weights=np.ones(7),
        )
