"""What a job is told to write is looked at before the work: pipes, folders, links and files of somebody are refused."""

import json
import os

import pandas as pd
import pytest

from recsys import cli
from recsys.config import JobConfig
from recsys.errors import BundleError, ConfigError, ScoringError
from recsys.files import MANIFEST
from recsys.jobs import demo, evaluate, night_files, serve
from recsys.jobs.common import Sources
from recsys.models import Popularity, load
from recsys.scoring import score
from recsys.workspace import Workspace
from tests import test_foreign_files as jobs
from tests.test_files import contents
from tests.verbs import DATA

MODEL = Popularity().fit(DATA, show_progress=False)
TOML = """
[data]
name = "synthetic"
[model]
name = "EASE"
[tune]
trials = 2
[tune.space]
regularization = [5.0, 50.0]
[track]
register = "night"
"""
COMMANDS = {
    "tune": ("tune", "job.toml", "--output", "{}.toml"),
    "evaluate": ("evaluate", "model", "--output", "{}.parquet"),
    "report": ("evaluate", "model", "--report", "{}.html"),
    "export": ("export", "model", "--onnx", "{}.onnx"),
    "nightly": ("nightly", "job.toml", "--summary", "{}.json"),
}
FOLDERS = {
    "score": ("score", "model", "--output", "{}"),
    "compare": ("compare", "job.toml", "other.toml", "--output", "{}"),
    "nightly": ("nightly", "job.toml", "--output", "{}"),
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command that must end before it reads anything; return its one line."""
    monkeypatch.chdir(tmp_path)
    for name in ("job.toml", "other.toml"):
        (tmp_path / name).write_text(TOML)
    for owner, name in ((JobConfig, "load_data"), (evaluate, "load_model"), (serve, "load_model"), (Sources, "read")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("the work began"))

    def outside():
        return {path: value for path, value in contents(tmp_path).items() if not path.startswith("root")}

    def run(arguments, name, code=3):
        capsys.readouterr()
        before = outside()
        text = [argument.format(name) for argument in arguments]
        assert (
            cli.main([*text, "--root", str(tmp_path / "root"), *(["--quiet"] if text[0] != "export" else [])]) == code
        )
        assert outside() == before
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_none_is_refused_before_the_work(command, tmp_path, name):
    suffix = COMMANDS[name][-1][2:]
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"lost{suffix}").symlink_to("no/where")
    (tmp_path / f"round{suffix}").symlink_to(f"round{suffix}")
    (tmp_path / f"linked{suffix}").symlink_to(f"pipe{suffix}")
    assert "is a device, a pipe or a socket; choose another name" in command(COMMANDS[name], "pipe")
    assert "is a device, a pipe or a socket; choose another name" in command(COMMANDS[name], "linked")
    assert "no/where; correct or remove the link" in command(COMMANDS[name], "lost")
    assert "cannot be written to round" in command(COMMANDS[name], "round")
    (tmp_path / f"folder{suffix}").mkdir()
    code = 2 if COMMANDS[name][0] == "evaluate" else 3  # which takes names of files of one kind alone
    assert f"folder{suffix}" in command(COMMANDS[name], "folder", code)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_somebody_is_refused_before_the_work(command, tmp_path, name):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "thesis.txt").write_text("years")
    (tmp_path / "mine" / MANIFEST).write_text('{"version": 1}')
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "lost").symlink_to("none")
    (tmp_path / "file").write_text("")
    assert f"mine exists and is not {'the output of a' if name == 'compare' else 'a scoring'}" in command(
        FOLDERS[name], "mine"
    )
    assert f"holds {MANIFEST}" in command(FOLDERS[name], "link")
    assert "where there is no folder; make that folder or remove the link" in command(FOLDERS[name], "lost")
    assert "file is not a folder" in command(FOLDERS[name], "file")


def test_a_night_that_is_refused_says_so_in_its_summary(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    command(("nightly", "job.toml", "--output", "{}"), "mine")
    summary = json.loads((tmp_path / "root" / "mlruns" / "nightly" / "night.json").read_text())
    assert summary["status"] == "failed"
    assert "mine exists and is not a scoring output: it holds thesis.txt" in summary["reason"]


def test_the_demo_looks_at_its_output_first(tmp_path, monkeypatch):
    (tmp_path / "data" / "scored" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "scored" / "demo" / "thesis.txt").write_text("years")
    monkeypatch.setattr(demo, "models", lambda: pytest.fail("the work began"))
    with pytest.raises(ScoringError, match=r"demo exists and is not a scoring output: it holds thesis\.txt"):
        demo.run(Workspace(tmp_path, False))


@pytest.mark.parametrize(
    ("job", "name"), [(jobs.exported, "model.onnx"), (jobs.tuned, "best.toml"), (jobs.evaluated, "users.parquet")]
)
@pytest.mark.parametrize("far", ["far", "there/new"])
def test_a_link_to_a_file_is_followed_and_stays(tmp_path, job, name, far):
    (tmp_path / "there").mkdir()
    (tmp_path / name).symlink_to(far)
    for again in (False, True):
        job(tmp_path, again)
        assert os.readlink(tmp_path / name) == far
        assert (tmp_path / far).read_bytes()
    expected = {"there", name, far}
    assert set(contents(tmp_path)) == expected


def test_a_model_is_saved_through_a_link_and_into_an_empty_folder(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "model").symlink_to("far")
    for _ in range(2):
        MODEL.save(tmp_path / "model")
        assert os.readlink(tmp_path / "model") == "far"
        assert load(tmp_path / "model").n_items_ == MODEL.n_items_
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "model"]
    (tmp_path / "lost").symlink_to("none")
    with pytest.raises(BundleError, match=r"refused to replace .*lost; .* where there is no folder"):
        MODEL.save(tmp_path / "lost")
    assert os.readlink(tmp_path / "lost") == "none"


@pytest.mark.parametrize("name", ["thesis.txt", ".DS_Store", "code/model.py", "weights.safetensors.bak"])
def test_a_saved_model_with_something_else_in_it_is_not_replaced(tmp_path, name):
    MODEL.save(tmp_path / "model")
    (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "model" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(BundleError, match=f"refused to replace .*model holds {name}, which its manifest does not list"):
        MODEL.save(tmp_path / "model")
    assert contents(tmp_path) == before


def test_a_saved_model_that_lists_what_lies_outside_is_not_replaced(tmp_path):
    MODEL.save(tmp_path / "model")
    (tmp_path / "thesis").write_text("years")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["files"]["../thesis"] = "0"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"refused to replace .* exists and is not a saved model: it holds config"):
        MODEL.save(tmp_path / "model")
    assert (tmp_path / "thesis").read_text() == "years"


def test_what_a_killed_save_left_goes_with_the_next(tmp_path):
    MODEL.save(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.recsys-0123abcd.old")
    (tmp_path / ".model.recsys-89abcdef").mkdir()
    (tmp_path / ".model.recsys-89abcdef" / "weights.safetensors").write_text("half")
    MODEL.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": [3]}', '{"parts": []}', "\0"])
def test_a_night_reads_no_lists_of_a_damaged_output(tmp_path, text):
    score(MODEL, DATA, tmp_path / "out", n=3)
    assert len(night_files.previous_lists(tmp_path / "out"))
    (tmp_path / "link").symlink_to("out")
    assert len(night_files.previous_lists(tmp_path / "link"))
    part = tmp_path / "out" / "part-00000.parquet"
    content = part.read_bytes()
    for damage in (content[:-9], b"", content[:50] + bytes([content[50] ^ 1]) + content[51:]):
        part.write_bytes(damage)
        assert night_files.previous_lists(tmp_path / "out") is None
    pd.DataFrame({"user": [1]}).to_parquet(part)
    assert night_files.previous_lists(tmp_path / "out") is None
    (tmp_path / "out" / MANIFEST).write_text(text)
    assert night_files.previous_lists(tmp_path / "out") is None
    assert night_files.previous_lists(tmp_path / "none") is None


def test_the_library_refuses_what_the_command_refuses(tmp_path):
    from recsys.export import export_onnx

    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ConfigError, match=r"the graph must name a regular file or a new one, .* is a device, a pipe"):
        export_onnx(MODEL, tmp_path / "pipe.onnx")
    with pytest.raises(ScoringError, match=r"pipe\.onnx is not a folder"):
        score(MODEL, DATA, tmp_path / "pipe.onnx")
    with pytest.raises(BundleError, match=r"pipe\.onnx is not a folder"):
        MODEL.save(tmp_path / "pipe.onnx")
