"""Tables written in every dialect that people have are read as they were written, or refused."""

import bz2
import csv
import gzip
import io
import warnings
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.datasets import read
from recsys.errors import DataError, DataWarning

WORDS = [
    "a",
    "Heat",
    "007",
    "7",
    "1.0",
    "1e5",
    "NA",
    "nan",
    "None",
    "true",
    "é",
    "日本",
    "x y",
    " 7",
    "-0",
    "+3",
    "0x10",
]
AWKWARD = [
    '"',
    '"x',
    'x"',
    '"x"',
    'a"b',
    '""',
    ",",
    ";",
    "|",
    "a,b",
    "it's",
    "\\",
    'a\\"b',
    "#",
    "a\tb",
    "a\nb",
    "a\rb",
    "'",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@st.composite
def tables(draw):
    """A table of distinct pairs as text, with its values and times in seconds or None."""
    kind = draw(st.sampled_from(["int", "int", "word", "awkward", "large"]))
    ids = {
        "int": st.integers(-3, 30).map(str),
        "word": st.sampled_from(WORDS),
        "awkward": st.one_of(st.sampled_from(WORDS + AWKWARD), st.text(max_size=3)),
        "large": st.integers(2**62, 2**64).map(str),
    }[kind]
    pairs = draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=8, unique=True))
    values = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, -2.0, 4.25]), min_size=len(pairs), max_size=len(pairs)))
    times = None
    if draw(st.booleans()):
        whole = st.integers(10**9, 2 * 10**9)
        one = whole if draw(st.booleans()) else whole.map(lambda second: second + 0.25)
        times = draw(st.lists(one, min_size=len(pairs), max_size=len(pairs)))
    return pairs, values, times


def expected(pairs, values, times):
    moments = times or [None] * len(pairs)
    return {pair: (value, time) for pair, value, time in zip(pairs, values, moments, strict=True)}


def found(data):
    matrix = data.matrix.tocoo()
    users, items = (
        [str(one) for one in of.ids(codes)] for of, codes in ((data.users, matrix.row), (data.items, matrix.col))
    )
    times = [None] * data.nnz if data.timestamps is None else data.timestamps.tolist()
    return dict(zip(zip(users, items, strict=True), zip(matrix.data.tolist(), times, strict=True), strict=True))


def time_text(seconds, form):
    if form == "iso":
        return (EPOCH + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    if form == "zone":
        return (EPOCH + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=9))).isoformat(" ")
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[form]
    return str(seconds if form == "s" else int(seconds) * per_second + int(seconds % 1 * per_second))


def rows_of(table, draw, decimal="."):
    pairs, values, times = table
    rows = [[*pair, f"{value:g}".replace(".", decimal)] for pair, value in zip(pairs, values, strict=True)]
    if times is not None:
        form = draw(st.sampled_from(["s", "iso", "zone", "ms", "us", "ns"]))
        rows = [[*row, time_text(time, form)] for row, time in zip(rows, times, strict=True)]
    return rows


HEADER = ["user_id", "item_id", "rating", "timestamp"]


@st.composite
def delimited(draw, table):
    """Bytes of a csv file, its name, and whether a careful reader has no reason to refuse it."""
    separator = draw(st.sampled_from([",", ",", ";", "|", "\t"]))
    decimal = draw(st.sampled_from([".", ".", ","]))
    rows = rows_of(table, draw, decimal)
    header = HEADER[: len(rows[0])]
    extra = draw(st.booleans())
    if extra:
        header, rows = [*header, "note"], [[*row, draw(st.sampled_from(["x", "", "1"]))] for row in rows]
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    named = draw(st.booleans())
    text = io.StringIO()
    try:
        writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end, escapechar=None)
        writer.writerows([header, *rows] if named else rows)
    except csv.Error:  # this dialect cannot hold the table
        return None
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]))
    options = {}
    if draw(st.booleans()):
        options["encoding"] = encoding
    if not named and draw(st.booleans()):
        options["names"] = header
    if draw(st.booleans()):
        options["separator"] = separator
    try:
        raw = text.getvalue().encode(encoding)
    except UnicodeEncodeError:
        return None
    plain = all(field and not set(field) & set('"\\\r\n\0') for row in rows for field in row[:2])
    sure = plain and named and decimal == "." and quoting != csv.QUOTE_NONE
    sure = sure and (encoding.startswith("utf-8") or encoding == "utf-16" or "encoding" in options)
    return raw, "table.csv", options, sure


