"""The section of who is represented."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.representation import coverage
from recsys.report import charts
from recsys.report.charts import Caption
from recsys.report.markup import Markup, note, number, percentage, table

METRIC: Final = "ndcg@10"
_Z: Final = 1.96


def findings(subject: Subject) -> Findings:
    """Return who is over- and under-represented in the code, and how good the lists of the test part are there.

    Raises:
        UnsupportedError: the model has no embeddings of users.
        DataError: too few training users.
    """
    groups = coverage(subject.model, subject.train, subject.split.test, subject.users, metric=METRIC, seed=subject.seed)
    by = groups.set_index(["by", "group"])["value"]
    whole, sparsest, worst = (
        float(by[key]) for key in (("all", "all"), ("density", "tenth 1"), ("quality", "worst tenth"))
    )
    tenths = groups[groups["by"] == "density"]
    values, errors = tenths["value"].to_numpy(np.float64), tenths["standard_error"].to_numpy(np.float64)
    low, high = np.maximum(values - _Z * errors, 0.0), values + _Z * errors
    shown = groups[~groups["by"].isin(["all", "density", "quality"])]
    return Findings(
        title="Who is represented",
        summary=(
            f"{METRIC} is {whole:.4f} on average over the test users, {sparsest:.4f} for the tenth of them around whom "
            f"the code holds the fewest training users, and {worst:.4f} for the tenth with the worst lists."
        ),
        tables={"coverage": groups},
        metrics={"coverage_sparsest_tenth": sparsest / whole, "coverage_worst_tenth": worst / whole} if whole else {},
        content=(
            charts.bars(
                Caption(
                    "Are lists worse where users are rare?",
                    "tenth of the test users by density, the sparsest first",
                    METRIC,
                    f"{sparsest:.4f} in the sparsest tenth, {whole:.4f} on average; intervals are of 95%.",
                ),
                [group.removeprefix("tenth ") for group in tenths["group"]],
                {METRIC: values},
                intervals=(low, high),
            ),
            note(
                "Density is that of the nearest training users in the code, as the mean rank of a group's users among "
                "the test users: 0 the sparsest, 1 the densest. Cells are those of k-means, the smallest first. "
                "A group is small or badly served by chance where its interval holds the average."
            ),
            _of_groups(shown),
        ),
    )


def _of_groups(groups: pd.DataFrame) -> Markup:
    heads = ["group", "training users", "test users", "density", METRIC, "95% interval"]
    texts = [
        f"{by} {group}" if by != "cell" else str(group) for by, group in zip(groups["by"], groups["group"], strict=True)
    ]
    figures = groups[["trained", "n", "density", "value", "standard_error"]].to_numpy(np.float64).tolist()
    rows = [
        [
            text,
            percentage(trained),
            f"{n:,.0f}",
            f"{density:.2f}",
            number(value),
            f"{number(value - _Z * error)} to {number(value + _Z * error)}" if np.isfinite(error) else "–",
        ]
        for text, (trained, n, density, value, error) in zip(texts, figures, strict=True)
    ]
    return table("groups of users", heads, rows, numbers=range(1, 6))
