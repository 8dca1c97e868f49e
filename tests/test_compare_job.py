"""`recsys compare`: one split, one budget, one table; what is done stays done."""

import json
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from recsys import tracking
from recsys.cli import main
from recsys.config import JobConfig, check_config
from recsys.errors import ConfigError
from recsys.evaluation import evaluate
from recsys.jobs import compare, tune
from recsys.models import EASE, Popularity
from recsys.splits import hold_out_ratings
from recsys.workspace import Workspace

BASE = {
    "data": {"name": "synthetic", "users": 80, "items": 30, "interactions": 1200, "binary": True},
    "split": {"kind": "hold_out_ratings"},
    "train": {"refit": True},
    "evaluate": {"metrics": ["ndcg@10", "recall@5", "coverage@10"]},
}
SPACE = {"trials": 2, "space": {"regularization": {"low": 1.0, "high": 100.0, "log": True}}}


def job(name="EASE", **sections):
    return check_config({**BASE, "model": {"name": name}, **sections})


@pytest.fixture(autouse=True)
def _home(mlflow_root):
    """An MLflow home of the test's own."""


def run(configs, root, **options):
    return compare.run(Workspace(root, False), configs, root / "out", **options)


def test_the_table_the_verdicts_and_the_files(tmp_path, capsys):
    found = run({"EASE": job(tune=SPACE), "Popularity": job("Popularity")}, tmp_path)
    assert set(found.table.index) == {"EASE", "Popularity"}
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in capsys.readouterr().out
    for part in ("| EASE |", "| Popularity |", "ndcg@10", "recall@5", "bootstrap intervals", "ndcg@10: "):
        assert part in text
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("model")
    assert table.loc["EASE", "ndcg@10"] == pytest.approx(found.table.loc["EASE", ("ndcg@10", "value")])
    assert (tmp_path / "out" / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert len(pd.read_csv(tmp_path / "out" / "pairs.csv")) == 1
    folder = tmp_path / "out" / "models" / "EASE"
    assert len(pd.read_csv(folder / "trials.csv")) == 2
    assert json.loads((folder / "done.json").read_text())["trials"] == 2
    assert 'name = "EASE"' in (folder / "best.toml").read_text()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("metrics", [["ndcg@10"], ["coverage@10", "ndcg@10"]])
def test_every_row_of_the_table_has_as_many_cells_as_its_head(tmp_path, metrics):
    given = {"metrics": metrics}
    run({"EASE": job(evaluate=given), "Popularity": job("Popularity", evaluate=given)}, tmp_path)
    rows = [line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert [row.count("|") for row in rows] == [rows[0].count("|")] * 4
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))


def test_the_baseline_is_the_last_row_and_no_contestant(tmp_path):
    found = run({"a": job(), "b": job(model={"name": "EASE", "regularization": 9.0})}, tmp_path)
    *_, row = [line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if line.startswith("| ")]
    data = job().load_data()
    split = hold_out_ratings(data)
    known = evaluate(Popularity().fit(split.refit(), show_progress=False), split.test, BASE["evaluate"]["metrics"])
    figures = [f"{known[name]:.4f}" for name in ("ndcg@10", "recall@5", "coverage@10")]
    assert row == f"| *Popularity* | {figures[0]} | – | {figures[1]} | {figures[2]} | – | – | – | – |"
    assert set(found.table.index) == {"a", "b"}
    assert len(pd.read_csv(tmp_path / "out" / "pairs.csv")) == 1


def test_without_a_search_the_extra_is_not_needed(tmp_path, monkeypatch):
    for name in ("optuna", "tomli_w", "recsys.tuning.search"):
        monkeypatch.setitem(sys.modules, name, None)
    run({"EASE": job(), "Popularity": job("Popularity")}, tmp_path)
    folder = tmp_path / "out" / "models" / "EASE"
    assert sorted(path.name for path in folder.iterdir()) == ["done.json", "per_user.parquet", "summary.parquet"]
    assert "Nothing was searched: every model was trained once" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize("name", ["optuna", "tomli_w"])
