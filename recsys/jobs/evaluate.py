"""Measure a saved model on a test part."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys import report as pages
from recsys.config import JobConfig, check_metrics, overridden
from recsys.errors import ConfigError, DataError
from recsys.evaluation import DEFAULT, Evaluation, along_k
from recsys.files import replacing
from recsys.jobs.arrivals import arrivals, on_catalog_of, with_arrivals
from recsys.jobs.baseline import Baseline
from recsys.jobs.champion import champion_beside
from recsys.jobs.common import config_of, fitted_part, load_model, may_have_seen, measure, split_of
from recsys.jobs.list_rules import costs_of, items_for, rules_of
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.rules import in_words
from recsys.splits import Split
from recsys.workspace import Workspace, output_file


def evaluate(
    workspace: Workspace,
    model: str,
    config: JobConfig | None = None,
    *,
    metrics: Sequence[str] | None = None,
    output: Path | None = None,
    report: Path | None = None,
    allow_other_split: bool = False,
    overrides: Sequence[str] = (),
    rules: Path | None = None,
    items: Path | None = None,
) -> Evaluation:
    """Measure a saved model on the test part of `config`, by default of the configuration it was trained with.

    Prints its metrics beside those of the baseline.

    Args:
        output: parquet file for the metrics of each user.
        report: HTML file for the report (see `recsys.report.page`).
        allow_other_split: measure even if the split's training part is not what the model was trained on, with a
            warning.
        overrides: keys in place of those of the configuration, such as `evaluate.min_relevance=4.0`.
        rules: TOML file of rules for lists; what each of them costs and gives is printed after the metrics, and shown
            in the report.
        items: csv or parquet file with columns of items: a model with features takes new items from it, which may then
            be in lists, and rules read it.

    Raises:
        ConfigError: `output` is not a .parquet file, `report` not a .html file, one of them cannot be written (nothing
            has been measured then), or a metric is not one of this model's.
        DataError: the split's items are not the model's, or the model may have been trained on the test entries.
        OSError: `output` or `report` cannot be written; nothing has been measured then.
    """
    table_file, page_file = _file(output, "--output", ".parquet"), _file(report, "--report", ".html")
    chosen = rules_of(rules)
    with _writable(table_file) as table, _writable(page_file) as page:
        fitted, pinned = load_model(workspace, model)
        config = config or config_of(fitted, model)
        config = overridden(config.as_dict(), overrides) if overrides else config
        names = tuple(dict.fromkeys(metrics or config.evaluate.metrics or DEFAULT))
        check_metrics(fitted, names)
        data = config.load_data(workspace.folder)
        own = split_of(config, data)
        new = arrivals(items, config.data)
        _check_unseen(fitted, split_for(fitted, own, may_extend=new is not None), pinned, allow_other_split)
        if new is not None:
            fitted = with_arrivals(fitted, new, ruled=chosen is not None)
            own = on_catalog_of(fitted, own)
        split = split_for(fitted, own)
        print(f"{type(fitted).__name__} on {split.test}")
        measured = names if page is None else along_k(names, split.test.target.shape[1])
        curves = measure(workspace, config, fitted, split, measured)
        result = curves.only(names)
        baseline = Baseline.of(workspace, config, own, fitted_part(fitted, own), names)
        if workspace.in_words:
            print(baseline.table(result))
        cost = costs_of(fitted, split, chosen, items_for(chosen, new, config.data, data))
        if cost is not None and workspace.in_words:
            print(f"\n{in_words(cost)}")
        if table is not None:
            result.per_user.to_parquet(table)
            print(f"per user: {output}")
        if page is not None:
            shown: dict[str, Any] = {"about": {"config": config.as_dict(), "data": data.summary()}, "source": pinned}
            shown |= {"min_relevance": config.evaluate.min_relevance, "baseline": (baseline.title, baseline.values)}
            shown |= {"rules": cost, "champion": champion_beside(config, split, names, own=pinned, workspace=workspace)}
            page.write_text(pages.page(fitted, split, curves, metrics=names, **shown), encoding="utf-8")
            print(f"report: {report}")
    return result


def _file(path: Path | None, option: str, suffix: str) -> Path | None:
    """Return the file to write for an option; None where it is not given."""
    if path is not None and (path.suffix != suffix or path.is_dir()):
        raise ConfigError(f"{option} of evaluate is a {suffix} file, got {path}")
    return None if path is None else output_file(path, option)


def split_for(model: Recommender, split: Split, *, may_extend: bool = False) -> Split:
    """Return the split with the model's own indices of the test users.

    Args:
        may_extend: the model will take further items, so that it need not know all of the split's yet.
    """
    if model.items_ is not None and model.items_ != split.train.items and not may_extend:
        both = model.items_.codes_of(split.train.items, "item") >= 0
        raise DataError(
            f"the model knows {model.n_items_} items and this split has {split.train.shape[1]}, of which the model "
            f"knows {both.sum()}: they are not the same in the same order; evaluate on the data and split that the "
            "model was trained with"
        )
    if model.users_ is None or model.users_ == split.train.users:
        return split
    # Rows of the split's training users are not those of the model's, who may be others.
    own = model.users_.codes_of(split.test.users, "user")
    rows = np.where(split.test.user_index >= 0, own, -1).astype(np.int32)
    return replace(split, test=replace(split.test, user_index=rows))


def _check_unseen(model: Recommender, split: Split, uri: str, allowed: bool) -> None:
    """Refuse a split on whose test entries the model may have been trained."""
    if not part_of(model.about_, "trained_on"):
        warning = f"{uri} does not say what it was trained on; the figures count only if it has not seen these entries"
    elif not may_have_seen(model, split):
        return
    elif allowed:
        warning = (
            f"{uri} was trained on other entries than this split's training part: it may have seen the test entries"
        )
    else:
        raise DataError(
            f"the training part of this split is not what {uri} was trained on, so the model may have seen the test "
            "entries; evaluate with the data and split of its training, or pass --allow-other-split"
        )
    print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def _writable(path: Path | None) -> Iterator[Path | None]:
    """Give a file to write, which takes the place of `path` at the end; what cannot be written is refused at once."""
    with nullcontext() if path is None else replacing(path) as beside:
        yield beside
