"""`recsys prepare`: the same shards whichever engine reads the table, equal to what is made in memory."""

import json
import os
import shutil
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import shards
from recsys.config import check_config
from recsys.errors import ConfigError, DataError
from recsys.jobs import prepare
from recsys.preparing import entries as streaming
from recsys.workspace import Workspace

SPLITS = [
    {"kind": "hold_out_users", "n_users": 0.3, "stable": True, "min_items": 2, "target_fraction": 0.5},
    {"kind": "hold_out_users", "n_users": 2, "min_items": 2, "target_fraction": 0.5, "seed": 3},
    {"kind": "by_time", "test": 0.2, "validation": 0.3},
    {"kind": "by_time", "test": 0.2, "validation": 0.0},
    {"kind": "leave_last_out", "seed": 5},
]


@pytest.fixture(autouse=True, scope="module")
def _not_synced():
    """What is on disk after a crash is not the matter here, and waiting for it takes most of the time."""
    patch = pytest.MonkeyPatch()
    patch.setattr("recsys.files.sync", lambda path: None)
    yield
    patch.undo()


HOME = os.environ.get("JAVA_HOME")
ON_SPARK = [
    pytest.mark.spark,
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark is not installed"),
    pytest.mark.skipif(shutil.which(f"{HOME}/bin/java" if HOME else "java") is None, reason="Java is not installed"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark", "ignore::DeprecationWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:PySpark does not yet:FutureWarning"),
]
ENGINES = ["duckdb", pytest.param("spark", marks=ON_SPARK)]
CONF = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.network.timeout": "900s",
    "spark.executor.heartbeatInterval": "60s",
    "spark.log.level": "ERROR",
}


@pytest.fixture(scope="module")
def spark():
    """One session for all tests of the engine; a job that finds one uses it."""
    from recsys.scoring.spark_session import session

    patch = pytest.MonkeyPatch()
    given = " ".join(f"--conf {name}={value}" for name, value in CONF.items())
    patch.setenv("PYSPARK_SUBMIT_ARGS", f"{given} pyspark-shell")
    with session("local[2]") as spark:
        yield spark
    patch.undo()


@pytest.fixture
def engine(request):
    """The name of an engine, which is ready."""
    if request.param == "spark":
        request.getfixturevalue("spark")
    return request.param


def config(file, split=None, **data):
    return check_config({"data": {"file": str(file), **data}, "split": split or SPLITS[0]})


def outcome(job, output, engine):
    """What an engine makes of a table: the manifest, which holds the checksum of every file; or the error."""
    try:
        folder = prepare.run(Workspace(output.parent), job, output, engine=engine).folder
    except (ConfigError, DataError) as error:
        return type(error).__name__
    shards.open(folder)
    assert {file.name for file in folder.iterdir()} == {
        "manifest.json",
        *json.loads((folder / "manifest.json").read_text())["files"],
    }
    return (folder / "manifest.json").read_text()


