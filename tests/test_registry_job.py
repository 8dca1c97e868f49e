"""`recsys registry`: what it shows, and what it never deletes."""

import subprocess
import sys

import pytest
from mlflow import MlflowClient

from recsys import tracking
from recsys.cli import main
from recsys.config import check_config
from recsys.errors import TrackingError
from recsys.jobs import registry
from recsys.jobs.train import run as train
from recsys.workspace import Workspace


@pytest.fixture(scope="module")
def root(tmp_path_factory, mlflow_template):
    """A store with four versions: 2 was champion, 3 is, 4 is nobody."""
    import shutil

    root = tmp_path_factory.mktemp("registry")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    for regularization in (50.0, 60.0, 70.0, 80.0):
        config = check_config(
            {
                "data": {"name": "synthetic", "users": 60, "items": 30, "interactions": 900, "binary": True},
                "split": {"kind": "hold_out_ratings"},
                "model": {"name": "EASE", "regularization": regularization},
                "evaluate": {"metrics": ["ndcg@10"]},
                "track": {"experiment": "x", "register": "night"},
            }
        )
        train(Workspace(root, False), config, force=True)
    tracking.promote("night", 2)
    tracking.promote("night", 3)
    return root


def test_list_show_and_diff(root, capsys):
    frame = registry.list_models(Workspace(root))
    assert list(frame["version"]) == [4, 3, 2, 1]
    assert list(frame["aliases"]) == ["", "champion", "", ""]
    assert registry.show(Workspace(root), "night")["version"] == 3
    assert "models:/night/3 (champion)" in capsys.readouterr().out
    assert registry.show(Workspace(root), "night", 1)["params"]["model.regularization"] == "50.0"
    found = registry.diff(Workspace(root), "night", 1, 4).set_index("name")
    assert list(found.loc["model.regularization"]) == ["params", "50.0", "80.0"]
    assert registry.diff(Workspace(root), "night", 2, 2).empty
    assert "do not differ" in capsys.readouterr().out


def test_prune_says_first_and_keeps_what_an_alias_or_a_rollback_needs(root, capsys):
    assert registry.prune(Workspace(root), "night", keep=1) == [1]
    assert "would delete models:/night/1" in capsys.readouterr().out
    assert len(tracking.model_versions("night")) == 4
    assert main(["registry", "prune", "night", "--keep", "1", "--yes", "--root", str(root)]) == 0
    assert [found.version for found in tracking.model_versions("night")] == [4, 3, 2]
    assert registry.prune(Workspace(root), "night", keep=1, delete=True) == []
    with pytest.raises(TrackingError, match="is champion; move the alias first"):
        tracking.delete_version("night", 3)
    assert tracking.rollback("night").version == 2


def test_what_is_not_there(root):
    with pytest.raises(TrackingError, match="did you mean 'night'"):
        registry.show(Workspace(root), "nigth")
    with pytest.raises(TrackingError, match="no version 9"):
        registry.show(Workspace(root), "night", 9)


def test_a_rollback_to_a_deleted_version_says_what_is_left(root):
    champion = tracking.pin("models:/night@champion")
    number = champion.rpartition("/")[2]
    before = tracking.version_tags("night", int(number)).get("champion_previous", "")
    MlflowClient().set_model_version_tag("night", number, "champion_previous", "99")
    with pytest.raises(TrackingError, match=r"version 99 of 'night'.* was deleted; promote another version: \d"):
        tracking.rollback("night")
    MlflowClient().set_model_version_tag("night", number, "champion_previous", before)
    assert tracking.pin("models:/night@champion") == champion


def test_a_name_is_found_among_more_than_a_page_of_them(mlflow_root):
    tracking.configure(Workspace(mlflow_root))
    client = MlflowClient()
    for number in range(101):
        client.create_registered_model(f"model-{number:03}")
    assert len(tracking.registered_names()) == 101


def modules_of(folder, *commands):
    """Return the modules that a process has imported when it has run these commands."""
    code = "import sys; from recsys.cli import main; codes = [main(words.split()) for words in sys.argv[1:]]; "
    code += "print(*sys.modules, file=sys.stderr); sys.exit(any(codes))"
    run = subprocess.run(
        [sys.executable, "-c", code, *commands], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(run.stderr.split())


def test_looking_at_the_store_imports_no_torch(root):
    found = modules_of(root, "registry list", "sync")
    assert {"mlflow", "recsys.tracking.registry"} <= found
    heavy = {"torch", "implicit", "sklearn", "matplotlib", "scipy.optimize"}  # MLflow itself may import pyspark
    assert not found & {*heavy, "recsys.models", "recsys.interactions", "recsys.tracking.logged_model"}


def test_a_model_in_a_folder_is_read_without_mlflow(root):
    (bundle, *_) = sorted(path.parent for path in (root / "mlruns").rglob("bundle/config.json"))
    found = modules_of(root, f"recommend {bundle} --user 1")
    assert {"torch", "recsys.scoring.local"} <= found
    assert not found & {"mlflow", "recsys.tracking", "sklearn", "matplotlib", "pyspark", "optuna", "duckdb", "faiss"}


def test_what_the_store_keeps_for_later_is_public_all_the_same():
    assert all(getattr(tracking, name) is not None for name in tracking.__all__)
    assert tracking.logged_model.load is tracking.load
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = tracking.nothing_like_it
