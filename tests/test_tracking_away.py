"""Runs whose store is slow or away: nothing is lost, nothing is told twice, no training waits long or fails."""

import json
import os
import shutil
import socket
import time
from contextlib import suppress

import mlflow
import numpy as np
import pandas as pd
import pytest

from recsys import cli, tracking
from recsys.claims import OLD, beside
from recsys.errors import TrackingError, TrackingUnavailable
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.splits import hold_out_ratings
from recsys.spool import Spool
from recsys.tracking import _mlflow, events, runs, store
from recsys.tracking.events import Sender
from recsys.tracking.outbox import Outbox
from recsys.tracking.tracker import digest
from recsys.workspace import Workspace

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"user_id": RNG.integers(100, 140, 400), "item_id": RNG.integers(7, 37, 400)}).drop_duplicates()
DATA = Interactions.from_frame(FRAME)
MODEL = EASE(regularization=5.0).fit(DATA, show_progress=False)


class Link:
    """The way to the store: up or down, or so that what is sent arrives and the answer does not."""

    def __init__(self, monkeypatch):
        self.up, self.answers, self.sent = True, True, []
        send, start, create = Sender.send, runs.start, runs.create

        def sending(sender, event, *, retry):
            self._look()
            found = send(sender, event, retry=retry)
            self.sent.append(event.kind)
            self._answer()
            return found

        def starting(*arguments, **options):
            self._look()
            run = start(*arguments, **options)
            if not self.answers:
                mlflow.end_run("RUNNING")
            self._answer()
            return run

        def creating(*arguments):
            self._look()
            return create(*arguments)

        monkeypatch.setattr(Sender, "send", sending)
        monkeypatch.setattr(runs, "start", starting)
        monkeypatch.setattr(runs, "create", creating)
        # A test waits for no clock.
        monkeypatch.setattr(Outbox, "back_off", lambda *_: None)

    def _look(self):
        if not self.up:
            raise TrackingUnavailable("the line is cut")

    def _answer(self):
        if not self.answers:
            raise TrackingUnavailable("no answer")


@pytest.fixture
def link(mlflow_root, monkeypatch):
    return Link(monkeypatch)


def epoch(tracker, number):
    tracker.log_epoch({"epoch": number, "loss": 1 / number, "ndcg@10": number / 10})
    tracker.sink._metrics_due = 0.0


def client():
    return mlflow.MlflowClient()


def steps(run_id, name="loss"):
    return [point.step for point in client().get_metric_history(run_id, name)]


def pending(root):
    return list((root / "mlruns" / "pending").glob("*"))


def test_when_all_goes_well_nothing_is_written_beside(link, mlflow_root):
    with tracking.start_run(Workspace(), "exp") as tracker:
        epoch(tracker, 1)
        tracker.log_text("hello", "a.txt")
        assert not (mlflow_root / "mlruns" / "pending").exists()
    assert tracker.waiting is None
    assert not (mlflow_root / "mlruns" / "pending").exists()
    assert tracking.sync(Workspace()) == []
    assert "sync" not in tracking.describe(Workspace())


def test_a_store_that_comes_back_is_told_in_order(link, mlflow_root):
    with tracking.start_run(Workspace(), "exp", "back") as tracker:
        epoch(tracker, 1)
        link.up = False
        epoch(tracker, 2)
        tracker.set_tags({"stage": "early"})
        tracker.set_tags({"stage": "late"})
        assert tracker.waiting is not None
        link.up = True
        epoch(tracker, 3)
        assert steps(tracker.run_id) == [1, 2, 3]
        assert tracker.waiting is None
    assert link.sent == ["metrics", "metrics", "tags", "tags", "metrics", "end"]
    run = client().get_run(tracker.run_id)
    assert (run.data.tags["stage"], run.info.status) == ("late", "FINISHED")
    assert pending(mlflow_root) == []
    assert mlflow.active_run() is None


