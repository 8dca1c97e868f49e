"""The command `recsys`: the parser made of the table of commands, and the call of what was chosen."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from recsys.arguments import COMMON, FORMS, Command
from recsys.commands import COMMANDS, GROUPS
from recsys.errors import ConfigError, DataWarning, Exit, PeerEnded, RecsysError
from recsys.hints import in_commands_words
from recsys.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or after one line that says why not another of `recsys.errors.Exit`.

    Args:
        argv: those of the process by default, which then ends with this command.

    Raises:
        SystemExit: the arguments are wrong (2).
    """
    with _any_character_printed():
        return _run(sys.argv[1:] if argv is None else argv, _Interruption(last=argv is None))


def _run(argv: Sequence[str], interruption: _Interruption) -> int:
    top = parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(top)  # answers the shell, and ends
    if any("\0" in argument for argument in argv):  # no system passes it, and no file, id or name has it
        top.error("an argument holds a NUL character")
    arguments = vars(top.parse_args(argv))
    if any(value == [] or (isinstance(value, list) and [] in value) for value in arguments.values()):
        top.error("'--' is not a value")  # which argparse of Python 3.11 drops, as in `--user=--`
    command: Command = arguments.pop("chosen")
    written = [str(arguments[name]) for name in ("output", "onnx", "report", "summary") if arguments.get(name)]
    status, problem, speaks, verbose = 2, "", True, arguments.pop("verbose", False)
    began = time.perf_counter()
    with interruption:
        try:
            with _warnings_of(command):
                call(command, arguments)
                _tell_effort(verbose, began)
                return 0
        except RecsysError as error:
            status, problem = _status(error), in_commands_words(str(error), command)
            if verbose:
                traceback.print_exc()
            if isinstance(error, PeerEnded):
                problem += "; the same command goes on where it stopped"
            speaks = _is_first() or not (isinstance(error, PeerEnded) or _first_spoke())
        except OSError as error:
            status = Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.DATA
            where = error.filename or ", ".join(written)  # libraries that write files in C name none
            problem = (f"{where}: " if where else "") + (error.strerror or str(error))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                interruption.status = interruption.status or Exit.INTERRUPTED
            if not interruption.status:
                raise
        if interruption.status:  # also where an interrupted import became an error of another kind
            status, speaks = interruption.status, _is_first()
            problem = f"interrupted{'; the same command goes on where it stopped' if command.continues else ''}"
        interruption.over()
        if speaks:
            print(f"recsys {command.name}: {_one_line(problem)}", file=sys.stderr)
    return status


class _Interruption:
    """Ctrl-C and SIGTERM for the block: exceptions on whose way out runs and locks are closed, and one line at the end.

    SIGTERM is a SystemExit, so that nothing takes it for an error of its own.
    """

    def __init__(self, *, last: bool) -> None:
        """`last`: the process ends with the command, and another Ctrl-C does not disturb its end."""
        self.status = 0
        """With which the process is to end; 0 if nobody asked it to."""
        self._last = last
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # nowhere else Python takes signals
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` and `&` of a script ask
                    self._before[number] = signal.signal(number, self._raise)
            sys.unraisablehook = self._ignored

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._hook
        for number, before in self._before.items():
            if not (self.status and self._last):
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def over(self) -> None:
        """Ignore what comes now; the command is at its end."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _raise(self, number: int, frame: FrameType | None) -> NoReturn:
        self.status = 128 + number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(self.status)

    def _ignored(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Send the signal again where its exception was raised in a callback, which Python prints and then forgets."""
        if self.status and issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
            threading.Timer(0.05, _send, [self.status - 128]).start()
        else:
            self._hook(unraisable)


def _send(number: int) -> None:
    """Send a signal to the main thread, which it wakes."""
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, number)
    else:
        signal.raise_signal(number)


def _is_first() -> bool:
    """Return whether this is the first, or the only, process of the command."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def _first_spoke() -> bool:
    """Wait for the first process to say what went wrong; return whether `torchrun` has ended this one meanwhile."""
    try:
        time.sleep(_MOMENT)
    except (SystemExit, KeyboardInterrupt):
        return True
    return False


_MOMENT = 10.0
"""Seconds in which the first of several processes finds the mistake that another found in the same files."""


def _status(error: RecsysError) -> int:
    """Return with what a command ends that this error ends."""
    is_absent = isinstance(error.__cause__, FileNotFoundError) and error.exit_code == Exit.DATA
    return Exit.NOT_FOUND if is_absent else error.exit_code


def _tell_effort(verbose: bool, began: float) -> None:
    """Print on standard error how long a command took, and how much memory at its peak."""
    if verbose:
        took = f"{time.perf_counter() - began:.1f} s"
        if sys.platform != "win32":
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 2**-10)
            took += f", {peak / 2**30:.2f} GiB at the peak"
        print(f"took {took}", file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def call(command: Command, arguments: dict[str, Any]) -> None:
    """Call a command's function with a workspace and its options; configuration files are read on the way."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not command.in_ranks:
        from recsys import ranks

        if ranks.asked() > 1:
            able = " and ".join(f"recsys {one.name}" for one in COMMANDS if one.in_ranks)
            raise ConfigError(f"it runs in one process, and torchrun started {ranks.asked()}; they can share {able}")
    form = arguments.pop("form", None)
    asked, terminal = not arguments.pop("quiet", False), sys.stderr is not None and sys.stderr.isatty()
    workspace = Workspace(arguments.pop("root", Path()), asked and terminal, form is None, asked and not terminal)
    modules, overrides = arguments.pop("modules", ()), arguments.pop("overrides", ())
    if modules or "config" in arguments or "configs" in arguments:
        from recsys.config import import_modules, load_config, load_configs

        import_modules(modules)
        if "config" in arguments:
            arguments["config"] = load_config(arguments["config"], overrides)
        if "configs" in arguments:
            arguments["configs"] = load_configs(arguments["configs"], overrides)
    if overrides and not {"config", "configs"} & arguments.keys():
        arguments["overrides"] = overrides  # of a configuration that the job finds itself
    module, _, function = command.function.partition(":")
    with nullcontext() if form is None else redirect_stdout(sys.stderr):
        result = getattr(import_module(module), function)(workspace, **arguments)
    if form is not None and command.table is not None:
        from recsys.jobs.render import rendered

        _print_bytes(rendered(command.table(result), form))


def _print_bytes(text: str) -> None:
    """Write text to standard output as UTF-8, whatever the terminal's encoding is: programs read it."""
    sys.stdout.flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.flush()
    else:
        sys.stdout.write(text)


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
        if command.table is not None:
            one = sub.add_mutually_exclusive_group()
            for flags, settings in FORMS:
                one.add_argument(*flags, default=argparse.SUPPRESS, **settings)
    return top


@contextmanager
def _warnings_of(command: Command) -> Iterator[None]:
    """Show a warning about the data as one line, without the line of code that led to it."""
    usual = warnings.formatwarning

    def line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        if issubclass(category, DataWarning):
            text = in_commands_words(_one_line(str(message)), command)
            return f"recsys {command.name}: warning: {text}\n"
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


if __name__ == "__main__":  # `python -m recsys.cli`, as scheduled jobs may still call it
    sys.exit(main())
