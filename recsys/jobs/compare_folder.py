"""The output folder of a comparison: tables, a folder per model, and a manifest that lists what was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from recsys.files import read_json
from recsys.jobs.parts_folder import DONE, Layout, PartsFolder, is_name

TABLES: Final = ("table.md", "table.csv", "pairs.csv", "comparison.png")
"""The files of the folder itself."""
EVALUATION: Final = ("per_user.parquet", "summary.parquet")
"""What a model's folder holds of its result."""
_OF_A_MODEL: Final = (*EVALUATION, "trials.csv", "best.toml")
_MODELS: Final = "models"
_BEGINNINGS: Final = {"table.md": "Test part of ", "table.csv": "model,", "pairs.csv": "metric,better,worse,"}
"""How the tables of version 0.2.0 begin, which wrote no manifest."""


def compare_folder(folder: Path) -> PartsFolder:
    """Return the folder of a comparison, whose parts are the models."""
    return PartsFolder(folder, COMPARISON)


def _files_without_manifest(folder: Path) -> list[str] | None:
    """Return what a comparison of version 0.2.0 wrote: of models by their `done.json`, tables by how they begin."""
    files = []
    if (folder / _MODELS).is_dir() and not (folder / _MODELS).is_symlink():
        for model in sorted((folder / _MODELS).iterdir()):
            if is_name(model.name) and not model.is_symlink() and _is_done(read_json(model / DONE) or {}):
                files += [f"{_MODELS}/{model.name}/{name}" for name in (*_OF_A_MODEL, DONE) if (model / name).is_file()]
    if not files:
        return None
    tables = [name for name, text in _BEGINNINGS.items() if _begins(folder / name, text)]
    return [*files, *(TABLES if len(tables) == len(_BEGINNINGS) else tables)]


def _begins(path: Path, text: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(text.encode())) == text.encode()


def _is_done(facts: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is what a comparison writes of a model."""
    kinds = {"digest": str, "model": str, "trials": int, "validation": dict, "hyperparameters": dict}
    return all(isinstance(facts.get(key), kind) for key, kind in kinds.items()) and all(
        isinstance(value, float | int) for value in facts["validation"].values()
    )


COMPARISON: Final = Layout(
    what="the output of a comparison",
    part="a comparison",
    busy="comparing",
    files=TABLES,
    group=_MODELS,
    is_part_file=_OF_A_MODEL.__contains__,
    is_done=_is_done,
    needed=EVALUATION,
    without_manifest=_files_without_manifest,
)
