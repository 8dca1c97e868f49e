"""Splits: every stored entry lands in one part, and no part leaks into another."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import assume, example, settings
from hypothesis import given as for_all
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.splits import (
    SPLITTERS,
    Part,
    Split,
    by_time,
    check_together,
    checked,
    given,
    hold_out_ratings,
    hold_out_users,
    leave_last_out,
    register,
    registry,
)

quick = settings(deadline=None, max_examples=30)

DATA = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 9)),
    min_size=12,
    max_size=60,
    unique_by=lambda row: row[:2],
).map(lambda rows: interactions(rows))
"""Up to ten users and eight items; a third of the ratings are stored zeros and many times are equal."""


def interactions(rows):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    marks = np.resize(["train", "val", "test", "train"], len(frame))
    return Interactions.from_frame(
        frame.assign(item_id="i" + frame["item_id"].astype(str), split=marks), keep=["split"]
    )


def crowd(n_users=40, n_items=30, seed=0):
    """Users with one to twelve items each, a fifth of the ratings stored zeros; ids that are not codes."""
    rng = np.random.default_rng(seed)
    rows = [
        (100 + user, item, rating)
        for user in range(n_users)
        for item, rating in zip(
            rng.choice(n_items, size=rng.integers(1, 13), replace=False), rng.integers(0, 5, size=12), strict=False
        )
    ]
    return Interactions.from_frame(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


def entries(matrix, users, items):
    """Stored entries as {(user, item): value}, zeros included."""
    matrix = sp.coo_matrix(matrix)
    users, items = users.ids(matrix.row), items.ids(matrix.col)
    found = dict(zip(zip(users.tolist(), items.tolist(), strict=True), matrix.data.tolist(), strict=True))
    assert len(found) == matrix.nnz
    return found


def parts_of(split):
    """(train, validation context, validation target, test context, test target) as dictionaries of entries."""
    items = split.train.items
    found = [entries(split.train.matrix, split.train.users, items)]
    for part in (split.validation, split.test):
        found += [{}, {}] if part is None else [entries(m, part.users, items) for m in (part.context, part.target)]
    return found


def everything(data):
    return entries(data.matrix, data.users, data.items)


def assert_cut_by_entries(data, split):
    """Train, validation and test targets partition the data; contexts hold what is known before each."""
    train, validation_context, validation, test_context, test = parts_of(split)
    assert {**train, **validation, **test} == everything(data)
    assert len(train) + len(validation) + len(test) == data.nnz
    assert test_context == {**train, **validation}
    assert validation_context == (train if split.validation else {})
    assert (split.train.users, split.train.items) == (data.users, data.items)
    for part in filter(None, (split.validation, split.test)):
        assert part.users == data.users
        assert part.user_index.tolist() == list(range(data.shape[0]))
        for matrix in (part.context, part.target):
            assert matrix.shape == data.shape
            assert (matrix.dtype, matrix.indices.dtype) == (np.float32, np.int32)
            assert matrix.has_canonical_format


def assert_equal_splits(a, b):
    assert parts_of(a) == parts_of(b)


# hold_out_users


def published(frame, n_heldout_users, seed=98765):
    """The authors' notebook (VAE_ML20M_WWW2018), line by line, from its filtered table on."""
    raw_data = frame
    unique_uid = raw_data.groupby("user_id").size().index

    np.random.seed(seed)  # noqa: NPY002
    idx_perm = np.random.permutation(unique_uid.size)  # noqa: NPY002
    unique_uid = unique_uid[idx_perm]

    n_users = unique_uid.size
    tr_users = unique_uid[: (n_users - n_heldout_users * 2)]
    vd_users = unique_uid[(n_users - n_heldout_users * 2) : (n_users - n_heldout_users)]
    te_users = unique_uid[(n_users - n_heldout_users) :]

    train_plays = raw_data.loc[raw_data["user_id"].isin(tr_users)]
    unique_sid = pd.unique(train_plays["item_id"])

    def split_train_test_proportion(data, test_prop=0.2):
        data_grouped_by_user = data.groupby("user_id")
        tr_list, te_list = [], []
        np.random.seed(seed)  # noqa: NPY002
        for _, group in data_grouped_by_user:
            n_items_u = len(group)
            if n_items_u >= 5:
                idx = np.zeros(n_items_u, dtype="bool")
                drawn = np.random.choice(n_items_u, size=int(test_prop * n_items_u), replace=False)  # noqa: NPY002
                idx[drawn.astype("int64")] = True
                tr_list.append(group[np.logical_not(idx)])
                te_list.append(group[idx])
            else:
                tr_list.append(group)
        return pd.concat(tr_list), pd.concat(te_list)

    held = []
    for users in (vd_users, te_users):
        plays = raw_data.loc[raw_data["user_id"].isin(users)]
        plays = plays.loc[plays["item_id"].isin(unique_sid)]
        held += split_train_test_proportion(plays)
    return [train_plays, *held]


