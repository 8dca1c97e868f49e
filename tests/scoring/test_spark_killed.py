"""Scoring on a cluster of Spark whose executor or driver is killed: complete, equal, nothing half-written to be seen.

The clusters are Spark's own `local-cluster` and a standalone master with two workers, all on this machine. Executors
are killed when they shuffle, when they score, and when they write; the driver when parts are written, and called again.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.files import MANIFEST
from recsys.interactions import Interactions
from recsys.models import ALS, EASE
from recsys.scoring import recommend_frame
from tests.scoring.test_spark import pytestmark as marks_of_spark
from tests.scoring.test_spark import read, stored, submit_args
from tests.scoring.worlds import assert_same_lists

pytestmark = [
    *marks_of_spark,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.filterwarnings("ignore:.*was trained on:recsys.errors.DataWarning"),
]
SECONDS = 400
JOB = """
import sys
from recsys.scoring import score_spark
from recsys.scoring.spark_session import session
if __name__ == "__main__":
    with session(sys.argv[1]) as spark:
        print("rows", score_spark(spark, *sys.argv[2:5], partitions=40).rows)
"""


def children(pid):
    """All descendants of a process, with their command lines."""
    found, waiting = {}, [pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*"):
            try:
                below = [int(child) for child in (task / "children").read_text().split()]
                found |= {child: Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ") for child in below}
            except OSError:
                continue
            waiting += below
    return found


def executors(roots):
    """Executors among the descendants of processes, those first that have workers of Python."""
    found = [pid for root in roots for pid, line in children(root).items() if b"CoarseGrainedExecutorBackend" in line]
    return sorted(found, key=lambda pid: not daemons(pid))


def daemons(pid):
    return [child for child, line in children(pid).items() if b"pyspark" in line and b"daemon" in line]


@contextmanager
def process(arguments, folder, environment):
    """A process, and the text that it has printed when it has ended."""
    told = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        list(map(str, arguments)), cwd=folder, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as started:
        printed = []
        reader = threading.Thread(target=lambda: printed.append(started.stdout.read()))
        reader.start()
        try:
            yield started, printed
        finally:
            for pid in (*children(started.pid), started.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            started.wait()
            reader.join()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=["local-cluster", "standalone"])
def cluster(request, tmp_path):
    """The URL of a cluster with two executors, and the processes below which they run, besides the driver."""
    if request.param == "local-cluster":
        yield "local-cluster[2,1,1024]", []
        return
    import pyspark

    port, spark_class = free_port(), Path(pyspark.__path__[0]) / "bin" / "spark-class"
    deploy = [spark_class, "org.apache.spark.deploy.master.Master"]
    own = {"SPARK_LOCAL_DIRS": str(tmp_path / "local"), "PYSPARK_PYTHON": sys.executable, "SPARK_NO_DAEMONIZE": "1"}
    with ExitStack() as running:
        master = [*deploy, "--host", "127.0.0.1", "--port", port, "--webui-port", free_port()]
        running.enter_context(process(master, tmp_path, own))
        wait_for_port(port)
        workers = []
        for number in range(2):
            folder = tmp_path / f"worker-{number}"
            worker = [spark_class, "org.apache.spark.deploy.worker.Worker", f"spark://127.0.0.1:{port}"]
            worker += ["--host", "127.0.0.1", "--cores", 1, "--memory", "1g", "--work-dir", folder]
            worker += ["--webui-port", free_port()]
            workers.append(running.enter_context(process(worker, tmp_path, own))[0].pid)
        yield f"spark://127.0.0.1:{port}", workers


def wait_for_port(port):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the master of Spark does not listen")


def reached(step, folder, roots):
    """Return whether the job is at the step; its output is `folder / "out"`."""
    if step == "shuffle":
        return any(folder.glob("local/**/shuffle_*.data")) and not any(
            folder.glob(".out.recsys-*/lists/_temporary/0/*")
        )
    if step == "scoring":
        began = any(folder.glob(".out.recsys-*/lists/_temporary/0/_temporary/*"))
        return began and any(daemons(pid) for pid in executors(roots))
    return any(folder.glob(".out.recsys-*/lists/_temporary/0/task_*"))


def run(folder, master, roots, victim=None, step="", bundle="bundle"):
    """Run the job, kill `executor` or `driver` at the step, and return the code, the text and who was killed."""
    options = {"spark.local.dir": folder / "local", "spark.cores.max": 2, "spark.executor.memory": "512m"}
    environment = {"PYSPARK_SUBMIT_ARGS": submit_args(**options), "SPARK_LOCAL_DIRS": str(folder / "local")}
    arguments = [sys.executable, folder / "job.py", master, folder / bundle, folder / "table.parquet", folder / "out"]
    killed, until = None, time.monotonic() + SECONDS
    with process(arguments, folder, environment) as (job, printed):
        while job.poll() is None and time.monotonic() < until:
            below = [job.pid, *roots]
            if victim and not killed and reached(step, folder, below):
                assert not (folder / "out").exists()
                killed = job.pid if victim == "driver" else next(iter(executors(below)), None)
                if killed:
                    os.kill(killed, signal.SIGKILL)
            time.sleep(0.02)
    return job.returncode, printed[0], killed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A table of 40,000 users, two saved models, and their lists by the local job."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    users = np.repeat(np.arange(40_000), 6)
    frame = pd.DataFrame({"user_id": users, "item_id": rng.integers(0, 90, len(users))}).drop_duplicates()
    stored(frame, folder)
    data, lists = Interactions.from_frame(frame), {}
    some = data.take_users(np.arange(500))
    for model in (ALS(factors=8, iterations=2), EASE()):
        model.fit(some, show_progress=False)
        model.save(folder / type(model).__name__)
        lists[type(model).__name__] = recommend_frame(model, data)
    return folder, lists


@pytest.fixture
def place(world, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "table.parquet").symlink_to(world[0] / "table.parquet")
    for name in world[1]:
        (tmp_path / name).symlink_to(world[0] / name)
    (tmp_path / "local").mkdir()
    return tmp_path


def check(folder, wanted):
    """The lists are complete and equal, and nothing else is there."""
    got = read(folder / "out")
    assert not got.duplicated(["user_id", "item_id"]).any()
    assert_same_lists(got, wanted)
    assert json.loads((folder / "out" / MANIFEST).read_text())["rows"] == len(wanted)
    assert not list(folder.glob(".out*"))


@pytest.mark.parametrize("step", ["shuffle", "scoring", "write"])
def test_a_killed_executor_costs_neither_rows_nor_duplicates(step, cluster, place, world):
    master, workers = cluster
    code, text, killed = run(place, master, workers, "executor", step, "ALS")
    assert code == 0, text[-3000:]
    assert killed
    check(place, world[1]["ALS"])


def test_a_killed_driver_leaves_nothing_to_be_seen_and_the_same_call_ends_whole(cluster, place, world):
    master, workers = cluster
    code, text, killed = run(place, master, workers, "driver", "write", "EASE")
    assert code == -signal.SIGKILL, text[-3000:]
    assert killed
    assert not (place / "out").exists()
    code, text, _ = run(place, master, workers, bundle="EASE")
    assert code == 0, text[-3000:]
    check(place, world[1]["EASE"])
