"""Files as people have them: ragged, quoted, without a header, in another encoding; read right, or refused with why."""

import bz2
import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets import read
from recsys.errors import DataError, DataWarning
from recsys.interactions import Interactions


def pairs(data):
    matrix = data.matrix.tocoo()
    return sorted(
        zip(data.users.ids(matrix.row).tolist(), data.items.ids(matrix.col).tolist(), matrix.data.tolist(), strict=True)
    )


def refusal(path, **options):
    with pytest.raises(DataError) as error:
        read(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("title.csv", "user_id,title,item_id\n1,Heat,10\n2,Me, Myself,12\n", "line 3 has 4 fields, expected 3"),
        ("longer.csv", "user_id,item_id,rating\n1,2,3,5\n", "line 2 has 4 fields, expected 3"),
        ("shorter.csv", "user_id,item_id,rating\n1,2,3\n\n1,3\n", "line 4 has 2 fields, expected 3"),
        ("quoted.csv", 'user_id,title,item_id\n1,"a\nb",2\n1,"c",3,4\n', "line 4 has 4 fields, expected 3"),
        ("of_r.csv", '"user_id","item_id","rating"\n"1",1,2,3\n"2",1,3,4\n', "line 2 has 4 fields.*row.names=FALSE"),
        ("of_r.inter", "user_id:token\titem_id:token\n1\tu\ti\n2\tu\tj\n", "line 2 has 3 fields.*row.names=FALSE"),
        ("wide.tsv", "user_id\titem_id\tnote\n1\t2\ta\tb\n", "line 2 has 4 fields, expected 3"),
        ("u.data", "1\t2\t3\t4\n1\t3\t3\n", "line 2 has 3 fields, expected 4"),
    ],
)
def test_a_row_of_another_length_is_refused_with_its_line(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    message = refusal(tmp_path / name)
    assert line.split(".*")[0] in message
    assert line.split(".*")[-1] in message


@pytest.mark.parametrize(
    ("name", "text", "layout"),
    [
        ("x.tsv", 'user_id\titem_id\nu1\t"x\nu2\ty\nu3\t"z\n', "auto"),
        ("x.inter", 'user_id:token\titem_id:token\nu1\t"x\nu2\ty\nu3\t"z\n', "auto"),
        ("ratings.dat", 'u1::"x::1\nu2::y::1\nu3::"z::1\n', "auto"),
        ("u.data", 'u1\t"x\t1\nu2\ty\t1\nu3\t"z\t1\n', "u.data"),
        ("train.txt", 'u1 "x\nu2 y\nu3 "z\n', "lightgcn"),
    ],
)
def test_layouts_without_quotes_take_a_quote_as_it_is(tmp_path, name, text, layout):
    (tmp_path / name).write_text(text)
    assert pairs(read(tmp_path / name, layout=layout)) == [("u1", '"x', 1), ("u2", "y", 1), ("u3", '"z', 1)]


def test_a_tsv_whose_fields_stand_in_quotes_asks_what_they_are(tmp_path):
    (tmp_path / "x.tsv").write_text('user_id\titem_id\nu1\t"a ""b"""\n')
    assert "layout='csv' takes the quotes away, layout='tsv' keeps them" in refusal(tmp_path / "x.tsv")
    assert pairs(read(tmp_path / "x.tsv", layout="csv")) == [("u1", 'a "b"', 1)]
    assert pairs(read(tmp_path / "x.tsv", layout="tsv")) == [("u1", '"a ""b"""', 1)]


@pytest.mark.parametrize("field", ['"a\\"b"', '"a"b'])
def test_a_quote_that_is_not_doubled_is_refused(tmp_path, field):
    (tmp_path / "x.csv").write_text(f"user_id,item_id\n1,c\n2,{field}\n")
    assert "line 3: ',' expected after '\"'" in refusal(tmp_path / "x.csv")


def test_a_quote_that_does_not_end_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text('user_id,item_id\n1,"a\n2,b\n3,c\n')
    assert "line 2" in refusal(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("ids", "read_as"),
    [
        (["007", "7"], ["007", "7"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["1e5", "7"], ["1e5", "7"]),
        (["+1", "2"], ["+1", "2"]),
        (["12", "X1"], ["12", "X1"]),
        (["18446744073709551616", "1"], ["1", "18446744073709551616"]),
        (["NA", "null"], ["NA", "null"]),
        (["7", "-8"], [-8, 7]),
        (["0", "9223372036854775807"], [0, 9223372036854775807]),
    ],
)
def test_ids_of_a_csv_are_numbers_only_if_they_are_written_as_such(tmp_path, ids, read_as):
    (tmp_path / "x.csv").write_text("user_id,item_id\n" + "".join(f"{one},{one}\n" for one in ids))
    data = read(tmp_path / "x.csv")
    assert data.users.ids().tolist() == data.items.ids().tolist() == read_as
    assert read(tmp_path / "x.csv", ids="text").users.ids().tolist() == sorted(ids)


def test_ids_may_be_asked_for_as_text_in_every_layout(tmp_path):
    frame = pd.DataFrame({"user_id": [10, 9], "item_id": [1, 2], "rating": 1.0})
    frame.to_parquet(tmp_path / "x.parquet")
    (tmp_path / "u.data").write_text("10\t1\t1\n9\t2\t1\n")
    (tmp_path / "lists.txt").write_text("10 1\n9 2\n")
    for name in ("x.parquet", "u.data", "lists.txt"):
        assert read(tmp_path / name).users.ids().tolist() == [9, 10]
        assert read(tmp_path / name, ids="text").users.ids().tolist() == ["10", "9"]


def test_tokens_of_recbole_are_text_and_its_floats_are_numbers(tmp_path):
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\tfold:token\n1\t1.0\t2.5\t01\n1\t1e5\t3\t2\n"
    )
    data = read(tmp_path / "x.inter", keep=["fold"])
    assert pairs(data) == [("1", "1.0", 2.5), ("1", "1e5", 3.0)]
    assert data.columns["fold"].tolist() == ["01", "2"]


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_the_separator_is_found_by_the_header(tmp_path, separator):
    (tmp_path / "x.csv").write_text(
        "user_id,item_id,rating,a b;c|d\n1,2,3.5,x\n".replace(",", separator).replace(" ", "_")
    )
    if separator in ";|":
        (tmp_path / "x.csv").write_text("user_id,item_id,rating,note\n1,2,3.5,x\n".replace(",", separator))
    assert pairs(read(tmp_path / "x.csv")) == [(1, 2, 3.5)]


def test_another_separator_is_named_by_the_option(tmp_path):
    (tmp_path / "x.csv").write_text("user_id:item_id\n1:2\n")
    assert "which separator has the file? Pass separator=" in refusal(tmp_path / "x.csv")
    assert pairs(read(tmp_path / "x.csv", separator=":")) == [(1, 2, 1)]
    assert "separator must be one character" in refusal(tmp_path / "x.csv", separator="::")


def test_a_file_without_a_header_is_recognized_and_its_columns_can_be_named(tmp_path):
    (tmp_path / "x.csv").write_text("1,10,4.5\n2,10,3\n")
    assert "'1,10,4.5' holds numbers: a file without a header? Name its columns, names=" in refusal(tmp_path / "x.csv")
    assert pairs(read(tmp_path / "x.csv", names=["user_id", "item_id", "rating"])) == [(1, 10, 4.5), (2, 10, 3)]
    assert "names= gives 2 names, and the first line has 3 fields" in refusal(
        tmp_path / "x.csv", names=["user_id", "item_id"]
    )
    (tmp_path / "y.csv").write_text("user_id,item_id\n1,10\n")
    assert "leave names= out" in refusal(tmp_path / "y.csv", names=["user_id", "item_id"])


def test_decimal_commas_are_read_unless_they_may_be_thousands(tmp_path):
    (tmp_path / "x.csv").write_text("user_id;item_id;rating\n1;2;3,5\n1;3;4\n")
    assert pairs(read(tmp_path / "x.csv")) == [(1, 2, 3.5), (1, 3, 4)]
    (tmp_path / "y.csv").write_text("user_id;item_id;rating\n1;2;3,500\n")
    assert "'rating' must hold numbers" in refusal(tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("encoding", "option"),
    [("utf-16", None), ("utf-8-sig", None), ("utf-16-le", "utf-16-le"), ("latin-1", "latin-1"), ("cp1252", "cp1252")],
)
def test_encodings(tmp_path, encoding, option):
    (tmp_path / "x.csv").write_bytes("user_id,item_id\né,1\n".encode(encoding))
    if option:
        message = refusal(tmp_path / "x.csv")
        assert "encoding=" in message
    assert pairs(read(tmp_path / "x.csv", encoding=option)) == [("é", 1, 1)]
    assert "there is no encoding 'klingon'" in refusal(tmp_path / "x.csv", encoding="klingon")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda raw: pa.compress(raw, "zstd", asbytes=True)])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv.gz", "user_id,item_id\n1,2\n"),
        ("x.tsv.bz2", "user_id\titem_id\n1\t2\n"),
        ("lists.txt.zst", "1 2\n"),
        ("x.inter.gz", "user_id:token\titem_id:token\n1\t2\n"),
    ],
)
def test_compressed_text_is_read_whatever_its_name_says(tmp_path, name, text, pack):
    (tmp_path / name).write_bytes(pack(text.encode()))
    assert [(str(user), str(item)) for user, item, _ in pairs(read(tmp_path / name))] == [("1", "2")]


