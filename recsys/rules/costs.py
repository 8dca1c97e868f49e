"""What rules cost and give: the metrics of a part, step by step, as the rules are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation import evaluate
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.metrics import of
from recsys.models import Recommender
from recsys.params import check_count
from recsys.rules.bound import BoundRules, bind, shares_of
from recsys.rules.declared import Rules
from recsys.rules.ruled import Ruled
from recsys.splits import Part

STEP, ITEMS = "rules", "items"
WITHOUT = "none"
"""The first step: the model's own lists."""
_CELL: Final = 17


def costs(
    model: Recommender,
    part: Part,
    rules: Rules,
    items: Any = None,
    *,
    k: int = 10,
    metrics: Sequence[str] = ("ndcg", "coverage", "novelty", "diversity"),
    popularity: Interactions | None = None,
    item_vectors: Any = None,
) -> pd.DataFrame:
    """Return what each rule costs in accuracy, and gives in coverage, novelty and diversity.

    Args:
        part: held-out users with the model's items, such as `split.test`.
        items: a table of items for the columns that the rules read, as in `bind`.
        k: length of the lists.
        metrics: names of list metrics without cut-off (see `recsys.metrics`).
        popularity: as in `recsys.evaluate`; by default what the users of the part have seen.
        item_vectors: (n_items, d) of `diversity`, as in `recsys.evaluate`; by default the model's own, of a model
            without any the shares of values in the column of `calibration`, or in the first of `at_most`; without these
            there is no diversity in the table.

    Returns:
        A row per step: `rules` (`none`, then `+ allow`, `+ exclude` and so on: the rules up to this one), `items` that
        may be recommended, and the metrics such as `ndcg@10`. Targets that the rules forbid count as missed.

    Raises:
        ConfigError: no rules, an unknown metric, or as `bind`.
        DataError: not a part, or as `bind`.
    """
    k = check_count("k", k)
    if not isinstance(part, Part):
        raise DataError(f"expected one part of a split, such as split.test, got {type(part).__name__}")
    if not rules:
        raise ConfigError("there are no rules to measure; give one, such as Rules(at_most={'brand': 2})")
    vectors = _vectors(model, rules, items) if item_vectors is None else item_vectors
    asked = [name for name in metrics if vectors is not None or not of(f"{name}@{k}").needs_item_vectors]
    names = [f"{name}@{k}" for name in asked]
    seen = part.context if part.seen is None else part.seen
    if popularity is None:
        popularity = Interactions(
            seen, part.users, IdMap(range(seen.shape[1])) if model.items_ is None else model.items_
        )
    rows = []
    for step, grown in {WITHOUT: None, **rules.steps()}.items():
        bound = None if grown is None else bind(grown, items, model.items_)
        measured = evaluate(
            model if bound is None else Ruled(model, bound),
            part if bound is None else hidden_from(part, bound),
            names,
            popularity=popularity,
            item_vectors=vectors,
        )
        allowed = seen.shape[1] if bound is None else bound.n_allowed
        rows.append({STEP: step if bound is None else f"+ {step}", ITEMS: allowed, **measured.values})
    return pd.DataFrame(rows)


def hidden_from(part: Part, rules: BoundRules) -> Part:
    """Return the part with the pairs of `exclude_pairs` among what its users have seen."""
    if rules.hidden is None:
        return part
    seen = rules.hide(part.users, part.context if part.seen is None else part.seen)
    return replace(part, seen=seen, allow_overlap=True)


def in_words(frame: pd.DataFrame) -> str:
    """Return the table of `costs` as text, with the difference of each value from that without rules."""
    names = [str(name) for name in frame if name not in (STEP, ITEMS)]
    width = max(len(str(step)) for step in frame[STEP])
    lines = [f"{'rules':<{width}}  {'items':>9}" + "".join(f"  {name:>{_CELL}}" for name in names)]
    first = frame.iloc[0]
    for place, row in enumerate(frame.to_dict("records")):
        values = [f"{row[name]:.4f}" + (f" ({row[name] - first[name]:+.4f})" if place else "") for name in names]
        cells = "".join(f"  {value:>{_CELL}}" for value in values)
        lines.append(f"{row[STEP]:<{width}}  {row[ITEMS]:>9,}{cells}")
    return "\n".join(lines)


def _vectors(model: Recommender, rules: Rules, items: Any) -> Any:
    """Return the model's vectors of items, or the values that the rules read; None where there are neither."""
    try:
        return np.asarray(model.item_vectors())
    except UnsupportedError:
        return None if model.items_ is None else shares_of(rules, items, model.items_)
