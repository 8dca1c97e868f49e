"""Configuration: shipped files load, mistakes are named, overrides are typed."""

import re
import sys
from pathlib import Path

import pytest

from recsys import tracking
from recsys.config import JobConfig, SplitConfig, check_config, import_modules, load_config
from recsys.datasets import synthetic
from recsys.errors import ConfigError, DataError
from recsys.models import registry as models
from recsys.splits import registry

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
        ("model.hiden=3", r"no hyperparameter 'hiden'; did you mean 'hidden'\?"),
        ("modle.x=1", r"unknown key 'modle'; did you mean 'model'\?"),
        ("split.n_user=1", r"unknown key 'split.n_user'; did you mean 'n_users'\?"),
        ("track.regster=x", r"unknown key 'track.regster'; did you mean 'register'\?"),
        ("model.name=MultVEA", r"unknown model 'MultVEA'; did you mean 'MultVAE'\?"),
        ("data.name=ml1m", r"unknown data set 'ml1m'; did you mean 'ml-1m'\?"),
        ("train.metric=ndgc@10", "ndgc"),
        ("model.epochs=many", "epochs of MultVAE must be a whole number.*, got 'many'"),
        ("train.repeats=0", "repeats"),
        ("train.metric=rmse", "MultVAE predicts no ratings, so it has no rmse; choose a list metric"),
        (
            "evaluate.metrics=['diversity@10']",
            "diversity needs item vectors, which no job has: recsys.evaluate takes them",
        ),
        ("split.temporal=true", "split.kind = 'hold_out_users': unknown key 'split.temporal'; known: kind, "),
        ("evaluate.metrics=['ndcg@10', 'mae']", "MultVAE predicts no ratings, so it has no mae"),
        ("track.register=a/b:c", "track.register must be a name without '/' and ':', got 'a/b:c'"),
        ("track.register=' '", "track.register"),
        ("track.experiment=''", "track.experiment"),
        ("model.hidden=0", "hidden.* must be"),
        ("model.dropout=1.5", "dropout.* must"),
        ("model.beta=-1.0", "beta.* must"),
        ("model.epochs=0", "epochs.* must be"),
        ("model.learning_rate=nan", "learning_rate of MultVAE must be a finite number.*, got nan"),
        ("model.seed=-1", "seed.* must .*, got -1"),
        ("split.seed=-1", "split.seed must be a whole number ≥ 0 and < 4294967296, got -1"),
        ("data.seed=-1", "data.seed must be a whole number ≥ 0 and < 4294967296, got -1"),
        ("split.column=mark", "split.kind = 'hold_out_users': unknown key 'split.column'"),
        ("split.kind=given", "split.kind = 'given': unknown key 'split.n_users'"),
        ("split.n_users=a", "split.n_users"),
        ("train.refit=true", "train.refit adds the validation entries of the training users, and this split has none"),
        (
            "split.kind=random",
            "split.kind = 'random': there is no splitter 'random'; known: by_time, cold_items, given",
        ),
        ("data.min_rating=many", "data.min_rating must be a finite number or None, got 'many'"),
        ("data.layout=1", "data.layout must be text, got 1"),
        ("promote.minimum_gian=1", r"unknown key 'promote.minimum_gian'; did you mean 'minimum_gain'\?"),
        ("promote.minimum_gain=-1", "promote.minimum_gain = -1: .* greater than or equal to 0"),
        ("promote.metric=coverage@10", "promote.metric must have a value per user"),
        ("drift.new_user=1", r"unknown key 'drift.new_user'; did you mean 'new_users'\?"),
        ("drift.scores=2", "drift.scores = 2: .* less than or equal to 1"),
        ("tune.space.hidden={low=1,hihg=2}", r"unknown key '.*hihg'; did you mean 'high'\?"),
        ("tune.space.hidden=[]", "tune.space.hidden has no choices"),
        ("tune.space.hiden=[1]", r"\[tune.space\] MultVAE has no hyperparameter 'hiden'"),
        ("tune.trials=0", "tune.trials = 0"),
        ("model.import=3", "model.import must be the name of a module or a list of names, got 3"),
        (
            "data.duplicates=last",
            "data.duplicates: not for the data 'synthetic'; leave out what only data that are read",
        ),
        (
            "data={file='a.csv',users=3,seed=1}",
            "data.users and data.seed: not for the data 'a.csv'.* only generated data",
        ),
        ("data={name='ml-100k',items=3}", "data.items: not for the data 'ml-100k'"),
        ("split.stable=true", "split.kind = 'hold_out_users': a stable split takes n_users as a share .*, got 5"),
        (
            "model={name='MultVAE',patience=3,device='gpu'}",
            "device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'gpu'",
        ),
        ("model.device=cuda:99999999999999999999", "device must be 'auto'"),
        ("tune.space.name=['EASE']", "tune.space.name is not a hyperparameter"),
        ("tune.space.hidden={low=1,high=9,step=0}", "tune.space.hidden.step = 0: .* greater than 0"),
        ("tune.space.hidden={low=1,high=9,step=0.5}", "step must be a whole number as low and high are, got 0.5"),
        ("tune.space.hidden={low=1,high=inf}", "tune.space.hidden.high = inf"),
        ("tune.space.hidden={low=true,high=9}", "tune.space.hidden.low = True: Input should be a valid integer"),
        ("evaluate.min_relevance=nan", "evaluate.min_relevance = nan: .* finite number"),
        ("model.hidden=" + "[" * 3000, "values are nested too deeply"),
        ("model.hidden=" + "[" * 21 + "]" * 21, "values are nested too deeply; .* at most 20 levels deep"),
        ("model" + ".a" * 3000 + "=1", "values are nested too deeply"),
        ("model.hidden=" + "9" * 5000, "hidden of MultVAE must be a whole number .*, got '9999"),
        ("model.hidden=3\nepochs = 1", r"hidden of MultVAE must be a whole number .*, got '3\\nepochs = 1'"),
        ('track.run_name="a\\u0000b"', r"'a\\x00b' is not text: it holds a NUL or an undecodable character"),
        ("track.run_name=a\udcffb", r"'a\\udcffb' is not text"),
        ("track.\udcff=1", r"'\\udcff' is not text"),
        ("hidden", "section.key=value"),
        ("model.hidden.x=1", "'hidden' is a value"),
    ],
)
def test_mistakes_are_named(file, override, message):
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(file, [override])
    assert f"--set {override}" in str(refused.value) or repr(override) in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"patience": 3}, "train": {"validate_epochs": False}}, "patience .* train.validate_epochs = false"),
        (
            {"model": {"name": "Blend"}, "train": {"validate_epochs": False}},
            "Blend chooses its weights on the validation part, which train.validate_epochs = false",
        ),
        (
            {"model": {"name": "Blend"}, "split": {"kind": "by_time", "validation": 0}},
            "Blend chooses its weights on the validation part, which split.validation = 0 leaves empty",
        ),
        ({"model": {"patience": 3}, "split": {"kind": "by_time", "validation": 0}}, "patience .* split.validation = 0"),
        (
            {"tune": {"space": {"patience": [1, 2]}}, "train": {"validate_epochs": False}},
            "patience .* train.validate_epochs",
        ),
        ({"data": {"binary": True}, "evaluate": {"min_relevance": 4}}, "min_relevance = 4 leaves nothing relevant"),
        ({"split": {"seed": 2**32 - 2}, "train": {"repeats": 3}}, "split.seed must be .*, got 4294967296"),
        ({"model": {"seed": 2**32 - 1}, "train": {"repeats": 2}}, "seed of MultVAE must be .*, got 4294967296"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(values, message):
    values = {**values, "model": {"name": "MultVAE", **values.get("model", {})}}
    with pytest.raises(ConfigError, match=message):
        JobConfig.model_validate(values).check()


def test_a_stored_patience_that_counted_nothing_is_still_read():
    stored = {"model": {"name": "MultVAE", "patience": 3}, "train": {"validate_epochs": False}}
    assert check_config(stored).model["patience"] == 3


def test_a_fold_of_number_0_is_a_validation_part():
    split = {"kind": "given", "column": "fold", "test": 1, "validation": 0}
    config = check_config({"split": split, "train": {"refit": True}, "model": {"name": "MultVAE", "patience": 3}})
    config.check()
    assert not config.split.without_validation


def test_a_search_needs_a_validation_part():
    space = {"model": {"name": "EASE"}, "tune": {"space": {"regularization": [1.0]}}}
    with pytest.raises(ConfigError, match=r"set split\.validation above 0"):
        check_config({**space, "split": {"kind": "by_time", "validation": 0}}).search()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "job.toml"
    path.write_text('[model]\nname = "EASE"\n', encoding=encoding)
    assert load_config(path).model == {"name": "EASE"}


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
    for text, message in (
        ("a = " + "[" * 3000, "nested too deeply"),
        (f"a = {'9' * 5000}", "is not valid TOML: .*digits"),
    ):
        broken.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(broken)
    broken.write_text("a = 1", encoding="utf-16")
    for path in (broken, tmp_path, tmp_path / ("a" * 5000), f"{tmp_path}/\0"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(path)


def test_a_model_needs_a_name():
    with pytest.raises(ConfigError, match=r"model\.name is needed"):
        check_config({"model": {"hidden": 3}})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"kind": "leave_last_out", "n_users": 5}, "unknown key 'split.n_users'; known: kind, seed$"),
        ({"kind": "by_time", "seed": 5}, "unknown key 'split.seed'"),
        ({"kind": "hold_out_ratings", "test": "late"}, "split.test must be a finite number > 0 and < 1, got 'late'"),
        (
            {"n_users": 20, "stable": True},
            "'hold_out_users': a stable split takes n_users as a share between 0 and 0.5",
        ),
        ({"n_users": 2.5}, "'hold_out_users': n_users must be a whole number or a share below 1, got 2.5"),
        (
            {"kind": "by_time", "test": 0.9},
            "'by_time': test and validation are shares that sum below 1, got 0.9 and 0.1",
        ),
        ({"kind": "given", "column": "mark", "validation": "test"}, "'given': test and validation must be different"),
        ({"kind": "given"}, "split.column is needed: name of the column that marks the part of each entry"),
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
    ease = check_config({"model": {"name": "EASE"}, "split": {"kind": "by_time"}}).repeat(1)
    assert "seed" not in ease.model
    assert ease.split.given == {}
    assert check_config({"model": {"name": "EASE"}}).repeat(1).split.seed == 98766


