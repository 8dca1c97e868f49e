"""The jobs through the command, as a person runs them: small generated data, real MLflow store, real files."""

import json

import numpy as np
import pandas as pd
import pytest

from recsys import cli, tracking
from recsys.columns import RECOMMENDATIONS
from recsys.config import check_config
from recsys.models import MODELS

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

    def command(*arguments):
        status = cli.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_train_promote_score_recommend_evaluate(run, mlflow_root):
    import mlflow

    status, out, err = run("train", "job.toml", "--quiet")
    assert (status, err) == (0, "")
    assert "models:/night/1" in out
    assert "ndcg@10" in out

    found = mlflow.MlflowClient().search_runs(["1"])[0]
    assert found.data.params["model.hidden"] == "16"
    assert {"ndcg_at_10", "recall_at_10", "coverage_at_10", "validation_ndcg_at_10"} <= found.data.metrics.keys()
    assert found.data.tags["data.fingerprint"]
    steps = mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert [point.step for point in steps] == [1, 2, 3]
    artifacts = {file.path for file in mlflow.MlflowClient().list_artifacts(found.info.run_id)}
    assert {"learning_curve.png", "metric_at_k.png", "per_user.parquet"} <= artifacts

    status, out, _ = run("promote", "night", "--reason", "a first one")
    assert status == 0
    assert "models:/night@champion is now version 1 (was no version)" in out

    status, out, err = run("score", "models:/night@champion", "--output", "data/scored/tonight", "-n", "5", "--quiet")
    assert (status, err) == (0, "")
    frame = pd.read_parquet(mlflow_root / "data/scored/tonight")
    assert tuple(frame.columns) == RECOMMENDATIONS

    # The champion's table is what `recommend` says, row for row.
    model = tracking.load("models:/night@champion")
    data = check_config(model.about_["config"]).load_data()
    assert data.fingerprint() == found.data.tags["data.fingerprint"]
    histories = data.histories(model.items_)
    ids, scores = model.recommend(np.full(len(data.users), -1), histories, N=5)
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
    assert per_user["ndcg@10"].mean() == pytest.approx(found.data.metrics["ndcg_at_10"], abs=1e-9)


def test_score_a_list_of_users_from_a_file_of_their_own(run, mlflow_root):
    run("train", "bare.toml", "--quiet")
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
    assert status == 2
    assert "55" in err
    assert not (mlflow_root / "out2").exists()
    assert run(*arguments[:3], "out2", *arguments[4:], "who.txt", "--on-unknown", "drop")[0] == 0


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_trains_from_a_configuration(run, name):
    small = {
        "UAutoRec": ["hidden=8", "epochs=1", "unobserved_weight=0.1"],
        "IAutoRec": ["hidden=8", "epochs=1", "unobserved_weight=0.1"],
        "MultVAE": ["hidden=8", "latent=4", "epochs=1"],
        "MultDAE": ["latent=4", "epochs=1"],
        "ALS": ["factors=4", "iterations=2"],
        "BPR": ["factors=4", "iterations=2"],
    }.get(name, [])
    overrides = [f"--set=model.{value}" for value in small]
    status, out, err = run("train", "bare.toml", "--quiet", f"--set=model.name={name}", *overrides)
    assert (status, err) == (0, "")
    assert "ndcg@10" in out


@pytest.fixture(autouse=True)
def bare(mlflow_root):
    """The same job without hyperparameters."""
    head, _, tail = CONFIG.partition('name = "MultVAE"\n')
    (mlflow_root / "bare.toml").write_text(head + 'name = "EASE"\n[train]' + tail.partition("[train]")[2])


def test_repeats_report_mean_and_deviation_and_refit_reads_all_but_the_test(run):
    ratings = ["--set=data.binary=false", "--set=split.kind=hold_out_ratings", "--set=train.metric=rmse"]
    status, out, err = run(
        "train",
        "rating.toml",
        "--quiet",
        "--set=train.repeats=2",
        "--set=train.refit=true",
        "--set=train.validate_epochs=false",
        *ratings,
    )
    assert (status, err) == (0, "")
    assert "UAutoRec, test, 2 seeds" in out
    assert "mean" in out
    assert "models:/night/2" in out


@pytest.fixture(autouse=True)
def rating(mlflow_root):
    """A job of rating prediction."""
    text = CONFIG.replace('name = "MultVAE"\nhidden = 16\nlatent = 8', 'name = "UAutoRec"\nhidden = 8')
    text = text.replace("n_users = 20\n", "").replace('["ndcg@10", "recall@10", "coverage@10"]', '["rmse", "mae"]')
    (mlflow_root / "rating.toml").write_text(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "absent.toml"), "there is no configuration file"),
        (("train", "job.toml", "--set", "model.hiden=3"), "did you mean 'hidden'"),
        (("train", "job.toml", "--set", "data.file=absent.csv"), "absent.csv"),
        (("train", "job.toml", "--set", "model.dropout=1.5"), "dropout"),
        (("promote", "nobody"), "nobody"),
        (("score", "models:/nobody@champion", "--output", "out"), "nobody"),
        (("score", "nowhere", "--output", "out"), "nowhere"),
        (("recommend", "models:/nobody/3", "--user", "1"), "nobody"),
        (("evaluate", "runs:/0123456789abcdef0123456789abcdef/model"), "0123456789abcdef"),
    ],
)
def test_mistakes_end_with_a_message_and_leave_nothing(run, mlflow_root, arguments, message):
    status, _, err = run(*arguments, *(["--quiet"] if "--quiet" not in arguments else []))
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert not (mlflow_root / "out").exists()
    assert not list(mlflow_root.glob(".out*"))


def test_an_unknown_user_is_named(run):
    run("train", "bare.toml", "--quiet")
    status, _, err = run("recommend", "models:/night/1", "--user", "no-such-user")
    assert status == 2
    assert "no-such-user" in err


def test_a_run_that_fails_is_marked(run):
    import mlflow

    status, _, err = run("train", "job.toml", "--quiet", "--set", "model.learning_rate=1e30")
    assert status == 2
    assert "lower learning_rate" in err
    assert mlflow.MlflowClient().search_runs(["1"])[0].info.status == "FAILED"
    assert not mlflow.MlflowClient().search_registered_models()


def test_the_demo_goes_all_the_way(mlflow_root, capsys, monkeypatch):
    from recsys.jobs import demo
    from recsys.models import EASE, Popularity

    monkeypatch.setattr(demo, "models", lambda: [Popularity(), EASE(regularization=200.0)])
    output = demo.run(show_progress=False)
    printed = capsys.readouterr().out
    assert "EASE" in printed
    assert "promoted models:/demo/2 (EASE)" in printed
    assert printed.count("\n    10.  ") + printed.count("\n     10.  ") == 1
    frame = pd.read_parquet(output)
    assert frame.groupby("user_id").size().max() == 10
    manifest = json.loads((output / "_manifest.json").read_text())
    assert manifest["users"] == frame["user_id"].nunique()


def test_help_is_quick_to_import():
    import subprocess
    import sys

    code = "import recsys.cli, sys; recsys.cli.parser(); sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
