"""Configuration: shipped files load, mistakes are named, overrides are typed."""

from pathlib import Path

import pytest

from recsys.config import JobConfig, check_config, load_config
from recsys.errors import ConfigError, DataError

CONFIGS = sorted((Path(__file__).parents[1] / "pipelines" / "configs").rglob("*.toml"))


def test_every_shipped_configuration_is_seen():
    assert len(CONFIGS) == 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_build_their_model(path):
    config = load_config(path)
    model = config.new_model()
    assert type(model).__name__ == config.model["name"]
    for name, value in config.model.items():
        assert name == "name" or getattr(model, name) == value
    assert config.track.register_as


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
        ("split.kind=random", "kind = 'random'"),
        ("hidden", "section.key=value"),
        ("model.hidden.x=1", "'hidden' is a value"),
    ],
)
def test_mistakes_are_named(file, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


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


def test_an_option_that_the_split_does_not_take_is_an_error():
    config = check_config(
        {"split": {"kind": "leave_last_out", "n_users": 5}, "data": {"users": 60, "items": 40, "interactions": 600}}
    )
    with pytest.raises(ConfigError, match="takes no 'n_users'"):
        config.split.split(config.load_data())


def test_a_repeat_moves_the_seed_of_the_split():
    config = check_config(
        {"split": {"kind": "hold_out_ratings"}, "data": {"users": 60, "items": 40, "interactions": 600}}
    )
    data = config.load_data()
    first, again, second = (config.split.split(data, offset).test.target for offset in (0, 0, 1))
    assert (first != again).nnz == 0
    assert (first != second).nnz > 0


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
