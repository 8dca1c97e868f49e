"""Interactions: from a table to a matrix with ids and back, with nothing lost or misaligned on the way."""

import re
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import frames, interactions
from recsys.errors import DataError, DataWarning, OutOfRangeError
from recsys.ids import IdMap
from recsys.interactions import Interactions

quick = settings(deadline=None, max_examples=30)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 4),
        st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)
"""(user, item, rating, time), many of them of one pair or of one time."""


def table(rows):
    """Rows with string item ids and a column that tells each row apart."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    frame["item_id"] = "i" + frame["item_id"].astype(str)
    return frame.assign(mark=[f"row {n}" for n in range(len(frame))])


def distinct(rows):
    return table(rows).drop_duplicates(["user_id", "item_id"]).reset_index(drop=True)


def triples(data):
    """The stored entries as a dictionary, read entry by entry from the CSR arrays."""
    found = {}
    users, items, matrix = list(data.users), list(data.items), data.matrix
    for row, user in enumerate(users):
        for at in range(matrix.indptr[row], matrix.indptr[row + 1]):
            beside = [None if data.timestamps is None else data.timestamps[at]]
            beside += [column[at] for column in data.columns.values()]
            assert (user, items[matrix.indices[at]]) not in found
            found[user, items[matrix.indices[at]]] = (matrix.data[at], *beside)
    return found


def assert_same(a, b):
    assert a.users == b.users
    assert a.items == b.items
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(a.matrix, part), getattr(b.matrix, part))
    np.testing.assert_array_equal(a.timestamps, b.timestamps)
    assert a.columns.keys() == b.columns.keys()
    for name in a.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])


@pytest.fixture
def small():
    """Three users, three items, a stored zero; timestamps, a column and titles that name their entry."""
    frame = pd.DataFrame(
        {
            "user_id": [3, 1, 1, 2, 2, 1],
            "item_id": ["a", "c", "a", "b", "a", "b"],
            "rating": [5.0, 0.0, 1.0, 3.0, 2.0, 4.0],
            "timestamp": [31, 13, 11, 22, 21, 12],
            "mark": ["3a", "1c", "1a", "2b", "2a", "1b"],
        }
    )
    return Interactions.from_frame(frame, keep=["mark"], titles={"a": "Alpha", "b": "Beta"})


# from_frame


def test_a_bare_table_counts_every_row_as_one():
    data = Interactions.from_frame(pd.DataFrame({"user_id": [2, 1, 1], "item_id": ["b", "b", "a"]}))
    assert data.shape == (2, 2)
    assert (data.nnz, len(data)) == (3, 3)
    assert list(data.users) == [1, 2]
    assert list(data.items) == ["a", "b"]
    np.testing.assert_array_equal(data.matrix.toarray(), [[1, 1], [0, 1]])
    assert data.timestamps is None
    assert data.columns == {}
    assert data.titles is None


def test_the_matrix_is_canonical_csr_of_float32_and_int32(small):
    for matrix in (small.matrix, small.take_items([0, 2]).matrix, small.take_users([2, 0]).matrix):
        assert isinstance(matrix, sp.csr_matrix)
        assert (matrix.dtype, matrix.indices.dtype, matrix.indptr.dtype) == (np.float32, np.int32, np.int32)
        rebuilt = sp.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)  # forgets the flags
        assert rebuilt.has_canonical_format


@quick
@given(ROWS)
def test_default_columns_are_read_and_stay_together(rows):
    frame = distinct(rows)
    before = frame.copy()
    data = Interactions.from_frame(frame, keep=["mark"])
    pd.testing.assert_frame_equal(frame, before)
    expected = {(r.user_id, r.item_id): (r.rating, r.timestamp, r.mark) for r in frame.itertuples()}
    assert triples(data) == expected
    assert list(data.users) == sorted(set(frame["user_id"]))
    assert list(data.items) == sorted(set(frame["item_id"]))


@quick
@given(ROWS, st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(rows, seed):
    frame = distinct(rows)
    shuffled = frame.sample(frac=1, random_state=seed)
    a, b = (Interactions.from_frame(f, keep=["mark"]) for f in (frame, shuffled))
    assert_same(a, b)
    assert a.fingerprint() == b.fingerprint()


@quick
@given(ROWS)
def test_to_frame_goes_round(rows):
    data = Interactions.from_frame(distinct(rows), keep=["mark"])
    frame = data.to_frame()
    assert list(frame.columns) == ["user_id", "item_id", "rating", "timestamp", "mark"]
    assert_same(Interactions.from_frame(frame, keep=["mark"]), data)


def test_to_frame_hands_out_a_copy(small):
    frame = small.to_frame()
    frame[["rating", "timestamp"]] = -1
    assert triples(small)[3, "a"] == (5.0, 31, "3a")


def test_columns_can_have_other_names():
    frame = pd.DataFrame({"who": [1, 2], "what": ["a", "b"], "stars": [4, 5], "when": [7, 8]})
    data = Interactions.from_frame(frame, user="who", item="what", rating="stars", timestamp="when")
    assert triples(data) == {(1, "a"): (4.0, 7), (2, "b"): (5.0, 8)}


def test_none_ignores_a_column(small):
    data = Interactions.from_frame(small.to_frame(), rating=None, timestamp=None)
    assert set(data.matrix.data) == {1.0}
    assert data.timestamps is None


def test_a_missing_column_is_named_with_the_nearest():
    frame = pd.DataFrame({"userid": [1], "item_id": [2], "ratings": [3.0]})
    with pytest.raises(DataError, match=re.escape("column 'user_id' is not in the table; did you mean 'userid'?")):
        Interactions.from_frame(frame)
    frame = frame.rename(columns={"userid": "user_id"})
    with pytest.raises(DataError, match=re.escape("column 'rating_' is not in the table; did you mean 'ratings'?")):
        Interactions.from_frame(frame, rating="rating_")
    with pytest.raises(DataError, match=r"column 'when' is not in the table.*timestamp="):
        Interactions.from_frame(frame, timestamp="when")
    with pytest.raises(DataError, match="column 'split' is not in the table; known: item_id, ratings, user_id"):
        Interactions.from_frame(frame, keep=["split"])


def test_a_column_that_occurs_twice_is_refused():
    frame = pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "user_id"])
    with pytest.raises(DataError, match="more than one column 'user_id'"):
        Interactions.from_frame(frame)


def test_an_empty_frame_is_refused():
    with pytest.raises(DataError, match="the frame has no rows"):
        Interactions.from_frame(pd.DataFrame({"user_id": [], "item_id": []}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_ratings_that_are_not_finite_are_refused_with_their_place(bad):
    frame = pd.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 1, 1], "rating": [1.0, bad, bad]})
    with pytest.raises(
        DataError, match=r"2 of 3 values in 'rating' are NaN or infinite, the first in row 1.*rating=None"
    ):
        Interactions.from_frame(frame)
    assert Interactions.from_frame(frame, rating=None).nnz == 3


@pytest.mark.parametrize(
    "ratings", [["4", "five"], [1j, 2], pd.to_datetime(["2020-01-01", "2020-01-02"]), pd.to_timedelta([1, 2], unit="s")]
)
def test_ratings_that_are_not_numbers_are_refused(ratings):
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "rating": ratings})
    with pytest.raises(DataError, match="'rating' must hold numbers"):
        Interactions.from_frame(frame)


@pytest.mark.parametrize(
    "ratings",
    [
        [1, 4],
        ["1", "4"],
        np.array([1, 4], dtype=np.int8),
        pd.array([1, 4], dtype="Int64"),
        pd.array([1, 4], dtype=pd.ArrowDtype(pa.float32())),
    ],
    ids=["int", "text", "int8", "Int64", "Arrow"],
)
def test_ratings_come_in_any_numeric_type(ratings):
    data = Interactions.from_frame(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "rating": ratings}))
    assert data.matrix.data.tolist() == [1.0, 4.0]


def test_missing_ids_are_refused():
    with pytest.raises(DataError, match="must not be missing"):
        Interactions.from_frame(pd.DataFrame({"user_id": ["a", None], "item_id": [1, 2]}))


def test_one_user_and_one_item():
    frame = pd.DataFrame({"user_id": [7], "item_id": ["x"], "rating": [0.0]})
    data = Interactions.from_frame(frame)
    assert data.shape == (1, 1)
    assert triples(data) == {(7, "x"): (0.0, None)}
    wide = Interactions.from_frame(pd.DataFrame({"user_id": [7] * 3, "item_id": [3, 1, 2]}))
    assert wide.matrix.toarray().tolist() == [[1, 1, 1]]
    tall = Interactions.from_frame(pd.DataFrame({"user_id": [3, 1, 2], "item_id": [7] * 3}))
    assert tall.matrix.toarray().tolist() == [[1], [1], [1]]


def test_a_stored_zero_is_an_interaction(small):
    assert small.nnz == 6
    assert triples(small)[1, "c"] == (0.0, 13, "1c")
    assert small.binarized().matrix.data.tolist() == [1.0] * 6
    assert triples(small)[1, "c"] == (0.0, 13, "1c")


EPOCH = [0, 1577836800, 1577836801]
MOMENTS = pd.to_datetime(EPOCH, unit="s")


@pytest.mark.parametrize(
    "times",
    [
        EPOCH,
        np.array(EPOCH, dtype=np.int32),
        [str(second) for second in EPOCH],
        pd.array(EPOCH, dtype="Int64"),
        MOMENTS,
        MOMENTS.as_unit("s"),
        MOMENTS.as_unit("ns"),
        MOMENTS.strftime("%Y-%m-%dT%H:%M:%SZ"),
        MOMENTS.strftime("%Y-%m-%d %H:%M:%S"),
        MOMENTS.tz_localize("UTC").tz_convert("Asia/Tokyo").strftime("%Y-%m-%dT%H:%M:%S+09:00"),
        pd.Series(MOMENTS.to_pydatetime(), dtype=object),
        pd.Series(MOMENTS.strftime("%Y-%m-%dT%H:%M:%S")).astype("category"),
        MOMENTS.tz_localize("UTC"),
        MOMENTS.tz_localize("UTC").tz_convert("Asia/Tokyo"),
        pd.array(MOMENTS, dtype=pd.ArrowDtype(pa.timestamp("us"))),
        pd.array(MOMENTS.tz_localize("UTC"), dtype=pd.ArrowDtype(pa.timestamp("us", "America/New_York"))),
    ],
    ids=lambda times: str(getattr(times, "dtype", type(times[0]))),
)
def test_times_are_seconds_since_1970(times):
    frame = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": times})
    data = Interactions.from_frame(frame)
    assert data.timestamps.dtype == np.int64
    assert data.timestamps.tolist() == EPOCH


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, np.nan], "1 values in 'timestamp' are missing.*timestamp=None"),
        (pd.to_datetime(["2020-01-01", None]), "1 values in 'timestamp' are missing"),
        ([1.0, np.inf], "1 values in 'timestamp' are infinite"),
        (["2020-01-01", "yesterday"], "must hold datetimes, ISO 8601 text .*got text such as 'yesterday'"),
        (["2020-01-01", "2020-31-01"], "2020-31-01"),
        (["now", "today"], "got text such as 'now'"),
        ([1e30, 1.0], r"got numbers such as 1e\+30"),
        (np.array([2**64 - 1, 1], dtype=np.uint64), "got numbers such as 18446744073709551615"),
        (np.array([2**63 - 1, 2**62]), "got numbers such as 9223372036854775807"),
        (pd.to_timedelta([1, 2], unit="s"), "got timedelta64"),
        (pd.period_range("2020-01", periods=2, freq="M"), "got period"),
        ([1 + 2j, 3j], "got complex128"),
        ([True, False], "got bool"),
        ([("a",), ("b",)], "got mixed"),
        ([20260801, 20260802], "look like dates; write them as 2026-08-31, or pass time_unit='s'"),
        ([1_600_000_000, 1_600_000_000_000], "look like seconds and like milliseconds; pass time_unit="),
    ],
)
def test_times_that_cannot_be_read_are_refused(times, message):
    with pytest.raises(DataError, match=message):
        Interactions.from_frame(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": times}))


def test_one_column_to_keep_is_a_name_and_not_letters():
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "split": ["train", "test"]})
    assert set(Interactions.from_frame(frame, keep="split").columns) == {"split"}


def test_keep_may_be_any_iterable():
    frame = pd.DataFrame({"user_id": [2, 1], "item_id": [1, 1], "a": [20, 10], "b": ["x", "y"]})
    data = Interactions.from_frame(frame, keep=(name for name in "ab"))
    assert data.columns["a"].tolist() == [10, 20]
    assert data.columns["b"].tolist() == ["y", "x"]


def test_kept_columns_do_not_share_memory_with_the_table():
    marks = np.array([1, 2])
    data = Interactions.from_frame(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "mark": marks}), keep=["mark"])
    data.columns["mark"][0] = 9
    assert marks.tolist() == [1, 2]


class Foreign:
    """A table of another library, as polars has it."""

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame


def test_tables_of_other_libraries_are_taken_through_to_pandas(small):
    frame = small.to_frame()
    for foreign in (Foreign(frame), Foreign(Foreign(frame)), pa.Table.from_pandas(frame)):
        assert_same(Interactions.from_frame(foreign, keep=["mark"]), small)
    with pytest.raises(DataError, match=r"a pandas frame or something with to_pandas\(\), got list"):
        Interactions.from_frame([1, 2])


@pytest.mark.parametrize("index", [[5, 5, 5], ["z", "y", "x"], [2, 1, 0]])
def test_the_index_of_the_table_means_nothing(index):
    frame = pd.DataFrame({"user_id": [1, 2, 3], "item_id": [3, 2, 1], "rating": [7, 8, 9]}, index=index)
    assert triples(Interactions.from_frame(frame)) == {(1, 3): (7, None), (2, 2): (8, None), (3, 1): (9, None)}


# Duplicates


@quick
@given(ROWS, st.booleans())
def test_duplicates_are_merged_as_groupby_would(rows, with_time):
    frame = table(rows)
    options = {"keep": ["mark"], "timestamp": "timestamp" if with_time else None}
    ordered = frame.sort_values("timestamp", kind="stable") if with_time else frame
    groups = ordered.groupby(["user_id", "item_id"])
    latest = groups.last()
    for policy, expected in (
        ("last", latest["rating"]),
        ("sum", groups["rating"].sum()),
        ("max", groups["rating"].max()),
    ):
        data = Interactions.from_frame(frame, duplicates=policy, **options)
        found = triples(data)
        assert {pair: entry[0] for pair, entry in found.items()} == expected.to_dict()
        # What comes with the entry is that of its latest row.
        assert {pair: entry[2] for pair, entry in found.items()} == latest["mark"].to_dict()
        if with_time:
            assert {pair: entry[1] for pair, entry in found.items()} == latest["timestamp"].to_dict()


def test_last_goes_by_time_and_without_times_by_row():
    frame = pd.DataFrame(
        {"user_id": [1, 1, 1], "item_id": [1, 1, 1], "rating": [5.0, 3.0, 4.0], "timestamp": [9, 2, 2]}
    )
    assert Interactions.from_frame(frame, duplicates="last").matrix.data.tolist() == [5.0]
    assert Interactions.from_frame(frame, duplicates="last", timestamp=None).matrix.data.tolist() == [4.0]
    assert Interactions.from_frame(frame[1:], duplicates="last").matrix.data.tolist() == [4.0]  # equal times


def test_duplicates_are_an_error_by_default_and_named():
    frame = pd.DataFrame({"user_id": [1, 2, 2, 2], "item_id": ["a", "b", "b", "b"]})
    with pytest.raises(
        DataError, match=r"2 rows repeat a user and item, for instance \(.*2.*, 'b'\); choose duplicates="
    ):
        Interactions.from_frame(frame)
    with pytest.raises(DataError, match="duplicates must be one of error, last, sum, max, got 'first'"):
        Interactions.from_frame(frame, duplicates="first")


# The constructor


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_matrix, sp.lil_array, sp.dok_array])
def test_the_constructor_takes_any_sparse_format_without_changing_it(make, dtype):
    unsorted = sp.csr_array((np.array([1, 2, 3], dtype=dtype), [2, 0, 1], [0, 2, 3]), shape=(2, 3))
    matrix = make(unsorted)
    before = matrix.copy()
    data = Interactions(matrix, IdMap([0, 1]), IdMap(["a", "b", "c"]))
    assert isinstance(data.matrix, sp.csr_matrix)
    assert data.matrix.indptr.tolist() == [0, 2, 3]
    assert data.matrix.indices.tolist() == [0, 2, 1]
    assert data.matrix.data.tolist() == [2, 1, 3]
    if matrix.format == "csr":
        assert matrix.indices.tolist() == before.indices.tolist() == [2, 0, 1]
        assert matrix.data.tolist() == before.data.tolist() == [1, 2, 3]


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_the_constructor_refuses_an_entry_stored_twice(layout):
    pieces = (np.ones(3, dtype=np.float32), ([0, 0, 1], [1, 1, 0]))
    matrix = sp.coo_matrix(pieces, shape=(2, 2))
    if layout != "coo":
        kind = {"csr": sp.csr_matrix, "csc": sp.csc_matrix}[layout]
        parts = {"csr": ([1, 1, 0], [0, 2, 3]), "csc": ([1, 0, 0], [0, 1, 3])}[layout]
        matrix = kind((pieces[0], *parts), shape=(2, 2))
    with pytest.raises(DataError, match="1 entries are stored twice"):
        Interactions(matrix, IdMap([0, 1]), IdMap([0, 1]))


def test_the_constructor_refuses_what_it_cannot_keep_aligned():
    users, items, times = IdMap([0, 1]), IdMap(["a", "b", "c"]), np.array([10, 20, 30])
    unsorted = sp.csr_matrix((np.ones(3, dtype=np.float32), [2, 0, 1], [0, 2, 3]), shape=(2, 3))
    with pytest.raises(DataError, match="sorted, distinct"):
        Interactions(unsorted, users, items, timestamps=times)
    for layout in ("coo", "csc"):
        with pytest.raises(DataError, match="must be CSR"):
            Interactions(unsorted.asformat(layout), users, items, timestamps=times)
        with pytest.raises(DataError, match="must be CSR"):
            Interactions(unsorted.asformat(layout), users, items, columns={"mark": times})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": IdMap([1, 2])}, r"got \(3, 3\) for 2 users and 3 items"),
        ({"items": IdMap([1, 2])}, r"got \(3, 3\) for 3 users and 2 items"),
        ({"timestamps": np.arange(5)}, r"column 'timestamp' must have one value per stored entry \(6\), got 5"),
        ({"columns": {"mark": np.arange(7)}}, r"column 'mark' must have one value per stored entry \(6\), got 7"),
        ({"titles": np.array(["x"], dtype=object)}, "3 items, 1 titles"),
        ({"matrix": sp.csr_matrix([[1, 2, 3], [np.nan, 4, 0], [np.inf, 0, 0]])}, "2 stored values are NaN or infinite"),
    ],
)
def test_the_constructor_checks_that_parts_agree(small, change, message):
    parts = {field.name: getattr(small, field.name) for field in fields(small)}
    with pytest.raises(DataError, match=message):
        Interactions(**{**parts, **change})


def test_interactions_are_frozen(small):
    with pytest.raises(FrozenInstanceError):
        small.matrix = small.matrix


# Cutting


@quick
@given(ROWS, st.data())
def test_cuts_keep_everything_aligned(rows, draw):
    frame = distinct(rows)
    titles = {f"i{n}": f"I{n}" for n in range(5)}
    data = Interactions.from_frame(frame, keep=["mark"], titles=titles)
    everything = triples(data)
    n_users, n_items = data.shape

    users = draw.draw(st.lists(st.integers(0, n_users - 1), unique=True, min_size=1))
    cut = data.take_users(users)
    wanted = [list(data.users)[code] for code in users]
    assert list(cut.users) == wanted
    assert cut.items == data.items
    assert triples(cut) == {pair: entry for pair, entry in everything.items() if pair[0] in wanted}

    items = draw.draw(st.lists(st.integers(0, n_items - 1), min_size=1))
    cut = data.take_items(items)
    wanted = [list(data.items)[code] for code in sorted(set(items))]
    assert list(cut.items) == wanted
    assert cut.users == data.users
    assert cut.titles.tolist() == [item.upper() for item in wanted]
    assert triples(cut) == {pair: entry for pair, entry in everything.items() if pair[1] in wanted}

    entries = np.array(draw.draw(st.lists(st.booleans(), min_size=data.nnz, max_size=data.nnz)))
    left = {pair: entry for (pair, entry), kept in zip(everything.items(), entries, strict=True) if kept}
    cut = data.select(entries)
    assert (cut.users, cut.items) == (data.users, data.items)
    assert triples(cut) == left
    cut = data.select(entries, keep_shape=False)
    assert triples(cut) == left
    assert list(cut.users) == sorted({user for user, _ in left})
    assert list(cut.items) == sorted({item for _, item in left})
    assert cut.titles.tolist() == [item.upper() for item in cut.items]

    assert triples(data) == everything


def test_cuts_refuse_indices_outside_and_masks(small):
    for cut in (small.take_users, small.take_items):
        for codes in ([3], [-1], [0, 7]):
            with pytest.raises(OutOfRangeError):
                cut(codes)
        with pytest.raises(DataError, match="integers"):
            cut([True, False, True])
    with pytest.raises(DataError, match="more than once"):
        small.take_users([1, 1])
    for entries in (np.ones(5, dtype=bool), np.ones(6, dtype=int), np.ones((1, 6), dtype=bool)):
        with pytest.raises(DataError, match=r"one boolean per stored entry \(6\)"):
            small.select(entries)


def test_a_cut_may_leave_nothing(small):
    for empty in (small.take_users([]), small.take_items([]), small.select(np.zeros(6, dtype=bool))):
        assert empty.nnz == 0
        assert len(empty.timestamps) == len(empty.columns["mark"]) == 0
    assert small.select(np.zeros(6, dtype=bool), keep_shape=False).shape == (0, 0)


def test_filter_takes_items_then_users_and_stops():
    # Item c has one user; without it user 3 has one item; without user 3 item b has one user, and stays.
    pairs = [(1, "a"), (1, "b"), (2, "a"), (2, "d"), (3, "b"), (3, "c"), (4, "a"), (4, "d")]
    data = Interactions.from_frame(pd.DataFrame(pairs, columns=["user_id", "item_id"]))
    kept = data.filter(min_item=2, min_user=2)
    assert set(triples(kept)) == {(1, "a"), (1, "b"), (2, "a"), (2, "d"), (4, "a"), (4, "d")}
    assert np.bincount(kept.matrix.indices).tolist() == [3, 1, 2]
    assert list(kept.users) == [1, 2, 4]


@quick
@given(ROWS, st.sampled_from([None, 0.0, 0.5]), st.integers(0, 3), st.integers(0, 3))
def test_filter_does_what_the_published_preprocessing_does(rows, min_rating, min_user, min_item):
    frame = distinct(rows)
    data = Interactions.from_frame(frame, keep=["mark"])
    if min_rating is not None:
        frame = frame[frame["rating"] >= min_rating]
    count = frame["item_id"].value_counts()
    frame = frame[frame["item_id"].isin(count.index[count >= min_item])]
    count = frame["user_id"].value_counts()
    frame = frame[frame["user_id"].isin(count.index[count >= min_user])]
    if frame.empty:
        with pytest.raises(DataError, match=f"min_rating={min_rating}, min_item={min_item}, min_user={min_user}"):
            data.filter(min_rating=min_rating, min_user=min_user, min_item=min_item)
    else:
        kept = data.filter(min_rating=min_rating, min_user=min_user, min_item=min_item)
        assert_same(kept, Interactions.from_frame(frame, keep=["mark"]))


def test_filter_of_one_drops_users_and_items_without_any():
    matrix = sp.csr_matrix(np.array([[0, 0, 0], [0, 2.0, 1.0]]))
    data = Interactions(matrix, IdMap([1, 2]), IdMap(["a", "b", "c"]))
    assert data.filter().shape == (2, 3)
    for options in ({"min_user": 1}, {"min_item": 1}):
        assert data.filter(**options).shape == (1, 2)


# Histories


@quick
@given(ROWS, st.lists(st.sampled_from([f"i{n}" for n in range(7)]), unique=True))
def test_histories_put_the_columns_of_another_map(rows, other):
    data = Interactions.from_frame(distinct(rows))
    items = IdMap(other)
    stored = {pair: entry[0] for pair, entry in triples(data).items() if pair[1] in other}
    if not stored:
        with pytest.raises(DataError, match=f"none of the {data.nnz} interactions of this table is with a known item"):
            data.histories(items)
        return
    few = 2 * len(stored) < data.nnz or 2 * len({user for user, _ in stored}) < data.shape[0]
    with pytest.warns(DataWarning, match=f"only {len(stored)} of the {data.nnz} ") if few else nullcontext():
        matrix = data.histories(items)
    assert matrix.shape == (data.shape[0], len(other))
    assert (matrix.dtype, matrix.indices.dtype) == (np.float32, np.int32)
    assert sp.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape).has_canonical_format
    assert {pair: entry[0] for pair, entry in triples(Interactions(matrix, data.users, items)).items()} == stored


def test_histories_in_the_own_map_are_the_matrix(small):
    assert small.histories(IdMap(["a", "b", "c"])) is small.matrix
    empty = small.select(np.zeros(small.nnz, dtype=bool))
    assert empty.histories(IdMap(["x"])).nnz == 0


def test_histories_say_what_little_is_known(small):
    with pytest.warns(DataWarning) as found:
        small.histories(IdMap(["c", "x", "y"]))
    assert str(found[0].message) == (
        "only 1 of the 6 interactions of this table are with known items (1 of its 3), and 2 of its 3 users have none "
        "of these: unknown ids are like 'a', 'b', known ones like 'c', 'x', 'y'"
    )
    assert found[0].filename == __file__
    with pytest.raises(DataError, match="its ids are like 'a', 'b', 'c', known ones like 7, 8; pass a table with"):
        small.histories(IdMap([7, 8]))
    with pytest.raises(DataError, match=r"item ids of type str, such as 'a', cannot mean .* type tuple, such as"):
        small.histories(IdMap([("a",)]))


# Fingerprint, summary, titles


def test_the_fingerprint_sees_every_change(small):
    matrix, times = small.matrix, small.timestamps
    value = matrix.copy()
    value.data[2] = 9.0
    moved = sp.csr_matrix((matrix.data, [0, 1, 2, 0, 2, 0], matrix.indptr), shape=matrix.shape)
    unstored = matrix.copy()
    unstored.eliminate_zeros()
    time = times.copy()
    time[0] += 1
    users, items = small.users, small.items
    changed = [
        Interactions(matrix, users, items, times),
        Interactions(matrix, users, items),
        Interactions(value, users, items, times),
        Interactions(moved, users, items, times),
        Interactions(unstored, users, items),
        Interactions(matrix, users, items, time),
        Interactions(matrix, IdMap([1, 2, 4]), items, times),
        Interactions(matrix, IdMap(["1", "2", "3"]), items, times),
        Interactions(matrix, users, IdMap(["a", "b", "d"]), times),
        Interactions(sp.csr_matrix((matrix.data, matrix.indices, matrix.indptr), (3, 4)), users, IdMap("abcd"), times),
        Interactions(sp.vstack([matrix, sp.csr_matrix((1, 3))]), IdMap([1, 2, 3, 4]), items),
    ]
    prints = [data.fingerprint() for data in changed]
    assert len(set(prints)) == len(prints)
    assert small.fingerprint() == prints[0]  # columns and titles are not part of it
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in prints)


def test_the_fingerprint_does_not_depend_on_how_ids_were_stored():
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
    expected = Interactions.from_frame(frame).fingerprint()
    for users, items in (("int8", object), ("Int64", "string"), ("category", "category")):
        cast = frame.astype({"user_id": users, "item_id": items})
        assert Interactions.from_frame(cast).fingerprint() == expected


def test_summary_counts(small):
    assert small.summary() == {
        "users": 3,
        "items": 3,
        "interactions": 6,
        "density": 6 / 9,
        "fingerprint": small.fingerprint(),
    }
    assert repr(small) == "Interactions(3 users × 3 items, 6 stored, density 66.667%)"


def test_titles_fall_back_to_the_id(small):
    assert [small.title(code) for code in range(3)] == ["Alpha", "Beta", "c"]
    assert Interactions(small.matrix, small.users, small.items).title(1) == "b"
    with pytest.raises(OutOfRangeError, match="-1 marks an empty slot of a list"):
        small.title(-1)
    days = pd.to_datetime(["2020-01-01", "2020-01-02"]).as_unit("ns")
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": days})
    assert Interactions.from_frame(frame, titles={days[1]: "second"}).titles.tolist() == [str(days[0]), "second"]


def test_offsets_have_64_bits_where_32_do_not_suffice(monkeypatch):
    assert [frames.index_type(most) for most in (2**31 - 1, 2**31)] == [np.int32, np.int64]
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(40), 10), "item_id": np.tile(np.arange(10), 40)})
    whole = Interactions.from_frame(frame)
    asked = []
    for module in (frames, interactions):
        monkeypatch.setattr(module, "index_type", lambda most: asked.append(most) or np.int64)
    wide = Interactions.from_frame(frame)
    assert wide.fingerprint() == whole.fingerprint()
    assert wide.select(np.ones(400, dtype=bool)).fingerprint() == whole.fingerprint()
    assert asked == [400, 400]
