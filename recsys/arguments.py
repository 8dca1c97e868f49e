"""Values of the command line: functions that read a text, or say what was expected."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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
