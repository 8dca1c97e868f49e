"""The commands of `recsys` as a table: one entry per job, its options beside the function that they are for."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return minutes


class Option:
    """An argument of a command, as `argparse.add_argument` takes it; its destination is a parameter of the job.

    Its default is that of the parameter: it stands nowhere else.
    """

    def __init__(self, *flags: str, **settings: Any) -> None:
        self.flags, self.settings = flags, settings


@dataclass(frozen=True)
class Command:
    """A job: what it is called, what it does, the function that does it, and that function's options.

    The function takes a `Workspace` first, and each option under the name of its destination. Configuration files
    (`config`, `configs`) are read before it is called.
    """

    name: str
    """`train`, or two words such as `registry list`."""
    help: str
    function: str
    """`module:function`; imported when the command runs, because torch and MLflow take seconds."""
    options: tuple[Option, ...] = ()


CONFIG = Option("config", type=Path, help="TOML file, such as pipelines/configs/multvae-ml1m.toml")
SET = Option(
    "--set",
    dest="overrides",
    action="append",
    metavar="KEY=VALUE",
    help="in place of the file's value, e.g. --set model.epochs=50; may be repeated",
)
MODEL = Option("model", help="folder, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model")
NAME = Option("name", help="name in the model registry")
LENGTH = Option("-n", type=_positive, help="recommendations per user (default 10)")
DATA = Option("--data", help="data set or file with the histories (default: that of the training)")
ALIAS = Option("--alias", help="alias to move (default champion)")
TRIALS = Option("--trials", type=_positive, metavar="N", help="settings to try per model, in place of tune.trials")
MINUTES = Option("--minutes", type=_minutes, help="time for the trials of a model, in place of tune.minutes")

COMMANDS = (
    Command(
        "train",
        "train, evaluate, track and register the model of a configuration",
        "recsys.jobs.train:run",
        (CONFIG, SET),
    ),
    Command(
        "tune",
        "search for hyperparameters on the validation part ([tune] of the configuration)",
        "recsys.jobs.tune:run",
        (
            Option("config", type=Path, help="TOML file with a section [tune]"),
            Option("--output", type=Path, metavar="FILE", help="TOML file for the best configuration, for train"),
            TRIALS,
            MINUTES,
            SET,
        ),
    ),
    Command(
        "compare",
        "tune, train and test several models alike, into one table with intervals and tests",
        "recsys.jobs.compare:run",
        (
            Option("configs", type=Path, nargs="+", metavar="config", help="TOML files of the same data and split"),
            Option("--output", type=Path, metavar="FOLDER", required=True, help="folder, e.g. data/compared/ml-1m"),
            Option("--metric", help="metric that sorts and is tested (default: train.metric)"),
            TRIALS,
            MINUTES,
            SET,
        ),
    ),
    Command(
        "evaluate",
        "measure a saved model on the test part it was trained beside, or of a configuration",
        "recsys.jobs.evaluate:run",
        (
            MODEL,
            Option(
                "--config", type=Path, metavar="FILE", help="TOML file with data and split (default: the training's)"
            ),
            Option(
                "--metric",
                dest="metrics",
                action="append",
                metavar="METRIC",
                help="e.g. ndcg@10; may be repeated (default: those of the configuration)",
            ),
            Option("--output", type=Path, metavar="FILE", help="parquet file for the metrics of each user"),
            Option("--report", type=Path, metavar="FILE", help="HTML file: figures, breakdowns, example users"),
            Option(
                "--allow-other-split",
                action="store_true",
                help="evaluate even if the model may have been trained on the test entries, with a warning",
            ),
        ),
    ),
    Command(
        "recommend",
        "print recommendations by title",
        "recsys.jobs.serve:recommend",
        (
            MODEL,
            Option(
                "--user", dest="users", action="append", required=True, metavar="ID", help="user id; may be repeated"
            ),
            LENGTH,
            DATA,
        ),
    ),
    Command(
        "export",
        "write a saved model as a graph for runtimes without Python",
        "recsys.jobs.serve:export",
        (MODEL, Option("--onnx", type=Path, metavar="FILE", required=True, help="file to write, e.g. model.onnx")),
    ),
    Command(
        "promote",
        "give a registered version the alias champion, by hand or if it has earned it",
        "recsys.jobs.promote:run",
        (
            NAME,
            Option("--version", type=_positive, metavar="VERSION", help="version (default: the newest)"),
            Option(
                "--challenger",
                nargs="?",
                type=_positive,
                const=0,
                metavar="VERSION",
                help="test this version (default: the newest) against the champion on the same users; "
                "it must earn the alias",
            ),
            ALIAS,
            Option("--reason", metavar="TEXT", help="why; stored with the version"),
        ),
    ),
    Command(
        "rollback",
        "give the alias back to the version that held it before",
        "recsys.jobs.promote:rollback",
        (NAME, ALIAS),
    ),
    Command("registry list", "every version of every model", "recsys.jobs.registry:list_models"),
    Command(
        "registry show",
        "a version's tags, parameters, metrics and notes (default: the champion, else the newest)",
        "recsys.jobs.registry:show",
        (NAME, Option("version", nargs="?", type=_positive, help="number of the version")),
    ),
    Command(
        "registry diff",
        "in what two versions differ",
        "recsys.jobs.registry:diff",
        (
            NAME,
            Option("one", type=_positive, help="number of a version"),
            Option("other", type=_positive, help="number of another"),
        ),
    ),
    Command(
        "registry prune",
        "delete old versions, never one with an alias; says what would go unless --yes",
        "recsys.jobs.registry:prune",
        (
            NAME,
            Option(
                "--keep",
                type=_positive,
                metavar="N",
                required=True,
                help="keep the newest N of the versions without an alias",
            ),
            Option("--yes", dest="delete", action="store_true", help="delete"),
        ),
    ),
    Command(
        "ui",
        "open MLflow's pages on the project's store",
        "recsys.jobs.registry:ui",
        (Option("--port", type=_positive, help="port on this machine (default 5000)"),),
    ),
    Command(
        "sync", "send the tracking server what it could not be sent while trainings ran", "recsys.jobs.registry:sync"
    ),
    Command(
        "score",
        "write the recommendations of all users, or of listed ones, as parquet",
        "recsys.jobs.serve:score",
        (
            MODEL,
            Option("--output", type=Path, metavar="FOLDER", required=True, help="folder, e.g. data/scored/tonight"),
            LENGTH,
            Option(
                "--batch-size",
                type=_positive,
                metavar="N",
                help="users per part file; a killed job continues after its last whole part (default 16384)",
            ),
            DATA,
            Option(
                "--users",
                type=Path,
                metavar="FILE",
                help="user ids to score: text, one a line, or csv or parquet with a column user_id (default: all)",
            ),
            Option(
                "--on-unknown",
                choices=("raise", "drop"),
                help="listed users who are not in the data: refuse the list (default) or leave them out",
            ),
        ),
    ),
    Command(
        "data",
        "describe a data set or file; of a configuration, its split and what leaks in it too",
        "recsys.jobs.data:run",
        (Option("source", metavar="NAME|FILE", help="name of a data set, file, folder or configuration (.toml)"),),
    ),
    Command(
        "nightly",
        "the night's job: train a challenger, let it earn the alias, score the champion",
        "recsys.jobs.nightly:run",
        (
            Option("config", type=Path, help="TOML file with track.register"),
            Option(
                "--output", type=Path, metavar="FOLDER", help="folder of recommendations (default data/scored/NAME)"
            ),
            Option("--summary", type=Path, metavar="FILE", help="JSON file (default mlruns/nightly/NAME.json)"),
            LENGTH,
            SET,
        ),
    ),
    Command("demo", "the whole path on generated data, in about two minutes", "recsys.jobs.demo:run"),
)

GROUPS = {"registry": "look at the model registry, and delete old versions"}
"""What commands of two words have in common, by the first."""
