"""Names of columns in frames that enter and leave the package, unless a caller names others."""

from typing import Final

USER: Final = "user_id"
ITEM: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
SCORE: Final = "score"
RANK: Final = "rank"
TITLE: Final = "title"

RECOMMENDATIONS: Final = (USER, ITEM, SCORE, RANK)
"""Columns of every table of recommendations; `rank` counts from 1."""
