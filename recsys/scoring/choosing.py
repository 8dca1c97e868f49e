"""Whom and what a call asks for, by external ids, and the data that it reads: matched with a model and checked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from recsys.errors import ConfigError, DataError, warn
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.matching import FEW_KNOWN, few_known
from recsys.models import Recommender
from recsys.scoring.kernel import Kernel, Rows, Source


def source_for(model: Recommender, histories: Interactions, seen: Interactions | None) -> Source:
    """Match the data with a model, and say where little of them is known.

    Raises:
        DataError: they are no Interactions, the model knows none of the items, or `seen` lacks a user.
    """
    for name, given in (("histories", histories), ("seen", seen)):
        if not isinstance(given, Interactions) and (given is not None or name == "histories"):
            raise DataError(
                f"{name} must be Interactions, which hold the ids, got {type(given).__name__}; "
                "build them of a table with Interactions.from_frame(...)"
            )
    source, items = Source(model, histories, seen), Kernel(model).items
    if warning := few_known(source.known(), histories.items, items):
        warn(warning)
    if seen is not None:  # the histories have said if few items are known, and others need no mask
        few_known(source.known_seen(), seen.items, items)
    if warning := few_trained(model, source):
        warn(warning)
    return source


def chosen(
    ids: IdMap, asked: Sequence[Hashable] | None, on_unknown: Literal["raise", "drop"], what: str, where: str
) -> Rows:
    """Return the codes of the users or items (`what`) asked for, in their order; all by default.

    Args:
        where: what those who are known are, for the message: `in the data`.

    Raises:
        UnknownIdError: an id is unknown and `on_unknown` is `raise`.
        DataError: an id is named twice.
        ConfigError: `on_unknown` is something else.
    """
    check_on_unknown(on_unknown)
    if asked is None:
        return np.arange(len(ids), dtype=np.int32)
    codes = ids.codes(asked, on_unknown=on_unknown)
    if 0 < len(codes) < FEW_KNOWN * len(asked):
        warn(f"only {len(codes):,} of the {len(asked):,} {what} asked for are {where}; the others are left out")
    if repeats := len(codes) - len(np.unique(codes)):
        raise DataError(f"{what} must name each {what[:-1]} once, got {repeats} repeats")
    return codes


def check_on_unknown(on_unknown: str) -> None:
    """Refuse, by a ConfigError, what says nothing of users or items that are unknown."""
    if on_unknown not in ("raise", "drop"):
        raise ConfigError(f"on_unknown must be 'raise' or 'drop', got {on_unknown!r}")


def few_trained(model: Recommender, source: Source) -> str:
    """Return a warning where few users have vectors in a model of vectors; empty where enough do."""
    assert model.users_ is not None
    if not (model.capabilities.scores_known_users and model.capabilities.personal):
        return ""
    known, n_users = source.count_trained(), len(source.users)
    if known >= FEW_KNOWN * n_users:
        return ""
    first = next(iter(next(source.user_parts())))
    return (
        f"{type(model).__name__} was trained on {known:,} of these {n_users:,} users and takes the others for "
        f"strangers: their ids are like {first!r}, those of its users like {next(iter(model.users_))!r}"
    )
