"""The rules of a job: from a file and the options beside it, with the table of items that they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from recsys.columns import ITEM
from recsys.config import DataConfig
from recsys.datasets import read_items
from recsys.errors import ConfigError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.rules import Rules, check_table, table_of
from recsys.rules.declared import FILE
from recsys.scoring.asked import described_items


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


def with_new_items(model: Recommender, items: Path | None) -> Recommender:
    """Return a model with the new items of a table, where it reads features of items; else as it is.

    Raises:
        DataError: the table cannot be read, or lacks a column.
    """
    return model.with_items(read_items(items)) if items is not None and reads_features(model) else model


def reads_features(model: Recommender) -> bool:
    """Return whether a model takes new items from a table alone."""
    return all(getattr(part, "features_", None) is not None for part in model.members())


def items_for(
    rules: Rules | None,
    given: Path | None,
    section: DataConfig,
    data: Interactions | None = None,
    *,
    taken: bool = False,
) -> pd.DataFrame | None:
    """Return the table of items that rules read; None where they read no column, or where the data are to say it.

    It is that of the option, of the rules, of `[data] items`, or what the data say of their items, in this order.

    Args:
        taken: the model has read what was given.

    Raises:
        ConfigError: the rules read columns and there is no table, or the option is given without rules.
        DataError: it cannot be read, or lacks a column.
    """
    if rules is None:
        if given is not None and not taken:
            raise ConfigError(
                "--items is a table for rules, or for a model with features of items (docs/new-items.md); there are no "
                "rules, and this model reads none: name rules with --rules"
            )
        return None
    if not rules.columns:
        return None
    table = table_of(given, rules.items)
    if table is None and (named := section.item_table()) is not None:
        table, column = named
        table = table if ITEM in table else table.rename(columns={column: ITEM})
    if table is None and data is not None and data.item_columns:
        table = described_items(data)
    check_table(rules, table)
    return table
