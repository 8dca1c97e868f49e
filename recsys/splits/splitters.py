"""Splitters: functions from `Interactions` to a `Split`, among which `[split] kind` of a configuration chooses."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from annotated_types import Gt

from recsys.errors import DataError, did_you_mean
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.options import Seed
from recsys.params import Natural, OpenFraction, Rate
from recsys.splits import draws
from recsys.splits.parts import Entries, Part, Split, by_entries
from recsys.splits.registry import checked, register
from recsys.times import Times


def _check_users(n_users: int | float, stable: bool) -> None:
    if stable and not n_users < 0.5:
        raise DataError(f"a stable split takes n_users as a share between 0 and 0.5, got {n_users}")
    if n_users >= 1 and n_users != int(n_users):
        raise DataError(f"n_users must be a whole number or a share below 1, got {n_users}")


@register
@checked(_check_users)
def hold_out_users(
    data: Interactions,
    *,
    n_users: Annotated[int | float, Gt(0)] = 0.1,
    target_fraction: OpenFraction = 0.2,
    min_items: Natural = 5,
    stable: bool = False,
    seed: Seed = 98765,
) -> Split:
    """Hold out users, who are unknown to training (strong generalization with fold-in, Liang et al. 2018, §4.3).

    The users, in the order of their rows (`from_frame` sorts them by id), are permuted; the last `n_users` are test
    users, the `n_users` before them validation users, the others training users. The items are those of the training
    users; other items of held-out users are dropped. Of each held-out user with n >= `min_items` items,
    floor(`target_fraction` · n) random ones are the target and the rest the context; users with fewer items keep them
    all as context and have no target. Draws follow the authors' notebook call by call on numpy's legacy generator,
    seeded again before each part; a user's items are visited in item order (in ML-20M also the order of the file).

    Args:
        n_users: held-out users per part: a count, or a share of all users below 1.
        target_fraction: share of a held-out user's items to predict.
        min_items: held-out users with fewer items have no target.
        stable: choose users by a hash of their id and the seed, so that a held-out user stays held out when data are
            added; `n_users` is then a share below ½, reached on average.
        seed: seed of the draws; 98765 in the paper's code.

    Raises:
        DataError: too few users for these parts, a held-out part without any target, or an option out of range.
    """
    total = data.shape[0]
    held_out = draws.held_out_users(data.users, total, n_users, stable, seed)
    rest = np.setdiff1d(np.arange(total), np.concatenate(held_out))
    train = data.take_users(rest)
    train = train.take_items(np.unique(train.matrix.indices))
    validation, test = (
        _fold_in(data.take_users(rows), train.items, target_fraction, min_items, seed) for rows in held_out
    )
    return Split(train, validation, test)


@register
@checked()
def hold_out_ratings(data: Interactions, *, test: OpenFraction = 0.1, validation: Rate = 0.1, seed: Seed = 0) -> Split:
    """Hold out random entries (Sedhain et al. 2015, §4); all parts share the users and items of the data.

    Args:
        test: share of all entries for the test part.
        validation: share of the remaining entries for the validation part; 0 for none.
        seed: seed of the permutation.

    Raises:
        DataError: a share is out of range, or too small for a single entry.
    """
    order = np.random.default_rng(seed).permutation(data.nnz)
    n_test = round(test * data.nnz)
    n_validation = round(validation * (data.nnz - n_test))
    is_test, is_validation = np.zeros((2, data.nnz), dtype=bool)
    is_test[order[:n_test]] = True
    is_validation[order[n_test : n_test + n_validation]] = True
    return by_entries(data, is_validation if validation else None, is_test)


@register
@checked()
def leave_last_out(data: Interactions, *, seed: Seed = 0) -> Split:
    """Hold out each user's latest entry for the test and the one before it for validation.

    Users with fewer than 3 entries stay in training. Entries of equal time are drawn; `notes` of the split say how many
    users that concerns. A draw depends on the seed and the entries, not on ids or on the order of the rows.

    Args:
        seed: seed of the draws among entries of equal time.

    Raises:
        DataError: the data have no timestamps.
    """
    times = _need_times(data, "leave_last_out")
    counts = np.diff(data.matrix.indptr)
    is_validation, is_test, tied = draws.last_two(counts, times, _draw(data, times, seed))
    return replace(by_entries(data, is_validation, is_test), notes=draws.note_of_ties(tied, seed))


def _check_shares(test: float, validation: float) -> None:
    if test + validation >= 1:
        raise DataError(f"test and validation are shares that sum below 1, got {test} and {validation}")


@register
@checked(_check_shares)
def by_time(data: Interactions, *, test: OpenFraction = 0.1, validation: Rate = 0.1) -> Split:
    """Hold out the latest entries of all users for the test, and those just before them for validation.

    Entries of one time stay together in the earlier part, so every training entry is earlier than every test entry.

    Args:
        test: share of all entries for the test part.
        validation: share of all entries for the validation part; 0 for none.

    Raises:
        DataError: there are no timestamps, too many entries of one time for a part, or shares that sum to 1 or more.
    """
    times = _need_times(data, "by_time")
    last_of_training, last_before_test = np.sort(times)[list(draws.ranks_of_cuts(data.nnz, test, validation))]
    is_test = times > last_before_test
    is_validation = (times > last_of_training) & ~is_test if validation else None
    return replace(by_entries(data, is_validation, is_test), first_test_time=times[is_test].min().item())


def _check_marks(test: Hashable, validation: Hashable | None) -> None:
    if validation == test:
        raise DataError(f"test and validation must be different values of the column, got {test!r} for both")


@register
@checked(_check_marks)
def given(
    data: Interactions,
    column: str,
    *,
    test: Hashable = "test",
    validation: Hashable | None = None,
    validation_fraction: Rate = 0.0,
    seed: Seed = 0,
    temporal: bool = False,
) -> Split:
    """Split by a column of the data, such as a published split, that was kept when they were read (`keep=[column]`).

    Args:
        column: name of the column that marks the part of each entry.
        test: its value on test entries.
        validation: its value on validation entries; by default `validation`, `val` or `valid`, if one occurs.
        validation_fraction: random share of the training entries for validation, if the column marks none.
        seed: seed of that random share.
        temporal: the column splits by time: refuse it if a training entry is later than the first held-out entry.

    Raises:
        DataError: the column was not kept or lacks a value, both parts have the same value, `validation_fraction` is
            out of range, or a temporal split trains on entries from the future.
    """
    if column not in data.columns:
        raise DataError(
            f"column {column!r} was not kept with these interactions"
            f"{did_you_mean(column, data.columns) if data.columns else ', nor was any other'}; "
            "name it in keep= when reading the data"
        )
    marks = np.asarray(data.columns[column])
    values = set(marks.tolist())
    for name in (test, validation):
        if name is not None and name not in values:
            raise DataError(f"column {column!r} has no value {name!r}; its values are {sorted(values, key=str)}")
    if validation is None:
        validation = next((name for name in ("validation", "val", "valid") if name in values - {test}), None)
    is_test = np.asarray(marks == test)
    is_validation = None if validation is None else np.asarray(marks == validation)
    if temporal:
        times = _need_times(data, "temporal=True")
        _refuse_future(times, ~is_test, is_test, "test")
        if is_validation is not None:
            _refuse_future(times, ~is_test & ~is_validation, is_validation, "validation")
    if is_validation is None and validation_fraction:
        rest = np.flatnonzero(~is_test)
        is_validation = np.zeros(data.nnz, dtype=bool)
        is_validation[np.random.default_rng(seed).permutation(rest)[: round(validation_fraction * len(rest))]] = True
    return by_entries(data, is_validation, is_test)


@register
@checked()
def cold_items(
    data: Interactions,
    *,
    test: Rate = 0.2,
    validation: Rate = 0.1,
    item_column: str | None = None,
    entries: Rate = 0.0,
    among: Literal["cold", "warm", "all"] = "cold",
    seed: Seed = 0,
) -> Split:
    """Hold out whole items, which training never sees, to measure how models recommend new items by their features.

    All parts share the users and items of the data: the columns of held-out items are empty in training. A user's
    context is the entries of warm items in training, and for the test part those of validation too. A held-out item of
    the test part is in no list of the validation part.

    Args:
        test: share of the items for the test part.
        validation: share of the items for the validation part; 0 for none.
        item_column: a column of the items that marks their parts (`test`; `validation`, `val` or `valid`; others are
            warm), in place of random shares.
        entries: share of the entries of warm items to hold out too, for the test part and, of the rest, for the
            validation part; needed unless `among` is `cold`.
        among: which items are to be found, and which lists may hold: `cold` or `warm` ones alone, or `all`.
        seed: seed of the draws.

    Raises:
        DataError: the column is missing or marks no part, a part would be empty, or `among` needs entries.
    """
    if among != "cold" and not entries:
        raise DataError(f"among={among!r} needs held-out entries of warm items: give entries=0.1, say")
    rng = np.random.default_rng(seed)
    part = _parts_of_items(data, item_column, test, validation, rng)
    of_entry = part[data.matrix.indices]
    is_test, is_validation = of_entry == 2, of_entry == 1
    has_validation = bool((part == 1).any())
    if entries:
        drawn = rng.random((2, data.nnz)) < entries
        is_test = is_test | ((of_entry == 0) & drawn[0])
        is_validation = is_validation | ((of_entry == 0) & drawn[1] & ~drawn[0] & has_validation)
    whole = by_entries(data, is_validation if has_validation else None, is_test)
    warm = part == 0

    def chosen(held: Part | None, cold: npt.NDArray[np.bool_]) -> Part | None:
        able = {"cold": cold, "warm": warm, "all": cold | warm}[among]
        return None if held is None else held.of_items(np.flatnonzero(able), np.flatnonzero(able))

    tested = chosen(whole.test, part == 2)
    assert tested is not None
    return replace(whole, validation=chosen(whole.validation, part == 1), test=tested)


def _parts_of_items(
    data: Interactions, column: str | None, test: float, validation: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return 2 for items of the test part, 1 for those of the validation part, 0 for warm ones."""
    n_items = data.shape[1]
    part = np.zeros(n_items, dtype=np.int64)
    if column is None:
        order = rng.permutation(n_items)
        n_test = round(test * n_items)
        part[order[:n_test]] = 2
        part[order[n_test : n_test + round(validation * n_items)]] = 1
        return part
    if column not in data.item_columns:
        raise DataError(
            f"the items have no column {column!r}{did_you_mean(column, data.item_columns)}; "
            "give a table of items with it, items="
        )
    marks = pd.Series(np.asarray(data.item_columns[column], dtype=object))
    part[marks.isin(["validation", "val", "valid"])] = 1
    part[marks == "test"] = 2
    if not (part == 2).any():
        raise DataError(
            f"column {column!r} marks no item as 'test'; its values are {sorted(map(str, marks.unique()))[:5]}"
        )
    return part


