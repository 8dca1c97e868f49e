"""Splits of `Interactions` into training, validation and test parts, and a registry of the functions that make them."""

from recsys.splits.parts import Part, Split, by_entries, count_shared
from recsys.splits.splitters import (
    SPLITTERS,
    by_time,
    given,
    hold_out_ratings,
    hold_out_users,
    leave_last_out,
    options_of_kind,
    register,
    splitter_of,
)

__all__ = [
    "SPLITTERS",
    "Part",
    "Split",
    "by_entries",
    "by_time",
    "count_shared",
    "given",
    "hold_out_ratings",
    "hold_out_users",
    "leave_last_out",
    "options_of_kind",
    "register",
    "splitter_of",
]