def test_a_damaged_table_of_items_is_refused_too(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,2\n")
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(b"item_id,title\n2,a\n" * 100)[:-20])
    message = refusal(tmp_path / "x.csv", items=tmp_path / "items.csv.gz")
    assert "cannot read the table of items" in message
    assert "it cannot be unpacked" in message


def test_archives_and_damaged_files_are_refused(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"user_id,item_id\n1,2\n" * 100)[:-20])
    refusal(tmp_path / "x.csv.gz")
    (tmp_path / "x.csv").write_bytes(b"PK\x03\x04 and so on")
    assert "it is a zip archive; unpack it first" in refusal(tmp_path / "x.csv")


def test_a_header_that_names_a_column_twice_is_refused_only_if_it_is_needed(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id,item_id\n1,2,3\n")
    assert "the header names 'item_id' more than once" in refusal(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("user_id,item_id,note,note\n1,2,a,b\n")
    assert pairs(read(tmp_path / "y.csv")) == [(1, 2, 1)]


def test_lightgcn_lists_with_a_byte_order_mark_or_large_ids(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1 2 3\n2 3\n")
    assert pairs(read(tmp_path / "a.txt")) == [(1, 2, 1), (1, 3, 1), (2, 3, 1)]
    (tmp_path / "b.txt").write_text("1 18446744073709551616\n")
    assert pairs(read(tmp_path / "b.txt")) == [(1, "18446744073709551616", 1)]
    (tmp_path / "c.txt").write_text("1 007\n2 7\n")
    assert pairs(read(tmp_path / "c.txt")) == [(1, "007", 1), (2, "7", 1)]


def test_ratings_separated_by_spaces_are_not_taken_for_lists(tmp_path):
    (tmp_path / "ratings.txt").write_text("1 10 4\n1 11 3\n2 10 5\n")
    assert "several lines begin with the same user" in refusal(tmp_path / "ratings.txt")
    data = read(tmp_path / "ratings.txt", layout="csv", separator=" ", names=["user_id", "item_id", "rating"])
    assert pairs(data) == [(1, 10, 4), (1, 11, 3), (2, 10, 5)]


@pytest.mark.parametrize("index", ["user_id", "item_id", "rating", "timestamp", ["user_id", "item_id"]])
def test_a_column_that_pandas_stored_as_its_index_is_found(tmp_path, index):
    frame = pd.DataFrame(
        {"user_id": [1, 1, 2], "item_id": ["a", "b", "b"], "rating": [1.0, 2.0, 4.0], "timestamp": [5, 6, 7]}
    )
    frame.set_index(index).to_parquet(tmp_path / "x.parquet")
    for data in (read(tmp_path / "x.parquet"), Interactions.from_frame(frame.set_index(index))):
        assert pairs(data) == [(1, "a", 1), (1, "b", 2), (2, "b", 4)]
        assert data.timestamps.tolist() == [5, 6, 7]


def test_a_folder_of_parquet_parts_is_one_table(tmp_path):
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"user_id": [1], "item_id": [2]}), tmp_path / "part-0.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [3]}), tmp_path / "day=1" / "part-1.parquet")
    pq.write_table(pa.table({"user_id": [9], "item_id": [9]}), tmp_path / "_temporary.parquet")
    assert pairs(read(tmp_path)) == [(1, 2, 1), (1, 3, 1)]
    (tmp_path / "nested").mkdir()
    tmp_path.joinpath("day=1").rename(tmp_path / "nested" / "interactions.parquet")
    assert pairs(read(tmp_path / "nested")) == [(1, 3, 1)]
    pq.write_table(pa.table({"other": [1]}), tmp_path / "items.parquet")
    assert "have different columns" in refusal(tmp_path)


def test_a_folder_of_recommendations_is_not_taken_for_interactions(tmp_path):
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "score": [0.5]}), tmp_path / "part-00000.parquet")
    (tmp_path / "_manifest.json").write_text(json.dumps({}))
    assert "holds the output of a scoring job" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "title"),
    [("items.csv", "title"), ("items.parquet", "title"), ("sku.csv", "title"), ("sku.csv.gz", "title")],
)
def test_items_of_ones_own_bring_titles_and_columns(tmp_path, name, title):
    (tmp_path / "x.csv").write_text("who,sku\n1,10\n1,11\n2,12\n")
    column = "sku" if name.startswith("sku") else "item_id"
    table = pd.DataFrame(
        {column: [11, 99, 10], title: ["Été", "never met", None], "brand": ["B", "Z", "A"], "price": [2, 9, 1]}
    )
    table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_csv(tmp_path / name, index=False)
    data = read(tmp_path / "x.csv", user="who", item="sku", items=tmp_path / name)
    assert data.titles.tolist() == ["10", "Été", "12"]
    assert data.item_columns["brand"].tolist() == ["A", "B", None]
    assert data.item_columns["price"].tolist() == [1, 2, None]
    cut = data.take_items([1, 2])
    assert cut.titles.tolist() == ["Été", "12"]
    assert cut.item_columns["brand"].tolist() == ["B", None]


