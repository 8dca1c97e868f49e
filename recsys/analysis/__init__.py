"""What a fitted model says beyond recommendations: functions of a model and interactions that return frames."""

from recsys.analysis.attacks import Planted, plant_attack
from recsys.analysis.density import compare_likelihoods, log_likelihood, popularity_likelihood
from recsys.analysis.findings import Analysis, Findings, Subject
from recsys.analysis.generate import complete_users, interpolate_users, sample_users
from recsys.analysis.intrinsic import intrinsic_dimension
from recsys.analysis.labels import labels
from recsys.analysis.map import map
from recsys.analysis.oddness import anomalies, odd_entries, odd_items
from recsys.analysis.realism import (
    bootstrapped_users,
    compare_generators,
    held_out_users,
    independent_users,
    length_fit,
    memorization,
    pair_fit,
    popularity_fit,
    train_on_generated,
    two_sample_test,
)
from recsys.analysis.reduction import reduction
from recsys.analysis.registry import ANALYSES
from recsys.analysis.representation import coverage, inverse_density_weights
from recsys.analysis.segments import Segments, segments
from recsys.analysis.walk import walk

__all__ = [
    "ANALYSES",
    "Analysis",
    "Findings",
    "Planted",
    "Segments",
    "Subject",
    "anomalies",
    "bootstrapped_users",
    "compare_generators",
    "compare_likelihoods",
    "complete_users",
    "coverage",
    "held_out_users",
    "independent_users",
    "interpolate_users",
    "intrinsic_dimension",
    "inverse_density_weights",
    "labels",
    "length_fit",
    "log_likelihood",
    "map",
    "memorization",
    "odd_entries",
    "odd_items",
    "pair_fit",
    "plant_attack",
    "popularity_fit",
    "popularity_likelihood",
    "reduction",
    "sample_users",
    "segments",
    "train_on_generated",
    "two_sample_test",
    "walk",
]
