"""How far data and lists have drifted since the champion was trained, and when that is worth a warning."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import ConfigDict

from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.stored import known_users, number_in, part_of
from recsys.params import Fraction, check


@dataclass(frozen=True)
class Limits:
    """Limits beyond which drift is reported as a warning, each from 0 to 1.

    Raises:
        ConfigError: a limit out of range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    new_users: Fraction = 0.3
    """Warn above this share of users whom the champion was not trained on."""
    new_items: Fraction = 0.1
    """Warn above this share of interactions with items that the champion does not know and so never recommends."""
    popularity: Fraction = 0.2
    """Warn above this total variation distance between the popularity of items then and now."""
    overlap: Fraction = 0.3
    """Warn if on average less than this share of a user's last list is in the new one."""
    scores: Fraction = 0.2
    """Warn above this Kolmogorov-Smirnov distance between the scores at rank 1 then and now."""

    def __post_init__(self) -> None:
        check(Limits, vars(self))


def data_drift(model: Recommender, data: Interactions) -> dict[str, float]:
    """Return `new_users`, `new_items` and `popularity`: how the data differ from those that the model was trained on.

    `popularity` is ½ Σ_i |p_i − q_i|, where p and q are each item's share of all interactions then and now, over the
    items of both; 0 means the same popularity, 1 no item in common. Users who were held out when the model was trained
    are not new: their number is subtracted from that of unknown users. `new_users` is NaN if the model has
    kept no ids of users.

    Raises:
        DataError: the model does not know its ids.
    """
    if model.users_ is None or model.items_ is None:
        raise DataError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
    codes = model.items_.codes_of(data.items, "item")
    now = np.bincount(data.matrix.indices, minlength=len(data.items)) / max(1, data.nnz)
    before = model.popularity_.astype(np.float64)
    before = before / max(before.sum(), 1e-12)
    known = codes >= 0
    there = np.bincount(codes[known], now[known], len(before))
    distance = float(0.5 * (np.abs(before - there).sum() + now[~known].sum()))
    if known_users(model) is None:
        return {"new_users": math.nan, "new_items": float(now[~known].sum()), "popularity": distance}
    unknown = int((model.users_.codes_of(data.users, "user") < 0).sum())
    trained = number_in(part_of(model.about_, "data"), "users") or len(model.users_)
    held_out = int(trained) - len(model.users_)
    return {
        "new_users": max(0, unknown - held_out) / max(1, len(data.users)),
        "new_items": float(now[~known].sum()),
        "popularity": distance,
    }


def list_drift(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    """Return `overlap` and `scores`: how two tables of lists (`user_id, item_id, score, rank`) differ, on common users.

    `overlap` is the mean over users of the share of the earlier list that is also in the later one; `scores` is the
    Kolmogorov-Smirnov distance between the distributions of the scores at rank 1. Both are NaN without common users.
    """
    before, now = before.copy(), now.copy()
    for column in (USER, ITEM):  # of whatever types the ids are: what means the same is the same
        ids, before[column] = IdMap.factorize(before[column])
        now[column] = ids.codes(now[column], on_unknown="mark")
    shared = np.intersect1d(before[USER], now[USER])
    if not len(shared):
        return {"overlap": float("nan"), "scores": float("nan")}
    before, now = (frame[frame[USER].isin(shared)] for frame in (before, now))
    kept = before.merge(now[[USER, ITEM]], on=[USER, ITEM]).groupby(USER).size().reindex(shared, fill_value=0)
    lengths = before.groupby(USER).size().reindex(shared)
    one, other = (np.sort(frame.loc[frame[RANK] == 1, SCORE].to_numpy(dtype=np.float64)) for frame in (before, now))
    points = np.concatenate([one, other])
    shares = [np.searchsorted(values, points, side="right") / len(values) for values in (one, other)]
    return {"overlap": float((kept / lengths).mean()), "scores": float(np.abs(shares[0] - shares[1]).max())}


def warnings_of(measured: dict[str, float], limits: Limits) -> list[str]:
    """Return one sentence for each measure beyond its limit; a measure that is NaN is not reported."""
    sentences = {
        "new_users": "{:.1%} of the users are new since the champion was trained (limit {:.1%})",
        "new_items": "{:.1%} of the interactions are with items that the champion does not know (limit {:.1%})",
        "popularity": "the popularity of items has drifted by {:.3f} (limit {:.3f})",
        "overlap": "only {:.1%} of the items of the last lists are in the new ones (limit {:.1%})",
        "scores": "the scores at rank 1 have drifted by {:.3f} (limit {:.3f})",
    }
    warnings = []
    for name, value in measured.items():
        limit = getattr(limits, name)
        if value < limit if name == "overlap" else value > limit:
            warnings.append(sentences[name].format(value, limit))
    return warnings
