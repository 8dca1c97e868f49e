"""A registered model behind MLflow's own server and command, in processes of their own, with pickle forbidden."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys import tracking
from recsys.errors import BundleError
from recsys.interactions import Interactions
from recsys.models import UAutoRec
from recsys.workspace import Workspace

URI = "models:/shop@champion"
FORBIDDEN = """
import json, pickle, sys, warnings
import cloudpickle, joblib, mlflow, pandas, torch

def refuse(*args, **options):
    raise AssertionError("something was unpickled")

for module, names in {
    pickle: ("load", "loads", "Unpickler"),
    cloudpickle: ("load", "loads"),
    joblib: ("load",),
    torch: ("load",),
}.items():
    for name in names:
        setattr(module, name, refuse)
sys.addaudithook(lambda event, args: refuse() if event == "pickle.find_class" else None)
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pandas.read_json(sys.stdin, dtype={"user_id": str})).to_json(orient="records"))
"""


def shop():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"user_id": rng.integers(100, 140, 500), "item_id": rng.integers(7, 37, 500)})
    return frame.drop_duplicates().assign(rating=lambda x: rng.integers(1, 6, len(x)).astype(float))


DATA = Interactions.from_frame(shop())
MODEL = UAutoRec(hidden=4, epochs=2, seed=0).fit(DATA, show_progress=False)


def records(n=4):
    """The histories of the first users as requests have them."""
    return [
        {
            "user_id": str(user),
            "items": [str(item) for item in DATA.items.ids(DATA.matrix[row].indices)],
            "ratings": DATA.matrix[row].data.tolist(),
        }
        for row, user in enumerate(DATA.users.ids(np.arange(n)))
    ]


def answer(histories, userid=-1, **options):
    """What `recommend` says, as an answer has it."""
    ids, scores = MODEL.recommend(userid, histories, **options)
    kept = ids >= 0
    return [str(item) for item in DATA.items.ids(ids[kept])], pytest.approx(scores[kept].tolist(), rel=1e-5)


@pytest.fixture(scope="module")
def store(tmp_path_factory, mlflow_template):
    """A root with the model under its alias, and the environment of those who use it."""
    root = tmp_path_factory.mktemp("serving")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    with tracking.start_run(Workspace(root), "logged"):
        tracking.log_model(MODEL, name="shop", examples=DATA)
    tracking.promote("shop", 1, alias="champion")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    uri = f"sqlite:///{(root / 'mlruns' / 'mlflow.db').as_posix()}"
    return root, {
        **variables,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # the server calls uvicorn by name
    }


@pytest.fixture(scope="module")
def processes(store, tmp_path_factory):
    """The server, the command and a loader without pickle, started at once: each takes seconds to import."""
    _, environment = store
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    request = folder / "request.json"
    request.write_text(json.dumps({"dataframe_records": records(), "params": {"n": 3}}))
    (folder / "records.json").write_text(json.dumps(records()))
    models = [sys.executable, "-m", "mlflow", "models"]
    commands = {
        "serve": [*models, "serve", "-m", URI, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)],
        "predict": [*models, "predict", "-m", URI, "--env-manager", "local", "-t", "json", "-i", str(request)],
        "load": [sys.executable, "-c", FORBIDDEN, URI],
    }
    with ExitStack() as files:
        logs = {name: files.enter_context((folder / f"{name}.log").open("w+")) for name in commands}
        started = {
            name: subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=files.enter_context((folder / "records.json").open()),
                stdout=subprocess.PIPE if name != "serve" else logs[name],
                stderr=logs[name],
                text=True,
                start_new_session=True,
            )
            for name, command in commands.items()
        }
        try:
            yield started, logs, f"http://127.0.0.1:{port}"
        finally:
            for process in started.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # the command and the server that it started
                process.communicate()


def output(processes, name):
    started, logs, _ = processes
    text, _ = started[name].communicate(timeout=120)
    logs[name].seek(0)
    assert started[name].returncode == 0, logs[name].read()
    return text


@pytest.fixture(scope="module")
def server(processes):
    """Sends a request to the server: its status and what it answers."""
    started, logs, place = processes
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{place}/ping", timeout=5).close()
            break
        except OSError:
            if started["serve"].poll() is not None or time.monotonic() > deadline:
                logs["serve"].seek(0)
                pytest.fail(f"the server did not start: {logs['serve'].read()}")
            time.sleep(0.1)

    def post(body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{place}/invocations", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return post


def predictions(server, rows, **params):
    status, body = server({"dataframe_records": rows, **({"params": params} if params else {})})
    assert status == 200, body
    return body["predictions"]


def test_the_server_gives_what_recommend_gives(server):
    histories = DATA.matrix[:4]
    for params, options in (
        ({}, {}),
        ({"n": 3}, {"N": 3}),
        ({"n": 500, "exclude_seen": False}, {"N": 30, "filter_already_liked_items": False}),
        ({"items": ["8", "9", "30"]}, {"items": DATA.items.codes([8, 9, 30])}),
    ):
        for row, got in enumerate(predictions(server, records(), **params)):
            assert list(got) == ["user_id", "items", "scores", "source"]
            assert got["user_id"] == records()[row]["user_id"]
            assert (got["items"], got["scores"]) == answer(histories[row], row, **options)


def test_unknown_users_and_items_are_served_from_what_is_known(server):
    known = records(1)[0]
    stranger = {**known, "user_id": "nobody"}
    more = {**known, "items": [*known["items"], "999", "no item"], "ratings": [*known["ratings"], 5, 1]}
    empty = {"user_id": "new", "items": [], "ratings": []}
    nothing_known = {"user_id": "new", "items": ["999"], "ratings": [3]}
    found = predictions(server, [known, stranger, more, empty, nothing_known])
    assert [row["source"] for row in found] == ["history"] * 3 + ["popularity"] * 2
    got = [(row["items"], row["scores"]) for row in found]
    assert got[0] == got[1] == got[2] == answer(DATA.matrix[0])
    assert got[3] == got[4] == answer(sp.csr_matrix((1, len(DATA.items)), dtype=np.float32))
    whole = {**known, "ratings": [int(value) for value in known["ratings"]]}  # as JSON has 5.0 from most languages
    assert predictions(server, [whole])[0]["items"] == got[0][0]
    (none,) = predictions(server, [known], items=["999"])
    assert none == {"user_id": known["user_id"], "items": [], "scores": [], "source": "history"}


GOOD = {"user_id": "100", "items": ["7", "8"], "ratings": [5.0, 3.0]}


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (without("items"), "inputs ['items']"),
        (without("user_id"), "inputs ['user_id']"),
        (without("ratings"), "inputs ['ratings']"),
        ({**without("items"), "item": ["7", "8"]}, "extra inputs: ['item']"),
        ({**GOOD, "user_id": 100}, "user_id must be text, integers written plainly such as '42', got 100"),
        ({**GOOD, "user_id": None}, "user_id must be text"),
        ({**GOOD, "items": [7, 8]}, "Can not safely convert int64"),
        ({**GOOD, "items": "7"}, "Expected data to be list"),
        ({**GOOD, "items": None}, "Expected data to be list"),
        ({**GOOD, "items": [["7"], ["8"]]}, "column items"),
        ({**GOOD, "items": {"7": 5.0}}, "Expected data to be list"),
        ({**GOOD, "ratings": [5.0]}, "each row must hold as many ratings as items"),
        ({**GOOD, "ratings": None}, "each row must hold as many ratings as items"),
        ({**GOOD, "ratings": 5.0}, "Expected data to be list"),
        ({**GOOD, "ratings": [5.0, float("nan")]}, "ratings must be finite numbers, got nan"),
        ({**GOOD, "ratings": [5.0, 1e300]}, "ratings must be finite numbers, got 1e+300"),
        ({**GOOD, "ratings": ["5", "3"]}, "ratings must be finite numbers, got '5'"),
        ({**GOOD, "ratings": [5.0, None]}, "ratings must be finite numbers, got"),
        ({**GOOD, "ratings": [[5.0], [3.0]]}, "ratings must be finite numbers, got [5.0]"),
    ],
    ids=str,
)
def test_a_malformed_history_is_refused_with_the_reason(server, row, reason):
    status, body = server({"dataframe_records": [GOOD, row] if set(row) == set(GOOD) else [row]})
    assert status == 400
    assert reason in body["message"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"n": -1}, "n must be a whole number of at least 1, got -1"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"n": None}, "n must be a whole number of at least 1, got None"),
        ({"n": "3"}, "'n'"),
        ({"n": 2.5}, "'n'"),
        ({"exclude_seen": "no"}, "'exclude_seen'"),
        ({"exclude_seen": None}, "exclude_seen must be true or false, got None"),
        ({"items": "7"}, "'items'"),
        ({"items": [7]}, "'items'"),
        ({"items": [None]}, "the parameter items must be text"),
        ([3], "Parameters must be a dictionary"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_with_the_reason(server, params, reason):
    status, body = server({"dataframe_records": [GOOD], "params": params})
    assert status == 400
    assert reason in body["message"]


@pytest.mark.parametrize("body", [b"", b"{", [1], {"rows": [GOOD]}, {"dataframe_records": []}], ids=str)
def test_what_is_no_request_is_refused(server, body):
    status, answered = server(body)
    assert status == 400
    assert answered["message"]
    assert server({"dataframe_records": [GOOD]})[0] == 200  # and the server goes on


def test_the_command_predicts_from_the_registry(processes):
    found = json.loads(output(processes, "predict").splitlines()[-1])["predictions"]
    assert [row["user_id"] for row in found] == [row["user_id"] for row in records()]
    for row, got in enumerate(found):
        assert (got["items"], got["scores"]) == answer(DATA.matrix[row], N=3)


def test_nothing_is_unpickled_to_load_and_to_predict(processes):
    found = json.loads(output(processes, "load").splitlines()[-1])
    assert [row["items"] for row in found] == [answer(DATA.matrix[row])[0] for row in range(4)]


# What was put into a logged model's folder


@pytest.fixture
def folder(store, tmp_path):
    """A copy of the logged model's folder."""
    tracking.configure(Workspace(store[0]))
    copied = tmp_path / "model"
    shutil.copytree(tracking.resolve("models:/shop/1").parents[1], copied)
    return copied


