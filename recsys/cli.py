"""The command `recsys`: each sub-command is one job."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

from recsys.errors import RecsysError


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


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(prog="recsys", description="Top-N recommendation with autoencoders.")
    top.add_argument("--version", action="version", version=version("recsys"))
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        sub.add_argument("--root", type=Path, help="folder of mlruns/ and data/raw/ (default: the current one)")
        sub.add_argument("--quiet", action="store_true", help="no progress bars")
        return sub

    def model_argument(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("model", help="folder, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model")

    train = command("train", "train, evaluate, track and register the model of a configuration")
    train.add_argument("config", type=Path, help="TOML file, such as pipelines/configs/multvae-ml1m.toml")
    train.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="e.g. --set model.hidden=200"
    )

    evaluate = command(
        "evaluate", "measure a saved model on the test part it was trained beside, or of a configuration"
    )
    model_argument(evaluate)
    evaluate.add_argument("--config", type=Path, help="TOML file with data and split")
    evaluate.add_argument(
        "--metric", dest="metrics", action="append", help="e.g. --metric ndcg@10 --metric coverage@10"
    )
    evaluate.add_argument("--output", type=Path, help="parquet file for the metrics of each user")
    evaluate.add_argument(
        "--allow-other-split",
        action="store_true",
        help="evaluate even if the model may have been trained on the test entries, with a warning",
    )

    recommend = command("recommend", "print recommendations by title")
    model_argument(recommend)
    recommend.add_argument("--user", dest="users", action="append", required=True, help="user id; may be repeated")
    recommend.add_argument("-n", type=_positive, default=10, help="recommendations per user (default 10)")
    recommend.add_argument("--data", help="data set or file with the histories (default: that of the training)")

    promote = command("promote", "set the alias champion on a registered version")
    promote.add_argument("name", help="name in the model registry")
    promote.add_argument("--version", dest="model_version", type=int, help="version (default: the newest)")
    promote.add_argument("--alias", default="champion", help="alias to set (default champion)")
    promote.add_argument("--reason", default="", help="why; stored with the version")

    score = command("score", "write the recommendations of all users as parquet")
    model_argument(score)
    score.add_argument("--output", type=Path, required=True, help="folder to write, e.g. data/scored/tonight")
    score.add_argument("-n", type=_positive, default=10, help="recommendations per user (default 10)")
    score.add_argument(
        "--batch-size",
        type=_positive,
        help="users of one part, after which a job that died goes on (default 16384)",
    )
    score.add_argument("--data", help="data set or file with the histories (default: that of the training)")
    score.add_argument("--users", type=Path, help="file with the user ids to score (default: all)")
    score.add_argument(
        "--on-unknown", choices=("raise", "drop"), default="raise", help="for listed users not in the data"
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
            allow_other_split=arguments.allow_other_split,
            root=root,
            show_progress=progress,
        )
    elif arguments.command == "recommend":
        from recsys.jobs import recommend

        recommend.run(arguments.model, arguments.users, n=arguments.n, data=arguments.data, root=root)
    elif arguments.command == "promote":
        from recsys.jobs import promote

        promote.run(arguments.name, arguments.model_version, alias=arguments.alias, reason=arguments.reason, root=root)
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
    else:
        from recsys.jobs import demo

        demo.run(root=root, show_progress=progress)


if __name__ == "__main__":
    sys.exit(main())
