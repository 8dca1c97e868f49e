"""The section of a page that holds a model's code against PCA, truncated SVD and Isomap."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.intrinsic import Estimator, intrinsic_dimension
from recsys.analysis.plain_codes import unit_rows
from recsys.analysis.reduction import DIMENSIONS, NEIGHBORS, check_encodes, histories, reduction, some
from recsys.errors import DataError
from recsys.params import random_generator
from recsys.report import charts
from recsys.report.markup import Markup, note, number, table, tag

_POINTS: Final = 2_000
"""Training users, drawn, whose intrinsic dimension is estimated."""
_FIGURES: Final = {
    "unexplained": ("squared error", "share of variance not explained", False),
    "nll": ("likelihood of entries read", "−log, nats per entry", False),
    "target_nll": ("likelihood of held-out entries", "−log, nats per entry", False),
    "trustworthiness": ("trustworthiness", "1: no false neighbors", True),
    "continuity": ("continuity", "1: no neighbor lost", True),
}
"""What is drawn, by column: name, unit, and whether higher is better."""
_EXPLANATION: Final = (
    "All codes are read by the same decoders, learned from training users: an affine one for the squared error of the "
    "rows, divided by their length, and a softmax for the likelihood of their entries. Of both, less is better. On "
    "training users no code can have a smaller squared error than PCA. “Own” is the model's decoder. Trustworthiness "
    "and continuity compare the nearest users by the code with those by the cosine of the rows"
)
_INTRINSIC: Final = (
    "Estimates of the intrinsic dimension of the training users, at most 2,000 of them: TwoNN (Facco et al. 2017) and "
    "maximum likelihood over 20 neighbors (Levina and Bickel 2004). Both are too low where the dimension is high."
)


def findings(subject: Subject) -> Findings:
    """Hold the model's code against the plain methods of its width and of smaller ones, on the test part's users."""
    model, part = subject.model, subject.split.test
    check_encodes(model)
    width = model.encode(part.context[:1]).shape[1]
    dimensions = sorted({*(d for d in DIMENSIONS if d < width), width})
    users = int(np.count_nonzero(np.diff(part.context.indptr)))
    neighbors = min(NEIGHBORS, max(1, (users - 2) // 2))
    frame = reduction(
        model,
        subject.train,
        part.context,
        target=part.target,
        dimensions=dimensions,
        neighbors=neighbors,
        seed=subject.seed,
    )
    intrinsic = _intrinsic(subject)
    known = int((part.user_index >= 0).sum())
    whose = f"{known:,} of the test users were" if known else "None of the test users was"
    heads = ("intrinsic dimension of", "coordinates", "TwoNN", "maximum likelihood")
    rows = [
        (points, f"{coordinates:,}", *map(number, estimates))
        for points, coordinates, *estimates in intrinsic.to_numpy()
    ]
    return Findings(
        title="Dimension reduction",
        summary=verdict(frame),
        tables={"reduction": frame, "intrinsic_dimension": intrinsic},
        metrics=_metrics(frame, intrinsic),
        content=[
            tag("div", curves(frame), class_="grid"),
            table_of(frame),
            note(
                _EXPLANATION, f", {neighbors} of {frame['users'].max():,} test users each. {whose} known to training."
            ),
            table("Intrinsic dimension", heads, rows, (1, 2, 3)),
            note(_INTRINSIC),
        ],
    )


def verdict(frame: pd.DataFrame) -> str:
    """Return in which figures the first model beats the best plain method of its width, and in which it does not."""
    plain_names = ("PCA", "truncated SVD", "Isomap")
    model = frame[~frame["method"].isin([*plain_names, "mean row"])].iloc[0]
    plain = frame[frame["method"].isin(plain_names) & (frame["dimension"] == model["dimension"])]
    name, width = model["method"], model["dimension"]
    if plain.empty:
        return f"{name}'s code of {width:,} numbers reduces nothing: no row of this data needs as many."
    better: list[str] = []
    worse: list[str] = []
    for column, (what, _, higher) in _FIGURES.items():
        best = plain.loc[plain[column].idxmax() if higher else plain[column].idxmin()] if plain[column].any() else None
        if best is None or not np.isfinite([best[column], model[column]]).all():
            continue
        won = model[column] > best[column] if higher else model[column] < best[column]
        text = f"{what} ({number(model[column])}; {best['method']} {number(best[column])})"
        (better if won else worse).append(text)
    told = f"{name}'s code of {width:,} numbers, against the best plain method of as many, is "
    parts = [f"{word} by {', '.join(texts)}" for word, texts in (("better", better), ("not better", worse)) if texts]
    return told + "; ".join(parts) + "."


def curves(frame: pd.DataFrame) -> list[Markup]:
    """Draw each figure against the dimension, with a line per method."""
    codes = frame[frame["dimension"] > 0]
    x = np.sort(codes["dimension"].unique()).astype(np.float64)
    drawn = []
    for column, (what, unit, _) in _FIGURES.items():
        series = {method: _at(group, column, x) for method, group in codes.groupby("method", sort=False)}
        known = {str(method): values for method, values in series.items() if np.isfinite(values).any()}
        if not known:
            continue
        summary = "; ".join(
            f"{method}: " + ", ".join(f"{number(v)} at {d:g}" for d, v in zip(x, values, strict=True) if np.isfinite(v))
            for method, values in known.items()
        )
        title = what[0].upper() + what[1:]
        caption = charts.Caption(title, "numbers of the code", unit, f"{summary}.")
        drawn.append(charts.curves(caption, x, known, logarithmic=True))
    return drawn


def _at(group: pd.DataFrame, column: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the values of a method at the dimensions, NaN where it has none; of several models the first."""
    values = group.drop_duplicates("dimension").set_index("dimension")[column]
    return values.reindex(x.astype(np.int64)).to_numpy(np.float64)


