"""Measure a saved model on a test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys.config import JobConfig
from recsys.errors import ConfigError, DataError
from recsys.evaluation import DEFAULT, Evaluation, evaluate
from recsys.jobs.common import config_of, load_model


def run(
    uri: str,
    config: JobConfig | None = None,
    *,
    metrics: Sequence[str] | None = None,
    output: Path | None = None,
    root: Path | None = None,
    show_progress: bool = True,
) -> Evaluation:
    """Evaluate the model at `uri` on the test part of `config`, by default of the configuration it was trained with.

    Prints the metrics with their standard errors; `output` also writes them per user as parquet.

    Raises:
        DataError: the split's items are not the model's.
    """
    model = load_model(uri, root)
    config = config or config_of(model, uri)
    data = config.load_data()
    split = config.split.split(data)
    if model.items_ is not None and model.items_ != split.train.items:
        raise DataError(
            f"the model knows {model.n_items_} items and this split has {split.train.shape[1]}: they are not the same; "
            "evaluate on the data and split that the model was trained with"
        )
    print(f"{type(model).__name__} on {split.test}")
    result = evaluate(
        model,
        split.test,
        metrics or config.evaluate.metrics or DEFAULT,
        min_relevance=config.evaluate.min_relevance,
        popularity=split.train,
        show_progress=show_progress,
    )
    print(result)
    if output is not None:
        if output.suffix != ".parquet":
            raise ConfigError(f"the output of evaluate is a .parquet file, got {output}")
        output.parent.mkdir(parents=True, exist_ok=True)
        result.per_user.to_parquet(output)
        print(f"per user: {output}")
    return result
