"""Corruptions: each has the distribution of dense noise and returns a well-formed batch."""

import numpy as np
import pytest
import torch

from recsys.nn.corruption import masked, projected_gaussian, random_places, salt_and_pepper
from tests.contract import batch_of, random_cells

CELLS = random_cells(np.random.default_rng(3), 6, 9, 0.4, counts=True)
BATCH = batch_of(CELLS)
corruptions = pytest.mark.parametrize("corrupt", [masked, salt_and_pepper])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def dense(batch):
    """The dense rows; an entry stored twice would be counted twice."""
    out = torch.zeros(len(batch), batch.n_columns, dtype=batch.values.dtype)
    return out.index_put_((batch.segments, batch.columns), batch.values, accumulate=True)


def check_form(batch, like):
    counts = torch.bincount(batch.segments, minlength=len(like))
    assert torch.equal(batch.offsets, torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]))
    places = batch.segments * batch.n_columns + batch.columns
    assert torch.equal(places, places.unique())  # ascending, each once
    assert batch.values.dtype == like.values.dtype
    assert torch.equal(batch.rows, like.rows)
    assert len(batch.values) == len(batch.columns) == len(batch.segments)


@corruptions
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_corrupted_batch_is_well_formed_and_the_clean_one_is_unchanged(corrupt, share):
    before = [BATCH.values.clone(), BATCH.columns.clone(), BATCH.offsets.clone()]
    found = corrupt(BATCH, share, rng())
    check_form(found, BATCH)
    assert all(map(torch.equal, before, (BATCH.values, BATCH.columns, BATCH.offsets)))
    if share == 0.0:
        assert torch.equal(found.values, BATCH.values)
        assert torch.equal(found.columns, BATCH.columns)
    assert torch.equal(found.columns, corrupt(BATCH, share, rng()).columns)  # only the generator decides


@corruptions
def test_a_batch_without_entries_is_corrupted_too(corrupt):
    check_form(corrupt(batch_of(np.full((3, 4), np.nan)), 0.5, rng()), batch_of(np.full((3, 4), np.nan)))


def test_masking_removes_all_entries_equally_often_and_keeps_the_mean_row():
    cells = np.where(np.isnan(CELLS), np.nan, np.arange(1, 55).reshape(6, 9))
    batch, draw = batch_of(cells), rng()
    total = sum((dense(masked(batch, 0.3, draw)) for _ in range(1000)), torch.zeros(6, 9))
    clean = np.nan_to_num(cells)
    np.testing.assert_allclose(total / 1000, clean, rtol=0.12)
    assert set(masked(batch, 0.3, draw).values.tolist()) <= {0.0, *(batch.values / 0.7).tolist()}


def test_salt_and_pepper_hit_every_entry_equally_often():
    """Vincent et al. (2010), §3.3, entry by entry: ν / 2 to the largest value, ν / 2 to zero."""
    cells = np.array([[3.0, np.nan, 1.0, np.nan], [np.nan] * 4, [np.nan, -2.0, np.nan, 0.0]])
    batch, draw, n = batch_of(cells), rng(), 600
    drawn = torch.stack([dense(salt_and_pepper(batch, 0.4, draw)) for _ in range(n)])
    largest = torch.tensor([3.0, 1.0, 1.0])[:, None].double()  # 1 where no entry is above 0
    salt = (drawn == largest).double().mean(0)
    clean = torch.from_numpy(np.nan_to_num(cells))
    expected = torch.where(clean == largest, 0.8, 0.2).double()  # the largest stays unless it is peppered
    torch.testing.assert_close(salt, expected, atol=0.08, rtol=0)
    other = clean != 0
    torch.testing.assert_close(
        (drawn == 0).double().mean(0)[other], torch.full_like(clean[other], 0.2), atol=0.08, rtol=0
    )
    pairs = torch.cov((drawn == largest).double().flatten(1).T)  # entries are corrupted independently
    assert (pairs - torch.diag(pairs.diag())).abs().max() < 0.05


@pytest.mark.parametrize(("cells", "chance"), [(50, 0.3), (7, 0.9), (400, 0.005), (1, 0.5), (0, 0.5), (9, 0.0)])
def test_random_places_are_independent_coin_flips(cells, chance):
    draw, n = rng(), 2000
    hits, squares = torch.zeros(cells), 0.0
    for _ in range(n):
        places = random_places(cells, chance, draw)
        assert torch.equal(places, places.unique())
        hits[places] += 1
        squares += (len(places) - cells * chance) ** 2
    np.testing.assert_allclose(hits / n, chance, atol=5 * np.sqrt(chance * (1 - chance) / n) + 1e-12)
    assert squares / n == pytest.approx(cells * chance * (1 - chance), rel=0.15, abs=1e-12)


def test_projected_noise_has_the_distribution_of_projected_dense_noise():
    table = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 3)))
    n = 40_000
    there = 0.3 * torch.randn(n, 40, generator=rng(1), dtype=torch.float64) @ table
    here = projected_gaussian(table, n, 0.3, rng(2))
    assert here.shape == there.shape
    exact = 0.09 * table.T @ table
    for drawn in (there, here):
        torch.testing.assert_close(drawn.mean(0), torch.zeros(3).double(), atol=0.05, rtol=0)
        torch.testing.assert_close(torch.cov(drawn.T), exact, atol=0.02 * float(exact.max()), rtol=0)


def test_its_expected_gradient_is_that_of_dense_noise():
    """d/dV E[Σ f(ε V)] of a non-quadratic loss, by many draws of both."""
    start = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2)))
    n, found = 200_000, []
    for draw in (
        lambda table: 0.5 * torch.randn(n, 5, generator=rng(1), dtype=torch.float64) @ table,
        lambda table: projected_gaussian(table, n, 0.5, rng(2)),
    ):
        table = start.clone().requires_grad_()
        projected = draw(table) + torch.tensor([0.4, -0.2])
        (torch.tanh(projected).prod(1) + projected.exp().sum(1)).mean().backward()
        found.append(table.grad)
    torch.testing.assert_close(*found, atol=0.01 * float(found[0].abs().max()), rtol=0.02)


def test_a_singular_table_works():
    for table in (torch.ones(3, 8), torch.zeros(3, 8), torch.randn(2, 64, generator=rng()) * 1e3):
        table.requires_grad_()
        projected_gaussian(table, 4, 1.0, rng()).sum().backward()
        assert torch.isfinite(table.grad).all()
