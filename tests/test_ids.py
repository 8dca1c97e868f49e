"""The id map: what it accepts, the order it gives, what it says of ids it does not know."""

import datetime
import pickle
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError, OutOfRangeError, UnknownIdError
from recsys.ids import IdMap

DAYS = [datetime.date(2020, 1, day) for day in (3, 1, 2)]

COLUMNS = {
    "list of ints": [30, 10, 20],
    "list of numpy ints": [np.int64(30), np.int32(10), np.int64(20)],
    "int32": np.array([30, 10, 20], dtype=np.int32),
    "uint64": np.array([30, 10, 20], dtype=np.uint64),
    "Int64": pd.Series([30, 10, 20], dtype="Int64"),
    "boxed ints": pd.Series([30, 10, 20], dtype=object),
    "Arrow ints": pd.Series([30, 10, 20], dtype=pd.ArrowDtype(pa.int16())),
    "categorical ints": pd.Series([30, 10, 20], dtype="category"),
    "list of strings": ["c", "a", "b"],
    "numpy strings": np.array(["c", "a", "b"]),
    "boxed strings": pd.Series(["c", "a", "b"], dtype=object),
    "string": pd.Series(["c", "a", "b"], dtype="string"),
    "pandas str": pd.Series(["c", "a", "b"], dtype="str"),
    "Arrow strings": pd.Series(["c", "a", "b"], dtype=pd.ArrowDtype(pa.string())),
    "categorical strings": pd.Series(["c", "a", "b"], dtype="category"),
    "tuples": [(3, "x"), (1, "x"), (2, "x")],
    "dates": DAYS,
    "Arrow dates": pd.Series(DAYS, dtype=pd.ArrowDtype(pa.date32())),
    "datetimes": pd.to_datetime(DAYS),
    "nanoseconds": pd.to_datetime(DAYS).as_unit("ns"),
    "bytes": [b"c", b"a", b"b"],
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
def test_every_kind_of_column_maps_there_and_back(values):
    ids = IdMap(values)
    plain = list(values)
    assert len(ids) == 3
    np.testing.assert_array_equal(ids.codes(values), [0, 1, 2])
    assert ids.codes(values).dtype == np.int32
    assert list(ids) == plain
    assert ids.codes(ids.ids()).tolist() == [0, 1, 2]
    assert ids.codes(list(ids)[::-1]).tolist() == [2, 1, 0]
    assert all(value in ids for value in plain)
    assert ids.ids([2, 0]).tolist() == ids.ids()[[2, 0]].tolist()
    assert pickle.loads(pickle.dumps(ids)) == ids


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
def test_factorize_sorts_and_gives_each_value_its_code(values):
    twice = values if isinstance(values, list) else pd.Series(values)
    twice = twice + twice if isinstance(twice, list) else pd.concat([twice, twice])
    ids, codes = IdMap.factorize(twice)
    assert list(ids) == sorted(values)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, [2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("columns", "kind"),
    [(list(COLUMNS)[:8], "int"), (list(COLUMNS)[8:15], "str"), (list(COLUMNS)[15:], "other")],
    ids=["int", "str", "other"],
)
def test_kind_is_that_of_the_ids_not_of_the_column(columns, kind):
    maps = [IdMap(COLUMNS[name]) for name in columns]
    assert {ids.kind for ids in maps} == {kind}
    if kind != "other":
        assert all(ids == maps[0] and hash(ids) == hash(maps[0]) for ids in maps)
        assert {type(value) for ids in maps for value in ids} <= {int, str, np.str_}


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
        st.lists(st.text(), min_size=1),
        st.lists(st.tuples(st.integers(-3, 3), st.text(max_size=2)), min_size=1),
    ),
    st.randoms(use_true_random=False),
)
def test_the_map_does_not_depend_on_the_order_of_rows(values, random):
    ids, codes = IdMap.factorize(values)
    assert list(ids) == sorted(set(values))
    assert [list(ids)[code] for code in codes] == values
    shuffled = values.copy()
    random.shuffle(shuffled)
    again, _ = IdMap.factorize(shuffled)
    assert again == ids
    assert hash(again) == hash(ids)