def load_pyfunc(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return mlflow.pyfunc.load_model(str(folder))


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python_model.pkl", "holds python_model.pkl: models are logged without pickles"),
        ("artifacts/bundle/weights.pkl", "holds weights.pkl, which its config.json does not list"),
        ("artifacts/bundle/weights.safetensors", "weights.safetensors does not match its recorded checksum"),
        ("artifacts/bundle/config.json", "config.json cannot be read"),
    ],
)
def test_a_pickle_in_a_logged_model_is_refused_and_never_executed(folder, tmp_path, monkeypatch, name, message):
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    for load in (tracking.load, lambda path: load_pyfunc(path, monkeypatch)):
        with pytest.raises((BundleError, mlflow.MlflowException), match=message):
            load(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_description_that_names_a_pickle_is_refused_by_mlflow_where_pickle_is_forbidden(
    folder, tmp_path, monkeypatch
):
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    description = folder / "MLmodel"
    lines = description.read_text().splitlines()
    changed = ["    python_model: python_model.pkl" if "model_code_path:" in line else line for line in lines]
    assert changed != lines
    description.write_text("\n".join(changed))
    with pytest.raises(mlflow.MlflowException, match="using pickle is disallowed"):
        load_pyfunc(folder, monkeypatch)
    assert not (tmp_path / "executed").exists()
