"""Files and folders are whole or absent; what a killed process leaves goes with the next run, what a living one writes
and what is somebody's stays."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recsys import outputs
from recsys.claims import beside, leftovers
from recsys.errors import ConfigError, ScoringError
from recsys.files import locked, replace_folder, replacing, replacing_folder, working_folder, write_text
from recsys.outputs import Kind
from recsys.workspace import output_file, output_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


def contents(folder):
    """All that is in a folder: the bytes of files, the targets of links, None for folders."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def listed(folder):
    index = folder / "index"
    return [*index.read_text().split(), "index"] if index.is_file() else None


NOTES = Kind("a set of notes", ScoringError, "index", listed, ("a", "b", "index").__contains__)


def notes(folder, **files):
    """Make a folder of the kind `NOTES`."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "index").write_text(" ".join(files))
    return folder


# Of files


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "deep" / "best.toml"
    write_text(file, "one", durable=True)

    def fail():
        with replacing(file) as new:
            new.write_text("half")
            assert re.fullmatch(r"\.best\.recsys-[0-9a-f]{8}\.toml", new.name)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == {"deep": None, "deep/best.toml": b"one"}


@pytest.mark.parametrize("name", ["x" * 250, "ä" * 120 + ".toml", "x." + "y" * 240, ".hidden", "a b\n[1].csv"])
def test_a_file_of_any_name_is_replaced(tmp_path, name):
    (tmp_path / "other").write_text("mine")
    for text in ("one", "two"):
        write_text(tmp_path / name, text)
        assert contents(tmp_path) == {"other": b"mine", name: text.encode()}
    left = beside(tmp_path / name)
    left.write_text("half")
    write_text(tmp_path / name, "three")
    assert not left.exists()


def killed(code, folder):
    """Run code in a process of its own until it prints, and kill it; `folder` is its only name."""
    lines = ["import sys, time", "from pathlib import Path", "from recsys.files import *", "folder = Path(sys.argv[1])"]
    lines += ["def wait():", "    print('now', flush=True)", "    time.sleep(60)", code]
    process = subprocess.Popen([sys.executable, "-c", "\n".join(lines), str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_of_a_file_goes_and_what_a_living_one_writes_stays(tmp_path):
    file = tmp_path / "best.toml"
    process = killed("with replacing(folder / 'best.toml') as new:\n    new.write_text('half')\n    wait()", tmp_path)
    (writing,) = leftovers(file)
    write_text(file, "mine")
    assert writing.exists()
    end(process)
    (tmp_path / ".best.recsys-0123abcd.txt").write_text("of another file")
    (tmp_path / ".best.0123abcd.toml").write_text("of somebody")
    (tmp_path / ".best.recsys-0123abcd.toml").mkdir()
    write_text(file, "whole")
    assert sorted(contents(tmp_path)) == [
        ".best.0123abcd.toml",
        ".best.recsys-0123abcd.toml",
        ".best.recsys-0123abcd.txt",
        "best.toml",
    ]


def test_what_a_killed_process_left_of_a_folder_goes_and_what_a_living_one_writes_stays(tmp_path):
    target = tmp_path / "out"
    code = "with replacing_folder(folder / 'out') as new:\n    (new / 'a').write_text('half')\n    wait()"
    process = killed(code, tmp_path)
    (writing,) = leftovers(target, folder=True)
    with replacing_folder(target, kind=NOTES) as new:
        (new / "a").write_text("one")
        (new / "index").write_text("a")
    assert (writing / "a").exists()
    end(process)
    with working_folder(target, NOTES):
        pass
    assert contents(tmp_path) == {"out": None, "out/a": b"one", "out/index": b"a"}


def test_a_lock_of_a_killed_process_is_free_and_goes(tmp_path):
    process = killed("with locked(folder / '.lock'):\n    wait()", tmp_path)
    with pytest.raises(BlockingIOError, match="held by another process"), locked(tmp_path / ".lock", wait=False):
        pass
    end(process)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", wait=False):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_is_nobodys_file(tmp_path):
    lock = tmp_path / ".lock"
    lock.write_text("my notes")
    with pytest.raises(FileExistsError, match=r"\.lock is needed as a lock and is something else"), locked(lock):
        pass
    with pytest.raises(ConfigError, match="needed as a lock"), locked(lock, busy=ConfigError("busy")):
        pass
    assert lock.read_text() == "my notes"
    lock.write_text("")  # as earlier versions left them, and as somebody may have made one
    with locked(lock), pytest.raises(ConfigError, match="busy"), locked(lock, busy=ConfigError("busy")):
        pass
    assert lock.read_text() == ""
    for make in (lock.mkdir, lambda: os.mkfifo(lock), lambda: lock.symlink_to("elsewhere")):
        (lock.rmdir if lock.is_dir() else lock.unlink)()
        make()
        with pytest.raises(FileExistsError, match="needed as a lock"), locked(lock):
            pass


# Of folders


def test_only_what_a_folder_lists_is_removed(tmp_path):
    target = notes(tmp_path / "out", a="1", b="2")
    with replacing_folder(target, kind=NOTES, durable=True) as new:
        (new / "index").write_text("")
    assert contents(tmp_path) == {"out": None, "out/index": b""}
    (target / "mine").mkdir()
    (target / "mine" / "thesis").write_text("years")
    before = contents(tmp_path)
    with (
        pytest.raises(ScoringError, match=r"out holds mine/thesis, which its manifest does not list"),
        replacing_folder(target, kind=NOTES),
    ):
        pytest.fail("the work began")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("empty", ["mine", ".mine"])
def test_a_folder_and_a_link_are_somebodys_too(tmp_path, empty):
    target = notes(tmp_path / "out", a="1")
    (target / empty).mkdir()
    with pytest.raises(ScoringError, match=f"out holds {empty}, which"):
        NOTES.check(target)
    (target / empty).rmdir()
    (tmp_path / "far").write_text("far")
    (target / "a").unlink()
    (target / "a").symlink_to(tmp_path / "far")
    with pytest.raises(ScoringError, match="out holds a, which"):
        NOTES.check(target)
    NOTES.check(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ScoringError, match="file is not a folder; choose another name for a set of notes"):
        NOTES.check(tmp_path / "file")


def test_what_turns_up_before_the_end_is_named_and_everything_stays(tmp_path):
    target = notes(tmp_path / "out", a="1")

    def write():
        with replacing_folder(target, kind=NOTES) as new:
            (new / "index").write_text("")
            (target / "thesis").write_text("years")

    with pytest.raises(ScoringError, match="out holds thesis, which its manifest does not list"):
        write()
    assert contents(tmp_path) == {"out": None, "out/a": b"1", "out/index": b"a", "out/thesis": b"years"}


def test_what_turns_up_in_the_last_moment_stays_and_is_named_with_its_place(tmp_path, monkeypatch):
    target, new = notes(tmp_path / "out", a="1"), notes(tmp_path / "new", b="2")
    remove = outputs.remove_files

    def late(folder, names, folders=()):
        (folder / "thesis").write_text("years")
        remove(folder, names, folders)

    monkeypatch.setattr(outputs, "remove_files", late)
    with pytest.raises(OSError, match=f"turned up while {target} was replaced") as caught:
        replace_folder(new, target, NOTES)
    kept = Path(caught.value.filename)
    assert kept.read_text() == "years"
    assert contents(target) == {"b": b"2", "index": b"b"}
    monkeypatch.undo()
    outputs.recover(target, NOTES)
    assert kept.read_text() == "years"


def test_an_old_folder_that_a_kill_left_aside_is_put_back(tmp_path):
    target = tmp_path / "out"
    notes(beside(target, folder=True, ending=".old"), a="1")
    with pytest.raises(KeyError), replacing_folder(target, kind=NOTES):
        raise KeyError
    assert contents(tmp_path) == {"out": None, "out/a": b"1", "out/index": b"a"}


def test_an_old_folder_whose_removal_a_kill_interrupted_is_removed(tmp_path):
    target = notes(tmp_path / "out", b="2")
    old = notes(beside(target, folder=True, ending=".old"), a="1")
    (old / "a").unlink()
    mine = notes(beside(target, folder=True, ending=".old"), a="1")
    (mine / "thesis").write_text("years")
    outputs.recover(target, NOTES)
    assert not old.exists()
    assert sorted(path.name for path in mine.iterdir()) == ["a", "index", "thesis"]
    assert contents(target) == {"b": b"2", "index": b"b"}


def test_what_an_old_folder_is_held_by_is_left_to_it(tmp_path):
    target = tmp_path / "out"
    code = (
        "from recsys.claims import beside, held\nold = beside(folder / 'out', folder=True, ending='.old')\n"
        "old.mkdir()\nwith held(old):\n    wait()"
    )
    process = killed(code, tmp_path)
    outputs.recover(target, NOTES)
    assert not target.exists()
    end(process)
    outputs.recover(target, NOTES)
    assert target.exists()


def test_a_half_written_folder_with_something_else_in_it_keeps_that(tmp_path):
    target = tmp_path / "out"
    left = beside(target, folder=True)
    (left / "deep").mkdir(parents=True)
    (left / "a").write_text("ours")
    (left / "deep" / "a").write_text("mine")
    outputs.recover(target, NOTES)
    assert contents(left) == {"deep": None, "deep/a": b"mine"}


def test_two_who_replace_one_folder_leave_one_and_nothing_beside(tmp_path):
    code = (
        "import os\nfor _ in range(150):\n    with replacing_folder(folder / 'out') as new:\n"
        "        (new / 'name').write_text(str(os.getpid()))\nprint('now', flush=True)"
    )
    processes = [killed(code, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.wait() == 0
        process.stdout.close()
    assert sorted(contents(tmp_path)) == ["out", "out/name"]


# What a name may stand for


def test_only_a_regular_file_or_a_new_name_is_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, kind in (("pipe", "a device, a pipe or a socket"), ("socket", "a device"), ("folder", "a folder")):
            (tmp_path / "link").symlink_to(name)
            for path in (tmp_path / name, tmp_path / "link"):
                with pytest.raises(ConfigError, match=f"--output must name a regular file .* is {kind}"):
                    output_file(path, "--output")
            (tmp_path / "link").unlink()
            with pytest.raises(OSError), replacing(tmp_path / name) as new:
                new.write_text("x")
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)
    assert sorted(contents(tmp_path)) == ["folder", "pipe", "socket"]


def test_a_device_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "device"
    path.write_text("as if")
    real = os.stat

    def as_if(file, *args, **options):
        found = real(file, *args, **options)
        if Path(os.fsdecode(file)) != path:
            return found
        return os.stat_result([stat.S_IFCHR | 0o666, *found[1:]])

    monkeypatch.setattr(os, "stat", as_if)
    with pytest.raises(ConfigError, match="is a device, a pipe or a socket; choose another name"):
        output_file(path, "--output")


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    for target in ("there", "folder/new"):
        link = tmp_path / "link"
        (tmp_path / "there").write_text("old")
        link.symlink_to(target)
        write_text(output_file(link, "--output"), "new")
        assert (tmp_path / target).read_text() == "new"
        assert os.readlink(link) == target
        link.unlink()
    assert sorted(contents(tmp_path)) == ["folder", "folder/new", "there"]


def test_a_link_to_nowhere_and_a_circle_are_refused(tmp_path):
    (tmp_path / "far").symlink_to("no/where")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    before = contents(tmp_path)
    for name in ("far", "one"):
        with pytest.raises(ConfigError, match=r"cannot be written to .*(far|one)"):
            output_file(tmp_path / name, "--output")
        with pytest.raises(ScoringError, match=r"cannot be written to .*(far|one)"):
            output_folder(tmp_path / name, ScoringError)
    (tmp_path / "dangling").symlink_to("none")
    with pytest.raises(ScoringError, match=r"is a link to .*none, where there is no folder"):
        output_folder(tmp_path / "dangling", ScoringError)
    (tmp_path / "dangling").unlink()
    assert contents(tmp_path) == before


def test_a_name_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output cannot be written to .*file: it is not a folder"):
        output_file(tmp_path / "file" / "x" / "y.toml", "--output")
    with pytest.raises(ScoringError, match="file is not a folder; choose another name or remove it"):
        output_folder(tmp_path / "file", ScoringError)
    assert output_file(tmp_path / "x" / "y.toml", "--output") == tmp_path / "x" / "y.toml"
    assert output_folder(tmp_path / "x", ScoringError) == tmp_path / "x"