@pytest.fixture
def numpy_state():
    """The notebook seeds numpy's global generator; put it back afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.mark.parametrize("data_seed", range(4))
@pytest.mark.parametrize(("n_heldout_users", "seed"), [(8, 98765), (17, 1)])
def test_hold_out_users_is_the_published_procedure(numpy_state, data_seed, n_heldout_users, seed):
    data = crowd(seed=data_seed)
    frame = data.to_frame()  # by user and item, as the file of ML-20M is
    expected = [
        dict(zip(zip(t["user_id"], t["item_id"], strict=True), t["rating"], strict=True))
        for t in published(frame, n_heldout_users, seed)
    ]
    found = parts_of(hold_out_users(data, n_users=n_heldout_users, seed=seed))
    assert found == expected
    assert all(part for part in expected)
    dropped = data.nnz - sum(map(len, expected))
    assert n_heldout_users == 8 or dropped > 0  # with six training users, some items are theirs alone


def test_hold_out_users_leaves_numpy_alone():
    data = crowd()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    hold_out_users(data)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@quick
@for_all(st.integers(0, 2**16), st.integers(6, 15), st.sampled_from([0.2, 0.5, 0.7]), st.integers(0, 7))
@example(1197, 6, 0.2, 0)
@example(52, 6, 0.7, 7)
def test_hold_out_users_keeps_users_apart(seed, n_users, fraction, min_items):
    data = crowd(seed=seed)
    try:
        split = hold_out_users(data, n_users=n_users, target_fraction=fraction, min_items=min_items, seed=seed)
    except DataError:  # nobody in one of the parts has enough items, which the same users show without the conditions
        easy = hold_out_users(data, n_users=n_users, target_fraction=0.7, min_items=0, seed=seed)
        sizes = [(part.context + part.target).getnnz(axis=1) for part in (easy.validation, easy.test)]
        assert any((each < max(min_items, 1 / fraction)).all() for each in sizes)
        return
    train, *held = parts_of(split)
    users = [set(part.users) for part in (split.train, split.validation, split.test)]
    assert [len(ids) for ids in users] == [40 - 2 * n_users, n_users, n_users]
    assert set.union(*users) == set(data.users)
    assert list(split.train.items) == sorted({item for _, item in train})

    whole = everything(data)
    known = set(split.train.items)
    assert train == {pair: value for pair, value in whole.items() if pair[0] in users[0]}
    for ids, context, target in zip(users[1:], held[::2], held[1::2], strict=True):
        assert not context.keys() & target.keys()
        assert {**context, **target} == {p: v for p, v in whole.items() if p[0] in ids and p[1] in known}
        for user in ids:
            n_context, n_target = (sum(pair[0] == user for pair in part) for part in (context, target))
            total = n_context + n_target
            assert n_target == (int(fraction * total) if total >= min_items else 0)
    for part in (split.validation, split.test):
        assert (part.user_index == -1).all()
        assert list(part.users) == sorted(part.users)
        assert part.context.shape == part.target.shape == (n_users, len(known))


def test_users_with_fewer_items_have_no_target():
    data = Interactions.from_frame(
        pd.DataFrame([(u, i) for u in range(12) for i in range(4 if u % 2 else 5)], columns=["user_id", "item_id"])
    )
    split = hold_out_users(data, n_users=4)
    for part in (split.validation, split.test):
        sizes = np.diff(part.target.indptr)
        assert sizes.tolist() == [0 if user % 2 else 1 for user in part.users]
        assert (np.diff(part.context.indptr) == 4).all()


def test_hold_out_users_takes_a_share():
    data = crowd()
    assert_equal_splits(hold_out_users(data, n_users=0.2), hold_out_users(data, n_users=8))
    assert len(hold_out_users(data, n_users=1, min_items=2, seed=3).test.users) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_users": 20}, "takes 20 validation and 20 test users of 40, which leaves 0 to train on.* between 1 and 19"),
        ({"n_users": 0.5}, "leaves 0 to train on"),
        ({"n_users": 0}, "n_users must be a whole number or a finite number > 0, got 0"),
        ({"n_users": "a"}, "n_users must be a whole number or a finite number > 0, got 'a'"),
        ({"n_users": None}, "n_users must be .*, got None"),
        ({"n_users": True}, "n_users must be .*, got True"),
        ({"target_fraction": "a"}, "target_fraction must be a finite number > 0 and < 1, got 'a'"),
        ({"min_items": True}, "min_items must be a whole number ≥ 0, got True"),
        ({"min_items": -1}, "min_items must be a whole number ≥ 0, got -1"),
        ({"stable": "no"}, "stable must be True or False, got 'no'"),
        ({"stable": True, "n_users": 8}, "a stable split takes n_users as a share between 0 and 0.5, got 8"),
        ({"seed": -1}, "seed must be a whole number ≥ 0 and < 4294967296, got -1"),
        ({"n_users": 0.001}, "takes 0 validation"),
        ({"n_users": -3}, "n_users must be .* > 0, got -3"),
        ({"n_users": 2.5}, "a whole number or a share below 1, got 2.5"),
        ({"target_fraction": 0}, "target_fraction must be a finite number > 0 and < 1, got 0"),
        ({"target_fraction": 1.0}, "target_fraction must be a finite number > 0 and < 1, got 1.0"),
        ({"min_items": 99}, "no held-out user has enough items"),
        ({"target_fraction": 0.01}, "no held-out user has enough items"),
    ],
)
def test_hold_out_users_refuses_what_leaves_a_part_empty(options, message):
    with pytest.raises(DataError, match=message):
        hold_out_users(crowd(), **options)


# hold_out_ratings


@quick
@for_all(DATA, st.sampled_from([0.1, 0.3]), st.sampled_from([0.0, 0.2]), st.integers(0, 2**32 - 1))
def test_hold_out_ratings_partitions_the_entries(data, test, validation, seed):
    split = hold_out_ratings(data, test=test, validation=validation, seed=seed)
    assert_cut_by_entries(data, split)
    assert split.test.target.nnz == round(test * data.nnz)
    expected = round(validation * (data.nnz - split.test.target.nnz))
    assert (split.validation.target.nnz if split.validation else 0) == expected
    assert_equal_splits(split, hold_out_ratings(data, test=test, validation=validation, seed=seed))


def test_hold_out_ratings_depends_on_the_seed():
    data = crowd()
    targets = [parts_of(hold_out_ratings(data, seed=seed))[-1].keys() for seed in range(3)]
    assert targets[0] != targets[1] != targets[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 0}, "test must be a finite number > 0 and < 1, got 0"),
        ({"test": 1.0}, "test must be a finite number > 0 and < 1, got 1.0"),
        ({"test": -0.1}, "test must be .* > 0"),
        ({"validation": 1}, "validation must be a finite number ≥ 0 and < 1, got 1"),
        ({"validation": -0.1}, "validation must be .* ≥ 0"),
        ({"validation": False}, "validation must be .*, got False"),
        ({"test": 0.001}, "the test part would be empty: 3 entries are too few"),
        ({"test": 0.4, "validation": 0.001}, "the validation part would be empty: 3 entries are too few"),
        ({"test": 0.9}, "the training part would be empty: 3 entries are too few"),
    ],
)
def test_hold_out_ratings_refuses_shares_it_cannot_give(options, message):
    data = Interactions.from_frame(pd.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 2, 3]}))
    with pytest.raises(DataError, match=message):
        hold_out_ratings(data, **options)


# leave_last_out


@quick
@for_all(DATA)
def test_leave_last_out_takes_each_users_latest_two(data):
    frame = data.to_frame()
    users = [user for user, rows in frame.groupby("user_id") if len(rows) >= 3]
    assume(users)
    split = leave_last_out(data)
    assert_cut_by_entries(data, split)
    train, _, validation, _, test = parts_of(split)
    times = dict(zip(zip(frame["user_id"], frame["item_id"], strict=True), frame["timestamp"], strict=True))
    for part in (validation, test):
        assert sorted(user for user, _ in part) == users
    of_test, of_validation, tied = ({user: times[user, item] for user, item in p} for p in (test, validation, ()))
    for user in users:
        earlier = [times[pair] for pair in train if pair[0] == user]
        assert of_test[user] >= of_validation[user] >= max(earlier)
        tied[user] = of_test[user] == of_validation[user], of_validation[user] == max(earlier)
    for_test, in_all = sum(a for a, _ in tied.values()), sum(a or b for a, b in tied.values())
    assert len(split.notes) == (in_all > 0)
    for note in split.notes:
        assert note.startswith(f"{in_all} of {len(users)} users have entries of equal time")
        assert f", {for_test} of them for the test entry; a draw (seed 0) decided" in note


def sessions(seed=0):
    """Fifty users of up to thirty items each, five to a moment: nearly every user's last entries are of equal time."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, item, float(rng.integers(1, 6)), 1000 * user + place // 5)
        for user in range(50)
        for place, item in enumerate(rng.choice(80, size=rng.integers(5, 31), replace=False).tolist())
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.mark.parametrize("what", ["items", "users", "rows", "all"])
def test_leave_last_out_draws_by_what_is_stored_and_not_by_names(what):
    frame, rng = sessions(), np.random.default_rng(1)
    users, items = (dict(enumerate(rng.permutation(size).tolist())) for size in (50, 80))
    users = users if what in ("users", "all") else {user: user for user in users}
    items = items if what in ("items", "all") else {item: item for item in items}
    other = frame.assign(user_id=frame["user_id"].map(users), item_id=frame["item_id"].map(items))
    other = other.sample(frac=1, random_state=0) if what in ("rows", "all") else other
    parts, renamed = (parts_of(leave_last_out(Interactions.from_frame(table))) for table in (frame, other))
    for part, same in zip(parts, renamed, strict=True):
        assert {(users[user], items[item]): value for (user, item), value in part.items()} == same


