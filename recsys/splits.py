"""Splits: pure functions from `Interactions` to train, validation and test parts.

Each part has a *context* (what a model may read about a user) and a *target* (what it must find). A test context
holds the training and the validation entries: everything known before the test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError, did_you_mean
from recsys.ids import IdMap
from recsys.interactions import Interactions

Entries = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Part:
    """Users to evaluate: what is known of each, and what is held out.

    Rows of `context` and `target` are the same users; columns are the items of the training part.

    Raises:
        DataError: shapes disagree, an entry is stored twice, or entries of the target are known already.
    """

    context: sp.csr_matrix
    """(n_rows, n_items) float32: the history a model reads, masked in its recommendations."""
    target: sp.csr_matrix
    """(n_rows, n_items) float32: the held-out entries."""
    users: IdMap
    """External ids of the rows."""
    user_index: npt.NDArray[np.int32]
    """(n_rows,) row of each user in the training matrix, -1 for users that training never saw."""
    seen: sp.csr_matrix | None = None
    """(n_rows, n_items): what is masked in recommendations, where that is more than the model may read; by default the
    context."""
    allow_overlap: bool = False
    """Take a target whose entries are known too: such an entry is never recommended, so it counts as missed."""

    def __post_init__(self) -> None:
        if self.context.shape != self.target.shape or self.context.shape[0] != len(self.users):
            raise DataError(
                f"context {self.context.shape}, target {self.target.shape} and {len(self.users)} users must agree"
            )
        if self.seen is not None and self.seen.shape != self.context.shape:
            raise DataError(f"seen must have the shape of the context {self.context.shape}, got {self.seen.shape}")
        for name in ("context", "target", "seen"):
            matrix = getattr(self, name)
            twice = 0 if matrix is None else _repeated(matrix)
            if twice:
                raise DataError(f"{twice} entries of the {name} are stored twice; store each user and item once")
        if self.allow_overlap:
            return
        for name in ("context", "seen"):
            matrix = getattr(self, name)
            both = 0 if matrix is None else count_shared(matrix, self.target)
            if both:
                raise DataError(
                    f"{both} of the {self.target.nnz} target entries are in the {name} too: what a model knows is no "
                    "test of it; take them out of one of the two, or pass allow_overlap=True"
                )

    def __repr__(self) -> str:
        return f"Part({len(self.users):,} users, {self.context.nnz:,} context, {self.target.nnz:,} target)"


@dataclass(frozen=True, eq=False)
class Split:
    """Training interactions with a validation part for every choice and a test part that is read once.

    Raises:
        DataError: a part has other items than training, its target holds training entries, also where the part calls
            its users new, or the test target holds validation entries.
    """

    train: Interactions
    validation: Part | None
    test: Part
    first_test_time: int | None = None
    """The earliest time of a test entry, where every training and validation entry is earlier."""
    allow_overlap: bool = False
    """Take parts whose targets share entries with training or with each other: their figures are then no test."""

    def __post_init__(self) -> None:
        parts = {"validation": self.validation, "test": self.test}
        for name, part in parts.items():
            if part is not None and part.target.shape[1] != len(self.train.items):
                raise DataError(
                    f"the columns of the {name} part must be the {len(self.train.items)} training items, "
                    f"got {part.target.shape[1]}"
                )
        if self.allow_overlap:
            return
        for (target, source), both in self._shared().items():
            if both:
                raise DataError(
                    f"{both} entries of the {target} target are {source} entries too: what a model was fitted or "
                    "chosen on is no test of it; take them out of one of the two, or pass allow_overlap=True"
                )

    def overlaps(self) -> dict[tuple[str, str], int]:
        """Return how many entries of each target are found elsewhere too, by external user and item.

        Returns:
            Counts by (part, where): `validation` and `test`, in `context` and `training`, `test` in `validation` too.
        """
        parts = {"validation": self.validation, "test": self.test}
        own = {
            (name, "context"): count_shared(part.context, part.target)
            for name, part in parts.items()
            if part is not None
        }
        return {**own, **self._shared()}

    def _shared(self) -> dict[tuple[str, str], int]:
        found = {}
        for name, part in (("validation", self.validation), ("test", self.test)):
            if part is not None:
                found[name, "training"] = _shared_of_users(self.train.matrix, self.train.users, part)
        if self.validation is not None:
            found["test", "validation"] = _shared_of_users(self.validation.target, self.validation.users, self.test)
        return found

    def refit(self) -> Interactions:
        """Return training plus validation entries, for a last fit after every choice has been made.

        Raises:
            DataError: the validation users are not training users, or there is no validation part.
        """
        if self.validation is None or (self.validation.user_index < 0).any():
            raise DataError("refit needs a validation part made of the training users' own entries")
        train = self.train
        matrix = sp.csr_matrix(train.matrix + self.validation.target, dtype=np.float32)
        if matrix.nnz != train.nnz + self.validation.target.nnz:  # a stored zero would be lost by the sum
            matrix = _union(train.matrix, self.validation.target)
        return Interactions(matrix, train.users, train.items, titles=train.titles)


def hold_out_users(
    data: Interactions,
    *,
    n_users: int | float = 0.1,
    target_fraction: float = 0.2,
    min_items: int = 5,
    stable: bool = False,
    seed: int = 98765,
) -> Split:
    """Strong generalisation with fold-in (Liang et al. 2018, §4.3): test users are never seen in training.

    The users, in the order of their rows (`from_frame` sorts them by id), are permuted; the last `n_users` are test,
    the `n_users` before them validation, the others train. The items are those of the training users; other items of
    held-out users are dropped. Of each held-out user with at least `min_items` items, floor(`target_fraction` · n)
    random ones are the target and the rest the context; users with fewer stay wholly in the context and have no
    target. Draws follow the authors' notebook call by call on numpy's legacy generator, re-seeded before each part; a
    user's items are visited in item order (in ML-20M that is also the order of the file).

    Args:
        n_users: held-out users per part: a count, or a share of all users below 1.
        target_fraction: share of a held-out user's items to predict.
        min_items: users with fewer items get no target.
        stable: who is held out depends on the user's id and the seed alone, so that a held-out user stays one when
            data are added; `n_users` is then a share below ½, reached on average.
        seed: 98765 in the paper's code.

    Raises:
        DataError: too few users for the parts asked for, or a held-out part without any target.
    """
    total = data.shape[0]
    for name, value in (("n_users", n_users), ("target_fraction", target_fraction), ("min_items", min_items)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise DataError(f"{name} must be a number, got {value!r}")
    if not 0 < target_fraction < 1:
        raise DataError(f"target_fraction must lie between 0 and 1, got {target_fraction}")
    if n_users < 0:
        raise DataError(f"n_users must be above 0, got {n_users}")
    if n_users >= 1 and n_users != int(n_users):
        raise DataError(f"n_users must be a whole number or a share below 1, got {n_users}")
    if stable:
        validation_rows, test_rows = _by_id(data.users, n_users, seed)
        return _hold_out(data, validation_rows, test_rows, target_fraction, min_items, seed)
    held = round(n_users * total) if n_users < 1 else int(n_users)
    if held < 1 or total - 2 * held < 1:
        raise DataError(
            f"hold_out_users takes {held} validation and {held} test users of {total}, which leaves "
            f"{max(0, total - 2 * held)} to train on; choose n_users between 1 and {max(0, (total - 1) // 2)}"
        )
    order = np.random.RandomState(seed).permutation(total)  # the published split is drawn with it
    return _hold_out(
        data, order[total - 2 * held : total - held], order[total - held :], target_fraction, min_items, seed
    )


def hold_out_ratings(data: Interactions, *, test: float = 0.1, validation: float = 0.1, seed: int = 0) -> Split:
    """Random entries held out (Sedhain et al. 2015, §4): the users and items of all parts are the same.

    Args:
        test: share of all entries for the test part.
        validation: share of what is left for validation; 0 for none.
        seed: seed of the permutation.

    Raises:
        DataError: a share is out of range, or too small for a single entry.
    """
    for name, share, lowest in (("test", test, "more than 0"), ("validation", validation, "at least 0")):
        if not (0 <= share < 1) or (name == "test" and share == 0):
            raise DataError(f"{name} must be {lowest} and below 1, got {share}")
    order = np.random.default_rng(seed).permutation(data.nnz)
    n_test = round(test * data.nnz)
    n_validation = round(validation * (data.nnz - n_test))
    is_test, is_validation = np.zeros((2, data.nnz), dtype=bool)
    is_test[order[:n_test]] = True
    is_validation[order[n_test : n_test + n_validation]] = True
    return _by_entries(data, is_validation if validation else None, is_test)


def leave_last_out(data: Interactions) -> Split:
    """Each user's latest entry is test, the one before it validation; users with fewer than 3 stay in training.

    Equal times are ordered by item.

    Raises:
        DataError: the data have no timestamps.
    """
    times = _need_times(data, "leave_last_out")
    counts = np.diff(data.matrix.indptr)
    rows = np.repeat(np.arange(data.shape[0]), counts)
    order = np.lexsort((times, rows))  # rows stay together, each in order of time
    ends = data.matrix.indptr[1:][counts >= 3].astype(np.int64)
    is_test, is_validation = np.zeros((2, data.nnz), dtype=bool)
    is_test[order[ends - 1]] = True
    is_validation[order[ends - 2]] = True
    return _by_entries(data, is_validation, is_test)


def by_time(data: Interactions, *, test: float = 0.1, validation: float = 0.1) -> Split:
    """Global temporal split: the latest share of all entries is test, the share before it validation.

    Entries of one second stay together on the earlier side, so that no training entry is later than a test entry.

    Args:
        test: share of all entries, the latest.
        validation: share of all entries, just before the test part; 0 for none.

    Raises:
        DataError: the data have no timestamps, or one moment holds too many entries to cut there.
    """
    times = _need_times(data, "by_time")
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise DataError(f"test and validation are shares that sum below 1, got {test} and {validation}")
    ordered = np.sort(times)
    last_before_test = ordered[max(0, round((1 - test) * data.nnz) - 1)]
    is_test = times > last_before_test
    is_validation = None
    if validation:
        is_validation = (times > ordered[max(0, round((1 - test - validation) * data.nnz) - 1)]) & ~is_test
    return replace(_by_entries(data, is_validation, is_test), first_test_time=int(times[is_test].min()))


def given(
    data: Interactions,
    column: str,
    *,
    test: Hashable = "test",
    validation: Hashable | None = None,
    validation_fraction: float = 0.0,
    seed: int = 0,
    temporal: bool = False,
) -> Split:
    """Split by a published column that was kept when the data were read (`keep=[column]`).

    Args:
        column: name of the kept column.
        test: its value on test entries.
        validation: its value on validation entries; by default `validation`, `val` or `valid`, if one occurs.
        validation_fraction: where the column marks none, this random share of the training entries.
        seed: seed of that random share.
        temporal: the column cuts by time: refuse it where entries are later than the first of a part they come before.

    Raises:
        DataError: the column was not kept or holds no such value, both parts name the same one,
            `validation_fraction` is out of range, or a split by time has entries from the future.
    """
    if column not in data.columns:
        raise DataError(
            f"there is no column {column!r} beside these interactions"
            f"{did_you_mean(column, data.columns) if data.columns else ', nor any other'}; "
            "name it in keep= when reading the data"
        )
    marks = np.asarray(data.columns[column])
    values = set(marks.tolist())
    if not 0 <= validation_fraction < 1:
        raise DataError(f"validation_fraction must be at least 0 and below 1, got {validation_fraction}")
    for name in (test, validation):
        if name is not None and name not in values:
            raise DataError(f"column {column!r} never says {name!r}; its values are {sorted(values, key=str)}")
    if validation is None:
        validation = next((name for name in ("validation", "val", "valid") if name in values - {test}), None)
    elif validation == test:
        raise DataError(f"test and validation must be different values of {column!r}, got {test!r} for both")
    is_test = np.asarray(marks == test)
    is_validation = None
    if validation is not None:
        is_validation = np.asarray(marks == validation)
    elif validation_fraction:
        rest = np.flatnonzero(~is_test)
        drawn = np.random.default_rng(seed).permutation(rest)[: round(validation_fraction * len(rest))]
        is_validation = np.zeros(data.nnz, dtype=bool)
        is_validation[drawn] = True
    if temporal:
        times = _need_times(data, "temporal=True")
        _refuse_future(times, ~is_test, is_test, "test")
        if validation is not None and is_validation is not None:
            _refuse_future(times, ~is_test & ~is_validation, is_validation, "validation")
    return _by_entries(data, is_validation, is_test)


def count_shared(a: sp.csr_matrix, b: sp.csr_matrix) -> int:
    """Return how many entries are stored in both of two matrices of one shape, whatever their values."""
    marks = [sp.csr_matrix((np.ones(m.nnz, dtype=np.int8), m.indices, m.indptr), shape=m.shape) for m in (a, b)]
    return int(marks[0].multiply(marks[1]).nnz)


def _shared_of_users(matrix: sp.csr_matrix, users: IdMap, part: Part) -> int:
    """Return how many target entries of a part are stored in a matrix whose rows are other users, or the same."""
    if users is part.users or users == part.users:
        return count_shared(matrix, part.target)
    row = users.codes(part.users.ids(), on_unknown="mark")
    known = np.flatnonzero(row >= 0)
    return count_shared(matrix[row[known]], part.target[known]) if len(known) else 0


def _repeated(matrix: sp.csr_matrix) -> int:
    if matrix.has_canonical_format:
        return 0
    once = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
    once = once.copy()
    once.sum_duplicates()
    return int(matrix.nnz - once.nnz)


def _refuse_future(times: npt.NDArray[np.int64], before: Entries, after: Entries, name: str) -> None:
    first = times[after].min()
    late = int(np.count_nonzero(times[before] > first))
    if late:
        raise DataError(
            f"{late} of the {np.count_nonzero(before)} entries that come before the {name} part are later than its "
            f"first, of {np.datetime64(int(first), 's')}: a split by time must not train on what came later; "
            "mend the column, or pass temporal=False"
        )


def _by_entries(data: Interactions, is_validation: Entries | None, is_test: Entries) -> Split:
    """Cut by stored entries: all parts share the users and items of the data; `is_validation` None asks for none."""
    is_known = ~is_test
    is_train = is_known if is_validation is None else is_known & ~is_validation
    for name, marked in (("training", is_train), ("test", is_test), ("validation", is_validation)):
        if marked is not None and not marked.any():
            raise DataError(f"the {name} part would be empty: {data.nnz} entries are too few for this split")
    index = np.arange(data.shape[0], dtype=np.int32)
    train = data.select(is_train)

    def part(context: Entries, target: Entries) -> Part:
        return Part(data.select(context).matrix, data.select(target).matrix, data.users, index)

    validation = None if is_validation is None else part(is_train, is_validation)
    return Split(train, validation, part(is_known, is_test))


def _by_id(users: IdMap, share: int | float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows of validation and test users, chosen by a hash of seed and id: each id's place in 0..1."""
    if not 0 < share < 0.5:
        raise DataError(f"a stable split takes n_users as a share between 0 and 0.5, got {share}")
    digests = b"".join(hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=8).digest() for user in users)
    place = np.frombuffer(digests, dtype=">u8").astype(np.float64) / 2.0**64
    return np.flatnonzero((place >= share) & (place < 2 * share)), np.flatnonzero(place < share)


