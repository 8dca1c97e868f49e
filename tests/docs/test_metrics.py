"""docs/metrics.md, and what the docstrings that it is made of must say."""

import re

import pytest

from recsys.metrics import BESIDE_POPULARITY, CATALOGUE, DIVERSITY, EXPOSURE, RANKING, RATING
from tests.docs.metrics import FIELDS, GROUPS, PAGE, fields, page

METRICS = {kind: function for metrics in GROUPS.values() for kind, function in metrics.items()}


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/metrics.md is older than the docstrings: make docs"


def test_every_metric_is_on_the_page():
    assert set(METRICS) == {*RANKING, *BESIDE_POPULARITY, *CATALOGUE, *EXPOSURE, *DIVERSITY, *RATING}


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_states_the_same_things(kind):
    title, found = fields(METRICS[kind])
    assert title.endswith(".")
    assert tuple(found) == FIELDS
    assert re.search(r"(19|20)\d\d", found["Paper"]), "a paper has a year"
    assert all(value.endswith(".") for value in found.values())
    if kind in RATING:
        assert "left out" in found["No relevant items"]
        return
    assert re.search("never falls with k|rises or falls with k", found["Range"])
    assert "ranks beyond k are not read" in found["Cut-off"]
    assert "ties do not matter" in found["Ties"]
    assert kind in CATALOGUE or "NaN, left out of the mean" in found["No relevant items"]
