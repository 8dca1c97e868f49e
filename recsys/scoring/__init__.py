"""Batch scoring: recommendations for many users, as files or as a frame."""

from recsys.scoring.local import ScoringResult, recommend_frame, score
from recsys.scoring.output import check_output

__all__ = ["ScoringResult", "check_output", "recommend_frame", "score"]
