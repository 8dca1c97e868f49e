"""Measure a saved model on a test part."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recsys.config import JobConfig, check_metrics
from recsys.errors import ConfigError, DataError
from recsys.evaluation import DEFAULT, Evaluation, evaluate
from recsys.jobs.common import config_of, load_model
from recsys.models import Recommender
from recsys.splits import Split


def run(
    uri: str,
    config: JobConfig | None = None,
    *,
    metrics: Sequence[str] | None = None,
    output: Path | None = None,
    allow_other_split: bool = False,
    root: Path | None = None,
    show_progress: bool = True,
) -> Evaluation:
    """Evaluate the model at `uri` on the test part of `config`, by default of the configuration it was trained with.

    Prints the metrics with their standard errors; `output` also writes them per user as parquet.

    Args:
        allow_other_split: measure even if the split's training part is not what the model was trained on, with a
            warning.

    Raises:
        ConfigError: `output` is not a .parquet file, or a metric is not one of this model's.
        DataError: the split's items are not the model's, or the model may have been trained on the test entries.
        OSError: `output` cannot be written.
    """
    with _output(output) as beside:
        model, pinned = load_model(uri, root)
        config = config or config_of(model, uri)
        names = metrics or config.evaluate.metrics or DEFAULT
        check_metrics(model, names)
        data = config.load_data(root)
        split = config.split.split(data)
        if model.items_ is not None and model.items_ != split.train.items:
            raise DataError(
                f"the model knows {model.n_items_} items and this split has {split.train.shape[1]}: they are not the "
                "same; evaluate on the data and split that the model was trained with"
            )
        _check_unseen(model, split, pinned, allow_other_split)
        print(f"{type(model).__name__} on {split.test}")
        result = evaluate(
            model,
            split.test,
            names,
            min_relevance=config.evaluate.min_relevance,
            popularity=split.train,
            show_progress=show_progress,
        )
        print(result)
        if output is not None and beside is not None:
            result.per_user.to_parquet(beside)
            os.replace(beside, output)
            print(f"per user: {output}")
    return result


def _check_unseen(model: Recommender, split: Split, uri: str, allowed: bool) -> None:
    """Refuse a split whose training part is not what the model was trained on: it may have seen the test entries."""
    trained = model.about_.get("trained_on")
    if trained is None:
        _warn(f"{uri} does not say what it was trained on; the figures count only if it has not seen these entries")
        return
    try:
        part = split.refit() if trained["refit"] else split.train
        same = part.fingerprint() == trained["fingerprint"]
    except DataError:  # this split has no part to refit on
        same = False
    if same:
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
def _output(path: Path | None) -> Iterator[Path | None]:
    """Give a file beside `path` to write and rename, made at once: what cannot be written is refused before the work.

    Raises:
        ConfigError: `path` is not a .parquet file.
    """
    if path is None:
        yield None
        return
    if path.suffix != ".parquet" or path.is_dir():
        raise ConfigError(f"the output of evaluate is a .parquet file, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.touch()
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)
