"""How far data and lists have moved since the champion was trained, and when that is worth a warning."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.models import Recommender


@dataclass(frozen=True)
class Limits:
    """Where a measure of drift becomes a warning; each lies in 0..1."""

    new_users: float = 0.3
    """Share of the users whom the champion was not trained on: above it."""
    new_items: float = 0.1
    """Share of the interactions with items that the champion does not know, and so never recommends: above it."""
    popularity: float = 0.2
    """Total variation distance of the items' popularity: above it."""
    overlap: float = 0.3
    """Share of a user's last list that is in tonight's, on average: below it."""
    scores: float = 0.2
    """Kolmogorov-Smirnov distance of the scores at rank 1: above it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ConfigError(f"drift.{field.name} must lie in 0..1, got {getattr(self, field.name)}")


def data_drift(model: Recommender, data: Interactions) -> dict[str, float]:
    """Return `new_users`, `new_items` and `popularity` of the data against those that the model was trained on.

    `popularity` is ½ Σ_i |p_i − q_i|, with p and q each item's share of all interactions then and now, over the items
    of both; 0 is the same popularity, 1 no item in common. Users that were held out when the model was trained are not
    new: as many of those whom it does not know are left out as its data had beside its training users.

    Raises:
        DataError: the model does not know its ids.
    """
    if model.users_ is None or model.items_ is None:
        raise DataError(f"this {type(model).__name__} does not know its ids; fit it on Interactions")
    codes = model.items_.codes(data.items.ids(), on_unknown="mark")
    counts = np.bincount(data.matrix.indices, minlength=len(data.items)).astype(np.float64)
    now = counts / max(1.0, counts.sum())
    before = model.popularity_.astype(np.float64)
    before = before / max(before.sum(), 1e-12)
    known = codes >= 0
    there = np.zeros(len(before))
    there[codes[known]] = now[known]
    unknown = int((model.users_.codes(data.users.ids(), on_unknown="mark") < 0).sum())
    held_out = int(dict(model.about_).get("data", {}).get("users", len(model.users_))) - len(model.users_)
    return {
        "new_users": max(0, unknown - held_out) / max(1, len(data.users)),
        "new_items": float(now[~known].sum()),
        "popularity": float(0.5 * (np.abs(before - there).sum() + now[~known].sum())),
    }


def list_drift(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    """Return `overlap` and `scores` of two tables of lists (`user_id, item_id, score, rank`), over the users of both.

    `overlap` is the mean over users of the share of the earlier list that the later one holds too; `scores` is the
    largest distance between the distributions of the scores at rank 1 (Kolmogorov-Smirnov). Without a common user both
    are NaN.
    """
    shared = np.intersect1d(before[USER].unique(), now[USER].unique())
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
    """Return one sentence for each measure beyond its limit."""
    said = {
        "new_users": "{:.1%} of the users are new since the champion was trained (limit {:.1%})",
        "new_items": "{:.1%} of the interactions are with items that the champion does not know (limit {:.1%})",
        "popularity": "the items' popularity has moved by {:.3f} (limit {:.3f})",
        "overlap": "only {:.1%} of the last lists are in tonight's (limit {:.1%})",
        "scores": "the scores at rank 1 have moved by {:.3f} (limit {:.3f})",
    }
    found = []
    for name, value in measured.items():
        limit = getattr(limits, name)
        if value < limit if name == "overlap" else value > limit:
            found.append(said[name].format(value, limit))
    return found
