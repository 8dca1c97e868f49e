"""What is said where a table holds little that a model, or another table, knows."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.ids import IdMap

FEW_KNOWN: Final = 0.5
"""A warning says so where less than this share of what is matched is known."""


def few_known(table: sp.csr_matrix, kept: sp.csr_matrix, theirs: IdMap, known: IdMap) -> str:
    """Return a warning where few entries, or the entries of few users, are with known items; empty where enough are.

    Args:
        table: (n_users, len(theirs)) entries.
        kept: (n_users, len(known)) those of them that are with known items.

    Raises:
        DataError: the table has entries, and none of them is kept.
    """
    had, has = (np.count_nonzero(np.diff(matrix.indptr)) for matrix in (table, kept))
    if kept.nnz >= FEW_KNOWN * table.nnz and has >= FEW_KNOWN * had:
        return ""
    unknown = known.codes_of(theirs, "item") < 0
    ids = f"ids are like {_first(theirs, np.flatnonzero(unknown))}, known ones like {_first(known)}"
    if not kept.nnz:
        raise DataError(
            f"none of the {table.nnz:,} interactions of this table is with a known item: its {ids}; "
            "pass a table with the item ids of the training data"
        )
    return (
        f"only {kept.nnz:,} of the {table.nnz:,} interactions of this table are with known items "
        f"({np.count_nonzero(~unknown):,} of its {len(theirs):,}), and {had - has:,} of its {had:,} users have none of "
        f"these: unknown {ids}"
    )


def _first(ids: IdMap, codes: npt.ArrayLike | None = None) -> str:
    chosen = np.arange(len(ids)) if codes is None else np.asarray(codes)
    return ", ".join(map(repr, ids.take(chosen[:3])))