def test_leave_last_out_prefers_no_item_of_a_tie():
    frame = pd.DataFrame([(user, item, 7) for user in range(4000) for item in range(4)]).set_axis(
        ["user_id", "item_id", "timestamp"], axis=1
    )
    frame["rating"] = np.random.default_rng(0).random(len(frame))
    test = parts_of(leave_last_out(Interactions.from_frame(frame)))[-1]
    counts = np.bincount([item for _, item in test], minlength=4)
    assert abs(counts - 1000).max() < 150  # five standard deviations
    other = parts_of(leave_last_out(Interactions.from_frame(frame), seed=1))[-1]
    assert 0.7 < len(test.keys() - other.keys()) / 4000 < 0.8


def test_leave_last_out_draws_nothing_where_times_differ():
    data = interactions([(u, i, 1.0, i) for u in range(5) for i in range(6)])
    split = leave_last_out(data, seed=3)
    assert split.notes == ()
    assert_equal_splits(split, leave_last_out(data))


def test_leave_last_out_needs_a_user_with_three_entries():
    data = interactions([(u, i, 1.0, i) for u in range(5) for i in range(2)])
    with pytest.raises(DataError, match="would be empty"):
        leave_last_out(data)


# by_time


@quick
@for_all(DATA, st.sampled_from([0.1, 0.3]), st.sampled_from([0.0, 0.2]))
def test_by_time_never_trains_on_what_is_later(data, test, validation):
    try:
        split = by_time(data, test=test, validation=validation)
    except DataError as error:
        assert len(set(data.timestamps)) < data.nnz, "only equal times can leave a part empty"
        assert "part would be empty" in str(error)  # noqa: PT017
        assume(False)
    assert_cut_by_entries(data, split)
    when = dict(zip(everything(data), data.timestamps.tolist(), strict=True))
    train, _, held, _, target = ({when[pair] for pair in part} for part in parts_of(split))
    assert max(train | held) < min(target)
    assert not held or max(train) < min(held)
    assert bool(held) == (validation > 0)
    assert len(parts_of(split)[-1]) <= round(test * data.nnz) + 1


