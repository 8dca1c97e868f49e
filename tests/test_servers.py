"""Stores on servers, MLflow's over HTTP and PostgreSQL: what jobs do there, also if the server goes and comes back."""

import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from recsys import cli, tracking
from recsys.errors import TrackingError
from recsys.interactions import Interactions
from recsys.jobs import registry, train
from recsys.models import EASE
from recsys.tracking import model_files
from recsys.tracking.outbox import Outbox
from recsys.workspace import Workspace
from tests.servers import Database, MlflowServer, PostgresServer, no_postgres

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(sys.platform == "win32", reason="process groups are killed in another way there"),
]

DATA = """
[data]
name = "synthetic"
users = 120
items = 60
interactions = 3000
min_rating = 3.0
binary = true
[split]
kind = "hold_out_users"
n_users = 20
[evaluate]
metrics = ["ndcg@10"]
[track]
register = "night"
"""
NETWORK = """
[model]
name = "MultVAE"
hidden = 16
latent = 8
epochs = 6
batch_size = 40
"""
LINEAR = """
[model]
name = "EASE"
"""


@pytest.fixture(scope="module")
def postgres_server(tmp_path_factory):
    """A PostgreSQL server, and the URI of a database with MLflow's tables."""
    if reason := no_postgres():
        pytest.skip(reason)
    server = PostgresServer()
    try:
        server.start()
        uri = server.database()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            tracking.configure(Workspace(tmp_path_factory.mktemp("template")))
        yield server, uri
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_server, tmp_path, monkeypatch):
    """A fresh database of it, the store of the working folder."""
    server, template = postgres_server
    if server.process is None:
        server.start()
    database = Database(server, server.database(template))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database.uri)
    return database


@pytest.fixture
def http(tmp_path, mlflow_template, monkeypatch):
    """An MLflow server, the store of the working folder."""
    server = MlflowServer(tmp_path / "server", mlflow_template)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def no_pages(monkeypatch):
    """Reports and figures take longer than the trainings of these tests."""
    monkeypatch.setattr(train.report, "page", lambda *_, **__: "page")
    monkeypatch.setattr(tracking.Tracker, "log_figure", lambda *_: None)


def client():
    return mlflow.MlflowClient()


def steps(run_id, name="loss"):
    return [point.step for point in client().get_metric_history(run_id, name)]


def epoch(tracker, number):
    tracker.log_epoch({"epoch": number, "loss": 1 / number, "ndcg@10": number / 10})
    tracker.sink._metrics_due = 0.0


