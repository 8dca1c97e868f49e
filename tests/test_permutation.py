"""The permutation test against all swaps, closed forms, many more swaps and a saddlepoint; many pairs at once."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.evaluation import Evaluation, compare, p_in_words
from recsys.evaluation.permutation import p_values


def p_of(gaps, resamples=10_000, seed=0):
    """The p-value of two models with these differences, user by user."""
    sums = np.stack([gaps, np.zeros(len(gaps))], axis=1)
    return p_values(sums, [(0, 1)], resamples, np.random.default_rng(seed))[0]


def all_swaps(gaps):
    signs = np.array(list(itertools.product([-1, 1], repeat=len(gaps))))
    return float((np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9).mean())


def within(expected, resamples):
    """A p-value with the error of its estimate, from the swaps that reach the difference or a tenth as many tilted."""
    counted = expected * resamples
    return pytest.approx(expected, rel=3 / math.sqrt(counted) if counted > 60 else 0.06)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8, 1.2, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_samples_have_the_share_of_all_swaps(shift, seed):
    gaps = np.random.default_rng(seed).normal(shift, 1.0, 15)
    assert p_of(gaps, 100_000) == within(all_swaps(gaps), 100_000)


@pytest.mark.parametrize(
    "gaps", [[10, *[0.1] * 14], [10, *[0.1] * 12, -0.1], [3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, -1], [1e-3, *[1.0] * 13]]
)
def test_one_large_difference_equal_ones_and_those_of_one_sign(gaps):
    gaps = np.array(gaps, dtype=float)
    assert p_of(gaps, 100_000) == within(all_swaps(gaps), 100_000)


@pytest.mark.parametrize(("users", "ahead"), [(40, 34), (500, 300), (2000, 1100), (2000, 1300), (300, 300)])
def test_hits_and_misses_have_the_tails_of_the_binomial(users, ahead):
    """Down to 1e-90, where no swap with equal odds ever comes; gaps of 0 change nothing."""
    gaps = np.r_[np.ones(ahead), -np.ones(users - ahead), np.zeros(200)]
    expected = 2 * stats.binom.sf(ahead - 1, users, 0.5)
    assert p_of(gaps, 40_000) == pytest.approx(expected, rel=0.1)


def test_many_more_swaps_come_to_the_same():
    gaps = np.random.default_rng(3).beta(0.6, 1.4, 200) * np.random.default_rng(4).choice([1, -0.45], 200)
    gaps -= gaps.mean() - 0.06
    rng, reached, swaps = np.random.default_rng(5), 0, 400_000
    for _ in range(20):
        signs = 2.0 * rng.integers(0, 2, (swaps // 20, len(gaps)), dtype=np.int8) - 1
        reached += int((np.abs(signs @ gaps) >= abs(gaps.sum())).sum())
    assert 200 < reached < 4_000
    assert p_of(gaps) == pytest.approx(reached / swaps, rel=3 * math.sqrt(1 / reached + 1 / 150))


@pytest.mark.parametrize("shift", [0.15, 0.3, 0.5])
def test_a_saddlepoint_approximation_comes_to_the_same(shift):
    """Lugannani and Rice (1980), of the sum of independent signs times gaps (Robinson 1982)."""
    gaps = np.random.default_rng(6).normal(shift, 1.0, 800)
    total, low, high = gaps.sum(), 0.0, 100.0
    for _ in range(200):
        tilt = (low + high) / 2
        low, high = (tilt, high) if gaps @ np.tanh(tilt * gaps) < total else (low, tilt)
    root = math.sqrt(2 * (tilt * total - np.log(np.cosh(tilt * gaps)).sum()))
    standardized = tilt * math.sqrt(gaps**2 @ (1 / np.cosh(tilt * gaps) ** 2))
    expected = 2 * (stats.norm.sf(root) + stats.norm.pdf(root) * (1 / standardized - 1 / root))
    assert p_of(gaps, 40_000) == pytest.approx(expected, rel=0.1)


def test_no_difference_but_rounding_has_p_1_and_no_p_value_is_0():
    values = np.random.default_rng(0).random(100)
    sums = np.stack([values, values + np.where(np.arange(100) % 2, 1e-16, -1e-16), values - 5.0], axis=1)
    p = p_values(sums, [(0, 1), (0, 2)], 1_000, np.random.default_rng(0))
    assert p[0] == 1.0
    assert p[1] == pytest.approx(2.0**-99, rel=1e-6)
    assert 0 < p_of(np.ones(5000)) < 1e-300


def test_the_swaps_are_the_same_for_all_pairs_and_their_order_does_not_matter():
    sums = np.random.default_rng(0).random((50, 4)) + np.array([0, 0, 0, 0.5])
    pairs = list(itertools.combinations(range(4), 2))
    forward, backward = (
        p_values(sums, chosen, 500, np.random.default_rng(1)) for chosen in (pairs, [(b, a) for a, b in pairs[::-1]])
    )
    np.testing.assert_allclose(forward, backward[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "words"),
    [(1.0, "p = 1.0000"), (0.0123, "p = 0.0123"), (0.0001, "p = 0.0001"), (9.9e-5, "p < 0.0001"), (0, "p < 0.0001")],
)
def test_p_values_that_four_digits_do_not_show(p, words):
    assert p_in_words(p) == words


def evaluations(values):
    """An evaluation per column, by name."""
    found = {}
    for number, column in enumerate(values.T):
        frame = pd.DataFrame({"user_id": np.arange(len(column)), "ndcg@10": column})
        summary = pd.DataFrame(
            [("ndcg@10", column.mean(), np.nan, len(column))], columns=["metric", "value", "se", "n"]
        )
        found[f"m{number}"] = Evaluation(frame, summary)
    return found


def test_forty_models_that_differ_are_all_told_apart_and_no_sentence_has_a_number_below_what_it_shows():
    """Of 780 pairs, at a level of .01: 10,000 swaps alone give p_holm = 780 / 10,001 to all of them."""
    rng = np.random.default_rng(0)
    values = 0.3 * rng.beta(0.6, 1.4, (1500, 1)) + 0.006 * np.arange(40) + rng.normal(0, 0.02, (1500, 40))
    found = compare(evaluations(values), confidence=0.99, resamples=1_000)
    assert len(found.pairs) == 780
    assert found.pairs["different"].all()
    assert (found.pairs["p_holm"] > 0).all()
    assert found.pairs["p_holm"].max() < 1e-3
    assert any(sentence.endswith("p < 0.0001)") for sentence in found.verdicts())


@pytest.mark.parametrize("heavy", [False, True])
def test_among_equal_models_a_false_difference_is_as_rare_as_the_level_says(heavy):
    """Six models whose values are exchangeable within each user: Holm's procedure holds the level over 15 pairs."""
    rng, wrong, times = np.random.default_rng(7), 0, 300
    for _ in range(times):
        noise = rng.standard_t(3, (60, 6)) if heavy else rng.choice([0.0, 0.0, 0.5, 1.0], (60, 6))
        found = compare(evaluations(rng.beta(0.6, 1.4, (60, 1)) + noise), resamples=100, seed=rng)
        wrong += bool(found.pairs["different"].any())
    assert 0.01 <= wrong / times <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / times)
