"""Metrics by name: arrays per user first, means last.

A name is a kind and, for metrics of a top-N list, a cut-off: `ndcg@10`, `coverage@100`, `rmse`.
"""

from collections.abc import Mapping
from typing import Final

from recsys.errors import ConfigError, did_you_mean
from recsys.metrics import beyond, ranking
from recsys.metrics.beyond import CatalogueMetric
from recsys.metrics.ranking import RankingMetric

__all__ = ["BESIDE_POPULARITY", "CATALOGUE", "DIVERSITY", "EXPOSURE", "RANKING", "RATING", "higher_is_better", "parse"]

RANKING: Final[Mapping[str, RankingMetric]] = {
    "ndcg": ranking.ndcg,
    "recall": ranking.recall,
    "truncated_recall": ranking.truncated_recall,
    "precision": ranking.precision,
    "map": ranking.average_precision,
    "mrr": ranking.mrr,
    "hit_rate": ranking.hit_rate,
}
"""Accuracy of a user's list: one value per user."""
BESIDE_POPULARITY: Final = ("stratified_recall", "serendipity")
"""Accuracy of a user's list where popularity is taken into account: one value per user."""
CATALOGUE: Final[Mapping[str, CatalogueMetric]] = {"coverage": beyond.coverage, "gini": beyond.gini}
"""Spread of all lists over the catalogue: one value for all users."""
EXPOSURE: Final = ("novelty", "average_popularity")
"""Popularity of what a user's list holds: one value per user."""
DIVERSITY: Final = ("diversity",)
"""How different the items of a user's list are, which takes vectors of the items: one value per user."""
RATING: Final = ("rmse", "mae")
"""Error of predicted ratings: no list and no cut-off."""

_KINDS: Final = (*RANKING, *BESIDE_POPULARITY, *CATALOGUE, *EXPOSURE, *DIVERSITY, *RATING)
_LOWER_IS_BETTER: Final = frozenset({"rmse", "mae", "gini", "average_popularity"})


def parse(name: str) -> tuple[str, int | None]:
    """Return a metric's kind and cut-off: `ndcg@10` is `("ndcg", 10)`, `rmse` is `("rmse", None)`.

    Raises:
        ConfigError: no such metric, a cut-off that is missing or not a positive integer, or one that has no meaning.
    """
    kind, at, cut = name.partition("@")
    if kind not in _KINDS:
        known = [other if other in RATING else f"{other}{at}{cut}" for other in _KINDS]
        raise ConfigError(f"unknown metric {name!r}{did_you_mean(name, known)}")
    if kind in RATING:
        if at:
            raise ConfigError(f"{kind} has no cut-off, got {name!r}; write {kind!r}")
        return kind, None
    if not (cut.isascii() and cut.isdigit() and not cut.startswith("0")):
        raise ConfigError(
            f"{kind} needs a positive whole number as cut-off, got {name!r}; write for instance '{kind}@10'"
        )
    return kind, int(cut)


def higher_is_better(name: str) -> bool:
    """Return the direction of a metric: False for errors, and for the concentration and popularity of what is shown.

    Raises:
        ConfigError: no such metric.
    """
    return parse(name)[0] not in _LOWER_IS_BETTER
