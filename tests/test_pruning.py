"""`recsys registry prune`: which files go with a version, which never do, and what an interruption leaves."""

import os
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import LoggedModelInput, LoggedModelOutput

from recsys import cli, tracking
from recsys.errors import BundleError, TrackingError
from recsys.interactions import Interactions
from recsys.jobs import registry
from recsys.models import EASE
from recsys.tracking import pruning
from recsys.workspace import Workspace

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"user_id": RNG.integers(100, 140, 400), "item_id": RNG.integers(7, 37, 400)}).drop_duplicates()
DATA = Interactions.from_frame(FRAME)
MODEL = EASE(regularization=5.0).fit(DATA, show_progress=False)


@pytest.fixture(scope="module")
def logged(tmp_path_factory, mlflow_template):
    """The folder of a model as it is logged."""
    root = tmp_path_factory.mktemp("logged")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    with tracking.start_run(Workspace(root), "exp"):
        tracking.log_model(MODEL, name="night", examples=DATA)
    tracking.load("models:/night/1")
    (folder,) = (root / "mlruns" / "artifacts" / "models").iterdir()
    return folder / "artifacts"


class Shop:
    """A store to which versions are added as `log_model` does it, without its seconds."""

    def __init__(self, root, logged):
        self.root, self.logged = root, logged
        self.artifacts = root / "mlruns" / "artifacts"
        tracking.configure(Workspace())
        self.client = mlflow.MlflowClient()

    def add(self, name="night", experiment="exp"):
        """Add a version, and return the folder of its files."""
        with tracking.start_run(Workspace(), experiment) as tracker:
            tracker.log_metrics({"ndcg@10": 0.5})
            tracker.log_text("hello", "report.html")
        run = self.client.get_run(tracker.run_id)
        model = self.client.create_logged_model(run.info.experiment_id, name="model", source_run_id=tracker.run_id)
        folder = Path(model.artifact_location.removeprefix("file://"))

        shutil.copytree(self.logged, folder)
        index = folder / "MLmodel"
        index.write_text(re.sub("m-[0-9a-f]{32}", model.model_id, index.read_text()))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(tracker.run_id, [LoggedModelOutput(model.model_id, 0)])
        tracking.register(tracker.run_id, name)
        return folder

    def versions(self, name="night"):
        return [version.version for version in tracking.model_versions(name)]

    def models(self):
        return {model.model_id for model in self.client.search_logged_models(["1"])}


@pytest.fixture
def shop(mlflow_root, logged):
    return Shop(mlflow_root, logged)


def tree(folder):
    """All files and folders below a folder, with the sizes of files."""
    return {str(path): path.stat().st_size if path.is_file() else None for path in sorted(folder.rglob("*"))}


def size(folder):
    return sum(number or 0 for number in tree(folder).values())


def prune(keep=1, name="night", delete=True):
    return registry.prune(Workspace(), name, keep=keep, delete=delete)


def test_exactly_the_files_of_the_version_are_freed_and_what_remains_works(shop, capsys):
    gone, left = shop.add(), shop.add()
    tracking.load("models:/night/1")  # MLflow adds a file when it reads a model by its registered name
    (gone / "__pycache__").mkdir()
    (gone / "__pycache__" / "pyfunc_model.cpython-312.opt-1.pyc").write_bytes(b"compiled")
    run_id = tracking.version_facts("night", 1)["run"]
    before, freed = tree(shop.artifacts), size(gone)
    assert prune(delete=False) == [1]
    said = f"{freed / 1e6:.1f} MB"
    assert capsys.readouterr().out == (
        f"would delete models:/night/1, {said}\nnothing was deleted; add --yes to delete this and free {said}\n"
    )
    assert tree(shop.artifacts) == before
    assert cli.main(["registry", "prune", "night", "--keep", "1", "--yes"]) == 0
    assert capsys.readouterr().out == f"deleted models:/night/1, {said}\n{said} freed\n"
    after = tree(shop.artifacts)
    assert before.keys() - after.keys() == {path for path in before if path.startswith(str(gone.parent))}
    assert after.items() <= before.items()
    assert sum(v or 0 for v in before.values()) - sum(v or 0 for v in after.values()) == freed
    assert shop.versions() == [2]
    assert shop.models() == {left.parent.name}
    run = shop.client.get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"ndcg_at_10": 0.5})
    assert Path(tracking.address(run_id, "report.html")).read_text() == "hello"
    users = np.arange(5)
    np.testing.assert_array_equal(
        tracking.load("models:/night/2").recommend(users, DATA.matrix[:5])[0],
        MODEL.recommend(users, DATA.matrix[:5])[0],
    )
    with pytest.raises(TrackingError, match=f"the model of run {run_id} was deleted, .* train it again") as error:
        tracking.load(f"runs:/{run_id}/model")
    assert "\n" not in str(error.value)
    with pytest.raises(TrackingError, match="no version 1; versions: 2"):
        tracking.load("models:/night/1")
    with pytest.raises(TrackingError, match="was deleted; train it again"):
        tracking.register(run_id, "other")
    assert prune() == []
    assert "nothing to delete" in capsys.readouterr().out


