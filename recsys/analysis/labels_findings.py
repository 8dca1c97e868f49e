"""The section of a page about properties of users that histories tell."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import numpy as np
import pandas as pd

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.heads import check
from recsys.analysis.labels import Method, labels
from recsys.analysis.users import unknown_of, values_of
from recsys.errors import UnsupportedError
from recsys.report import charts
from recsys.report.markup import Markup, note, number, span, table, tag

MOST_VALUES: Final = 20
"""Different values of a column of users beyond which it is no class to predict."""
LEAST_USERS: Final = 20
"""Users whom a value needs to be predicted."""
MOST_COLUMNS: Final = 3
SHARES: Final = (0.01, 0.05, 0.2)
"""Of users with a label; `labels` itself goes up to all of them."""


def findings(subject: Subject) -> Findings:
    """Return how well the columns of users are predicted, by method and share of labeled users."""
    if subject.users is None:
        raise UnsupportedError("labels need columns of users, such as age and gender; give a table of users (--users)")
    methods = _methods(subject)
    tables: dict[str, pd.DataFrame] = {}
    notes: list[str] = []
    for name in subject.users.columns:
        values, said = _classes(subject, str(name))
        if values is not None and len(tables) < MOST_COLUMNS:
            tables[str(name)] = labels(
                subject.model, subject.train, values, shares=SHARES, methods=methods, draws=1, seed=subject.seed
            )
            notes += said
    if not tables:
        raise UnsupportedError(
            f"no column of the users has 2 to {MOST_VALUES} values with {LEAST_USERS} users each: "
            f"{', '.join(map(str, subject.users.columns))}"
        )
    whole = pd.concat([frame.assign(label=name) for name, frame in tables.items()], ignore_index=True)
    return Findings(
        title="Properties of users",
        summary=" ".join(_sentence(name, frame) for name, frame in tables.items()),
        tables={"labels": whole},
        metrics={
            f"labels_{row['label']}_{row['method']}_{100 * row['share']:g}".replace("-", "_"): float(row["value"])
            for row in whole.to_dict("records")
        },
        content=[
            *(part for name, frame in tables.items() for part in _content(name, frame)),
            *map(note, _about(notes)),
        ],
    )


def _methods(subject: Subject) -> list[Method]:
    """Return the methods that the model can take and that take minutes; an UnsupportedError if it has no code.

    `joint` trains on the rows of all users for each setting, fold and share: the better part of an hour.
    """
    subject.model._require("encodes")
    methods: list[Method] = ["raw", "frozen"]
    with suppress(UnsupportedError):
        check(subject.model, False)
        methods.append("fine-tuned")
    return methods


def _classes(subject: Subject, name: str) -> tuple[pd.Series | None, list[str]]:
    """Return a column of the training users as classes, None if it is none, and what is left out."""
    assert subject.users is not None
    given = subject.users[name]
    unknown = len(unknown_of(given, subject.train.users))
    found = pd.Series(values_of(given, subject.train.users, f"column {name!r}"), index=subject.train.users.ids())
    found = found[found.notna()]
    counts = found.value_counts()
    if not 2 <= len(counts) <= MOST_VALUES:
        return None, []
    rare = counts.index[counts < LEAST_USERS]
    found = found[~found.isin(rare)]
    if found.nunique() < 2:
        return None, []
    said = [f"{unknown:,} users of the table have no training entries and are left out of {name}."] if unknown else []
    if len(rare):
        said.append(f"Values of {name} with fewer than {LEAST_USERS} users are left out: {', '.join(map(str, rare))}.")
    return found, said


def _sentence(name: str, frame: pd.DataFrame) -> str:
    least = frame[frame["share"] == frame["share"].min()].set_index("method")
    best = least["value"].idxmax()
    raw = f"{least.loc['raw', 'metric']} {number(least.loc['raw', 'value'])} from the rows alone"
    if best == "raw":
        return f"{name} at {frame['share'].min():.0%} labels: {raw}, better than with any code."
    return f"{name} at {frame['share'].min():.0%} labels: {raw}, {number(least.loc[best, 'value'])} {best}."


def _content(name: str, frame: pd.DataFrame) -> list[Markup]:
    shares = sorted(frame["share"].unique())
    metric = str(frame["metric"].iloc[0])
    of = {method: part.set_index("share").loc[shares] for method, part in frame.groupby("method", sort=False)}
    last = list(of)[-1]
    series = {str(method): of[method]["value"].to_numpy(np.float64) for method in ("raw", last)}
    ends = of["raw"]["low"].to_numpy(np.float64), of["raw"]["high"].to_numpy(np.float64)
    listed = "; ".join(f"{method}: {', '.join(map(number, values))}" for method, values in series.items())
    caption = charts.Caption(f"{name}: {metric} by labeled users", "share of users labeled", metric, f"{listed}.")
    drawn = charts.bars(caption, [f"{share:.0%}" for share in shares], series, intervals=ends)
    heads = ("labeled", "method", "users", "AUC", "macro F1", f"95% of {metric}", "gain over raw", "95%")
    rows = [
        (
            f"{row['share']:.0%}",
            str(row["method"]),
            f"{row['users']:,}",
            number(row["auc"]),
            number(row["f1"]),
            span(row["low"], row["high"]),
            number(row["gain"]),
            span(row["gain_low"], row["gain_high"]),
        )
        for row in frame.to_dict("records")
    ]
    return [tag("h3", name), tag("div", drawn, class_="grid"), table(f"Prediction of {name}", heads, rows, range(2, 8))]


def _about(notes: list[str]) -> list[str]:
    return [
        "raw: logistic regression on the rows; frozen: on the model's codes; fine-tuned: encoder and head trained on "
        "the labeled users. Two-fold cross-validation within the labeled users chooses what regularizes each. The "
        "labeled users are drawn once; intervals are bootstrap over a fifth of the users, whose labels nothing is "
        "fitted to. The model was fitted to the rows of all of them. More draws, all labels and the head that is "
        "trained beside the model's own loss on all rows: recsys.analysis.labels.",
        *notes,
    ]
