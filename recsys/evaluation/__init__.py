"""How good a model is: one pass of top-N lists over held-out users, tables, intervals, comparisons and breakdowns."""

from recsys.evaluation.breakdown import activity_groups, cold_user_curve
from recsys.evaluation.comparison import Comparison, compare, intervals
from recsys.evaluation.lists import Ranker, relevant_entries, top_lists
from recsys.evaluation.measure import DEFAULT, evaluate
from recsys.evaluation.resampling import holm
from recsys.evaluation.results import RATINGS, Evaluation
from recsys.evaluation.tables import along_k, formatted, table
from recsys.evaluation.validation import Validation

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
    "relevant_entries",
    "table",
    "top_lists",
]
