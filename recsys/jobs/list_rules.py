"""The rules of a job: from a file and the options beside it, with the table of items that they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from recsys.columns import ITEM
from recsys.config import DataConfig
from recsys.errors import ConfigError
from recsys.features import described_items
from recsys.interactions import Interactions
from recsys.jobs.arrivals import described
from recsys.models import Recommender
from recsys.rules import Rules, check_table, costs, table_of
from recsys.rules.declared import FILE
from recsys.splits import Split


def rules_of(file: Path | None, allow: Path | None = None, exclude: Path | None = None) -> Rules | None:
    """Return the rules of a TOML file and of lists of ids; None where none is given.

    Raises:
        ConfigError: the file cannot be read or holds no rules, or says itself what one of the lists says.
    """
    rules = Rules() if file is None else Rules.read(file)
    for name, ids in (("allow", allow), ("exclude", exclude)):
        if ids is None:
            continue
        if getattr(rules, name) is not None:
            raise ConfigError(f"{file} says what to {name}, and --{name} does too; leave out one of the two")
        changes: dict[str, Any] = {name: {FILE: str(ids)}}
        rules = replace(rules, **changes)
    return rules or None


def costs_of(model: Recommender, split: Split, rules: Rules | None, items: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return what each rule costs and gives on the test part; None without rules."""
    return costs(model, split.test, rules, items, popularity=split.train) if rules else None


def items_for(
    rules: Rules | None,
    given: pd.DataFrame | None,
    section: DataConfig,
    data: Interactions | None = None,
    *,
    new: pd.DataFrame | None = None,
) -> pd.DataFrame | None:
    """Return the table of items that rules read; None where they read no column, or where the data are to say it.

    It is that of the option, of the rules, of `[data] items`, or what the data say of their items, in this order.

    Args:
        new: further items, of which the rules read the same columns.

    Raises:
        ConfigError: the rules read columns and there is no table.
        DataError: it cannot be read, or lacks a column.
    """
    if not rules or not rules.columns:
        return None
    table = table_of(given, rules.items)
    if table is None and (named := section.item_table()) is not None:
        table, column = named
        table = table if ITEM in table else table.rename(columns={column: ITEM})
    if table is None and data is not None and data.item_columns:
        table = described_items(data)
    if table is not None and (both := described((table, ITEM), new)) is not None:
        table, _ = both
    check_table(rules, table)
    return table