def table(n=600, seed=0, users=30, items=20, **columns):
    rng = np.random.default_rng(seed)
    frame = {
        "user_id": rng.integers(-users // 2, users // 2, size=n),
        "item_id": rng.integers(items, size=n),
        "rating": rng.normal(3, 1, size=n).astype(np.float32),
        "timestamp": 1_600_000_000 + rng.integers(12, size=n),
    }
    return pd.DataFrame({**frame, **columns})


def words(numbers):
    return [f"{'äé 😀z,'[number % 6]}{number}" for number in numbers]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("split", SPLITS, ids=lambda split: "-".join(map(str, split.values())))
def test_engines_write_the_same_shards(tmp_path, split, engine, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 64)
    frame = table()
    tables = {
        "numbers.parquet": frame,
        "text.parquet": frame.assign(user_id=words(frame.user_id), item_id=words(frame.item_id)),
        "moments.parquet": frame.assign(
            timestamp=pd.to_datetime(frame.timestamp * 1_000_250, unit="us").astype("datetime64[us]")
        ),
        "text.csv": frame.assign(user_id=words(frame.user_id)),
        "plain.csv": frame.assign(rating=frame.rating.round()),
    }
    filters = {"min_rating": 2.0, "min_user": 5, "min_item": 8, "repeat_counts": True}
    place = SPLITS.index(split)
    for number, (name, content) in enumerate(tables.items()):
        if number not in (
            place,
            (place + 2) % 5 if engine == "duckdb" else place,
        ):  # each table with some of the splits
            continue
        file = tmp_path / name
        if file.suffix == ".csv":
            content.to_csv(file, index=False)
        else:
            content.to_parquet(file, index=False)
        duplicates = ["last", "sum", "max"][number % 3]
        job = config(file, split, duplicates=duplicates, binary=number == 3, **(filters if number % 2 else {}))
        expected = outcome(job, tmp_path / "local", "local")
        assert "recsys-shards" in expected
        assert outcome(job, tmp_path / "engine", engine) == expected


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_folder_of_parts_with_events_and_a_table_of_items(tmp_path, engine):
    frame = table(rating=np.random.default_rng(1).choice(["view", "cart", "buy", "hover"], size=600))
    folder = tmp_path / "plays [1]"
    folder.mkdir()
    for number in range(3):
        frame[number::3].to_parquet(folder / f"part-{number}.parquet", index=False)
    about = pd.DataFrame({"item_id": range(0, 20, 2), "title": words(range(0, 20, 2)), "price": np.arange(10) / 3})
    about.to_parquet(tmp_path / "items.parquet")
    weights = {"view": 0.1, "cart": 3, "buy": 5.7, "hover": 0}
    options = {"weights": weights, "duplicates": "sum", "items": str(tmp_path / "items.parquet"), "min_item": 16}
    job = config(folder, {"kind": "leave_last_out"}, **options)
    expected = outcome(job, tmp_path / "local", "local")
    assert "recsys-shards" in expected
    assert outcome(job, tmp_path / "engine", engine) == expected
    train = shards.open(tmp_path / "engine").train.load()
    assert len(train.titles) == len(train.items) < 20
    assert set(train.item_columns) == {"price"}


small = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 4),
        st.sampled_from([-1.5, 0.0, 0.1, 1.0, 2.0, 3.3, 1e8]),
        st.sampled_from([0, 1, 2, 3, 86_400, 1_600_000_000]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.filterwarnings("ignore::recsys.errors.DataWarning")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=small,
    text=st.booleans(),
    fraction=st.sampled_from([0.0, 0.25, 0.1]),
    split=st.sampled_from(SPLITS),
    duplicates=st.sampled_from(["error", "last", "sum", "max"]),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "min_rating": st.sampled_from([0.0, 0.1, 1.0]),
            "min_user": st.integers(0, 3),
            "min_item": st.integers(0, 3),
            "repeat_counts": st.booleans(),
        },
    ),
    binary=st.booleans(),
)
def test_small_tables(tmp_path_factory, rows, text, fraction, split, duplicates, filters, binary):
    folder = tmp_path_factory.mktemp("table")
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    if text:
        frame = frame.assign(user_id=words(frame.user_id), item_id=words(frame.item_id))
    frame["timestamp"] = frame.timestamp + fraction if fraction else frame.timestamp
    frame.to_parquet(folder / "table.parquet")
    job = config(folder / "table.parquet", split, duplicates=duplicates, time_unit="s", binary=binary, **filters)
    assert outcome(job, folder / "engine", "duckdb") == outcome(job, folder / "local", "local")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), min_size=1, max_size=60), st.booleans())
