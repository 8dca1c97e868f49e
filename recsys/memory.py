"""Memory: how much is free, and the refusal of what would not fit, before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from recsys.errors import ConfigError, DataError

VARIABLE: Final = "RECSYS_MEMORY"
"""Variable of the environment with the GiB that may be taken, in place of what is free; `inf` for no limit."""
_SMALL: Final = 2**26
"""Bytes up to which nobody asks."""


class Need(NamedTuple):
    """What a fit takes at its peak."""

    bytes: float
    instead: str
    """What to do where they are not there."""
    kept: float | None = None
    """Bytes that the fitted model keeps; None: nobody has estimated them."""


def require(needed: float, what: str, instead: str, *, available: float | None = None) -> None:
    """Refuse what takes more bytes than are free.

    Args:
        needed: bytes.
        what: what takes them, with its verb, such as `5 lists of 10 need`.
        instead: what to do where they are not there.
        available: bytes free where they are to be taken, by default in this machine's memory.

    Raises:
        DataError: they are not there; the message gives both figures.
        ConfigError: `RECSYS_MEMORY` is not a number of GiB.
    """
    limit = _given()
    if limit is None and needed <= _SMALL:
        return
    if limit is None:
        limit = free() if available is None else available
    if needed > limit:
        raise DataError(
            f"{what} {_gib(needed)} of memory, and {_gib(limit)} are free; {instead} "
            f"({VARIABLE}=GIB in the environment sets another limit)"
        )


def free() -> float:
    """Return the bytes that this process may still take; infinity where the system does not tell."""
    return max(0.0, min([_of_machine(), *_of_groups()]))


def _given() -> float | None:
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not gib > 0:
        raise ConfigError(f"{VARIABLE} must be a number of GiB above 0, or inf, got {text!r}")
    return gib * 2**30


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


def _of_machine() -> float:
    """Return what is free, caches included; where only its size is known, all of it."""
    if (available := _figures(Path("/proc/meminfo")).get("MemAvailable:")) is not None:
        return 1024 * available
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _of_groups(root: Path = Path("/")) -> Iterator[float]:
    """Yield what is left in each control group of this process, such as a container's, of both versions of Linux's."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, group = line.split(":", 2)
        version2 = not controllers
        if not version2 and controllers != "memory":
            continue
        top = mount if version2 else mount / "memory"
        names = ("memory.max", "memory.current", "inactive_file")
        if not version2:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        folder = top / group.lstrip("/")
        for place in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            limit, used = (_number(place / name) for name in names[:2])
            if limit is not None and used is not None:
                yield limit - used + _figures(place / "memory.stat").get(names[2], 0)


def _number(path: Path) -> int | None:
    """Return the number that a file holds; None where there is none, such as `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _figures(path: Path) -> dict[str, int]:
    """Return the lines of a file, each a name and a whole number; empty where it cannot be read."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return {name: int(value) for name, value, *_ in lines}
    except (OSError, ValueError):
        return {}
