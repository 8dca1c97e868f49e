"""New items of a job: a table of items that nobody has met, for a model that reads features of items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recsys.columns import ITEM
from recsys.config import DataConfig, JobConfig
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.described import Described
from recsys.splits import Part, Split

About = tuple[pd.DataFrame, str] | None
"""A table of items, and the name of its column of items."""


def arrivals(items: Path | None, section: DataConfig | None) -> pd.DataFrame | None:
    """Return a table of items with `item_id`, read as the data read theirs; None where no file is given.

    Raises:
        DataError: the table cannot be read, or lacks the column of items.
    """
    return None if items is None else (section or DataConfig()).items_in(str(items))


def reads_features(model: Recommender) -> bool:
    """Return whether a model takes new items from a table alone."""
    return all(getattr(part, "features_", None) is not None for part in model.members())


def with_arrivals(model: Recommender, table: pd.DataFrame | None, *, ruled: bool = False) -> Recommender:
    """Return a model with the new items of a table; as it is without one.

    Args:
        ruled: rules read the table too, so that it is of use to a model without features.

    Raises:
        ConfigError: the model reads no features, and there are no rules.
        DataError: the table lacks a column that the model reads.
    """
    if table is None:
        return model
    if reads_features(model):
        whole: Recommender = model.with_items(table)
        return whole
    if not ruled:
        raise ConfigError(
            "--items is a table for rules, or for a model with features of items (docs/new-items.md); there are no "
            f"rules, and this {type(model).__name__} reads none: leave it out, or train WithFeatures"
        )
    return model


def night_arrivals(job: JobConfig, data: Interactions) -> pd.DataFrame | None:
    """Return the new items of a night, `nightly.items`, refused where its own model could not take them; None without.

    Raises:
        ConfigError: the configuration's model reads no features.
        DataError: the table cannot be read, or lacks a column that the model will read.
    """
    if job.nightly.items is None:
        return None
    for part in job.new_model().members():
        if not isinstance(part, Described):
            raise ConfigError(
                f"nightly.items names new items, and {type(part).__name__} reads no features of items: set model.name "
                "to WithFeatures, with this model as its model (docs/new-items.md), or leave nightly.items out"
            )
        table = arrivals(Path(job.nightly.items), job.data)
        assert table is not None
        if missing := [name for name in part.columns or data.item_columns if name not in table]:
            raise DataError(
                f"the table of new items {job.nightly.items} has no column {missing[0]!r}, which the model reads of "
                f"items; its columns are {', '.join(map(str, table))}"
            )
    return table


def described(about: About, new: pd.DataFrame | None) -> About:
    """Return a table of items with new ones behind it; of an item in both, what is new counts."""
    if new is None or about is None:
        return about if new is None else (new, ITEM)
    table, column = about
    name = column if column in table else ITEM
    more = new.rename(columns={ITEM: name})
    kept = table[~table[name].astype(str).isin(more[name].astype(str))]
    if kept[name].dtype != more[name].dtype:  # integers beside text
        kept, more = (frame.assign(**{name: frame[name].astype(str)}) for frame in (kept, more))
    return pd.concat([kept, more], ignore_index=True), column


def on_catalog_of(model: Recommender, split: Split) -> Split:
    """Return a split with the items of a model that knows more: new items may be in lists, and nobody has them.

    A split of which the model does not know all items is returned as it is.
    """
    items = model.items_
    if items is None or items == split.train.items or (items.codes_of(split.train.items, "item") < 0).any():
        return split
    own, train = split.train.items, split.train

    def moved(part: Part) -> Part:
        context, target = (Interactions(one, part.users, own).histories(items) for one in (part.context, part.target))
        seen = None if part.seen is None else Interactions(part.seen, part.users, own).histories(items)
        among = None if part.candidates is None else items.codes_of(own, "item").astype(np.int64)[part.candidates]
        return Part(context, target, part.users, part.user_index, seen, part.allow_overlap, among)

    whole = Interactions(train.histories(items), train.users, items, titles=model.titles_)
    validation = None if split.validation is None else moved(split.validation)
    return Split(whole, validation, moved(split.test), split.first_test_time, split.allow_overlap, split.notes)