def table_of(frame: pd.DataFrame) -> Markup:
    """Return the frame as a table of the page."""
    columns = [name for name in frame.columns if name not in ("method", "dimension", "users") and frame[name].any()]
    heads = ("method", "numbers", *(name.replace("_", " ") for name in columns))
    rows: list[tuple[str, ...]] = [
        (str(row["method"]), f"{row['dimension']:,}", *(number(row[name]) for name in columns))
        for row in frame.to_dict("records")
    ]
    return table("What codes keep", heads, rows, range(1, len(heads)))


def _intrinsic(subject: Subject) -> pd.DataFrame:
    """Return the estimates for the rows of training users, and for their codes."""
    model = subject.model
    rows = histories(subject.train, model.items_)
    drawn = some(np.flatnonzero(np.diff(rows.indptr)), _POINTS, random_generator(subject.seed))
    points: dict[str, Any] = {"rows of length 1": unit_rows(rows[drawn]), "codes": model.encode(rows[drawn])}
    estimates = [
        {
            "points": name,
            "coordinates": value.shape[1],
            "two_nn": _estimate(value, "two-nn"),
            "mle": _estimate(value, "mle"),
        }
        for name, value in points.items()
    ]
    return pd.DataFrame(estimates)


def _estimate(points: Any, method: Estimator) -> float:
    """Return the estimate; NaN where the points allow none."""
    try:
        return intrinsic_dimension(points, method=method)
    except DataError:
        return np.nan


def _metrics(frame: pd.DataFrame, intrinsic: pd.DataFrame) -> dict[str, float]:
    """Return the figures of the model and of PCA, by their dimension, and the intrinsic dimensions."""
    found: dict[str, float] = {}
    for row in frame[~frame["method"].isin(["mean row", "truncated SVD", "Isomap"])].to_dict("records"):
        prefix = "pca_" if row["method"] == "PCA" else ""
        found |= {f"{prefix}{name}_{row['dimension']}": row[name] for name in _FIGURES}
    for row in intrinsic.to_dict("records"):
        of = "codes" if row["points"] == "codes" else "rows"
        found |= {f"intrinsic_{name}_{of}": row[name] for name in ("two_nn", "mle")}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}