def test_a_model_that_something_else_needs_stays(shop, capsys):
    first, second, third, _ = (shop.add() for _ in range(4))
    tracking.register(tracking.version_facts("night", 1)["run"], "other")
    shop.client.copy_model_version("models:/night/2", "copy")
    with tracking.start_run(Workspace(), "exp") as tracker:
        pass
    shop.client.log_inputs(tracker.run_id, models=[LoggedModelInput(third.parent.name)])
    before = tree(shop.artifacts)
    assert prune(delete=False) == [3, 2, 1]
    assert prune() == [3, 2, 1]
    lines = capsys.readouterr().out.splitlines()
    needs = [f"run {tracker.run_id}", "models:/copy/1", "models:/other/1"]
    told = [
        f"delete models:/night/{n}; its files stay: {who} needs them" for n, who in zip((3, 2, 1), needs, strict=True)
    ]
    assert lines[:3] == [f"would {line}" for line in told]
    assert lines[4:7] == [line.replace("delete", "deleted", 1) for line in told]
    assert lines[7] == "0.0 MB freed"
    assert tree(shop.artifacts) == before
    for name in ("other", "copy"):
        assert tracking.load(f"models:/{name}/1").about_["run_id"]
    shop.add("copy")
    assert prune(name="copy") == [1]
    assert not second.exists()
    assert first.exists()
    shop.client.delete_model_version("other", "1")
    shop.client.delete_run(tracker.run_id)
    assert prune() == []  # of the tagged models it takes those that nothing needs by now
    assert "which an earlier prune left" in capsys.readouterr().out
    assert not first.exists()
    assert not third.exists()


def test_two_versions_of_one_model(shop, capsys):
    folder = shop.add()
    tracking.register(tracking.version_facts("night", 1)["run"], "night")
    shop.add()
    freed = f"{size(folder) / 1e6:.1f} MB"
    assert "recsys.pruned" not in tracking.version_tags("night", 2)
    for delete in (False, True):
        assert prune(delete=delete) == [2, 1]
        out = capsys.readouterr().out
        assert "models:/night/2; its files stay: models:/night/1 needs them" in out
        assert f"models:/night/1, {freed}" in out
        assert folder.exists() != delete


def test_versions_with_an_alias_and_those_of_a_rollback_keep_their_files(shop):
    folders = [shop.add() for _ in range(5)]
    tracking.promote("night", 2)
    tracking.promote("night", 3)
    tracking.promote("night", 4, "candidate")
    assert prune() == [1]
    assert [folder.exists() for folder in folders] == [False, True, True, True, True]
    assert tracking.rollback("night").version == 2
    tracking.load("models:/night@champion")


def test_an_alias_that_comes_meanwhile_is_seen(shop, monkeypatch, capsys):
    folder = shop.add()
    shop.add()
    monkeypatch.setattr(registry.tracking, "needed_versions", lambda name: set())
    tracking.promote("night", 1)
    with pytest.raises(TrackingError, match="models:/night/1 stays: an alias or a rollback needs it now"):
        prune()
    assert folder.exists()
    assert shop.versions() == [2, 1]


