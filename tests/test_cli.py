"""What the command says: its help, wrong arguments, and what it prints for people."""

import argparse
import ast
import inspect
import os
import subprocess
import sys
import textwrap
from importlib import import_module

import pandas as pd
import pytest

import recsys
from recsys import datasets, tracking
from recsys.cli import main, parser
from recsys.commands import COMMANDS
from recsys.config import check_config
from recsys.errors import ConfigError, TrackingError
from recsys.jobs import data, registry, serve, tune
from recsys.workspace import Workspace


def parsers(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [top]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for sub in action.choices.values() for inner in parsers(sub)]
    return found


def test_every_argument_has_a_help_and_no_placeholder_named_after_a_variable():
    for sub in parsers(parser()):
        assert sub.description, sub.prog
        for action in sub._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (sub.prog, action.dest)
            assert action.metavar or not action.option_strings or action.dest not in ("users", "metrics", "root")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_a_parameter_that_its_function_reads(command):
    module, _, name = command.function.partition(":")
    function = getattr(import_module(module), name)
    options = {action.dest for action in parser_of(command)._actions} - {
        "help",
        "root",
        "quiet",
        "verbose",
        "modules",
        "form",
    }
    (workspace, *parameters) = inspect.signature(function).parameters
    if options & {"config", "configs"} and "overrides" not in parameters:
        options -= {"overrides"}  # read with the file
    assert workspace == "workspace"
    assert options <= set(parameters), "parsed, and no parameter of the function"
    assert set(parameters) - options == set(), "a parameter that no option gives"
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    read = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert options <= read, "parsed and not used"


def parser_of(command):
    words, found = command.name.split(), parser()
    for word in words:
        (choices,) = [a.choices for a in found._actions if isinstance(a, argparse._SubParsersAction)]
        found = choices[word]
    return found


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "soon"])
def test_minutes_are_a_number_above_0(minutes, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["tune", "any.toml", f"--minutes={minutes}"])
    assert f"--minutes: must be a number above 0, got '{minutes}'" in capsys.readouterr().err


def test_a_budget_that_is_none_is_a_configuration_error():
    config = check_config({"model": {"name": "EASE"}, "tune": {"space": {"regularization": [1.0, 2.0]}}})
    assert tune.with_search(config, 3, None).tune.trials == 3
    with pytest.raises(ConfigError, match=r"minutes = -1\.0"):
        tune.with_search(config, None, -1.0)


def test_a_folder_that_is_not_there_is_named_once(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "absent"), "--root", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert said.count("absent") == 1
    assert "there is no such folder" in said


def test_a_configuration_that_refuses_repeated_rows_has_none(tmp_path, capsys):
    datasets.synthetic(80, 40, 1200).to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    file = tmp_path / "small.toml"
    head = f"[data]\nname = 'own'\nfile = '{tmp_path / 'ratings.csv'}'\n"
    file.write_text(f"{head}[split]\nkind = 'hold_out_ratings'\n", encoding="utf-8")
    assert data.run(Workspace(tmp_path), str(file)).repeated == 0
    file.write_text(f"{head}duplicates = 'last'\n[split]\nkind = 'hold_out_ratings'\n", encoding="utf-8")
    assert data.run(Workspace(tmp_path), str(file)).repeated is None
    assert "repeated rows   0" in capsys.readouterr().out


def test_recommendations_say_what_stands_in_brackets(capsys):
    rows = recsys.datasets.synthetic(50, 20, 400)
    model = recsys.Popularity().fit(rows)
    user = rows.users.ids()[0]
    serve.print_user(
        rows, user, serve.with_titles(model, rows, recsys.recommend_frame(model, rows, [user], n=2, seen=rows))
    )
    assert "recommended (score)" in capsys.readouterr().out


def test_what_a_version_lacks_is_a_dash(monkeypatch, capsys):
    facts = {
        1: {"params": {"model.name": "EASE"}, "metrics": {"ndcg": 0.123456789}},
        2: {"params": {"model.name": "EASE", "model.hidden": "3"}, "metrics": {}},
    }
    monkeypatch.setattr(registry.tracking, "configure", lambda root, create: "")
    monkeypatch.setattr(registry.tracking, "version_facts", lambda name, version: facts[version])
    registry.diff(Workspace(), "any", 1, 2)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [["params", "model.hidden", "-", "3"], ["metrics", "ndcg", "0.123457", "-"]]