def test_a_run_that_could_not_be_created_is_made_later_with_its_own_start(link, mlflow_root):
    link.up = False
    with tracking.start_run(Workspace(), "exp", "offline", {"why": 1}) as tracker:
        assert tracker.run_id.startswith("local-")
        tracker.log_params({"seed": 3})
        tracker.log_data(DATA, "all")
        epoch(tracker, 1)
        tracker.log_frame(pd.DataFrame({"a": [1]}), "tables/a.parquet")
        assert tracking.log_model(MODEL, name="toy", examples=DATA, metrics={"ndcg@10": 0.25}) is None
        tracker.log_metrics({"recall@10": 0.5})
    assert tracker.waiting.is_dir()
    assert "recsys sync" in tracking.describe(Workspace())
    held = json.loads((tracker.waiting / "run.json").read_text())
    link.up = True
    (done,) = tracking.sync(Workspace())
    assert (done.name, done.waiting, done.reason) == ("offline", 0, "")
    assert [model.uri for model in done.registered] == ["models:/toy/1"]
    run = client().get_run(done.run_id)
    assert run.info.start_time == held["start_time"]
    assert run.info.start_time <= run.info.end_time
    assert (run.info.status, run.info.run_name) == ("FINISHED", "offline")
    assert {"why": "1", "mlflow.user": run.info.user_id}.items() <= run.data.tags.items()
    assert run.data.params["seed"] == "3"
    assert run.data.metrics == {"loss": 1.0, "epoch_ndcg_at_10": 0.1, "ndcg_at_10": 0.25, "recall_at_10": 0.5}
    assert run.inputs.dataset_inputs[0].dataset.digest == DATA.fingerprint()[:36]
    assert [file.path for file in client().list_artifacts(done.run_id, "tables")] == ["tables/a.parquet"]
    loaded = tracking.load("models:/toy/1")
    assert loaded.about_["run_id"] == done.run_id
    users = np.arange(5)
    np.testing.assert_array_equal(
        loaded.recommend(users, DATA.matrix[:5])[0], MODEL.recommend(users, DATA.matrix[:5])[0]
    )
    (logged,) = client().search_logged_models([run.info.experiment_id])
    assert {metric.key for metric in logged.metrics} == {"ndcg_at_10", "recall_at_10"}
    assert tracking.sync(Workspace()) == []


def test_what_arrived_without_an_answer_is_not_told_twice(link, mlflow_root):
    link.answers = False
    with tracking.start_run(Workspace(), "exp", "doubt") as tracker:
        tracker.log_params({"seed": 3})
        for number in (1, 2):
            epoch(tracker, number)
        tracking.log_model(MODEL, name="toy", examples=DATA, metrics={"ndcg@10": 0.25})
        tracker.log_text("hello", "a.txt")
    link.answers = True
    copy = mlflow_root / "copy"
    shutil.copytree(tracker.waiting, copy)
    (done,) = tracking.sync(Workspace())
    assert done.waiting == 0
    shutil.copytree(copy, tracker.waiting or mlflow_root / "mlruns" / "pending" / tracker.sink.record.key)
    (again,) = tracking.sync(Workspace())  # as after a process that died before it could forget what it had sent
    assert (again.run_id, again.waiting) == (done.run_id, 0)
    run = client().get_run(done.run_id)
    assert len(client().search_runs([run.info.experiment_id])) == 1
    assert steps(done.run_id) == [1, 2]
    assert len(client().get_metric_history(done.run_id, "ndcg_at_10")) == 1
    assert len(client().search_logged_models([run.info.experiment_id])) == 1
    assert [version.version for version in tracking.model_versions("toy")] == [1]


