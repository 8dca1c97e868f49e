"""Batch scoring: recommendations for many users, as files or as a frame."""

from recsys.scoring.local import ScoringResult, recommend_frame, score

__all__ = ["ScoringResult", "recommend_frame", "score"]
