"""Splits of entries in files, written as shards: what `recsys.splits` gives in memory, with the same draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.errors import DataError
from recsys.interactions import fingerprint_of
from recsys.preparing.entries import Block, Entries, at_ranks
from recsys.shards import Builder, MatrixWriter, fingerprint_of_files
from recsys.splits import draws

Ids = Callable[[], Iterator[pa.Array]]
"""Gives the external ids in the order of their codes, in parts."""


@dataclass(frozen=True)
class Items:
    """The items of the entries, in memory."""

    ids: Any
    """IdMap."""
    titles: npt.NDArray[np.object_] | None
    columns: Mapping[str, npt.NDArray[Any]]

    def take(self, codes: npt.NDArray[Any]) -> Items:
        """Return some of the items."""
        titles = None if self.titles is None else self.titles[codes]
        return Items(self.ids.take(codes), titles, {name: values[codes] for name, values in self.columns.items()})


@dataclass(frozen=True)
class Prepared:
    """Entries, whose they are, and the folder of shards that they go to."""

    entries: Entries
    users: Ids
    items: Items
    builder: Builder

    def some_users(self, kept: npt.NDArray[np.bool_]) -> Ids:
        """Return the ids of the marked users."""
        return lambda: chosen(self.users(), kept)

    def fingerprint(self) -> str:
        """Return `Interactions.fingerprint` of the entries."""
        entries = self.entries
        times = None if entries.times is None else entries.parts("times")
        arrays = [entries.indptr], entries.parts("items"), entries.parts("values"), times
        return fingerprint_of(arrays, [_plain(self.users()), self.items.ids.ids()])

    def summary(self) -> dict[str, Any]:
        """Return `Interactions.summary` of the entries."""
        n_users, n_items, n = self.entries.n_users, self.entries.n_items, self.entries.nnz
        sizes = {"users": n_users, "items": n_items, "interactions": n}
        return {**sizes, "density": n / max(1, n_users * n_items), "fingerprint": self.fingerprint()}

    def written(self, train: MatrixWriter, users: Ids, items: Items, **facts: Any) -> None:
        """Write the manifest, when all matrices are written."""
        train.close()
        ids = (lambda: _plain(users())), (lambda: [items.ids.ids()])
        fingerprint = fingerprint_of_files(self.builder.folder, train, ids)
        usual: dict[str, Any] = {"parts": {}, "first_test_time": None, "allow_overlap": False, "notes": []}
        self.builder.finish({**usual, "train": {"fingerprint": fingerprint}, **facts})

    @property
    def times(self) -> str | None:
        """Name of the type of the times."""
        return None if self.entries.times is None else str(self.entries.times)


def chosen(ids: Iterable[pa.Array], kept: npt.NDArray[np.bool_]) -> Iterator[pa.Array]:
    """Yield the marked ones of ids that come in parts."""
    start = 0
    for part in ids:
        yield part.filter(pa.array(kept[start : start + len(part)]))
        start += len(part)


def _plain(ids: Iterable[pa.Array]) -> Iterator[npt.NDArray[Any]]:
    for part in ids:
        yield part.to_numpy(zero_copy_only=False)


def _part(name: str, context: list[str], *, own_users: bool) -> dict[str, Any]:
    users = f"{name}-users.parquet" if own_users else "users.parquet"
    return {"users": users, "index": False, "context": context, "seen": False, "allow_overlap": False}


def hold_out_users(data: Prepared, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write the split of `splits.hold_out_users`."""
    n, entries = data.entries.n_users, data.entries
    ids = (id for part in data.users() for id in part.to_pylist())
    places = options["n_users"], options["stable"], options["seed"]
    role = np.zeros(n, np.int8)
    for number, rows in enumerate(draws.held_out_users(ids, n, *places), 1):
        role[rows] = number
    in_training = np.zeros(entries.n_items, dtype=bool)
    for block in entries.blocks():
        in_training[block.items[role[block.rows] == 0]] = True
    column = np.cumsum(in_training, dtype=np.int32) - 1
    builder, items, of_train = data.builder, data.items.take(np.flatnonzero(in_training)), data.some_users(role == 0)
    builder.users(of_train())
    builder.items(items.ids, items.titles, items.columns)
    train = builder.matrix("train", data.times)
    held_out = {}
    for number, name in ((1, "validation"), (2, "test")):
        builder.users(data.some_users(role == number)(), f"{name}-users.parquet")
        writers = builder.matrix(f"{name}-context"), builder.matrix(f"{name}-target")
        held_out[number] = _FoldIn(*writers, np.random.RandomState(options["seed"]), options)
    for block in entries.blocks():
        roles = role[block.first : block.first + len(block.lengths)]
        _add(train, block.take(roles == 0), column)
        for number, part in held_out.items():
            part.add(block.take(roles == number), in_training, column)
    if not all(part.found for part in held_out.values()):
        raise DataError("no held-out user has enough items for a target; lower min_items or hold out more users")
    parts = {name: _part(name, [f"{name}-context"], own_users=True) for name in ("validation", "test")}
    data.written(train, of_train, items, **about, parts=parts)


