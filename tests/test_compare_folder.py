"""The folder of a comparison: what no comparison wrote stays, what is damaged is made anew, kills leave nothing."""

import json
import os
import shutil

import pytest

from recsys.config import JobConfig
from recsys.errors import ConfigError
from recsys.files import MANIFEST
from recsys.jobs import compare
from recsys.jobs.compare_folder import TABLES, compare_folder
from recsys.workspace import Workspace
from tests.test_compare_job import job
from tests.test_files import contents

CONFIGS = {"EASE": job(), "Popularity": job("Popularity")}


@pytest.fixture(scope="module")
def compared(tmp_path_factory, mlflow_template):
    """A folder with the MLflow home and the output of a comparison."""
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    compare.run(Workspace(root, False), CONFIGS, root / "out")
    return root


@pytest.fixture
def root(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def trained(monkeypatch):
    """The models that are trained."""
    names, train_one = [], compare.train_one

    def noted(workspace, config, *args, **kwargs):
        names.append(config.model["name"])
        return train_one(workspace, config, *args, **kwargs)

    monkeypatch.setattr(compare, "train_one", noted)
    return names


def run(root, output=None):
    return compare.run(Workspace(root, False), CONFIGS, output or root / "out")


def refused(root, monkeypatch, message, output=None):
    before = contents(root)
    monkeypatch.setattr(JobConfig, "load_data", lambda *_: pytest.fail("read the data first"))
    with pytest.raises(ConfigError, match=message):
        run(root, output)
    assert contents(root) == before


def test_the_manifest_lists_what_was_written(compared):
    manifest = json.loads((compared / "out" / MANIFEST).read_text())
    files = {str(path.relative_to(compared / "out")) for path in (compared / "out").rglob("*") if path.is_file()}
    assert {*manifest["files"], MANIFEST} == files
    assert manifest["models"] == ["EASE", "Popularity"]
    assert set(TABLES) < files
    assert len(files) == 11


@pytest.mark.parametrize(
    ("files", "first"),
    [
        (["thesis.txt"], "thesis.txt"),
        (["table.md"], "table.md"),
        (["comparison.png", "photos/cat.jpg"], "comparison.png"),
        (["models/EASE/thesis.txt"], "models/EASE/thesis.txt"),
        (["models/EASE/done.json"], "models/EASE/done.json"),
        ([".git/config"], ".git/config"),
        ([MANIFEST, "table.csv"], MANIFEST),
    ],
)
@pytest.mark.parametrize("text", ["mine", "[]", "{}"])
def test_a_folder_of_somebody_is_refused_before_data_are_read(tmp_path, monkeypatch, files, first, text):
    for name in files:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    refused(
        tmp_path, monkeypatch, f"out exists and is not the output of a comparison: it holds {first}; choose another"
    )


@pytest.mark.parametrize(
    "name", ["thesis.txt", ".notes", "models/thesis.txt", "models/EASE/thesis.txt", "models/X/done.json"]
)
def test_what_lies_in_an_output_is_named_and_stays(root, monkeypatch, name):
    (root / "out" / name).parent.mkdir(exist_ok=True)
    (root / "out" / name).write_text("mine")
    refused(root, monkeypatch, f"out holds {name}, which its manifest does not list")


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: [],
        lambda manifest: {},
        lambda manifest: {**manifest, "files": 3},
        lambda manifest: {**manifest, "files": [3]},
        lambda manifest: {**manifest, "files": [*manifest["files"], "../thesis"]},
        lambda manifest: {**manifest, "files": ["models/../done.json"]},
        lambda manifest: {**manifest, "models": [".."]},
        lambda manifest: {**manifest, "recsys": None},
    ],
)
def test_a_damaged_manifest_is_refused(root, monkeypatch, change):
    manifest = json.loads((root / "out" / MANIFEST).read_text())
    (root / "out" / MANIFEST).write_text(json.dumps(change(manifest)))
    (root / "thesis").write_text("years")
    refused(root, monkeypatch, "out exists and is not the output of a comparison: it holds ")


def test_what_is_damaged_is_made_anew_and_what_kills_left_goes(root, trained, monkeypatch):
    out = root / "out"
    sound = (out / "models" / "EASE" / "done.json").read_text()
    facts = json.loads(sound)
    left = [".table.recsys-0123abcd.md", "._manifest.recsys-0123abcd.json", "models/.EASE.recsys-0123abcd/done.json"]
    for name in left:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("half")
    (out / ".lock").write_text("recsys lock\n")
    (out / "models" / "Popularity").rename(out / "models" / ".Popularity.recsys-0123abcd.old")
    run(root)
    assert trained == []
    assert len([path for path in out.rglob("*") if path.is_file()]) == 11
    for text in ("[]", "", "{}", json.dumps({**facts, "validation": 3}), json.dumps({**facts, "sha256": []})):
        (out / "models" / "EASE" / "done.json").write_text(text)
        assert compare_folder(out).finished("EASE") is None
    table = out / "models" / "EASE" / "per_user.parquet"
    (out / "models" / "EASE" / "done.json").write_text(sound)
    content = table.read_bytes()
    table.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    run(root)
    assert trained == ["EASE"]
    facts = {name: value for name, value in facts.items() if name != "sha256"}  # as version 0.2.0 wrote them
    (out / "models" / "EASE" / "done.json").write_text(json.dumps(facts))
    table.write_bytes(b"PAR1")
    run(root)
    assert trained == ["EASE", "EASE"]


def test_an_output_of_version_0_2_0_is_continued_if_it_is_one(root, trained, monkeypatch):
    out = root / "out"
    (out / MANIFEST).unlink()
    shutil.rmtree(out / "models" / "Popularity")
    for text in ("mine", "model\n"):
        kept = (out / "table.csv").read_bytes()
        (out / "table.csv").write_text(text)
        with monkeypatch.context() as patch:
            refused(root, patch, "out holds .*(comparison.png|table.csv), which")
        (out / "table.csv").write_bytes(kept)
    run(root)
    assert trained == ["Popularity"]
    assert len(json.loads((out / MANIFEST).read_text())["files"]) == 10


def test_links_are_followed_and_empty_folders_filled(root, trained, monkeypatch):
    (root / "link").symlink_to("out")
    run(root, root / "link")
    assert (trained, os.readlink(root / "link")) == ([], "out")
    (root / "lost").symlink_to("none")
    with monkeypatch.context() as patch:
        refused(root, patch, "lost is a link to .*none, where there is no folder", root / "lost")
    shutil.copytree(root / "out" / "models", root / "new" / "models")  # as version 0.2.0 left it, without tables
    run(root, root / "new")
    assert trained == []
    assert sorted(path.name for path in (root / "new").iterdir()) == sorted([MANIFEST, "models", *TABLES])


def test_what_turns_up_while_models_are_trained_stays(root, monkeypatch):
    out, train_one = root / "out", compare.train_one
    (out / "models" / "EASE" / "done.json").unlink()

    def late(*args, **options):
        (out / "models" / "EASE" / "trials.csv").write_text("mine")
        return train_one(*args, **options)

    monkeypatch.setattr(compare, "train_one", late)
    with pytest.raises(ConfigError, match=r"models/EASE holds trials\.csv, which its manifest does not list"):
        run(root)
    assert (out / "models" / "EASE" / "trials.csv").read_text() == "mine"
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", ".git"])
def test_a_model_whose_name_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot name a folder"):
        compare.run(Workspace(tmp_path, False), {name: job(), "b": job("Popularity")}, tmp_path / "out")
    assert not list(tmp_path.iterdir())
