"""The files by which a training that was killed continues, and the model that its run has logged already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys import tracking
from recsys.config import JobConfig
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.training import Record
from recsys.workspace import Workspace


def files_of(
    workspace: Workspace, job: JobConfig, data: Interactions, model_tags: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Return the files by which a training continues that was killed; the last names its run."""
    about = {"config": job.as_dict(), "data": data.summary(), **({"tags": dict(model_tags)} if model_tags else {})}
    return in_order(resume_files(workspace, job.new_model(), about))


def in_order(files: Mapping[str, Path]) -> tuple[Path, ...]:
    """Return the checkpoints, and then the file that names the run: without that another run would begin."""
    return (*(path for step, path in files.items() if step != "run"), files["run"])


def forget(files: Sequence[Path]) -> None:
    """Remove the files by which a training would continue, since its result is kept."""
    for file in files:
        file.unlink(missing_ok=True)


def resume_files(workspace: Workspace, model: Recommender, about: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files by which a killed training continues, named by its job, seeds and data.

    `run` names the MLflow run; `fit` and `refit` are checkpoints, of models that train by epochs.
    """
    job = {name: section for name, section in about["config"].items() if name != "track"}
    # A training may continue on another device.
    job["model"] = {name: value for name, value in model.params().items() if name != "device"}
    track = about["config"]["track"]
    where = {"experiment": track["experiment"], "register": track.get("register"), "tags": about.get("tags")}
    where["recsys"] = tracking.version("recsys")  # the run of a model that was refused stays, and is of one version
    steps = {"run": ".json"}
    if model.capabilities.trains_by_epochs:
        steps |= {"fit": ".safetensors", "refit": ".safetensors"}
    facts = [type(model).__name__, job, about["data"]["fingerprint"]]
    files = {}
    for step, suffix in steps.items():
        where_too = [where] if step == "run" else []
        files[step] = tracking.resume_file(workspace, step, *facts, *where_too, suffix=suffix)
    return files


def trained_earlier() -> tuple[Recommender, dict[str, float], Record] | None:
    """Return model, validation metrics and record of the training, if the current run has logged the model before."""
    bundle = tracking.resumed_bundle()
    model = None if bundle is None else tracking.load(bundle)
    if model is None or not part_of(model.about_, "chosen"):
        return None
    chosen = model.about_["chosen"]
    return model, chosen["validation"], Record(**chosen["record"])
