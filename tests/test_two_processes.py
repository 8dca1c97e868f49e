"""Two processes change one registry at the same time: no half-registered version, no lost alias, no wrong tag.

Each process waits for the other before the MLflow call that decides a race. If a lock keeps the other out, the waiting
one continues after a second.
"""

import json
import os
import shutil
import subprocess
import sys
import threading

import pandas as pd
import pytest

from recsys import tracking
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.workspace import Workspace

WORKER = '''
import json, sys, time, warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from recsys import tracking
from recsys.errors import TrackingError
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.tracking._mlflow import MlflowClient
from recsys.workspace import Workspace

root, me = Path(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
frame = pd.DataFrame({"user_id": rng.integers(100, 140, 400), "item_id": rng.integers(7, 37, 400)})
data = Interactions.from_frame(frame.drop_duplicates())


def meet(place, seconds):
    """Wait for the other process, if it comes, and leave after it if this is the first."""
    (root / f"{place}.{me}").touch()
    until = time.monotonic() + seconds
    while len(list(root.glob(f"{place}.*"))) < 2 and time.monotonic() < until:
        time.sleep(0.005)


def meeting(name, place):
    """Make MLflow's client meet the other process before its first call of a method, and then let that go first."""
    method, met = getattr(MlflowClient, name), []

    def first_meet(*arguments, **options):
        if not met:
            met.append(meet(place, 1.0))
            time.sleep(0.1 if late else 0.0)
        return method(*arguments, **options)

    setattr(MlflowClient, name, first_meet)
    return lambda: setattr(MlflowClient, name, method)


def train(name, regularization):
    model = EASE(regularization=regularization).fit(data, show_progress=False)
    with tracking.start_run(Workspace(root), "new"):
        return tracking.log_model(model, name=name, examples=data)


known = ("promote", "annotate", "rollback", "delete_version")
jobs = {"train": train, **{name: getattr(tracking, name) for name in known}}
print("ready", flush=True)
for line in sys.stdin:
    job, arguments, place, meetings, late = json.loads(line)
    undo = [meeting(name, f"{place}-{number}") for number, name in enumerate(meetings)]
    meet(place, 20.0)
    try:
        result = jobs[job](**arguments)
        told = asdict(result) if result else {}
    except TrackingError as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    for back in undo:
        back()
    print("told " + json.dumps(told), flush=True)
'''


class Pair:
    """Two processes that do as they are told, both at once."""

    def __init__(self, root):
        self.root, self.rounds = root, 0
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(root), name],
                cwd=root,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        for process in self.processes:
            assert self._listen(process, "ready") == ""

    def __call__(self, one, other):
        """Return what two calls give, made at once; each is a job, its arguments and methods of MLflow's client.

        The processes wait for each other before they call the first of these methods, and the second; then the other
        goes a moment ahead of the one.
        """
        self.rounds += 1
        for process, (job, arguments, meetings) in zip(self.processes, (one, other), strict=True):
            late = process is self.processes[0]
            process.stdin.write(json.dumps([job, arguments, f"round{self.rounds}", meetings, late]) + "\n")
            process.stdin.flush()
        return [json.loads(self._listen(process, "told")) for process in self.processes]

    def _listen(self, process, word):
        patience = threading.Timer(120, process.kill)
        patience.start()
        try:
            for line in process.stdout:
                if line.startswith(word):
                    return line[len(word) :].strip()
        finally:
            patience.cancel()
        raise AssertionError(f"a process ended or hung: {process.wait()}")

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory, mlflow_template):
    root = tmp_path_factory.mktemp("pair")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    data = Interactions.from_frame(pd.DataFrame({"user_id": [1, 1, 2, 2, 3], "item_id": [1, 2, 2, 3, 1]}))
    with tracking.start_run(Workspace(root), "base"):
        tracking.log_model(EASE().fit(data, show_progress=False), name="base", examples=data)
    pair = Pair(root)
    yield pair
    pair.close()


@pytest.fixture
def three(pair):
    """A registered model of three versions, of which the first is the champion."""
    tracking.configure(Workspace(pair.root))
    name = f"toy{pair.rounds}"
    (version,) = tracking.model_versions("base")
    for _ in range(3):
        tracking.register(version.run_id, name)
    tracking.promote(name, 1)
    return name