@pytest.mark.parametrize("kind", ["http", "postgres"])
def test_a_server_killed_in_mid_training_knows_everything_once_after_sync(
    kind, request, tmp_path, no_pages, monkeypatch, capsys
):
    server = request.getfixturevalue(kind)
    Path("job.toml").write_text(DATA + NETWORK)
    log = tracking.Tracker.log_epoch

    def log_epoch(self, entry):
        log(self, entry)
        self.sink._metrics_due = 0.0
        if entry["epoch"] == 3:
            server.kill()

    monkeypatch.setattr(tracking.Tracker, "log_epoch", log_epoch)
    assert cli.main(["train", "job.toml", "--quiet", "--force"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "View run" not in out
    assert "not registered yet" in out
    assert "recsys sync" in out
    with tracking.start_run(Workspace(), "recsys", "offline") as tracker:  # down at its start
        epoch(tracker, 1)
        tracker.log_text("hello", "report.html")
    assert len(list((tmp_path / "mlruns" / "pending").glob("*/run.json"))) == 2
    capsys.readouterr()
    assert cli.main(["sync"]) == 5
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert ("cannot open" if kind == "http" else "does not answer") in err

    server.start()
    assert cli.main(["sync"]) == 0
    assert "models:/night/1" in capsys.readouterr().out
    experiment = client().get_experiment_by_name("recsys").experiment_id
    runs = {run.info.run_name.split(" ")[0]: run for run in client().search_runs([experiment])}  # MODEL on DATA, time
    assert runs.keys() == {"MultVAE", "offline"}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        for name in run.data.metrics:
            points = client().get_metric_history(run.info.run_id, name)
            assert max(Counter(point.step for point in points).values()) == 1, name
        assert "report.html" in {file.path for file in client().list_artifacts(run.info.run_id)}
    assert sorted(steps(runs["MultVAE"].info.run_id)) == [1, 2, 3, 4, 5, 6]
    assert len(runs["MultVAE"].inputs.dataset_inputs) == 4
    (version,) = tracking.model_versions("night")
    assert version.run_id == runs["MultVAE"].info.run_id
    assert cli.main(["sync"]) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_postgresql_may_go_and_come_back(postgres, monkeypatch):
    monkeypatch.setattr(Outbox, "back_off", lambda *_: None)
    with tracking.start_run(Workspace(), "exp", "first") as first:
        epoch(first, 1)
        postgres.kill()
        epoch(first, 2)
        assert first.waiting
        postgres.start()
        epoch(first, 3)
        postgres.kill()
        first.log_params({"seed": 3})
    with tracking.start_run(Workspace(), "exp", "second") as second:
        epoch(second, 1)
    text = "".join(path.read_text() for path in Path("mlruns/pending").rglob("*.json"))
    assert "secret" not in text
    with pytest.raises(TrackingError, match="does not answer"):
        tracking.sync(Workspace())
    postgres.start()
    assert [done.waiting for done in tracking.sync(Workspace())] == [0, 0]
    assert steps(first.run_id) == [1, 2, 3]
    run = client().get_run(first.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"seed": "3"})
    (late,) = client().search_runs(["1"], "attributes.run_name = 'second'")
    assert steps(late.info.run_id) == [1]


def test_the_life_of_a_model_on_postgresql(postgres, tmp_path, no_pages, capsys):
    Path("job.toml").write_text(DATA + LINEAR)
    for regularization in (50, 60, 70, 80):
        assert cli.main(["train", "job.toml", "--quiet", "--set", f"model.regularization={regularization}"]) == 0
    assert [version.version for version in tracking.model_versions("night")] == [4, 3, 2, 1]
    for number in (2, 3):
        assert cli.main(["promote", "night", "--version", str(number), "--reason", "trial"]) == 0
    assert cli.main(["rollback", "night"]) == 0
    assert tracking.pin("models:/night@champion") == "models:/night/2"
    folder = Path(tracking.resolve("models:/night/1")).parents[1]
    assert tmp_path in folder.parents
    left = Path(tracking.resolve("models:/night/2"))
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    capsys.readouterr()
    assert cli.main(["registry", "prune", "night", "--keep", "1", "--yes"]) == 0
    out = capsys.readouterr().out
    assert f"deleted models:/night/1, {freed / 1e6:.1f} MB" in out
    assert "deleted models:/night/3, " in out
    assert not folder.exists()
    assert [version.version for version in tracking.model_versions("night")] == [4, 2]
    assert tracking.resolve("models:/night@champion") == left
    assert cli.main(["evaluate", "models:/night@champion"]) == 0
    assert "ndcg@10" in capsys.readouterr().out
    run = client().search_runs(["1"], "params.`model.regularization` = '50.0'")[0]
    with pytest.raises(TrackingError, match="was deleted"):
        tracking.load(f"runs:/{run.info.run_id}/model")


def test_a_prune_through_a_server_removes_the_files_there(http, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": rng.integers(100, 140, 400), "item_id": rng.integers(7, 37, 400)})
    data = Interactions.from_frame(frame.drop_duplicates())
    model = EASE(regularization=5.0).fit(data, show_progress=False)

    def add(experiment="exp"):
        with tracking.start_run(Workspace(), experiment):
            tracking.log_model(model, name="night", examples=data)
        version = tracking.model_versions("night")[0].version
        return Path(client().get_model_version_download_uri("night", str(version)).partition(":")[2].lstrip("/"))

    def files(folder):
        return {path for path in (http.folder / "artifacts").rglob("*") if folder in path.parents and path.is_file()}

    first, second, _ = (http.folder / "artifacts" / add() for _ in range(3))
    size = sum(path.stat().st_size for path in files(first))
    (second / "notes.txt").write_text("mine")
    assert registry.prune(Workspace(), "night", keep=1) == [1]
    assert f"would delete models:/night/1, {size / 1e6:.1f} MB" in capsys.readouterr().out
    assert len(files(first)) > 10
    with pytest.raises(TrackingError, match=r"models:/night/2 stays: mlflow-artifacts:.*notes.txt is not a file that"):
        registry.prune(Workspace(), "night", keep=1, delete=True)
    assert f"deleted models:/night/1, {size / 1e6:.1f} MB" in capsys.readouterr().out
    assert not files(first)
    assert len(files(second)) > 10
    (second / "notes.txt").unlink()

    kept = model_files.ArtifactRepository.delete_artifacts
    with monkeypatch.context() as patch:  # as repositories are that do not know how
        repository = model_files.artifact_repository("mlflow-artifacts:/1/models")
        owner = next(cls for cls in type(repository).__mro__ if "delete_artifacts" in vars(cls))
        patch.setattr(owner, "delete_artifacts", kept)
        assert registry.prune(Workspace(), "night", keep=1, delete=True) == [2]
    assert "the server keeps them until `mlflow gc` runs there" in capsys.readouterr().out
    assert files(second)
    assert len(client().search_logged_models(["1"])) == 1

    # A server that leaves files to its clients: a path of this machine may not be the server's.
    client().create_experiment("direct", artifact_location=(tmp_path / "direct").as_uri())
    add("direct")
    add()
    registry.prune(Workspace(), "night", keep=1, delete=True)
    assert "models:/night/4; its files stay: the server keeps them" in capsys.readouterr().out
    assert list((tmp_path / "direct").rglob("MLmodel"))


class Slow(BaseHTTPRequestHandler):
    """Passes requests on to a server after `delay` seconds, and notes them in `asked`."""

    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        time.sleep(self.server.delay)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length")
        }
        connection = HTTPConnection("127.0.0.1", self.server.behind)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

    def log_message(self, *_):
        pass


def trained_in(root, *options):
    """Train EASE by the command; return the seconds that it took."""
    (root / "job.toml").write_text(
        """[data]
name = "synthetic"
[model]
name = "EASE"
[split]
kind = "hold_out_users"
n_users = 0.1
[track]
register = "toy"
"""
    )
    began = time.monotonic()
    command = [sys.executable, "-m", "recsys", "train", "job.toml", "--quiet", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "models:/toy/1" in done.stdout
    return time.monotonic() - began


@pytest.fixture
def slow(http, monkeypatch):
    """A server that passes requests on to MLflow's; they take `delay` seconds more."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.behind, server.delay, server.asked = http.port, 0.0, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    server.server_close()


def test_a_training_asks_a_server_for_little(slow, tmp_path):
    trained_in(tmp_path)
    assert len(slow.asked) <= 45


@pytest.mark.slow
def test_a_short_training_is_not_held_up_tenfold_by_a_slow_server(slow, tmp_path, monkeypatch):
    slow.delay = 1.5
    seconds = trained_in(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert seconds < 10 * trained_in(tmp_path)
