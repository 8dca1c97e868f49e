"""Experiments and the model registry, in MLflow; no other part of the library imports MLflow.

Runs, models and artifacts are kept in `mlruns` of a workspace: a SQLite database and an artifact folder beside it.
A model is logged as its bundle with the code that reads it, so no pickle is written or read.

A remote store may be slow or unavailable: events that it did not receive wait in `mlruns/pending`, in a `recsys.spool`,
and are sent by a later report of the run, at the end of the run, or by `sync`. Events may be sent twice without harm:
metrics carry time and step, a run is found by its tag `recsys.run`, and a run logs its model once.

The modules, each of which imports only from those before it:

- `_mlflow` imports MLflow; `store` opens the store, bounds and silences its calls and translates its errors;
- `runs` creates, finds and resumes runs, and describes the machine;
- `registry` manages versions, `aliases` who of them is champion;
- `adapter` serves a bundle; `logged_model` logs it, finds it and loads it;
- `model_files` are the files that logging a model leaves; `pruning` deletes old versions with them;
- `home` makes the store of a workspace, and moves it along; `recovery` closes the runs of killed processes;
- `events` are what a run reports and how it is sent; `outbox` sends them or lets them wait, and `sync` them later;
- `tracker` turns a job's reports into events; `current` starts, ends and knows the current run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from recsys.tracking.aliases import Promotion, annotate, promote, rollback, tag_by
from recsys.tracking.outbox import Synced, sync
from recsys.tracking.recovery import configure, describe, remove_leftovers, resume_file, strangers
from recsys.tracking.registry import (
    MODEL,
    NOTE,
    RegisteredModel,
    delete_version,
    model_versions,
    register,
    registered_names,
    version_facts,
    version_tags,
    versions_if_any,
)
from recsys.tracking.runs import environment, now, version
from recsys.tracking.store import check, trouble

if TYPE_CHECKING:
    from recsys.tracking.adapter import RecommendationModel, set_pyfunc_model
    from recsys.tracking.current import log_model, resumed_bundle, start_run
    from recsys.tracking.logged_model import address, load, pin, resolve
    from recsys.tracking.pruning import Pruned, needed_versions, prune
    from recsys.tracking.tracker import Tracker, flatten, mlflow_name, test_figures

__all__ = [
    "MODEL",
    "NOTE",
    "Promotion",
    "Pruned",
    "RecommendationModel",
    "RegisteredModel",
    "Synced",
    "Tracker",
    "address",
    "annotate",
    "check",
    "configure",
    "delete_version",
    "describe",
    "environment",
    "flatten",
    "load",
    "log_model",
    "mlflow_name",
    "model_versions",
    "needed_versions",
    "now",
    "pin",
    "promote",
    "prune",
    "register",
    "registered_names",
    "remove_leftovers",
    "resolve",
    "resume_file",
    "resumed_bundle",
    "rollback",
    "set_pyfunc_model",
    "start_run",
    "strangers",
    "sync",
    "tag_by",
    "test_figures",
    "trouble",
    "version",
    "version_facts",
    "version_tags",
    "versions_if_any",
]

_LATER: Final = {
    "adapter": ("RecommendationModel", "set_pyfunc_model"),
    "current": ("log_model", "resumed_bundle", "start_run"),
    "logged_model": ("address", "load", "pin", "resolve"),
    "pruning": ("Pruned", "needed_versions", "prune"),
    "tracker": ("Tracker", "flatten", "mlflow_name", "test_figures"),
}
"""Modules that read models, and what of them is public: imported when first used, since they need torch."""


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name == module or name in names:
            found = import_module(f"{__name__}.{module}")
            return found if name == module else getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