def _refuse_future(times: Times, before: Entries, after: Entries, name: str) -> None:
    """Refuse entries of an earlier part that are later than the first entry of the part called `name`."""
    first = times[after].min()
    if late := int(np.count_nonzero(times[before] > first)):
        raise DataError(
            f"{late} of the {np.count_nonzero(before)} entries before the {name} part are later than its first entry, "
            f"of {np.datetime64(int(first), 's')}: a temporal split must not train on the future; "
            "correct the column, or pass temporal=False"
        )


def _fold_in(users: Interactions, items: IdMap, target_fraction: float, min_items: int, seed: int) -> Part:
    """Split each user's items into context and target, with the draws of the paper's notebook."""
    matrix = users.histories(items)
    is_target = draws.targets(np.diff(matrix.indptr), target_fraction, min_items, np.random.RandomState(seed))
    if not is_target.any():
        raise DataError("no held-out user has enough items for a target; lower min_items or hold out more users")
    both = Interactions(matrix, users.users, items)
    not_in_training = np.full(len(users.users), -1, dtype=np.int32)
    return Part(both.select(~is_target).matrix, both.select(is_target).matrix, users.users, not_in_training)


def _draw(data: Interactions, times: npt.NDArray[Any], seed: int) -> npt.NDArray[np.uint64]:
    """Return the draws of `draws.draws` for all entries."""
    rows, items = np.repeat(np.arange(data.shape[0]), np.diff(data.matrix.indptr)), data.matrix.indices
    marks = draws.marks_of_entries(times, data.matrix.data)
    of_user, of_item = np.zeros(data.shape[0], dtype=np.uint64), np.zeros(data.shape[1], dtype=np.uint64)
    draws.add_to_users(of_user, rows, marks)
    draws.add_to_items(of_item, of_user, rows, items, marks)
    return draws.draws(of_user, of_item, rows, items, seed)


def _need_times(data: Interactions, what: str) -> Times:
    if data.timestamps is None:
        raise DataError(f"{what} needs timestamps; read the data with a timestamp column")
    return data.timestamps
