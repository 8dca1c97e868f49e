"""The report of an evaluated run: one HTML page that opens from disk, without network and without other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from recsys.errors import ConfigError, did_you_mean
from recsys.evaluation import Evaluation
from recsys.models import Recommender
from recsys.report.markup import Markup, tag
from recsys.report.sections import Run
from recsys.splits import Split
from recsys.training import Record


def page(
    model: Recommender,
    split: Split,
    evaluation: Evaluation,
    *,
    metrics: Sequence[str] | None = None,
    about: Mapping[str, Any] | None = None,
    record: Record | None = None,
    min_relevance: float | None = None,
    source: str | None = None,
) -> str:
    """Return the report of a model measured on `split.test`, as HTML.

    Sections: data, split and model; test metrics with bootstrap intervals; learning curve; metrics along the cut-off;
    users by the length of their history; items by popularity; a map of the items; example users with titles. What the
    model or the evaluation cannot tell is left out, and the page says why. It holds at most about 2 MB, whatever the
    catalogue; where it shows a part, it says of how many. Equal arguments give the same page.

    Args:
        split: what the model was trained and measured on.
        evaluation: of `split.test`, with `popularity=split.train`. The more cut-offs it holds
            (`recsys.evaluation.along_k`), the more the curves show.
        metrics: those of the table, the most important first; by default all of the evaluation.
        about: `config`, the job's configuration, and `data`, the summary of the data; by default `model.about_`.
        record: of the training; by default `model.record_`.
        min_relevance: as in `evaluate`.
        source: where the model is, such as `models:/NAME/VERSION`.

    Raises:
        ConfigError: one of `metrics` was not evaluated, or there is none.
    """
    chosen = list(evaluation.values) if metrics is None else list(metrics)
    if not chosen:
        raise ConfigError("expected at least one metric for the table, got none")
    for name in chosen:
        if name not in evaluation.values:
            raise ConfigError(f"metric {name!r} was not evaluated{did_you_mean(name, evaluation.values)}")
    run = Run(
        model,
        split,
        evaluation,
        chosen,
        dict(model.about_ if about is None else about),
        model.record_ if record is None else record,
        min_relevance,
        source,
    )
    sections = [
        ("metrics", "Test metrics", run.metric_table()),
        ("run", "Data, split and model", run.facts()),
        ("training", "Training", run.training()),
        ("cutoffs", "Metrics along the list", run.along_the_list()),
        ("users", "Users by activity", run.activity()),
        ("items", "Items by popularity", run.popularity()),
        ("map", "Map of the items", run.map()),
        ("examples", "Example users", run.examples()),
    ]
    return _document(run.title, run.opening(), sections)


def _document(title: str, opening: Sequence[Markup], sections: Sequence[tuple[str, str, Sequence[Markup]]]) -> str:
    style, script = (files(__package__).joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("css", "js"))
    # Only this script may run and nothing may be fetched, even if a text should get past the escaping.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    links = [tag("a", heading, href=f"#{name}") for name, heading, _ in sections]
    body = [
        tag("section", tag("h2", heading, id=f"{name}-heading"), content, id=name, aria_labelledby=f"{name}-heading")
        for name, heading, content in sections
    ]
    header = tag("header", tag("h1", title), opening, tag("nav", links, aria_label="Sections"))
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        tag("title", title),
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        tag("main", header, body),
        tag("div", id="tip", hidden=""),
        f"<script>{script}</script>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(lines)
