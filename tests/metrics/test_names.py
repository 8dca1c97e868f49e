"""Metric names: what parses, and what the message of a refusal says."""

import pytest

from recsys.errors import ConfigError
from recsys.metrics import BESIDE_POPULARITY, CATALOGUE, DIVERSITY, EXPOSURE, RANKING, RATING, higher_is_better, parse


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("ndcg@10", ("ndcg", 10)),
        ("truncated_recall@20", ("truncated_recall", 20)),
        ("coverage@100", ("coverage", 100)),
        ("rmse", ("rmse", None)),
        ("mae", ("mae", None)),
    ],
)
def test_a_name_is_a_kind_and_a_cut_off(name, parsed):
    assert parse(name) == parsed


def test_every_kind_parses():
    names = [f"{kind}@5" for kind in (*RANKING, *BESIDE_POPULARITY, *CATALOGUE, *EXPOSURE, *DIVERSITY)] + list(RATING)
    groups = (RANKING, BESIDE_POPULARITY, CATALOGUE, EXPOSURE, DIVERSITY, RATING)
    assert [parse(name)[0] for name in names] == [kind for group in groups for kind in group]
    assert len(set(names)) == 16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ndgc@10", "did you mean 'ndcg@10'"),
        ("recal@20", "did you mean 'recall@20'"),
        ("NDCG@10", "unknown metric 'NDCG@10'"),
        ("", "known: average_popularity, coverage"),
        ("ndcg", "positive whole number"),
        ("ndcg@", "positive whole number"),
        ("ndcg@0", "positive whole number"),
        ("ndcg@010", "positive whole number"),
        ("ndcg@-1", "positive whole number"),
        ("ndcg@1.5", "positive whole number"),
        ("ndcg@²", "positive whole number"),
        ("ndcg@10@5", "positive whole number"),
        ("rmse@10", "no cut-off"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        parse(name)


def test_direction():
    assert higher_is_better("ndcg@10")
    assert higher_is_better("novelty@10")
    lower = ["rmse", "mae", "gini@10", "average_popularity@10"]
    assert not any(map(higher_is_better, lower))
