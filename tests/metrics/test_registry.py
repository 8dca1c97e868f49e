"""Metrics by name: what can be asked for, what a record must say, and a metric that is added at run time."""

import re

import numpy as np
import pytest
import scipy.sparse as sp

from docs.generate.metrics import page as metrics_page
from recsys import datasets, metrics, splits
from recsys.config import check_config
from recsys.errors import ConfigError, DataError
from recsys.evaluation import Validation, along_k, compare, evaluate, intervals, table
from recsys.interactions import Interactions
from recsys.metrics import METRICS, Metric, higher_is_better, of, parse, registry
from recsys.models import ALS, EASE, Popularity
from recsys.promotion import Measured, Rule, decide
from recsys.report import comparison, metric_at_k, page

NAMES = [
    *("ndcg", "recall", "truncated_recall", "precision", "map", "mrr", "hit_rate", "stratified_recall", "serendipity"),
    *("coverage", "gini", "novelty", "average_popularity", "diversity", "rmse", "mae"),
]


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
def test_a_name_is_a_metric_and_a_cut_off(name, parsed):
    assert parse(name) == parsed
    assert of(name) is METRICS[parsed[0]]
    assert of(name).at("10") == (name if parsed[1] is None else f"{parsed[0]}@10")


def test_the_metrics_of_this_package():
    assert list(METRICS) == NAMES
    assert [parse(METRICS[name].at(5))[0] for name in NAMES] == NAMES


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
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(name)


def test_what_the_records_say():
    lower = {name for name in NAMES if not higher_is_better(METRICS[name].at(10))}
    assert lower == {"rmse", "mae", "gini", "average_popularity"}
    assert {name for name in NAMES if not METRICS[name].per_user} == {"coverage", "gini"}
    assert {name for name in NAMES if METRICS[name].rates} == {"rmse", "mae"}
    assert {name for name in NAMES if METRICS[name].needs_item_vectors} == {"diversity"}
    assert [METRICS[name].unit for name in ("ndcg", "novelty", "rmse")] == [
        "mean over users",
        "bits",
        "units of the rating",
    ]


# Metrics that are added


def first_is_hit(hits, n_relevant, k):
    """Whether the first item is relevant.

    Formula: 1 if the first item is relevant, else 0.
    Denominator: none.
    Range: 0 or 1; never falls with k.
    Cut-off: ranks beyond k are not read.
    Ties: rank based, so ties do not matter.
    No relevant items: NaN, left out of the mean.
    Paper: none; made up in 2026.
    """
    return np.where(n_relevant > 0, hits[:, :1].any(axis=1), np.nan)


def unpopular_share(counts, popularity):
    """Share of the recommended slots that items without any user take."""
    return counts[popularity == 0].sum() / counts.sum()


def far_off(predicted, actual):
    """Whether a prediction is off by more than 1."""
    return (np.abs(predicted - actual) > 1).astype(np.float64)


FIRST = Metric("first_is_hit", first_is_hit, ("hits", "n_relevant"), "whether the first item is relevant", unit="share")


@pytest.fixture
def registered():
    """Register metrics for the time of a test."""
    names = []

    def add(metric):
        names.append(metric.name)
        return metrics.register(metric)

    yield add
    for name in names:
        registry._REGISTERED.pop(name, None)


@pytest.fixture(scope="module")
def split():
    return splits.hold_out_users(datasets.synthetic(200, 60, 4_000, seed=1), n_users=40)


def test_a_metric_added_at_run_time_is_used_everywhere(registered, split):
    registered(FIRST)
    names = ["ndcg@5", "first_is_hit@3"]
    models = {"EASE": EASE().fit(split.train, show_progress=False), "Popularity": Popularity().fit(split.train)}
    found = {name: evaluate(model, split.test, names) for name, model in models.items()}

    users = np.flatnonzero(np.diff(split.test.target.indptr))
    ids, _ = models["EASE"].recommend(np.full(len(users), -1), split.test.context[users], N=1, recalculate_user=True)
    expected = np.asarray(split.test.target[users, ids[:, 0]]).ravel() != 0
    assert found["EASE"]["first_is_hit@3"] == expected.mean()
    np.testing.assert_array_equal(found["EASE"].per_user["first_is_hit@3"].dropna(), expected)

    validation = Validation(split.validation, "first_is_hit@3")
    assert validation.higher_is_better
    assert list(validation(models["EASE"])) == ["first_is_hit@3"]
    row = compare(found, "first_is_hit@3").pairs.iloc[0]
    assert abs(row["difference"]) == abs(found["EASE"]["first_is_hit@3"] - found["Popularity"]["first_is_hit@3"])
    low, high = intervals(found["EASE"]).set_index("metric").loc["first_is_hit@3", ["low", "high"]]
    assert low <= found["EASE"]["first_is_hit@3"] <= high
    assert table(found, sort_by="first_is_hit@3").index[0] == max(found, key=lambda name: found[name]["first_is_hit@3"])
    assert along_k(["first_is_hit@3"], 60)[:3] == ["first_is_hit@3", "first_is_hit@1", "first_is_hit@2"]
    decision = decide(
        *(Measured(name, found[name]) for name in ("Popularity", "EASE")), Rule("first_is_hit@3", guards={})
    )
    assert decision.challenger_value == found["EASE"]["first_is_hit@3"]

    config = check_config({"train": {"metric": "first_is_hit@3"}, "evaluate": {"metrics": names}})
    assert config.train.metric == "first_is_hit@3"
    text = page(models["EASE"], split, found["EASE"])
    assert "whether the first item is relevant" in text
    assert metric_at_k(found["EASE"]).axes
    assert comparison(found, "first_is_hit@3").axes[0].get_xlabel().startswith("share")
    assert "### `first_is_hit@k`\n\nWhether the first item is relevant. Higher is better." in metrics_page()


