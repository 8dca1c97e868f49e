"""The command `recsys`: the parser made of the table of commands, and the call of what an entry names."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from recsys.commands import COMMANDS, GROUPS, Command
from recsys.errors import RecsysError
from recsys.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a clear message for an error of the package's own or of a file.

    Raises:
        SystemExit: the arguments are wrong (2), or the process was asked to end (143).
    """
    arguments = vars(parser().parse_args(argv))
    command: Command = arguments.pop("chosen")
    try:
        with _exit_on_sigterm():
            call(command, arguments)
    except RecsysError as error:
        print(f"recsys {command.name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"recsys {command.name}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"recsys {command.name}: interrupted", file=sys.stderr)
        return 130
    return 0


def call(command: Command, arguments: dict[str, Any]) -> None:
    """Call a command's function with a workspace and its options; configuration files are read on the way."""
    workspace = Workspace(arguments.pop("root"), not arguments.pop("quiet"))
    modules, overrides = arguments.pop("modules"), arguments.pop("overrides", [])
    if modules or "config" in arguments or "configs" in arguments:
        from recsys.config import import_modules, load_config, load_configs

        import_modules(modules)
        if arguments.get("config") is not None:
            arguments["config"] = load_config(arguments["config"], overrides)
        if "configs" in arguments:
            arguments["configs"] = load_configs(arguments["configs"], overrides)
    module, _, function = command.function.partition(":")
    getattr(import_module(module), function)(workspace, **arguments)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser, made of `COMMANDS`."""
    top = argparse.ArgumentParser(
        prog="recsys",
        description="Top-N recommendation with autoencoders.",
        epilog="'recsys COMMAND --help' lists a command's options; 'recsys demo' shows the whole path.",
    )
    top.add_argument("--version", action="version", version=version("recsys"))
    places = {"": top.add_subparsers(required=True, metavar="COMMAND")}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in places:
            words = places[""].add_parser(group, help=GROUPS[group], description=GROUPS[group])
            places[group] = words.add_subparsers(required=True, metavar="WHAT")
        sub = places[group].add_parser(name, help=command.help, description=command.help)
        sub.set_defaults(chosen=command)
        for option in command.options:
            sub.add_argument(*option.flags, default=argparse.SUPPRESS, **option.settings)
        sub.add_argument(
            "--root", type=Path, metavar="FOLDER", help="folder of mlruns/ and data/raw/ (default: the current one)"
        )
        sub.add_argument("--quiet", action="store_true", help="no progress bars")
        sub.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="Python module that registers models, metrics or splitters of your own; may be repeated",
        )
    return top


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
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


if __name__ == "__main__":
    sys.exit(main())