def _hold_out(
    data: Interactions, validation_rows: Rows, test_rows: Rows, target_fraction: float, min_items: int, seed: int
) -> Split:
    rest = np.setdiff1d(np.arange(data.shape[0]), np.concatenate([validation_rows, test_rows]))
    if not (len(rest) and len(validation_rows) and len(test_rows)):
        raise DataError(f"{data.shape[0]} users are too few to hold some out by their id; choose n_users otherwise")
    train = data.take_users(rest)
    train = train.take_items(np.unique(train.matrix.indices))
    validation, test = (
        _fold_in(data.take_users(np.sort(rows)), train.items, target_fraction, min_items, seed)
        for rows in (validation_rows, test_rows)
    )
    return Split(train, validation, test)


def _fold_in(users: Interactions, items: IdMap, target_fraction: float, min_items: int, seed: int) -> Part:
    """Cut each user's items into context and target, drawing as the paper's notebook does."""
    rng = np.random.RandomState(seed)
    matrix = users.histories(items)
    is_target = np.zeros(matrix.nnz, dtype=bool)
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        size = int(end - start)
        if size >= min_items:
            is_target[start + rng.choice(size, size=int(target_fraction * size), replace=False)] = True
    if not is_target.any():
        raise DataError("no held-out user has enough items for a target; lower min_items or hold out more users")
    both = Interactions(matrix, users.users, items)
    unseen = np.full(len(users.users), -1, dtype=np.int32)
    return Part(both.select(~is_target).matrix, both.select(is_target).matrix, users.users, unseen)


def _need_times(data: Interactions, what: str) -> npt.NDArray[np.int64]:
    if data.timestamps is None:
        raise DataError(f"{what} needs timestamps; read the data with a timestamp column")
    return data.timestamps


def _union(a: sp.csr_matrix, b: sp.csr_matrix) -> sp.csr_matrix:
    """Union of disjoint stored entries; unlike a sum it keeps stored zeros."""
    rows = [np.repeat(np.arange(m.shape[0]), np.diff(m.indptr)) for m in (a, b)]
    cols: Any = np.concatenate([a.indices, b.indices])
    matrix = sp.csr_matrix(
        (np.concatenate([a.data, b.data]), (np.concatenate(rows), cols)), shape=a.shape, dtype=np.float32
    )
    matrix.sort_indices()
    return matrix
