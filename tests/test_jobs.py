"""The jobs through the command, as a person runs them: small generated data, real MLflow store, real files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys import cli, tracking
from recsys.columns import RECOMMENDATIONS
from recsys.config import check_config
from recsys.errors import DataWarning, Exit
from recsys.evaluation import evaluate as measure
from recsys.jobs import evaluate
from recsys.models import ALS, MODELS
from recsys.workspace import Workspace
from tests.contract import CASES, kinds_first

CONFIG = """
[data]
name = "synthetic"
users = 120
items = 60
interactions = 3000
min_rating = 3.0
binary = true

[split]
kind = "hold_out_users"
n_users = 20

[model]
name = "MultVAE"
hidden = 16
latent = 8
epochs = 3
batch_size = 40
learning_rate = 0.01

[train]
metric = "ndcg@10"

[evaluate]
metrics = ["ndcg@10", "recall@10", "coverage@10"]

[track]
experiment = "jobs"
register = "night"
"""


@pytest.fixture
def run(mlflow_root, capsys):
    """Run a command in an empty project; return its exit status, output and errors."""
    (mlflow_root / "job.toml").write_text(CONFIG)
    # The same job without hyperparameters, and one of rating prediction.
    head, _, tail = CONFIG.partition('name = "MultVAE"\n')
    (mlflow_root / "bare.toml").write_text(head + 'name = "EASE"\n[train]' + tail.partition("[train]")[2])
    text = CONFIG.replace('name = "MultVAE"\nhidden = 16\nlatent = 8', 'name = "UAutoRec"\nhidden = 8')
    text = text.replace("n_users = 20\n", "").replace('["ndcg@10", "recall@10", "coverage@10"]', '["rmse", "mae"]')
    (mlflow_root / "rating.toml").write_text(text)

    def command(*arguments):
        status = cli.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_train_promote_score_recommend_evaluate(run, mlflow_root):
    import mlflow

    status, out, err = run("train", "job.toml", "--force", "--quiet")
    assert (status, err) == (0, "")
    assert "models:/night/1" in out
    assert "ndcg@10" in out

    found = mlflow.MlflowClient().search_runs(["1"])[0]
    assert found.data.params["model.hidden"] == "16"
    assert {
        "test/ndcg_at_10",
        "test/recall_at_10",
        "test/coverage_at_10",
        "validation/ndcg_at_10",
    } <= found.data.metrics.keys()
    assert found.data.tags["data.fingerprint"]
    steps = mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert [point.step for point in steps] == [1, 2, 3]
    artifacts = {file.path for file in mlflow.MlflowClient().list_artifacts(found.info.run_id)}
    assert {"learning_curve.png", "metric_at_k.png", "per_user.parquet", "report.html"} <= artifacts
    (logged,) = mlflow.MlflowClient().search_logged_models(["1"])
    note = found.data.tags["mlflow.note.content"]
    assert logged.tags["mlflow.note.content"] == note
    assert note.startswith(f"{found.data.tags['model']} on ")
    experiment = mlflow.get_experiment("1")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "report.html" in experiment.tags["mlflow.note.content"]
    page = Path(re.search("^report +(.*)$", out, re.MULTILINE)[1]).read_text(encoding="utf-8")
    for said in (
        "<h1>MultVAE on synthetic</h1>",
        found.data.tags["data.fingerprint"],
        "models:/night/1",
    ):
        assert said in page
    assert f'<td class="n">{found.data.metrics["test/ndcg_at_10"]:.4f}</td>' in page

    status, out, _ = run("promote", "night", "--reason", "a first one")
    assert status == 0
    assert "models:/night@champion is now version 1 (was no version)" in out

    status, out, err = run("score", "models:/night@champion", "--output", "data/scored/tonight", "-n", "5", "--quiet")
    assert (status, err) == (0, "")
    frame = pd.read_parquet(mlflow_root / "data/scored/tonight")
    assert tuple(frame.columns) == RECOMMENDATIONS

    # The champion's table is what `recommend` says, row for row.
    model = tracking.load("models:/night@champion")
    section = check_config(model.about_["config"]).data
    data = section.load()
    assert data.fingerprint() == found.data.tags["data.fingerprint"]
    met = section.model_copy(update={"min_rating": None}).load()
    met = met.take_users(met.users.codes(data.users.ids()))
    ids, scores = model.recommend(
        np.full(len(data.users), -1), data.histories(model.items_), N=5, seen=met.histories(model.items_)
    )
    kept = ids >= 0
    assert frame["user_id"].tolist() == np.repeat(data.users.ids(), 5)[kept.ravel()].tolist()
    assert frame["item_id"].tolist() == model.items_.ids(ids[kept]).tolist()
    np.testing.assert_array_equal(frame["score"].to_numpy(), scores[kept])
    assert frame["rank"].tolist() == np.tile(np.arange(1, 6), (len(ids), 1))[kept].tolist()

    user = data.users.ids([3])[0]
    status, out, err = run("recommend", "models:/night@champion", "--user", user, "-n", "3")
    assert (status, err) == (0, "")
    best = frame[frame["user_id"] == user].iloc[0]["item_id"]
    assert f" 1.  {data.title(int(data.items.codes([best])[0]))}" in out

    status, out, err = run("evaluate", "models:/night/1", "--metric", "ndcg@10", "--output", "users.parquet", "--quiet")
    assert (status, err) == (0, "")
    per_user = pd.read_parquet(mlflow_root / "users.parquet")
    assert per_user["ndcg@10"].mean() == pytest.approx(found.data.metrics["test/ndcg_at_10"], abs=1e-9)


def test_score_a_list_of_users_from_a_file_of_their_own(run, mlflow_root):
    run("train", "bare.toml", "--force", "--quiet")
    pd.DataFrame({"user_id": [900, 900, 901], "item_id": [1, 2, 3], "rating": [5, 4, 3]}).to_csv("new.csv", index=False)
    (mlflow_root / "who.txt").write_text("901\n")
    arguments = ("score", "models:/night/1", "--output", "out", "--quiet", "--data", "new.csv", "--users")
    status, _, err = run(*arguments, "who.txt")
    assert (status, err) == (0, ""), "a user whom training never saw is served from the history"
    frame = pd.read_parquet(mlflow_root / "out")
    assert frame["user_id"].unique().tolist() == [901]
    assert 3 not in frame["item_id"].tolist()
    (mlflow_root / "who.txt").write_text("901\n55\n")
    status, _, err = run(*arguments[:3], "out2", *arguments[4:], "who.txt")
    assert status == Exit.NOT_FOUND
    assert "55" in err
    assert not (mlflow_root / "out2").exists()
    assert run(*arguments[:3], "out2", *arguments[4:], "who.txt", "--on-unknown", "drop")[0] == 0


def as_toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(as_toml, value))}]" if isinstance(value, list | tuple) else json.dumps(value)


@pytest.mark.filterwarnings("ignore:the interactions say nothing about their items")
@pytest.mark.parametrize("name", kinds_first(sorted(MODELS)))
def test_every_model_trains_from_a_configuration(run, name):
    small = {key: 1 if key in ("epochs", "iterations") else value for key, value in CASES[name].items()}
    overrides = [f"--set=model.{key}={as_toml(value)}" for key, value in small.items()]
    status, out, err = run("train", "bare.toml", "--force", "--quiet", f"--set=model.name={name}", *overrides)
    assert (status, err) == (0, "")
    assert "ndcg@10" in out


def metric_of(version, name):
    import mlflow

    client = mlflow.MlflowClient()
    return client.get_run(client.get_model_version("night", version).run_id).data.metrics[name]


def test_repeats_report_mean_and_deviation_and_refit_reads_all_but_the_test(run):
    ratings = ["--set=data.binary=false", "--set=split.kind=hold_out_ratings", "--set=train.metric=rmse"]
    status, out, err = run(
        "train",
        "rating.toml",
        "--quiet",
        "--force",
        "--set=train.repeats=2",
        "--set=train.refit=true",
        "--set=train.validate_epochs=false",
        *ratings,
    )
    assert (status, err) == (0, "")
    assert "UAutoRec, test, 2 seeds" in out
    assert "mean" in out
    assert "models:/night/2" in out

    # The second repeat knows its own seeds: it is evaluated on its own test part, not on the first one's.
    about = tracking.load("models:/night/2").about_
    assert about["config"]["split"]["seed"] == about["config"]["model"]["seed"] == 1
    assert about["config"]["train"]["repeats"] == 1
    again = evaluate.evaluate(Workspace(progress=False), "models:/night/2")["rmse"]
    assert again == metric_of(2, "test/rmse") != metric_of(1, "test/rmse")


def test_models_without_a_seed_are_repeated_over_splits(run):
    status, out, err = run("train", "bare.toml", "--force", "--quiet", "--set=train.repeats=2")
    assert (status, err) == (0, "")
    assert "EASE, test, 2 seeds" in out
    assert metric_of(1, "test/ndcg_at_10") != metric_of(2, "test/ndcg_at_10")
    assert "seed" not in tracking.load("models:/night/2").about_["config"]["model"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "absent.toml"), Exit.NOT_FOUND, "there is no configuration file"),
        (("train", "job.toml", "--set", "model.hiden=3"), Exit.USAGE, "did you mean 'hidden'"),
        (("train", "job.toml", "--set", "data.file=absent.csv"), Exit.USAGE, "absent.csv"),
        (("train", "job.toml", "--set", "model.dropout=1.5"), Exit.USAGE, "dropout"),
        (("promote", "nobody"), Exit.NOT_FOUND, "nobody"),
        (("score", "models:/nobody@champion", "--output", "out"), Exit.NOT_FOUND, "nobody"),
        (("score", "nowhere", "--output", "out"), Exit.NOT_FOUND, "nowhere"),
        (("recommend", "models:/nobody/3", "--user", "1"), Exit.NOT_FOUND, "nobody"),
        (("evaluate", "runs:/0123456789abcdef0123456789abcdef/model"), Exit.NOT_FOUND, "0123456789abcdef"),
    ],
)
def test_mistakes_end_with_a_message_and_leave_nothing(run, mlflow_root, arguments, code, message):
    status, _, err = run(*arguments, *(["--quiet"] if "--quiet" not in arguments else []))
    assert status == code
    assert message in err
    assert "Traceback" not in err
    assert not (mlflow_root / "out").exists()
    assert not list(mlflow_root.glob(".out*"))


def test_an_unknown_user_is_named(run):
    run("train", "bare.toml", "--force", "--quiet")
    status, _, err = run("recommend", "models:/night/1", "--user", "no-such-user")
    assert status == Exit.NOT_FOUND
    assert "no-such-user" in err


def test_a_run_that_fails_is_marked(run):
    import mlflow

    status, _, err = run("train", "job.toml", "--force", "--quiet", "--set", "model.learning_rate=1e30")
    assert status == Exit.DATA
    assert "lower learning_rate" in err
    assert mlflow.MlflowClient().search_runs(["1"])[0].info.status == "FAILED"
    assert not mlflow.MlflowClient().search_registered_models()


def test_the_demo_goes_all_the_way(mlflow_root, capsys, monkeypatch):
    from recsys.jobs import demo
    from recsys.models import EASE, Popularity

    monkeypatch.setattr(demo, "models", lambda: [Popularity(), EASE(regularization=200.0)])
    output = demo.run(Workspace(progress=False))
    printed = capsys.readouterr().out
    assert "EASE" in printed
    assert "promoted models:/demo/2 (EASE)" in printed
    assert printed.count("\n    10.  ") + printed.count("\n     10.  ") == 1
    frame = pd.read_parquet(output)
    assert frame.groupby("user_id").size().max() == 10
    manifest = json.loads((output / "_manifest.json").read_text())
    assert manifest["users"] == frame["user_id"].nunique()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mlflow_template):
    """A root with EASE as models:/night/1, champion, on a split whose items are those of all other splits."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    text = CONFIG.partition("[model]")[0].partition("[split]")[0]
    text += '[split]\nkind = "hold_out_ratings"\n[model]\nname = "EASE"\n[track]\nregister = "night"\n'
    (root / "night.toml").write_text(text)
    (root / "other.toml").write_text(text.replace('ratings"\n', 'ratings"\nseed = 5\n'))
    assert cli.main(["train", str(root / "night.toml"), "--root", str(root), "--quiet"]) == 0
    assert cli.main(["promote", "night", "--root", str(root)]) == 0
    return root


