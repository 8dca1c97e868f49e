"""The queue on disk."""

import json
import shutil
from pathlib import Path

import pytest

from recsys.errors import TrackingError
from recsys.spool import Spool, spools


def test_events_come_back_in_order_with_what_belongs_to_them(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.write_header({"start_time": 2})
    for number in range(12):
        spool.add("tags", {"number": number})
    (tmp_path / "table.txt").write_text("hello")
    spool.add("file", {}, tmp_path / "table.txt")
    assert not (tmp_path / "table.txt").exists()
    again = list(Spool(tmp_path / "a"))
    assert [event.values["number"] for event in again[:-1]] == list(range(12))
    assert again[-1].attachment.read_text() == "hello"
    assert again[-1].attachment.name == "table.txt"
    assert len({event.file for event in again}) == 13


def test_an_event_is_there_until_it_is_done_and_the_queue_ends_with_the_last(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.write_header({"run_id": None})
    spool.add("tags", {"a": "1"})
    spool.add("tags", {"a": "2"})
    first, second = spool
    spool.done(first)
    spool.add("tags", {"a": "3"})
    assert [event.values["a"] for event in spool] == ["2", "3"]
    for event in spool:
        spool.done(event)
    assert not spool.folder.exists()
    assert second.file != first.file


def test_what_was_never_finished_is_not_seen(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.write_header({})
    (spool.folder / ".00000001.json.1.tmp").write_text('{"kind"')
    (spool.folder / "00000001.files").mkdir()
    (spool.folder / "00000001.files" / "old.txt").write_text("half")
    (tmp_path / "new.txt").write_text("whole")
    spool.add("file", {}, tmp_path / "new.txt")
    (event,) = spool
    assert [path.name for path in event.attachment.parent.iterdir()] == ["new.txt"]


def test_what_is_not_of_the_queue_stays_in_its_folder(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.write_header({})
    spool.add("tags", {"a": "1"})
    for name in ("notes.txt", "2026-notes.json", ".00000001.recsys-0123abcd.txt"):
        (spool.folder / name).write_text("mine")
    (spool.folder / ".00000002.recsys-0123abcd.json").write_text("half")
    (spool.folder / "00000002.files").mkdir()
    assert len(spool) == 1
    spool.done(*spool)
    kept = sorted(path.name for path in spool.folder.iterdir())
    assert kept == [".00000001.recsys-0123abcd.txt", "2026-notes.json", "notes.txt"]


def test_queues_are_listed_by_the_start_of_their_runs(tmp_path):
    for name, start in (("a", 3), ("b", 1), ("c", 2)):
        Spool(tmp_path / name).write_header({"start_time": start})
    (tmp_path / "d").mkdir()
    assert [spool.folder.name for spool in spools(tmp_path)] == ["b", "c", "a"]
    assert spools(tmp_path / "absent") == []


def test_a_damaged_queue_says_what_to_do(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.write_header({})
    spool.add("tags", {})
    (spool.folder / "00000001.json").write_text("{")
    with pytest.raises(TrackingError, match=f"delete {tmp_path / 'a'} to give up"):
        list(spool)
    (spool.folder / "run.json").write_text(json.dumps({"key": "a"})[:-1])
    with pytest.raises(TrackingError, match="cannot be read"):
        spool.read_header()


def test_the_header_of_a_queue_goes_last(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "queue")
    spool.write_header({"start_time": 1})
    spool.add("tags", {"a": "b"})
    (spool.folder / "00000007.files").mkdir()  # of an event that was not finished
    removed = []
    unlink, rmtree = Path.unlink, shutil.rmtree
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (removed.append(path.name), unlink(path, **options))[1])
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **options: (removed.append(path.name), rmtree(path, **options))[1]
    )
    spool.done(*spool)
    assert removed[-1] == "run.json"
    assert "00000007.files" in removed
    assert not spool.folder.exists()
    spool.folder.mkdir()
    assert not spool.exists
