"""`make docs`: docs/metrics.md from the docstrings of the metrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys.evaluation import DEFAULT
from recsys.metrics import METRICS, Metric

PAGE = Path(__file__).parents[1] / "metrics.md"
FIELDS = ("Formula", "Denominator", "Range", "Cut-off", "Ties", "No relevant items", "Paper")
"""What every metric states, in this order."""
GROUPS = ("Accuracy of a list", "Beyond accuracy", "Errors of ratings")

HEAD = """# Metrics

Generated from docstrings by `make docs`; edit those, not this page.

A metric is requested by its name and a cut-off, `ndcg@10`; errors of ratings such as `rmse` have no cut-off. `evaluate`
computes a value per user first and then the mean over the users that have one, with its standard error
std(ddof=1) / √n and their number n. hit_r is 1 if the item at rank r is relevant; T is the set of a user's relevant
items: the held-out entries, or those of at least `min_relevance`. Computed by default:
{default}.

To add a metric, register a function of arrays: `help(recsys.metrics)`.
"""


def group(metric: Metric) -> str:
    """Return the heading under which a metric stands."""
    if metric.rates:
        return GROUPS[2]
    return GROUPS[0] if {"hits", "n_relevant", "relevant"} & set(metric.needs) else GROUPS[1]


def fields(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first sentence of a metric's docstring, and its labeled statements."""
    text = inspect.getdoc(function) or ""
    title, _, rest = text.partition("\n\n")
    body = rest.split("\n\n")[0]
    found = re.findall(r"^([A-Z][\w -]*?): (.*?)(?=^\S|\Z)", body, flags=re.MULTILINE | re.DOTALL)
    return " ".join(title.split()), {name: " ".join(value.split()) for name, value in found}


def page() -> str:
    """Return the page."""
    lines = [HEAD.format(default=", ".join(f"`{name}`" for name in DEFAULT))]
    for heading in GROUPS:
        lines.append(f"## {heading}\n")
        for metric in METRICS.values():
            if group(metric) != heading:
                continue
            title, found = fields(metric.function)
            title = title.split("; this function ")[0].rstrip(".")
            better = "Higher" if metric.higher_is_better else "Lower"
            lines.append(f"### `{metric.at('k')}`\n\n{title}. {better} is better.\n")
            lines.append("| | |\n|---|---|")
            lines += [f"| {field} | {found[field].replace('|', chr(92) + '|')} |" for field in FIELDS if field in found]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
