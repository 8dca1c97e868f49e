"""`make docs`: docs/metrics.md from the docstrings of the metrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys.evaluation import DEFAULT
from recsys.metrics import CATALOGUE, RANKING, RATING, beyond, higher_is_better, rating, unpopular

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
FIELDS = ("Formula", "Denominator", "Range", "Cut-off", "Ties", "No relevant items", "Paper")
"""What every metric states, in this order."""

GROUPS: dict[str, dict[str, Callable[..., Any]]] = {
    "Accuracy of a list": {**RANKING},
    "Accuracy beside popularity": {
        "stratified_recall": unpopular.stratified_recall,
        "serendipity": unpopular.serendipity,
    },
    "Beyond accuracy": {
        **CATALOGUE,
        "novelty": beyond.novelty,
        "average_popularity": beyond.average_popularity,
        "diversity": beyond.diversity,
    },
    "Errors of ratings": {"rmse": rating.rmse, "mae": rating.mae},
}

HEAD = """# Metrics

Made from the docstrings by `make docs`; change those, not this page.

A name is a kind and a cut-off, `ndcg@10`; `rmse` and `mae` have none. `evaluate` computes a metric per user first and
then the mean over the users that have a value, with its standard error std(ddof=1) / √n and their number n. hit_r is 1
where the item at rank r is relevant, T are a user's relevant items: the held-out entries, or those of at least
`min_relevance`. Computed unless others are named: {default}.
"""


def fields(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first sentence of a metric's docstring, and its labelled statements."""
    text = inspect.getdoc(function) or ""
    title, _, rest = text.partition("\n\n")
    body = rest.split("\n\n")[0]
    found = re.findall(r"^([A-Z][\w -]*?): (.*?)(?=^\S|\Z)", body, flags=re.MULTILINE | re.DOTALL)
    return " ".join(title.split()), {name: " ".join(value.split()) for name, value in found}


def page() -> str:
    """Return the page."""
    lines = [HEAD.format(default=", ".join(f"`{name}`" for name in DEFAULT))]
    for group, metrics in GROUPS.items():
        lines.append(f"## {group}\n")
        for kind, function in metrics.items():
            name = kind if kind in RATING else f"{kind}@k"
            title, found = fields(function)
            better = "Higher" if higher_is_better(name.replace("@k", "@10")) else "Lower"
            lines.append(f"### `{name}`\n\n{title} {better} is better.\n")
            lines.append("| | |\n|---|---|")
            lines += [f"| {field} | {found[field].replace('|', chr(92) + '|')} |" for field in FIELDS]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