class Killed(BaseException):
    """What a killed process does: nothing more."""


class Steps:
    """All that changes something: calls of MLflow, and removals; the process dies before one of them."""

    CHANGES = (
        (mlflow.MlflowClient, "set_logged_model_tags"),
        (mlflow.MlflowClient, "delete_model_version"),
        (mlflow.MlflowClient, "delete_logged_model"),
        (Path, "unlink"),
        (Path, "rmdir"),
    )

    def __init__(self, last=None):
        self.last, self.names = last, []

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for owner, name in self.CHANGES:
            self.patch.setattr(owner, name, self.wrapped(getattr(owner, name), name))
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def wrapped(self, function, name):
        def step(*arguments, **options):
            if name == "unlink" and arguments[0].name.endswith(".lock"):
                return function(*arguments, **options)
            if len(self.names) == self.last:
                raise Killed
            self.names.append(name)
            return function(*arguments, **options)

        return step


def test_what_was_killed_at_any_step_is_finished_by_the_same_command(shop):
    shop.add()
    kept = shop.add()
    whole = tree(kept)
    with Steps() as steps:
        prune()
    assert [name for name in steps.names if name.startswith(("set", "delete"))] == [
        "set_logged_model_tags",
        "delete_model_version",
        "delete_logged_model",
    ]
    unlinks, rmdirs = ([n for n, name in enumerate(steps.names) if name == what] for what in ("unlink", "rmdir"))
    assert len(unlinks) >= 12
    # After the last removal from the model's own folder only MLflow's record is left.
    middle = unlinks[len(unlinks) // 2]
    for last in sorted({0, 1, *unlinks[:2], middle, *unlinks[-2:], *rmdirs[:1], *rmdirs[-3:], len(steps.names) - 1}):
        folder = shop.add()
        files = {path.removeprefix(str(folder)) for path in tree(folder)}
        older = shop.versions()[1]
        with pytest.raises(Killed), Steps(last):
            prune()
        if older in shop.versions():
            assert tree(kept) == whole, "a version that is there has its files"
        assert {path.removeprefix(str(folder)) for path in tree(folder)} == files
        assert cli.main(["registry", "prune", "night", "--keep", "1", "--yes"]) == 0
        assert shop.versions() == [older + 1]
        assert shop.models() == {folder.parent.name}
        assert [path.name for path in (shop.artifacts / "models").iterdir()] == [folder.parent.name]
        kept, whole = folder, tree(folder)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("notes.txt", lambda path: path.write_text("mine")),
        ("artifacts/bundle/notes.txt", lambda path: path.write_text("mine")),
        ("code/notes.py", lambda path: path.write_text("mine")),
        ("code/__pycache__", lambda path: (path.mkdir(), (path / "notes.cpython-311.pyc").write_text("mine"))),
        ("mine", Path.mkdir),
        ("code/mine", Path.mkdir),
        ("linked", lambda path: path.symlink_to("/")),
        ("code/recsys.zip", lambda path: path.symlink_to(__file__)),
        ("pipe", os.mkfifo),
    ],
)
def test_what_logging_did_not_write_is_named_and_nothing_is_removed(shop, name, make, capsys):
    other, folder, _ = shop.add(), shop.add(), shop.add()
    path = folder / name
    path.unlink(missing_ok=True)
    make(path)
    before = tree(folder)
    assert prune(delete=False) == [1]
    assert "would keep models:/night/2" in capsys.readouterr().out
    assert cli.main(["registry", "prune", "night", "--keep", "1", "--yes"]) == 5
    out, err = capsys.readouterr()
    assert re.fullmatch(
        f"recsys registry prune: models:/night/2 stays: {path}.* is not a file that logging a model writes; move it "
        "elsewhere and repeat the command\n",
        err,
    )
    assert "deleted models:/night/1" in out
    assert not other.exists()
    assert tree(folder) == before
    assert shop.versions() == [3, 2]
    path.rename(shop.root / "elsewhere")
    assert prune() == [2]
    assert not folder.parent.exists()


