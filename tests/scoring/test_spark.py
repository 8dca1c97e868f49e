"""Scoring on Spark: the lists of the local job, bit for bit; what is not ours stays; a killed executor."""

import os
import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.claims import claimed
from recsys.config import DataConfig
from recsys.errors import ConfigError, DataError, DataWarning, ScoringError
from recsys.files import MANIFEST
from recsys.interactions import Interactions
from recsys.jobs import serve
from recsys.jobs.score_spark import reading_of
from recsys.models import ALS, EASE, MultVAE
from recsys.rules import Rules
from recsys.scoring import TableReading, recommend_frame
from recsys.scoring import score_spark as score_in_parts
from recsys.scoring.output import OutputFolder, read_manifest
from recsys.scoring.rows import Reading
from recsys.scoring.spark import _Setup, score_partition
from recsys.scoring.spark_session import _mebibytes, session
from recsys.workspace import Workspace
from tests.scoring.worlds import assert_same_lists

USERS, ITEMS = 300, 90


def table(seed=0, text=False):
    """Entries of 300 users, the first with every item, with values of 1 to 5."""
    rng = np.random.default_rng(seed)
    pairs = [(user, item) for user in range(USERS) for item in rng.choice(ITEMS, rng.integers(2, 15), replace=False)]
    pairs += [(0, item) for item in range(ITEMS - 3)]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"]).drop_duplicates()
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(float)
    if text:
        frame["user_id"], frame["item_id"] = "u" + frame["user_id"].astype(str), "i" + frame["item_id"].astype(str)
    return frame


def to_score(text=False):
    """Those of training, of whom every third has one entry less, and strangers; with items that training had not."""
    known = table(text=text)
    of = known["user_id"].drop_duplicates().iloc[::3]
    first = known[known["user_id"].isin(of)].drop_duplicates("user_id", keep="last").index
    known = known.drop(index=first)
    user, item = ("u9{}", "x{}") if text else ("9{:04d}", "7{:03d}")
    kind = str if text else int
    rows = [(kind(user.format(k)), kind(item.format(k)), 3.0) for k in range(20)]  # of unknown items alone
    rows += [(row[0], known["item_id"].iloc[k], 4.0) for k, row in enumerate(rows[:12])]
    return pd.concat([known, pd.DataFrame(rows, columns=known.columns)], ignore_index=True)


NEW = {
    "MultVAE": lambda: MultVAE(hidden=32, latent=16, epochs=2, seed=0),
    "EASE": lambda: EASE(regularization=5.0),
    "ALS": lambda: ALS(factors=8, iterations=2),
}
FITTED = {}


def fitted(name, text=False):
    if (name, text) not in FITTED:
        data = Interactions.from_frame(table(text=text))
        FITTED[name, text] = NEW[name]().fit(data, show_progress=False)
    return FITTED[name, text]


HOME = os.environ.get("JAVA_HOME")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark is not installed"),
    pytest.mark.skipif(shutil.which(f"{HOME}/bin/java" if HOME else "java") is None, reason="Java is not installed"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark", "ignore::DeprecationWarning:pyspark"),
    pytest.mark.filterwarnings("ignore:.*of training's:recsys.errors.DataWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:PySpark does not yet:FutureWarning"),
]
CONF = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "3",
    "spark.network.timeout": "900s",
    "spark.executor.heartbeatInterval": "60s",
    "spark.log.level": "ERROR",
}


def score_spark(*arguments, **options):
    return score_in_parts(*arguments, **{"partitions": 3, **options})


def submit_args(**more):
    return " ".join(f"--conf {name}={value}" for name, value in {**CONF, **more}.items()) + " pyspark-shell"


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_SUBMIT_ARGS", submit_args())
        patch.delenv("PYSPARK_PYTHON", raising=False)
        with session("local[2]") as started:
            yield started