def test_the_example_of_the_docstring_works(registered):
    lines = [line[4:] for line in metrics.__doc__.splitlines() if line.startswith("    ") or not line]
    names = {}
    exec("\n".join(lines), names)
    registered(METRICS["first_is_hit"])
    hits = np.array([[True, False], [False, True], [False, False]])
    np.testing.assert_array_equal(names["first_is_hit"](hits, np.array([1, 1, 0]), 2), [1, 0, np.nan])


def test_a_metric_of_all_lists_reads_the_catalog_too(registered, split):
    registered(Metric("unpopular_share", unpopular_share, ("counts", "popularity"), "share of unpopular items"))
    half = sp.csr_matrix(np.tile(np.arange(60) % 2, (3, 1)).astype(np.float32))
    train = split.train
    counted = Interactions(half, train.users.take([0, 1, 2]), train.items)
    model = EASE().fit(train, show_progress=False)
    found = evaluate(model, split.test, ["unpopular_share@5", "coverage@5"], popularity=counted)
    slots = found.per_item["recommended@5"]
    assert found["unpopular_share@5"] == slots[::2].sum() / slots.sum()
    assert "unpopular_share@5" not in found.per_user
    with pytest.raises(ConfigError, match="must have a value per user"):
        Rule("unpopular_share@5")


def test_an_error_of_ratings_is_over_all_ratings(registered):
    registered(Metric("far_off", far_off, ("predicted", "actual"), "share of bad predictions", higher_is_better=False))
    cut = splits.hold_out_ratings(datasets.synthetic(150, 50, 3_000, seed=1), seed=0)
    model = ALS(factors=4, iterations=2).fit(cut.train, show_progress=False)

    class Constant:
        def predict_pairs(self, userid, user_items, rows, items):
            return np.full(len(rows), 3.0, dtype=np.float32)

    found = evaluate(Constant(), cut.test, ["far_off", "rmse"])
    off = np.abs(cut.test.target.data - 3) > 1
    assert found["far_off"] == pytest.approx(off.mean(), rel=1e-12)
    assert found.only(["far_off"]).per_user.columns.tolist() == ["user_id", "far_off", "ratings"]
    assert Rule().for_metric("far_off").guards == {}
    with pytest.raises(ConfigError, match="predicts no ratings, so it has no far_off"):
        check_config({"model": {"name": type(model).__name__}, "train": {"metric": "far_off"}})


def test_item_vectors_are_asked_for(registered, split):
    wide = Metric("wide", lambda ids, vectors, k: vectors[ids[:, 0], 0], ("ids", "item_vectors"), "first column")
    registered(wide)
    vectors = np.arange(60.0)[:, None]
    model = Popularity().fit(split.train)
    found = evaluate(model, split.test, "wide@2", item_vectors=vectors).per_user["wide@2"].dropna()
    ids, _ = model.recommend(-1, split.test.context[0], N=1, recalculate_user=True)
    assert found.iloc[0] == ids[0]
    with pytest.raises(ConfigError, match="wide@2 needs item vectors"):
        evaluate(model, split.test, "wide@2")
    with pytest.raises(ConfigError, match="wide needs item vectors"):
        check_config({"train": {"metric": "wide@2"}})


def test_a_function_that_returns_another_shape_is_refused(registered, split):
    registered(Metric("scalar", lambda hits, k: hits.mean(), ("hits",), "not a value per user"))
    with pytest.raises(DataError, match=r"metric scalar must return a value per user \(40,\), got \(\)"):
        evaluate(Popularity().fit(split.train), split.test, "scalar@5")
    wrong = Metric("wrong", lambda predicted, actual: predicted[:1], ("predicted", "actual"), "not an error per rating")
    with pytest.raises(DataError, match=r"metric wrong must return an error per rating \(2,\), got \(1,\)"):
        wrong.of_ratings(np.zeros(2), np.zeros(2))


def test_a_name_is_given_once(registered):
    assert registered(FIRST) is registered(FIRST)
    with pytest.raises(ConfigError, match=r"the name first_is_hit is taken by tests\.metrics\.test_registry\.first"):
        registered(Metric("first_is_hit", far_off, ("predicted", "actual"), "another"))
    with pytest.raises(ConfigError, match="the name ndcg is taken by"):
        metrics.register(Metric("ndcg", first_is_hit, ("hits", "n_relevant"), "another"))
    assert METRICS["ndcg"].function is metrics.ranking.ndcg


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "first@3"}, "one word of letters, digits and '_', got 'first@3'; a cut-off is part of a request"),
        ({"name": ""}, "one word"),
        ({"needs": ("hit",)}, "metric first needs 'hit', which is unknown; did you mean 'hits'?"),
        ({"needs": ()}, "metric first needs nothing"),
        (
            {"needs": ("counts", "hits")},
            "metric first needs counts, hits: needs must be attributes of Lists and Catalog",
        ),
        ({"needs": ("predicted", "ids")}, "metric first needs predicted, ids"),
        ({"root": True}, "metric first is not an error of ratings"),
    ],
)
def test_wrong_records_are_refused(change, message):
    fields = {"name": "first", "function": first_is_hit, "needs": ("hits", "n_relevant"), "meaning": "a test"}
    with pytest.raises(ConfigError, match=re.escape(message)):
        Metric(**{**fields, **change})
