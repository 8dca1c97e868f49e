"""What a fitted model says beyond recommendations: functions of a model and interactions that return frames."""

from recsys.analysis.findings import Analysis, Findings, Subject
from recsys.analysis.intrinsic import intrinsic_dimension
from recsys.analysis.map import map
from recsys.analysis.reduction import reduction
from recsys.analysis.registry import ANALYSES
from recsys.analysis.walk import walk

__all__ = ["ANALYSES", "Analysis", "Findings", "Subject", "intrinsic_dimension", "map", "reduction", "walk"]
