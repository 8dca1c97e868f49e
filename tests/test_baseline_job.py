"""What models are held against, where it is shown, and that a model that is worse is registered only if it must be."""

import re
from pathlib import Path

import numpy as np
import pytest

from recsys import cli, tracking
from recsys.config import check_config
from recsys.errors import ConfigError, RegistrationRefused
from recsys.evaluation import DEFAULT, evaluate
from recsys.jobs import nightly, train
from recsys.jobs.baseline import DAMPING, Baseline
from recsys.models import Popularity, UAutoRec
from recsys.workspace import Workspace

RATED = {"name": "synthetic", "users": 400, "items": 150, "interactions": 8000}
WEAK = {"name": "UAutoRec", "hidden": 4, "epochs": 1}
"""It predicts ratings, and ranks by them."""
GOOD = {"name": "EASE", "regularization": 500.0}


def job(model=WEAK, **sections):
    split = {"kind": "hold_out_users", "n_users": 0.2, "stable": True}
    track = {"experiment": "held", "register": "shop"}
    evaluated = {"metrics": ["recall@10", "ndcg@10", "coverage@10"]}
    given = {"data": RATED, "split": split, "evaluate": evaluated, "track": track, "promote": {"slowdown": 1000.0}}
    return check_config({**given, "model": model, **sections})


@pytest.fixture(autouse=True)
def _home(mlflow_root):
    """An MLflow home of the test's own."""


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path, False)


def run_of(trained):
    import mlflow

    return mlflow.MlflowClient().get_run(trained.run_id)


# Values


@pytest.mark.parametrize("kind", ["hold_out_users", "hold_out_ratings", "leave_last_out"])
def test_lists_are_those_of_popularity(place, kind):
    config = job(split={"kind": kind}, evaluate={"metrics": None})
    data = config.load_data()
    split = config.split.split(data)
    found = Baseline.of(place, config, split, split.train, DEFAULT)
    plain = evaluate(Popularity().fit(split.train, show_progress=False), split.test, popularity=split.train)
    assert found.values == plain.values
    assert found.title == "Popularity"
    assert found.figures["popularity/ndcg@10"] == plain["ndcg@10"]


def test_ratings_are_mean_and_biases(place):
    config = job(split={"kind": "hold_out_ratings"})
    split = config.split.split(config.load_data())
    known, test = split.refit().matrix.tocoo(), split.test.target.tocoo()
    mean, users, items = known.data.mean(), np.zeros(known.shape[0]), np.zeros(known.shape[1])
    one, other = (users, known.row, items, known.col), (items, known.col, users, known.row)
    for own, mine, beside, theirs in (*[one, other] * 10, one):
        for index in range(len(own)):
            rated = mine == index
            rest = known.data[rated] - mean - beside[theirs[rated]]
            own[index] = rest.sum() / (rated.sum() + DAMPING)
    error = mean + users[test.row] + items[test.col] - test.data
    found = Baseline.of(place, config, split, split.refit(), ("rmse", "mae"))
    assert found.values["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-6)
    assert found.values["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-6)
    assert (found.title, set(found.figures)) == ("Biases", {"biases/rmse", "biases/mae"})


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ({"ndcg@10": 0.2, "recall@10": 0.0}, "ndcg@10", ""),
        ({"ndcg@10": 0.1, "recall@10": 0.9}, "recall@10", ""),
        ({"recall@10": 0.3, "ndcg@10": 0.09}, "ndcg@10", "ndcg@10 0.0900 against 0.1000"),
        ({"recall@10": 0.3, "ndcg@10": 0.09}, "map@5", ""),  # not evaluated: the first decides
        ({"recall@10": 0.1, "ndcg@10": 0.19}, "map@5", "recall@10 0.1000 against 0.3000"),
    ],
)
def test_the_deciding_metric_says_which_is_better(values, metric, expected):
    baseline = Baseline({name: {"ndcg@10": 0.1, "recall@10": 0.3}[name] for name in values})
    assert expected in baseline.above(Popularity(), values, metric)
    assert bool(baseline.above(Popularity(), values, metric)) == bool(expected)


