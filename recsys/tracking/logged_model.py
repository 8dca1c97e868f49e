"""Models of a run: logged as their bundle with the code that reads it, or put aside until a store answers."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recsys.columns import ITEM, RATING, USER
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models import load as load_bundle
from recsys.splits import Part
from recsys.tracking import adapter, runs
from recsys.tracking._mlflow import LoggedModelStatus, MlflowClient, mlflow
from recsys.tracking.adapter import BUNDLE, PARAMS
from recsys.tracking.machine import version

MODEL = "model"
"""Name of the logged model within its run."""
EXAMPLE_USERS = 3
"""Users in the input example of a logged model."""
_PACKAGE = Path(__file__).parents[1]
_EXAMPLES = "examples.parquet"
_REQUIREMENTS = (
    "mlflow",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "implicit",
    "safetensors",
    "threadpoolctl",
    "tqdm",
)


def log(
    model: Recommender,
    run_id: str,
    examples: Interactions | Part,
    metrics: Mapping[str, float],
    about: Mapping[str, Any],
) -> None:
    """Log a model that knows its ids in a run; what MLflow raises is left as it is."""
    assert model.items_ is not None
    matrix = _histories(model, examples)
    rated = bool((matrix.data != 1).any())
    few = matrix[:EXAMPLE_USERS]
    users = examples.users.ids(np.arange(few.shape[0]))
    with tempfile.TemporaryDirectory() as folder, runs.active(run_id), _same_path():
        bundle = Path(folder, BUNDLE)
        model.save(bundle, metrics=metrics, about={**about, "run_id": run_id})
        mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(_PACKAGE / "pyfunc_model.py"),
            artifacts={BUNDLE: str(bundle)},
            signature=adapter.signature(rated),
            input_example=(adapter.example(few, users, model.items_, rated), dict(PARAMS)),
            pip_requirements=[f"{library}=={version(library).partition('+')[0]}" for library in _REQUIREMENTS],
            code_paths=[str(_PACKAGE)],
            tags={"model": type(model).__name__, **about.get("tags", {})},  # those of its versions too
        )


def put_aside(
    model: Recommender,
    folder: Path,
    examples: Interactions | Part,
    metrics: Mapping[str, float],
    about: Mapping[str, Any],
) -> None:
    """Write to a new folder what `log_put_aside` needs to log a model later."""
    folder.mkdir()
    model.save(folder / BUNDLE, metrics=metrics, about=about)
    _few(model, examples).to_parquet(folder / _EXAMPLES)


def log_put_aside(folder: Path, run_id: str) -> None:
    """Log what `put_aside` has written, unless the run has its model already."""
    client = MlflowClient()
    logged = logged_models(client, run_id).get(MODEL)
    if logged and client.get_logged_model(logged).status == LoggedModelStatus.READY:
        return
    model = load_bundle(folder / BUNDLE)
    examples = Interactions.from_frame(pd.read_parquet(folder / _EXAMPLES))
    measured = json.loads((folder / BUNDLE / "metrics.json").read_text(encoding="utf-8"))
    log(model, run_id, examples, measured, model.about_)


def logged_models(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Return the ids of the models that a run has logged, by name; of one name the latest."""
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    models = sorted((client.get_logged_model(model_id) for model_id in ids), key=lambda model: model.creation_timestamp)
    return {model.name: model.model_id for model in models}


def _histories(model: Recommender, examples: Interactions | Part) -> sp.csr_matrix:
    assert model.items_ is not None  # current.log_model has looked
    return examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context


def _few(model: Recommender, examples: Interactions | Part) -> pd.DataFrame:
    """Return the histories that a logged model's example shows, as a table; with one of ratings, if there is any."""
    assert model.items_ is not None
    matrix = _histories(model, examples).tocsr()
    rows = list(range(min(EXAMPLE_USERS, matrix.shape[0])))
    rated = np.flatnonzero(matrix.data != 1)
    if len(rated):
        rows.append(int(np.searchsorted(matrix.indptr, rated[0], side="right")) - 1)
    few = matrix[sorted(set(rows))].tocoo()
    users = examples.users.ids(np.asarray(sorted(set(rows))))
    return pd.DataFrame({USER: users[few.row], ITEM: model.items_.ids(few.col), RATING: few.data})


@contextmanager
def _same_path() -> Iterator[None]:
    """Undo what MLflow adds to `sys.path` when it tries a model: the folder is gone afterwards."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
