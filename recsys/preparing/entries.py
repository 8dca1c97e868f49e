"""Entries of interactions in files, in the order of a CSR matrix: merged, filtered and read some users at a time.

What is held in memory are numbers per user and per item, never per entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys.frames import Duplicates, merged
from recsys.interactions import nothing_left
from recsys.mapped import BLOCK

Times = npt.NDArray[Any]
_Marks = npt.NDArray[np.bool_]
_VALUE: Final = np.dtype(np.float32)
_CODE: Final = np.dtype(np.int32)


class Sorted(NamedTuple):
    """Rows of a table in the order of user, item, time and place in the table."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    times: Times | None

    def cut(self, start: int, stop: int) -> Sorted:
        """Return some consecutive rows."""
        times = None if self.times is None else self.times[start:stop]
        return Sorted(self.users[start:stop], self.items[start:stop], self.values[start:stop], times)


class Block(NamedTuple):
    """All entries of consecutive users."""

    first: int
    """The first user."""
    lengths: npt.NDArray[np.int64]
    """Entries of each."""
    items: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    times: Times | None

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The user of each entry."""
        return np.repeat(np.arange(self.first, self.first + len(self.lengths)), self.lengths)

    def select(self, entries: npt.NDArray[np.bool_]) -> Block:
        """Return the same users with the marked entries alone."""
        ends = np.concatenate([[0], np.cumsum(entries)])[np.concatenate([[0], np.cumsum(self.lengths)])]
        times = None if self.times is None else self.times[entries]
        return Block(self.first, np.diff(ends), self.items[entries], self.values[entries], times)

    def take(self, users: npt.NDArray[np.bool_]) -> Block:
        """Return the marked users, (len(lengths),), with all their entries; `first` then means nothing."""
        kept = self.select(np.repeat(users, self.lengths))
        return kept._replace(lengths=self.lengths[users])


class _Array:
    """A file of one array, read from its beginning on: memory-mapped, what was read would count as the process's."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._file, self._dtype = path.open("rb"), dtype

    def __enter__(self) -> _Array:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, count: int) -> npt.NDArray[Any]:
        """Return the next values."""
        return np.fromfile(self._file, self._dtype, count)


@dataclass(frozen=True)
class Entries:
    """Entries of all users, in files of a folder."""

    folder: Path
    name: str
    """What the names of the files begin with."""
    indptr: npt.NDArray[np.int64]
    """(n_users + 1,) where the entries of each user begin."""
    n_items: int
    times: np.dtype[Any] | None
    """Type of the times; None without."""

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return int(self.indptr[-1])

    def _open(self, name: str) -> _Array:
        dtype: Any = {"items": _CODE, "values": _VALUE, "times": self.times}[name]
        return _Array(_file(self.folder, self.name, name), dtype)

    def parts(self, name: str) -> Iterator[npt.NDArray[Any]]:
        """Yield `items`, `values` or `times` in parts."""
        with self._open(name) as array:
            for start in range(0, self.nnz, BLOCK):
                yield array.read(min(BLOCK, self.nnz - start))

    def blocks(self) -> Iterator[Block]:
        """Yield all entries, of as many users at a time as have `BLOCK` of them, but of at least one."""
        with ExitStack() as stack:
            names = ("items", "values", *(() if self.times is None else ("times",)))
            arrays = [stack.enter_context(self._open(name)) for name in names]
            user = 0
            while user < self.n_users:
                most = self.indptr[user] + BLOCK
                stop = max(user + 1, int(np.searchsorted(self.indptr, most, "right")) - 1)
                count = int(self.indptr[stop] - self.indptr[user])
                items, values, *times = (array.read(count) for array in arrays)
                yield Block(user, np.diff(self.indptr[user : stop + 1]), items, values, times[0] if times else None)
                user = stop

    def remove(self) -> None:
        """Delete the files."""
        for name in ("items", "values", *(() if self.times is None else ("times",))):
            _file(self.folder, self.name, name).unlink()