def test_errors_are_better_when_they_are_smaller():
    baseline, model = Baseline({"rmse": 0.93, "ndcg@10": 0.1}), UAutoRec()
    assert baseline.title == "Biases or Popularity"
    assert baseline.above(model, {"rmse": 0.90, "ndcg@10": 0.05}, "rmse") == ""
    assert "UAutoRec predicts worse than Biases (rmse 0.9500 against 0.9300)" in baseline.above(
        model, {"rmse": 0.95, "ndcg@10": 0.5}, "rmse"
    )
    ranked = baseline.above(model, {"rmse": 0.90, "ndcg@10": 0.05}, "ndcg@10")
    assert "set model.unobserved_weight above 0 to rank" in ranked
    assert "unobserved_weight" not in baseline.above(UAutoRec(unobserved_weight=0.1), {"ndcg@10": 0.05}, "ndcg@10")


# Where it is shown


def test_a_run_shows_it_in_table_report_and_store(place, capsys):
    (done,) = train.run(place, job(GOOD))
    out = capsys.readouterr().out
    metrics = run_of(done).data.metrics
    config = job(GOOD)
    split = config.split.split(config.load_data())
    known = evaluate(Popularity().fit(split.train, show_progress=False), split.test, config.evaluate.metrics)
    assert {name: metrics[f"popularity/{name.replace('@', '_at_')}"] for name in known.values} == known.values
    head, *rows = out.split("metric ")[1].splitlines()[:4]
    assert head.endswith("  Popularity")
    assert [row.split()[-1] for row in rows] == [f"{value:.4f}" for value in known.values.values()]
    page = Path(tracking.address(done.run_id, "report.html")).read_text(encoding="utf-8")
    assert '<th scope="col" class="n">Popularity</th>' in page
    assert all(f'<td class="n">{value:.4f}</td>' in page for value in known.values.values())
    assert tracking.version_facts("shop", 1)["metrics"]["popularity/ndcg_at_10"] == known["ndcg@10"]
    assert cli.main(["evaluate", "models:/shop/1", "--report", "page.html", "--quiet"]) == 0
    assert "\n".join([f"metric {head}", *rows]) in capsys.readouterr().out
    assert '<th scope="col" class="n">Popularity</th>' in Path("page.html").read_text(encoding="utf-8")


def test_after_a_refit_it_is_fitted_to_the_same_entries(place, capsys):
    config = job(GOOD, split={"kind": "hold_out_ratings"}, train={"refit": True})
    train.run(place, config)
    split = config.split.split(config.load_data())
    known = Baseline.of(place, config, split, split.refit(), config.evaluate.metrics).values
    assert known != Baseline.of(place, config, split, split.train, config.evaluate.metrics).values
    shown = capsys.readouterr().out
    assert cli.main(["evaluate", "models:/shop/1", "--quiet"]) == 0
    for out in (shown, capsys.readouterr().out):
        (row,) = [line for line in out.splitlines() if line.startswith("ndcg@10")]
        assert row.endswith(f"{known['ndcg@10']:.4f}")


# The champion beside it


def report_of(trained):
    return Path(tracking.address(trained.run_id, "report.html")).read_text(encoding="utf-8")


def test_a_report_shows_what_the_champion_reached_on_the_same_test_part(place):
    (first,) = train.run(place, job(GOOD))
    tracking.promote("shop", 1)
    (second,) = train.run(place, job({**GOOD, "regularization": 50.0}))
    assert cli.main(["evaluate", "models:/shop/2", "--report", "page.html", "--quiet"]) == 0
    for text in (report_of(second), Path("page.html").read_text(encoding="utf-8")):
        assert '<th scope="col" class="n">version 1, the champion</th>' in text
        for name, value in first.test.values.items():
            row = text.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
            assert re.findall("<td[^>]*>([^<]*)</td>", row)[2] == f"{value:.4f}"
            assert value != second.test[name]
        assert "that of version 1, the champion (" in text.partition("<nav")[0]


