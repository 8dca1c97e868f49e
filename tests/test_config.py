"""Configuration: shipped files load, mistakes are named, overrides are typed."""

import re
from pathlib import Path

import pytest

from recsys import tracking
from recsys.config import JobConfig, SplitConfig, check_config, load_config
from recsys.datasets import synthetic
from recsys.errors import ConfigError, DataError

CONFIGS = sorted((Path(__file__).parents[1] / "pipelines" / "configs").rglob("*.toml"))


def test_every_model_but_the_baselines_has_a_configuration():
    from recsys.models import MODELS

    shipped = {load_config(path).model["name"] for path in CONFIGS}
    assert shipped >= {name for name, model in MODELS.items() if model.__module__ != "recsys.models.baselines"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_build_their_model(path):
    config = load_config(path)
    model = config.new_model()
    assert type(model).__name__ == config.model["name"]
    for name, value in config.model.items():
        assert name == "name" or getattr(model, name) == value
    assert config.track.register_as or path.parent.name.startswith("compare-")
    for name in map(tracking.mlflow_name, tracking.flatten({"config": config.as_dict()})):
        assert re.fullmatch(r"[\w.:/ -]{1,250}", name, re.ASCII), "MLflow refuses parameters of other names"


@pytest.mark.parametrize("name", ["multvae-ml1m", "ease-ml1m"])
def test_the_first_configurations_run_on_the_publishers_own_files(tmp_path, monkeypatch, name):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    frame = synthetic(1700, 40, 34_000, seed=1).to_frame()
    rows = frame[["user_id", "item_id", "rating", "timestamp"]].astype(int).astype(str).agg("::".join, axis=1)
    (folder / "ratings.dat").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    config = load_config(next(path for path in CONFIGS if path.stem == name))
    split = config.split.split(config.load_data())
    assert len(split.validation.users) == len(split.test.users) == 600
    assert set(split.train.matrix.data) == {1.0}
    assert config.track.register_as == "ml-1m-top-n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text('[model]\nname = "MultVAE"\nhidden = 32\n\n[split]\nkind = "hold_out_users"\nn_users = 5\n')
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden=3", r"unknown key 'hiden'; did you mean 'hidden'\?"),
        ("modle.x=1", r"unknown key 'modle'; did you mean 'model'\?"),
        ("split.n_user=1", r"unknown key 'split.n_user'; did you mean 'n_users'\?"),
        ("track.regster=x", r"unknown key 'track.regster'; did you mean 'register'\?"),
        ("model.name=MultVEA", r"unknown model 'MultVEA'; did you mean 'MultVAE'\?"),
        ("data.name=ml1m", r"unknown data set 'ml1m'; did you mean 'ml-1m'\?"),
        ("train.metric=ndgc@10", "ndgc"),
        ("model.epochs=many", "epochs = 'many'"),
        ("train.repeats=0", "repeats"),
        ("train.metric=rmse", "MultVAE predicts no ratings, so it has no rmse; ask for a metric of its lists"),
        ("evaluate.metrics=['diversity@10']", "diversity needs vectors of the items: call recsys.evaluate"),
        ("split.temporal=true", "split.kind = 'hold_out_users' takes no 'temporal'"),
        ("evaluate.metrics=['ndcg@10', 'mae']", "MultVAE predicts no ratings, so it has no mae"),
        ("track.register=a/b:c", "track.register is a name without '/' and ':', got 'a/b:c'"),
        ("track.register=' '", "track.register"),
        ("track.experiment=''", "track.experiment"),
        ("model.hidden=0", "hidden must be at least 1"),
        ("model.dropout=1.5", "dropout must lie"),
        ("model.beta=-1.0", "beta must not be negative"),
        ("model.epochs=0", "epochs must be at least 1"),
        ("model.learning_rate=nan", "learning_rate must be a finite number"),
        ("model.seed=-1", "seed must not be negative, got -1"),
        ("split.seed=-1", "split.seed = -1"),
        ("data.seed=-1", "data.seed = -1"),
        ("split.column=mark", "split.kind = 'hold_out_users' takes no 'column'"),
        ("split.kind=given", "split.kind = 'given' takes no 'n_users'"),
        ("split.n_users=a", "split.n_users"),
        ("train.refit=true", "train.refit adds the validation entries of the training users, and this split has none"),
        ("split.kind=random", "kind = 'random'"),
        ("hidden", "section.key=value"),
        ("model.hidden.x=1", "'hidden' is a value"),
    ],
)
def test_mistakes_are_named(file, override, message):
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(file, [override])
    assert f"--set {override}" in str(refused.value) or repr(override) in str(refused.value)


