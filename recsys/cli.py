"""The command `recsys`: the parser made of the table of commands, and the call of what was chosen."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from recsys.commands import COMMANDS, COMMON, GROUPS, Command
from recsys.errors import DataWarning, RecsysError
from recsys.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 after a clear message for an error of the package's own or of a file.

    Raises:
        SystemExit: the arguments are wrong (2), or the process was asked to end (143).
    """
    with _any_character_printed():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    top = parser()
    if any("\0" in argument for argument in argv):  # no system passes it, and no file, id or name has it
        top.error("an argument holds a NUL character")
    arguments = vars(top.parse_args(argv))
    if any(value == [] or (isinstance(value, list) and [] in value) for value in arguments.values()):
        top.error("'--' is not a value")  # which argparse of Python 3.11 drops, as in `--user=--`
    command: Command = arguments.pop("chosen")
    status, problem = 2, ""
    try:
        with _exit_on_sigterm(), _warnings_of(command):
            call(command, arguments)
            return 0
    except RecsysError as error:
        problem = str(error)
    except OSError as error:
        problem = ("" if error.filename is None else f"{error.filename}: ") + (error.strerror or str(error))
    except KeyboardInterrupt:
        status, problem = 130, "interrupted"
    print(f"recsys {command.name}: {_one_line(problem)}", file=sys.stderr)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def call(command: Command, arguments: dict[str, Any]) -> None:
    """Call a command's function with a workspace and its options; configuration files are read on the way."""
    workspace = Workspace(arguments.pop("root", Path()), not arguments.pop("quiet", False))
    modules, overrides = arguments.pop("modules", ()), arguments.pop("overrides", ())
    if modules or "config" in arguments or "configs" in arguments:
        from recsys.config import import_modules, load_config, load_configs

        import_modules(modules)
        if "config" in arguments:
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
        for flags, settings in (*command.options, *COMMON):
            # An option that is not given leaves the function's own default; argparse has no such way for positionals.
            sub.add_argument(*flags, default=argparse.SUPPRESS if flags[0].startswith("-") else None, **settings)
    return top


@contextmanager
def _warnings_of(command: Command) -> Iterator[None]:
    """Show a warning about the data as one line, without the line of code that led to it."""
    usual = warnings.formatwarning

    def line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        if issubclass(category, DataWarning):
            return f"recsys {command.name}: warning: {_one_line(str(message))}\n"
        return usual(message, category, *where, **more)

    warnings.formatwarning = line
    try:
        yield
    finally:
        warnings.formatwarning = usual


@contextmanager
def _any_character_printed() -> Iterator[None]:
    """Print characters that the terminal's encoding lacks, such as those of titles, as escapes for the block."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


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


if __name__ == "__main__":  # `python -m recsys.cli`, as scheduled jobs may still call it
    sys.exit(main())