def tags(name, version, alias="champion"):
    found = tracking.version_tags(name, version)
    return {key.removeprefix(f"{alias}_"): value for key, value in found.items() if key.startswith(f"{alias}_")}


def champion(name):
    return int(tracking.pin(f"models:/{name}@champion").rpartition("/")[2])


TAG, ALIAS, DELETE = "set_model_version_tag", "set_registered_model_alias", "delete_model_version"


def test_versions_registered_at_once_are_two_and_whole(pair):
    meet = ["create_experiment", "create_registered_model", "create_model_version"]
    told = pair(*(("train", {"name": "shop", "regularization": strength}, meet) for strength in (3.0, 30.0)))
    assert sorted(found["version"] for found in told) == [1, 2]
    assert told[0]["run_id"] != told[1]["run_id"]
    assert not list((pair.root / "mlruns").glob("pending/*")), "nothing had to wait for a later try"
    tracking.configure(Workspace(pair.root))
    assert [found.version for found in tracking.model_versions("shop")] == [2, 1]
    for found, strength in zip(told, (3.0, 30.0), strict=True):
        model = tracking.load(found["uri"])
        assert model.regularization == strength
        assert model.about_["run_id"] == found["run_id"]
        facts = tracking.version_facts("shop", found["version"])
        assert (facts["run"], facts["tags"]) == (found["run_id"], {"model": "EASE"})


def test_of_two_promotions_over_the_same_champion_one_wins_and_the_other_is_told(pair, three):
    asked = {"name": three, "instead_of": 1, "reason": "better", "tags": {"decision": "promoted"}}
    told = pair(*(("promote", {**asked, "version": version}, [TAG, ALIAS]) for version in (2, 3)))
    (winner,) = [found["version"] for found in told if "error" not in found]
    (refusal,) = [found["error"] for found in told if "error" in found]
    assert f"is held by version {winner} and no longer by version 1" in refusal
    assert champion(three) == winner
    assert (tags(three, winner)["previous"], tags(three, winner)["decision"]) == ("1", "promoted")
    assert tags(three, 5 - winner) == {}, "who has never held the alias says nothing of it"
    assert tracking.rollback(three).version == 1


def test_two_promotions_by_hand_follow_each_other_and_can_be_taken_back(pair, three):
    told = pair(*(("promote", {"name": three, "version": version}, [TAG, ALIAS]) for version in (2, 3)))
    second = champion(three)
    first = 5 - second
    assert {found["version"]: found["previous"] for found in told} == {first: 1, second: first}
    assert (tags(three, first)["previous"], tags(three, second)["previous"]) == ("1", str(first))
    assert [tracking.rollback(three).version for _ in range(2)] == [first, 1]


def test_a_rollback_and_a_promotion_follow_each_other(pair, three):
    tracking.promote(three, 2)
    told = pair(
        ("rollback", {"name": three}, [TAG, ALIAS]),
        ("promote", {"name": three, "version": 3}, [TAG, ALIAS]),
    )
    moves = {(found["previous"], found["version"]) for found in told}
    assert moves in ({(2, 1), (1, 3)}, {(2, 3), (3, 2)}), "each began where the other had ended"
    assert champion(three) == (3 if (2, 1) in moves else 2)


def test_notes_of_two_processes_are_both_kept(pair, three):
    pair(
        *(
            ("annotate", {"name": three, "version": 2, "tags": {}, "note": note}, ["update_model_version"])
            for note in ("one", "other")
        )
    )
    assert sorted(tracking.version_facts(three, 2)["description"].split()) == ["one", "other"]


def test_a_version_is_not_deleted_while_it_is_promoted(pair, three):
    told = pair(
        ("delete_version", {"name": three, "version": 2}, [DELETE]),
        ("promote", {"name": three, "version": 2}, [ALIAS]),
    )
    deleted, promoted = ("error" not in found for found in told)
    assert deleted != promoted
    assert champion(three) == (2 if promoted else 1)
    assert type(tracking.load(f"models:/{three}@champion")).__name__ == "EASE"