def test_overrides_are_read_as_toml_and_else_as_text(file):
    config = load_config(file, ["model.hidden=64", "data.binary=true", "track.run_name=tonight", "split.n_users=0.2"])
    assert config.model["hidden"] == 64
    assert config.data.binary is True
    assert config.track.run_name == "tonight"
    assert config.split.n_users == 0.2


def test_a_file_that_is_absent_or_broken_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(broken)


def test_a_model_needs_a_name():
    with pytest.raises(ConfigError, match="needs a name"):
        check_config({"model": {"hidden": 3}})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"kind": "leave_last_out", "n_users": 5}, "takes no 'n_users'"),
        ({"kind": "leave_last_out", "seed": 5}, "takes no 'seed'"),
        ({"kind": "hold_out_ratings", "test": "late"}, "split.test is a share of the entries for 'hold_out_ratings'"),
        ({"kind": "given"}, "needs split.column"),
    ],
)
def test_what_a_split_does_not_take_is_an_error(split, message):
    with pytest.raises(ConfigError, match=message):
        check_config({"split": split})
    with pytest.raises(ConfigError, match=message):
        SplitConfig(**split).split(synthetic(60, 40, 600))


def test_a_refit_needs_a_validation_part_of_the_training_users():
    for validation, fine in ((0.1, True), (0.0, False)):
        values = {"split": {"kind": "by_time", "validation": validation}, "train": {"refit": True}}
        if fine:
            assert check_config(values).train.refit
        else:
            with pytest.raises(ConfigError, match=r"train\.refit"):
                check_config(values)


def test_errors_of_ratings_are_for_models_of_ratings():
    section = {"train": {"metric": "rmse"}, "evaluate": {"metrics": ["mae"]}}
    assert check_config({"model": {"name": "UAutoRec"}, **section}).train.metric == "rmse"
    with pytest.raises(ConfigError, match="IAutoRec with unobserved_weight above 0 ranks items"):
        check_config({"model": {"name": "IAutoRec", "unobserved_weight": 0.1}, **section})


def test_a_repeat_writes_out_the_seeds_of_split_and_model():
    config = check_config(
        {
            "split": {"kind": "hold_out_ratings"},
            "data": {"users": 60, "items": 40, "interactions": 600},
            "model": {"name": "MultDAE", "seed": 3},
            "train": {"repeats": 2},
        }
    )
    first, second = config.repeat(0), config.repeat(1)
    assert [job.split.seed for job in (first, second)] == [0, 1]
    assert [job.model["seed"] for job in (first, second)] == [3, 4]
    assert first.train.repeats == second.train.repeats == 1
    assert check_config(second.as_dict()).repeat(0) == second
    data = config.load_data()
    cuts = [job.split.split(data).test.target for job in (config, first, second)]
    assert (cuts[0] != cuts[1]).nnz == 0
    assert (cuts[1] != cuts[2]).nnz > 0
    ease = check_config({"model": {"name": "EASE"}, "split": {"kind": "leave_last_out"}}).repeat(1)
    assert "seed" not in ease.model
    assert ease.split.seed is None
    assert check_config({"model": {"name": "EASE"}}).repeat(1).split.seed == 98766


def test_histories_come_with_all_that_the_users_met():
    section = {"users": 60, "items": 40, "interactions": 900, "min_rating": 4.0, "min_user": 5, "binary": True}
    data = check_config({"data": section}).data
    read, met = data.histories()
    assert set(read.matrix.data) == {1.0}
    assert met.nnz == 900 > read.nnz > data.load().nnz
    assert met.matrix.data.min() < 4
    assert check_config({"data": {**section, "min_rating": None}}).data.histories()[1] is None


def test_one_column_to_keep_is_a_name_and_not_letters(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("user_id,item_id,split\na,x,train\na,y,test\n")
    assert set(check_config({"data": {"file": str(path)}}).data.load(keep="split").columns) == {"split"}


def test_as_dict_comes_back_as_the_same_configuration(file):
    config = load_config(file, ["track.register=name", "evaluate.metrics=['ndcg@5']"])
    assert check_config(config.as_dict()) == config


def test_own_file_with_own_columns(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("who,what,plays\na,x,1\na,y,2\nb,x,3\n")
    section = {"file": str(path), "user": "who", "item": "what", "rating": "plays"}
    data = check_config({"data": section}).load_data()
    assert data.shape == (2, 2)
    assert data.matrix.data.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match="whom"):
        check_config({"data": {**section, "user": "whom"}}).load_data()


def test_defaults_are_a_whole_job():
    assert JobConfig().new_model().epochs > 0


def test_system_metrics_need_psutil(monkeypatch):
    monkeypatch.setattr("recsys.config.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs psutil: pip install psutil"):
        check_config({"track": {"system_metrics": True}, "model": {"name": "EASE"}})
