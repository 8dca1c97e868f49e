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
SOURCE: Final = "source"
"""Column that says what a user's scores rest on: one of the values below."""
SIMILAR_ITEM: Final = "similar_item_id"
SIMILAR_USER: Final = "similar_user_id"
HISTORY_ITEM: Final = "history_item_id"
"""Column of the items of a history, beside an item that they speak for or against."""

LEARNED: Final = "learned"
"""Source: what training learned of the user."""
HISTORY: Final = "history"
"""Source: the user's history."""
POPULARITY: Final = "popularity"
"""Source: neither, so that the list is of the most popular items."""
NOTHING: Final = "nothing"
"""Source where users are ranked: neither, so that the score is that of an empty history."""

RECOMMENDATIONS: Final = (USER, ITEM, SCORE, RANK)
"""Columns of every table of recommendations; `rank` counts from 1."""
