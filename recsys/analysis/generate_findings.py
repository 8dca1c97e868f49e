"""The section of a page with generated users: how real, how useful and how near to training users they are."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.generate import sample_users
from recsys.analysis.realism import (
    bootstrapped_users,
    compare_with_copies,
    held_out_users,
    independent_users,
    memorization,
)
from recsys.interactions import Interactions
from recsys.report import charts
from recsys.report.markup import Markup, note, number, percentage, table, tag

_USERS: Final = 5_000
"""Users of each source at most."""
_SHOWN: Final = 3
_LISTED: Final = 8
_LONGEST: Final = 60
_QUANTILES: Final = np.linspace(0.05, 0.95, 19)


def findings(subject: Subject) -> Findings:
    """Draw users from the prior, and hold them beside users without taste and copies of real ones."""
    train, test, seed = subject.train, subject.split.test, subject.seed
    n = min(_USERS, train.shape[0])
    generated = sample_users(subject.model, n, seed)
    sources = {
        "model": generated,
        "popularity": independent_users(train, n, seed),
        "copies of real users": bootstrapped_users(train, n, seed),
    }
    frame, near = compare_with_copies(sources, train, test, seed=seed)
    own, plain = (frame[frame["source"] == name].iloc[0] for name in ("model", "popularity"))
    summary = (
        f"Of {n:,} users drawn from the prior, EASE learns {percentage(float(own['ease_share']))} of what as many real "
        f"users teach (users without taste: {percentage(float(plain['ease_share']))}); a classifier tells them from "
        f"held-out users with an AUC of {number(float(own['auc_components']))} (0.5 is chance), and "
        f"{percentage(float(own['flagged']))} come nearer to a training user than 99% of held-out users do."
    )
    metrics = {
        f"generate_{name}": float(own[name])
        for name in ("popularity", "pairs", "auc_items", "auc_components", "ease_share", "flagged", "distance")
    }
    real = held_out_users(test, train)
    beside = {**near, "held-out users": memorization(real, train, real)}
    return Findings(
        title="Generated users",
        summary=summary,
        tables={"generated": generated.to_frame(), "generators": frame, "memorization": near["model"]},
        metrics=metrics,
        content=_content(frame, beside, generated),
    )


def _content(frame: pd.DataFrame, near: dict[str, pd.DataFrame], generated: Interactions) -> list[Markup]:
    heads = ("source", "popularity", "pairs", "items per user", "AUC items", "AUC together", "EASE", "too near")
    rows = [
        (
            str(row["source"]),
            number(row["popularity"]),
            number(row["pairs"]),
            f"{row['length']:.1f}",
            number(row["auc_items"]),
            number(row["auc_components"]),
            percentage(row["ease_share"]),
            percentage(row["flagged"]),
        )
        for row in frame.to_dict("records")
    ]
    distances = {
        name: np.quantile(found["distance"].dropna(), _QUANTILES)
        if found["distance"].notna().any()
        else np.full(19, np.nan)
        for name, found in near.items()
    }
    said = "; ".join(f"{name}: median {number(found[9])}" for name, found in distances.items())
    caption = charts.Caption("Distance to the nearest training user", "quantile of users", "1 − cosine", f"{said}.")
    chart = charts.curves(caption, _QUANTILES, distances)
    return [
        table("Generated users beside others", heads, rows, tuple(range(1, len(heads)))),
        note(
            "Popularity: correlation of the items' shares of users with those of held-out users; pairs: rank "
            "correlation of the lifts of pairs of the 100 most popular items with those in training. AUC: of "
            "classifiers that tell the source from held-out users, by single items and by how items go together. EASE: "
            "nDCG@10 of EASE trained on the source, as a share of that trained on as many real users. Too near: nearer "
            "to a training user than "
            "all but 1% of held-out users."
        ),
        tag("div", chart, class_="grid"),
        tag("h3", "Some of them"),
        tag("ul", [_described(generated, row) for row in range(min(_SHOWN, generated.shape[0]))]),
    ]


def _described(users: Interactions, row: int) -> Markup:
    items = users.matrix[row].indices
    popular = np.bincount(users.matrix.indices, minlength=users.shape[1])
    rarest = items[np.argsort(popular[items], kind="stable")][:_LISTED]
    titles = " · ".join(users.title(item)[:_LONGEST] for item in rarest.tolist())
    return tag("li", f"{users.users.ids([row])[0]}, {len(items)} items, of which the least popular: {titles}")