def test_a_table_of_items_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,10\n1,11\n")
    (tmp_path / "other.csv").write_text("item_id,title\nA1,x\nA2,y\n")
    message = refusal(tmp_path / "x.csv", items=tmp_path / "other.csv")
    assert "no item of the table of items is in the interactions" in message
    assert "kind str" in message
    assert "kind int" in message
    (tmp_path / "twice.csv").write_text("item_id,title\n10,x\n10,y\n")
    assert "each id once" in refusal(tmp_path / "x.csv", items=tmp_path / "twice.csv")
    (tmp_path / "without.csv").write_text("sku,title\n10,x\n")
    assert "column 'item_id' is not in the table" in refusal(tmp_path / "x.csv", items=tmp_path / "without.csv")
    assert "expected a table of items at" in refusal(tmp_path / "x.csv", items=tmp_path / "none.csv")


EVENTS = pd.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2],
        "item_id": [7, 7, 8, 7, 9],
        "event": ["view", "purchase", "view", "cart", "return"],
    }
)


def test_events_have_the_weights_that_are_given():
    weights = {"view": 1, "cart": 3, "purchase": 5, "return": 0}
    summed = Interactions.from_frame(EVENTS, rating="event", weights=weights, duplicates="sum")
    assert pairs(summed) == [(1, 7, 6), (1, 8, 1), (2, 7, 3)]
    largest = Interactions.from_frame(EVENTS, rating="event", weights=weights, duplicates="max")
    assert pairs(largest) == [(1, 7, 5), (1, 8, 1), (2, 7, 3)]
    numbers = EVENTS.assign(event=[1, 3, 1, 2, 4])
    kinds = Interactions.from_frame(numbers, rating="event", weights={"1": 1, "2": 3, "3": 5, "4": 0}, duplicates="sum")
    assert pairs(kinds) == pairs(summed)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"view": 1, "cart": 3, "purchase": 5},
            "events without a weight: 'return' .1 rows.; give each a weight, 0 to leave",
        ),
        ({}, "weights must be numbers of at least 0 by event"),
        ({"view": -1}, "weights must be numbers of at least 0 by event"),
        ({"view": True}, "weights must be numbers of at least 0 by event"),
        ({"view": 0, "cart": 0, "purchase": 0, "return": 0}, "nothing is left"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        Interactions.from_frame(EVENTS, rating="event", weights=weights, duplicates="sum")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("text", [False, True])
def test_the_unit_of_times_is_recognized_and_said(tmp_path, unit, text):
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = [1_785_544_330, 1_785_630_730]
    frame = pd.DataFrame(
        {"user_id": [1, 1], "item_id": [1, 2], "timestamp": [second * per_second for second in seconds]}
    )
    name = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    if text:
        frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.warns(
        DataWarning, match=f"'timestamp' is read as {name} since 1970, from 2026-08-01 to 2026-08-02; time_unit="
    ):
        data = read(tmp_path / "x.csv") if text else Interactions.from_frame(frame)
    assert data.timestamps.tolist() == seconds
    assert Interactions.from_frame(frame, time_unit=unit).timestamps.tolist() == seconds
    assert Interactions.from_frame(frame.assign(timestamp=[5, 6]), time_unit=unit).timestamps.dtype == np.float64


@pytest.mark.parametrize(
    "times",
    [[100.9, 100.1], pd.to_datetime([100.9, 100.1], unit="s"), ["1970-01-01T00:01:40.9", "1970-01-01T00:01:40.1"]],
    ids=["seconds", "datetimes", "text"],
)
def test_the_later_row_wins_by_parts_of_a_second(times):
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 1], "rating": [2.0, 3.0], "timestamp": times})
    data = Interactions.from_frame(frame, duplicates="last")
    assert (data.matrix.data.tolist(), data.timestamps.tolist()) == ([2.0], [100.9])