def test_histories_come_with_everything_that_the_users_have_seen():
    section = {"users": 60, "items": 40, "interactions": 900, "min_rating": 4.0, "min_user": 5, "binary": True}
    data = check_config({"data": section}).data
    read, seen = data.histories()
    assert set(read.matrix.data) == {1.0}
    assert seen.nnz == 900 > read.nnz > data.load().nnz
    assert seen.matrix.data.min() < 4
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
    monkeypatch.setattr("recsys.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs psutil: pip install psutil"):
        check_config({"track": {"system_metrics": True}, "model": {"name": "EASE"}})


SPLITTER = """
from recsys import splits


@splits.register
def every(data, step: int, column: str = "rank", weights: tuple[float, ...] = (), seed: int = 3):
    '''Hold out the entries whose rank is a multiple of a number.

    Args:
        step: distance between
            test entries.
        weights: not read.
    '''
    test = data.columns[column] % step == 0
    return splits.by_entries(data, None, test)
"""


MODEL = """
import recsys


@recsys.models.register
class MyEASE(recsys.EASE):
    '''Mine.'''

    shift: float = 0.5
"""


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A working folder whose modules, and what they register, are forgotten after the test."""
    registries = (registry._REGISTERED, models._REGISTERED)
    known, modules, path = [dict(names) for names in registries], set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert sys.path == path, "the working folder is on the path only while a module is imported"
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for names, kept in zip(registries, known, strict=True):
        names.clear()
        names.update(kept)


@pytest.mark.parametrize("named", ["my_splits", "my_splits.py", ["my_splits"]])
def test_a_splitter_of_the_users_own_is_imported_checked_and_used(working_folder, named):
    (working_folder / "my_splits.py").write_text(SPLITTER)
    ranks = synthetic(60, 40, 600).to_frame()
    ranks.assign(rank=range(600)).to_csv("ranks.csv", index=False)
    section = {"kind": "every", "step": 5}
    with pytest.raises(ConfigError, match="there is no splitter 'every'"):
        check_config({"split": section})
    assert "my_splits" not in sys.modules
    file = working_folder / "job.toml"
    listed = str(named).replace("'", '"') if isinstance(named, list) else f'"{named}"'
    file.write_text(
        f'[model]\nname = "EASE"\nimport = {listed}\n[data]\nfile = "ranks.csv"\n[split]\nkind = "every"\nstep = 5\n'
    )
    config = load_config(file, ["split.weights=[1, 2.5]"])
    data = config.load_data()
    split = config.split.split(data)
    assert (split.test.target.nnz, split.validation) == (120, None)
    assert config.as_dict()["model"]["import"] == named
    assert check_config(config.as_dict()) == config
    assert [config.repeat(number).split.seed for number in (0, 2)] == [3, 5]
    for wrong, message in (
        ({"step": "x"}, "split.step must be a whole number, got 'x'"),
        ({"step": True}, "split.step must be a whole number, got True"),
        ({"weights": ["a"]}, "split.weights must be a tuple with each entry a finite number"),
        ({"stpe": 5}, r"unknown key 'split.stpe'; did you mean 'step'\?"),
        ({}, "split.step is needed: distance between test entries."),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config({"split": {"kind": "every", **({} if not wrong or "stpe" in wrong else section), **wrong}})


def test_a_stored_configuration_imports_nothing_and_says_what_to_import(working_folder):
    (working_folder / "my_models.py").write_text("raise SystemExit('imported')")
    stored = {"model": {"name": "Mine", "import": "my_models"}}
    with pytest.raises(ConfigError, match=r"unknown model 'Mine'.*import my_models first \(in a command: --import"):
        check_config(stored)
    assert "my_models" not in sys.modules


def test_a_model_of_the_users_own_is_imported_and_built(working_folder):
    (working_folder / "my_models.py").write_text(MODEL)
    file = working_folder / "job.toml"
    file.write_text('[model]\nname = "MyEASE"\nimport = "my_models"\nshift = 1\nregularization = 3.0\n')
    config = load_config(file)
    model = config.new_model()
    assert (type(model).__name__, model.shift, model.regularization) == ("MyEASE", 1.0, 3.0)
    assert check_config(config.as_dict()) == config
    with pytest.raises(ConfigError, match=r"MyEASE has no hyperparameter 'shfit'; did you mean 'shift'\?"):
        load_config(file, ["model.shfit=2"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere", None, "there is no module 'nowhere' in .* or in the environment"),
        ("nowhere.deeper", None, "there is no module 'nowhere.deeper'"),
        ("broken", "import nowhere", "'broken' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("failing", "1 / 0", "'failing' cannot be imported: ZeroDivisionError: division by zero"),
        ("unfinished", "def f(:", "'unfinished' cannot be imported: SyntaxError"),
        ("folder/mine.py", None, "import takes the name of a module .*, got 'folder/mine.py'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(working_folder, name, text, message):
    if text is not None:
        (working_folder / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        import_modules([name])
    file = working_folder / "job.toml"
    file.write_text(f'[model]\nname = "EASE"\nimport = ["{name}"]\n')
    with pytest.raises(ConfigError, match=f"job.toml: .*{message}"):
        load_config(file)


def test_a_configuration_that_version_0_1_0_stored_is_read_as_it_was():
    stored = {
        "data": {"name": "synthetic", "duplicates": "error", "min_rating": 3.0, "min_user": 5, "min_item": 0}
        | {"binary": True, "users": 200, "items": 60, "interactions": 3000, "seed": 0},
        "split": {"kind": "hold_out_users", "n_users": 0.1, "stable": True, "seed": 98765},
        "model": {"name": "MultVAE", "hidden": 50, "latent": 10, "seed": 0},
        "train": {"metric": "ndcg@10", "validate_epochs": True, "refit": False, "repeats": 1},
        "evaluate": {"metrics": ["ndcg@10", "coverage@10"]},
        "track": {"experiment": "nightly", "register": "nightly", "system_metrics": False},
        "promote": {"minimum_gain": 0.01, "confidence": 0.95, "guards": {"coverage@10": 0.5}, "slowdown": 5.0},
        "drift": {"new_users": 0.3, "new_items": 0.1, "popularity": 0.2, "overlap": 0.3, "scores": 0.2},
    }
    config = check_config(stored)
    assert check_config(config.as_dict()) == config
    assert config.promote.for_metric("ndcg@10").metrics == ("ndcg@10", "coverage@10")
    data = config.load_data()
    assert data.fingerprint() == synthetic(200, 60, 3000).filter(min_rating=3.0, min_user=5).binarized().fingerprint()
    assert len(config.split.split(data).test.users) > 0


def test_keys_of_other_data_stay_beside_a_file(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("user_id,item_id\na,x\na,y\n")
    assert check_config({"data": {"file": str(path), "users": 5, "seed": 1}}).load_data().shape == (1, 2)


def test_the_rule_of_promotion_follows_the_metric_of_training():
    rule = check_config({}).promote
    assert rule.metric is None
    assert rule.for_metric("recall@20").metric == "recall@20"
    assert set(rule.for_metric("recall@20").guards) == {"coverage@10", "truncated_recall@50"}
    assert rule.for_metric("rmse").metrics == ("rmse",)
    given = check_config({"promote": {"metric": "ndcg@5", "guards": {"recall@5": 0.1}}}).promote
    assert given.for_metric("rmse").metrics == ("ndcg@5", "recall@5")


def test_old_names_of_hyperparameters_are_translated_in_stored_configurations_alone(file):
    stored = {"model": {"name": "ItemKNN", "neighbours": 40}, "tune": {"space": {"neighbours": [20, 40]}}}
    config = check_config(stored)
    assert config.model == {"name": "ItemKNN", "neighbors": 40}
    assert config.search().space == {"neighbors": [20, 40]}
    assert stored["model"] == {"name": "ItemKNN", "neighbours": 40}
    file.write_text('[model]\nname = "ItemKNN"\nneighbours = 40\n')
    with pytest.raises(ConfigError, match="no hyperparameter 'neighbours': it was renamed to 'neighbors'"):
        load_config(file)


def test_items_are_a_number_of_generated_ones_or_a_table_of_ones_own(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,10\n1,11\n2,10\n")
    (tmp_path / "items.csv").write_text("item_id,title,brand\n10,Heat,A\n")
    read = check_config({"data": {"file": str(tmp_path / "x.csv"), "items": str(tmp_path / "items.csv")}}).data
    assert read.load().title(0) == "Heat"
    generated = check_config({"data": {"users": 50, "items": 40, "interactions": 500}}).data
    assert generated.load().shape == (50, 40)
    assert generated.of({"file": str(tmp_path / "x.csv")}).load().shape == (2, 2)
    assert read.of({"name": "synthetic"}).given == {}


def test_weights_of_events_are_a_table_of_the_section(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id,event\n1,10,view\n1,10,cart\n2,10,view\n")
    section = {"file": str(tmp_path / "x.csv"), "rating": "event", "duplicates": "sum"}
    data = check_config({"data": {**section, "weights": {"view": 1, "cart": 3.5}}}).data.load()
    assert data.matrix.data.tolist() == [4.5, 1]
    with pytest.raises(ConfigError, match=r"data\.weights must be a table with each value"):
        check_config({"data": {**section, "weights": {"view": "1"}}})
