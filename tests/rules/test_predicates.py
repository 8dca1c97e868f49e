"""Predicates: those that are read say what a reader of Python would make of them, row by row; others are refused."""

import operator
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataError
from recsys.rules.columns import Column
from recsys.rules.predicates import Predicate

CELLS = {
    "price": [5, None, 7.5, 0, -1, 5.0],
    "brand": ["a", "b", None, 'say "x"', "it's", "a"],
    "new": [True, False, None, True, False, False],
    "tags": [["x", "y"], [], None, ["y"], ["x", "x"], ["it's"]],
    "since": [date(2026, 1, 1), None, datetime(2026, 8, 31, 12), date(2025, 1, 1), date(2026, 1, 2), None],
    "in stock": [1, 2, 3, None, 0, 0],
}
N = 6


def cells(values):
    return np.fromiter(values, dtype=object, count=len(values))


COLUMNS = {name: Column.of(name, cells(values)) for name, values in CELLS.items()}


def holds(text):
    return Predicate.parse(text).holds(COLUMNS, N).tolist()


SIGNS = {"=": operator.eq, "==": operator.eq, "!=": operator.ne}
ORDERED = {**SIGNS, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
LITERALS = {
    "price": [5, -1, 0.0, 7.5, 6, 1e3],
    "in stock": [0, 1, 2.5],
    "brand": ["a", "b", 'say "x"', "it's", "", "c"],
    "new": [True, False],
}


def quoted(value, mark):
    if isinstance(value, bool):
        return str(value).lower()
    return mark + value.replace(mark, 2 * mark) + mark if isinstance(value, str) else repr(value)


@st.composite
def comparisons(draw):
    """The text of a comparison, and a function of a row's values."""
    name = draw(st.sampled_from([*LITERALS, "tags"]))
    column = f"`{name}`" if " " in name or draw(st.booleans()) else name
    mark = draw(st.sampled_from("'\""))
    if name == "tags":
        value = draw(st.sampled_from(["x", "y", "it's", "z"]))
        return f"{column} contains {quoted(value, mark)}", lambda row: row[name] is not None and value in row[name]
    value = draw(st.sampled_from(LITERALS[name]))
    if draw(st.booleans()):
        values = draw(st.lists(st.sampled_from(LITERALS[name]), min_size=1, max_size=3))
        negated = draw(st.booleans())
        text = f"{column}{' not' * negated} IN ({', '.join(quoted(value, mark) for value in values)})"
        return text, lambda row: row[name] is not None and (row[name] in values) != negated
    sign = draw(st.sampled_from(sorted(ORDERED if name in ("price", "in stock") else SIGNS)))
    return f"{column}{sign}{quoted(value, mark)}", lambda row: row[name] is not None and ORDERED[sign](row[name], value)


def joined(inner):
    """Conjunctions, disjunctions and negations; the text has brackets wherever Python's meaning needs them."""

    def both(pair):
        (one, left), (other, right) = pair
        return f"({one}) and ({other})", lambda row: left(row) and right(row)

    def either(pair):
        (one, left), (other, right) = pair
        return f"{one} or {other}", lambda row: left(row) or right(row)

    def neither(one):
        return f"not ({one[0]})", lambda row: not one[1](row)

    pairs = st.tuples(inner, inner)
    return st.one_of(pairs.map(both), pairs.map(either), inner.map(neither))


@settings(deadline=None, max_examples=400)
@given(st.recursive(comparisons(), joined, max_leaves=6))
def test_a_predicate_holds_where_python_says_so(made):
    text, of_row = made
    rows = [dict(zip(CELLS, values, strict=True)) for values in zip(*CELLS.values(), strict=True)]
    assert holds(text) == [bool(of_row(row)) for row in rows]


def test_and_binds_more_than_or_and_not_more_than_and():
    assert holds("price = 5 or brand = 'b' and price = 1") == [True, False, False, False, False, True]
    assert holds("not price = 5 and brand = 'b'") == [False, True, False, False, False, False]


def test_a_missing_value_compares_false_and_not_turns_that_around():
    assert holds("price != 5") == [False, False, True, True, True, False]
    assert holds("price not in (5)") == [False, False, True, True, True, False]
    assert holds("not price = 5") == [False, True, True, True, True, False]
    assert holds("not tags contains 'x'") == [False, True, True, True, False, True]


def test_times_are_compared_with_dates():
    assert holds("since >= '2026-01-01' and since < '2026-08-31T12:00:01'") == [True, False, True, False, True, False]
    assert holds("since = '2026-08-31T14:00+02:00'") == [False, False, True, False, False, False]
    with pytest.raises(DataError, match="holds times; compare it with a date such as '2026-08-31', got 'soon'"):
        holds("since > 'soon'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the name of a column .* at its end"),
        ("price", "expected =, .* 'not in' or 'contains' at its end"),
        ("price = ", "expected a number, text in quotes, true or false at its end"),
        ("price = brand", "true or false at 'brand'"),
        ("price < 5 brand = 'a'", "expected 'and', 'or' or the end at \"brand = 'a'\""),
        ("(price < 5", r"expected '\)' at its end"),
        ("price in 5", r"expected '\(' before the values at '5'"),
        ("price in (5", r"expected ',' or '\)' at its end"),
        ("price not 5", "expected 'in' at '5'"),
        ("5 = price", "expected the name of a column"),
        ("price = 5; drop", "expected a name, a number, text in quotes or a sign of comparison at '; drop'"),
        ("brand = 'a", 'at "\'a"'),
        ("__import__('os')", "expected =, .* at \"\\('os'\\)\""),
        ("price = 1e999", "a number that 64 bits hold"),
        ("price = 5x", "at '5x'"),
        ("not " * 60 + "price = 5", "at most 50 levels deep"),
        ("(" * 5000 + "price = 5", "at most 50 levels deep"),
        ("price = 5 or " * 10_000 + "price = 5", "at most 100,000 characters"),
    ],
)
def test_what_is_no_predicate_is_refused_with_the_place(text, said):
    with pytest.raises(ConfigError, match=said):
        Predicate.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("price = '5'", "column 'price' holds numbers, such as 5.0, and is compared with the text '5'"),
        ("brand = 5", "column 'brand' holds text, such as a, and is compared with 5"),
        ("price = true", "column 'price' holds numbers"),
        ("new = 1", "column 'new' holds true and false"),
        ("brand < 'b'", "column 'brand' holds text, which has no order; use =, != or in"),
        ("tags = 'x'", "column 'tags' holds lists, which '=' does not compare; use contains"),
        ("tags in ('x')", "column 'tags' holds lists"),
        ("brand contains 'a'", "column 'brand' holds one value per item, and no lists"),
        ("tags contains 3", "column 'tags' holds text"),
    ],
)
def test_a_value_of_another_type_is_refused(text, said):
    with pytest.raises(DataError, match=said):
        holds(text)