def test_ids_without_an_order_keep_that_of_first_appearance():
    ids, codes = IdMap.factorize([2j, 1j, 2j])
    assert list(ids) == [2j, 1j]
    assert codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("make", [IdMap, IdMap.factorize], ids=["map", "factorize"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], "must not be missing"),
        (["a", None], "must not be missing"),
        (["a", float("nan")], "must not be missing"),
        (pd.Series([1, None]), "must not be missing"),
        (pd.Series([1, None], dtype="Int64"), "must not be missing"),
        (pd.Series(["a", None], dtype="category"), "must not be missing"),
        (pd.Series(["a", None], dtype="str"), "must not be missing"),
        (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())), "must not be missing"),
        (pd.to_datetime(["2020-01-01", None]), "must not be missing"),
        ([1.0, 2.0], "got float"),
        (np.array([1.0, 2.0]), "float64.*astype"),
        (pd.Series([1.0, 2.0], dtype="Float64"), "Float64.*astype"),
        ([1, "a"], "mix of int, str.*astype"),
        ([1, 2.5], "mix of float, int"),
        ([1, True, 2], "mix of bool, int"),
        ([1, 1.0, 2], "mix of float, int"),
        ([(1,), "a"], "mix of str, tuple"),
        ([[1], [2]], "hashable"),
        ([(1, [2]), (3, [4])], "hashable"),
        ([{}, {}], "hashable"),
        ([2**63, 1], "signed 64 bits"),
        ([2**70, 1], "signed 64 bits"),
        (np.array([2**63 + 5, 1], dtype=np.uint64), "signed 64 bits"),
    ],
)
def test_ids_that_cannot_be_ids_are_refused(make, values, message):
    with pytest.raises(DataError, match=message):
        make(values)


def test_a_map_refuses_an_id_twice():
    with pytest.raises(DataError, match=re.escape("more than once: [7]")):
        IdMap([7, 8, 7])


def test_equal_hash_values_of_different_types_are_not_confused():
    assert 1 in IdMap([1, 2])
    for other in ("1", True, None, float("nan"), 1.5, (1,)):
        assert other not in IdMap([1, 2]), other
    assert 1 not in IdMap(["1", "2"])
    assert (1, "a") in IdMap([(1, "a"), (2, "b")])
    assert 1 not in IdMap([(1, "a"), (2, "b")])


def test_unknown_ids_raise_with_examples_by_default():
    with pytest.raises(UnknownIdError, match=r"2 of 3 ids are unknown, for instance \[9, 8\]; pass on_unknown='drop'"):
        IdMap([1, 2]).codes([9, 1, 8])
    with pytest.raises(UnknownIdError, match="the known ids are integers and these are strings"):
        IdMap([1, 2]).codes(["1"])
    with pytest.raises(UnknownIdError, match="the known ids are strings and these are not"):
        IdMap(["1", "2"]).codes(np.array([1]))
    assert issubclass(UnknownIdError, LookupError)


def test_unknown_ids_are_dropped_or_marked_on_request():
    ids = IdMap(["a", "b"])
    assert ids.codes(["x", "b", "a", "x"], on_unknown="drop").tolist() == [1, 0]
    assert ids.codes(["x", "b", "a", "x"], on_unknown="mark").tolist() == [-1, 1, 0, -1]
    assert ids.codes(pd.Series(["b", None]), on_unknown="mark").tolist() == [1, -1]
    assert ids.codes([], on_unknown="raise").tolist() == []
    with pytest.raises(DataError, match="'raise', 'drop' or 'mark', got 'ignore'"):
        ids.codes(["a"], on_unknown="ignore")