@pytest.fixture
def night(trained, monkeypatch, capsys):
    """Run a command in the root of `trained`."""
    monkeypatch.chdir(trained)

    def command(*arguments):
        capsys.readouterr()
        status = cli.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_a_model_is_not_tested_on_what_it_was_trained_on(night):
    status, out, err = night("evaluate", "models:/night/1", "--metric", "ndcg@10", "--quiet")
    assert (status, err) == (0, "")
    assert f"{metric_of(1, 'test/ndcg_at_10'):.4f}" in out
    status, out, err = night("evaluate", "models:/night/1", "--config", "other.toml", "--quiet")
    assert status == Exit.DATA
    assert "may have seen the test entries" in err
    assert "--allow-other-split" in err
    status, out, err = night("evaluate", "models:/night/1", "--config", "other.toml", "--allow-other-split", "--quiet")
    assert status == 0
    assert err.startswith("warning: ")
    assert "may have seen the test entries" in err
    assert "ndcg@10" in out


def test_a_model_of_the_same_items_and_other_users_reads_its_own_rows(tmp_path):
    # Trained on fewer users before the test part began: row 0 of its table is not row 0 of the split's.
    config = check_config(
        {
            "data": {"name": "synthetic", "users": 300, "items": 60, "interactions": 6000, "binary": True},
            "split": {"kind": "by_time"},
            "model": {"name": "ALS", "factors": 8},
        }
    )
    split = config.split.split(config.load_data())
    model = ALS(factors=8).fit(split.train.take_users(np.arange(100, 300)), show_progress=False)
    assert model.items_ == split.train.items
    until = {"trained_on": {"fingerprint": "", "until": split.first_test_time - 1}, "config": config.as_dict()}
    model.save(tmp_path / "model", about=until)
    found = evaluate.evaluate(Workspace(progress=False), str(tmp_path / "model"), metrics=["ndcg@10"])
    assert found.per_user["user_id"].tolist() == list(split.test.users)
    own = model.users_.codes(split.test.users.ids(), on_unknown="mark")
    assert ((own < 0).any(), (own >= 0).any()) == (True, True)
    expected = measure(model, replace(split.test, user_index=own), "ndcg@10")
    assert found["ndcg@10"] == expected["ndcg@10"]


