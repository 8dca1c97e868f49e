"""What splitters decide, as functions of arrays: also for data of which only a part is in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError
from recsys.sparse import scrambled

Marks = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.uint64]


def held_out_users(
    users: Iterable[Hashable], total: int, n_users: int | float, stable: bool, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of validation and of test users, ascending; the arguments are those of `hold_out_users`.

    Args:
        users: the `total` ids in the order of the rows; read only if `stable`.

    Raises:
        DataError: too few users for these parts.
    """
    if stable:
        digests = b"".join(hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=8).digest() for user in users)
        place = np.frombuffer(digests, dtype=">u8").astype(np.float64) / 2.0**64
        validation = np.flatnonzero((place >= n_users) & (place < 2 * n_users))
        test = np.flatnonzero(place < n_users)
    else:
        held = round(n_users * total) if n_users < 1 else int(n_users)
        if held < 1 or total - 2 * held < 1:
            raise DataError(
                f"hold_out_users takes {held} validation and {held} test users of {total}, which leaves "
                f"{max(0, total - 2 * held)} to train on; choose n_users between 1 and {max(0, (total - 1) // 2)}"
            )
        order = np.random.RandomState(seed).permutation(total)  # the generator of the published split
        validation, test = np.sort(order[total - 2 * held : total - held]), np.sort(order[total - held :])
    if not (0 < len(validation) < total - len(test) and len(test)):
        raise DataError(f"{total} users are too few to hold some out by their id; choose another n_users")
    return validation, test


def targets(
    lengths: npt.NDArray[np.integer[Any]], target_fraction: float, min_items: int, rng: np.random.RandomState
) -> Marks:
    """Return which entries of consecutive held-out rows are targets, with the draws of the paper's notebook.

    Rows in several calls with one `rng` are those of one call with all of them.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    is_target = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=bool)
    for size, end in zip(lengths.tolist(), ends.tolist(), strict=True):
        if size >= min_items:
            is_target[end - size + rng.choice(size, size=int(target_fraction * size), replace=False)] = True
    return is_target


def ranks_of_cuts(n: int, test: float, validation: float) -> tuple[int, int]:
    """Return the ranks, from 0, of the latest training entry and of the latest entry before the test, by time."""
    return max(0, round((1 - test - validation) * n) - 1), max(0, round((1 - test) * n) - 1)


def marks_of_entries(times: npt.NDArray[Any], values: npt.NDArray[np.float32]) -> Numbers:
    """Return (n_stored,) numbers made of what is stored with each entry."""
    return scrambled(times.astype(np.int64).view(np.uint64)) + values.view(np.uint32)


def add_to_users(of_user: Numbers, rows: npt.NDArray[Any], marks: Numbers) -> None:
    """Add to each user's number what its entries are marked with."""
    np.add.at(of_user, rows, scrambled(marks))


def add_to_items(
    of_item: Numbers, of_user: Numbers, rows: npt.NDArray[Any], items: npt.NDArray[Any], marks: Numbers
) -> None:
    """Add to each item's number its entries' marks and users, whose numbers are whole."""
    np.add.at(of_item, items, scrambled(marks + of_user[rows]))


def draws(of_user: Numbers, of_item: Numbers, rows: npt.NDArray[Any], items: npt.NDArray[Any], seed: int) -> Numbers:
    """Return (n_stored,) pseudo-random numbers that depend on the seed and on what is stored, not on names.

    A number is made of the entries of its user and of its item. Two entries of a user with one number are of items that
    the same users have had at the same times with the same values, so that only names could tell them apart.
    """
    return scrambled(of_user[rows] ^ scrambled(of_item[items] + np.uint64(seed)))


def last_two(
    lengths: npt.NDArray[np.integer[Any]], times: npt.NDArray[Any], drawn: Numbers
) -> tuple[Marks, Marks, npt.NDArray[np.int64]]:
    """Return which entries of consecutive rows are the last but one and the last, and how often draws decided that.

    Rows of fewer than 3 entries have neither. The counts are of the other rows, of those whose latest entries are of
    equal time, and of those where that decides the last.
    """
    ends = np.cumsum(lengths, dtype=np.int64)[lengths >= 3]
    order = np.lexsort((drawn, times, np.repeat(np.arange(len(lengths)), lengths)))
    is_test, is_validation = np.zeros((2, len(times)), dtype=bool)
    is_test[order[ends - 1]] = True
    is_validation[order[ends - 2]] = True
    last, second, third = (times[order[ends - place]] for place in (1, 2, 3))
    tied = np.count_nonzero((last == second) | (second == third)), np.count_nonzero(last == second)
    return is_validation, is_test, np.array([len(ends), *tied])


def note_of_ties(counts: npt.NDArray[np.int64], seed: int) -> tuple[str, ...]:
    """Return what is said of the draws of `last_two`; nothing if there were none."""
    n_users, in_all, for_test = counts.tolist()
    note = (
        f"{in_all:,} of {n_users:,} users have entries of equal time where the latest are held out, {for_test:,} of "
        f"them for the test entry; a draw (seed {seed}) decided"
    )
    return (note,) if in_all else ()
