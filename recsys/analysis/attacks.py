"""Profiles of attackers and crawlers, to plant among real users: what a detector is tested against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from annotated_types import Gt, Le

from recsys.errors import DataError, OutOfRangeError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.params import Count, Natural, check_value, random_generator

AttackKind = Literal["random", "average", "bandwagon", "segment", "crawler"]
ATTACKS: Final[tuple[AttackKind, ...]] = get_args(AttackKind)
"""The kinds that `plant_attack` knows."""
_CRAWLED: Final = 0.99
"""Quantile of the lengths of histories from which those of crawlers begin."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Interactions with planted users after the real ones."""

    interactions: Interactions
    """The real users in their order, then the planted ones, whose ids follow those of the data; values are 1."""
    planted: npt.NDArray[np.bool_]
    """(n_users,) True for the planted users."""
    target: int | None
    """Column of the item that the attackers push; None for crawlers."""


def plant_attack(
    data: Interactions,
    kind: AttackKind,
    share: Annotated[float, Gt(0), Le(1)] = 0.01,
    *,
    target: int | None = None,
    selected: Count = 10,
    seed: int | np.random.Generator | None = 0,
) -> Planted:
    """Add users with the profiles of a shilling attack (Mobasher et al. 2007, §2), or of crawlers.

    A profile of the paper holds ratings of a target item, of selected items and of filler items. Here it is a set of
    items, since an implicit entry has no rating to choose: what pushes is that the target is in it. So the attacks
    become:

    - `random`: the target, and fillers drawn from all items alike;
    - `average`: the target, and fillers drawn in proportion to their number of users. In the paper a filler's rating is
      the item's mean; the mean of an implicit item is its share of users;
    - `bandwagon`: the target, the `selected` most popular items, and fillers as in `random`;
    - `segment`: the target, the `selected` items most similar to it (cosine of their users), which are what its segment
      likes, and fillers as in `random`;
    - `crawler`: no target; uniformly drawn items, as many as the longest 1 % of the real histories hold, up to
      three times the longest of all, or all items.

    A profile of an attack is as long as the history of a real user drawn at random, but no shorter than the target and
    the selected items, so that its length says little.

    Args:
        share: planted users as a share of the real ones; at least one is planted.
        target: column of the pushed item; by default one drawn from the less popular half of the items that have users.
        selected: popular items of a bandwagon, or items of a segment.

    Raises:
        ConfigError: unknown kind, or a share or number out of range.
        OutOfRangeError: no such target.
        DataError: no entries, more selected items than there are, or ids of users that are neither numbers nor text.
    """
    check_value("kind", AttackKind, kind)
    share = check_value("share", Annotated[float, Gt(0), Le(1)], share)
    selected = check_value("selected", Count, selected)
    rng = random_generator(seed)
    popularity = np.bincount(data.matrix.indices, minlength=data.shape[1])
    if not data.nnz:
        raise DataError("there is no history to take lengths from: plant among interactions that hold some")
    pushed = None if kind == "crawler" else _target(popularity, target, rng)
    chosen = [] if pushed is None else [pushed, *_selected(data.matrix, kind, pushed, selected, popularity)]
    lengths = _lengths(np.diff(data.matrix.indptr), kind, max(1, round(share * data.shape[0])), rng)
    weights = popularity.astype(np.float64) if kind == "average" else np.ones(len(popularity))
    weights[chosen] = 0.0
    profiles = [[*chosen, *_drawn(weights, max(0, length - len(chosen)), rng)] for length in lengths]
    return Planted(_together(data, profiles), np.arange(data.shape[0] + len(profiles)) >= data.shape[0], pushed)


def _target(popularity: npt.NDArray[np.int64], target: int | None, rng: np.random.Generator) -> int:
    if target is None:
        used = np.flatnonzero(popularity)
        return int(rng.choice(used[popularity[used] <= np.median(popularity[used])]))
    at = int(check_value("target", Natural, target))
    if at >= len(popularity):
        raise OutOfRangeError(f"target must be the column of an item, 0 to {len(popularity) - 1}, got {at}")
    return at


def _selected(
    matrix: sp.csr_matrix, kind: AttackKind, target: int, n: int, popularity: npt.NDArray[np.int64]
) -> list[int]:
    """Return what every profile of the kind holds beside the target."""
    if kind not in ("bandwagon", "segment"):
        return []
    if n >= matrix.shape[1]:
        raise DataError(f"selected must be below the number of items ({matrix.shape[1]}), got {n}")
    closeness = popularity.astype(np.float64)
    if kind == "segment":
        has = sp.csc_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape[::-1])
        closeness = np.asarray((has @ has[[target]].T).todense()).ravel() / np.sqrt(np.maximum(popularity, 1))
    closeness[target] = -1.0
    return [int(item) for item in np.argsort(-closeness, kind="stable")[:n]]


def _lengths(lengths: npt.NDArray[Any], kind: AttackKind, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    lengths = lengths[lengths > 0]
    if kind == "crawler":
        return rng.integers(int(np.quantile(lengths, _CRAWLED)), 3 * int(lengths.max()), size=n, endpoint=True)
    return rng.choice(lengths, size=n).astype(np.int64)


def _drawn(weights: npt.NDArray[np.float64], n: int, rng: np.random.Generator) -> list[int]:
    """Return up to n distinct items of weight above 0, drawn by the n smallest of Exp(1) / weight."""
    able = np.flatnonzero(weights)
    keys = rng.exponential(size=len(able)) / weights[able]
    return [int(item) for item in able[np.argsort(keys)[:n]]]


def _together(data: Interactions, profiles: list[list[int]]) -> Interactions:
    """Return binary interactions of the users of the data and of new ones."""
    users, n = data.users.ids(), len(profiles)
    if data.users.kind == "int":
        new = np.arange(n) + users.max().item() + 1
        ids = [*users.tolist(), *new.tolist()]
    elif data.users.kind == "str":
        ids = [*users.tolist(), *(f"planted-{number}" for number in range(n))]
    else:
        raise DataError("planted users need ids: those of the data must be whole numbers or text")
    columns = np.concatenate([np.sort(profile) for profile in profiles])
    indptr = np.append(0, np.cumsum([len(profile) for profile in profiles]))
    added = sp.csr_matrix((np.ones(len(columns), np.float32), columns, indptr), shape=(n, data.shape[1]))
    matrix = sp.vstack([data.binarized().matrix, added]).tocsr()
    return Interactions(matrix, IdMap(pd.Index(ids)), data.items, titles=data.titles, item_columns=data.item_columns)
