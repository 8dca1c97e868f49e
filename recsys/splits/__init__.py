"""Splits of `Interactions` into training, validation and test parts, and a registry of the functions that make them."""

from recsys.splits.parts import Part, Split, by_entries, count_shared
from recsys.splits.registry import SPLITTERS, check_together, checked, options_of_kind, register, splitter_of
from recsys.splits.splitters import by_time, cold_items, given, hold_out_ratings, hold_out_users, leave_last_out

__all__ = [
    "SPLITTERS",
    "Part",
    "Split",
    "by_entries",
    "by_time",
    "check_together",
    "checked",
    "cold_items",
    "count_shared",
    "given",
    "hold_out_ratings",
    "hold_out_users",
    "leave_last_out",
    "options_of_kind",
    "register",
    "splitter_of",
]