def test_by_time_cuts_at_the_shares_where_times_differ():
    data = interactions([(n % 10, n // 10, 1.0, 59 - n) for n in range(60)])
    split = by_time(data, test=0.2, validation=0.1)
    assert (split.train.nnz, split.validation.target.nnz, split.test.target.nnz) == (42, 6, 12)
    assert split.train.timestamps.tolist() == sorted(range(42), key=lambda t: ((59 - t) % 10, (59 - t) // 10))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1, 1, 1, 1], "the test part would be empty"),
        ([1, 1, 1, 2], "the validation part would be empty"),
    ],
)
def test_by_time_refuses_to_cut_inside_a_moment(times, message):
    frame = pd.DataFrame({"user_id": [1, 2, 3, 4], "item_id": [1, 1, 2, 2], "timestamp": times})
    with pytest.raises(DataError, match=message):
        by_time(Interactions.from_frame(frame), test=0.25, validation=0.25)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0, 0.1), "test must be"),
        ((1.0, 0), "test must be"),
        ((0.5, 0.5), "test and validation are shares that sum below 1, got 0.5 and 0.5"),
        ((-0.1, 0.1), "test must be"),
        ((0.1, -0.1), "validation must be"),
    ],
)
def test_by_time_refuses_shares_that_leave_no_training(shares, message):
    with pytest.raises(DataError, match=message):
        by_time(interactions([(1, 1, 1.0, 1)]), test=shares[0], validation=shares[1])