def test_a_search_without_the_extra_is_refused_before_data_are_read(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(JobConfig, "load_data", lambda *_: pytest.fail("read the data first"))
    missing = name.replace("_", "-")
    with pytest.raises(ConfigError, match=rf"tuning needs {missing}: pip install 'recsys\[tune\]'"):
        run({"EASE": job(tune=SPACE), "Popularity": job("Popularity")}, tmp_path)
    assert not (tmp_path / "out").exists()


def done(root, name):
    return json.loads((root / "out" / "models" / name / "done.json").read_text())


def trials(root, name):
    return pd.read_csv(root / "out" / "models" / name / "trials.csv")


def test_the_table_says_what_each_model_was_given_and_no_search_begins_at_a_chosen_value(tmp_path):
    model = {"name": "EASE", "regularization": 30.0, "precision": "float32"}
    own = {"space": {"dropout": {"low": 0.1, "high": 0.4}, "regularization": [50.0, 500.0]}}
    configs = {
        "EASE": job(model=model, tune={"trials": 3}),
        "EDLAE": job("EDLAE", tune={"trials": 3, **own}),
        "ItemKNN": job("ItemKNN"),
        "Popularity": job("Popularity", tune={"trials": 3}),
    }
    run(configs, tmp_path)
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| trials | search | final training |" in text
    assert "Budget of each search: 3 trials. Trials that were pruned or failed count." in text
    assert "The first setting is the model's defaults." in text
    declared = "`regularization` 5 to 5000 (log), `item_exponent` 0 to 0.5, `user_exponent` 0 to 0.7"
    assert f"- EASE: the space that the model declares ({declared}); set: `precision` = float32\n" in text
    assert "- EDLAE: a space of its configuration's own (`dropout` 0.1 to 0.4, `regularization` 50, 500)\n" in text
    assert "- ItemKNN: not searched\n" in text
    assert "- Popularity: nothing to search\n" in text
    assert list(trials(tmp_path, "EASE").loc[0, ["regularization", "item_exponent", "user_exponent"]]) == [500.0, 0, 0]
    assert list(trials(tmp_path, "EDLAE").loc[0, ["regularization", "dropout"]]) == [500.0, 0.33]
    facts = done(tmp_path, "EASE")
    assert facts["trials"] == 3
    assert facts["search_seconds"] == pytest.approx(trials(tmp_path, "EASE")["seconds"].sum())
    assert facts["final_seconds"] > 0
    cells = next(line for line in text.splitlines() if line.startswith("| EASE |")).split("|")
    assert [cell.strip() for cell in cells[-4:-1]] == [
        "3",
        f"{facts['search_seconds']:.0f} s",
        f"{facts['final_seconds']:.0f} s",
    ]
    cells = next(line for line in text.splitlines() if line.startswith("| ItemKNN |")).split("|")
    assert [cell.strip() for cell in cells[-4:-2]] == ["–", "–"]


def test_a_budget_for_all_searches_every_model_that_has_a_space(tmp_path):
    run({"EASE": job(), "ItemKNN": job("ItemKNN"), "Popularity": job("Popularity")}, tmp_path, trials=2)
    assert [done(tmp_path, name)["trials"] for name in ("EASE", "ItemKNN", "Popularity")] == [2, 2, 0]


def test_a_configuration_may_say_where_its_search_begins_and_the_table_does_too(tmp_path):
    tuned = job(model={"name": "EASE", "regularization": 30.0}, tune={**SPACE, "start": "configuration"})
    run({"EASE": tuned, "Popularity": job("Popularity")}, tmp_path)
    assert trials(tmp_path, "EASE")["regularization"][0] == 30.0
    assert "that of its configuration, which may have been chosen before" in (tmp_path / "out" / "table.md").read_text()


def test_another_space_is_another_comparison(monkeypatch):
    """Of which nothing is taken for done."""

    def digest():
        return compare._digest(
            compare._checked(configs, None, None)["EASE"], SimpleNamespace(fingerprint=lambda: "data")
        )

    configs = {"EASE": job(tune={"trials": 2}), "Popularity": job("Popularity")}
    before = digest()
    assert digest() == before
    monkeypatch.setattr(EASE, "search_space", {"item_exponent": (0.0, 0.5)})
    assert digest() != before


def test_the_runs_are_children_of_one_run(tmp_path):
    import mlflow

    run({"EASE": job(), "Popularity": job("Popularity")}, tmp_path)
    runs = mlflow.search_runs(search_all_experiments=True).set_index("tags.mlflow.runName")
    (name,) = [name for name in runs.index if name.startswith("compare 2 models on synthetic, 20")]
    parent = runs.loc[name, "run_id"]
    assert set(runs.index[runs["tags.mlflow.parentRunId"] == parent]) == {"EASE", "Popularity"}


def test_nothing_is_registered_where_the_configurations_say_so_for_trainings(tmp_path):
    track = {"register": "rankers"}
    run({"EASE": job(track=track), "Popularity": job("Popularity", track=track)}, tmp_path)
    assert tracking.versions_if_any("rankers") == []


def test_an_interrupted_comparison_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    trained = []
    train_one = compare.train_one

    def counted(workspace, config, *args, **kwargs):
        trained.append(config.model["name"])
        if trained == ["EASE", "Popularity"]:
            raise KeyboardInterrupt
        return train_one(workspace, config, *args, **kwargs)

    monkeypatch.setattr(compare, "train_one", counted)
    configs = {"EASE": job(), "Popularity": job("Popularity")}
    with pytest.raises(KeyboardInterrupt):
        run(configs, tmp_path)
    found = run(configs, tmp_path)
    assert trained == ["EASE", "Popularity", "Popularity"]
    again = run(configs, tmp_path)
    assert len(trained) == 3
    pd.testing.assert_frame_equal(found.table, again.table)
    run({"EASE": job(model={"name": "EASE", "regularization": 7.0}), "Popularity": job("Popularity")}, tmp_path)
    assert trained[3:] == ["EASE"]  # another configuration is not taken for done
    monkeypatch.setattr(tracking, "version", lambda _: "99.0")
    run(configs, tmp_path)
    assert trained[4:] == ["EASE", "Popularity"]  # nor what another version of the package did


def test_a_search_with_a_larger_budget_before_gives_no_advantage(tmp_path):
    config = job(tune={**SPACE, "trials": 4})
    tune.run(Workspace(tmp_path, False), config)
    run({"EASE": config, "Popularity": job("Popularity")}, tmp_path, trials=2)
    assert json.loads((tmp_path / "out" / "models" / "EASE" / "done.json").read_text())["trials"] == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": {**BASE["data"], "seed": 1}}, r"\[data\] of b and of a differ"),
        ({"split": {"kind": "hold_out_ratings", "seed": 4}}, r"\[split\] of b and of a differ"),
        ({"evaluate": {"metrics": ["ndcg@10"]}}, r"\[evaluate\] of b and of a differ"),
        ({"train": {"refit": False}}, "train.refit of b and of a differ"),
        ({"tune": {**SPACE, "trials": 9}}, "different budgets"),
        ({"tune": {**SPACE, "start": "sample"}}, r"begin differently \(tune.start\): a defaults, b sample"),
    ],
)
def test_what_would_be_unfair_is_refused(tmp_path, other, message):
    with pytest.raises(ConfigError, match=message):
        run({"a": job(tune=SPACE), "b": job(**other)}, tmp_path)
    assert not (tmp_path / "out").exists()


