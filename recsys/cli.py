"""The command `recsys`: each sub-command is one job."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

from recsys.errors import ConfigError, RecsysError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a clear message for an error of the package's own or of a file.

    Raises:
        SystemExit: the arguments are wrong (2), or the process was asked to end (143).
    """
    arguments = parser().parse_args(argv)
    try:
        with _ending_in_order():
            _dispatch(arguments)
    except RecsysError as error:
        print(f"recsys {arguments.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"recsys {arguments.command}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"recsys {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turn SIGTERM into SystemExit for the block, so that runs and locks are closed on the way out."""
    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


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


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(
        prog="recsys",
        description="Top-N recommendation with autoencoders.",
        epilog="'recsys COMMAND --help' lists a command's options; 'recsys demo' shows the whole path.",
    )
    top.add_argument("--version", action="version", version=version("recsys"))
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        sub.add_argument(
            "--root", type=Path, metavar="FOLDER", help="folder of mlruns/ and data/raw/ (default: the current one)"
        )
        sub.add_argument("--quiet", action="store_true", help="no progress bars")
        return sub

    def model_argument(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("model", help="folder, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model")

    train = command("train", "train, evaluate, track and register the model of a configuration")
    train.add_argument("config", type=Path, help="TOML file, such as pipelines/configs/multvae-ml1m.toml")
    train.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="in place of the file's value, e.g. --set model.hidden=200; may be repeated",
    )

    tune = command("tune", "search for hyperparameters on the validation part ([tune] of the configuration)")
    tune.add_argument("config", type=Path, help="TOML file with a section [tune]")
    tune.add_argument(
        "--output", type=Path, metavar="FILE", help="TOML file for the best configuration, ready for train"
    )
    compare = command("compare", "tune, train and test several models alike, into one table with intervals and tests")
    compare.add_argument(
        "configs", type=Path, nargs="+", metavar="config", help="TOML files of the same data, split and metrics"
    )
    compare.add_argument(
        "--output", type=Path, metavar="FOLDER", required=True, help="folder to write, e.g. data/compared/ml-1m"
    )
    compare.add_argument("--metric", help="metric that sorts and is tested (default: train.metric)")
    for sub in (tune, compare):
        sub.add_argument(
            "--trials", type=_positive, metavar="N", help="settings to try per model, in place of tune.trials"
        )
        sub.add_argument("--minutes", type=_minutes, help="time for the trials of a model, in place of tune.minutes")
        sub.add_argument(
            "--set",
            dest="overrides",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="in place of the file's value, e.g. --set tune.seed=1; may be repeated",
        )

    evaluate = command(
        "evaluate", "measure a saved model on the test part it was trained beside, or of a configuration"
    )
    model_argument(evaluate)
    evaluate.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with data and split (default: those of the training)"
    )
    evaluate.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        metavar="METRIC",
        help="e.g. ndcg@10; may be repeated (default: those of the configuration)",
    )
    evaluate.add_argument("--output", type=Path, metavar="FILE", help="parquet file for the metrics of each user")
    evaluate.add_argument(
        "--report", type=Path, metavar="FILE", help="HTML file for the report: figures, breakdowns, example users"
    )
    evaluate.add_argument(
        "--allow-other-split",
        action="store_true",
        help="evaluate even if the model may have been trained on the test entries, with a warning",
    )

    recommend = command("recommend", "print recommendations by title")
    model_argument(recommend)
    recommend.add_argument(
        "--user", dest="users", action="append", required=True, metavar="ID", help="user id; may be repeated"
    )
    recommend.add_argument("-n", type=_positive, default=10, help="recommendations per user (default 10)")
    recommend.add_argument("--data", help="data set or file with the histories (default: that of the training)")

    export = command("export", "write a saved model as a graph for runtimes without Python")
    model_argument(export)
    export.add_argument("--onnx", type=Path, metavar="FILE", required=True, help="file to write, e.g. model.onnx")

    promote = command("promote", "give a registered version the alias champion, by hand or if it has earned it")
    promote.add_argument("name", help="name in the model registry")
    promote.add_argument(
        "--version", dest="model_version", type=_positive, metavar="VERSION", help="version (default: the newest)"
    )
    promote.add_argument(
        "--challenger",
        nargs="?",
        type=_positive,
        const=0,
        metavar="VERSION",
        help="test this version (default: the newest) against the champion on the same users; it must earn the alias",
    )
    promote.add_argument("--alias", default="champion", help="alias to set (default champion)")
    promote.add_argument("--reason", default="", metavar="TEXT", help="why; stored with the version")

    text = "look at the model registry, and delete old versions"
    registry = commands.add_parser("registry", help=text, description=text)
    looks = registry.add_subparsers(dest="look", required=True, metavar="WHAT")

    def look(name: str, help_: str) -> argparse.ArgumentParser:
        sub = looks.add_parser(name, help=help_, description=help_)
        sub.add_argument("--root", type=Path, metavar="FOLDER", help="folder of mlruns/ (default: the current one)")
        sub.set_defaults(quiet=True)
        return sub

    look("list", "every version of every model")
    show = look("show", "a version's tags, parameters, metrics and notes (default: the champion, else the newest)")
    diff = look("diff", "in what two versions differ")
    prune = look("prune", "delete old versions, never one with an alias; says what would go unless --yes")
    for sub in (show, diff, prune):
        sub.add_argument("name", help="name in the model registry")
    show.add_argument("version", nargs="?", type=_positive, help="number of the version")
    diff.add_argument("one", type=_positive, help="number of a version")
    diff.add_argument("other", type=_positive, help="number of another")
    prune.add_argument(
        "--keep", type=_positive, metavar="N", required=True, help="keep the newest N of the versions without an alias"
    )
    prune.add_argument("--yes", action="store_true", help="delete")

    ui = command("ui", "open MLflow's pages on the project's store")
    ui.add_argument("--port", type=_positive, default=5000, help="port on this machine (default 5000)")

    command("sync", "tell the tracking server what it could not be told while trainings ran")

    rollback = command("rollback", "give the alias back to the version that held it before")
    rollback.add_argument("name", help="name in the model registry")
    rollback.add_argument("--alias", default="champion", help="alias to move (default champion)")

    score = command("score", "write the recommendations of all users, or of listed ones, as parquet")
    model_argument(score)
    score.add_argument(
        "--output", type=Path, metavar="FOLDER", required=True, help="folder to write, e.g. data/scored/tonight"
    )
    score.add_argument("-n", type=_positive, default=10, help="recommendations per user (default 10)")
    score.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="users per part file; a job that died goes on after its last whole part (default 16384)",
    )
    score.add_argument("--data", help="data set or file with the histories (default: that of the training)")
    score.add_argument(
        "--users",
        type=Path,
        metavar="FILE",
        help="user ids to score: text, one a line, or csv or parquet with a column user_id (default: all)",
    )
    score.add_argument(
        "--on-unknown",
        choices=("raise", "drop"),
        default="raise",
        help="listed users who are not in the data: refuse the list (default) or leave them out",
    )

    data = command("data", "describe a data set or file; of a configuration, its split and what leaks in it too")
    data.add_argument("source", metavar="NAME|FILE", help="name of a data set, file, folder or configuration (.toml)")

    nightly = command("nightly", "the night's job: train a challenger, let it earn the alias, score the champion")
    nightly.add_argument("config", type=Path, help="TOML file with track.register")
    nightly.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder of the recommendations (default data/scored/NAME)"
    )
    nightly.add_argument("--summary", type=Path, metavar="FILE", help="JSON file (default mlruns/nightly/NAME.json)")
    nightly.add_argument("-n", type=_positive, default=10, help="recommendations per user (default 10)")
    nightly.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="in place of the file's value, e.g. --set model.epochs=50; may be repeated",
    )

    command("demo", "the whole path on generated data, in about two minutes")
    return top