@st.composite
def raw_text(draw, table):
    """Bytes of a layout without quotes."""
    layout = draw(st.sampled_from(["tsv", "inter", "u.data", "dat"]))
    rows = rows_of(table, draw)
    separator = "::" if layout == "dat" else "\t"
    lines = [separator.join(row) for row in rows]
    header = HEADER[: len(rows[0])]
    if layout == "tsv":
        lines = [separator.join(header), *lines]
    if layout == "inter":
        kinds = ["token", "token", "float", "float"]
        lines = [separator.join(f"{name}:{kind}" for name, kind in zip(header, kinds, strict=False)), *lines]
    raw = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    whole = all(field and not set(field) & set(separator + "\r\n\t\0") for row in rows for field in row)
    quoted = any(field[0] == field[-1] == '"' for row in rows for field in row[:2] if field)
    name = {"u.data": "u.data", "dat": "ratings.dat"}.get(layout, f"table.{layout}")
    options = {"layout": {"inter": "recbole", "dat": "ratings.dat"}.get(layout, layout)} if draw(st.booleans()) else {}
    sure = whole and (layout in ("tsv", "inter") or bool(options)) and not (layout == "tsv" and quoted)
    return raw, name, options, sure


def frame_of(table, draw):
    """A frame of some of the types that such columns have, perhaps with a column as its index."""
    pairs, values, times = table
    frame = pd.DataFrame(pairs, columns=HEADER[:2], dtype=object)
    for column in HEADER[:2]:
        integer = frame[column].str.fullmatch(r"-?[0-9]{1,9}").all()
        canonical = integer and frame[column].map(lambda text: str(int(text)) == text).all()
        kinds = ["str", "category", "object"] + (["int64", "int32"] if canonical else [])
        frame[column] = frame[column].astype(draw(st.sampled_from(kinds)))
    frame["rating"] = np.array(values, dtype=draw(st.sampled_from(["float32", "float64"])))
    if times is not None:
        unit = draw(st.sampled_from(["ms", "us", "ns", "number", "zone"]))
        moments = pd.to_datetime([EPOCH + timedelta(seconds=time) for time in times], utc=True)
        if unit == "zone":
            frame["timestamp"] = moments.tz_convert("Asia/Tokyo")
        else:
            frame["timestamp"] = times if unit == "number" else moments.tz_localize(None).as_unit(unit)
    return frame


def check(table, path, options, sure):
    try:
        data = read(path, **options)
    except DataError as error:
        if sure:
            raise AssertionError(f"refused: {error}") from error
        return "refused"
    assert found(data) == expected(*table)
    return "read"


def write_and_check(data, folder):
    table = data.draw(tables())
    kind = data.draw(st.sampled_from(["csv", "csv", "raw", "parquet", "parts"]))
    if kind in ("csv", "raw"):
        drawn = data.draw(delimited(table) if kind == "csv" else raw_text(table))
        if drawn is None:
            return "none"
        raw, name, options, sure = drawn
        pack = data.draw(st.sampled_from([None, None, "gz", "bz2", "zst"]))
        squeeze = {
            "gz": gzip.compress,
            "bz2": bz2.compress,
            "zst": lambda text: pa.compress(text, "zstd", asbytes=True),
        }
        path = folder / (f"{name}.{pack}" if pack else name)
        path.write_bytes(squeeze[pack](raw) if pack else raw)
        return check(table, path, options, sure)
    frame = frame_of(table, data.draw)
    sure = all(one for pair in table[0] for one in pair)
    index = data.draw(st.sampled_from([None, None, "user_id", "item_id", "rating", "timestamp"]))
    if kind == "parquet" or len(frame) < 2:
        path = folder / "table.parquet"
        (frame.set_index(index) if index in frame else frame).to_parquet(path)
        return check(table, path, {}, sure)
    path = folder / "parts"
    path.mkdir()
    cut = data.draw(st.integers(1, len(frame) - 1))
    for number, part in enumerate((frame[:cut], frame[cut:])):
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), path / f"part-{number:05d}.parquet")
    (path / "_SUCCESS").touch()
    return check(table, path, {}, sure)


def campaign(tmp_path_factory, examples):
    outcomes = {"read": 0, "refused": 0, "none": 0}

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def run(data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, about what pyarrow calls to write
            warnings.simplefilter("ignore", DataWarning)
            outcomes[write_and_check(data, tmp_path_factory.mktemp("table"))] += 1

    run()
    return outcomes


def test_what_was_written_is_read_or_refused(tmp_path_factory):
    outcomes = campaign(tmp_path_factory, 300)
    assert outcomes["read"] > outcomes["refused"]


@pytest.mark.slow
def test_ten_thousand_files(tmp_path_factory):
    outcomes = campaign(tmp_path_factory, 12_000)
    print(outcomes)
    assert outcomes["read"] + outcomes["refused"] >= 10_000