def test_children_begin_after_their_parents(link, mlflow_root):
    link.up = False
    with (
        tracking.start_run(Workspace(), "exp", "outer") as outer,
        tracking.start_run(Workspace(), "exp", "inner") as inner,
    ):
        epoch(inner, 1)
    with tracking.start_run(Workspace(), "exp", "late") as late:
        link.up = True
        with tracking.start_run(Workspace(), "exp", "child") as child:
            epoch(child, 1)
    assert late.waiting is None
    tracking.sync(Workspace())
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert runs["inner"].data.tags["mlflow.parentRunId"] == runs["outer"].info.run_id
    assert runs["child"].data.tags["mlflow.parentRunId"] == runs["late"].info.run_id == late.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert pending(mlflow_root) == []
    assert outer.run_id.startswith("local-")


def test_a_child_of_a_run_that_was_created_late_is_its_child_and_not_that_of_the_active_run(link, mlflow_root):
    with tracking.start_run(Workspace(), "exp", "study") as study:
        link.up = False
        with tracking.start_run(Workspace(), "exp", "search") as search:
            link.up = True
            with tracking.start_run(Workspace(), "exp", "trial") as trial:
                epoch(trial, 1)
            assert mlflow.active_run().info.run_id == study.run_id
        found = [client().get_run(tracker.run_id) for tracker in (study, search, trial)]
    parents = [run.data.tags.get("mlflow.parentRunId") for run in found]
    assert parents == [None, study.run_id, search.run_id]
    assert [client().get_run(run.info.run_id).info.status for run in found] == ["FINISHED"] * 3
    assert steps(trial.run_id) == [1]
    assert pending(mlflow_root) == []