@dataclass
class _FoldIn:
    """A held-out part of users who are not in training."""

    context: MatrixWriter
    target: MatrixWriter
    rng: np.random.RandomState
    options: Mapping[str, Any]
    found: bool = False

    def add(self, block: Block, known: npt.NDArray[np.bool_], column: npt.NDArray[np.int32]) -> None:
        block = block.select(known[block.items])
        is_target = draws.targets(block.lengths, self.options["target_fraction"], self.options["min_items"], self.rng)
        self.found = self.found or bool(is_target.any())
        _add(self.target, block.select(is_target), column)
        _add(self.context, block.select(~is_target), column)


def _add(writer: MatrixWriter, block: Block, column: npt.NDArray[np.int32] | None = None) -> None:
    items = block.items if column is None else column[block.items]
    writer.add(block.lengths, items, block.values, block.times)


Marks = tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.bool_]]
"""Which entries of a block are for validation, if there is such a part, and which for the test."""


def _by_entries(data: Prepared, marks: Callable[[Block], Marks], *, validation: bool) -> MatrixWriter:
    """Write the parts of a split of entries; return the training part, which is not closed."""
    builder, items = data.builder, data.items
    builder.users(data.users())
    builder.items(items.ids, items.titles, items.columns)
    train, test = builder.matrix("train", data.times), builder.matrix("test-target")
    chosen = builder.matrix("validation-target") if validation else None
    sizes = dict.fromkeys(("training", "test", *(("validation",) if validation else ())), 0)
    for block in data.entries.blocks():
        is_validation, is_test = marks(block)
        rest = ~is_test if is_validation is None else ~is_test & ~is_validation
        _add(train, block.select(rest))
        _add(test, block.select(is_test))
        sizes["training"] += int(rest.sum())
        sizes["test"] += int(is_test.sum())
        if chosen is not None and is_validation is not None:
            _add(chosen, block.select(is_validation))
            sizes["validation"] += int(is_validation.sum())
    for name, size in sizes.items():
        if not size:
            raise DataError(f"the {name} part would be empty: {data.entries.nnz} entries are too few for this split")
    return train


def _parts_of_entries(validation: bool) -> dict[str, Any]:
    context = ["train", *(("validation-target",) if validation else ())]
    parts = {"test": _part("test", context, own_users=False)}
    return {"validation": _part("validation", ["train"], own_users=False), **parts} if validation else parts


def by_time(data: Prepared, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write the split of `splits.by_time`."""
    _need_times(data, "by_time")
    validation = bool(options["validation"])
    ranks = draws.ranks_of_cuts(data.entries.nnz, options["test"], options["validation"])
    last_of_training, last_before_test = at_ranks(data.entries, ranks)
    first: list[Any] = []

    def marks(block: Block) -> Marks:
        assert block.times is not None
        is_test = block.times > last_before_test
        if is_test.any():
            first.append(block.times[is_test].min())
        return (block.times > last_of_training) & ~is_test if validation else None, is_test

    train = _by_entries(data, marks, validation=validation)
    parts = _parts_of_entries(validation)
    data.written(train, data.users, data.items, **about, parts=parts, first_test_time=min(first).item())


def leave_last_out(data: Prepared, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write the split of `splits.leave_last_out`."""
    _need_times(data, "leave_last_out")
    entries, seed = data.entries, options["seed"]
    of_user, of_item = np.zeros(entries.n_users, np.uint64), np.zeros(entries.n_items, np.uint64)
    for block in entries.blocks():
        draws.add_to_users(of_user, block.rows, _marks(block))
    for block in entries.blocks():
        draws.add_to_items(of_item, of_user, block.rows, block.items, _marks(block))
    tied = np.zeros(3, np.int64)

    def marks(block: Block) -> Marks:
        drawn = draws.draws(of_user, of_item, block.rows, block.items, seed)
        is_validation, is_test, counts = draws.last_two(block.lengths, block.times, drawn)  # type: ignore[arg-type]
        tied[:] += counts
        return is_validation, is_test

    train = _by_entries(data, marks, validation=True)
    notes = list(draws.note_of_ties(tied, seed))
    data.written(train, data.users, data.items, **about, parts=_parts_of_entries(True), notes=notes)


def _marks(block: Block) -> npt.NDArray[np.uint64]:
    assert block.times is not None
    return draws.marks_of_entries(block.times, block.values)


def _need_times(data: Prepared, what: str) -> None:
    if data.entries.times is None:
        raise DataError(f"{what} needs timestamps; read the data with a timestamp column")


def unsplit(data: Prepared, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write all entries as one part."""
    builder, items = data.builder, data.items
    builder.users(data.users())
    builder.items(items.ids, items.titles, items.columns)
    train = builder.matrix("train", data.times)
    for block in data.entries.blocks():
        _add(train, block)
    data.written(train, data.users, items, **about)


UNSPLIT: Final = ""
"""The kind of no split."""
SPLITS: Final[Mapping[str, Callable[[Prepared, Mapping[str, Any], Mapping[str, Any]], None]]] = {
    "hold_out_users": hold_out_users,
    "by_time": by_time,
    "leave_last_out": leave_last_out,
}
"""The splits that need no more memory than a number per user and per item, by the names of `recsys.splits`."""