def test_a_report_is_written_on_request_and_costs_no_metric(night, trained, tmp_path):
    arguments = ("evaluate", "models:/night/1", "--metric", "ndcg@10", "--metric", "coverage@10", "--quiet")
    status, plain, err = night(*arguments)
    assert (status, err) == (0, "")
    file = tmp_path / "new" / "page.html"
    status, out, err = night(*arguments, "--report", file)
    assert (status, err) == (0, "")
    assert out == f"{plain}report: {file}\n"
    page = file.read_text(encoding="utf-8")
    assert "<h1>EASE on synthetic</h1>" in page
    assert "ndcg@k" in page
    assert "models:/night/1" in page
    assert [other.name for other in file.parent.iterdir()] == ["page.html"]


def test_a_model_that_does_not_say_what_it_was_trained_on_is_tested_with_a_warning(night, trained, tmp_path):
    model = tracking.load("models:/night/1")
    model.save(tmp_path / "bundle", about={})
    status, _, err = night("evaluate", tmp_path / "bundle", "--config", "night.toml", "--metric", "ndcg@10", "--quiet")
    assert status == 0
    assert "does not say what it was trained on" in err


def test_what_a_user_rated_low_is_not_recommended(night, tmp_path):
    from recsys import datasets

    assert night("score", "models:/night@champion", "--output", tmp_path / "out", "-n", 30, "--quiet")[0] == 0
    frame = pd.read_parquet(tmp_path / "out")
    ratings = datasets.synthetic(120, 60, 3000).to_frame()
    low = ratings[ratings["rating"] < 3]
    assert len(low) > 100
    assert not len(frame.merge(low, on=["user_id", "item_id"]))
    user = frame["user_id"].iloc[0]
    status, out, _ = night("recommend", "models:/night/1", "--user", user, "-n", 30)
    assert status == 0
    assert f"{(ratings['user_id'] == user).sum()} interactions" in out
    assert out.count(".  ") == (frame["user_id"] == user).sum()


