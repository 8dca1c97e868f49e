"""The output folder of scoring: what is not of a scoring job stays, and nothing that is damaged ends in a traceback."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from recsys import outputs
from recsys.claims import beside
from recsys.errors import ScoringError
from recsys.files import read_json
from recsys.models import Popularity
from recsys.scoring import check_output, output, score
from recsys.scoring.local import MANIFEST
from recsys.scoring.output import OutputFolder
from tests.scoring.test_local import DATA, Killed, breaking
from tests.test_files import contents

MODEL = Popularity().fit(DATA, show_progress=False)
OTHER = {"n": 4}
"""Options of another job."""


def write(folder, **options):
    return score(MODEL, DATA, folder, **{"n": 3, "batch_size": 20, **options})


def interrupt(folder, monkeypatch, after=2, **options):
    with monkeypatch.context() as patch:
        breaking(after, patch, MODEL)
        with pytest.raises(Killed):
            write(folder, **options)


def refused(folder, message, **options):
    """Check that a job is refused and everything is as before."""
    before = contents(folder.parent)
    with pytest.raises(ScoringError, match=message):
        write(folder, **options)
    with pytest.raises(ScoringError, match=message):
        check_output(folder)
    assert contents(folder.parent) == before


def test_a_manifest_of_another_tool_makes_no_folder_ours(tmp_path):
    out = tmp_path / "out"
    (out / "photos").mkdir(parents=True)
    (out / "photos" / "cat.jpg").write_bytes(b"cat")
    (out / "thesis.tex").write_text("years")
    for manifest in ('{"version": 3, "files": []}', "[]", "", '{"parts": []}', "\0"):
        (out / MANIFEST).write_text(manifest)
        refused(out, f"out exists and is not a scoring output: it holds {MANIFEST}; choose another folder or remove it")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "deep/notes", "part-00009.parquet", ".job.json"])
@pytest.mark.parametrize("same", [True, False])
def test_what_lies_in_an_output_is_named_and_stays(tmp_path, name, same):
    out = tmp_path / "out"
    write(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    refused(out, f"out holds {name}, which its manifest does not list", **({} if same else OTHER))
    (out / name).unlink()


def test_what_turns_up_while_the_job_runs_stays_and_the_job_ends_later(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(out)
    recommend = type(MODEL).recommend

    def late(*args, **kwargs):
        (out / "notes").write_text("mine")
        return recommend(MODEL, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MODEL, "recommend", late, raising=False)
        with pytest.raises(ScoringError, match="out holds notes, which its manifest does not list"):
            write(out, **OTHER)
    assert (out / "notes").read_text() == "mine"
    (out / "notes").unlink()
    assert write(out, **OTHER).resumed_parts == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["notes", "part-00009.parquet", "part-00002.parquet", "deep/part-00000.parquet"])
@pytest.mark.parametrize("job", [{}, OTHER])
def test_what_lies_among_the_parts_of_a_killed_job_is_named_and_stays(tmp_path, monkeypatch, name, job):
    interrupt(tmp_path / "out", monkeypatch)
    mine = tmp_path / ".out.partial" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    refused(tmp_path / "out", f"{name}, which its manifest does not list", **job)
    assert mine.read_text() == "mine"
    mine.unlink()
    if mine.parent.name == "deep":
        mine.parent.rmdir()
    assert write(tmp_path / "out", **job).resumed_parts == (2 if not job else 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["notes", ".job.json", "part-00000.parquet", MANIFEST])
def test_a_folder_of_somebody_with_the_name_of_a_job_is_left_alone(tmp_path, name):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / name).write_text("{}")
    refused(tmp_path / "out", rf"\.out\.partial exists and is not what an interrupted .*: it holds {name}")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.partial").mkdir()
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MANIFEST,
        *(f"part-0000{number}.parquet" for number in range(3)),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("before", ["empty", "an output"])
def test_a_link_to_a_folder_is_followed_and_stays(tmp_path, before):
    far, link = tmp_path / "far" / "lists", tmp_path / "out"
    far.mkdir(parents=True)
    if before == "an output":
        write(far, **OTHER)
    link.symlink_to("far/lists")
    result = write(link)
    assert (result.output, os.readlink(link)) == (link, "far/lists")
    assert len(pd.read_parquet(link)) == result.rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "out"]
    assert [path.name for path in far.parent.iterdir()] == ["lists"]
    assert write(link).already_complete


def test_a_link_that_leads_nowhere_and_a_file_are_refused(tmp_path):
    (tmp_path / "out").symlink_to("none")
    refused(tmp_path / "out", "is a link to .*none, where there is no folder; make that folder or remove the link")
    (tmp_path / "out").unlink()
    (tmp_path / "out").write_text("mine")
    refused(tmp_path / "out", "out is not a folder; choose another name or remove it")


def test_a_lock_that_is_somebodys_is_refused(tmp_path):
    (tmp_path / ".out.lock").write_text("mine")
    with pytest.raises(ScoringError, match=r"\.out\.lock is needed as a lock and is something else"):
        write(tmp_path / "out")
    assert contents(tmp_path) == {".out.lock": b"mine"}


@pytest.mark.parametrize("step", ["its own files", "the first rename", "the old output"])
@pytest.mark.parametrize("before", [None, OTHER])
@pytest.mark.parametrize("after", [{}, {"n": 5}])
def test_a_job_killed_in_its_last_steps_leaves_nothing_after_the_next(tmp_path, monkeypatch, step, before, after):
    out = tmp_path / "out"
    if before is not None:
        write(out, **before)
    rename, remove, tried = os.rename, outputs.remove_files, []

    def rename_once(source, target, **settings):
        if Path(source).name == ".out.partial":
            tried.append(target)
        if len(tried) == (2 if before else 1):
            raise Killed  # with the old output aside, and no time to put it back
        return rename(source, target, **settings)

    def remove_half(folder, names, folders=()):
        if step == "the old output" or ".job.json" in names:
            remove(folder, names[:1])
            raise Killed
        remove(folder, names, folders)

    with monkeypatch.context() as patch:
        if step == "the first rename":
            patch.setattr(os, "rename", rename_once)
        else:
            patch.setattr(outputs if step == "the old output" else output, "remove_files", remove_half)
        if step == "the old output" and before is None:
            write(out)
        else:
            with pytest.raises(Killed):
                write(out)
    if step == "the first rename" and before is not None:
        assert not out.exists()
        assert len(list(tmp_path.glob(".out.recsys-*.old"))) == 1
    result = write(out, **after)
    assert result.resumed_parts == (3 if not after and step != "the old output" else 0)
    assert len(pd.read_parquet(out)) == result.rows
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list(out.iterdir())) == 4


def test_an_old_output_that_a_kill_left_aside_is_back_at_once(tmp_path):
    out = tmp_path / "out"
    write(out)
    out.rename(tmp_path / ".out.recsys-0123abcd.old")
    check_output(out)
    assert write(out).already_complete
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".job.json", ".parts.jsonl", MANIFEST])
def test_a_file_that_was_being_written_when_a_job_was_killed_goes(tmp_path, monkeypatch, name):
    out = tmp_path / "out"
    interrupt(out, monkeypatch)
    left = beside(OutputFolder(out).partial / name)
    left.write_text("{")
    assert write(out).resumed_parts == 2
    assert not (out / left.name).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_job_files_that_version_0_2_0_left_in_a_complete_output_go(tmp_path):
    out = tmp_path / "out"
    write(out)
    identity = read_json(out / MANIFEST)["identity"]
    (out / ".job.json").write_text(json.dumps({"identity": identity, "started": "2026-11-26"}))
    (out / ".parts.jsonl").write_text("\n{}")
    assert write(out).already_complete
    assert len(list(out.iterdir())) == 4
    (out / ".job.json").write_text(json.dumps({"identity": identity, "started": "2026-11-26"}))
    assert write(out, **OTHER).rows
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


DAMAGED = ["", "[]", "null", "3", "{", "{}", "\0\0", '{"parts": 3}', '{"identity": [], "started": 1}', "[" * 10_000]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path, text):
    out = tmp_path / "out"
    write(out)
    (out / MANIFEST).write_text(text)
    refused(out, f"out exists and is not a scoring output: it holds {MANIFEST}")


@pytest.mark.parametrize(
    "parts",
    [
        3,
        [3],
        [[]],
        [{}],
        [{"file": "part-00000.parquet"}],
        [{"file": "../thesis", "users": 1, "rows": 1, "sha256": "x"}],
        [{"file": "part-00000.parquet/../../x", "users": 1, "rows": 1, "sha256": "x"}],
        [{"file": ["part-00000.parquet"], "users": 1, "rows": 1, "sha256": "x"}],
        [{"file": "part-00000.parquet", "users": 1, "rows": 1, "sha256": 3}],
    ],
)
def test_a_manifest_of_impossible_parts_is_refused(tmp_path, parts):
    out = tmp_path / "out"
    write(out)
    (tmp_path / "thesis").write_text("years")
    (out / MANIFEST).write_text(json.dumps({**read_json(out / MANIFEST), "parts": parts}))
    refused(out, "out exists and is not a scoring output")


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_of_a_killed_job_is_refused_in_one_line(tmp_path, monkeypatch, text):
    interrupt(tmp_path / "out", monkeypatch)
    (tmp_path / ".out.partial" / ".job.json").write_text(text)
    refused(tmp_path / "out", r"\.out\.partial exists and is not what an interrupted scoring job left")


@pytest.mark.parametrize("line", [*DAMAGED, '{"file": "../thesis", "users": 1, "rows": 1, "sha256": "x"}', "\udcff"])
def test_a_damaged_line_of_a_journal_counts_for_nothing(tmp_path, monkeypatch, line):
    interrupt(tmp_path / "out", monkeypatch)
    (tmp_path / "thesis").write_text("years")
    with (tmp_path / ".out.partial" / ".parts.jsonl").open("ab") as journal:
        journal.write(line.encode(errors="surrogateescape") + b"\n")
    assert write(tmp_path / "out").resumed_parts == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis"]


def test_parts_without_a_journal_are_not_taken_for_ours(tmp_path, monkeypatch):
    interrupt(tmp_path / "out", monkeypatch)
    (tmp_path / ".out.partial" / ".parts.jsonl").write_text("[]")
    refused(tmp_path / "out", r"holds part-00000\.parquet, which its manifest does not list")
    shutil.rmtree(tmp_path / ".out.partial")
    assert write(tmp_path / "out").rows


def test_a_part_is_never_written_over(tmp_path, monkeypatch):
    folder = OutputFolder(tmp_path / "out")
    folder.begin({"recsys": "1"}, resume=False)
    (folder.partial / "part-00000.parquet").write_text("mine")
    with pytest.raises(ScoringError, match=r"part-00000\.parquet turned up while the job was running"):
        folder.write_part("part-00000.parquet", None, 1)


FOREVER = """
import sys
from tests.scoring.test_output import write
print("now", flush=True)
for n in range(3, 99):
    write(sys.argv[1], n=n % 2 + 3, batch_size=3)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing is cleaned there")
def test_jobs_killed_at_any_moment_leave_a_whole_output_or_none_and_nothing_after_the_next(tmp_path):
    out, rng = tmp_path / "out", random.Random(0)
    wanted = {n: write(tmp_path / "wanted" / str(n), n=n) for n in (3, 4)}
    tables = {n: pd.read_parquet(result.output) for n, result in wanted.items()}
    shutil.rmtree(tmp_path / "wanted")
    for number in range(25):
        process = subprocess.Popen([sys.executable, "-c", FOREVER, str(out)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "now\n"
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if out.exists():
            left = pd.read_parquet(out)
            assert any(left.equals(table) for table in tables.values())
        if number % 3 == 0:
            write(out, n=number % 2 + 3, batch_size=3)
            assert [path.name for path in tmp_path.iterdir()] == ["out"]
            assert pd.read_parquet(out).equals(tables[number % 2 + 3])
