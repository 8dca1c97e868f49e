"""A search and a comparison that are killed and started again end as undisturbed ones: trials, winner, table and runs.

A process forks a child for each command. The child kills itself right before or after a change on disk (a commit to
the database of runs, a file that is written or removed), or is killed after some time.
"""

import functools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter

import pytest

FORKER = '''
import json, os, signal, sys, time
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store, optuna, tomli_w
import sqlalchemy.engine.default

import recsys.models.variational, recsys.models.linear
from recsys.cli import main
from recsys.jobs import compare, tune
from recsys.tuning import search


def kill_at(chosen, changes):
    """Count changes on disk; kill this process before the change of that number, or after it where it is odd."""

    def counting(owner, name):
        change = getattr(owner, name)

        def counted(*arguments, **options):
            changes.append(name)
            if 2 * len(changes) - 2 == chosen:
                os.kill(os.getpid(), signal.SIGKILL)
            number = len(changes)
            result = change(*arguments, **options)
            if 2 * number - 1 == chosen:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)

    counting(os, "replace")
    counting(Path, "unlink")
    counting(sqlalchemy.engine.default.DefaultDialect, "do_commit")


def child(command, chosen, told):
    changes = []
    kill_at(chosen, changes)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)
    status = main(command)
    sys.stdout.flush()
    os.write(told, json.dumps(len(changes)).encode())
    os._exit(status)


print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    os.chdir(order["root"])
    read, write = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(order["command"], order["change"], write)
    os.close(write)
    if order["seconds"] is not None:
        time.sleep(order["seconds"])
        os.kill(pid, signal.SIGKILL)  # it has not been waited for, so the number is still its own
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = os.read(read, 100)
    os.close(read)
    print("told " + json.dumps([status, json.loads(told or b"0"), time.monotonic() - began]), flush=True)
'''

SECTIONS = """
[data]
name = "synthetic"
users = 60
items = 30
interactions = 900
binary = true
[split]
kind = "hold_out_ratings"
[evaluate]
metrics = ["ndcg@10"]
"""
NETWORK = """
[model]
name = "MultVAE"
hidden = 4
latent = 2
epochs = 5
batch_size = 60
[tune]
trials = 7
[tune.space]
learning_rate = {low = 1e-4, high = 1e-1, log = true}
dropout = [0.0, 0.5]
"""
LINEAR = """
[model]
name = "EASE"
[tune]
trials = 3
[tune.space]
regularization = {low = 1.0, high = 1000.0, log = true}
"""


