"""Interactions and splits that are in memory, written as shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.files import replacing_folder
from recsys.interactions import Interactions
from recsys.mapped import BLOCK
from recsys.shards.format import KIND, MOST_ENTRIES, TRAIN
from recsys.shards.reader import joined
from recsys.shards.writer import Builder, id_arrays
from recsys.splits import Part, Split
from recsys.times import Times
from recsys.workspace import as_path, output_folder


def write(data: Interactions | Split, folder: str | Path, *, most_entries: int = MOST_ENTRIES) -> Path:
    """Write interactions, or all parts of a split, as a folder of shards, whole or not at all; return the folder.

    Further columns of the interactions that were kept (`keep=`) are not written.

    Args:
        folder: new, empty, or with shards that are replaced.
        most_entries: stored entries of a shard at most.

    Raises:
        DataError: something else is in the folder, or ids or columns of items cannot be stored.
    """
    target = output_folder(as_path(folder), DataError)
    KIND.check(target)
    if not 0 < most_entries <= MOST_ENTRIES:
        raise DataError(f"most_entries must lie between 1 and {MOST_ENTRIES}, got {most_entries}")
    with replacing_folder(target, durable=True, kind=KIND) as beside:
        build(beside, data, {}, most_entries)
    return target


def build(folder: Path, data: Interactions | Split, about: Mapping[str, Any], most: int = MOST_ENTRIES) -> None:
    """Fill a new folder with the shards of data in memory; `about` are further facts of the manifest."""
    train = data if isinstance(data, Interactions) else data.train
    with Builder(folder, most=most) as builder:
        builder.users(id_arrays(train.users))
        builder.items(train.items, train.titles, train.item_columns)
        _add(builder, TRAIN, train.matrix, train.timestamps)
        parts = {}
        if isinstance(data, Split):
            for name, part in (("validation", data.validation), ("test", data.test)):
                if part is not None:
                    parts[name] = _add_part(builder, name, part, data)
        facts = {
            "parts": parts,
            "train": {"fingerprint": train.fingerprint()},
            "first_test_time": data.first_test_time if isinstance(data, Split) else None,
            "allow_overlap": data.allow_overlap if isinstance(data, Split) else False,
            "notes": list(data.notes) if isinstance(data, Split) else [],
        }
        builder.finish({**facts, **about})


def _add_part(builder: Builder, name: str, part: Part, split: Split) -> dict[str, Any]:
    """Write a held-out part; return what the manifest says of it."""
    if part.candidates is not None:
        raise DataError(
            f"shards do not say which items the lists of a part may hold, as the {name} part of this split does; keep "
            "the split in memory, or write its training part alone"
        )
    train, own_users = split.train, part.users != split.train.users
    users = f"{name}-users.parquet" if own_users else "users.parquet"
    if own_users:
        builder.users(id_arrays(part.users), users)
    usual = np.full(len(part.users), -1) if own_users else np.arange(len(part.users))
    index = not np.array_equal(part.user_index, usual)
    if index:
        builder.index(name, part.user_index)
    _add(builder, f"{name}-target", part.target)
    context = [f"{name}-context"]
    if not own_users:
        known: dict[tuple[str, ...], list[sp.csr_matrix]] = {(TRAIN,): [train.matrix]}
        if split.validation is not None and split.validation.users == train.users and name == "test":
            known[TRAIN, "validation-target"] = [train.matrix, split.validation.target]
        same = (list(names) for names, matrices in known.items() if _equal(matrices, part.context))
        context = next(same, context)
    if context == [f"{name}-context"]:
        _add(builder, context[0], part.context)
    if part.seen is not None:
        _add(builder, f"{name}-seen", part.seen)
    return {
        "users": users,
        "index": index,
        "context": context,
        "seen": part.seen is not None,
        "allow_overlap": part.allow_overlap,
    }


def _equal(matrices: list[sp.csr_matrix], other: sp.csr_matrix) -> bool:
    """Return whether the union of matrices stores the same entries as another."""
    if sum(matrix.nnz for matrix in matrices) != other.nnz:
        return False
    whole = joined(matrices)
    return all(np.array_equal(getattr(whole, of), getattr(other, of)) for of in ("indptr", "indices", "data"))


def _add(builder: Builder, name: str, matrix: sp.csr_matrix, times: Times | None = None) -> None:
    """Write a matrix, some rows at a time."""
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    writer = builder.matrix(name, None if times is None else str(times.dtype))
    starts = matrix.indptr.astype(np.int64)
    row = 0
    while row < matrix.shape[0]:
        stop = max(row + 1, int(np.searchsorted(starts, starts[row] + BLOCK, "right")) - 1)
        some = slice(starts[row], starts[stop])
        writer.add(
            np.diff(starts[row : stop + 1]),
            matrix.indices[some],
            matrix.data[some],
            None if times is None else times[some],
        )
        row = stop
