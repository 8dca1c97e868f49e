"""Column names, once.

Frames that enter and leave the package use these names unless a caller names others.
"""

from typing import Final

USER: Final = "user_id"
ITEM: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
SCORE: Final = "score"
RANK: Final = "rank"
TITLE: Final = "title"

RECOMMENDATIONS: Final = (USER, ITEM, SCORE, RANK)
"""The one shape of a table of recommendations; `rank` counts from 1."""
