"""Measure a saved model on a test part."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys import report
from recsys.config import JobConfig, check_metrics
from recsys.errors import ConfigError, DataError
from recsys.evaluation import DEFAULT, Evaluation, along_k, evaluate
from recsys.jobs.common import config_of, load_model, why_unseen
from recsys.models import Recommender
from recsys.splits import Split


def run(
    uri: str,
    config: JobConfig | None = None,
    *,
    metrics: Sequence[str] | None = None,
    output: Path | None = None,
    page: Path | None = None,
    allow_other_split: bool = False,
    root: Path | None = None,
    show_progress: bool = True,
) -> Evaluation:
    """Evaluate the model at `uri` on the test part of `config`, by default of the configuration it was trained with.

    Prints the metrics with their standard errors; `output` also writes them per user as parquet, `page` the
    report as HTML (see `recsys.report.page`).

    Args:
        allow_other_split: measure even if the split's training part is not what the model was trained on, with a
            warning.

    Raises:
        ConfigError: `output` is not a .parquet file or `page` not a .html file, or a metric is not one of this model's.
        DataError: the split's items are not the model's, or the model may have been trained on the test entries.
        OSError: `output` or `page` cannot be written.
    """
    with _output(output, "--output", ".parquet") as beside, _output(page, "--report", ".html") as beside_page:
        model, pinned = load_model(uri, root)
        config = config or config_of(model, uri)
        names = tuple(dict.fromkeys(metrics or config.evaluate.metrics or DEFAULT))
        check_metrics(model, names)
        data = config.load_data(root)
        split = config.split.split(data)
        if model.items_ is not None and model.items_ != split.train.items:
            raise DataError(
                f"the model knows {model.n_items_} items and this split has {split.train.shape[1]}: they are not the "
                "same; evaluate on the data and split that the model was trained with"
            )
        _check_unseen(model, split, pinned, allow_other_split)
        if model.users_ is not None and model.users_ != split.train.users:
            # Rows of the split's training users are not those of the model's, who may be others.
            own = model.users_.codes(split.test.users.ids(), on_unknown="mark")
            rows = np.where(split.test.user_index >= 0, own, -1).astype(np.int32)
            split = replace(split, test=replace(split.test, user_index=rows))
        print(f"{type(model).__name__} on {split.test}")
        curves = evaluate(
            model,
            split.test,
            names if page is None else along_k(names, split.test.target.shape[1]),
            min_relevance=config.evaluate.min_relevance,
            popularity=split.train,
            show_progress=show_progress,
        )
        result = curves.only(names)
        print(result)
        if output is not None and beside is not None:
            result.per_user.to_parquet(beside)
            os.replace(beside, output)
            print(f"per user: {output}")
        if page is not None and beside_page is not None:
            about = {"config": config.as_dict(), "data": data.summary()}
            text = report.page(
                model,
                split,
                curves,
                metrics=names,
                about=about,
                min_relevance=config.evaluate.min_relevance,
                source=pinned,
            )
            beside_page.write_text(text, encoding="utf-8")
            os.replace(beside_page, page)
            print(f"report: {page}")
    return result


def _check_unseen(model: Recommender, split: Split, uri: str, allowed: bool) -> None:
    """Refuse a split on whose test entries the model may have been trained."""
    trained = model.about_.get("trained_on")
    if trained is None:
        _warn(f"{uri} does not say what it was trained on; the figures count only if it has not seen these entries")
        return
    if why_unseen(model, split) is not None:
        return
    if not allowed:
        raise DataError(
            f"the training part of this split is not what {uri} was trained on, so the model may have seen the test "
            "entries; evaluate with the data and split of its training, or pass --allow-other-split"
        )
    _warn(f"{uri} was trained on other entries than this split's training part: it may have seen the test entries")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@contextmanager
def _output(path: Path | None, option: str, suffix: str) -> Iterator[Path | None]:
    """Give a file beside `path` to write and rename, made at once: what cannot be written is refused before the work.

    Raises:
        ConfigError: `path` has another suffix.
    """
    if path is None:
        yield None
        return
    if path.suffix != suffix or path.is_dir():
        raise ConfigError(f"{option} of evaluate is a {suffix} file, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.touch()
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)