def test_a_champion_that_was_tested_on_something_else_is_not_shown_nor_one_beside_itself(place):
    train.run(place, job(GOOD))
    tracking.promote("shop", 1)
    assert cli.main(["evaluate", "models:/shop@champion", "--report", "page.html", "--quiet"]) == 0
    assert "the champion" not in Path("page.html").read_text(encoding="utf-8")
    others = {
        "split": {"kind": "hold_out_users", "n_users": 0.3, "stable": True},
        "data": {**RATED, "seed": 1},
        "evaluate": {"metrics": ["recall@10"], "min_relevance": 4.0},
    }
    for section, values in others.items():
        (other,) = train.run(place, job({**GOOD, "regularization": 400.0}, **{section: values}), force=True)
        text = report_of(other)
        assert "that of Popularity" in text
        assert "the champion" not in text, section


# What is registered


def test_a_model_that_is_worse_is_registered_only_by_force(place, capsys, monkeypatch):
    Path("weak.toml").write_text(
        '[data]\nname = "synthetic"\nusers = 400\nitems = 150\ninteractions = 8000\n[split]\nkind = "hold_out_users"\n'
        '[model]\nname = "UAutoRec"\nhidden = 4\nepochs = 1\n[track]\nregister = "shop"\n'
    )
    assert cli.main(["train", "weak.toml", "--quiet"]) == 6
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("recsys train: UAutoRec ranks worse than Popularity (ndcg@10 0.")
    assert "set model.unobserved_weight above 0" in line
    assert "not registered as 'shop'" in line
    assert "--force" in line
    (uri,) = [row.split()[-1] for row in said.out.splitlines() if row.startswith("model ")]
    assert uri.startswith("runs:/")
    assert uri in line
    assert type(tracking.load(uri)) is UAutoRec
    assert tracking.versions_if_any("shop") == []

    monkeypatch.setattr(UAutoRec, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert cli.main(["train", "weak.toml", "--quiet"]) == 6
    assert capsys.readouterr().err.splitlines() == [line]
    assert cli.main(["train", "weak.toml", "--quiet", "--force"]) == 0
    assert "models:/shop/1" in capsys.readouterr().out
    (version,) = tracking.versions_if_any("shop")
    assert f"runs:/{version.run_id}/model" == uri
    with pytest.raises(pytest.fail.Exception):  # it is done: the same command trains another one
        cli.main(["train", "weak.toml", "--quiet", "--force"])


def test_each_repeat_is_judged_and_all_are_finished(place):
    with pytest.raises(RegistrationRefused, match=r"\(and 1 more of 2, see above\)"):
        train.run(place, job(train={"repeats": 2}))
    import mlflow

    runs = mlflow.search_runs(search_all_experiments=True)
    assert set(runs["status"]) == {"FINISHED"}
    assert len(runs) == 2


def test_what_is_not_to_be_registered_is_only_told(place, capsys):
    (done,) = train.run(place, job(track={"experiment": "held"}))
    assert (done.refused, done.registered) == ("", None)
    assert "UAutoRec ranks worse than Popularity" in capsys.readouterr().out


def test_a_night_keeps_its_champion_and_does_not_train_twice(place, monkeypatch):
    train.run(place, job(GOOD))
    tracking.promote("shop", 1)
    found = nightly.run(place, job())
    assert (found.status, found.champion, found.challenger) == ("kept", "models:/shop/1", None)
    assert found.steps["train"] == "done: not registered"
    assert found.steps["promote"] == "skipped: there is no challenger"
    assert found.steps["score"].startswith(("done", "skipped"))
    assert "UAutoRec ranks worse than Popularity" in found.reason
    assert found.warnings == [found.reason]
    assert [version.version for version in tracking.model_versions("shop")] == [1]
    monkeypatch.setattr(UAutoRec, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = nightly.run(place, job())
    assert (again.status, again.reason) == (found.status, found.reason)


def test_a_first_night_without_a_champion_says_why(place):
    with pytest.raises(ConfigError, match="there is no champion to score with: UAutoRec ranks worse than Popularity"):
        nightly.run(place, job())
