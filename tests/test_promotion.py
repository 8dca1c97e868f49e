"""Whether a promotion is earned: the rule, its guard-rails, and how often chance alone wins."""

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigError
from recsys.evaluation import Evaluation
from recsys.promotion import Measured, Rule, decide

N = 800


def measured(values, name="a", seconds=None, **others):
    frame = pd.DataFrame({"user_id": np.arange(len(values)), "ndcg@10": values})
    rows = [("ndcg@10", values.mean(), 0.0, len(values)), *((k, v, np.nan, len(values)) for k, v in others.items())]
    summary = pd.DataFrame(rows, columns=["metric", "value", "standard_error", "n"])
    return Measured(name, Evaluation(frame, summary), seconds)


def draws(seed, shift=0.0, like=None, noise=0.1):
    rng = np.random.default_rng(seed)
    base = rng.beta(0.7, 1.5, N) if like is None else like
    return np.clip(base + rng.normal(shift, noise, N), 0, 1)


BASE = np.random.default_rng(0).beta(0.7, 1.5, N)
PLAIN = Rule(guards={}, slowdown=None)


def test_a_clear_gain_is_earned_and_the_note_says_by_how_much():
    found = decide(measured(BASE, "old"), measured(draws(1, 0.05, BASE), "new"), PLAIN)
    assert found.earned
    assert found.low > 0.01 * BASE.mean()
    note = found.markdown()
    assert "**new earned the promotion** against old, on 800 held-out users." in note
    assert "passed: ndcg@10" in note
    assert found.reason == found.checks[0].what


def test_a_worse_challenger_is_kept_out_and_the_reason_is_the_gain():
    found = decide(measured(draws(1, 0.05, BASE), "old"), measured(BASE, "new"), PLAIN)
    assert not found.earned
    assert found.high < 0
    assert "must lie above" in found.reason
    assert "did not earn" in found.markdown()


def test_the_gain_must_exceed_the_minimum_for_certain():
    better = draws(1, 0.01, BASE, noise=0.02)
    assert decide(measured(BASE), measured(better), Rule(minimum_gain=0.0, guards={})).earned
    assert not decide(measured(BASE), measured(better), Rule(minimum_gain=0.1, guards={})).earned


@pytest.mark.parametrize(
    ("before", "after", "earned"),
    [(0.5, 0.46, True), (0.5, 0.44, False), (0.5, 0.9, True)],
    ids=["less", "low", "more"],
)
def test_a_guard_rail_bounds_a_fall(before, after, earned):
    rule = Rule(guards={"coverage@10": 0.1}, slowdown=None)
    better = draws(1, 0.05, BASE)
    found = decide(measured(BASE, **{"coverage@10": before}), measured(better, **{"coverage@10": after}), rule)
    assert found.earned is earned
    assert earned or "coverage@10 0.5000 -> 0.4400, must not fall below 0.4500" in found.reason


def test_a_guard_rail_of_an_error_bounds_a_rise():
    rule = Rule(guards={"rmse": 0.05}, slowdown=None)
    better = draws(1, 0.05, BASE)
    assert decide(measured(BASE, rmse=0.8), measured(better, rmse=0.83), rule).earned
    assert not decide(measured(BASE, rmse=0.8), measured(better, rmse=0.85), rule).earned


def test_a_slow_challenger_is_kept_out():
    better = draws(1, 0.05, BASE)
    assert decide(measured(BASE, seconds=1.0), measured(better, seconds=2.9), Rule(guards={}, slowdown=3.0)).earned
    found = decide(measured(BASE, seconds=1.0), measured(better, seconds=3.1), Rule(guards={}, slowdown=3.0))
    assert not found.earned
    assert "scoring takes 3.10 times" in found.reason


def test_an_equal_challenger_is_rarely_promoted_and_a_better_one_mostly():
    # Forty contests each: equal up to noise per user and a small shift per training, then better by a tenth.
    equal = better = 0
    rng = np.random.default_rng(7)
    for _ in range(40):
        shift = rng.normal(0, 0.003 * BASE.mean())
        equal += decide(measured(draws(rng, shift, BASE)), measured(draws(rng, -shift, BASE)), PLAIN).earned
        better += decide(measured(draws(rng, 0.0, BASE)), measured(draws(rng, 0.1 * BASE.mean(), BASE)), PLAIN).earned
    assert equal <= 2
    assert better >= 36


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "coverage@10"}, "needs a value per user"),
        ({"metric": "ndgc@10"}, "unknown metric"),
        ({"minimum_gain": -0.1}, "minimum_gain must not be negative"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"guards": {"coverage@10": -1}}, "guards.coverage@10 must not be negative"),
        ({"guards": {"covrage@10": 1}}, "unknown metric"),
        ({"slowdown": 0}, "slowdown must be positive"),
    ],
)
def test_rules_that_cannot_work(change, message):
    with pytest.raises(ConfigError, match=message):
        Rule(**change)
