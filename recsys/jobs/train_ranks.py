"""A training job of several processes: the first does all of it, and the others join each fit that it announces."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

from recsys import ranks
from recsys.config import JobConfig, check_config
from recsys.config.data import DataConfig
from recsys.errors import warn
from recsys.interactions import Interactions
from recsys.jobs.common import Sources, start_of, validation_of
from recsys.models import Recommender
from recsys.workspace import Workspace

Step = Literal["fit", "refit"]


def announce(model: Recommender, job: JobConfig, step: Step, checkpoint: Path | None) -> bool:
    """Tell the other processes to join the fit of a model that is to come; return whether they do.

    They do not where the model's class cannot be trained so; then the first process fits it while they wait.
    """
    if ranks.size() == 1:
        return False
    if not model.capabilities.in_ranks:
        warn(f"{type(model).__name__} is trained by one process, and the other {ranks.size() - 1} wait")
        return False
    told = {"job": job.as_dict(), "step": step, "checkpoint": None if checkpoint is None else str(checkpoint)}
    ranks.from_first(lambda: told)
    return True


def dismiss() -> None:
    """Tell the other processes that there is nothing more to fit."""
    ranks.from_first(lambda: None)


def follow(workspace: Workspace) -> None:
    """Join the fits that the first process announces, until it has no more; print and write nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first process has the same
        data: tuple[DataConfig, Interactions] | None = None
        model: Recommender | None = None
        while told := ranks.from_first(lambda: None):
            job, checkpoint = check_config(told["job"]), told["checkpoint"]
            if data is None or data[0] != job.data:
                data = job.data, Sources.read(workspace, job).data
            split = job.split.split(data[1])
            if told["step"] == "refit":
                assert model is not None  # whose fit came before
                start, _ = start_of(workspace, job)
                model = model.for_refit().fit(split.refit(), False, checkpoint=checkpoint, start=start)
                continue
            validation = validation_of(job, split) if job.train.validate_epochs else None
            options: dict[str, Any] = {"validation": validation, "checkpoint": checkpoint}
            model = job.new_model().fit(split.train, False, **options, start=start_of(workspace, job)[0])
