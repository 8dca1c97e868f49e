"""Models side by side, and metrics along the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.evaluation.results import Evaluation
from recsys.metrics import higher_is_better, parse


def along_k(metrics: Sequence[str], n_items: int) -> list[str]:
    """Return the metrics, and the list metrics at further cut-offs: points of a curve, from the same top-N pass."""
    names = dict.fromkeys(metrics)
    for kind, k in map(parse, metrics):
        if k is not None:
            names |= dict.fromkeys(f"{kind}@{cut}" for cut in (1, 2, 5, 10, 20, 50, 100) if cut <= max(1, n_items // 2))
    return list(names)


def table(evaluations: Mapping[str, Evaluation], *, sort_by: str | None = None) -> pd.DataFrame:
    """Return the models' values side by side, the best first.

    Args:
        evaluations: evaluation of each model, by the model's name.
        sort_by: metric to sort by; the first metric by default.

    Returns:
        One row per model; columns (metric, `value`) and (metric, `standard_error`), NaN where a model has none.

    Raises:
        ConfigError: no model was evaluated on `sort_by`.
        DataError: there are no evaluations.
    """
    if not evaluations:
        raise DataError("expected at least one evaluation to compare, got none")
    metrics = list(dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.summary["metric"]))
    sort_by = metrics[0] if sort_by is None else sort_by
    if sort_by not in metrics:
        raise ConfigError(f"no model was evaluated on {sort_by!r}{did_you_mean(sort_by, metrics)}")
    fields = ["value", "standard_error"]
    lines = [
        evaluation.summary.set_index("metric")[fields].reindex(metrics).to_numpy().ravel()
        for evaluation in evaluations.values()
    ]
    frame = pd.DataFrame(
        np.array(lines),
        index=pd.Index(list(evaluations), name="model"),
        columns=pd.MultiIndex.from_product([metrics, fields]),
    )
    return frame.sort_values((sort_by, "value"), ascending=not higher_is_better(sort_by), kind="stable")


def formatted(comparison: pd.DataFrame, *, digits: int = 4) -> pd.DataFrame:
    """Return a `table` as text: `0.3212 ± 0.0021` per cell, without ± if there is no standard error.

    Args:
        comparison: a frame made by `table`.
        digits: decimal places.
    """

    def cell(value: float, error: float) -> str:
        if np.isnan(value):
            return "-"
        return f"{value:.{digits}f}" if np.isnan(error) else f"{value:.{digits}f} ± {error:.{digits}f}"

    names = list(dict.fromkeys(comparison.columns.get_level_values(0)))
    cells = {
        name: [cell(*pair) for pair in zip(comparison[name, "value"], comparison[name, "standard_error"], strict=True)]
        for name in names
    }
    return pd.DataFrame(cells, index=comparison.index)
