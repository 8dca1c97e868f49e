"""Jobs end as if nothing had happened after a kill or an error at any step; see `tests.crashes`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashes.boxes import new_box
from tests.crashes.jobs import JOBS
from tests.crashes.recorder import Reservoir, plain
from tests.crashes.state import State, difference
from tests.crashes.trials import Case, thinned

ROOT = Path(__file__).parents[1]
EACH_TIME = ("train-new", "train-net", "score-over", "promote", "tune", "nightly", "sync", "prune", "analyze")
"""The jobs of which a few steps are tried in every run of the tests; the others take as long again."""
FAULTS = ("kill", "ENOSPC", "EACCES", "FULL")
SEED = 20
MINUTES = 60
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open folders are found in /proc")


def crashes(module, *arguments, seconds):
    """Run a module of the harness in a process of its own, because a process with threads must not fork."""
    variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The outcomes of a few steps of each job and fault."""
    file = tmp_path_factory.mktemp("crashes") / "outcomes.json"
    options = [*(f"--fault={fault}" for fault in FAULTS), "--one-fault"]
    options += ["--sample", "1", "--seed", str(SEED), "--json", str(file)]
    done = crashes("tests.crashes", *EACH_TIME, *options, seconds=900)
    assert file.is_file(), done.stderr
    outcomes = json.loads(file.read_text())
    return {name: [outcome for outcome in outcomes if outcome["job"] == name] for name in EACH_TIME}


def shown(outcome):
    """Return the failures of an outcome as text, with the command that repeats them."""
    lines = []
    for failure in outcome["failures"]:
        case = failure["case"]
        lines += [f"{failure['kind']}, {case['text']}", *(f"    {line}" for line in failure["detail"])]
        lines.append(f"    python -m tests.crashes {outcome['job']} --fault {outcome['fault']} --only {case['step']}")
    return "\n".join(lines)


@pytest.mark.parametrize("job", EACH_TIME)
def test_a_job_ends_as_undisturbed_after_a_few_crashes(sampled, job):
    assert sampled[job], "nothing was tried"
    for outcome in sampled[job]:
        assert outcome["tried"], "no step was tried"
        assert not outcome["failures"], shown(outcome)
        assert not [note for note in outcome["notes"] if note.startswith("outside")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_as_undisturbed_after_a_crash_at_any_step(tmp_path, job, fault):
    file = tmp_path / "outcomes.json"
    done = crashes("tests.crashes", job, "--fault", fault, "--all", "--json", str(file), seconds=60 * MINUTES)
    assert file.is_file(), done.stderr
    (outcome,) = json.loads(file.read_text())
    assert not outcome["failures"], shown(outcome)


@pytest.mark.slow
def test_jobs_end_as_undisturbed_after_kills_at_random_moments():
    done = crashes("tests.crashes.campaign", "--kills", "200", "--seed", "1", seconds=60 * MINUTES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_five_nights_with_a_kill_in_each_end_as_undisturbed():
    done = crashes("tests.crashes.nights", "--rounds", "3", "--seed", "1", seconds=60 * MINUTES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_box_is_put_back_as_it_was():
    with new_box() as box:
        (box.path / "root" / "folder").mkdir()
        (box.path / "root" / "folder" / "file").write_bytes(b"one")
        (box.path / "root" / "link").symlink_to("folder/file")
        (box.path / "tmp" / "left").write_bytes(b"")
        before = box.capture()
        (box.path / "root" / "folder" / "file").write_bytes(b"two")
        (box.path / "out" / "new").mkdir()
        assert box.capture() != before
        box.put_back(before)
        assert box.capture() == {name: what for name, what in before.items() if name != "tmp/left"}
        base = box.base
    assert not base.exists()


def test_what_is_left_and_what_is_missing_is_told_the_gravest_first():
    once, found = State(), State()
    once.lines.update(["run EASE: of toy, FINISHED, active, ended", "alias toy@champion -> 2"])
    found.lines.update(["run EASE: of toy, RUNNING, active, no end", "path root/.lock", "path root/.lock"])
    left = difference(once, found)
    assert left.kinds == ["run left RUNNING", "runs", "registry", "files left or missing"]
    assert left.first(1) == ["extra: run EASE: of toy, RUNNING, active, no end"]
    assert not difference(found, found)


def test_every_element_of_a_stream_is_chosen_with_the_same_chance():
    counts = [0] * 12
    for seed in range(600):
        slots = {}
        for index in range(12):
            slot = Reservoir(3, str(seed)).slot(index)
            if slot is not None:
                slots[slot] = index
        for index in slots.values():
            counts[index] += 1
    assert sum(counts) == 600 * 3
    assert min(counts) > 110
    assert max(counts) < 190


def test_of_steps_that_copy_source_files_three_are_kept():
    texts = ["open a", *(f"open m/code/{name}.py" for name in "abcdefg"), "rename b", "open m/code/x.py"]
    kept = thinned([Case(number, text) for number, text in enumerate(texts)])
    assert [case.step for case in kept] == [0, 1, 4, 7, 8, 9]


def test_names_that_are_drawn_are_replaced():
    run = "0123456789abcdef" * 2
    assert plain(f"rename mlruns/.{run}.12ab34cd.json -> m-{run}/x") == "rename mlruns/.ID.RANDOM.json -> m-ID/x"
    assert plain("open out/.job.recsys-12ab34cd.json") == "open out/.job.recsys-RANDOM.json"
    assert plain("mkdir tmp/tmpab_12cd9") == "mkdir tmp/TMP"
    assert plain("rename out/.lists.12ab34cd.old -> out/lists") == "rename out/.lists.RANDOM.old -> out/lists"
