"""The job of analyses: a page, tables and figures; whole or absent, and continued after an interruption."""

import json
import shutil
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest

from recsys import cli
from recsys.analysis import ANALYSES, Analysis, Findings
from recsys.config import JobConfig, check_config
from recsys.datasets import synthetic
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.files import MANIFEST
from recsys.jobs import analyze, train
from recsys.models import EASE
from recsys.report.markup import note
from recsys.splits import hold_out_users
from recsys.workspace import Workspace

DATA = {"name": "synthetic", "users": 120, "items": 40, "interactions": 1500}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mlflow_template):
    """A root with a registered model."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    sections = {
        "data": DATA,
        "split": {"kind": "hold_out_users", "n_users": 0.3, "stable": True},
        "model": {"name": "EASE"},
        "track": {"experiment": "toy", "register": "toy"},
    }
    train.run(Workspace(root, False), check_config(sections), force=True)
    return root


class Analyses:
    """Two analyses, of which the second may refuse; each call is noted."""

    def __init__(self):
        self.called, self.subject, self.error = [], None, None

    def first(self, subject):
        self.called.append("first")
        self.subject = subject
        frame = pd.DataFrame({"user_id": subject.train.users.ids()[:3], "value": [1.0, 2.0, 3.0]})
        return Findings(
            title="The first",
            summary=f"Seed {subject.seed} <b>.",
            tables={"values": frame},
            metrics={"mean": 2.0, "nothing": float("nan")},
            content=[note("Three & more.")],
        )

    def second(self, subject):
        self.called.append("second")
        if self.error is not None:
            raise self.error
        return Findings(title="The second", summary="Nothing.", tables={}, metrics={}, content=[])


@pytest.fixture
def analyses(monkeypatch):
    made = Analyses()
    monkeypatch.setattr(analyze, "ANALYSES", {"one": Analysis("a", made.first), "two": Analysis("b", made.second)})
    return made


@pytest.fixture
def root(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def run(root):
    def running(**options):
        return analyze.run(Workspace(root, False), "models:/toy/1", root / "out", **options)

    return running


def test_a_page_tables_and_figures_are_written(run, analyses, root, capsys):
    found = run(seed=7)
    out = root / "out"
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    own = {"analysis.html", "analyses/one/values.parquet", "analyses/one/done.json", "analyses/two/done.json"}
    assert files == {*own, MANIFEST}
    manifest = json.loads((out / MANIFEST).read_text())
    assert set(manifest["files"]) == own
    assert manifest["analyses"] == ["one", "two"]
    assert pd.read_parquet(out / "analyses/one/values.parquet")["value"].tolist() == [1.0, 2.0, 3.0]
    page = (out / "analysis.html").read_text()
    assert "Analysis of EASE on synthetic" in page
    assert "Seed 7 &lt;b&gt;." in page
    assert "Three &amp; more." in page
    assert page.index("The first") < page.index("The second")
    assert found.findings["one"]["metrics"] == {"mean": 2.0}
    (logged,) = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.model = 'models:/toy/1'", output_format="list"
    )
    assert logged.data.metrics == {"one_mean": 2.0}
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(logged.info.run_id)}
    assert names == {"analysis.html", "one"}
    assert "Seed 7" in capsys.readouterr().out


def test_the_same_command_goes_on_and_another_begins_anew(run, analyses):
    analyses.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run()
    analyses.error = None
    run()
    assert analyses.called == ["first", "second", "second"]
    run()
    assert analyses.called == ["first", "second", "second"]
    run(what=["one"])
    run(seed=1)
    assert analyses.called[3:] == ["first", "second"]


def test_data_that_have_changed_since_the_training_are_refused(run, analyses, root, monkeypatch):
    read = JobConfig.load_data

    def changed(job, folder=None):
        data = read(job, folder)
        return data.select(np.arange(data.nnz) % 50 > 0, keep_shape=True)

    monkeypatch.setattr(JobConfig, "load_data", changed)
    with pytest.raises(DataError, match=r"is not what models:/toy/1 was trained on: data or split have changed since"):
        run()
    assert analyses.called == []


def test_the_training_part_is_what_a_refitted_model_was_fitted_to(root, analyses):
    sections = {
        "data": DATA,
        "split": {"kind": "hold_out_ratings", "seed": 1},
        "model": {"name": "EASE"},
        "train": {"refit": True},
        "track": {"experiment": "toy", "register": "refit"},
    }
    config = check_config(sections)
    train.run(Workspace(root, False), config, force=True)
    analyze.run(Workspace(root, False), "models:/refit/1", root / "refit")
    split = config.split.split(config.load_data(root))
    assert analyses.subject.train.fingerprint() == split.refit().fingerprint() != split.train.fingerprint()


def test_another_test_part_or_other_users_are_another_analysis():
    split = hold_out_users(synthetic(**{k: v for k, v in DATA.items() if k != "name"}), n_users=30, seed=0)
    model = EASE().fit(split.train, show_progress=False)
    less = replace(split.test, target=split.test.target.multiply(split.test.target > 3).tocsr())
    users = pd.DataFrame({"age": [1, 2]}, index=split.train.users.ids()[:2])
    digests = [
        analyze._digest(model, split, None, 0),
        analyze._digest(model, replace(split, test=less), None, 0),
        analyze._digest(model, split, users, 0),
        analyze._digest(model, split, users + 1, 0),
        analyze._digest(model, split, users.rename(columns={"age": "years"}), 0),
        analyze._digest(model, split, None, 1),
        analyze._digest(EASE(regularization=1.0).fit(split.train, show_progress=False), split, None, 0),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == analyze._digest(model, split, None, 0)


def test_what_a_model_cannot_answer_is_left_out_unless_it_was_asked_for(run, analyses, root):
    analyses.error = UnsupportedError("EASE has no density; MultVAE has")
    assert run().skipped == {"two": "EASE has no density; MultVAE has"}
    assert "EASE has no density" in (root / "out" / "analysis.html").read_text()
    with pytest.raises(UnsupportedError, match="EASE has no density"):
        run(what=["two"])


def test_damaged_tables_are_made_again(run, analyses, root):
    run()
    (root / "out/analyses/one/values.parquet").write_bytes(b"half")
    run()
    assert analyses.called == ["first", "second", "first"]


def test_a_folder_of_somebody_is_refused_before_the_work(run, analyses, root):
    (root / "out").mkdir()
    (root / "out" / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match=r"is not the output of an analysis: it holds thesis\.txt"):
        run()
    assert analyses.called == []
    assert [path.name for path in (root / "out").iterdir()] == ["thesis.txt"]


def test_a_name_that_is_none_is_refused(run, analyses):
    with pytest.raises(ConfigError, match=r"unknown analysis 'tow' \(known: one, two\); did you mean 'two'"):
        run(what=["tow"])


def test_columns_of_users_meet_the_data_by_their_ids(run, analyses, root):
    run()
    ids = analyses.subject.train.users.ids()
    file = root / "users.csv"
    pd.DataFrame({"user_id": [*ids[:2], 10**6], "age": [20, 30, 99]}).to_csv(file, index=False)
    with pytest.warns(UserWarning, match=r"1 of the 3 users of .* are not in the data"):
        run(users=file)
    assert analyses.subject.users["age"].to_dict() == {ids[0]: 20, ids[1]: 30}
    for table, message in [
        ({"user_id": [10**6], "age": [1]}, "no user of .* is in the data, whose ids are like"),
        ({"user_id": [int(ids[0])] * 2, "age": [1, 2]}, "each id once"),
        ({"who": [1], "age": [1]}, "column 'user_id' is not in the table"),
    ]:
        pd.DataFrame(table).to_csv(file, index=False)
        with pytest.raises(DataError, match=message):
            run(users=file)


def test_the_command_names_its_analyses(capsys):
    with pytest.raises(SystemExit):
        cli.main(["analyze", "models:/toy/1", "--output", "out", "--seed", "-1"])
    assert "must be a whole number of at least 0 and below 10**18, got '-1'" in capsys.readouterr().err
    assert cli.main(["analyze", "models:/toy/1", "--output", "out", "--what", "nothing"]) == 2
    assert f"(known: {', '.join(ANALYSES)})" in capsys.readouterr().err
