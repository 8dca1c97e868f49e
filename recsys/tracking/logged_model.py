"""Models of a run: prepared in a folder, and logged from there now or later."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys.artifacts import read_bundle, write_bundle
from recsys.columns import ITEM, RATING, USER
from recsys.files import read_json
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Part
from recsys.tracking import adapter, runs
from recsys.tracking._mlflow import MlflowClient, entities, mlflow
from recsys.tracking.adapter import BUNDLE, PARAMS
from recsys.tracking.machine import version
from recsys.tracking.sources import copy_source

MODEL = "model"
"""Name of the logged model within its run."""
EXAMPLE_USERS = 3
"""Users in the input example of a logged model."""
_PACKAGE = Path(__file__).parents[1]
_EXAMPLES = "examples.parquet"
_CODE = "code"
_REQUIREMENTS = "mlflow torch numpy scipy pandas pyarrow implicit safetensors threadpoolctl tqdm"


@contextmanager
def prepared(
    model: Recommender, examples: Interactions | Part, metrics: Mapping[str, float], about: Mapping[str, Any]
) -> Iterator[Path]:
    """Give a temporary folder that holds all `log` needs, also in another process; it may be moved away."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, MODEL)
        folder.mkdir()
        model.save(folder / BUNDLE, metrics=metrics, about=about)
        _first_histories(model, examples).to_parquet(folder / _EXAMPLES)
        copy_source(type(model), folder / _CODE)
        yield folder


def log(folder: Path, run_id: str) -> None:
    """Log a `prepared` model in a run; MLflow's errors are not translated."""
    config = read_json(folder / BUNDLE / "config.json") or {}
    if config["about"].get("run_id") != run_id:  # the store had not created the run when the model was prepared
        bundle = read_bundle(folder / BUNDLE)
        write_bundle(replace(bundle, about={**bundle.about, "run_id": run_id}), folder / BUNDLE)
    example = adapter.example(pd.read_parquet(folder / _EXAMPLES), EXAMPLE_USERS)
    with runs.active(run_id), _same_path():
        mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(_PACKAGE / "pyfunc_model.py"),
            artifacts={BUNDLE: str(folder / BUNDLE)},
            signature=adapter.signature("ratings" in example),
            input_example=None if example.empty else (example, dict(PARAMS)),
            pip_requirements=[f"{library}=={version(library).partition('+')[0]}" for library in _REQUIREMENTS.split()],
            code_paths=[str(_PACKAGE), *map(str, sorted((folder / _CODE).glob("*")))],
            tags={"model": config["model"], **config["about"].get("tags", {})},  # registered versions get them too
        )


def logged_models(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Return the ids of the models that a run has logged, by name; the latest of each name."""
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    models = sorted((client.get_logged_model(model_id) for model_id in ids), key=lambda model: model.creation_timestamp)
    return {model.name: model.model_id for model in models}


def is_logged(run_id: str) -> bool:
    """Return whether a run has logged its model completely."""
    client = MlflowClient()
    model_id = logged_models(client, run_id).get(MODEL)
    return model_id is not None and bool(client.get_logged_model(model_id).status == entities.LoggedModelStatus.READY)


def _first_histories(model: Recommender, examples: Interactions | Part) -> pd.DataFrame:
    """Return the first histories that are not empty as a table, and one with a rating other than 1 if there is any."""
    assert model.items_ is not None
    matrix = examples.histories(model.items_) if isinstance(examples, Interactions) else examples.context
    matrix = matrix.tocsr()
    rows = np.flatnonzero(np.diff(matrix.indptr))[:EXAMPLE_USERS].tolist()
    rated = np.flatnonzero(matrix.data != 1)
    if len(rated):
        rows.append(int(np.searchsorted(matrix.indptr, rated[0], side="right")) - 1)
    rows = np.unique(rows).astype(np.int64)
    few = matrix[rows].tocoo()
    users = examples.users.ids(rows)
    return pd.DataFrame({USER: users[few.row], ITEM: model.items_.ids(few.col), RATING: few.data})


@contextmanager
def _same_path() -> Iterator[None]:
    """Restore `sys.path`, to which MLflow adds a temporary folder when it validates a model."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