def test_times_at_ranks(tmp_path_factory, values, fractions):
    times = np.array(values, np.int64)
    if fractions:
        times = times / 7
    folder = tmp_path_factory.mktemp("times")
    times.tofile(folder / "e-times.bin")
    made = streaming.Entries(folder, "e", np.array([0, len(times)]), 1, times.dtype)
    assert streaming.at_ranks(made, range(len(times))) == np.sort(times).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": [None, *["a"] * 599]}, "1 of 600 values in 'user_id' are missing"),
        ({"rating": [np.nan, *[1.0] * 599]}, "'rating' are (missing|NaN)|values in 'rating' are missing"),
        ({"rating": [np.inf, *[1.0] * 599]}, "'rating' are NaN, infinite"),
        ({"rating": [1e39, *[1.0] * 599]}, "beyond float32"),
        ({"timestamp": 20_260_831}, "look like dates"),
        ({"timestamp": [1_600_000_000, *[1_600_000_000_000] * 599]}, "look like seconds and like milliseconds"),
        ({"rating": ["one"] * 600}, "does not hold plain numbers; --engine local"),
        ({"timestamp": ["2026-08-31"] * 600}, "neither numbers nor timestamps; --engine local"),
        ({"item_id": [1.0] * 600}, "neither whole numbers nor text; --engine local"),
        ({"User_ID": 1}, "upper and lower case"),
        ({"rating": ["a"] * 600, "weights": {"a": 0}}, "every row of 'rating' has the weight 0"),
        ({"rating": ["a", *["b"] * 599], "weights": {"b": 1}}, r"events without a weight: 'a' \(1 rows\)"),
        ({}, "rows repeat a user and item, for instance"),
    ],
)
def test_what_is_refused_is_named(tmp_path, changes, message):
    options = {"weights": changes["weights"]} if "weights" in changes else {}
    frame = table(**{name: values for name, values in changes.items() if name != "weights"})
    frame.to_parquet(tmp_path / "table.parquet")
    with pytest.raises((ConfigError, DataError), match=message):
        prepare.run(Workspace(tmp_path), config(tmp_path / "table.parquet", **options), tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
def test_what_spark_cannot_read_is_named(tmp_path, engine):
    for changes, message in (({}, "rows repeat a user and item"), ({"rating": np.nan}, "are missing|NaN, infinite")):
        table(**changes).to_parquet(tmp_path / "table.parquet")
        with pytest.raises(DataError, match=message):
            prepare.run(Workspace(tmp_path), config(tmp_path / "table.parquet"), tmp_path / "out", engine=engine)


def test_repeated_rows_are_named_as_in_memory(tmp_path):
    table().assign(user_id=words(table().user_id)).to_csv(tmp_path / "table.csv", index=False)
    job = config(tmp_path / "table.csv")
    messages = []
    for engine in ("local", "duckdb"):
        with pytest.raises(DataError) as error:
            prepare.run(Workspace(tmp_path), job, tmp_path / "out", engine=engine)
        messages.append(str(error.value).split(": ")[-1])
    assert messages[0] == messages[1]
    assert "repeat a user and item" in messages[0]


def test_what_only_memory_takes_is_said(tmp_path):
    table().to_parquet(tmp_path / "table.parquet")
    job = config(tmp_path / "table.parquet", {"kind": "hold_out_ratings"}, duplicates="last")
    with pytest.raises(
        ConfigError, match=r"--engine duckdb: split\.kind = 'hold_out_ratings' needs all entries in memory"
    ):
        prepare.run(Workspace(tmp_path), job, tmp_path / "out")
    job = check_config({"data": {"name": "synthetic", "users": 100, "items": 50, "interactions": 1000}})
    with pytest.raises(ConfigError, match=r"data\.file is needed, got the data set 'synthetic'; --engine local"):
        prepare.run(Workspace(tmp_path), job, tmp_path / "out")
    assert prepare.run(Workspace(tmp_path), job, tmp_path / "out", engine="local").train.nnz > 0


def test_histories_are_written_unsplit_and_unfiltered(tmp_path):
    table().to_parquet(tmp_path / "table.parquet")
    job = config(tmp_path / "table.parquet", duplicates="last", min_user=25, binary=True)
    made = [
        prepare.run(Workspace(tmp_path), job, tmp_path / engine, engine=engine, unsplit=True)
        for engine in ("local", "duckdb")
    ]
    assert made[0].manifest == made[1].manifest
    assert made[0].train.fingerprint() == job.data.histories()[0].fingerprint()
    assert not made[0].manifest["parts"]


def test_milliseconds_are_recognized_with_a_warning(tmp_path):
    table(timestamp=1_600_000_000_123).to_parquet(tmp_path / "table.parquet")
    job = config(tmp_path / "table.parquet", duplicates="last")
    for engine in ("local", "duckdb"):
        with pytest.warns(UserWarning, match="read as milliseconds since 1970, from 2020-09-13 to 2020-09-13"):
            prepare.run(Workspace(tmp_path), job, tmp_path / engine, engine=engine)
    assert (tmp_path / "local/manifest.json").read_text() == (tmp_path / "duckdb/manifest.json").read_text()