def _dispatch(arguments: argparse.Namespace) -> None:
    # Jobs are imported where they run: torch and MLflow take seconds, and --help should not.
    root, progress = arguments.root, not arguments.quiet
    if arguments.command == "train":
        from recsys.config import load_config
        from recsys.jobs import train

        train.run(load_config(arguments.config, arguments.overrides), root=root, show_progress=progress)
    elif arguments.command == "evaluate":
        from recsys.config import load_config
        from recsys.jobs import evaluate

        config = load_config(arguments.config) if arguments.config else None
        evaluate.run(
            arguments.model,
            config,
            metrics=arguments.metrics,
            output=arguments.output,
            page=arguments.report,
            allow_other_split=arguments.allow_other_split,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "tune":
        from recsys.config import load_config
        from recsys.jobs import tune

        tune.run(
            load_config(arguments.config, arguments.overrides),
            trials=arguments.trials,
            minutes=arguments.minutes,
            output=arguments.output,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "compare":
        from recsys.config import load_configs
        from recsys.jobs import compare

        compare.run(
            load_configs(arguments.configs, arguments.overrides),
            arguments.output,
            metric=arguments.metric,
            trials=arguments.trials,
            minutes=arguments.minutes,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "recommend":
        from recsys.jobs import recommend

        recommend.run(arguments.model, arguments.users, n=arguments.n, data=arguments.data, root=root)
    elif arguments.command == "export":
        from recsys.jobs import export

        export.run(arguments.model, arguments.onnx, root=root)
    elif arguments.command == "promote":
        from recsys.jobs import promote

        if arguments.challenger is None:
            promote.run(
                arguments.name, arguments.model_version, alias=arguments.alias, reason=arguments.reason, root=root
            )
        elif arguments.model_version is not None or arguments.reason:
            raise ConfigError("--challenger gives its own version and reason; leave out --version and --reason")
        else:
            version = arguments.challenger or None
            promote.challenge(arguments.name, version, alias=arguments.alias, root=root, show_progress=progress)
    elif arguments.command == "registry":
        from recsys.jobs import registry

        if arguments.look == "list":
            registry.list_models(root)
        elif arguments.look == "show":
            registry.show(arguments.name, arguments.version, root)
        elif arguments.look == "diff":
            registry.diff(arguments.name, arguments.one, arguments.other, root)
        else:
            registry.prune(arguments.name, keep=arguments.keep, delete=arguments.yes, root=root)
    elif arguments.command == "ui":
        from recsys.jobs import registry

        registry.ui(root, arguments.port)
    elif arguments.command == "nightly":
        from recsys.config import load_config
        from recsys.jobs import nightly

        nightly.run(
            load_config(arguments.config, arguments.overrides),
            output=arguments.output,
            summary=arguments.summary,
            n=arguments.n,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "rollback":
        from recsys.jobs import promote

        promote.rollback(arguments.name, alias=arguments.alias, root=root)
    elif arguments.command == "sync":
        from recsys.jobs import sync

        sync.run(root)
    elif arguments.command == "score":
        from recsys.jobs import score
        from recsys.scoring.local import BATCH_SIZE

        score.run(
            arguments.model,
            arguments.output,
            n=arguments.n,
            data=arguments.data,
            users=arguments.users,
            on_unknown=arguments.on_unknown,
            batch_size=arguments.batch_size or BATCH_SIZE,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "data":
        from recsys.jobs import data

        data.run(arguments.source, root=root)
    else:
        from recsys.jobs import demo

        demo.run(root=root, show_progress=progress)


if __name__ == "__main__":
    sys.exit(main())
