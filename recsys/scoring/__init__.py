"""Lists for many users or items: recommendations as files, and every verb of a model as a frame with external ids."""

from recsys.scoring.frames import explain_frame, recommend_users_frame, similar_items_frame, similar_users_frame
from recsys.scoring.local import ScoringResult, recommend_frame, score
from recsys.scoring.output import check_output
from recsys.scoring.spark import score_spark
from recsys.scoring.tables import TableReading

__all__ = [
    "ScoringResult",
    "TableReading",
    "check_output",
    "explain_frame",
    "recommend_frame",
    "recommend_users_frame",
    "score",
    "score_spark",
    "similar_items_frame",
    "similar_users_frame",
]