def test_the_manifest_says_which_version_was_asked_for_and_which_answered(night, tmp_path):
    run_id = tracking.model_versions("night")[0].run_id
    assert night("score", "models:/night@champion", "--output", tmp_path / "out", "--quiet")[0] == 0
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["asked_uri"] == "models:/night@champion"
    assert (manifest["model_uri"], manifest["run_id"]) == ("models:/night/1", run_id)


def test_parts_are_as_large_as_asked(night, tmp_path):
    assert night("score", "models:/night/1", "--output", tmp_path / "out", "--batch-size", 50, "--quiet")[0] == 0
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert [part["users"] for part in manifest["parts"]] == [50, 50, 20]
    with pytest.raises(SystemExit):
        night("score", "models:/night/1", "--output", tmp_path / "out", "--batch-size", 0)


def test_ids_of_a_list_stay_as_they_were_typed(night, tmp_path):
    (tmp_path / "who.csv").write_text("user_id\n007\n")
    frame = pd.DataFrame({"user_id": ["007", "7", "007"], "item_id": [1, 2, 3], "rating": [5, 4, 3]})
    frame.to_parquet(tmp_path / "text.parquet")
    frame.assign(user_id=[7, 8, 7]).to_parquet(tmp_path / "numbers.parquet")
    arguments = ("score", "models:/night/1", "--quiet", "--users", tmp_path / "who.csv", "--output", tmp_path / "out")
    assert night(*arguments, "--data", tmp_path / "text.parquet")[::2] == (0, "")
    assert pd.read_parquet(tmp_path / "out")["user_id"].unique().tolist() == ["007"]
    status, _, err = night(*arguments, "--data", tmp_path / "numbers.parquet")
    assert status == Exit.NOT_FOUND
    assert "1 of the 1 users" in err
    assert "['007'] (there ids are like 7)" in err