@pytest.mark.parametrize(
    "values",
    [
        [2**70],
        [-(2**70)],
        np.array([2**63 + 1], dtype=np.uint64),
        [2.0**53],
        np.array([2**53], dtype=np.uint64),
        [np.nan],
        [None],
        [pd.NA],
    ],
    ids=repr,
)
def test_a_lookup_never_rounds_to_a_neighbour(values):
    assert IdMap([2**53 + 1, 1]).codes(values, on_unknown="mark").tolist() == [-1]


def test_lookups_refuse_what_cannot_be_looked_up():
    with pytest.raises(DataError, match="hashable"):
        IdMap([1, 2]).codes([[1]], on_unknown="mark")
    with pytest.raises(DataError, match=re.escape("the single 'b'; pass ['b']")):
        IdMap(["a", "b"]).codes("b")


def test_parse_reads_an_id_as_it_is_typed():
    assert IdMap([10, 20]).parse("20") == 20
    assert IdMap(["10", "20"]).parse("20") == "20"
    for ids, text, message in (
        (IdMap([10]), "ten", "ids are integers of at most 19 digits here, got 'ten'"),
        (IdMap([10]), "11", "unknown id 11; known ids look like [10]"),
        (IdMap([10]), "9" * 30, "unknown id 999"),
        (IdMap(["a"]), "10", "unknown id '10'; known ids look like ['a']"),
    ):
        with pytest.raises(UnknownIdError, match=re.escape(message)):
            ids.parse(text)


def test_typed_ids_become_what_the_map_holds():
    numbers, texts = IdMap([7, 10]), IdMap(["007", "7"])
    typed = ["007", " 10", "-3", "ten", "1_0", ""]
    assert [numbers.from_text(text) for text in typed] == [7, 10, -3, "ten", "1_0", ""]
    assert [texts.from_text(text) for text in typed] == typed


def test_codes_outside_the_map_are_out_of_range():
    ids = IdMap(["a", "b"])
    for codes in ([2], [-1], [0, 5]):
        with pytest.raises(OutOfRangeError, match=r"must lie in 0\.\.1"):
            ids.ids(codes)
    assert issubclass(OutOfRangeError, IndexError)


@pytest.mark.parametrize("codes", [[True, False], [0.0, 1.0], ["a"]])
def test_codes_that_are_not_integers_are_refused(codes):
    with pytest.raises(DataError, match="codes must be integers"):
        IdMap(["a", "b"]).ids(codes)


def test_take_renumbers_in_the_order_given():
    ids = IdMap(["a", "b", "c"])
    assert list(ids.take([2, 0])) == ["c", "a"]
    assert ids.take([2, 0]).codes(["a"]).tolist() == [1]
    assert len(ids.take([])) == 0
    with pytest.raises(DataError, match="more than once"):
        ids.take([1, 1])


def test_a_map_cannot_be_changed():
    source = np.array([3, 1])
    ids = IdMap(source)
    source[0] = 99
    ids.ids()[0] = 77
    assert list(ids) == [3, 1]
    with pytest.raises(AttributeError, match="frozen"):
        ids._index = pd.Index([1])
    with pytest.raises(AttributeError):
        ids.other = 1


def test_equality_looks_at_ids_and_order():
    assert IdMap([1, 2]) == IdMap([1, 2])
    assert IdMap([1, 2]) != IdMap([2, 1])
    assert IdMap([1, 2]) != IdMap(["1", "2"])
    assert IdMap([1, 2]) != [1, 2]
    assert IdMap(range(9)) != IdMap([*range(8), 9])  # the hash looks at the first eight only


def test_an_empty_map_is_a_map():
    ids = IdMap([])
    assert (len(ids), list(ids), 1 in ids) == (0, [], False)
    assert ids.codes([1], on_unknown="mark").tolist() == [-1]
    assert ids == IdMap([])


def test_repr_shows_size_kind_and_head():
    assert repr(IdMap(range(1000))) == "IdMap(1,000 ids of kind int: 0, 1, 2, ...)"
    assert repr(IdMap(["a"])) == "IdMap(1 ids of kind str: 'a')"
