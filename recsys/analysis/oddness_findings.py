"""The section of odd users and items."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.oddness import LENGTH, anomalies, odd_entries, odd_items
from recsys.columns import ITEM, USER
from recsys.interactions import Interactions
from recsys.report import charts
from recsys.report.charts import Caption
from recsys.report.markup import Markup, note, number, table

LEVEL: Final = 0.05
_MOST: Final = 20_000
"""Users scored at most; of more, so many are drawn."""
_SHOWN: Final = 10
_BINS: Final = 10


def findings(subject: Subject) -> Findings:
    """Return which training users and items the model explains worst.

    Raises:
        DataError: fewer than 80 training users have entries, or fewer than 20 items have 5 users.
    """
    data = _drawn(subject)
    users = anomalies(subject.model, data, level=LEVEL, seed=subject.seed)
    items = odd_items(subject.model, data, seed=subject.seed)
    shown = users.head(_SHOWN)
    entries = odd_entries(subject.model, data.take_users(data.users.codes(shown[USER])), seed=subject.seed)
    flagged = int(users["flagged"].sum())
    tables = {"odd_users": users, "odd_entries": entries, "odd_items": items}
    figures: dict[str, float] = {}
    beside: tuple[Markup, ...] = ()
    if subject.model.capabilities.generates and not subject.model.why_no_prior():
        unlikely = anomalies(subject.model, data, error="density", level=LEVEL, seed=subject.seed)
        tables["unlikely_users"] = unlikely
        beside = (_of_density(unlikely, users, figures),)
    raw, rest = (float(users[name].corr(users[LENGTH], method="spearman")) for name in ("error", "z"))
    shares = np.histogram(users["p"], bins=_BINS, range=(0.0, 1.0))[0] / len(users)
    summary = (
        f"{flagged:,} of {len(users):,} users are odder than chance explains, at a false share of {LEVEL:.0%}. The "
        f"rank correlation of errors with the lengths of histories is {raw:.2f}, and {rest:.2f} of what is compared."
    )
    figures |= {"flagged": flagged, "flagged_share": flagged / len(users), "length_correlation": rest}
    return Findings(
        title="Odd users and items",
        summary=summary,
        tables=tables,
        metrics={f"anomalies_{name}": float(value) for name, value in figures.items()},
        content=(
            note(
                "A user is odd where the model explains the history worse than those of other users of that length. "
                "Users are held against each other, each half against the other: p is the share of them that are at "
                "least as odd, q the share of normal users in the list that ends here. A user may be odd by an "
                "unusual taste alone."
            ),
            _of_users(shown, entries),
            charts.bars(
                Caption(
                    "Are the p-values spread evenly?",
                    "p-value",
                    "users",
                    "Where all users are normal, each tenth of the p-values holds a tenth of the users.",
                ),
                [f"{place / _BINS:g}–{(place + 1) / _BINS:g}" if not place % 3 else "" for place in range(_BINS)],
                {"users": shares},
                percent=True,
            ),
            *beside,
            note("Items are held against items of as many users; those below are explained worst for that."),
            _of_items(items.head(_SHOWN)),
        ),
    )


def _of_density(unlikely: pd.DataFrame, users: pd.DataFrame, figures: dict[str, float]) -> Markup:
    """Return how the users whose whole history is unlikely agree with the odd ones; the figures go to `figures`."""
    agreement = float(unlikely.set_index(USER)["z"].corr(users.set_index(USER)["z"], method="spearman"))
    first = max(1, round(LEVEL * len(users)))
    shared = len(set(unlikely[USER].head(first)) & set(users[USER].head(first))) / first
    figures |= {"density_correlation": agreement, "density_flagged": int(unlikely["flagged"].sum())}
    return note(
        f"By the density of whole histories, log p(x), {int(unlikely['flagged'].sum()):,} users are flagged. Its rank "
        f"correlation with the errors above is {agreement:.2f}, and {shared:.0%} of the oddest {first:,} users are the "
        "same (table unlikely_users)."
    )


def _drawn(subject: Subject) -> Interactions:
    data = subject.train
    some = np.flatnonzero(np.diff(data.matrix.indptr))
    if len(some) > _MOST:
        some = np.sort(np.random.default_rng(subject.seed).choice(some, _MOST, replace=False))
    return data.take_users(some)


def _of_users(users: pd.DataFrame, entries: pd.DataFrame) -> Markup:
    name = "title" if "title" in entries else ITEM
    rows = []
    figures = users[[LENGTH, "error", "z", "p", "q"]].to_numpy(np.float64).tolist()
    for user, (length, error, z, p, q) in zip(users[USER], figures, strict=True):
        own = entries.loc[entries[USER] == user, name].head(3)
        cells = f"{length:,.0f}", number(error), f"{z:.1f}", f"{p:.4f}", f"{q:.3f}"
        rows.append([str(user), *cells, "; ".join(map(str, own))])
    heads = ["user", "items", "error", "z", "p", "q", "worst explained"]
    return table("odd users", heads, rows, numbers=range(1, 6))


def _of_items(items: pd.DataFrame) -> Markup:
    name = "title" if "title" in items else ITEM
    rows = [
        [str(own), f"{users:,}", number(error), f"{z:.1f}"]
        for own, users, error, z in zip(items[name], items["users"], items["error"], items["z"], strict=True)
    ]
    return table("odd items", ["item", "users", "error", "z"], rows, numbers=(1, 2, 3))
