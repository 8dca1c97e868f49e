"""Runs of processes that were killed, and commands that are interrupted: what is left, what is said, what goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import mlflow
import pytest

from recsys import cli, tracking
from recsys.commands import COMMANDS
from recsys.errors import TrackingError
from recsys.files import locked
from recsys.tracking import aliases, recovery, store
from recsys.workspace import Workspace
from tests.places import CONFIG, read_only, untouched

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed in another way there")

RUNNING = """
import sys, time
from pathlib import Path
from recsys import tracking
from recsys.errors import TrackingUnavailable
from recsys.tracking import events
from recsys.workspace import Workspace

def unavailable(*_, **__):
    raise TrackingUnavailable("the line is cut")

workspace = Workspace(Path(sys.argv[1]))
file = None if sys.argv[2] == "-" else Path(sys.argv[2])
with tracking.start_run(workspace, "exp", "outer", resume=file) as outer:
    with tracking.start_run(workspace, "exp", "inner") as inner:
        for tracker in (outer, inner):
            tracker.log_epoch({"epoch": 1, "loss": 1.0})
        if sys.argv[3] == "cut":
            events.Sender.send = unavailable
            outer.log_epoch({"epoch": 2, "loss": 0.5})
            outer.set_tags({"stage": "late"})
            inner.set_tags({"stage": "late"})
        print(outer.run_id, inner.run_id, flush=True)
        time.sleep(600)