def test_who_rated_everything_low_gets_the_popular_items_that_they_have_not_seen(tmp_path, capsys):
    frame = recsys.datasets.synthetic(60, 30, 900, seed=1).to_frame()
    low = frame.user_id.iloc[0]
    frame.loc[frame.user_id == low, "rating"] = 1.0
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    config = check_config(
        {
            "data": {"name": "own", "file": str(tmp_path / "ratings.csv"), "min_rating": 2.0},
            "split": {"kind": "hold_out_ratings"},
            "model": {"name": "Popularity"},
        }
    )
    model = recsys.EASE(regularization=5.0).fit(config.load_data(), show_progress=False)
    model.about_ = {"config": config.as_dict()}
    model.save(tmp_path / "model")
    met = set(frame.item_id[frame.user_id == low])
    popular = config.load_data().to_frame().item_id.value_counts()
    expected = sorted((item for item in popular.index if item not in met), key=lambda item: (-popular[item], item))
    assert main(["recommend", str(tmp_path / "model"), "--user", str(low), "-n", "4", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "(as for a user without a history: the model reads nothing below data.min_rating)" in out
    shown = out.partition("recommended (score)")[2].splitlines()[1:5]
    assert [line.split()[1] for line in shown] == [str(item) for item in expected[:4]]
    assert main(["score", str(tmp_path / "model"), "--output", str(tmp_path / "lists"), "--quiet"]) == 0
    assert "below data.min_rating: 1\n" in capsys.readouterr().out
    lists = pd.read_parquet(tmp_path / "lists")
    assert lists.item_id[lists.user_id == low].tolist() == expected[:10]
    assert lists.user_id.nunique() == frame.user_id.nunique()


def test_a_positional_that_is_left_out_is_left_to_the_function():
    assert parser().parse_args(["registry", "show", "any"]).version is None


def test_a_warning_about_the_data_is_one_line_that_names_the_command():
    code = (
        "import recsys.cli, recsys.jobs.registry as jobs; from recsys.errors import warn\n"
        "jobs.list_models = lambda workspace: warn('3 of 4 users are unknown')\n"
        "recsys.cli.main(['registry', 'list'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr == "recsys registry list: warning: 3 of 4 users are unknown\n"


def test_recommendations_show_what_the_data_know_of_the_items(capsys):
    frame = pd.DataFrame({"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 8, 9, 7]})
    items = pd.DataFrame({"item_id": [7, 8], "title": ["Heat", None], "brand": ["A", "B"], "price": [2.5, None]})
    rows = recsys.Interactions.from_frame(frame, items=items)
    model = recsys.EASE().fit(recsys.Interactions.from_frame(frame), show_progress=False)
    lists = serve.with_titles(model, rows, recsys.recommend_frame(model, rows, [2, 3], n=2))
    assert lists.columns.tolist() == ["user_id", "item_id", "score", "rank", "source", "title", "brand", "price"]
    shown = lists.set_index("item_id")
    assert shown.loc[7, ["title", "brand", "price"]].tolist() == ["Heat", "A", 2.5]
    assert shown.loc[9, "title"] == "9"
    assert shown.loc[[8, 9], "price"].isna().all()
    serve.print_user(rows, 2, lists[lists["user_id"] == 2])
    printed = capsys.readouterr().out
    assert "    8  B\n    9\n" in printed
    assert ")  A · 2.5\n" in printed


@pytest.fixture
def popular(tmp_path):
    """A saved model of users with integer ids, its data beside it, and a configuration."""
    recsys.datasets.synthetic(60, 30, 900).to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    config = check_config({"data": {"file": str(tmp_path / "ratings.csv")}, "model": {"name": "Popularity"}})
    model = recsys.Popularity().fit(config.load_data())
    model.about_ = {"config": config.as_dict()}
    model.save(tmp_path / "model")
    (tmp_path / "job.toml").write_text('[model]\nname = "EASE"\n', encoding="utf-8")
    return tmp_path


def refused(capsys, code, *argv):
    """Return the one line with which a command is refused, which ends with that code."""
    assert main(argv) == code
    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["recommend", "model", "--user", "9" * 5000], 4, "unknown id '999"),
        (["recommend", "model", "--user", "9" * 50], 4, "unknown id '999"),
        (["recommend", "model", "--user", "a\nb"], 4, r"unknown id 'a\nb'"),
        (["train", "no\nsuch.toml"], 4, "there is no configuration file no such.toml"),
        (["train", "job.toml", "--set", "model.regularization=" + "[" * 3000], 2, "nested too deeply"),
        (
            ["train", "job.toml", "--set", "split.n_users=true"],
            2,
            "split.n_users must be a whole number or a finite",
        ),
        (["train", "job.toml", "--set", "data.file='a\\u0000b'"], 4, "expected a file or folder at a"),
        (["train", "job.toml", "--set", 'data.file="a\\u0000b"'], 2, "is not text: it holds a NUL"),
        (
            ["train", "job.toml", "--set", "data.file=~no-such-user/x.csv"],
            4,
            "expected a file or folder at ~no-such-user/x.csv",
        ),
        (
            ["train", "job.toml", "--set", f"evaluate.metrics=['ndcg@{'9' * 5000}']"],
            2,
            "ndcg needs a positive whole number",
        ),
        (["train", "deep.toml"], 2, "deep.toml: values are nested too deeply"),
        (["train", "long.toml"], 2, "long.toml is not valid TOML"),
        (["data", "~no-such-user/x.csv"], 4, "there is no file or folder ~no-such-user/x.csv"),
        (["data", "a" * 5000], 3, "File name too long"),
    ],
)
def test_what_no_job_can_take_is_one_line(popular, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(popular)
    (popular / "deep.toml").write_text("a = " + "[" * 3000, encoding="utf-8")
    (popular / "long.toml").write_text("a = " + "9" * 5000, encoding="utf-8")
    assert message in refused(capsys, code, *words)


def test_a_version_of_thousands_of_digits_is_no_address():
    with pytest.raises(TrackingError, match="expected models:/NAME@ALIAS or models:/NAME/VERSION"):
        tracking.load("models:/small/" + "9" * 5000)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "a\0b.toml"], "an argument holds a NUL character"),
        (["train", ""], "must name a file or folder"),
        (["recommend", "model", "--user=--"], "'--'"),
        (["recommend", "model", "--user", "1", "-n--"], "'--'"),
        (["rollback", "a\udcff"], r"name: must be text that UTF-8 can encode, got 'a\udcff'"),
        (["score", "model", "--output", "."], "must end in the name of a file or folder, got '.'"),
        (
            ["recommend", "model", "--user", "1", "-n", "9" * 5000],
            "-n: must be a whole number of at least 1 and below 10**18",
        ),
        (["recommend", "model", "--user", "1", "-n", "1_0"], "-n: must be a whole number"),
        (["registry", "show", "any", "9" * 19], "version: must be a whole number of at least 1 and below 10**18"),
    ],
)
def test_arguments_that_nothing_can_mean_are_refused_by_the_parser(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


def test_numbers_may_have_leading_zeros():
    assert parser().parse_args(["recommend", "m", "--user", "1", "-n", "0012"]).n == 12


@pytest.mark.parametrize("uri", ["http://[", "sqlite:", "nonsense://x"])
def test_a_store_that_is_none_is_one_line(tmp_path, monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert f"cannot open {uri}: " in refused(capsys, 5, "registry", "list", "--root", str(tmp_path))


def test_text_that_the_terminal_cannot_show_is_escaped(popular):
    command = [sys.executable, "-m", "recsys", "data", str(popular / "job.toml"), "--root", str(popular)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "training Interactions(" in shown.stdout
    assert r"users \xd7 " in shown.stdout


def test_entries_of_equal_time_are_a_line_of_the_command_and_of_the_report(popular, capsys):
    frame = recsys.datasets.synthetic(60, 30, 900).to_frame().assign(timestamp=7)
    frame.to_csv(popular / "tied.csv", index=False)
    text = (
        f"[data]\nfile = '{popular / 'tied.csv'}'\n[split]\nkind = 'leave_last_out'\nseed = 4\n[model]\nname = 'EASE'\n"
    )
    (popular / "tied.toml").write_text(text, encoding="utf-8")
    note = "60 of 60 users have entries of equal time where the latest are held out, 60 of them for the test entry"
    assert main(["data", str(popular / "tied.toml")]) == 0
    assert f"\nsplit leave_last_out: {note}; a draw (seed 4) decided\n" in capsys.readouterr().out
    split = recsys.splits.leave_last_out(recsys.datasets.read(popular / "tied.csv"), seed=4)
    model = recsys.Popularity().fit(split.train)
    found = recsys.evaluate(model, split.test, ["ndcg@5"], popularity=split.train)
    assert note in recsys.report.page(model, split, found)


def test_items_that_tonight_s_file_does_not_hold_are_described_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = recsys.datasets.synthetic(60, 30, 900).to_frame()[["user_id", "item_id"]]
    frame.to_csv("all.csv", index=False)
    frame[frame["user_id"] == 1].to_csv("tonight.csv", index=False)
    items = pd.DataFrame(
        {"item_id": range(1, 31), "title": [f"T{item}" for item in range(1, 31)], "price": range(1, 31)}
    )
    items.to_csv("items.csv", index=False)
    config = check_config({"data": {"file": "all.csv", "items": "items.csv"}, "model": {"name": "EASE"}})
    model = recsys.EASE().fit(config.load_data(), show_progress=False)
    model.about_ = {"config": config.as_dict()}
    model.save("model")
    lists = serve.recommend(Workspace(tmp_path), "model", ["1"], n=5, data="tonight.csv")
    assert lists["title"].tolist() == [f"T{item}" for item in lists["item_id"]]
    assert lists["price"].tolist() == lists["item_id"].tolist()
    printed = capsys.readouterr().out
    assert all(f"  T{item}  (" in printed and f")  {item}\n" in printed for item in lists["item_id"])