@pytest.fixture(autouse=True)
def one_thread():
    """Products of MKL are the same for one number of threads, and a worker of Spark has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(folder):
    found = pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))])
    return found.sort_values(["user_id", "rank"], kind="stable", ignore_index=True)


def stored(frame, folder, name="table.parquet"):
    frame.to_parquet(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(("name", "text"), [("MultVAE", False), ("EASE", True), ("ALS", False)])
def test_lists_are_those_of_the_local_job_bit_for_bit(spark, tmp_path, name, text):
    frame = to_score(text=text).sample(frac=1.0, random_state=0)
    model = fitted(name, text=text)
    wanted = recommend_frame(model, Interactions.from_frame(frame), n=12)
    model.save(tmp_path / "bundle")
    result = score_spark(spark, tmp_path / "bundle", stored(frame, tmp_path), tmp_path / "out", n=12)
    assert_same_lists(read(result.output), wanted)
    assert (result.users, result.rows, result.already_complete) == (wanted["user_id"].nunique(), len(wanted), False)
    users = [set(pd.read_parquet(file)["user_id"]) for file in result.output.glob("part-*.parquet")]
    assert len(users) > 1
    assert sum(map(len, users)) == result.users  # each user in one part
    manifest = read_manifest(result.output)
    assert {path.name for path in result.output.iterdir()} == {MANIFEST, *(part["file"] for part in manifest["parts"])}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["MultVAE", "EASE"])
def test_lists_under_rules_are_those_of_the_local_job_bit_for_bit(spark, tmp_path, name):
    frame, model, rng = to_score(), fitted(name), np.random.default_rng(1)
    table = pd.DataFrame({"item_id": range(ITEMS), "brand": rng.integers(0, 9, ITEMS).astype(str)})
    rules = Rules(
        exclude="brand = '3'",
        exclude_pairs=[(user, item) for user in range(0, USERS, 7) for item in range(40)],
        at_most={"brand": 2},
        diversity=0.4,
        pool=30,
    )
    wanted = recommend_frame(model, Interactions.from_frame(frame), n=8, rules=rules, items=table)
    result = score_spark(spark, model, stored(frame, tmp_path), tmp_path / "out", n=8, rules=rules, items=table)
    assert_same_lists(read(result.output), wanted)
    assert read_manifest(result.output)["rules"]["at_most"] == {"brand": 2}
    again = score_spark(spark, model, stored(frame, tmp_path), tmp_path / "out", n=8, rules=rules, items=table)
    assert again.already_complete
    other = score_spark(spark, model, stored(frame, tmp_path), tmp_path / "out", n=8)
    assert not other.already_complete
    assert_same_lists(read(other.output), recommend_frame(model, Interactions.from_frame(frame), n=8))


def test_a_complete_output_stays_and_another_job_replaces_it(spark, tmp_path):
    frame, model = to_score(), fitted("EASE")
    of_spark = spark.createDataFrame(frame.astype({"user_id": int, "item_id": int}))
    score_spark(spark, model, of_spark, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = score_spark(spark, model, of_spark.repartition(5), tmp_path / "out")  # rows in any order
    assert again.already_complete
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    fewer = score_spark(spark, model, of_spark, tmp_path / "out", n=3)
    assert not fewer.already_complete
    assert read(fewer.output)["rank"].max() == 3


def test_a_foreign_folder_is_refused_before_the_work(spark, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(ScoringError, match=r"it holds letter\.txt"):
        score_spark(spark, fitted("EASE"), tmp_path / "nothing", tmp_path / "out")
    assert (tmp_path / "out" / "letter.txt").read_text() == "mine"


def test_a_csv_file_with_seen_and_low_ratings_and_a_user_of_many_batches(spark, tmp_path):
    frame = to_score()
    many = pd.DataFrame({"user_id": 77_777, "item_id": range(25_000), "rating": 5.0})  # of three Arrow batches
    frame = pd.concat([frame, many])
    frame.astype({"user_id": int}).to_csv(tmp_path / "t.csv", index=False)
    raw = Interactions.from_frame(frame)
    with pytest.warns(DataWarning, match="are with known items"):
        wanted = recommend_frame(fitted("EASE"), raw.select(raw.matrix.data >= 4), seen=raw)
    how = TableReading(min_rating=4.0)
    with pytest.warns(DataWarning, match="are with known items"):
        got = score_spark(spark, fitted("EASE"), tmp_path / "t.csv", tmp_path / "out", reading=how)
    assert_same_lists(read(got.output), wanted)
    other = table().assign(item_id=(table()["item_id"] + 1) % 90).drop_duplicates(["user_id", "item_id"])
    seen = stored(other, tmp_path, "seen.parquet")
    wanted = recommend_frame(fitted("EASE"), Interactions.from_frame(table()), seen=Interactions.from_frame(other))
    got = score_spark(spark, fitted("EASE"), stored(table(), tmp_path), tmp_path / "out", seen=seen)
    assert_same_lists(read(got.output), wanted)


REFUSED = {
    "repeated": (lambda frame: pd.concat([frame, frame[:1]]), "repeat a user and item"),
    "unknown": (lambda frame: frame.assign(item_id=frame["item_id"] + 10**6), "is with a known item"),
    "missing": (lambda frame: frame.assign(item_id=frame["item_id"].astype("Int64").where(frame.index > 2)), "missing"),
    "infinite": (lambda frame: frame.assign(rating=np.inf), "NaN or infinite"),
    "real ids": (lambda frame: frame.assign(user_id=frame["user_id"] + 0.5), "integers or strings"),
    "texts": (lambda frame: frame.assign(rating="good"), "must hold numbers"),
    "no column": (lambda frame: frame.drop(columns="item_id"), "'item_id' is not in the table"),
    "empty": (lambda frame: frame[:0], "no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_the_local_job_refuses_are_refused_in_one_line(spark, tmp_path, case):
    change, message = REFUSED[case]
    path = stored(change(table()[:400]), tmp_path)
    with pytest.raises(DataError, match=message) as refused:
        score_spark(spark, fitted("EASE"), path, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('user_id,item_id\n1,"a,b"\n', "quotes"),
        ("user_id,item_id\n1,2,3\n", "fields of the header"),
        ("user_id;item_id\n1;2\n", "its first line"),
        ("user_id,item_id,rating\n1,2,\n", "must hold numbers"),
        ("user_id,item_id,rating\n1,2,0x1p3\n", "must hold numbers"),
        ("user_id,item_id\n1,\\N\n", "missing value"),
        ("user_id,item_id\n1,\n", "must not be missing"),
        ("user_id,item_id\n1,2\nuser_id,item_id\n3,4\n", "another line is the header"),
    ],
)
def test_a_csv_file_that_spark_reads_otherwise_is_refused(spark, tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        score_spark(spark, fitted("EASE"), tmp_path / "t.csv", tmp_path / "out")


def test_a_worker_refuses_another_place_and_other_packages(tmp_path):
    setup = _Setup("bundle", (), 10, True, None, Reading(), tmp_path / "elsewhere")
    with pytest.raises(ScoringError, match=r"a worker does not see .*elsewhere"):
        list(score_partition([], setup, None))
    with pytest.raises(ScoringError, match=r"a worker has recsys .*, torch .*, and the driver recsys 0\.0\.1; install"):
        list(score_partition([], replace(setup, versions=("recsys 0.0.1",)), None))


def test_the_command_reads_as_the_training_did(spark, tmp_path, capsys):
    frame = to_score().rename(columns={"rating": "stars"})
    model = EASE(regularization=5.0).fit(Interactions.from_frame(table()), show_progress=False)
    model.about_ = {"config": {"model": {"name": "EASE"}, "data": {"file": "t", "rating": "stars", "min_rating": 3.0}}}
    model.save(tmp_path / "bundle")
    given = {"data": str(stored(frame, tmp_path)), "n": 7}
    local = serve.score(Workspace(progress=False), str(tmp_path / "bundle"), tmp_path / "local", **given)
    ours = serve.score(
        Workspace(progress=False),
        str(tmp_path / "bundle"),
        tmp_path / "out",
        **given,
        engine="spark",
        master="local[2]",
    )
    assert_same_lists(read(ours.output), read(local.output))
    assert f"{ours.users:,} users, {ours.rows:,} rows written" in capsys.readouterr().out
    assert read_manifest(ours.output)["asked_uri"] == str(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"master": "local[2]"}, "--master is not for --engine local"),
        ({"engine": "spark", "users": "ids.txt"}, "--users is not for --engine spark"),
        ({"engine": "spark", "on_unknown": "drop"}, "--on-unknown is not for --engine spark"),
        ({"engine": "spark", "batch_size": 16_384}, "--batch-size is not for --engine spark"),
    ],
)
def test_options_of_the_other_engine_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        serve.score(Workspace(progress=False), "model", tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"duplicates": "last"}, "which of several rows"),
        ({"weights": {"view": 1}}, "data.weights, which Spark does not read"),
        ({"separator": ";"}, "with commas"),
        ({"encoding": "latin-1"}, "UTF-8"),
        ({"layout": "tsv"}, "data.layout, which"),
    ],
)
def test_what_spark_would_read_otherwise_than_the_training_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        reading_of(DataConfig.model_validate({"file": "t.csv", **keys}))


def test_what_a_killed_driver_gathered_goes_and_nothing_else(tmp_path):
    def attempt(name, *files):
        folder = tmp_path / f".out.recsys-{name}"
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"")
        folder.mkdir(exist_ok=True)
        return folder

    job = "1f2e3d4c-0000-4000-8000-0123456789ab"
    written = (f"lists/part-00000-{job}-c000.zstd.parquet", f"lists/_temporary/0/task_1/.part-00001-{job}.parquet.crc")
    gone = [attempt("00000000"), attempt("00000001", *written), attempt("00000002", "lists/_SUCCESS")]
    (gone[1] / "lists/_temporary/0/_temporary/attempt_2_m_1").mkdir(parents=True)  # of a task that had not written yet
    kept = [attempt("00000003", *written, "thesis.tex"), attempt("00000004", "lists/photos/cat.jpg"), attempt("5")]
    with claimed(tmp_path / "out", folder=True) as held:
        (held / "lists").mkdir()
        OutputFolder(tmp_path / "out").check()
        assert held.is_dir()
    assert not any(folder.exists() for folder in gone)
    assert all(folder.is_dir() for folder in kept)
    assert (kept[0] / "thesis.tex").exists()


@pytest.mark.parametrize(("size", "mebibytes"), [("1GB", 953), ("700MB", 667), ("700 MiB", 700), ("1.5gb", 1430)])
def test_the_heap_of_spark_is_a_size(size, mebibytes):
    assert _mebibytes(size) == mebibytes


@pytest.mark.parametrize(("size", "message"), [("lots", "memory must be a size"), ("100MB", "at least 472MB")])
def test_what_is_no_heap_of_spark_is_refused(size, message):
    with pytest.raises(ConfigError, match=message), session(memory=size):
        pass


def test_java_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="install openjdk-17-jre-headless"), session():
        pass