class Forker:
    """A process with everything imported, which forks a child for each command."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listen("ready")

    def __call__(self, root, command, *, change=None, seconds=None):
        """Return the exit status, and the number of changes and of seconds, of a command that may be killed."""
        order = {"root": str(root), "command": [*command, "--quiet"], "change": change, "seconds": seconds}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self._listen("told"))

    def _listen(self, word):
        patience = threading.Timer(600, self.process.kill)
        patience.start()
        try:
            for line in self.process.stdout:
                if line.startswith(word):
                    return line[len(word) :].strip()
        finally:
            patience.cancel()
        raise AssertionError(f"the process ended or hung: {self.process.wait()}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def fork():
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def new_root(tmp_path_factory, mlflow_template):
    """A function that makes a folder with an empty MLflow home and the configurations."""

    def made():
        root = tmp_path_factory.mktemp("killed")
        shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
        (root / "network.toml").write_text(SECTIONS + NETWORK)
        (root / "linear.toml").write_text(SECTIONS + LINEAR)
        (root / "popular.toml").write_text(SECTIONS + '[model]\nname = "Popularity"\n')
        return root

    return made


TUNE = ("tune", "network.toml", "--output", "best.toml")
TUNE_LINEAR = ("tune", "linear.toml", "--output", "best.toml")
COMPARE = ("compare", "linear.toml", "network.toml", "popular.toml", "--output", "out", "--trials", "3")


def trials(root):
    """The trials of all searches, without what depends on the clock."""
    found = {}
    for file in sorted((root / "mlruns" / "studies").glob("[!.]*.json")):
        found[file.name] = json.loads(file.read_text())["trials"]
        for trial in found[file.name]:
            assert trial.pop("seconds") > 0
    assert not list((root / "mlruns" / "studies").glob("*.damaged*"))
    return found


def written(root):
    """The files that the commands wrote for their users, by name."""
    files = [root / "best.toml", root / "out" / "table.csv", root / "out" / "pairs.csv", root / "out" / "table.md"]
    files += sorted((root / "out" / "models").glob("*/best.toml"))
    texts = {str(file.relative_to(root)): file.read_text() for file in files if file.exists()}
    return {name: re.sub(r"\| \d+ s (?=\|)", "| TIME ", text) for name, text in texts.items()}


def runs(root):
    """The runs as (name, name of the parent, status, parameters, series without what depends on the clock).

    Left out is a run that nothing was ever reported to: its process was killed when the store had created it and the
    file that names it was not written yet. Figures of a whole run count once.
    """
    database = sqlite3.connect(root / "mlruns" / "mlflow.db")
    told = database.execute("select run_uuid, name, status from runs")
    facts = {run: (re.sub(r", \d{4}-\d\d-\d\d \d\d:\d\d", "", name), status) for run, name, status in told}
    parents, series = {}, {run: [] for run in facts}
    for run, key, value in database.execute("select run_uuid, key, value from params order by key"):
        series[run].append((key, value))
    for run, value in database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'"):
        parents[run] = facts[value][0]
    for run, key, step, value in database.execute("select run_uuid, key, step, value from metrics"):
        point = (key, step, value)
        if not key.endswith("seconds") and (step > 0 or point not in series[run]):
            series[run].append(point)
    database.close()
    found = [
        (name, parents.get(run), status, sorted(map(repr, series[run])))
        for run, (name, status) in facts.items()
        if status != "RUNNING" or series[run]
    ]
    return sorted(found)


def searched(found):
    """The runs of searches and of the comparison, without those of trainings, which continue on their own terms."""
    return [run for run in found if run[0].startswith(("trial ", "tune ", "compare "))]


def end(fork, root, command):
    status, changes, seconds = fork(root, command)
    assert status == 0, (root / "log.txt").read_text()
    return changes, seconds


def killed(fork, root, command, **when):
    """Kill a command; return whether its own run was still open: the same command after that is another run."""
    status, *_ = fork(root, command, **when)
    assert status in (0, -signal.SIGKILL), (root / "log.txt").read_text()
    over = any(run[0].startswith(f"{command[0]} ") and run[1:3] == (None, "FINISHED") for run in runs(root))
    return not over or any((root / "mlruns" / "checkpoints").glob("[!.]*.json"))


class Undisturbed:
    """What a command leaves that nobody kills."""

    def __init__(self, fork, root, command):
        self.command = command
        self.changes, self.seconds = end(fork, root, command)
        self.trials, self.written, self.runs = trials(root), written(root), runs(root)

    def check(self, root, where):
        assert trials(root) == self.trials, where
        assert written(root) == self.written, where
        assert searched(runs(root)) == searched(self.runs), where
        finished = [{run[0] for run in found if run[2] == "FINISHED"} for found in (runs(root), self.runs)]
        assert finished[0] == finished[1], where


@pytest.fixture(scope="module")
def undisturbed(fork, new_root):
    """What a command leaves that nobody kills, by the command."""
    return functools.cache(lambda command: Undisturbed(fork, new_root(), command))


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_a_search_killed_once_ends_as_if_it_had_not_been(fork, new_root, undisturbed, share):
    expected, root = undisturbed(TUNE_LINEAR), new_root()
    assert killed(fork, root, TUNE_LINEAR, change=int(share * 2 * expected.changes))
    end(fork, root, TUNE_LINEAR)
    expected.check(root, share)


def test_a_search_that_has_ended_removes_the_locks_of_one_that_was_killed_at_the_end(fork, new_root):
    root = new_root()
    end(fork, root, TUNE_LINEAR)
    names = f"checkpoints/{'0' * 32}.json.lock", "studies/EASE-0123456789abcdef01234567.lock"
    for name in names:
        (root / "mlruns" / name).write_text("recsys lock\n")
    theirs = root / "mlruns" / "studies" / "mine.lock"
    theirs.write_text("something else")
    end(fork, root, TUNE_LINEAR)
    assert not any((root / "mlruns" / name).exists() for name in names)
    assert theirs.read_text() == "something else"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "step"), [(TUNE_LINEAR, 1), (TUNE, 9), (COMPARE, 23)], ids=["tune", "tune with pruning", "compare"]
)
def test_a_command_killed_at_any_change_on_disk_ends_as_if_it_had_not_been(fork, new_root, undisturbed, command, step):
    expected = undisturbed(command)
    for change in range(step // 2, 2 * expected.changes, step):
        root = new_root()
        if killed(fork, root, command, change=change):
            end(fork, root, command)
            expected.check(root, change)
        shutil.rmtree(root)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "kills"), [(TUNE, 20), (COMPARE, 8)], ids=["tune", "compare"])
def test_kills_from_outside_change_nothing(fork, new_root, undisturbed, command, kills):
    expected = undisturbed(command)
    for number in range(kills):
        root = new_root()
        if killed(fork, root, command, seconds=expected.seconds * (number + 0.5) / kills):
            end(fork, root, command)
            expected.check(root, number)
        shutil.rmtree(root)


@pytest.mark.slow
def test_a_search_killed_again_and_again_ends(fork, new_root, undisturbed):
    expected, root, kills = undisturbed(TUNE), new_root(), 0
    while killed(fork, root, TUNE, seconds=expected.seconds * (0.3 + 0.02 * kills)):
        kills += 1
    expected.check(root, kills)
    assert kills >= 3


@pytest.mark.slow
def test_the_undisturbed_search_prunes_and_completes(undisturbed):
    (found,) = undisturbed(TUNE).trials.values()
    states = [trial["state"] for trial in found]
    assert {"complete", "pruned"} == set(states)
    statuses = [run[2] for run in undisturbed(TUNE).runs if run[0].startswith("trial")]
    assert Counter(statuses) == {"FINISHED": states.count("complete"), "FAILED": states.count("pruned")}
