"""The simulation of a year of contests: it decides as the shipped rule does, and shows what that rule keeps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys.error_budget import Place
from recsys.evaluation import Evaluation
from recsys.promotion import Measured, decide
from tests.benchmarks import year
from tests.benchmarks.year import Contest, World, simulate

ALONE = "each contest by itself"
SHIPPED = "budget, a share of what is left (shipped)"
# A quarter of the users with a quarter of the variance: the same standard errors, and more years in that time.
SMALL = World(users=150, years=600, spread=World.spread / 2, method=World.method / 2)


def measured(values):
    rows = [("ndcg@10", values.mean(), np.nan, len(values))]
    summary = pd.DataFrame(rows, columns=["metric", "value", "standard_error", "n"])
    return Measured("", Evaluation(pd.DataFrame({"user_id": np.arange(len(values)), "ndcg@10": values}), summary))


def test_the_simulation_decides_as_the_shipped_rule_does():
    rng = np.random.default_rng(5)
    rule = replace(year.RULE, guards={}, slowdown=None)
    decided = []
    for gain in (0.0, 0.02, 0.03, 0.035, 0.045, 0.06, 0.08):
        before = rng.beta(0.7, 1.5, 600)
        before /= before.mean()
        after = before + gain + rng.normal(0, 0.24, 600)
        for number in (1, 100):
            contest = Contest(number, (after - before)[None, :], (np.zeros(1), np.ones(1)))
            for name, place in ((ALONE, None), (SHIPPED, Place("", number, "2026-01-01T00:00:00Z", rule.error_budget))):
                found = decide(measured(before), measured(after), rule, place=place).earned
                assert year.RULES[name](1)(contest)[0] == found
                decided.append(found)
    assert 8 < sum(decided) < len(decided) - 8


@pytest.fixture(scope="module")
def equal():
    """What a year of equal challengers does to the champions of two rules."""
    return simulate(SMALL, [ALONE, SHIPPED], seed=1)


def test_a_year_of_equal_challengers_rarely_has_a_false_promotion(equal):
    assert equal[SHIPPED].false.mean() <= 0.05
    assert equal[ALONE].false.mean() > 0.15  # which is what the budget is for


def test_a_winner_is_overstated_on_the_users_who_chose_it_and_not_on_others(equal):
    alone = equal[ALONE]
    error = SMALL.spread / np.sqrt(2 * SMALL.users)
    assert alone.reported[alone.false].mean() > 1.5 * error
    assert abs(alone.second[alone.false].mean()) < 4 * error / np.sqrt(alone.false.sum())
    assert equal[SHIPPED].reported.mean() < 0.5 * alone.reported.mean()


def test_a_better_challenger_is_promoted_within_a_week():
    found = simulate(replace(SMALL, years=300, gain=0.05), [SHIPPED], seed=2)[SHIPPED]
    assert (found.since <= year.WEEK).mean() >= 0.9
    assert found.false.mean() <= 0.05
    weak = simulate(replace(SMALL, years=100, gain=0.01, nights=60), [SHIPPED], seed=2)[SHIPPED]
    assert (weak.since <= year.WEEK).mean() < 0.5


def test_the_table_has_a_row_for_each_world_and_rule():
    worlds = {"equal": World(50, 10, 5), "better": World(50, 10, 5, gain=0.5)}
    table = list(year.rows(worlds, list(year.RULES)))
    assert [row[:2] for row in table] == [(world, rule) for world in worlds for rule in year.RULES]
    assert {row[3] for row in table} == {"", "100.0%"}
