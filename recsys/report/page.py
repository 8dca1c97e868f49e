"""The report of an evaluated run: one HTML file that needs neither network nor other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd

from recsys.errors import ConfigError
from recsys.evaluation import Evaluation
from recsys.models import Recommender
from recsys.report.items import item_map, popularity
from recsys.report.markup import Markup, tag
from recsys.report.rules import rule_costs
from recsys.report.run import Run
from recsys.report.sections import by_cutoff, facts, headline, metric_table, training
from recsys.report.users import activity, examples
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
    baseline: tuple[str, Mapping[str, float]] | None = None,
    champion: tuple[str, Mapping[str, float]] | None = None,
    rules: pd.DataFrame | None = None,
) -> str:
    """Return the report of a model measured on `split.test`, as HTML.

    Sections: test metrics with bootstrap intervals; data, split and model; learning curves; metrics by list length;
    users by length of history; items by popularity; a map of the items; example users with titles. A section that the
    model or the evaluation has nothing for says why. The page stays below about 2 MB however large the catalog is; a
    section that shows only some items says how many there are. Equal arguments give the same page.

    Args:
        split: the split the model was trained and measured on.
        evaluation: of `split.test`, with `popularity=split.train`. The curves have a point for each of its cut-offs
            (see `recsys.evaluation.along_k`).
        metrics: the metrics of the table, the most important first; by default all of the evaluation.
        about: `config`, the job's configuration, and `data`, the summary of the data; by default `model.about_`.
        record: the record of the training; by default `model.record_`.
        min_relevance: as in `evaluate`.
        source: where the model is, such as `models:/NAME/VERSION`.
        baseline: name and values, by metric, of what the model is held against, such as Popularity: a column of the
            table of metrics.
        champion: the same of the model in use, as measured on the same test part: a further column.
        rules: the result of `recsys.rules.costs`: a section of what each rule costs and gives; none without it.

    Raises:
        ConfigError: one of `metrics` was not evaluated, or `metrics` is empty.
    """
    chosen = list(evaluation.values) if metrics is None else list(metrics)
    if not chosen:
        raise ConfigError("expected at least one metric for the table, got none")
    for name in chosen:
        _ = evaluation[name]  # refuses a name that was not evaluated
    from matplotlib import style  # half a second to import

    about = dict(model.about_ if about is None else about)
    record = model.record_ if record is None else record
    run = Run(model, split, evaluation, chosen, about, record, min_relevance, source, baseline, champion)
    with style.context("default"):
        sections = [
            ("metrics", "Test metrics", metric_table(run)),
            ("run", "Data, split and model", facts(run)),
            ("training", "Training", training(run)),
            ("cutoffs", "Metrics by list length", by_cutoff(run)),
            ("users", "Users by activity", activity(run)),
            ("items", "Items by popularity", popularity(run)),
            *([] if rules is None else [("rules", "Rules", rule_costs(rules))]),
            ("map", "Item map", item_map(run)),
            ("examples", "Example users", examples(run)),
        ]
    return document(run.title, headline(run), sections)


def document(title: str, result: Sequence[Markup], sections: Sequence[tuple[str, str, Sequence[Markup]]]) -> str:
    """Return a page, which needs no other file.

    Args:
        title: its heading.
        result: what stands below the heading, before the links to the sections.
        sections: the name by which each is linked, its heading, and what it holds.
    """
    style, script = (files(__package__).joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("css", "js"))
    # Even if a text got past the escaping, only this script may run and nothing may be fetched.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    links = [tag("a", heading, href=f"#{name}") for name, heading, _ in sections]
    body = [
        tag("section", tag("h2", heading, id=f"{name}-heading"), content, id=name, aria_labelledby=f"{name}-heading")
        for name, heading, content in sections
    ]
    header = tag("header", tag("h1", title), result, tag("nav", links, aria_label="Sections"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'sha256-{digest}'; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{tag("title", title)}
<style>
{style}</style>
</head>
<body>
{tag("main", header, body)}
{tag("div", id="tip", hidden="")}
<script>{script}</script>
</body>
</html>
"""
