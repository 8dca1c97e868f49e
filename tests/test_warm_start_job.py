"""`[train] start`: the first time, an earlier version in the registry, a folder, and a model that cannot start."""

import pytest

import recsys
from recsys import tracking
from recsys.config import check_config
from recsys.errors import BundleError, ConfigError
from recsys.jobs import train
from recsys.scoring.local import model_checksum
from recsys.workspace import Workspace

CONFIG = {
    "data": {"name": "synthetic", "users": 120, "items": 40, "interactions": 2400},
    "split": {"kind": "hold_out_ratings"},
    "model": {"name": "MultVAE", "epochs": 2, "hidden": 12, "latent": 6, "batch_size": 40, "learning_rate": 0.01},
    "track": {"register": "shop"},
}


def job(start, **changes):
    model = {**CONFIG["model"], **changes}
    return check_config({**CONFIG, "model": model, "train": {"refit": True, **({"start": start} if start else {})}})


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path)
    tracking.configure(workspace)
    return workspace


def test_training_starts_from_the_version_of_the_day_before(workspace, capsys, tmp_path):
    [first] = train.run(workspace, job("models:/shop/1"), force=True)
    assert "training begins anew: " in capsys.readouterr().out
    [second] = train.run(workspace, job("models:/shop/1"), force=True)
    out = capsys.readouterr().out
    assert "training begins with the weights of models:/shop/1" in out
    assert second.registered.version == 2
    losses = [one.model.record_.epochs[0]["loss"] for one in (first, second)]
    assert losses[1] < losses[0]
    assert tracking.load("models:/shop/2").about_["start"] == "models:/shop/1"
    assert "start" not in tracking.load("models:/shop/1").about_
    # A folder will do, and gives the same.
    first.model.save(tmp_path / "yesterday")
    [third] = train.run(workspace, job(str(tmp_path / "yesterday")), force=True)
    assert model_checksum(third.model) == model_checksum(second.model)


def test_a_closed_form_is_made_of_that_of_the_day_before(workspace, capsys):
    model = {"name": "EASE", "regularization": 20.0, "keep_rows": True}
    config = check_config({**CONFIG, "model": model, "train": {"start": "models:/shop/1", "refit": True}})
    [first] = train.run(workspace, config, force=True)
    assert first.model.updated_rows_ is None
    [second] = train.run(workspace, config, force=True)
    assert "training begins with the weights of models:/shop/1" in capsys.readouterr().out
    assert second.model.updated_rows_ == 0
    assert abs(second.model.weights_ - first.model.weights_).max() < 1e-6


def test_a_search_does_not_start_from_one_network():
    config = check_config({**CONFIG, "train": {"start": "models:/shop/1"}, "tune": {}})
    with pytest.raises(ConfigError, match=r"train\.start gives the weights of one network, and a search tries several"):
        config.search()


def test_what_cannot_start_is_said_before_training(workspace, tmp_path):
    with pytest.raises(BundleError, match="there is no such folder"):
        train.run(workspace, job(str(tmp_path / "nowhere")), force=True)
    [first] = train.run(workspace, job(None), force=True)
    first.model.save(tmp_path / "m")
    with pytest.raises(ConfigError, match="has another network"):
        train.run(workspace, job(str(tmp_path / "m"), hidden=14), force=True)
    assert recsys.load(tmp_path / "m").hidden == 12
