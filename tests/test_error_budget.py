"""The levels of a year's contests, and what is read off the records of those before."""

import json

import pytest

from recsys.error_budget import Place, level, place_of

DAY = "2026-01-{:02d}T01:00:00Z"
FIRST = DAY.format(1)
JUNK = ["kept", "{}", "[1]", '{"contest": "x", "number": 0, "since": "2026-01-01T01:00:00Z", "error_budget": 0.05}']


def entered(records, version, contest="a", now=FIRST, budget=0.05):
    """Enter a contest and write it to the records, as a job does."""
    place = place_of(records, version, contest, budget, now)
    records[version] = place.as_text()
    return place


def test_all_levels_of_a_year_add_up_to_the_budget_however_many_contests_there_are():
    levels = [level(0.05, number) for number in range(1, 5001)]
    assert sum(levels) == pytest.approx(0.05, rel=1e-9)
    assert levels[0] == pytest.approx(0.00025)
    assert levels == sorted(levels, reverse=True)
    assert sum(levels[:365]) / 0.05 == pytest.approx(Place("", 365, DAY.format(1), 0.05).spent)
    assert level(1.0, 365) == 1.0


def test_contests_are_counted_also_several_in_a_night():
    records = {1: None, 2: None, 3: None, 4: None}
    numbers = [entered(records, version, now=DAY.format(version // 2 + 1)).number for version in (2, 3, 4)]
    assert numbers == [1, 2, 3]
    assert {json.loads(records[version])["since"] for version in (2, 3, 4)} == {DAY.format(2)}
    assert json.loads(records[4])["level"] == level(0.05, 3)


def test_the_same_contest_again_spends_nothing_and_another_of_the_same_version_does():
    records = {1: None, 2: None, 3: None}
    first = entered(records, 2)
    assert entered(records, 2, now=DAY.format(9)) == first
    assert entered(records, 3).number == 2
    assert entered(records, 2).number == 1
    assert entered(records, 2, contest="by another rule").number == 3
    assert entered(records, 3, contest="on other data", budget=0.1).level == level(0.1, 4)


def test_versions_that_were_deleted_count_as_contests():
    records = {1: None, 2: None}
    entered(records, 2)
    records |= {6: None}  # 3 to 5 are gone
    assert entered(records, 6).number == 5
    assert place_of({9: None}, 9, "a", 0.05, DAY.format(1)).number == 9


@pytest.mark.parametrize("junk", JUNK)
def test_a_record_that_cannot_be_read_counts_as_a_contest(junk):
    records = {1: None, 2: None, 3: None, 4: None}
    entered(records, 2)
    assert Place.read(junk) is None
    records[3] = junk
    assert entered(records, 4).number == 3
    assert place_of({1: junk, 2: junk, 3: None}, 3, "a", 0.05, DAY.format(1)).number == 3


def test_a_year_after_its_first_contest_the_budget_is_new():
    records = {1: None, 2: None, 3: None, 4: None, 5: None}
    entered(records, 2, now="2026-01-01T01:00:00Z")
    assert entered(records, 3, now="2027-01-01T00:59:59Z").number == 2
    new = entered(records, 4, now="2027-01-01T01:00:00Z")
    assert (new.number, new.since) == (1, "2027-01-01T01:00:00Z")
    assert entered(records, 5, now="2027-06-01T01:00:00Z").number == 2
    # A clock that was wrong makes no new year.
    assert entered(records, 1, now="2020-01-01T01:00:00Z").number == 3
