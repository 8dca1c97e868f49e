"""How commands behave: exit codes, advice in their own words, progress, completion, and overrides."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recsys
from recsys.cli import main
from recsys.commands import COMMANDS
from recsys.config import check_config
from recsys.errors import ConfigError, DataError, Exit, absent
from recsys.hints import in_commands_words, keys

BY_NAME = {command.name: command for command in COMMANDS}
CONFIG = """
[data]
file = "plays.csv"

[model]
name = "MultVAE"
epochs = 2
hidden = 8
latent = 4
batch_size = 64

[track]
register = "shop"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with data, a configuration, a saved model, a broken one and a table that is none."""
    folder = tmp_path_factory.mktemp("shop")
    recsys.datasets.synthetic(60, 30, 900).to_frame().to_csv(folder / "plays.csv", index=False)
    (folder / "job.toml").write_text(CONFIG)
    config = check_config({"data": {"file": str(folder / "plays.csv")}, "model": {"name": "EASE"}})
    model = recsys.EASE().fit(config.load_data(), show_progress=False)
    model.about_ = {"config": config.as_dict()}
    model.save(folder / "model")
    model.save(folder / "broken")
    (folder / "broken" / "weights.safetensors").write_bytes(b"no tensors")
    (folder / "broken.csv").write_text("user_id,item_id\n1,2\n3\n")
    return folder


USAGE = {
    "train": "job.toml --set model.epochs=-1",
    "tune": "job.toml --set model.epochs=-1",
    "compare": "job.toml --output o",
    "evaluate": "model --output users.txt",
    "analyze": "model --output o --what nothing",
    "recommend": "model --user 1 --items plays.csv",
    "similar": "model 1 --items plays.csv",
    "users": "model 1 --items plays.csv",
    "explain": "model --user 1 --item 1 --method gradients",
    "promote": "shop --challenger --version 1",
    "score": "model --output o --engine local --master x",
    "prepare": "job.toml --output o --set data.nothing=1",
    "nightly": "job.toml --set track.register='a/b'",
    "data": "plays.csv --set data.nothing=1",
}
ABSENT = {
    "train": "none.toml",
    "tune": "none.toml",
    "compare": "none.toml other.toml --output o",
    "evaluate": "none",
    "analyze": "none --output o",
    "recommend": "model --user 999999",
    "similar": "model 999999",
    "users": "model 999999",
    "explain": "model --user 999999 --item 1",
    "export": "none --onnx m.onnx",
    "promote": "shop",
    "rollback": "shop",
    "registry list": "",
    "registry show": "shop",
    "registry diff": "shop 1 2",
    "registry prune": "shop --keep 1",
    "ui": "",
    "score": "models:/shop/1 --output o",
    "data": "none.csv",
    "prepare": "none.toml --output o",
    "nightly": "job.toml --set data.file=none.csv",
    "init": "none.csv",
    "run": "none.csv --output o",
    "templates": "nothing",
}
DATA = {
    "init": "broken.csv",
    "run": "broken.csv --output o",
    "train": "job.toml --set data.file=broken.csv",
    "tune": "job.toml --set data.file=broken.csv",
    "compare": "job.toml job.toml --output o",
    "evaluate": "broken",
    "analyze": "broken --output o",
    "recommend": "broken --user 1",
    "similar": "broken 1",
    "users": "model 1 --data broken.csv",
    "explain": "model --user 1 --item 1 --data broken.csv",
    "export": "broken --onnx m.onnx",
    "score": "model --output o --data broken.csv",
    "data": "broken.csv",
    "prepare": "job.toml --output o --engine local --set data.file=broken.csv",
    "nightly": "job.toml --set data.file=broken.csv",
}
DATA.pop("compare")  # of two configurations, whose names must differ: the same as train
# A training goes on where the server does not answer, and its report waits.
SERVER = {
    "recommend": "models:/shop/1 --user 1",
    "score": "models:/shop/1 --output o",
    "promote": "shop",
    "rollback": "shop",
    "registry list": "",
    "registry show": "shop",
    "registry diff": "shop 1 2",
    "registry prune": "shop --keep 1",
    "nightly": "job.toml",
}


def ended(folder, monkeypatch, name, words):
    monkeypatch.chdir(folder)
    return main([*name.split(), *words.split(), "--root", str(folder), "--quiet"])


def test_every_command_is_asked_for_something_that_is_not_there():
    others = {"sync", "completion", "demo"}  # which name nothing
    assert set(ABSENT) == set(BY_NAME) - others


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        (code, name, words)
        for code, cases in ((Exit.USAGE, USAGE), (Exit.NOT_FOUND, ABSENT), (Exit.DATA, DATA))
        for name, words in cases.items()
    ],
)
def test_exit_codes(shop, monkeypatch, capsys, code, name, words):
    assert ended(shop, monkeypatch, name, words) == code, capsys.readouterr().err
    said = capsys.readouterr().err
    assert said.startswith(f"recsys {name}: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", BY_NAME)
def test_a_wrong_option_is_usage(name):
    with pytest.raises(SystemExit, match="2"):
        main([*name.split(), "--no-such-option"])


@pytest.mark.parametrize(("name", "words"), SERVER.items())
def test_a_server_that_does_not_answer(shop, monkeypatch, capsys, name, words):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert ended(shop, monkeypatch, name, words) == Exit.SERVER, capsys.readouterr().err


def test_codes_of_errors():
    assert DataError("x").exit_code == Exit.DATA
    assert absent(DataError("x")).exit_code == Exit.NOT_FOUND
    assert DataError("x").exit_code == Exit.DATA  # the class is as it was
    assert ConfigError("x").exit_code == Exit.USAGE
    assert {code.value for code in Exit} == {0, 2, 3, 4, 5, 6, 130, 143}


@pytest.mark.parametrize(
    ("name", "message", "said"),
    [
        ("train", "(name columns with user=, item=)", "(name columns with data.user, data.item)"),
        ("train", "choose duplicates='last', 'sum'", "choose data.duplicates = 'last', 'sum'"),
        ("train", "or pass timestamp=None to ignore it", "or pass data.timestamp = false to ignore it"),
        ("train", "or pass temporal=False", "or pass split.temporal = false"),
        ("train", "leave center=None, or set biases=None", "leave model.center unset, or set model.biases unset"),
        ("train", "reaches min_relevance=4.0; the", "reaches evaluate.min_relevance = 4.0; the"),
        ("train", "names=['a', 'b', ...]", "data.names = ['a', 'b', ...]"),
        ("explain", "use method='leave-one-out'", "use --method leave-one-out"),
        ("explain", "name columns with user=, item=", "name columns with data.user, data.item"),
        ("score", "give one, items=, or", "give one, --items, or"),
        ("nightly", "give one, items=, or", "give one, data.items, or"),
        ("score", "pass on_unknown='drop' to", "pass --on-unknown drop to"),
        # What was typed, ids and values, and what no key is called, stay.
        (
            "train",
            "--set data.user=x: user's 'item=3' and \"rating=1\"",
            "--set data.user=x: user's 'item=3' and \"rating=1\"",
        ),
        ("train", "split.user=1, --user=2, a==b, nothing=3", "split.user=1, --user=2, a==b, nothing=3"),
    ],
)
def test_advice_is_in_the_commands_words(name, message, said):
    assert in_commands_words(message, BY_NAME[name]) == said


def hints():
    """Every text of the package that an error or a warning may show and that names an argument, with its place."""
    for path in sorted(Path(recsys.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_warning = isinstance(node, ast.Call) and ast.unparse(node.func) in ("warn", "warnings.warn")
            if not (is_warning or (isinstance(node, ast.Raise) and node.exc is not None)):
                continue
            inner = {
                id(value)
                for found in ast.walk(node)
                if isinstance(found, ast.FormattedValue)
                for value in ast.walk(found)
            }
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inner:
                    for name in re.findall(r"(?<![-\w.])([a-z_]{2,})=(?!=)", text.value):
                        yield f"{path.name}: {name}="


PYTHON = {
    "allow_overlap", "at_most", "exclude_seen", "item_vectors", "keep", "keep_users", "lengths", "method", "methods",
    "min_users", "on_unknown", "root", "seen", "user_items", "filter_already_liked_items", "query",
}  # fmt: skip
"""Arguments of functions that no command lets fail so: what commands call has another way, or is tested by its flag."""


def test_every_hint_can_be_said_at_the_command_line():
    places = set(keys())
    found = list(hints())
    assert any(hint.endswith(" duplicates=") for hint in found)
    assert [hint for hint in found if hint.split()[-1][:-1] not in places | PYTHON] == []


@pytest.mark.parametrize("key", ["timestamp", "rating"])
def test_a_column_is_left_out_by_false(shop, capsys, monkeypatch, key):
    monkeypatch.chdir(shop)
    assert main(["data", "plays.csv", "--json"]) == 0
    with_it = {(row["what"], row["name"]): row["value"] for row in json.loads(capsys.readouterr().out)}
    assert main(["data", "plays.csv", "--json", "--set", f"data.{key}=false"]) == 0
    without = {(row["what"], row["name"]): row["value"] for row in json.loads(capsys.readouterr().out)}
    assert with_it["entries", ""] == without["entries", ""]
    assert (("time", "first") in without) == (key != "timestamp")
    values = [name for what, name in without if what == "entries of value"]
    assert (values == ["1"]) == (key == "rating")


def test_odd_columns_are_named_by_set(tmp_path, capsys):
    (tmp_path / "events.csv").write_text("customer,sku\na,x\na,y\nb,x\n")
    assert main(["data", str(tmp_path / "events.csv")]) == Exit.DATA
    said = capsys.readouterr().err
    assert "data.user" in said
    assert "user=" not in said
    options = ["--set", "data.user=customer", "--set", "data.item=sku"]
    assert main(["data", str(tmp_path / "events.csv"), *options]) == 0
    assert "entries         3" in capsys.readouterr().out


def test_evaluate_takes_keys_of_the_stored_configuration(shop, capsys, monkeypatch):
    words = "model --allow-other-split --json --metric ndcg@5"
    assert ended(shop, monkeypatch, "evaluate", words) == 0
    plain = json.loads(capsys.readouterr().out)
    assert ended(shop, monkeypatch, "evaluate", f"{words} --set evaluate.min_relevance=5") == 0
    assert json.loads(capsys.readouterr().out)[0]["value"] != plain[0]["value"]


def run(folder, *words, **environment):
    command = [sys.executable, "-m", "recsys", *words]
    kept = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=kept, check=False)


def test_in_a_pipe_there_are_lines_and_no_bars_nor_colors(shop, tmp_path):
    words = ["train", "job.toml", "--root", str(tmp_path), "--force", "--json"]
    shown = run(shop, *words, "--verbose", NO_COLOR="1", FORCE_COLOR="1")
    assert shown.returncode == 0, shown.stderr
    lines = [line for line in shown.stderr.splitlines() if re.match(r"\d\d:\d\d:\d\d  epoch ", line)]
    assert 1 <= len(lines) <= 2
    assert re.search(r"epoch 2/2  loss \d+\.\d+  ndcg@10 \d\.\d+  \d+ s$", lines[-1])
    assert "\r" not in shown.stderr
    assert "\x1b" not in shown.stderr + shown.stdout
    assert re.search(r"^took \d+\.\d s, \d+\.\d\d GiB at the peak$", shown.stderr, flags=re.MULTILINE)
    rows = json.loads(shown.stdout)
    assert {row["metric"] for row in rows} >= {"ndcg@10", "coverage@10"}
    assert {row["registered"] for row in rows} == {"models:/shop/1"}


def test_verbose_shows_where_an_error_comes_from(shop, monkeypatch, capsys):
    assert ended(shop, monkeypatch, "data", "none.csv --verbose") == Exit.NOT_FOUND
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("recsys data: there is no file")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_told_how_to_complete(capsys, shell):
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "_ARGCOMPLETE" in code
    assert "recsys" in code


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("recsys rec", ["recommend"]),
        ("recsys score m --eng", ["--engine"]),
        ("recsys score m --engine ", ["local", "spark"]),
    ],
)
def test_completions(tmp_path, line, expected):
    out = tmp_path / "found"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(out)
    run(tmp_path, **asked)
    assert [found.strip() for found in out.read_text().split("\n")] == expected


def test_a_promotion_by_hand_prints_what_it_compares(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(shop)
    for seed in ("0", "1"):
        words = ["train", "job.toml", "--root", str(tmp_path), "--quiet", "--force", "--set", f"model.seed={seed}"]
        assert main(words) == 0
    assert main(["promote", "shop", "--version", "1", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["promote", "shop", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"version 2 +version 1\n", said)
    assert re.search(r"test/ndcg_at_10 +\d\.\d{4} +\d\.\d{4}\n", said)
    assert "each on its own test part; --challenger measures both on the same users" in said