def test_splits_by_time_need_timestamps():
    for split in (by_time, leave_last_out):
        with pytest.raises(DataError, match=f"{split.__name__} needs timestamps"):
            split(crowd())


# given


@quick
@for_all(DATA)
def test_given_follows_the_column(data):
    split = given(data, "split")
    assert_cut_by_entries(data, split)
    marks = dict(zip(everything(data), data.columns["split"].tolist(), strict=True))
    train, _, validation, _, test = parts_of(split)
    for mark, part in (("train", train), ("val", validation), ("test", test)):
        assert {marks[pair] for pair in part} == {mark}


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_given_finds_the_usual_names_of_validation(name):
    data = with_marks(["train", "test", name, "train"])
    assert given(data, "mark").validation.target.nnz == 1
    # Never the part that was asked for as test.
    split = given(data, "mark", test=name)
    assert split.validation is None
    assert_cut_by_entries(data, split)


def with_marks(marks):
    n = len(marks)
    frame = pd.DataFrame({"user_id": range(n), "item_id": range(n), "rating": [0.0] * n, "mark": marks})
    return Interactions.from_frame(frame, keep=["mark"])


@pytest.mark.parametrize(
    "marks",
    [
        [1, 2, 3, 4, 5],
        pd.array([1, 2, 3, 4, 5], dtype="int8"),
        pd.array([1, 2, 3, 4, 5], dtype="Int64"),
        pd.Categorical([1, 2, 3, 4, 5]),
    ],
    ids=["int", "int8", "Int64", "category"],
)
def test_given_takes_folds(marks):
    data = with_marks(marks)
    split = given(data, "mark", test=3, validation=4)
    assert split.train.users.ids(sp.coo_matrix(split.train.matrix).row).tolist() == [0, 1, 4]
    assert sp.coo_matrix(split.test.target).row.tolist() == [2]
    assert sp.coo_matrix(split.validation.target).row.tolist() == [3]
    assert given(data, "mark", test=3).validation is None
    with pytest.raises(DataError, match=re.escape("has no value '3'; its values are [1, 2, 3, 4, 5]")):
        given(data, "mark", test="3")


def test_given_trains_on_entries_without_a_mark():
    data = with_marks(["test", None, "test", "val"])
    split = given(data, "mark")
    assert_cut_by_entries(data, split)
    assert (split.train.nnz, split.validation.target.nnz, split.test.target.nnz) == (1, 1, 2)