@dataclass
class _Writer:
    """Writes entries in order."""

    folder: Path
    name: str
    n_users: int
    times: np.dtype[Any] | None
    counts: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.n_users, np.int64)
        names = ("items", "values", *(() if self.times is None else ("times",)))
        self._files = {name: _file(self.folder, self.name, name).open("wb") for name in names}

    def add(self, users: npt.NDArray[Any], items: npt.NDArray[Any], values: npt.NDArray[Any], times: Any) -> None:
        if len(users):
            first = int(users[0])
            counts = np.bincount(users - first)
            self.counts[first : first + len(counts)] += counts
        for name, part in (("items", items), ("values", values), ("times", times)):
            if part is not None:
                self._files[name].write(np.ascontiguousarray(part).data)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def done(self, n_items: int) -> Entries:
        self.__exit__()
        indptr = np.concatenate([[0], np.cumsum(self.counts)])
        return Entries(self.folder, self.name, indptr, n_items, self.times)


@dataclass(frozen=True)
class Repeats:
    """Rows of a user and item that another row repeats."""

    count: int
    first: tuple[int, int]
    """Codes of the first user and item that repeat."""


def merge(
    folder: Path,
    rows: Iterable[Sorted],
    duplicates: Duplicates,
    shape: tuple[int, int],
    times: np.dtype[Any] | None,
) -> tuple[Entries, Repeats | None]:
    """Return the entries of sorted rows, of which those of one user and item are merged, and what repeats there were.

    Under `error` the entries mean nothing if there were any.
    """
    waiting: Sorted | None = None
    count, first = 0, (0, 0)
    with _Writer(folder, "merged", shape[0], times) as writer:
        for part in rows:
            part = part if waiting is None else _joined(waiting, part)
            if not len(part.users):
                continue
            last = np.ones(len(part.users), dtype=bool)
            last[:-1] = (part.users[1:] != part.users[:-1]) | (part.items[1:] != part.items[:-1])
            # The last user and item may go on in the next part.
            ends = np.flatnonzero(last)
            begin = int(ends[-2]) + 1 if len(ends) > 1 else 0
            count, first = _write(writer, part.cut(0, begin), last[:begin], duplicates, count, first)
            waiting = part.cut(begin, len(last))
        if waiting is not None:
            last = np.zeros(len(waiting.users), dtype=bool)
            last[-1] = True
            count, first = _write(writer, waiting, last, duplicates, count, first)
        return writer.done(shape[1]), Repeats(count, first) if count else None


def _write(
    writer: _Writer,
    rows: Sorted,
    last: npt.NDArray[np.bool_],
    duplicates: Duplicates,
    count: int,
    first: tuple[int, int],
) -> tuple[int, tuple[int, int]]:
    """Write whole runs of rows; return the count of repeats and the first of them, these rows included."""
    if not last.all():
        place = int(np.flatnonzero(~last)[0])
        first = first if count else (int(rows.users[place]), int(rows.items[place]))
        count += int((~last).sum())
    values = merged(rows.values, last, duplicates) if len(last) else rows.values
    times = None if rows.times is None else rows.times[last]
    writer.add(rows.users[last], rows.items[last], values, times)
    return count, first


def _joined(one: Sorted, other: Sorted) -> Sorted:
    times = None if one.times is None or other.times is None else np.concatenate([one.times, other.times])
    users, items, values = (np.concatenate([getattr(one, of), getattr(other, of)]) for of in Sorted._fields[:3])
    return Sorted(users, items, values, times)


class Filter(NamedTuple):
    """The filters of `Interactions.filter`, and whether values become 1."""

    min_rating: float | None = None
    min_user: int = 0
    min_item: int = 0
    repeat_counts: bool = False
    binary: bool = False