def test_what_was_added_after_a_kill_is_not_removed_either(shop, capsys):
    folder = shop.add()
    shop.add()
    with pytest.raises(Killed), Steps(2):
        prune()
    (folder / "notes.txt").write_text("mine")
    (folder.parent / "beside.txt").write_text("mine")
    before = tree(folder.parent)
    with pytest.raises(TrackingError, match=r"models:/m-.* stays: .*notes.txt is not a file that logging"):
        prune()
    assert tree(folder.parent) == before
    (folder / "notes.txt").unlink()
    freed = f"{size(folder) / 1e6:.1f} MB"
    capsys.readouterr()
    assert prune() == []
    assert capsys.readouterr().out == (
        f"deleted the files of models:/{folder.parent.name}, which an earlier prune left, {freed}\n{freed} freed\n"
    )
    assert [path.name for path in folder.parent.iterdir()] == ["beside.txt"]


def test_a_link_that_was_put_in_after_a_kill_is_not_followed_either(shop, tmp_path, capsys):
    folder = shop.add()
    shop.add()
    with pytest.raises(Killed), Steps(2):
        prune()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    assert prune() == []
    said = f"the files of models:/{folder.parent.name}, which an earlier prune left, stay: {folder} is a link"
    assert said in capsys.readouterr().out
    assert tree(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("begun", [False, True])
def test_another_process_that_is_faster_leaves_nothing_to_do(shop, monkeypatch, begun, capsys):
    folder = shop.add()
    shop.add()
    if begun:
        with pytest.raises(Killed), Steps(2):
            prune()
    lock = pruning.model_lock

    def late(name):
        monkeypatch.setattr(pruning, "model_lock", lock)
        prune()
        assert not folder.parent.exists()
        capsys.readouterr()
        return lock(name)

    monkeypatch.setattr(pruning, "model_lock", late)
    assert prune() == []
    assert "nothing to delete" in capsys.readouterr().out


@pytest.mark.parametrize("level", ["artifacts", "models", "m-", "artifacts/models/m-/artifacts"])
def test_nothing_is_removed_behind_a_link(shop, level, tmp_path, capsys):
    folder = shop.add()
    shop.add()
    place = {"artifacts": shop.artifacts, "models": folder.parents[1], "m-": folder.parent}.get(level, folder)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    assert prune() == [1]
    assert f"deleted models:/night/1; its files stay: {place} is a link" in capsys.readouterr().out
    assert tree(tmp_path / "elsewhere") == before
    assert folder.parent.name in shop.models(), "or mlflow gc would remove them"
    assert prune() == []


def test_nothing_is_removed_outside_the_artifacts_of_the_project(shop, tmp_path, capsys):
    shop.client.create_experiment("outside", artifact_location=(tmp_path / "outside").as_uri())
    shop.client.create_experiment("below", artifact_location=(shop.artifacts / "below").as_uri())
    outside, below, _ = shop.add(experiment="outside"), shop.add(experiment="below"), shop.add()
    before = tree(outside)
    assert prune() == [2, 1]
    assert f"models:/night/1; its files stay: {outside} lies outside {shop.artifacts}" in capsys.readouterr().out
    assert tree(outside) == before
    assert not below.exists()


def test_a_project_whose_mlruns_is_a_link_is_one(shop, tmp_path):
    folder = shop.add()
    shop.add()
    (shop.root / "mlruns").rename(tmp_path / "disk")
    (shop.root / "mlruns").symlink_to(tmp_path / "disk")
    assert prune() == [1]
    assert not folder.exists()


def test_the_folder_of_another_model_is_left(shop, capsys):
    folder, other = shop.add(), shop.add()
    shutil.copyfile(other / "MLmodel", folder / "MLmodel")
    before = tree(folder)
    assert prune() == [1]
    assert f"{folder / 'MLmodel'} is that of another model, {other.parent.name}" in capsys.readouterr().out
    assert tree(folder) == before


def test_a_model_that_was_logged_before_its_files_were_listed_is_removed(shop):
    folder = shop.add()
    shop.add()
    index = folder / "MLmodel"
    index.write_text(re.sub(r"metadata:\n  code_files:\n(  - .*\n)+", "metadata: null\n", index.read_text()))
    assert mlflow.models.Model.load(str(folder)).metadata is None
    (folder / "code" / "recsys.zip").unlink()
    (folder / "code" / "recsys" / "nn").mkdir(parents=True)
    (folder / "code" / "recsys" / "nn" / "losses.py").write_text("")
    (folder / "code" / "notes.txt").write_text("mine")
    with pytest.raises(TrackingError, match=r"notes.txt is not a file that"):
        prune()
    (folder / "code" / "notes.txt").unlink()
    assert prune() == [1]
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["MLmodel", "artifacts/bundle/config.json", ""])
def test_a_damaged_model_is_removed(shop, damage):
    folder = shop.add()
    shop.add()
    if damage:
        (folder / damage).write_text("{[")
    else:
        shutil.rmtree(folder.parent)
    with pytest.raises((BundleError, TrackingError)) if damage != "MLmodel" else pytest.raises(Exception):
        tracking.load("models:/night/1")
        mlflow.models.Model.load(str(folder))
    assert prune() == [1]
    assert not folder.parent.exists()
    assert shop.versions() == [2]