def test_given_draws_a_validation_share_of_the_training_entries():
    data = with_marks(["train"] * 40 + ["test"] * 10)
    split = given(data, "mark", validation_fraction=0.25, seed=5)
    assert_cut_by_entries(data, split)
    assert (split.train.nnz, split.validation.target.nnz, split.test.target.nnz) == (30, 10, 10)
    assert_equal_splits(split, given(data, "mark", validation_fraction=0.25, seed=5))
    other = given(data, "mark", validation_fraction=0.25, seed=6)
    assert parts_of(other)[2].keys() != parts_of(split)[2].keys()
    assert parts_of(other)[4] == parts_of(split)[4]


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ("marks", {}, "column 'marks' was not kept with these interactions; did you mean 'mark'?.*keep="),
        ("mark", {"test": "Test"}, r"has no value 'Test'; its values are \['test', 'train', 'val'\]"),
        ("mark", {"validation": "dev"}, "has no value 'dev'"),
        ("mark", {"validation": "test"}, "different values of the column, got 'test' for both"),
        ("mark", {"test": "train", "validation_fraction": 1.0}, "validation_fraction must be .* < 1, got 1.0"),
        ("mark", {"test": "train", "validation_fraction": -0.5}, "validation_fraction must be .* ≥ 0 .*, got -0.5"),
    ],
)
def test_given_refuses_what_the_column_does_not_say(column, options, message):
    with pytest.raises(DataError, match=message):
        given(with_marks(["train", "train", "val", "test"]), column, **options)


def test_given_refuses_to_leave_nothing_to_train_on():
    with pytest.raises(DataError, match="the training part would be empty"):
        given(with_marks(["test", "test", "val"]), "mark")
    with pytest.raises(DataError, match="the validation part would be empty"):
        given(with_marks(["test", "train", "train"]), "mark", validation_fraction=0.1)


# refit, parts


@quick
@for_all(DATA)
def test_refit_is_training_and_validation_with_their_zeros(data):
    split = hold_out_ratings(data, test=0.2, validation=0.3)
    train, _, validation, context, _ = parts_of(split)
    again = split.refit()
    assert everything(again) == {**train, **validation} == context
    assert (again.users, again.items) == (data.users, data.items)
    assert again.matrix.has_canonical_format
    assert everything(split.train) == train


def test_refit_keeps_titles():
    data = Interactions.from_frame(crowd().to_frame(), titles={1: "one"})
    assert hold_out_ratings(data).refit().title(1) == "one"


def test_refit_needs_validation_entries_of_training_users():
    for split in (hold_out_users(crowd()), hold_out_ratings(crowd(), validation=0)):
        with pytest.raises(DataError, match="refit needs a validation part made of the training users' own entries"):
            split.refit()


def test_every_split_keeps_stored_zeros():
    data = interactions([(u, i, 0.0, 8 * i + u) for u in range(10) for i in range(8)])
    splits = [
        hold_out_ratings(data),
        leave_last_out(data),
        by_time(data),
        given(data, "split"),
    ]
    for split in splits:
        assert_cut_by_entries(data, split)
        assert split.refit().nnz == data.nnz - split.test.target.nnz
    split = hold_out_users(data, n_users=2)
    assert sum(map(len, parts_of(split))) == data.nnz
    assert split.test.target.nnz == 2 * int(0.2 * 8)


def test_splits_do_not_change_the_data():
    data = crowd()
    before = data.fingerprint()
    hold_out_users(data)
    hold_out_ratings(data).refit()
    assert replace(data).fingerprint() == before  # of a new object, which computes it from the same arrays


def test_a_part_checks_its_shapes():
    matrix = sp.csr_matrix((2, 3), dtype=np.float32)
    index = np.arange(2, dtype=np.int32)
    assert repr(Part(matrix, matrix, IdMap([1, 2]), index)) == "Part(2 users, 0 context, 0 target)"
    with pytest.raises(DataError, match="must agree"):
        Part(matrix, matrix[:1], IdMap([1, 2]), index)
    with pytest.raises(DataError, match="must agree"):
        Part(matrix, matrix, IdMap([1, 2, 3]), index)


def test_a_column_that_nothing_comes_with_is_named_without_a_list():
    with pytest.raises(
        DataError, match=r"column 'fold' was not kept with these interactions, nor was any other; name it in keep="
    ):
        given(crowd(), "fold")


# Overlaps and the future


def ones(rows, n_items=6):
    cells = [(row, item) for row, items in enumerate(rows) for item in items]
    row, col = zip(*cells, strict=True) if cells else ((), ())
    return sp.csr_matrix((np.zeros(len(cells), dtype=np.float32), (row, col)), shape=(len(rows), n_items))


