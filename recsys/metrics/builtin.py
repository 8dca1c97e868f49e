"""The metrics of this package: one record each. What they compute is said by the docstrings of their functions."""

from typing import Final

from recsys.metrics import beyond, popularity_adjusted, ranking, rating
from recsys.metrics.registry import Metric

_HITS = ("hits", "n_relevant")
_RATINGS = ("predicted", "actual")

BUILTIN: Final = (
    Metric("ndcg", ranking.ndcg, _HITS, "hits, weighted by rank, against the best possible list"),
    Metric("recall", ranking.recall, _HITS, "share of a user's held-out items that are in the list"),
    Metric("truncated_recall", ranking.truncated_recall, _HITS, "hits against as many as the list could hold"),
    Metric("precision", ranking.precision, _HITS, "share of the list that is held out"),
    Metric("map", ranking.average_precision, _HITS, "precision at each hit, averaged"),
    Metric("mrr", ranking.mrr, _HITS, "1 / rank of the first hit"),
    Metric("hit_rate", ranking.hit_rate, _HITS, "share of users with a hit"),
    Metric(
        "stratified_recall",
        popularity_adjusted.stratified_recall,
        ("hits", "ids", "relevant", "popularity_weights"),
        "recall in which rare items count more",
    ),
    Metric(
        "serendipity",
        popularity_adjusted.serendipity,
        ("hits", "popular_places", "n_relevant"),
        "hits that the most popular items would not have given",
    ),
    Metric(
        "coverage",
        beyond.coverage,
        ("counts",),
        "share of the catalog recommended to anyone",
        unit="share of the catalog",
    ),
    Metric(
        "gini",
        beyond.gini,
        ("counts",),
        "how unevenly items are recommended; 0 is evenly",
        higher_is_better=False,
        unit="index, 0 to 1",
    ),
    Metric(
        "novelty",
        beyond.novelty,
        ("ids", "popularity", "n_users"),
        "surprise at a recommended item, in bits",
        unit="bits",
    ),
    Metric(
        "average_popularity",
        beyond.average_popularity,
        ("ids", "popularity"),
        "training interactions of a recommended item",
        higher_is_better=False,
        unit="training interactions",
    ),
    Metric(
        "diversity",
        beyond.diversity,
        ("ids", "unit_vectors"),
        "how little the items of a list are alike",
        unit="mean of 1 - cosine",
    ),
    Metric(
        "rmse",
        rating.squared_error,
        _RATINGS,
        "root of the mean squared error of a predicted rating",
        higher_is_better=False,
        unit="units of the rating",
        root=True,
    ),
    Metric(
        "mae",
        rating.absolute_error,
        _RATINGS,
        "mean absolute error of a predicted rating",
        higher_is_better=False,
        unit="units of the rating",
    ),
)