def test_rows_closer_than_a_float_can_tell_still_have_an_order():
    nanoseconds = np.array([1_785_544_330_000_000_001, 1_785_544_330_000_000_000])
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 1], "rating": [2.0, 3.0], "timestamp": nanoseconds})
    for times in (nanoseconds.view("datetime64[ns]"), nanoseconds):
        data = Interactions.from_frame(frame.assign(timestamp=times), duplicates="last", time_unit="ns")
        assert data.matrix.data.tolist() == [2.0]


def test_a_file_of_nobody_s_name_names_the_data(tmp_path):
    from recsys.config import check_config

    config = check_config({"data": {"file": str(tmp_path / "shop.csv")}})
    assert config.data.name == "shop"


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"rating": [True]}, {"rating": [4.5]}, "column 'rating' is bool in a.parquet and double in b.parquet"),
        ({"item_id": [7]}, {"item_id": ["007"]}, "column 'item_id' is int64 in a.parquet and"),
        (
            {"timestamp": pd.to_datetime(["2026-08-01"])},
            {"timestamp": [1_756_670_000]},
            "column 'timestamp' is timestamp",
        ),
    ],
)
def test_parts_of_other_types_are_refused_with_both(tmp_path, one, other, message):
    row = {"user_id": [1], "item_id": [2]}
    pd.DataFrame({**row, **one}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({**row, "user_id": [2], **other}).to_parquet(tmp_path / "b.parquet")
    assert message in refusal(tmp_path)


def test_parts_of_other_tables_are_refused_whatever_is_wanted_of_them(tmp_path):
    row = {"user_id": [1], "item_id": [2]}
    pq.write_table(pa.table({**row, "note": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({**row, "score": [0.5]}), tmp_path / "b.parquet")
    assert "a.parquet, b.parquet have different columns" in refusal(tmp_path)


def test_parts_of_one_kind_are_put_together_without_loss(tmp_path):
    pq.write_table(
        pa.table({"user_id": pa.array([1], pa.int32()), "item_id": [2], "rating": [3]}), tmp_path / "a.PARQUET"
    )
    pq.write_table(pa.table({"user_id": [2**40], "item_id": [2], "rating": [4.5]}), tmp_path / "b.parq")
    pq.write_table(
        pa.table({"user_id": [3], "item_id": [2], "rating": pa.nulls(1)}).slice(0, 0), tmp_path / "c.parquet"
    )
    assert pairs(read(tmp_path)) == [(1, 2, 3.0), (2**40, 2, 4.5)]


def test_parts_keep_a_range_that_pandas_stored_as_the_index(tmp_path):
    for number in (0, 3):
        index = pd.RangeIndex(number, number + 3, name="timestamp")
        frame = pd.DataFrame({"user_id": [number] * 3, "item_id": [1, 2, 3]}, index=index)
        frame.to_parquet(tmp_path / f"part-{number}.parquet")
    assert read(tmp_path).timestamps.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_names_of_folders_are_ids_as_they_are_written(tmp_path):
    for user in ("007", "7"):
        (tmp_path / f"user_id={user}").mkdir()
        pq.write_table(pa.table({"item_id": [1, 2]}), tmp_path / f"user_id={user}" / "p.parquet")
    assert read(tmp_path).users.ids().tolist() == ["007", "7"]


def test_titles_are_text_and_codes_stay_as_they_are_written(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,1\n1,2\n1,3\n")
    (tmp_path / "items.csv").write_text(
        "item_id,title,code,price,ean\n1,2001,007,1.10,\n2,,08,2,9007199254740993\n3,1.50,1e5,3.5,1\n"
    )
    data = read(tmp_path / "x.csv", items=tmp_path / "items.csv")
    assert data.titles.tolist() == ["2001", "2", "1.50"]
    assert data.item_columns["code"].tolist() == ["007", "08", "1e5"]
    assert data.item_columns["price"].tolist() == [1.1, 2.0, 3.5]
    assert data.item_columns["ean"].tolist() == [None, "9007199254740993", "1"]


def test_items_may_have_columns_of_any_type():
    items = pd.DataFrame({"item_id": [7, 8], "tags": [["a"], ["b", "c"]], "stock": pd.array([1, None], dtype="Int64")})
    data = Interactions.from_frame(pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8]}), items=items)
    assert data.item_columns["tags"].tolist() == [["a"], ["b", "c"]]
    assert data.item_columns["stock"].tolist() == [1, None]
    assert data.details(1) == "b, c"


def test_a_table_of_few_of_the_items_is_warned_of():
    frame = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [10, 11, 12]})
    items = pd.DataFrame({"item_id": ["10", "011", "012"], "title": ["a", "b", "c"]})
    with pytest.warns(DataWarning, match=r"describes 1 of the 3 items: ids there are like '10', .* like 11"):
        assert Interactions.from_frame(frame, items=items).titles.tolist() == ["a", "11", "12"]


