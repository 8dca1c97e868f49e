"""Names of columns in frames that enter and leave the package, unless a caller names others."""

from typing import Final

USER: Final = "user_id"
ITEM: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
SCORE: Final = "score"
RANK: Final = "rank"
TITLE: Final = "title"
CONTRIBUTION: Final = "contribution"
REASONS: Final = "reasons"
"""Column of lists: the items of the history that speak for a recommended item, the strongest first."""

RECOMMENDATIONS: Final = (USER, ITEM, SCORE, RANK)
"""Columns of every table of recommendations; `rank` counts from 1."""