def filtered(entries: Entries, wanted: Filter) -> tuple[Entries, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the entries that a filter keeps, with the codes of the users and items that are left, and which these are.

    Raises:
        DataError: nothing is left.
    """
    users, items = np.ones(entries.n_users, dtype=bool), np.ones(entries.n_items, dtype=bool)
    if wanted == Filter():
        return entries, users, items
    before = -1
    while True:
        if wanted.min_item > 0:
            items &= _counts(entries, wanted, users, items)[1] >= wanted.min_item
        if wanted.min_user > 0:
            users &= _counts(entries, wanted, users, items)[0] >= wanted.min_user
        of_users, of_items = _counts(entries, wanted, users, items)
        left = int(of_users.sum())
        if not wanted.repeat_counts or left == before or not left:
            break
        before = left
    if not left:
        raise nothing_left(wanted.min_rating, wanted.min_item, wanted.min_user)
    users, items = of_users > 0, of_items > 0
    new_user, new_item = (np.cumsum(kept, dtype=np.int32) - 1 for kept in (users, items))
    with _Writer(entries.folder, "kept", int(users.sum()), entries.times) as writer:
        for block in entries.blocks():
            rows = block.rows
            some = _kept(block, rows, wanted, users, items)
            values = np.ones(int(some.sum()), np.float32) if wanted.binary else block.values[some]
            times = None if block.times is None else block.times[some]
            writer.add(new_user[rows[some]], new_item[block.items[some]], values, times)
        return writer.done(int(items.sum())), users, items


def _kept(block: Block, rows: npt.NDArray[np.int64], wanted: Filter, users: _Marks, items: _Marks) -> _Marks:
    kept = users[rows] & items[block.items]
    return kept if wanted.min_rating is None else kept & (block.values >= wanted.min_rating)


def _counts(
    entries: Entries, wanted: Filter, users: npt.NDArray[np.bool_], items: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many of the entries that are kept each user and each item has."""
    of_users, of_items = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    for block in entries.blocks():
        rows = block.rows
        some = _kept(block, rows, wanted, users, items)
        end = block.first + len(block.lengths)
        of_users[block.first : end] = np.bincount(rows[some] - block.first, minlength=len(block.lengths))
        of_items += np.bincount(block.items[some], minlength=len(items))
    return of_users, of_items


def at_ranks(entries: Entries, ranks: Sequence[int]) -> list[Any]:
    """Return the times that have these ranks, from 0, among all times in ascending order.

    The bits of a time are found 16 at a time, each by one pass over the times.
    """
    assert entries.times is not None
    found = []
    for rank in ranks:
        prefix, left = np.uint64(0), rank
        for shift in (48, 32, 16, 0):
            counts = np.zeros(2**16, np.int64)
            for part in entries.parts("times"):
                keys = _ordered(part)
                same = keys if shift == 48 else keys[keys >> np.uint64(shift + 16) == prefix]
                digits = ((same >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
                counts += np.bincount(digits, minlength=2**16)
            ends = np.cumsum(counts)
            digit = int(np.searchsorted(ends, left, "right"))
            left -= int(ends[digit - 1]) if digit else 0
            prefix = (prefix << np.uint64(16)) | np.uint64(digit)
        found.append(_time(prefix, entries.times))
    return found


_SIGN: Final = np.uint64(1 << 63)


def _ordered(times: Times) -> npt.NDArray[np.uint64]:
    """Return times as whole numbers of the same order."""
    bits: npt.NDArray[np.uint64] = times.view(np.uint64)
    if times.dtype.kind == "i":
        return bits ^ _SIGN
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _time(key: np.uint64, dtype: np.dtype[Any]) -> Any:
    bits = key ^ _SIGN if dtype.kind == "i" or key & _SIGN else ~key
    return np.array([bits], np.uint64).view(dtype)[0]


def _file(folder: Path, name: str, array: str) -> Path:
    return folder / f"{name}-{array}.bin"