def test_one_budget_may_be_given_for_all(tmp_path):
    found = run(
        {"a": job(tune=SPACE), "b": job(model={"name": "EASE", "regularization": 3.0}, tune={**SPACE, "trials": 9})},
        tmp_path,
        trials=1,
    )
    assert len(found.table) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "ndcg@7"}, "ndcg@7 is not among evaluate.metrics"),
        ({"metric": "coverage@10"}, "coverage@10 has no value per user"),
    ],
)
def test_a_metric_that_cannot_decide_is_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run({"a": job(), "b": job("Popularity")}, tmp_path, **options)


def test_one_model_is_nothing_to_compare(tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        run({"a": job()}, tmp_path)


def test_the_commands(tmp_path, capsys):
    text = """
[data]
name = "synthetic"
users = 80
items = 30
interactions = 1200
binary = true
[split]
kind = "hold_out_ratings"
[evaluate]
metrics = ["ndcg@10"]
[model]
name = "EASE"
[tune]
trials = 2
[tune.space]
regularization = [5.0, 50.0]
"""
    ease, popular = tmp_path / "ease.toml", tmp_path / "popular.toml"
    ease.write_text(text)
    popular.write_text(text[: text.index("[model]")] + '[model]\nname = "Popularity"\n')
    best = tmp_path / "best.toml"
    assert main(["tune", str(ease), "--output", str(best), "--quiet", "--root", str(tmp_path)]) == 0
    assert "best validation ndcg@10" in capsys.readouterr().out
    assert main(["train", str(best), "--quiet", "--root", str(tmp_path)]) == 0
    out = str(tmp_path / "compared")
    assert main(["compare", str(ease), str(popular), "--output", out, "--quiet", "--root", str(tmp_path)]) == 0
    assert "| EASE |" in capsys.readouterr().out
    assert main(["compare", str(ease), str(ease), "--output", out, "--quiet", "--root", str(tmp_path)]) == 2
    assert "several models are called" in capsys.readouterr().err
