"""The scripts in pipelines/ give the figures of the commands, on small data; MLproject names commands that exist."""

import ast
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.projects.utils import load_project

from recsys import cli, tracking
from recsys.config import load_config, load_configs
from recsys.datasets import synthetic
from recsys.jobs import compare, evaluate, nightly, serve, train, tune
from recsys.workspace import Workspace

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "pipelines").glob("*.py"))

CONFIG = """
[data]
name = "synthetic"
users = 400
items = 120
interactions = 12000
min_rating = 3.0
min_user = 5
binary = true
[split]
kind = "hold_out_users"
n_users = 0.2
stable = true
[model]
name = "EASE"
regularization = 100.0
[evaluate]
metrics = ["ndcg@10", "recall@10", "coverage@10", "truncated_recall@50"]
[track]
register = "nightly"
[promote]
guards = {}
minimum_gain = 0.0
slowdown = 1000.0
"""
SPACE = """
[tune]
trials = 3
space = {regularization = {low = 5.0, high = 500.0, log = true}}
"""
NETWORK = """
name = "MultVAE"
hidden = 8
latent = 4
epochs = 4
batch_size = 40
learning_rate = 0.01
schedule = "constant"
"""
CHAMPION = "models:/nightly@champion"


def network(config):
    return re.sub(r'(?<=\[model\]\n)name = "EASE"\n.*\n', NETWORK.lstrip(), config)


