"""What is said where a table holds little that a model, or another table, knows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.mapped import MappedMatrix, Matrix, without_entries

FEW_KNOWN: Final = 0.5
"""A warning says so where less than this share of what is matched is known."""


class Known(NamedTuple):
    """How much of a table is with known items."""

    entries: int
    kept: int
    """Entries with known items."""
    users: int
    """Users with entries."""
    having: int
    """Users with entries with known items."""


def known_of(matrix: Matrix, place: npt.NDArray[np.int32] | None) -> Known:
    """Return how much of a table is with items that have a place of at least 0, by column; None: all have.

    It is counted in blocks, for the memory of it.
    """
    users, kept, having = matrix.shape[0] - without_entries(matrix), 0, 0
    if place is None:
        return Known(int(matrix.nnz), int(matrix.nnz), users, users)
    for start in range(0, matrix.shape[0], _ROWS):
        ends = matrix.indptr[start : start + _ROWS + 1]
        low, high = int(ends[0]), int(ends[-1])
        some = matrix.entries(low, high)[0] if isinstance(matrix, MappedMatrix) else matrix.indices[low:high]
        counts = np.append(0, np.cumsum(place[some] >= 0))
        kept += int(counts[-1])
        having += int(np.count_nonzero(np.diff(counts[ends - low])))
    return Known(int(matrix.nnz), kept, users, having)


_ROWS: Final = 2**12


def few_known(found: Known, theirs: IdMap, known: IdMap) -> str:
    """Return a warning where few entries, or the entries of few users, are with known items; empty where enough are.

    Args:
        found: what of a table is with known items.
        theirs: the items of the table.

    Raises:
        DataError: the table has entries, and none of them is kept.
    """
    if found.kept >= FEW_KNOWN * found.entries and found.having >= FEW_KNOWN * found.users:
        return ""
    unknown = known.codes_of(theirs, "item") < 0
    ids = f"ids are like {_first(theirs, np.flatnonzero(unknown))}, known ones like {_first(known)}"
    if not found.kept:
        raise DataError(
            f"none of the {found.entries:,} interactions of this table is with a known item: its {ids}; "
            "pass a table with the item ids of the training data"
        )
    return (
        f"only {found.kept:,} of the {found.entries:,} interactions of this table are with known items "
        f"({np.count_nonzero(~unknown):,} of its {len(theirs):,}), and {found.users - found.having:,} of its "
        f"{found.users:,} users have none of these: unknown {ids}"
    )


def _first(ids: IdMap, codes: npt.ArrayLike | None = None) -> str:
    chosen = np.arange(len(ids)) if codes is None else np.asarray(codes)
    return ", ".join(map(repr, ids.take(chosen[:3])))