@pytest.mark.parametrize("column", [" rating", "Ratings", "RATING"])
def test_a_column_that_looks_like_the_ratings_is_warned_of(tmp_path, column):
    (tmp_path / "x.csv").write_text(f"user_id,item_id,{column}\n1,2,3\n")
    with pytest.warns(DataWarning, match="there is no column 'rating', but"):
        assert pairs(read(tmp_path / "x.csv")) == [(1, 2, 1)]
    assert pairs(read(tmp_path / "x.csv", rating=column)) == [(1, 2, 3)]


def test_the_mark_of_a_missing_value_is_no_user(tmp_path):
    (tmp_path / "x.tsv").write_text("user_id\titem_id\n1\t2\n\\N\t3\n")
    assert "holds \\N, by which databases mean a missing value" in refusal(tmp_path / "x.tsv")


@pytest.mark.parametrize("number", ["rot13", "klingon", 5])
def test_what_is_no_encoding_of_text_is_refused(tmp_path, number):
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,2\n")
    assert "there is no encoding" in refusal(tmp_path / "x.csv", encoding=number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": None}, "expected the name of a column, got None"),
        ({"item": ["item_id"]}, "expected the name of a column"),
        ({"rating": 3}, "column 3 is not in the table"),
        ({"keep": 5}, "column 5 is not in the table"),
        ({"weights": [1]}, "weights must be numbers by event, got list"),
        ({"weights": {"1": 1, 1: 5}}, "weights name an event twice"),
        ({"weights": {"view": 1e39}}, "weights must be numbers of at least 0"),
        ({"titles": ["a"]}, "titles must be a mapping"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Interactions.from_frame(EVENTS, **{"rating": "event", "duplicates": "sum", **arguments})


@pytest.mark.parametrize(
    "times",
    [
        [20260801.0, 20260802.0],
        [0, 20260801, 20260802],
        [202608010043, 202608012359],
        [20260801004350, 20260801004351],
    ],
    ids=str,
)
def test_days_written_as_numbers_are_no_seconds(times):
    frame = pd.DataFrame({"user_id": 1, "item_id": range(len(times)), "timestamp": times})
    with pytest.raises(DataError, match="look like dates; write them as 2026-08-31"):
        Interactions.from_frame(frame)
    with pytest.raises(DataError, match="must hold datetimes"):
        Interactions.from_frame(frame.assign(timestamp=["", *["1"] * (len(times) - 1)]))
