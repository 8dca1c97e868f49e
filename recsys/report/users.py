"""Sections about users: how well groups of them are served, and examples."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.evaluation import Evaluation, activity_groups, intervals, relevant_entries, top_lists
from recsys.metrics import of
from recsys.report import charts
from recsys.report.markup import Markup, note, number, span, table, tag
from recsys.report.run import LISTED, Run
from recsys.splits import Part

EXAMPLES: Final = 10
"""Users shown with their history and recommendations."""
_HISTORY: Final = 15
"""Items shown of an example user's history."""


def activity(run: Run) -> list[Markup]:
    """The first metric by the length of the users' histories."""
    per_user = run.evaluation.per_user
    metric = next((name for name in run.metrics if name in per_user and per_user[name].notna().any()), None)
    if metric is None:
        return [note("No metric of the table has a value per user.")]
    frame = by_activity(run.evaluation, run.split.test, metric, run.resamples)
    rows = [
        (str(group).removesuffix(" items"), f"{users:,}", number(value), span(low, high))
        for group, users, value, low, high in frame.itertuples(index=False, name=None)
    ]
    title = f"{metric} by length of history"
    summary = "; ".join(f"{group} items: {value}" for group, _, value, _ in rows)
    caption = charts.Caption(title, "items in the user's history", of(metric).unit, f"{summary}.")
    values, low, high = frame[["value", "low", "high"]].to_numpy(np.float64).T
    chart = charts.bars(caption, [row[0] for row in rows], {metric: values}, intervals=(low, high))
    listed = table(title, ("items in history", "users", metric, "95% interval"), rows, (1, 2, 3))
    return [
        tag("div", chart, listed, class_="grid"),
        note(
            "Each group holds about a quarter of the users; users with histories of equal length stay together. "
            "Vertical bars are 95% bootstrap intervals."
        ),
    ]


def by_activity(evaluation: Evaluation, part: Part, metric: str, resamples: int) -> pd.DataFrame:
    """Return `group, users, value, low, high` of a metric for each group of `activity_groups` that has a value."""
    groups, one = activity_groups(part), evaluation.only([metric])
    known = one.per_user[metric].notna()
    frame = one.by(groups).rename(columns={"n": "users"}).query("users > 0")
    members = [one.per_user[known & (groups == group).to_numpy()] for group in frame["group"]]
    ends = pd.concat([intervals(Evaluation(users, one.summary), resamples=resamples) for users in members])
    frame = frame.assign(low=ends["low"].to_numpy(), high=ends["high"].to_numpy())
    return frame[["group", "users", "value", "low", "high"]]


def examples(run: Run) -> list[Markup]:
    """Users drawn at random, always the same ones: their history, their recommendations, and what was held out."""
    part = run.split.test
    relevant = relevant_entries(part.target, run.min_relevance)
    able = np.flatnonzero(np.diff(relevant.indptr))
    rows = np.sort(np.random.default_rng(0).choice(able, size=min(EXAMPLES, len(able)), replace=False))
    n = min(LISTED, relevant.shape[1])
    cards = [
        _card(run, row, top_lists(run.model, part, np.array([row]), n)[0], relevant[row], part.context[row])
        for row in rows.tolist()
    ]
    return [
        note(
            f"{len(rows)} of the {len(able):,} users with held-out items, drawn at random. A history shows up to "
            f"{_HISTORY} items, highest rated first, then most popular. ✓ marks a hit: a recommended item that was "
            "held out."
        ),
        tag("div", cards, class_="cards"),
    ]


def _card(run: Run, row: int, ids: npt.NDArray[np.integer], relevant: sp.csr_matrix, history: sp.csr_matrix) -> Markup:
    """Return one user's history and recommendations; ids below 0 fill up a list and are not shown."""
    ids = ids[ids >= 0]
    hits = np.isin(ids, relevant.indices)
    order = np.lexsort((-run.popularity[history.indices], -history.data))
    read = [tag("li", run.item(item), _details(run, item)) for item in history.indices[order[:_HISTORY]].tolist()]
    more = len(order) - len(read)
    mark = tag("b", "\N{NO-BREAK SPACE}✓", tag("span", " held out", class_="unseen"))
    recommended = [
        tag("li", run.item(item), mark if hit else None, _details(run, item), class_="hit" if hit else None)
        for item, hit in zip(ids.tolist(), hits.tolist(), strict=True)
    ]
    columns = [
        (tag("h4", f"History, {len(order):,} items"), tag("ul", read), note(f"and {more:,} more") if more else None),
        (tag("h4", "Recommended"), tag("ol", recommended)),
    ]
    return tag(
        "article",
        tag("h3", f"User {run.split.test.users.ids([row])[0]}"),
        note(f"{relevant.nnz:,} held out, {int(hits.sum())} of them in the first {len(ids)}"),
        tag("div", (tag("div", column) for column in columns), class_="two"),
        class_="card",
    )


def _details(run: Run, item: int) -> Markup | None:
    """Return the line under an item's title, if something else is known of it."""
    text = run.details(item)
    return tag("small", text) if text else None
