"""Business rules for lists: what may be recommended, how many of a kind, how diverse or calibrated a list is."""

from recsys.rules.bound import BoundRules, bind, check_table, table_of
from recsys.rules.costs import costs, hidden_from, in_words
from recsys.rules.declared import RULES, Rules
from recsys.rules.predicates import Predicate
from recsys.rules.ruled import Ruled

__all__ = [
    "RULES",
    "BoundRules",
    "Predicate",
    "Ruled",
    "Rules",
    "bind",
    "check_table",
    "costs",
    "hidden_from",
    "in_words",
    "table_of",
]
