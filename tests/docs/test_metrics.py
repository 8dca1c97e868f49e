"""docs/metrics.md, and what the docstrings that it is generated from must say."""

import re

import pytest

from docs.generate.metrics import FIELDS, PAGE, fields, page
from recsys.metrics import METRICS


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/metrics.md is older than the docstrings: make docs"


def test_every_metric_is_on_the_page():
    assert sorted(re.findall(r"^### `(\w+)", page(), flags=re.MULTILINE)) == sorted(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_states_the_same_things(name):
    metric = METRICS[name]
    title, found = fields(metric.function)
    assert title.endswith(".")
    assert tuple(found) == FIELDS
    assert re.search(r"(19|20)\d\d", found["Paper"]), "a paper has a year"
    assert all(value.endswith(".") for value in found.values())
    if metric.rates:
        assert "left out" in found["No relevant items"]
        return
    assert re.search("never falls with k|rises or falls with k", found["Range"])
    assert "ranks beyond k are not read" in found["Cut-off"]
    assert "ties do not matter" in found["Ties"]
    assert not metric.per_user or "NaN, left out of the mean" in found["No relevant items"]
