"""Batch scoring: recommendations for many users, as files or as a frame."""

from recsys.scoring.local import ScoringResult, recommend_frame, score
from recsys.scoring.output import check_output
from recsys.scoring.spark import score_spark
from recsys.scoring.tables import TableReading

__all__ = ["ScoringResult", "TableReading", "check_output", "recommend_frame", "score", "score_spark"]