def test_text_is_cut_by_its_separator():
    column = Column.of("genres", cells(["Action|Drama", None, " Drama | |War", ""]), "|")
    assert column.contains("Drama", 4).tolist() == [True, False, True, False]
    assert column.pairs()[0].tolist() == [0, 0, 2, 2]
    with pytest.raises(DataError, match=r"column 'price' has a separator, '\|', and holds 5, which is no text"):
        Column.of("price", cells([5]), "|")


def test_a_column_of_several_types_is_refused_and_one_of_nothing_compares_false():
    with pytest.raises(DataError, match="column 'mixed' of the table of items holds int, str"):
        Column.of("mixed", cells([1, "a"]))
    with pytest.raises(DataError, match="holds bool, int"):
        Column.of("mixed", cells([1, True]))
    nothing = Column.of("nothing", cells([None, float("nan")]))
    assert nothing.compared("=", "x", 2).tolist() == nothing.compared("<", 3, 2).tolist() == [False, False]
    assert nothing.contains("x", 2).tolist() == [False, False]


def test_arrays_of_numpy_are_read_as_lists_of_objects_are():
    for array in (np.array([1, 2, 3]), np.array([1.0, np.nan, 3.0]), np.array(["2026-01-01", "NaT"], "M8[ns]")):
        column = Column.of("x", array)
        assert column.kind == ("time" if array.dtype.kind == "M" else "number")
        assert column.rows.tolist() == [row for row, missing in enumerate(np.asarray(array != array)) if not missing]
    lists = Column.of("tags", cells([np.array([1, 2]), [2], ()]))
    assert lists.contains(2, 3).tolist() == [True, True, False]
