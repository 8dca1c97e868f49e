"""What a fitted model says beyond recommendations: functions of a model and interactions that return frames."""

from recsys.analysis.findings import Analysis, Findings, Subject
from recsys.analysis.registry import ANALYSES

__all__ = ["ANALYSES", "Analysis", "Findings", "Subject"]
