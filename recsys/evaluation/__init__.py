"""How good a model is: one pass of top-N lists over held-out users, tables, intervals, comparisons and breakdowns."""

from recsys.evaluation.breakdown import activity_groups, cold_user_curve
from recsys.evaluation.comparison import Comparison, compare, holm, intervals
from recsys.evaluation.measure import DEFAULT, Ranker, Validation, evaluate, relevant_entries, top_lists
from recsys.evaluation.permutation import p_in_words
from recsys.evaluation.results import RATINGS, Evaluation, along_k, formatted, table

__all__ = [
    "DEFAULT",
    "RATINGS",
    "Comparison",
    "Evaluation",
    "Ranker",
    "Validation",
    "activity_groups",
    "along_k",
    "cold_user_curve",
    "compare",
    "evaluate",
    "formatted",
    "holm",
    "intervals",
    "p_in_words",
    "relevant_entries",
    "table",
    "top_lists",
]