"""


def client():
    return mlflow.MlflowClient()


def statuses(*runs):
    return [client().get_run(run).info.status for run in runs]


def spawn(*words, code=None, **options):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    what = ["-m", "recsys"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *what, *map(str, words)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def begun(mlflow_root):
    """Start a process with a run and its child, in progress; give what starts it, and see that it ends."""
    processes = []

    def begin(file="-", cut=False):
        process = spawn(mlflow_root, file, "cut" if cut else "-", code=RUNNING)
        processes.append(process)
        ids = process.stdout.readline().split()
        assert len(ids) == 2, process.stderr.read()
        return process, *ids

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def kill(process):
    process.kill()
    process.communicate()


def test_a_killed_run_is_closed_by_the_next_command_with_its_last_sign_of_life(begun, mlflow_root, capsys):
    process, *runs = begun()
    tracking.configure(Workspace(), create=False)
    assert statuses(*runs) == ["RUNNING", "RUNNING"]  # not while the process lives
    files = sorted((mlflow_root / "mlruns" / "checkpoints").glob("run-*.json"))
    kill(process)
    last = {json.loads(file.read_text())["run_id"]: int(file.stat().st_mtime * 1000) for file in files}
    time.sleep(0.05)
    assert cli.main(["registry", "list"]) == 0
    assert statuses(*runs) == ["KILLED", "KILLED"]
    assert {run: client().get_run(run).info.end_time for run in runs} == last
    assert list((mlflow_root / "mlruns" / "checkpoints").iterdir()) == []
    assert client().get_run(runs[1]).data.tags["mlflow.parentRunId"] == runs[0]


def test_a_killed_run_of_whose_queue_the_empty_folder_is_left_is_closed_in_the_store(begun, mlflow_root):
    process, *runs = begun()
    files = sorted((mlflow_root / "mlruns" / "checkpoints").glob("run-*.json"))
    pending = mlflow_root / "mlruns" / "pending"
    for file in files:
        (pending / json.loads(file.read_text())["key"]).mkdir(parents=True)  # all was sent, just before the kill
    kill(process)
    assert cli.main(["registry", "list"]) == 0
    assert statuses(*runs) == ["KILLED", "KILLED"]
    assert list(pending.iterdir()) == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_has_ended_is_no_killed_one_where_its_file_could_not_say_so(mlflow_root, monkeypatch, status, keep):
    workspace = Workspace()
    file = tracking.resume_file(workspace, "job")
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "end", lambda *_: None)  # as on a folder that may no longer be written
        with suppress(KeyError), tracking.start_run(workspace, "jobs", "one", resume=file, keep=keep) as tracker:
            first = tracker.run_id
            if status == "FAILED":
                raise KeyError
    assert file.is_file()
    assert recovery.close_killed(workspace) == []
    assert statuses(first) == [status]
    assert file.is_file() == (keep or status == "FAILED")
    with tracking.start_run(workspace, "jobs", "one", resume=file, keep=keep, interrupted=False) as tracker:
        again = tracker.run_id
    assert (again == first) == (keep and status == "FINISHED")


def test_what_a_killed_run_was_about_to_send_goes_with_the_next_command_and_no_other_folder(mlflow_root):
    workspace = Workspace()
    tracking.configure(workspace)
    left = workspace.mlruns / ".working.recsys-0123abcd"
    mine = workspace.mlruns / "working"
    for path in (left, mine):
        path.mkdir()
        (path / "half").write_text("half")
    tracking.configure(workspace)
    assert not left.exists()
    assert (mine / "half").read_text() == "half"


def test_who_may_only_read_closes_no_run(begun, mlflow_root):
    process, *runs = begun()
    kill(process)
    (mlflow_root / "look.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom recsys import tracking\nfrom recsys.workspace import Workspace\n"
        "tracking.configure(Workspace(Path(sys.argv[1])), create=False)\n",
        encoding="utf-8",
    )
    with read_only(mlflow_root / "mlruns") as before, untouched(mlflow_root):
        if before is None:
            pytest.skip("root needs unshare and mount for a read-only view")
        look = [*before, sys.executable, str(mlflow_root / "look.py"), str(mlflow_root)]
        subprocess.run(look, check=True, capture_output=True)
    store.configure(Workspace())
    assert statuses(*runs) == ["RUNNING", "RUNNING"]


def test_a_killed_run_goes_on_as_the_same_run_and_each_figure_is_there_once(begun, mlflow_root):
    file = mlflow_root / "mlruns" / "checkpoints" / "job.json"
    process, outer, inner = begun(file)
    kill(process)
    with tracking.start_run(Workspace(), "exp", "outer", resume=file) as tracker:
        assert tracker.resumed
        assert tracker.run_id == outer
        assert statuses(outer, inner) == ["RUNNING", "KILLED"]
        for epoch in (1, 2):
            tracker.log_epoch({"epoch": epoch, "loss": 1 / epoch})
    assert statuses(outer) == ["FINISHED"]
    assert [point.step for point in client().get_metric_history(outer, "loss")] == [1, 2]
    assert not file.exists()


def test_what_a_killed_run_could_not_send_is_sent_and_ends_with_its_death(begun, mlflow_root):
    process, *runs = begun(cut=True)
    (going_on, going_on_too) = tracking.sync(Workspace())
    assert (going_on.reason, going_on_too.reason) == ("its run is still in progress",) * 2
    kill(process)
    for done in tracking.sync(Workspace()):
        assert (done.waiting, done.reason) == (0, "")
    assert statuses(*runs) == ["KILLED", "KILLED"]
    assert [point.step for point in client().get_metric_history(runs[0], "loss")] == [1, 2]
    assert client().get_run(runs[1]).data.tags["stage"] == "late"
    assert list((mlflow_root / "mlruns" / "pending").iterdir()) == []


def test_a_training_that_was_killed_is_one_run_with_one_model_and_one_version(mlflow_root):
    (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")
    stop = (
        "import os, signal, sys\nfrom recsys import cli, tracking\nfrom recsys.tracking.tracker import Tracker\n"
        "Tracker.log_frame = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ncli.main(sys.argv[1:])\n"
    )
    process = spawn("train", "toy.toml", "--quiet", code=stop)
    assert process.communicate()[1] == ""
    assert process.returncode == -signal.SIGKILL
    tracking.configure(Workspace())
    assert [run.info.status for run in mlflow.search_runs(search_all_experiments=True, output_format="list")] == [
        "KILLED"
    ]
    assert cli.main(["train", "toy.toml", "--quiet"]) == 0
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert [version.version for version in tracking.model_versions("toy")] == [1]
    assert len(mlflow.search_logged_models([run.info.experiment_id], output_format="list")) == 1
    for name in run.data.metrics:
        assert len(client().get_metric_history(run.info.run_id, name)) == 1


# Asked to end


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C interrupts, also where the tests run in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_asked_to_end_says_in_one_line_how_it_goes_on(
    mlflow_root, monkeypatch, capsys, number, status
):
    (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")
    handlers = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]

    def fit(*_, **__):
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr("recsys.models.EASE.fit", fit)
        assert cli.main(["train", "toy.toml", "--quiet"]) == status
    assert capsys.readouterr().err == "recsys train: interrupted; the same command goes on where it stopped\n"
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "KILLED"
    assert [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert cli.main(["train", "toy.toml", "--quiet"]) == 0
    (again,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")


def test_a_second_interruption_while_the_run_is_closed_leaves_none_that_is_finished(mlflow_root, monkeypatch, capsys):
    (mlflow_root / "toy.toml").write_text(CONFIG, encoding="utf-8")

    def interrupt(*_, **__):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("recsys.models.EASE.fit", interrupt)
        patch.setattr("recsys.tracking.outbox.Outbox.end", interrupt)
        assert cli.main(["train", "toy.toml", "--quiet"]) == 130
    assert capsys.readouterr().err == "recsys train: interrupted; the same command goes on where it stopped\n"
    assert mlflow.active_run() is None  # which MLflow would call finished when the process ends
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "KILLED"
    assert cli.main(["train", "toy.toml", "--quiet"]) == 0


def test_an_interruption_that_became_another_error_is_one(monkeypatch, capsys):
    def half_imported(workspace):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("cannot import name 'x' from partially initialized module") from None

    monkeypatch.setattr("recsys.jobs.registry.list_models", half_imported)
    assert cli.main(["registry", "list"]) == 130
    assert capsys.readouterr().err == "recsys registry list: interrupted\n"


def test_an_interruption_in_a_callback_is_not_lost(monkeypatch, capsys):
    class Dying:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def work(workspace):
        Dying()
        time.sleep(5)

    monkeypatch.setattr("recsys.jobs.registry.list_models", work)
    began = time.monotonic()
    assert cli.main(["registry", "list"]) == 130
    assert time.monotonic() - began < 4
    assert capsys.readouterr().err == "recsys registry list: interrupted\n"


def test_another_error_is_shown_as_it_is(monkeypatch):
    monkeypatch.setattr("recsys.jobs.registry.list_models", lambda workspace: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["registry", "list"])
    monkeypatch.setattr("recsys.jobs.registry.list_models", lambda workspace: sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        cli.main(["registry", "list"])


@pytest.mark.slow  # a busy machine may not have come to the command by then
@pytest.mark.parametrize("after", [0.4, 0.8, 1.2])
def test_ctrl_c_during_the_imports_is_one_line(mlflow_root, after):
    process = spawn("registry", "list", start_new_session=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it had ended")
    # A shell sees 130 for both: Python ends itself by the signal where that came while an extension ran Python code.
    if process.returncode == -signal.SIGABRT:
        pytest.skip("an extension gave up while it was imported")
    assert process.returncode in (130, -signal.SIGINT)
    assert out == ""
    assert err == "recsys registry list: interrupted\n"


def test_the_commands_that_go_on_are_these():
    assert {command.name for command in COMMANDS if command.continues} == {
        "train",
        "tune",
        "compare",
        "analyze",
        "nightly",
        "run",
        "score",
        "sync",
        "registry prune",
    }


# Two at once


def test_a_sync_beside_a_sync_and_beside_a_run_says_so(mlflow_root, monkeypatch, capsys):
    with tracking.start_run(Workspace(), "exp", "busy") as tracker:
        tracker.sink.start_spooling()
        assert cli.main(["sync"]) == 0
        assert "0 events sent" in capsys.readouterr().out
        tracker.sink._spool.add("tags", {"stage": "late"})
        assert cli.main(["sync"]) == 5
        shown = capsys.readouterr()
        assert "1 events still wait: its run is still in progress" in shown.out
        assert shown.err == "recsys sync: 1 events still wait\n"
        with locked(mlflow_root / "mlruns" / "locks" / "sync.lock"):
            assert cli.main(["sync"]) == 5
        assert capsys.readouterr().err == "recsys sync: another sync is at work; wait for it to end\n"
    assert cli.main(["sync"]) == 0


# Promotions


@pytest.fixture
def versions(mlflow_root):
    """Three versions of `toy` without files, of which the last was promoted after the first two."""
    tracking.configure(Workspace())
    client().create_registered_model("toy")
    for number in (1, 2, 3):
        client().create_model_version("toy", f"mlflow-artifacts:/{number}")
        tracking.promote("toy", number, reason=f"reason {number}")


def holder():
    return int(client().get_model_version_by_alias("toy", "champion").version)


def test_two_rollbacks_go_back_two_steps_and_no_further(versions, capsys):
    assert [tracking.rollback("toy").version for _ in range(2)] == [2, 1]
    assert holder() == 1
    with pytest.raises(TrackingError, match="was the first champion"):
        tracking.rollback("toy")
    tags = [client().get_model_version("toy", str(number)).tags for number in (1, 2, 3)]
    assert ["champion_rolled_back" in of_one for of_one in tags] == [False, True, True]
    assert not [tag for tag in client().get_registered_model("toy").tags if tag.startswith("recsys.rollback")]


def test_a_rollback_that_was_killed_after_the_alias_moved_is_not_made_twice(versions, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(aliases, "_end_rollback", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main(["rollback", "toy"]) == 130
    assert holder() == 2
    capsys.readouterr()
    assert cli.main(["rollback", "toy"]) == 0
    assert capsys.readouterr().out == "models:/toy@champion is now version 2 (was version 3)\n"
    assert holder() == 2
    assert tracking.rollback("toy").version == 1  # another one, which is meant


def test_a_rollback_that_was_killed_before_the_alias_moved_is_made(versions, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            tracking.rollback("toy")
    assert holder() == 3
    assert tracking.rollback("toy").version == 2


def test_a_promotion_after_a_killed_rollback_is_rolled_back_as_any(versions, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(aliases, "_end_rollback", lambda *_: None)
        tracking.rollback("toy")
    tracking.promote("toy", 3)
    assert tracking.rollback("toy").version == 2
    assert holder() == 2


def test_a_note_is_written_once(versions, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    note = "### champion: kept\n\nbecause"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_model_version_tag", killed)
        with pytest.raises(KeyboardInterrupt):
            tracking.annotate("toy", 3, {"decision": "kept"}, note=note)
    tracking.annotate("toy", 3, {"decision": "kept"}, note=note)
    assert client().get_model_version("toy", "3").description == note
    tracking.annotate("toy", 3, {"decision": "kept"}, note="### champion: promoted\n\nafter all")
    assert client().get_model_version("toy", "3").description == f"{note}\n\n### champion: promoted\n\nafter all"
