"""Experiments and the model registry: the only part that imports MLflow.

Runs, models and artifacts live in `mlruns` of a workspace: a SQLite database and an artifact folder beside it.
A model is logged as its bundle with the code that reads it, so that no pickle is written or read.

A store elsewhere may be slow or away: what a run could not tell it waits in `mlruns/pending`, as `recsys.spool`
keeps it, and is sent by a later report of the run, at its end, or by `sync`. An event may be sent twice without harm:
metrics carry their time and step, a run the tag `recsys.run` by which it is found, and a model is logged once per run.

The modules, from the ground up:

- `_mlflow` imports MLflow, `asking` asks it quietly and not for long, `store` says where it keeps what;
- `machine` describes the machine, `events` what a run has to say, `runs` finds and begins runs;
- `adapter` serves a bundle, `logged_model` logs it;
- `registry`, `aliases` and `addresses` are about versions: which there are, who is champion, where they lie;
- `sender` tells a store of events, `outbox` keeps what it cannot be told, `replay` tells it later;
- `tracker` is what a job sees, `mlflow_tracker` turns its reports into events, `current` is the run that is going on.
"""

from recsys.tracking.adapter import BUNDLE, RecommendationModel, set_pyfunc_model
from recsys.tracking.addresses import address, load, pin, resolve
from recsys.tracking.aliases import Promotion, annotate, promote, rollback
from recsys.tracking.asking import FILE_TIMEOUT, TIMEOUT
from recsys.tracking.current import log_model, start_run
from recsys.tracking.events import flatten, mlflow_name
from recsys.tracking.logged_model import EXAMPLE_USERS, MODEL
from recsys.tracking.machine import environment, version
from recsys.tracking.mlflow_tracker import MlflowTracker
from recsys.tracking.outbox import SHARE
from recsys.tracking.registry import (
    RegisteredModel,
    delete_version,
    model_versions,
    register,
    registered_names,
    version_facts,
    version_tags,
    versions_if_any,
)
from recsys.tracking.replay import Synced, sync
from recsys.tracking.store import configure, describe
from recsys.tracking.tracker import NullTracker, Tracker

__all__ = [
    "BUNDLE",
    "EXAMPLE_USERS",
    "FILE_TIMEOUT",
    "MODEL",
    "SHARE",
    "TIMEOUT",
    "MlflowTracker",
    "NullTracker",
    "Promotion",
    "RecommendationModel",
    "RegisteredModel",
    "Synced",
    "Tracker",
    "address",
    "annotate",
    "configure",
    "delete_version",
    "describe",
    "environment",
    "flatten",
    "load",
    "log_model",
    "mlflow_name",
    "model_versions",
    "pin",
    "promote",
    "register",
    "registered_names",
    "resolve",
    "rollback",
    "set_pyfunc_model",
    "start_run",
    "sync",
    "version",
    "version_facts",
    "version_tags",
    "versions_if_any",
]