def test_a_run_that_was_interrupted_goes_on_as_the_same_run(link, mlflow_root):
    file = mlflow_root / "mlruns" / "checkpoints" / "run.json"
    with suppress(SystemExit), tracking.start_run(Workspace(), "exp", "first", resume=file) as first:
        first.log_params({"seed": 3, "config": {"device": "cpu"}})
        for number in (1, 2, 3):
            epoch(first, number)
        raise SystemExit(143)
    with tracking.start_run(Workspace(), "exp", "second", resume=file) as second:
        with tracking.start_run(Workspace(), "exp", "other", resume=file) as other:  # while the training is held
            pass
        second.log_params({"seed": 3, "config": {"device": "cuda"}, "more": 1})
        link.up = False
        for number in (2, 3, 4):
            epoch(second, number)
        link.up = True
        epoch(second, 5)
    assert second.run_id == first.run_id != other.run_id
    run = client().get_run(first.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert run.data.params == {"seed": "3", "config.device": "cpu", "more": "1"}
    assert run.data.tags["resumed"]
    assert steps(first.run_id) == [1, 2, 3, 4, 5] == steps(first.run_id, "epoch_ndcg_at_10")
    assert not file.exists()
    with tracking.start_run(Workspace(), "exp", resume=file) as third:
        assert third.run_id != first.run_id


def test_an_interrupted_run_that_the_store_never_saw_goes_on_too(link, mlflow_root):
    file = mlflow_root / "run.json"
    link.up = False
    with suppress(ZeroDivisionError), tracking.start_run(Workspace(), "exp", "first", resume=file) as first:
        epoch(first, 1)
        1 / 0  # noqa: B018
    with tracking.start_run(Workspace(), "exp", resume=file) as second:
        epoch(second, 1)
        epoch(second, 2)
    assert second.run_id == first.run_id
    with suppress(ZeroDivisionError), tracking.start_run(Workspace(), "exp", resume=file):
        1 / 0  # noqa: B018
    link.up = True
    tracking.sync(Workspace())
    (run, other) = sorted(client().search_runs(["1"]), key=lambda run: run.info.start_time)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert steps(run.info.run_id) == [1, 2]
    with tracking.start_run(Workspace(), "exp", resume=file) as third:  # synchronised since it was interrupted
        pass
    assert third.run_id == other.info.run_id
    assert client().get_run(third.run_id).info.status == "FINISHED"


def test_an_interrupted_run_that_the_store_sees_only_now_has_each_epoch_once(link, mlflow_root):
    file = mlflow_root / "run.json"
    link.up = False
    with suppress(ZeroDivisionError), tracking.start_run(Workspace(), "exp", resume=file) as first:
        epoch(first, 1)
        1 / 0  # noqa: B018
    link.up = True
    with tracking.start_run(Workspace(), "exp", resume=file) as second:
        epoch(second, 1)
        epoch(second, 2)
    assert steps(second.run_id) == [1, 2]
    assert pending(mlflow_root) == []


def test_a_run_deleted_meanwhile_is_begun_anew(link, mlflow_root):
    file = mlflow_root / "run.json"
    with suppress(ZeroDivisionError), tracking.start_run(Workspace(), "exp", resume=file) as first:
        1 / 0  # noqa: B018
    client().delete_run(first.run_id)
    with tracking.start_run(Workspace(), "exp", resume=file) as second:
        epoch(second, 1)
    assert second.run_id != first.run_id
    assert steps(second.run_id) == [1]


def test_what_the_store_refuses_for_good_waits_and_keeps_nothing_else(link, mlflow_root, capsys):
    link.up = False
    with tracking.start_run(Workspace(), "exp", "refused") as tracker:
        tracker.log_params({"seed": 1})
        tracker.log_params({"seed": 2})
        epoch(tracker, 1)
    with tracking.start_run(Workspace(), "exp", "well"):
        pass
    link.up = True
    assert cli.main(["sync"]) == 5
    out, err = capsys.readouterr()
    assert "refused: 3 events sent" in out
    assert "1 events still wait" in err
    assert f"delete {tracker.waiting} to discard it" in out
    assert "well: 1 events sent" in out
    shutil.rmtree(tracker.waiting)
    assert cli.main(["sync"]) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_a_queue_of_version_0_1_0_is_sent(mlflow_root, tmp_path):
    spool = Spool(mlflow_root / "mlruns" / "pending" / "0123")
    tracking.configure(Workspace())
    header = {"key": "0123", "place": mlflow.get_tracking_uri(), "experiment": "exp", "run_name": "old", "tags": {}}
    spool.write_header({**header, "start_time": 1000, "run_id": None, "parent": None})
    MODEL.save(tmp_path / "model" / "bundle", metrics={"ndcg@10": 0.25}, about={"tags": {"stage": "night"}})
    few = FRAME[FRAME["user_id"] < 103].assign(rating=np.float32(1.0))
    few.to_parquet(tmp_path / "model" / "examples.parquet")
    (tmp_path / "a.txt").write_text("hello")
    data = {"name": "all", "digest": "abc", "source_type": "recsys", "source": "{}", "profile": "{}"}
    written = [
        ("params", {"values": {"seed": "3"}, "resumed": False}, None),
        ("tags", {"stage": "early", "attachment": "none"}, None),
        ("metrics", {"points": [["loss", 0.5, 1001, 1]], "of_model": False, "resumed": True}, None),
        ("metrics", {"points": [["loss", 0.25, 1002, 2]], "of_model": False, "resumed": True}, None),
        ("inputs", {"inputs": [{"dataset": data, "context": "training"}]}, None),
        ("file", {"folder": "notes"}, tmp_path / "a.txt"),
        ("model", {}, tmp_path / "model"),
        ("register", {"name": "old"}, None),
        ("end", {"status": "FINISHED", "time": 2000}, None),
    ]
    assert {kind for kind, *_ in written} == events.KINDS.keys()
    for kind, values, attachment in written:
        spool.add(kind, values, attachment)
    for entry, (_, values, _) in zip(spool, written, strict=True):
        assert values.items() <= events.from_entry(entry).to_json().items()
        assert events.from_entry(entry).attachment == entry.attachment
    (done,) = tracking.sync(Workspace())
    assert (done.name, done.sent, done.waiting, done.reason) == ("old", 9, 0, "")
    run = client().get_run(done.run_id)
    assert (run.info.start_time, run.info.end_time, run.info.status) == (1000, 2000, "FINISHED")
    assert (run.data.params, run.data.metrics) == ({"seed": "3"}, {"loss": 0.25})
    assert {"stage": "early", "attachment": "none"}.items() <= run.data.tags.items()
    assert steps(done.run_id) == [1, 2]
    assert run.inputs.dataset_inputs[0].dataset.digest == "abc"
    assert [file.path for file in client().list_artifacts(done.run_id, "notes")] == ["notes/a.txt"]
    assert tracking.version_tags("old", 1) == {"model": "EASE", "stage": "night"}
    assert tracking.load("models:/old/1").about_ == {"tags": {"stage": "night"}, "run_id": done.run_id}


def test_an_event_of_a_later_version_waits(link, mlflow_root):
    link.up = False
    with tracking.start_run(Workspace(), "exp", "newer") as tracker:
        pass
    Spool(tracker.waiting).add("hologram", {})
    link.up = True
    (done,) = tracking.sync(Workspace())
    assert (done.sent, done.waiting) == (1, 1)
    assert "unknown event 'hologram'" in done.reason


def test_sync_leaves_alone_what_is_not_its_own(link, mlflow_root, monkeypatch):
    link.up = False
    with tracking.start_run(Workspace(), "exp", "mine") as tracker:
        (going_on,) = tracking.sync(Workspace())
        assert "still in progress" in going_on.reason
    header = json.loads((tracker.waiting / "run.json").read_text())
    header["place"] = "http://elsewhere:5000"
    (tracker.waiting / "run.json").write_text(json.dumps(header))
    link.up = True
    (other,) = tracking.sync(Workspace())
    assert "http://elsewhere:5000" in other.reason
    assert other.waiting == 1


def test_the_password_of_a_store_is_not_written():
    assert store.without_password("postgresql+psycopg2://me:secret@host:5432/runs?a=b") == (
        "postgresql+psycopg2://host:5432/runs"
    )
    assert store.without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_epochs_go_in_batches_where_telling_takes_long(link, mlflow_root, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    send = Sender.send

    def slow(sender, event, *, retry):
        clock[0] += delay
        return send(sender, event, retry=retry)

    monkeypatch.setattr(Sender, "send", slow)
    delay = 0.01
    with tracking.start_run(Workspace(), "exp") as tracker:
        for number in range(1, 101):
            tracker.log_epoch({"epoch": number, "loss": 1.0})
            clock[0] += 0.1
        assert 15 < link.sent.count("metrics") < 25, "2 % of the time"
        assert not pending(mlflow_root)
        delay = 1.0
        before = len(link.sent)
        for number in range(101, 601):
            tracker.log_epoch({"epoch": number, "loss": 1.0})
            clock[0] += 0.1
        assert len(link.sent) - before < 10
        assert tracker.waiting, "what waits long does not wait in memory"
    assert steps(tracker.run_id) == list(range(1, 601))


def test_a_server_that_never_answers_is_asked_rarely(mlflow_root, monkeypatch):
    asked = 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        before = dict(os.environ)
        with tracking.start_run(Workspace(), "exp", "hung") as tracker:
            for number in range(1, 101):
                tracker.log_epoch({"epoch": number, "loss": 1.0})
            tracker.log_text("hello", "a.txt")
            tracking.log_model(MODEL, name="toy", examples=DATA)
        assert os.environ == before
        server.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                server.accept()[0].close()
                asked += 1
    assert 1 <= asked <= 3
    assert tracker.waiting
    with pytest.raises(TrackingUnavailable, match="cannot open http://127"):
        tracking.sync(Workspace())


def test_the_parts_of_a_split_are_inputs_of_the_run(mlflow_root):
    split = hold_out_ratings(DATA, seed=0)
    with tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_data(DATA, "all")
        tracker.log_parts(split)
    found = {given.tags[0].value: given.dataset for given in client().get_run(tracker.run_id).inputs.dataset_inputs}
    assert found.keys() == {"all", "training", "validation", "test"}
    assert len({dataset.digest for dataset in found.values()}) == 4
    assert json.loads(found["test"].profile)["target"] == split.test.target.nnz
    other = hold_out_ratings(DATA, seed=1)
    wanted = digest(split.test, DATA.items)
    assert digest(other.test, DATA.items) != wanted
    assert digest(hold_out_ratings(DATA, seed=0).test, DATA.items) == wanted


def test_the_load_of_the_machine_needs_psutil(mlflow_root, monkeypatch):
    monkeypatch.setattr(_mlflow, "find_spec", lambda name: None)
    with (
        pytest.raises(TrackingError, match="pip install psutil"),
        tracking.start_run(Workspace(), "exp", system_metrics=True),
    ):
        pass


def test_the_load_of_the_machine_by_request(mlflow_root):
    pytest.importorskip("psutil")
    with tracking.start_run(Workspace(), "exp", system_metrics=True) as tracker:
        epoch(tracker, 1)
    assert steps(tracker.run_id, "system/system_memory_usage_percentage") == [1]


def test_a_driver_that_is_missing_is_named(mlflow_root, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}/runs"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+pg8000://me:secret@{place}")
        with pytest.raises(
            TrackingError, match=r"^cannot open postgresql\+pg8000://127.*pg8000.*'recsys\[postgres\]'"
        ) as error:
            tracking.configure(Workspace())
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


# Killed while they sent


class Killed(BaseException):
    """The process is gone: nothing after it is cleaned up."""


def waiting_model(link):
    link.up = False
    with tracking.start_run(Workspace(), "exp", "waits") as tracker:
        tracking.log_model(MODEL, name="toy", examples=DATA)
    link.up = True
    return Spool(tracker.waiting)


def test_a_model_whose_bundle_was_set_aside_by_a_killed_sync_is_sent(link, mlflow_root):
    spool = waiting_model(link)
    (bundle,) = [entry.attachment / "bundle" for entry in spool if entry.kind == "model"]
    aside = beside(bundle, folder=True, ending=OLD)  # as a kill leaves it between its two renames
    bundle.rename(aside)
    (synced,) = tracking.sync(Workspace())
    assert (synced.waiting, synced.reason) == (0, "")
    assert tracking.load("models:/toy/1").params() == MODEL.params()
    assert pending(mlflow_root) == []


def test_a_training_that_goes_on_finds_its_waiting_bundle_where_a_killed_process_set_it_aside(link, mlflow_root):
    file = mlflow_root / "mlruns" / "checkpoints" / "run.json"
    link.up = False
    with suppress(SystemExit), tracking.start_run(Workspace(), "exp", resume=file) as tracker:
        tracking.log_model(MODEL, name=None, examples=DATA)
        raise SystemExit
    (bundle,) = [entry.attachment / "bundle" for entry in Spool(tracker.waiting) if entry.kind == "model"]
    bundle.rename(beside(bundle, folder=True, ending=OLD))
    with tracking.start_run(Workspace(), "exp", resume=file):
        found = tracking.resumed_bundle()
        assert found == bundle
        assert tracking.load(found).params() == MODEL.params()


def test_the_empty_folder_of_a_queue_goes_with_the_next_command_and_no_other(link, mlflow_root, monkeypatch):
    spool = waiting_model(link)
    remove = type(spool.folder).rmdir

    def killed(path):
        if path == spool.folder:
            raise Killed
        remove(path)

    with monkeypatch.context() as patched:
        patched.setattr(type(spool.folder), "rmdir", killed)
        with pytest.raises(Killed):
            tracking.sync(Workspace())
    mine = spool.folder.with_name("notes")
    mine.mkdir()
    held = spool.folder.with_name("0" * 32)
    held.mkdir()
    assert list(spool.folder.iterdir()) == []
    with locked(Spool(held).lock):  # a run that begins to wait
        tracking.sync(Workspace())
        assert sorted(path for path in pending(mlflow_root) if path.is_dir()) == [held, mine]
    tracking.sync(Workspace())
    assert pending(mlflow_root) == [mine]
