"""Commands whose server is dead, silent or broken: one line that names it, soon, and nothing left behind."""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

import recsys
from recsys import cli
from tests.places import CONFIG, untouched
from tests.servers import free_port

postgres = pytest.mark.skipif(find_spec("psycopg2") is None, reason="psycopg2 is not installed")
COMMANDS = {
    "list": ["registry", "list"],
    "score": ["score", "models:/toy@champion", "--output", "lists"],
    "promote": ["promote", "toy"],
    "dry": ["promote", "toy", "--dry-run"],
    "rollback": ["rollback", "toy"],
    "nightly": ["nightly", "toy.toml", "--quiet"],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder without a store, which is the working directory."""
    (tmp_path / "toy.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def silent():
    """The port of a server that takes connections and never answers."""
    server, taken = socket.create_server(("127.0.0.1", 0)), []

    def take():
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in taken:
        connection.close()


@pytest.fixture
def broken():
    """The port of a server that answers everything with 500."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b"<html>\nIt is broken\n</html>")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def refused(monkeypatch, capsys, uri, words, seconds):
    """Call a command with a server; return its one line, which names the server and came in time."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before, began = dict(os.environ), time.monotonic()
    assert cli.main(words) == 5
    assert time.monotonic() - began < seconds
    assert dict(os.environ) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert uri.rpartition("@")[2].removeprefix("http://").partition("/")[0] in lines[0], lines
    assert "secret" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_port_that_refuses(project, monkeypatch, capsys, name):
    line = refused(monkeypatch, capsys, f"http://127.0.0.1:{free_port()}", COMMANDS[name], 15)
    assert "does not answer" in line
    assert not (project / "lists").exists()


@pytest.mark.parametrize("name", ["score", "rollback", "nightly"])
def test_a_server_that_is_silent(project, monkeypatch, capsys, silent, name):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    refused(monkeypatch, capsys, f"http://127.0.0.1:{silent}", COMMANDS[name], 15)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_server_that_is_silent_is_left_within_half_a_minute(project, monkeypatch, capsys, silent, name):
    refused(monkeypatch, capsys, f"http://127.0.0.1:{silent}", COMMANDS[name], 30)


@pytest.mark.parametrize("name", ["list", "score", "promote", "nightly"])
def test_a_server_that_is_broken(project, monkeypatch, capsys, broken, name):
    line = refused(monkeypatch, capsys, f"http://127.0.0.1:{broken}", COMMANDS[name], 15)
    assert "500" in line


@postgres
@pytest.mark.parametrize("name", ["list", "score", "nightly"])
def test_a_database_that_refuses(project, monkeypatch, capsys, name):
    uri = f"postgresql+psycopg2://me:secret@127.0.0.1:{free_port()}/runs"
    assert "does not answer" in refused(monkeypatch, capsys, uri, COMMANDS[name], 15)


@postgres
@pytest.mark.parametrize("name", ["list", pytest.param("nightly", marks=pytest.mark.slow)])
def test_a_database_that_is_silent(project, monkeypatch, capsys, silent, name):
    if name == "list":
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    uri = f"postgresql+psycopg2://me:secret@127.0.0.1:{silent}/runs"
    refused(monkeypatch, capsys, uri, COMMANDS[name], 30)


def test_a_night_without_its_server_leaves_a_summary_that_says_so(project, monkeypatch, capsys):
    line = refused(monkeypatch, capsys, f"http://127.0.0.1:{free_port()}", COMMANDS["nightly"], 15)
    (summary,) = (project / "mlruns" / "nightly").iterdir()
    assert '"failed"' in summary.read_text()
    assert line.startswith("recsys nightly: ")


def test_a_model_in_a_folder_needs_no_server(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    recsys.Popularity().fit(recsys.datasets.synthetic(50, 20, 400)).save(project / "model")
    with untouched(project / "model"):
        assert recsys.load(project / "model").params() == {}