def test_unknown_users_are_explained_in_words_of_the_command(night, tmp_path):
    (tmp_path / "who.txt").write_text("1\n99999\nsomebody\n")
    arguments = ("score", "models:/night/1", "--output", tmp_path / "out", "--users", tmp_path / "who.txt", "--quiet")
    status, _, err = night(*arguments)
    assert status == Exit.NOT_FOUND
    assert "2 of the 3 users" in err
    assert "['99999', 'somebody']" in err
    assert "--on-unknown drop" in err
    assert "on_unknown=" not in err
    with pytest.warns(DataWarning, match="only 1 of the 3 users asked for are in the data; the others are left out"):
        assert night(*arguments, "--on-unknown", "drop")[0] == 0
    with pytest.raises(SystemExit):
        night("recommend", "models:/night/1", "--user", 1, "-n", 0)


def test_values_that_say_nothing_are_not_printed(night, tmp_path):
    pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3]}).to_csv(tmp_path / "plain.csv", index=False)
    model = tracking.load("models:/night/1")
    model.save(tmp_path / "model", about={})
    status, out, err = night("recommend", tmp_path / "model", "--user", 1, "--data", tmp_path / "plain.csv", "-n", 2)
    assert (status, err) == (0, "")
    assert " 1.0  " not in out
    assert " 5.0  " in night("recommend", "models:/night/1", "--user", model.users_.ids([0])[0])[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("score", "models:/night/1", "--output", "{tmp}/file/out"), Exit.DATA, "{tmp}/file"),
        (("evaluate", "models:/night/1", "--output", "{tmp}/file/users.parquet"), Exit.DATA, "{tmp}/file"),
        (("evaluate", "models:/night/1", "--output", "users.csv"), Exit.USAGE, "a .parquet file, got users.csv"),
        (("evaluate", "models:/night/1", "--report", "page.htm"), Exit.USAGE, "a .html file, got page.htm"),
        (("evaluate", "models:/night/1", "--report", "{tmp}/file/page.html"), Exit.DATA, "{tmp}/file"),
        (
            ("score", "models:/night/1", "--output", "{tmp}/out", "--data", "nofile.csv"),
            Exit.NOT_FOUND,
            "no file or folder nofile.csv",
        ),
        (("recommend", "models:/night/1", "--user", "1", "--data", "ml1m"), Exit.NOT_FOUND, "did you mean 'ml-1m'"),
        (
            ("evaluate", "models:/night/1", "--metric", "rmse"),
            Exit.USAGE,
            "EASE predicts no ratings, so it has no rmse",
        ),
        (("train", "night.toml", "--root", "{tmp}/file/x"), Exit.SERVER, "{tmp}/file"),
    ],
)
def test_a_file_that_cannot_be_is_named_before_the_work(night, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.setattr(evaluate, "measure", lambda *_, **__: pytest.fail("the evaluation began"))
    (tmp_path / "file").write_text("a file")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    status, _, err = night(*arguments, *([] if "recommend" in arguments else ["--quiet"]))
    assert status == code
    assert message.format(tmp=tmp_path) in err
    assert not list(tmp_path.glob("file.*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "models:/night/1"),
        ("recommend", "models:/night/1", "--user", "1"),
        ("promote", "night"),
        ("score", "models:/night/1", "--output", "out"),
    ],
)
def test_those_who_only_read_make_no_store(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*arguments, "--root", "mistyped"]) == Exit.NOT_FOUND
    assert "no MLflow store under" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_sets_are_found_below_the_root(tmp_path, monkeypatch, trained):
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "data" / "raw" / "ml-100k").mkdir(parents=True)
    (tmp_path / "there" / "data" / "raw" / "ml-100k" / "u.data").write_text("1\t2\t3\t4\n1\t3\t5\t5\n")
    config = check_config({"data": {"name": "ml-100k"}})
    assert config.load_data(tmp_path / "there").shape == (1, 2)
    assert config.data.histories(tmp_path / "there")[0].shape == (1, 2)
    (tmp_path / "shared" / "ml-100k").mkdir(parents=True)
    (tmp_path / "shared" / "ml-100k" / "u.data").write_text("1\t2\t3\t4\n")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "shared"))
    assert config.load_data(tmp_path / "there").shape == (1, 1)


