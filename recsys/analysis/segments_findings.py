"""The section of a page about segments of users, and what they tell of held-out entries and of other properties."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.analysis.clusters import REPRODUCES, counts_by, held_out_gain
from recsys.analysis.findings import Findings, Subject
from recsys.analysis.segments import Segments, segments
from recsys.analysis.users import values_of
from recsys.columns import USER
from recsys.evaluation import evaluate
from recsys.report import charts
from recsys.report.markup import Markup, note, number, percentage, table, tag

METRIC: Final = "ndcg@10"
MOST_VALUES: Final = 100
"""Different values of a column of users beyond which it is no property that users share, such as a zip code."""
ENOUGH_USERS: Final = 0.02
"""Share of the test users from which the metric of a segment is worth a sentence."""


def findings(subject: Subject) -> Findings:
    """Return the segments of the training users, and the metric of the test users by segment."""
    model, split = subject.model, subject.split
    made = segments(model, subject.train, seed=subject.seed)
    labels = made.users["segment"].to_numpy()
    of_test = made.assign(model, split.test.context)
    matrix = model._matrix(subject.train)
    prior = matrix.nnz / max(1, int(np.count_nonzero(np.diff(matrix.indptr))))
    gain = held_out_gain(counts_by(labels, len(made.segments), matrix), of_test, split.test.target, prior)
    shown = _with_metric(made, subject, of_test)
    told = _told(subject, labels)
    metrics = {"segments": float(len(shown)), "segments_stability": made.stability, "segments_gain_nats": gain}
    metrics |= {f"segments_nmi_{name}": value for name, value in told.items()}
    return Findings(
        title="Segments of users",
        summary=_summary(made, shown, gain),
        tables={
            "segments": shown,
            "segments_users": made.users,
            "segments_typical": made.typical,
            "segments_choice": made.choice,
        },
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        content=_content(made, shown, told, gain),
    )


def _with_metric(made: Segments, subject: Subject, of_test: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the segments with the metric of their test users."""
    groups = pd.Series(of_test, index=pd.Index(subject.split.test.users.ids(), name=USER))
    by = (
        evaluate(subject.model, subject.split.test, METRIC)
        .by(groups)
        .set_index("group")
        .reindex(made.segments["segment"])
    )
    measured = {
        METRIC: by["value"],
        "standard_error": by["standard_error"],
        "test_users": by["n"].fillna(0).astype(int),
    }
    return made.segments.assign(**{name: values.to_numpy() for name, values in measured.items()})


def _told(subject: Subject, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return the normalized mutual information of segment and each property of users that they share."""
    from sklearn.metrics import normalized_mutual_info_score

    found: dict[str, float] = {}
    if subject.users is None:
        return found
    for name in subject.users.columns:
        values: Any = values_of(subject.users[name], subject.train.users, f"column {name!r}")
        known = np.array([value is not None for value in values]) & (labels >= 0)
        texts = values[known].astype(str)
        if 1 < len(np.unique(texts)) <= MOST_VALUES:
            found[str(name)] = float(normalized_mutual_info_score(texts, labels[known]))
    return found


def _summary(made: Segments, shown: pd.DataFrame, gain: float) -> str:
    how = "learned by the model" if made.learned else "found by k-means in the codes"
    text = f"{len(shown)} segments of {shown['users'].sum():,} users, {how}. "
    text += f"A held-out entry gains {gain:+.2f} nats of log-probability under the user's segment, against all users."
    measured = shown[shown["test_users"] >= ENOUGH_USERS * shown["test_users"].sum()]
    if len(measured) > 1:
        ordered = measured.sort_values(METRIC)[["name", METRIC]].to_dict("records")
        text += f" {METRIC} is {number(ordered[-1][METRIC])} in segment {ordered[-1]['name']}"
        text += f" and {number(ordered[0][METRIC])} in {ordered[0]['name']}."
    return text


def _content(made: Segments, shown: pd.DataFrame, told: dict[str, float], gain: float) -> list[Markup]:
    names = [str(segment + 1) for segment in shown["segment"]]
    listed = "; ".join(
        f"{name}: {percentage(share)}" for name, share in zip(shown["name"], shown["share"], strict=True)
    )
    sizes = charts.Caption("Users by segment", "segment", "share of users", f"{listed}.")
    values = shown[METRIC].to_numpy(np.float64)
    error = 1.96 * shown["standard_error"].to_numpy(np.float64)
    listed = "; ".join(f"{name}: {number(value)}" for name, value in zip(shown["name"], values, strict=True))
    ranked = charts.Caption(f"{METRIC} by segment", "segment", METRIC, f"{listed}.")
    drawn = [
        charts.bars(sizes, names, {"users": shown["share"].to_numpy(np.float64)}, percent=True),
        charts.bars(ranked, names, {METRIC: values}, intervals=(values - error, values + error)),
    ]
    kinds = [name for name in made.segments.columns if name not in ("segment", "name", "users", "share")]
    heads = ("segment", "users", "share", METRIC, *(f"typical {kind}" for kind in kinds))
    rows = [
        (
            row["name"],
            f"{row['users']:,}",
            percentage(row["share"]),
            number(row[METRIC]),
            *(row[kind] for kind in kinds),
        )
        for row in shown.to_dict("records")
    ]
    notes = [
        "Typical is what a segment holds more of than all others: log-odds with a prior of one user's entries, by "
        f"their standard errors (Monroe et al. 2008). Bars of {METRIC} are 95% intervals over test users. A held-out "
        f"entry gains {gain:+.3f} nats of log-probability under the training entries of its user's segment, against "
        "those of all users."
    ]
    if not made.learned:
        notes.append(f"Runs of k-means from other draws agree to an adjusted Rand index of {made.stability:.3f}.")
    if len(made.choice):
        drawn.append(_strengths(made))
        notes.append(
            f"The number of segments is the largest whose prediction strength, plus its standard error, is at least "
            f"{REPRODUCES} (Tibshirani and Walther 2005), or the strongest where none is: clusters of one half of the "
            "users then put together what those of the other half do."
        )
    if told:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
        notes.append(f"Normalized mutual information of segment and property of the user, 0 to 1: {listed}.")
    return [tag("div", drawn, class_="grid"), table("Segments", heads, rows, (1, 2, 3)), *map(note, notes)]


def _strengths(made: Segments) -> Markup:
    counts = [str(k) for k in made.choice["clusters"]]
    values = made.choice["strength"].to_numpy(np.float64)
    error = 1.96 * made.choice["standard_error"].fillna(0.0).to_numpy(np.float64)
    summary = ", ".join(f"{k}: {number(value)}" for k, value in zip(counts, values, strict=True))
    caption = charts.Caption("Prediction strength", "number of clusters", "strength", f"{summary}.")
    return charts.bars(caption, counts, {"strength": values}, intervals=(values - error, values + error))