@pytest.fixture
def script(mlflow_root, monkeypatch):
    """Run a script as `python pipelines/NAME.py WORDS` in an empty working folder; return its functions."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        return runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture
def function(mlflow_root):
    """Return a function of a script, without running the script."""
    return lambda name, function: runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"))[function]


@pytest.fixture
def config(mlflow_root):
    """A file with the small configuration."""
    file = mlflow_root / "small.toml"
    file.write_text(CONFIG)
    return file


def assert_same(one, other):
    """Two evaluations have the same figures, to the last digit, for the same users."""
    pd.testing.assert_frame_equal(one.summary, other.summary, check_exact=True)
    pd.testing.assert_frame_equal(one.per_user, other.per_user, check_exact=True)


VARIANTS = {
    "closed form": CONFIG,
    "last epoch": network(CONFIG) + "[train]\nvalidate_epochs = false\n",
    "refit": network(CONFIG).replace('"hold_out_users"\nn_users = 0.2\nstable = true', '"hold_out_ratings"')
    + "[train]\nrefit = true\n",
    "by time": CONFIG.replace('"hold_out_users"\nn_users = 0.2\nstable = true', '"by_time"'),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_a_training_by_the_script_gives_the_figures_of_the_command(function, config, text):
    config.write_text(text)
    (command,) = train.run(Workspace(progress=False), load_config(config), force=True)
    script = function("train", "train")(Workspace(progress=False), load_config(config))
    assert_same(script, command.test)
    about = [dict(tracking.load(f"models:/nightly/{version}").about_) for version in (1, 2)]
    for name in ("config", "data", "trained_on"):
        assert about[0][name] == about[1][name]


def test_a_registered_model_is_measured_by_the_script_as_by_the_command(function, script, config, capsys):
    script("train", str(config))
    uri = "models:/nightly/1"
    assert_same(function("evaluate", "measure")(Workspace(), uri), evaluate.evaluate(Workspace(), uri))
    script("evaluate", uri)
    assert "models:/nightly/1, EASE" in capsys.readouterr().out


def test_a_model_is_not_measured_on_data_that_have_changed(function, script, config, monkeypatch):
    script("train", str(config))
    other = load_config(config, ["data.seed=1"])
    measure = function("evaluate", "measure")
    monkeypatch.setitem(measure.__globals__, "check_config", lambda _: other)
    with pytest.raises(SystemExit, match="may have seen the test part"):
        measure(Workspace(), "models:/nightly/1")


def test_a_search_by_the_script_is_that_of_the_command(function, script, config, mlflow_root):
    config.write_text(CONFIG + SPACE)
    command = tune.run(Workspace(mlflow_root / "other", False), load_config(config), output=mlflow_root / "other.toml")
    script("tune", str(config), "best.toml")
    assert load_config("best.toml") == load_config(mlflow_root / "other.toml")
    tuned = function("tune", "search")(Workspace(progress=False), load_config(config), Path("again.toml"))
    columns = ["trial", "state", "value", "regularization"]
    pd.testing.assert_frame_equal(tuned.trials[columns], command.trials[columns], check_exact=True)


def test_a_comparison_by_the_script_is_that_of_the_command(function, config, mlflow_root):
    (mlflow_root / "popularity.toml").write_text(re.sub(r'"EASE"\n.*\n', '"Popularity"\n', CONFIG))
    configs = load_configs([config, mlflow_root / "popularity.toml"])
    command = compare.run(Workspace(progress=False), configs, mlflow_root / "out").comparison
    script = function("compare", "compare_all")(Workspace(progress=False), configs)
    pd.testing.assert_frame_equal(script.pairs, command.pairs, check_exact=True)
    assert tracking.versions_if_any("nightly") == []


def test_models_of_other_data_are_not_compared(function, config):
    one, other = load_config(config), load_config(config, ["data.seed=1"])
    with pytest.raises(SystemExit, match="of b differ"):
        function("compare", "compare_all")(Workspace(), {"a": one, "b": other})


def test_a_night_by_the_script_has_the_lists_of_the_command(script, config, mlflow_root, capsys):
    command = nightly.run(Workspace(mlflow_root / "other", False), load_config(config))
    script("nightly", str(config))
    assert tracking.pin(CHAMPION) == command.champion == "models:/nightly/1"
    written = Workspace().scored / "nightly"
    pd.testing.assert_frame_equal(pd.read_parquet(written), pd.read_parquet(command.output), check_exact=True)
    # The second night's challenger is no better than the first night's champion, who stays.
    script("nightly", str(config))
    assert tracking.pin(CHAMPION) == "models:/nightly/1"
    assert len(tracking.model_versions("nightly")) == 2
    assert "models:/nightly/1 recommended to 400 users" in capsys.readouterr().out


def test_a_night_needs_a_name_and_a_champion(script, config):
    config.write_text(CONFIG.replace('register = "nightly"\n', ""))
    with pytest.raises(SystemExit, match=r"set track\.register"):
        script("nightly", str(config))
    config.write_text(CONFIG.replace("minimum_gain = 0.0", "minimum_gain = 99.0"))
    with pytest.raises(SystemExit, match="no champion to score with"):
        script("nightly", str(config))


def test_a_champion_is_promoted_scored_with_and_rolled_back(script, config, mlflow_root, capsys):
    script("train", str(config))
    script("promote", "nightly")
    assert tracking.pin(CHAMPION) == "models:/nightly/1"
    with pytest.raises(SystemExit, match="the champion already"):
        script("promote", "nightly")

    script("score", CHAMPION, "scored")
    serve.score(Workspace(progress=False), CHAMPION, mlflow_root / "by-command")
    lists = pd.read_parquet("scored")
    pd.testing.assert_frame_equal(lists, pd.read_parquet("by-command"), check_exact=True)

    frame = script("recommend", CHAMPION, "2", "1")["recommend"](Workspace(), CHAMPION, ["2", "1"])
    command = serve.recommend(Workspace(), CHAMPION, ["2", "1"])
    pd.testing.assert_frame_equal(frame, command[frame.columns], check_exact=True)
    assert frame["title"][0] in capsys.readouterr().out

    better = load_config(config, ["model.regularization=200.0"])
    train.run(Workspace(progress=False), better)
    tracking.promote("nightly", 2)
    script("rollback", "nightly")
    assert tracking.pin(CHAMPION) == "models:/nightly/1"


def test_a_challenger_without_merit_is_not_promoted(script, config):
    config.write_text(CONFIG.replace("minimum_gain = 0.0", "minimum_gain = 99.0"))
    script("train", str(config))
    script("promote", "nightly")
    (version,) = tracking.model_versions("nightly")
    assert version.aliases == ()


def test_the_demo_compares_three_models_and_recommends_titles(function, capsys):
    ratings = synthetic(users=200, items=60, interactions=6000)
    results = function("demo", "demo")(ratings, epochs=2)
    assert results.keys() == {"Popularity", "EASE", "MultVAE"}
    assert all(np.isfinite(result["ndcg@10"]) for result in results.values())
    assert len(re.findall("|".join(map(re.escape, ratings.titles)), capsys.readouterr().out)) >= 10


def test_what_a_script_does_without_a_file_is_a_valid_configuration(function):
    generated = ROOT / "pipelines" / "configs" / "nightly.toml"
    assert load_config(generated).data.name == "synthetic"
    assert load_config(generated, [function("tune", "SPACE")]).search().trials == 8
    assert load_config(generated, [function("compare", "POPULARITY")]).model == {"name": "Popularity"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_names_its_files_and_its_command(path):
    text = path.read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 80
    about = ast.get_docstring(ast.parse(text))
    assert f"`recsys {path.stem}" in about
    (usage,) = re.findall(rf"^python pipelines/{path.name}(.*)$", about, re.MULTILINE)
    for word in shlex.split(usage):
        if word.startswith("pipelines/"):
            load_config(ROOT / word)


def test_the_files_that_the_comparison_names_can_be_compared():
    about = ast.get_docstring(ast.parse((ROOT / "pipelines" / "compare.py").read_text(encoding="utf-8")))
    configs = load_configs(ROOT / file for file in re.findall(r"pipelines/\S+\.toml", about))
    one, other = configs.values()
    assert (one.data, one.split, one.evaluate) == (other.data, other.split, other.evaluate)


def test_every_script_is_called_as_the_command_that_it_writes_out():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"`recsys (\w+)", readme))
    assert {script.stem for script in SCRIPTS} <= commands | {"demo"}


def test_the_project_has_these_entry_points_alone():
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    assert project["entry_points"].keys() == {"main", "train"}


@pytest.mark.parametrize(("name", "command"), [("main", "nightly"), ("train", "train")])
def test_an_entry_point_of_the_project_is_a_command_with_its_configuration(name, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    entry_point = load_project(str(ROOT)).get_entry_point(name)
    program, *words = shlex.split(entry_point.compute_command({}, None))
    arguments = cli.parser().parse_args(words)
    assert (program, arguments.chosen.name) == ("recsys", command)
    assert load_config(arguments.config).track.register_as
