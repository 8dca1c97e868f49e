"""Whether a promotion is earned: the rule, its guard-rails, and how often chance alone wins."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy.stats import norm

from recsys.error_budget import Place
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
PLAIN = Rule("ndcg@10", guards={}, slowdown=None)


def test_a_clear_gain_is_earned_and_the_note_says_by_how_much():
    found = decide(measured(BASE, "old"), measured(draws(1, 0.05, BASE), "new"), PLAIN)
    assert found.earned
    assert found.low > 0.01 * BASE.mean()
    note = found.markdown()
    assert "**new earned the promotion** against old, on 800 held-out users." in note
    assert "passed: ndcg@10" in note
    assert found.reason == found.checks[0][1]


def test_a_worse_challenger_is_kept_out_and_the_reason_is_the_gain():
    found = decide(measured(draws(1, 0.05, BASE), "old"), measured(BASE, "new"), PLAIN)
    assert not found.earned
    assert found.high < 0
    assert "must lie above" in found.reason
    assert "did not earn" in found.markdown()


def test_the_gain_must_exceed_the_minimum_for_certain():
    better = draws(1, 0.01, BASE, noise=0.02)
    assert decide(measured(BASE), measured(better), Rule("ndcg@10", minimum_gain=0.0, guards={})).earned
    assert not decide(measured(BASE), measured(better), Rule("ndcg@10", minimum_gain=0.1, guards={})).earned


@pytest.mark.parametrize(
    ("before", "after", "earned"),
    [(0.5, 0.46, True), (0.5, 0.44, False), (0.5, 0.9, True)],
    ids=["less", "low", "more"],
)
def test_a_guard_rail_bounds_a_fall(before, after, earned):
    rule = Rule("ndcg@10", guards={"coverage@10": 0.1}, slowdown=None)
    better = draws(1, 0.05, BASE)
    found = decide(measured(BASE, **{"coverage@10": before}), measured(better, **{"coverage@10": after}), rule)
    assert found.earned is earned
    assert earned or "coverage@10 0.5000 -> 0.4400, must not fall below 0.4500" in found.reason


def test_a_guard_rail_of_an_error_bounds_a_rise():
    rule = Rule("ndcg@10", guards={"rmse": 0.05}, slowdown=None)
    better = draws(1, 0.05, BASE)
    assert decide(measured(BASE, rmse=0.8), measured(better, rmse=0.83), rule).earned
    assert not decide(measured(BASE, rmse=0.8), measured(better, rmse=0.85), rule).earned


def test_a_slow_challenger_is_kept_out():
    better = draws(1, 0.05, BASE)
    assert decide(
        measured(BASE, seconds=1.0), measured(better, seconds=2.9), Rule("ndcg@10", guards={}, slowdown=3.0)
    ).earned
    found = decide(measured(BASE, seconds=1.0), measured(better, seconds=3.1), Rule("ndcg@10", guards={}, slowdown=3.0))
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


def number(count, budget=0.05):
    return Place("", count, "2026-01-01T00:00:00Z", budget)


def test_the_later_in_the_year_the_more_certain_a_gain_must_be():
    models = measured(BASE, "old"), measured(draws(1, 0.015, BASE), "new")
    alone, early, late, free = (
        decide(*models, PLAIN, place=place) for place in (None, number(1), number(1000), number(1000, 1.0))
    )
    assert number(1000).level < alone.p / 2 < number(1).level
    assert [found.earned for found in (alone, early, late, free)] == [True, True, False, True]
    assert late.reason.startswith("one-sided p = ")
    assert "must be at most 1.7e-06: contest 1000 of the year, which has spent 99.3%" in late.reason
    assert len(free.checks) == len(alone.checks) == 1
    assert alone.detectable < early.detectable < late.detectable
    # A fall is as unlikely as the gain, and no reason to promote.
    fall = decide(models[1], models[0], PLAIN, place=number(1))
    assert not fall.earned
    assert "one-sided p = 1, must" in fall.reason


@pytest.mark.parametrize("place", [None, number(1), number(365)])
def test_the_gain_that_a_contest_can_show_passes_with_a_chance_of_nine_in_ten(place):
    noise = draws(3, 0.0, BASE)
    found = decide(measured(BASE), measured(noise), PLAIN, place=place)
    error = (noise - BASE).std(ddof=1) / np.sqrt(N)
    gains = np.random.default_rng(0).normal(found.detectable, error, 20_000)
    passed = gains - 1.96 * error > 0.01 * BASE.mean()
    if place is not None:
        passed &= norm.sf(gains / error) <= place.level
    assert passed.mean() == pytest.approx(0.9, abs=0.02)


def test_a_guard_rail_with_values_per_user_fails_where_its_interval_reaches_beyond_the_limit():
    rule = Rule("ndcg@10", guards={"recall@10": 0.05}, slowdown=None)
    rng = np.random.default_rng(4)
    before, better = rng.beta(2, 2, N), draws(1, 0.05, BASE)
    for spread, earned in ((0.05, True), (0.6, False)):  # of a difference of 0 in the mean
        change = rng.normal(0, spread, N)
        after = before + change - change.mean()
        models = [
            measured(values, **{"recall@10": other.mean()}) for values, other in ((BASE, before), (better, after))
        ]
        for one, other in zip(models, (before, after), strict=True):
            one.evaluation.per_user["recall@10"] = other
        found = decide(*models, rule)
        assert found.earned is earned
        passed, what = found.checks[1]
        worst = before.mean() - 1.96 * spread / np.sqrt(N)
        assert passed is earned
        assert f"recall@10 {before.mean():.4f} -> {before.mean():.4f}, by its interval" in what
        assert float(what.split("interval ")[1].split()[0]) == pytest.approx(worst, abs=0.1 * spread / np.sqrt(N) * 3)


def test_the_note_says_what_is_known_of_the_winners_curse():
    models = measured(BASE, "old"), measured(draws(1, 0.05, BASE), "new")
    alone = decide(*models, PLAIN)
    assert "(the winner's curse), and this split has no others." in alone.markdown()
    other = BASE[:300] + 0.01
    others = (
        replace(models[0], elsewhere=models[0].evaluation),
        replace(models[1], elsewhere=measured(other).evaluation),
    )
    found = decide(*others, PLAIN)
    assert found.elsewhere == (BASE.mean(), other.mean(), 300)
    assert f"no say here: old {BASE.mean():.4f}, new {other.mean():.4f}." in found.markdown()
    assert "On 300 validation users, who may have chosen epochs and settings but had" in found.markdown()
    assert found.earned is alone.earned
    share = alone.detectable / BASE.mean()
    assert (
        f"A true gain of {alone.detectable:.4f} ({share:.1%}) has a chance of 90 % on so many users" in alone.markdown()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "coverage@10"}, "must have a value per user, and coverage@10 has none"),
        ({"metric": "ndgc@10"}, "unknown metric"),
        ({"minimum_gain": -0.1}, "minimum_gain of Rule must be a finite number ≥ 0, got -0.1"),
        ({"confidence": 1.0}, "confidence of Rule must be a finite number > 0 and < 1, got 1.0"),
        (
            {"guards": {"coverage@10": -1}},
            "guards of Rule must be a table with each value a finite number ≥ 0 or None, got {'coverage@10': -1}",
        ),
        ({"guards": {"covrage@10": 1}}, "unknown metric"),
        ({"minimum_gain": float("nan")}, "minimum_gain of Rule must be a finite number ≥ 0, got nan"),
        ({"slowdown": "5"}, "slowdown of Rule must be a finite number > 0 or None, got '5'"),
        ({"error_budget": 0}, "error_budget of Rule must be a finite number > 0 and ≤ 1, got 0"),
        ({"error_budget": 5}, "error_budget of Rule must be a finite number > 0 and ≤ 1, got 5"),
        ({"slowdown": 0}, "slowdown of Rule must be a finite number > 0 or None, got 0"),
    ],
)
def test_rules_that_cannot_work(change, message):
    with pytest.raises(ConfigError, match=message):
        Rule(**change)


def test_what_a_rule_leaves_open_follows_from_the_metric_that_chose_the_weights():
    rule = Rule().for_metric("ndcg@10")
    assert (rule.metric, rule.guards) == ("ndcg@10", {"coverage@10": 0.5, "truncated_recall@50": 0.05})
    assert rule.metrics == ("ndcg@10", "coverage@10", "truncated_recall@50")
    assert Rule("mrr@5", guards={"gini@10": 0.1}).for_metric("ndcg@10").metrics == ("mrr@5", "gini@10")
    assert Rule().for_metric("rmse").metrics == ("rmse",)
    assert Rule(guards={"coverage@10": 0.1}).for_metric("rmse").metrics == ("rmse", "coverage@10")
    assert Rule("ndcg@10").for_metric("rmse").metrics == ("ndcg@10",)
    assert Rule("recall@5").metrics == ("recall@5", "coverage@10", "truncated_recall@50")
    with pytest.raises(ConfigError, match=r"the rule names no metric; pass one, such as rule\.for_metric"):
        Rule().for_metric()
    with pytest.raises(ConfigError, match="names no metric"):
        decide(measured(BASE), measured(BASE), Rule())


def test_equal_rules_read_the_same():
    text = Rule().for_metric("ndcg@10").as_text()
    assert json.loads(text) == {
        "confidence": 0.95,
        "error_budget": 0.05,
        "guards": {"coverage@10": 0.5, "truncated_recall@50": 0.05},
        "metric": "ndcg@10",
        "minimum_gain": 0.01,
        "slowdown": 5.0,
    }
    assert Rule("ndcg@10", guards={"truncated_recall@50": 0.05, "coverage@10": 0.5}).as_text() == text
    assert json.loads(Rule().as_text())["guards"] is None


def test_a_rule_is_a_section_of_a_configuration():
    section = TypeAdapter(Rule)
    assert section.validate_python({"slowdown": 2, "guards": {"gini@5": 0}}) == Rule(
        slowdown=2.0, guards={"gini@5": 0.0}
    )
    for values, message in (
        ({"metrik": "ndcg@10"}, "metrik"),
        ({"minimum_gain": -1}, "greater than or equal to 0"),
        ({"metric": "ndgc@10"}, "did you mean 'ndcg@10'"),
    ):
        with pytest.raises(ValidationError, match=message):
            section.validate_python(values)
