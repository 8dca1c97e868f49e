"""What lists are asked for, and their rules in terms of a model's items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recsys.errors import ConfigError
from recsys.features import described_items
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.rules import BoundRules, Rules, bind


def bound_rules(
    model: Recommender, histories: Any, rules: Rules | BoundRules | None, items: Any = None
) -> BoundRules | None:
    """Return rules in terms of the model's items; None where there is no rule.

    Args:
        items: a table of items for the columns that the rules read: a frame, or a path. By default that of the file
            which the rules name, else what the histories say of their items.

    Raises:
        ConfigError: `rules` are none, or they read columns and there is no table.
        DataError: as `recsys.rules.bind`.
    """
    if rules is None or isinstance(rules, BoundRules):
        return rules
    if not isinstance(rules, Rules):
        raise ConfigError(f"rules must be recsys.Rules, got {type(rules).__name__}; make them by Rules(at_most=...)")
    if items is None and rules.items is None and isinstance(histories, Interactions) and histories.item_columns:
        items = described_items(histories)
    if not rules:
        return None
    model._check_fitted()
    return bind(rules, items, model.items_)


@dataclass(frozen=True)
class Asked:
    """What lists are asked for, as in `score`."""

    n: int
    exclude_seen: bool
    recall: float | None = None
    reasons: int | None = None
    rules: BoundRules | None = None
    titles: bool = False
