"""Where a project may lie, what happens when it moves, and what becomes of a database that is damaged or half made."""

import json
import os
import shutil
import sqlite3
import sys
import warnings
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import tracking
from recsys.cli import main
from recsys.errors import DataWarning, TrackingError
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.spool import Spool
from recsys.tracking import home, recovery
from recsys.tracking.runs import RunRecord
from recsys.workspace import Workspace
from tests.places import CONFIG, commands, content, read_only, untouched

posix = pytest.mark.skipif(sys.platform == "win32", reason="such names and rights are those of POSIX systems")


def client():
    return mlflow.MlflowClient()


def said(capsys, code, *words):
    """The one line with which a command is refused, which ends with that code."""
    assert main([str(word) for word in words]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory, mlflow_template):
    """A folder with a project that has trained and promoted a model; to copy."""
    folder = tmp_path_factory.mktemp("made") / "project"
    shutil.copytree(mlflow_template / "mlruns", folder / "mlruns")
    (folder / "toy.toml").write_text(CONFIG, encoding="utf-8")
    assert main(["train", str(folder / "toy.toml"), "--root", str(folder), "--quiet"]) == 0
    assert main(["promote", "toy", "--root", str(folder)]) == 0
    assert main(["score", "models:/toy@champion", "--output", str(folder / "lists"), "--root", str(folder)]) == 0
    return folder


# Names


@posix
@pytest.mark.parametrize("name", ["a b", "100%", "c#", "ü", "it's", "[x]", "日本"])
def test_a_project_may_have_any_name_that_an_address_can_hold(tmp_path, mlflow_template, monkeypatch, capsys, name):
    beside, root = tmp_path / "beside", tmp_path / "parent" / name
    beside.mkdir()
    monkeypatch.chdir(beside)
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    with tracking.start_run(Workspace(root), "exp") as tracker:
        tracker.log_text("hello", "a.txt")
        tracking.log_model(MODEL, name="toy", examples=DATA)
    assert (root / "mlruns" / "artifacts" / tracker.run_id / "artifacts" / "a.txt").read_text() == "hello"
    assert tracking.resolve("models:/toy/1").is_relative_to(root)
    assert tracking.load("models:/toy/1").params() == MODEL.params()
    assert main(["registry", "list", "--root", str(root)]) == 0
    assert "toy" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "parent").iterdir()] == [name]
    assert content(beside) == {}
    assert sorted(path.name for path in root.iterdir()) == ["mlruns"]


