"""The list of users of a job: one a line, or a column of a table; from a file or from a pipe."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from recsys.arguments import STDIN
from recsys.columns import USER
from recsys.datasets.encoding import bare, content, first_line
from recsys.datasets.layouts import columns_of
from recsys.datasets.text import Request, table
from recsys.errors import DataError, ScoringError, UnknownIdError
from recsys.ids import IdMap


def read_users(path: Path, known: IdMap, on_unknown: Literal["raise", "drop"]) -> list[Hashable]:
    """Return the user ids that a file lists: `.parquet` and `.csv` are tables, any other file has one id a line.

    What comes through a pipe has no suffix: it is Parquet by its first bytes, a csv table if its first line names the
    column `user_id`, and one id a line otherwise.

    Raises:
        ScoringError: it cannot be read.
        UnknownIdError: as in `score`.
    """
    try:
        if path.is_file() and path != STDIN:
            users = _users_in(path, bare(path).suffix, known, str(path))
        else:
            users = _piped(path, known)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ScoringError(f"the list of users {path} cannot be read: {error}") from None
    missing = np.flatnonzero(known.codes(users, on_unknown="mark") < 0)
    if len(missing) and on_unknown == "raise":
        examples = [users[row] for row in missing[:3]]
        raise UnknownIdError(
            f"{len(missing)} of the {len(users)} users in {path} are not in the data, for instance {examples} "
            f"(there ids are like {next(iter(known))!r}); leave them out with --on-unknown drop"
        )
    return users


def _piped(path: Path, known: IdMap) -> list[Hashable]:
    """Return the users of a pipe, which can be read once: of a copy."""
    whole = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="recsys-") as folder:
        copy = Path(folder, "users")
        copy.write_bytes(whole)
        head = first_line(copy)
        names = [name.strip(' "') for name in re.split(r"[,;|\t]", head)]
        kind = ".parquet" if whole[:4] == b"PAR1" else ".csv" if USER in names else ""
        return _users_in(copy, kind, known, str(path))


def _users_in(file: Path, kind: str, known: IdMap, where: str) -> list[Hashable]:
    """Return the users of a regular file; messages call it `where`."""
    if kind == ".parquet":
        return _column_of_parquet(file, where)
    return _column_of_csv(file, where) if kind == ".csv" else _lines(file, known)


def _column_of_parquet(file: Path, where: str) -> list[Hashable]:
    """Return the column of users, which may be the index of a pandas frame."""
    found = columns_of(file, Request(user=USER, item=USER))
    if USER not in found.column_names:
        raise ScoringError(f"{where} has no column user_id; it has {', '.join(found.column_names)}")
    users: list[Hashable] = found[USER].to_pandas(integer_object_nulls=True).tolist()
    return users


def _column_of_csv(file: Path, where: str) -> list[Hashable]:
    """Return the column of users."""
    try:
        found = table(content(file), Request(item=USER))
    except DataError as error:
        raise ScoringError(f"{where} must be a csv file with a header and a column user_id: {error}") from None
    if USER not in found:
        raise ScoringError(f"{where} has no column user_id; it has {', '.join(map(str, found))}")
    column = found[USER]
    if column.isna().any():
        raise ScoringError(f"{where} lacks {int(column.isna().sum())} ids in the column user_id")
    users: list[Hashable] = column.tolist()
    return users


def _lines(file: Path, known: IdMap) -> list[Hashable]:
    """Return one id a line as text; spaces around it count where the data have such an id."""
    text = bytes(content(file)).decode().replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip()]
    exact = known.codes(lines, on_unknown="mark") >= 0
    return [line if found else line.strip() for line, found in zip(lines, exact, strict=True)]