def part_of(context, target, users=(0, 1), **options):
    return Part(ones(context), ones(target), IdMap(users), np.full(len(users), -1, dtype=np.int32), **options)


def test_a_target_that_is_known_is_refused_with_the_count():
    with pytest.raises(DataError, match=r"2 of the 3 target entries are in the context too.*allow_overlap=True"):
        part_of([[0, 1], [2]], [[1, 3], [2]])
    with pytest.raises(DataError, match="1 of the 2 target entries are in the seen too"):
        part_of([[0], [2]], [[1], [3]], seen=ones([[0, 1], [2]]))
    assert part_of([[0, 1], [2]], [[1, 3], [2]], allow_overlap=True).target.nnz == 3
    with pytest.raises(DataError, match=r"seen must have the shape of the context \(2, 6\), got \(1, 6\)"):
        part_of([[0], [2]], [[1], [3]], seen=ones([[0]]))


@pytest.mark.parametrize("name", ["context", "target"])
def test_entries_stored_twice_are_refused_with_the_count(name):
    twice = sp.csr_matrix((np.ones(4, dtype=np.float32), [1, 1, 1, 0], [0, 3, 4]), shape=(2, 6))
    matrices = {"context": ones([[4], [4]]), "target": ones([[5], [5]]), name: twice}
    with pytest.raises(DataError, match=f"2 entries of the {name} are stored twice"):
        Part(**matrices, users=IdMap([1, 2]), user_index=np.arange(2, dtype=np.int32))
    unsorted = sp.csr_matrix((np.ones(3, dtype=np.float32), [3, 1, 0], [0, 2, 3]), shape=(2, 6))
    Part(**{**matrices, name: unsorted}, users=IdMap([1, 2]), user_index=np.arange(2, dtype=np.int32))


def test_a_split_refuses_targets_from_its_training_part_by_external_id():
    train = Interactions(ones([[0, 1], [2, 3]]), IdMap(["a", "b"]), IdMap(range(6)))
    new = part_of([[0], [1]], [[1], [2]], users=("x", "y"))
    with pytest.raises(DataError, match=r"1 entries of the test target are training entries too"):
        Split(train, None, part_of([[0], [1]], [[1], [3]], users=("x", "b")))  # b is said to be new, and is not
    with pytest.raises(DataError, match=r"2 entries of the validation target are training entries too"):
        Split(train, part_of([[4], [4]], [[2], [1]], users=("b", "a")), new)
    with pytest.raises(DataError, match=r"1 entries of the test target are validation entries too"):
        Split(train, part_of([[0], [0]], [[2], [3]], users=("y", "z")), new)
    other = part_of([[0], [0]], [[3], [3]], users=("y", "z"))
    assert set(Split(train, other, new).overlaps().values()) == {0}
    taken = Split(train, None, part_of([[0], [1]], [[1], [3]], users=("x", "b")), allow_overlap=True)
    assert taken.overlaps() == {("test", "context"): 0, ("test", "training"): 1}
    narrow = Interactions(ones([[0]], 3), IdMap(["a"]), IdMap(range(3)))
    with pytest.raises(DataError, match="columns of the test part must be the 3 training items, got 6"):
        Split(narrow, None, new)


@quick
@for_all(DATA)
def test_no_split_of_ours_overlaps(data):
    for cut in (hold_out_ratings, leave_last_out, by_time, lambda data: given(data, "split")):
        try:
            split = cut(data)
        except DataError as error:
            assert "would be empty" in str(error)  # noqa: PT017
            continue
        assert set(split.overlaps().values()) == {0}


def test_rows_planted_in_two_parts_are_refused_when_they_are_read():
    frame = pd.DataFrame({"user_id": [1, 1, 2, 2, 1], "item_id": [1, 2, 1, 2, 2], "mark": ["train"] * 4 + ["test"]})
    with pytest.raises(DataError, match=r"1 rows repeat a user and item, for instance \(1, 2\)"):
        Interactions.from_frame(frame, keep=["mark"])