@posix
@pytest.mark.parametrize(
    ("name", "what"), [("a%20b", "%20"), ("what?now", "?"), (os.fsdecode(b"caf\xe9"), "\udce9"), ("%41", "%41")]
)
def test_a_name_that_no_address_can_hold_is_refused_by_its_characters(tmp_path, monkeypatch, capsys, name, what):
    root = tmp_path / name
    root.mkdir()
    (root / "toy.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(root)
    with untouched(tmp_path):
        for words in (["registry", "list"], ["train", "toy.toml", "--quiet"], ["sync"], ["promote", "toy"]):
            if words == ["sync"]:
                assert main(words) == 0  # there is nothing to send
                capsys.readouterr()
            else:
                assert f"its address cannot hold {what!r}" in said(capsys, 5, *words)
    with pytest.raises(TrackingError, match="rename the folder, name another with --root"):
        tracking.configure(Workspace(root))


@posix
def test_a_store_is_made_in_a_folder_of_an_odd_name(tmp_path, monkeypatch):
    root = tmp_path / "ü 100% [c#]"
    monkeypatch.chdir(tmp_path)
    tracking.configure(Workspace(root))
    assert os.listdir(tmp_path) == [root.name]
    assert os.listdir(root / "mlruns") == ["mlflow.db"]


# Moved and copied


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_is_used_where_it_lies_now(project, tmp_path, monkeypatch, capsys, how):
    old, new, beside = tmp_path / "old" / "toy", tmp_path / "new" / "place", tmp_path / "beside"
    for folder in (old.parent, new.parent, beside):
        folder.mkdir()
    shutil.copytree(project, old)
    assert main(["registry", "list", "--root", str(old)]) == 0  # which is at home there now
    runs = tracking.model_versions("toy")[0].run_id
    old.rename(new) if how == "moved" else shutil.copytree(old, new)
    monkeypatch.chdir(beside)
    with untouched(old.parent, project):
        assert main(["registry", "list", "--root", str(new)]) == 0
        assert main(["score", "models:/toy@champion", "--output", str(new / "again"), "--root", str(new)]) == 0
        assert tracking.resolve("models:/toy@champion").is_relative_to(new)
        loaded = tracking.load(f"runs:/{runs}/model")
        assert loaded.params() == recsys.load(tracking.resolve("models:/toy/1")).params()
        assert (
            main(["train", str(new / "toy.toml"), "--root", str(new), "--quiet", "--set", "model.regularization=6"])
            == 0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            monkeypatch.setattr(sys, "path", list(sys.path))
            served = mlflow.pyfunc.load_model("models:/toy@champion")
        assert served.predict(pd.DataFrame({"user_id": ["a"], "items": [["1", "2"]]})).shape == (1, 4)
    lists, again = (pd.read_parquet(new / name) for name in ("lists", "again"))
    pd.testing.assert_frame_equal(lists, again)
    assert [version.version for version in tracking.model_versions("toy")] == [2, 1]
    with closing(sqlite3.connect(new / "mlruns" / "mlflow.db")) as database:
        for table, column in home._ADDRESSES:
            places = [place for (place,) in database.execute(f"SELECT {column} FROM {table}") if "/mlruns/" in place]
            here = [place for place in places if place.startswith((new / "mlruns").as_uri())]
            assert here or column == "source", (table, column)
            left = [place for place in places if place.startswith((old.as_uri(), project.as_uri()))]
            assert left == [], (table, column)
    assert content(beside) == {}
    capsys.readouterr()


def test_what_waits_and_who_was_killed_go_along(tmp_path, mlflow_template, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(mlflow_template / "mlruns", old / "mlruns")
    monkeypatch.chdir(tmp_path)
    tracking.configure(Workspace(old))
    experiment = client().create_experiment("exp", artifact_location=(old / "mlruns" / "artifacts").as_uri())
    run = client().create_run(experiment, tags={"recsys.run": "killed"}).info.run_id
    of_02 = f"sqlite:///{old.as_posix()}/mlruns/mlflow.db"  # what version 0.2.0 recorded
    waiting = Spool(old / "mlruns" / "pending" / "waits")
    waiting.write_header(vars(RunRecord(of_02, "exp", "waits", {}, None, key="waits")))
    waiting.add("tags", {"stage": "late"})
    waiting.add("end", {"status": "FINISHED", "time": 2})
    file = old / "mlruns" / "checkpoints" / "run-0.json"
    recovery.remember(file, RunRecord(of_02, "exp", "killed", {}, None, run_id=run, key="killed", resumable=False))
    old.rename(new)
    (done,) = tracking.sync(Workspace(new))
    assert (done.sent, done.waiting, done.reason) == (2, 0, "")
    assert client().get_run(done.run_id).data.tags["stage"] == "late"
    assert client().get_run(run).info.status == "KILLED"
    assert not file.with_name("run-0.json").exists()
    assert not old.exists()
    assert os.listdir(new / "mlruns" / "pending") == []


# Read only


def test_a_project_that_may_only_be_read_is_read(project, tmp_path):
    root = tmp_path / "moved"
    shutil.copytree(project, root)
    lists = tmp_path / "lists"
    with read_only(root) as before, untouched(root):
        if before is None:
            pytest.skip("root needs unshare and mount for a read-only view")
        answers = commands(
            ["registry", "list", "--root", root],
            ["registry", "show", "toy", "--root", root],
            ["score", "models:/toy@champion", "--output", lists, "--root", root, "--quiet"],
            ["recommend", "models:/toy@champion", "--user", "1", "--root", root],
            ["promote", "toy", "--dry-run", "--root", root],
            ["promote", "toy", "--alias", "next", "--challenger", "--dry-run", "--quiet", "--root", root],
            ["train", root / "toy.toml", "--quiet", "--root", root],
            ["promote", "toy", "--alias", "next", "--root", root],
            ["sync", "--root", root],
            before=before,
            cwd=tmp_path,
        )
    assert [code for code, _, _ in answers] == [0, 0, 0, 0, 0, 0, 5, 3, 0], answers
    pd.testing.assert_frame_equal(pd.read_parquet(lists), pd.read_parquet(project / "lists"))
    assert "models:/toy@champion would be version 1 (is version 1); nothing was written" in answers[4][1]
    for _, _, errors in answers[6:8]:
        assert len(errors.splitlines()) == 1, errors
    assert all(not errors for code, _, errors in answers if code == 0), answers
    assert sorted(os.listdir(tmp_path)) == ["lists", "moved"]


# Promotions that are only thought through


def test_a_dry_run_of_a_promotion_writes_nothing(project, tmp_path, monkeypatch, capsys):
    root = tmp_path / "copy"
    shutil.copytree(project, root)
    monkeypatch.chdir(root)
    assert main(["registry", "list"]) == 0
    before = client().get_model_version("toy", "1").description
    capsys.readouterr()
    with untouched(root):
        assert main(["promote", "toy", "--alias", "next", "--dry-run", "--version", "1"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == (
            "models:/toy@next would be version 1 (is no version); nothing was written (--dry-run)"
        )
        assert main(["promote", "toy", "--alias", "next", "--challenger", "--dry-run", "--quiet"]) == 0
        out = capsys.readouterr().out
        assert "Popularity" in out
        assert "nothing was written (--dry-run)" in out.splitlines()[-1]
        assert "has no version 7; versions: 1" in said(capsys, 4, "promote", "toy", "--version", "7", "--dry-run")
    assert client().get_model_version("toy", "1").description == before


# Damaged


def half_made(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        database.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT)")
        database.execute("CREATE TABLE _alembic_tmp_experiments (experiment_id INTEGER)")
        database.commit()


def of_another(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE songs (title TEXT)")
        database.execute("INSERT INTO songs VALUES ('mine')")
        database.commit()


def newer(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()


DAMAGES = {
    "truncated": (lambda file: os.truncate(file, 20_000), "is damaged"),
    "cut to a few bytes": (lambda file: os.truncate(file, 50), "is damaged"),
    "zeroed": (lambda file: file.write_bytes(bytes(file.stat().st_size)), "is damaged"),
    "zeroed after its header": (
        lambda file: file.write_bytes(file.read_bytes()[:4096] + bytes(file.stat().st_size - 4096)),
        "is damaged",
    ),
    "other content": (lambda file: file.write_text("hello " * 2000), "is damaged: file is not a database"),
    "emptied": (lambda file: os.truncate(file, 0), "it is empty, and"),
    "another application's": (lambda file: (file.unlink(), of_another(file)), "lacks tables of MLflow and has songs"),
    "of a newer MLflow": (newer, "a newer MLflow may have written it"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_named_in_one_line_and_left_as_it_is(project, tmp_path, monkeypatch, capsys, damage):
    shutil.copytree(project, tmp_path / "toy")
    monkeypatch.chdir(tmp_path / "toy")
    assert main(["registry", "list"]) == 0
    capsys.readouterr()
    spoil, message = DAMAGES[damage]
    spoil(Path("mlruns/mlflow.db"))
    with untouched(tmp_path / "toy"):
        for words in (
            ["registry", "list"],
            ["train", "toy.toml", "--quiet"],
            ["score", "models:/toy@champion", "--output", str(tmp_path / "lists")],
            ["promote", "toy"],
        ):
            line = said(capsys, 5, *words)
            assert message in line, line
            assert "mlflow.db" in line


@pytest.mark.parametrize("spoil", [half_made, Path.touch], ids=["half made", "empty"])
def test_a_database_that_holds_nothing_is_made_again_and_the_old_one_set_aside(tmp_path, spoil):
    file = tmp_path / "mlruns" / "mlflow.db"
    file.parent.mkdir()
    spoil(file)
    old = file.read_bytes()
    with pytest.raises(TrackingError, match="no MLflow store under"):
        tracking.configure(Workspace(tmp_path), create=False)
    assert file.read_bytes() == old
    with pytest.warns(DataWarning, match="was half made and held no run"):
        tracking.configure(Workspace(tmp_path))
    assert sorted(os.listdir(file.parent)) == ["mlflow.db", "mlflow.db.half-made-1"]
    assert (file.parent / "mlflow.db.half-made-1").read_bytes() == old
    with tracking.start_run(Workspace(tmp_path), "exp") as tracker:
        pass
    assert client().get_run(tracker.run_id).info.status == "FINISHED"


def test_a_database_of_an_older_mlflow_is_brought_up_to_date(project, tmp_path):
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    shutil.copytree(project, tmp_path / "toy")
    file = tmp_path / "toy" / "mlruns" / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            command.downgrade(_get_alembic_config(f"sqlite:///{file.as_posix()}"), "-1")
        except Exception as error:  # some of MLflow's steps have no way back
            pytest.skip(f"MLflow's newest schema has no way back: {error!r}")
    with closing(sqlite3.connect(file)) as database:
        old = database.execute("SELECT version_num FROM alembic_version").fetchone()
    tracking.configure(Workspace(tmp_path / "toy"), create=False)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() != old
    assert [version.version for version in tracking.model_versions("toy")] == [1]
    assert type(tracking.load("models:/toy@champion")) is EASE


def test_the_lock_of_a_process_that_was_killed_when_the_database_was_made_is_removed(project, tmp_path):
    shutil.copytree(project, tmp_path / "toy")
    tracking.configure(Workspace(tmp_path / "toy"), create=False)  # which moves addresses, under the lock
    left = tmp_path / "toy" / "mlruns" / ".lock"
    with locked(left):
        tracking.configure(Workspace(tmp_path / "toy"), create=False)
        assert left.exists()  # its holder lives
    left.touch()
    tracking.configure(Workspace(tmp_path / "toy"), create=False)
    assert not left.exists()


# What lies among the queues


@pytest.fixture
def crowded(mlflow_root):
    """A project with much in `mlruns/pending` that is no queue."""
    pending = mlflow_root / "mlruns" / "pending"
    for name, text in (
        ("garbage", "\0{"),
        ("list", "[]"),
        ("lacking", '{"place": "mlruns/mlflow.db"}'),
        ("newer", json.dumps({**vars(RunRecord("mlruns/mlflow.db", "exp", None, {}, None)), "planet": "Mars"})),
        ("odd", json.dumps({**vars(RunRecord("mlruns/mlflow.db", "exp", None, {}, None)), "start_time": "now"})),
        ("deep", "[" * 100_000),
    ):
        (pending / name).mkdir(parents=True)
        (pending / name / "run.json").write_text(text, encoding="utf-8")
    (pending / "empty").mkdir()
    (pending / "notes.txt").write_text("mine", encoding="utf-8")
    (pending / "folder.lock").mkdir()
    return pending


def test_what_is_no_queue_disturbs_nothing_and_is_named(crowded, mlflow_root, capsys):
    before = content(crowded)
    (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")
    assert main(["train", "toy.toml", "--quiet"]) == 0
    assert "waiting" not in capsys.readouterr().out
    for words in (["promote", "toy"], ["registry", "list"], ["sync"]):
        assert main(words) == 0
    shown = capsys.readouterr()
    named = [line for line in shown.out.splitlines() if "is no queue of unsent events and stays as it is" in line]
    assert [Path(line.split(" is no queue")[0]).name for line in named] == [
        "deep",
        "empty",
        "garbage",
        "lacking",
        "list",
        "newer",
        "notes.txt",
        "odd",
    ]
    assert shown.err == ""
    assert content(crowded) == before


BAD_EVENTS = {
    "no JSON": "{",
    "a list": "[1]",
    "without values": '{"kind": "tags", "attachment": null}',
    "of odd values": '{"kind": "metrics", "values": {"points": 3, "of_model": 0, "resumed": 0}, "attachment": null}',
    "of other fields": '{"kind": "end", "values": {"when": 3}, "attachment": null}',
    "without its file": '{"kind": "file", "values": {"folder": null}, "attachment": "curve.png"}',
    "of metrics without fields": '{"kind": "metrics", "values": {}, "attachment": null}',
}


@pytest.mark.parametrize("event", BAD_EVENTS)
def test_a_damaged_event_stops_its_own_queue_only(mlflow_root, capsys, event):
    pending = mlflow_root / "mlruns" / "pending"
    for start, name in ((1, "bad"), (2, "good")):
        spool = Spool(pending / name)
        spool.write_header(vars(RunRecord("mlruns/mlflow.db", "exp", name, {}, None, key=name, start_time=start)))
        spool.add("tags", {"stage": "late"})
    (pending / "bad" / "00000002.json").write_text(BAD_EVENTS[event], encoding="utf-8")
    bad = content(pending / "bad")
    assert main(["sync"]) == 5
    shown = capsys.readouterr()
    assert (
        shown.err
        == f"recsys sync: {len([name for name in content(pending / 'bad') if name[0] == '0'])} events still wait\n"
    )
    assert f"delete {pending / 'bad'} to" in shown.out
    assert not (pending / "good").exists()
    assert bad["00000002.json"] == content(pending / "bad")["00000002.json"]
    with tracking.start_run(Workspace(), "exp"):
        pass


# A disk that is full


def test_a_training_whose_reports_cannot_be_kept_ends_in_one_line(mlflow_root, monkeypatch, capsys):
    full(monkeypatch)
    (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")

    def no_room(*_):
        raise OSError(28, "No space left on device", "00000001.json")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add", no_room)
        line = said(capsys, 5, "train", "toy.toml", "--quiet")
    assert "cannot be written" in line
    assert "the same command goes on where it stopped" in line
    assert "server" not in line


def test_a_training_whose_reports_wait_says_that_the_store_cannot_be_written(mlflow_root, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        full(patch)
        (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")
        assert main(["train", "toy.toml", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert "cannot be written, or not always" in shown.out
    assert "server" not in shown.out + shown.err
    assert shown.err == ""
    assert main(["sync"]) == 0
    assert [version.version for version in tracking.model_versions("toy")] == [1]


def full(monkeypatch):
    """Let the database refuse every write of a run, as on a full disk."""
    from sqlalchemy.exc import OperationalError

    def refuse(*_, **__):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)
    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", refuse)


RNG = np.random.default_rng(0)
DATA = Interactions.from_frame(
    pd.DataFrame({"user_id": RNG.integers(100, 140, 400), "item_id": RNG.integers(7, 37, 400)}).drop_duplicates()
)
MODEL = EASE(regularization=5.0).fit(DATA, show_progress=False)
