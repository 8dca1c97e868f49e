"""What commands are made of: their declaration, their options, and functions that read values or say what is wrong."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recsys.workspace import as_path


def _whole(text: str, least: int) -> int:
    if re.fullmatch(r"0*[0-9]{1,18}", text, re.ASCII) and (value := int(text.lstrip("0") or "0")) >= least:
        return value  # 64 bits hold it
    raise argparse.ArgumentTypeError(f"must be a whole number of at least {least} and below 10**18, got {text!r}")


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0)


def _number(text: str, fits: Callable[[float], bool], expected: str) -> float:
    with suppress(ValueError):
        if fits(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"must be a number above 0{expected}, got {text!r}")


def minutes(text: str) -> float:
    """Return a number above 0."""
    return _number(text, lambda value: 0 < value < math.inf, "")


def share(text: str) -> float:
    """Return a number above 0 and at most 1."""
    return _number(text, lambda value: 0 < value <= 1, " and at most 1")


def text(text: str) -> str:
    """Return text that can be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"must be text that UTF-8 can encode, got {text!r}") from None
    return text


def path(text: str) -> Path:
    """Return the path of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or folder, got an empty text")
    return as_path(text)


def named_path(text: str) -> Path:
    """Return a path that ends in a name."""
    named = path(text)
    if not named.name:  # such as `.`: what is written whole takes the place of a name
        raise argparse.ArgumentTypeError(f"must end in the name of a file or folder, got {text!r}")
    return named


STDIN: Final = Path("/dev/stdin")


def readable_path(text: str) -> Path:
    """Return the path of a file to be read once; `-` is standard input."""
    return STDIN if text == "-" else named_path(text)


Option = tuple[tuple[str, ...], dict[str, Any]]
"""Arguments of `argparse.add_argument`; the destination is a parameter of the job, whose default holds."""


def option(*flags: str, **settings: Any) -> Option:
    """Return an option."""
    return flags, settings


def file_option(flag: str, help: str, *, type: Callable[[str], Path] = named_path, **settings: Any) -> Option:
    """Return an option that names a file."""
    return option(flag, type=type, metavar="FILE", help=help, **settings)


def folder_option(flag: str, help: str, *, required: bool = False, type: Callable[[str], Path] = named_path) -> Option:
    """Return an option that names a folder."""
    return option(flag, type=type, metavar="FOLDER", help=help, required=required)


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
    continues: bool = False
    """If it is interrupted, the same command goes on where it stopped."""
    in_ranks: bool = False
    """`torchrun` may start several processes of it."""
    table: Callable[[Any], Any] | None = None
    """Gives the table of what the function returns, a frame or rows, for `FORMS`; None where there is no table."""


COMMON = (
    folder_option("--root", "folder of mlruns/ and data/raw/ (default: the current one)", type=path),
    option("--quiet", action="store_true", help="no progress: neither bars on a terminal nor lines in a file"),
    option("--verbose", action="store_true", help="say time and memory at the end, and all of an error's traceback"),
    option(
        "--import",
        dest="modules",
        action="append",
        metavar="MODULE",
        help="Python module that registers models, metrics or splitters of your own; may be repeated",
    ),
)
"""Options of every command."""

FORMS = (
    option("--json", dest="form", action="store_const", const="json", help="print the table alone, as JSON"),
    option("--csv", dest="form", action="store_const", const="csv", help="print the table alone, as CSV"),
)
"""Options of every command with a table, of which one may be given. All else that it says goes to standard error."""