def test_a_given_split_by_time_refuses_entries_from_the_future_with_the_count():
    frame = pd.DataFrame(
        {
            "user_id": range(6),
            "item_id": range(6),
            "timestamp": [10, 20, 50, 70, 40, 60],
            "mark": ["train", "train", "train", "train", "val", "test"],
        }
    )
    data = Interactions.from_frame(frame, keep=["mark"])
    assert given(data, "mark").train.nnz == 4
    with pytest.raises(DataError, match=r"1 of the 5 entries before the test part are later.*1970-01-01T00:01"):
        given(data, "mark", temporal=True)
    early = Interactions.from_frame(frame.assign(timestamp=[10, 20, 50, 55, 40, 60]), keep=["mark"])
    with pytest.raises(DataError, match=r"2 of the 4 entries before the validation part are later"):
        given(early, "mark", temporal=True)
    clean = Interactions.from_frame(frame.assign(timestamp=[10, 20, 30, 40, 40, 60]), keep=["mark"])
    assert given(clean, "mark", temporal=True).validation.target.nnz == 1
    with pytest.raises(DataError, match="temporal=True needs timestamps"):
        given(with_marks(["train", "test"]), "mark", temporal=True)


@quick
@for_all(DATA)
def test_a_column_that_by_time_would_make_is_accepted(data):
    try:
        split = by_time(data, test=0.3, validation=0)
    except DataError:
        assume(False)
    test = parts_of(split)[-1]
    marks = np.array(["test" if pair in test else "train" for pair in everything(data)])
    marked = Interactions(data.matrix, data.users, data.items, data.timestamps, {"mark": marks})
    assert_equal_splits(given(marked, "mark", temporal=True), split)


# register


def test_what_cannot_be_a_splitter_is_refused():
    def untyped(data, share=0.1):
        return by_time(data, test=share)

    def unreadable(data, share: "Nowhere" = 0.1):  # noqa: F821
        return by_time(data, test=share)

    def by_time_of_mine(data):
        return by_time(data)

    by_time_of_mine.__name__ = "by_time"
    for splitter, message in (
        (lambda: None, "register takes a function of Interactions"),
        (Split, "register takes a function of Interactions"),
        (untyped, "share of untyped needs a type"),
        (unreadable, "types of unreadable's parameters cannot be read"),
        (by_time_of_mine, "recsys.splits.splitters registered a splitter by_time already"),
    ):
        with pytest.raises(ConfigError, match=message):
            register(splitter)
    own = [name for name in SPLITTERS if name != "prepared"]  # which comes with recsys.shards
    assert own == ["hold_out_users", "hold_out_ratings", "leave_last_out", "by_time", "given", "cold_items"]
    assert register(by_time) is by_time


def test_a_rule_of_a_splitter_is_checked_with_its_defaults_before_there_are_data():
    def refuse(low: float, high: float) -> None:
        if low > high:
            raise DataError(f"low must not lie above high, got {low} and {high}")

    try:

        @register
        @checked(refuse)
        def between(data: Interactions, low: float = 0.2, *, high: float = 0.4, seed: int = 0):
            return by_time(data, test=high - low)

        check_together("between", {"low": 0.3})
        with pytest.raises(DataError, match=r"low must not lie above high, got 0\.5 and 0\.4"):
            check_together("between", {"low": 0.5})
        with pytest.raises(DataError, match=r"low must not lie above high, got 0\.5 and 0\.4"):
            between(crowd(), 0.5)
        with pytest.raises(DataError, match="high must be a finite number, got True"):
            between(crowd(), high=True)
        with pytest.raises(DataError, match="by_time needs timestamps"):
            between(crowd(), 0.3)
    finally:
        registry._RULES.pop(registry._REGISTERED.pop("between", None), None)


@pytest.mark.slow
def test_the_published_split_of_movielens_20m():
    """Counts of the files that the authors' notebook wrote, as committed in psywaves/EVCF."""
    import os
    from pathlib import Path

    from recsys import datasets

    if not (Path(os.environ.get("RECSYS_DATA", "data/raw")) / "ml-20m").is_dir():
        pytest.skip("needs a copy of MovieLens-20M in $RECSYS_DATA/ml-20m or data/raw/ml-20m")
    data = datasets.load("ml-20m").filter(min_rating=4, min_user=5)
    assert (data.shape[0], data.nnz) == (136_677, 9_990_682)
    split = hold_out_users(data, n_users=10_000)
    assert split.train.shape == (116_677, 20_108)
    assert split.validation.target.nnz == 142_514
    assert split.test.target.nnz == 139_775
    assert (np.diff(split.test.target.indptr) > 0).all()