@pytest.mark.parametrize(
    "override",
    [
        "evaluate.metrics=['rmse']",
        "train.metric=mae",
        "track.register=a/b:c",
        "model.dropout=1.5",
        "model.epochs=0",
        "model.seed=-1",
        "split.kind=leave_last_out",
        "train.refit=true",
    ],
)
def test_what_cannot_work_is_refused_before_data_are_read(run, monkeypatch, override):
    import mlflow

    from recsys.config import DataConfig

    monkeypatch.setattr(DataConfig, "load", lambda *_: pytest.fail("data were read"))
    status, _, err = run("train", "job.toml", "--force", "--quiet", "--set", override)
    assert status == 2
    assert err.startswith(f"recsys train: job.toml --set {override}: ")
    assert not mlflow.MlflowClient(tracking.configure(Workspace())).search_runs(["0", "1"])


def test_a_failure_in_the_test_does_not_cost_the_training(run, monkeypatch):
    import mlflow

    from recsys.errors import DataError
    from recsys.jobs import train

    def fail(*_, **__):
        raise DataError("no test today")

    monkeypatch.setattr(train, "measure", fail)
    status, _, err = run("train", "bare.toml", "--force", "--quiet")
    assert status == Exit.DATA
    assert "no test today" in err
    (found,) = mlflow.MlflowClient().search_runs(["1"])
    assert found.info.status == "FAILED"
    assert "validation/ndcg_at_10" in found.data.metrics
    assert type(tracking.load(f"runs:/{found.info.run_id}/model")).__name__ == "EASE"
    assert not mlflow.MlflowClient().search_registered_models()


KILLED = """
import os, signal
from recsys import cli, tracking
from recsys.workspace import Workspace

log = tracking.Tracker.log_epoch

def log_epoch(self, entry):
    log(self, entry)
    if entry["epoch"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)

tracking.Tracker.log_epoch = log_epoch
cli.main(["train", "job.toml", "--quiet", "--set=model.epochs=6"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
def test_a_killed_training_continues_to_the_same_figures(run, mlflow_root, monkeypatch):
    import mlflow

    monkeypatch.setattr(tracking.Tracker, "log_figure", lambda *_: None)  # they take longer than the training
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=mlflow_root, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    checkpoints = mlflow_root / "mlruns" / "checkpoints"
    assert len(list(checkpoints.glob("*.safetensors"))) == 1
    command = ("train", "job.toml", "--quiet", "--force", "--set=model.epochs=6", "--set=track.run_name=again")
    status, out, err = run(*command)
    assert (status, err) == (0, "")
    assert "continuing from epoch 4" in out
    assert not list(checkpoints.glob("*.safetensors"))
    status, out, _ = run(*command)
    assert status == 0
    assert "continuing" not in out
    client = mlflow.MlflowClient()
    assert len(client.search_runs(["1"])) == 2, "the killed training goes on in its own run"
    first, second = (client.get_run(client.get_model_version("night", version).run_id) for version in ("1", "2"))
    assert first.info.status == "FINISHED"
    assert {"split.kind": "hold_out_users", "protocol": "new users"}.items() <= first.data.tags.items()
    figures = [{k: v for k, v in run.data.metrics.items() if k != "seconds"} for run in (first, second)]
    assert figures[0] == figures[1]
    assert "test/ndcg_at_10" in figures[0]
    steps = client.get_metric_history(first.info.run_id, "epoch_ndcg_at_10")
    assert sorted(point.step for point in steps) == [1, 2, 3, 4, 5, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once there")
def test_sigterm_ends_the_run_in_order(run, monkeypatch):
    import mlflow

    def end(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(tracking.Tracker, "log_epoch", end)
    assert cli.main(["train", "job.toml", "--quiet"]) == 143
    assert mlflow.MlflowClient().search_runs(["1"])[0].info.status in ("FAILED", "KILLED")
    assert signal.getsignal(signal.SIGTERM) == before


def test_help_is_quick_to_import():
    code = "import recsys.cli, sys; recsys.cli.parser(); sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