def test_versions_without_a_logged_model_lose_no_files(shop, capsys, tmp_path):
    shop.client.create_registered_model("night")
    MODEL.save(tmp_path / "saved")
    shop.client.create_model_version("night", (tmp_path / "saved").as_uri())
    by_hand = shop.add()
    shop.add()
    shop.client.delete_logged_model(by_hand.parent.name)
    assert prune() == [2, 1]
    out = capsys.readouterr().out
    assert "night/1; its files stay: " in out
    assert "saved is not the folder of a logged model" in out
    assert "is left to `mlflow gc`, for the logged model was deleted in MLflow" in out
    tracking.load(tmp_path / "saved")
    assert by_hand.exists()


@pytest.mark.parametrize("last", [False, True])
def test_files_that_cannot_be_removed_are_taken_next_time(shop, monkeypatch, last):
    folder = shop.add()
    shop.add()
    remove = Path.rmdir

    def refused(path):
        if last and path != folder.parent:
            remove(path)
        else:
            raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", refused)
        with pytest.raises(TrackingError, match=r"cannot remove the files in .*: .*Permission denied.*; repeat"):
            prune()
    assert shop.versions() == [2]
    assert prune() == []
    assert not folder.parent.exists()


def test_mlflow_gc_finds_nothing_to_complain_of(shop, capsys):
    from click.testing import CliRunner
    from mlflow.cli import cli as mlflow_cli

    folder, left = shop.add(), shop.add()
    assert prune() == [1]
    uri = f"sqlite:///{shop.root}/mlruns/mlflow.db"
    done = CliRunner().invoke(mlflow_cli, ["gc", "--backend-store-uri", uri, "--tracking-uri", uri])
    assert done.exit_code == 0, done.output
    assert f"{folder.parent.name} has been permanently deleted" in done.output
    assert left.exists()
    tracking.load("models:/night/2")


def half_logged(client, note):
    """Begin to log a model in the current run, put a note beside it, and die."""
    run = mlflow.active_run()
    half = client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
    folder = Path(half.artifact_location.removeprefix("file://"))
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "recsys.zip").write_bytes(b"half")
    if note is not None:
        (folder / note).write_text("mine")
    raise KeyboardInterrupt(folder)


@pytest.mark.parametrize("note", [None, "notes.txt", "code/notes.txt"])
def test_what_is_left_of_half_a_model_goes_unless_somebody_put_something_there(shop, note):
    file = shop.artifacts.parent / "checkpoints" / "0123.json"
    with pytest.raises(KeyboardInterrupt) as killed, tracking.start_run(Workspace(), "exp", resume=file):
        half_logged(shop.client, note)
    (folder,) = killed.value.args
    with tracking.start_run(Workspace(), "exp", resume=file):
        tracking.log_model(MODEL, name="night", examples=DATA)
    assert shop.versions() == [1]
    assert len(shop.models()) == 1
    assert folder.exists() == (note is not None)
    if note is not None:
        assert (folder / note).read_text() == "mine"
