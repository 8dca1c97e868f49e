"""Runs, the registry and the served model, on stores of their own."""

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import recsys
from recsys import tracking
from recsys.errors import BundleError, NotFittedError, TrackingError
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import EASE, UAutoRec
from recsys.splits import Part
from recsys.tracking import adapter, home, runs, store
from recsys.training import Record
from recsys.workspace import Workspace


def table(rated=False, text=False):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": rng.integers(100, 140, 400), "item_id": rng.integers(7, 37, 400)})
    frame = frame.drop_duplicates()
    if text:
        frame = "x" + frame.astype(str)
    return frame.assign(rating=rng.integers(1, 6, len(frame)).astype(float)) if rated else frame


DATA = Interactions.from_frame(table())
MODEL = EASE(regularization=5.0).fit(DATA, show_progress=False)
RATED = Interactions.from_frame(table(rated=True, text=True))


def client():
    return mlflow.MlflowClient()


def run_of(tracker):
    return client().get_run(tracker.run_id)


@pytest.fixture(scope="module")
def served(tmp_path_factory, mlflow_template):
    """A root with two versions of `toy`, of a model of integer ids, and one of `rated`, of text ids and ratings."""
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    rated = UAutoRec(hidden=4, epochs=2, seed=0).fit(RATED, show_progress=False)
    with tracking.start_run(Workspace(root), "logged") as tracker:
        first = tracking.log_model(
            MODEL, name="toy", examples=DATA, metrics={"ndcg@10": 0.25}, about={"data": {"name": "generated"}}
        )
        path = list(sys.path)
    with tracking.start_run(Workspace(root), "logged"):
        second = tracking.log_model(MODEL, name="toy", examples=DATA)
        third = tracking.log_model(rated, name="rated", examples=RATED)
    assert sys.path == path
    return root, tracker, (first, second, third), rated


@pytest.fixture
def registry(served):
    """The root of `served`, with MLflow pointed at it."""
    tracking.configure(Workspace(served[0]))
    return served[0]


def test_the_store_lives_in_one_absolute_folder(mlflow_root, monkeypatch):
    wanted = f"sqlite:///{mlflow_root.as_posix()}/mlruns/mlflow.db"
    assert (
        tracking.configure(Workspace(Path()))
        == tracking.configure(Workspace())
        == tracking.configure(Workspace(mlflow_root))
        == wanted
    )
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == wanted
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)  # which would overrule the next root
    assert tracking.describe(Workspace()) == "recsys ui"
    monkeypatch.chdir(mlflow_root.parent)
    assert tracking.describe(Workspace(mlflow_root)) == f"recsys ui --root {mlflow_root}"
    assert [path.name for path in mlflow_root.iterdir()] == ["mlruns"]
    assert [path.name for path in (mlflow_root / "mlruns").iterdir()] == ["mlflow.db"]


def test_the_environment_may_name_another_store(mlflow_root, monkeypatch):
    other = f"sqlite:///{mlflow_root.as_posix()}/mlruns/../mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert tracking.configure(Workspace(mlflow_root / "elsewhere")) == other == tracking.describe(Workspace())
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == other
    assert not (mlflow_root / "elsewhere").exists()
    with tracking.start_run(Workspace(mlflow_root / "elsewhere"), "theirs") as tracker:
        pass
    assert "elsewhere" not in run_of(tracker).info.artifact_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(TrackingError, match="cannot open nonsense://x"):
        tracking.configure(Workspace())


def test_one_process_at_a_time_makes_a_store(tmp_path, monkeypatch):
    made, make = [], home._build

    def build(file):
        with pytest.raises(BlockingIOError), locked(tmp_path / "mlruns" / ".lock", wait=False):
            pass
        made.append(file)
        make(file)

    monkeypatch.setattr(home, "_build", build)
    tracking.configure(Workspace(tmp_path))
    tracking.configure(Workspace(tmp_path))
    assert made == [tmp_path / "mlruns" / "mlflow.db"]
    assert os.listdir(tmp_path / "mlruns") == ["mlflow.db"]


def test_a_model_is_guarded_where_all_who_share_its_registry_meet(tmp_path):
    assert store._lock_folder(f"sqlite:///{tmp_path.as_posix()}/mlruns/mlflow.db") == tmp_path / "mlruns" / "locks"
    one, same, other = (store._lock_folder(f"https://{who}") for who in ("me:secret@host", "you@host", "host:5000"))
    assert one == same != other
    assert Path(tempfile.gettempdir()) in one.parents


def test_those_who_only_read_make_no_store(tmp_path, mlflow_root):
    with pytest.raises(TrackingError, match=f"no MLflow store under {tmp_path / 'typo' / 'mlruns'}"):
        tracking.configure(Workspace(tmp_path / "typo"), create=False)
    assert not (tmp_path / "typo").exists()
    assert tracking.configure(Workspace(mlflow_root), create=False) == tracking.configure(Workspace(mlflow_root))


def test_names_that_mlflow_accepts():
    assert tracking.mlflow_name("ndcg@10") == "ndcg_at_10"
    assert tracking.mlflow_name("rmse") == "rmse"
    nested = {"model": {"hidden": 500, "loss": {"kind": "mse"}}, "layers": [1, 2], "seed": None}
    flat = {"model.hidden": 500, "model.loss.kind": "mse", "layers": [1, 2], "seed": None}
    assert tracking.flatten(nested) == flat
    assert nested["model"] == {"hidden": 500, "loss": {"kind": "mse"}}


def test_a_run_keeps_what_is_reported(mlflow_root):
    with tracking.start_run(Workspace(), "exp", "first", {"why": 1}) as tracker:
        tracker.log_params({"model": {"hidden": 500}, "seed": None, "guards": {"coverage@10": 0.5}})
        tracker.log_data(DATA)
        for epoch, figure in ((1.0, 0.1), (2.0, 0.3), (3.0, 0.2)):
            tracker.log_epoch({"epoch": epoch, "loss": 1 / epoch, "seconds": 0.5, "ndcg@10": figure})
        tracker.log_metrics({"ndcg@10": np.float32(0.25), "coverage@10": 0.5})
        tracker.set_tags({"stage": "test"})
        tracker.log_text("hello", "notes/readme.txt")
        tracker.log_frame(pd.DataFrame({"user_id": [1, 2], "ndcg@10": [0.1, 0.2]}), "tables/per_user.parquet")
    run = run_of(tracker)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    wanted = {
        "model.hidden": "500",
        "seed": "None",
        "guards.coverage_at_10": "0.5",
        "data.users": "40",
        "data.items": "30",
    }
    assert wanted.items() <= run.data.params.items()
    assert run.data.params["data.interactions"] == str(DATA.nnz)
    assert run.data.params["data.fingerprint"] == DATA.fingerprint()
    assert run.inputs.dataset_inputs[0].dataset.digest == DATA.fingerprint()[:36]
    series = client().get_metric_history(tracker.run_id, "epoch_ndcg_at_10")
    assert [(point.step, point.value) for point in series] == [(1, 0.1), (2, 0.3), (3, 0.2)]
    # The figure of the run is not hidden by the series of its validation.
    assert run.data.metrics == {
        "loss": 1 / 3,
        "seconds": 0.5,
        "epoch_ndcg_at_10": 0.2,
        "ndcg_at_10": 0.25,
        "coverage_at_10": 0.5,
    }
    assert {"why": "1", "stage": "test"}.items() <= run.data.tags.items()
    folder = mlflow_root / "mlruns" / "artifacts" / tracker.run_id / "artifacts"
    assert (folder / "notes" / "readme.txt").read_text() == "hello"
    assert pd.read_parquet(folder / "tables" / "per_user.parquet")["ndcg@10"].tolist() == [0.1, 0.2]


def test_a_figure_is_stored(mlflow_root):
    from matplotlib.figure import Figure

    with tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_figure(Figure(), "curve.png")
    file = mlflow_root / "mlruns" / "artifacts" / tracker.run_id / "artifacts" / "curve.png"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_best_epoch_is_recorded_and_not_the_last(mlflow_root):
    epochs = [{"epoch": 1.0, "loss": 2.0, "ndcg@10": 0.3, "seconds": 1.0}, {"epoch": 2.0, "loss": 1.0, "ndcg@10": 0.2}]
    with tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_best(Record(epochs, best_epoch=1, metric="ndcg@10"))
    assert run_of(tracker).data.metrics == {"best_epoch": 1.0, "best_loss": 2.0, "best_ndcg_at_10": 0.3}
    with tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_best(Record(epochs))
        tracker.log_best(Record(epochs[:1], best_epoch=1, metric="ndcg@10"))  # of one that is not trained in epochs
    assert run_of(tracker).data.metrics == {}


def test_an_exception_fails_the_run_and_goes_on(mlflow_root):
    with pytest.raises(ZeroDivisionError), tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_metrics({"a": 1 / 0})
    assert run_of(tracker).info.status == "FAILED"
    assert mlflow.active_run() is None


def test_a_run_within_a_run_is_its_child_and_each_tracker_keeps_to_its_own(mlflow_root):
    with tracking.start_run(Workspace(), "exp") as outer:
        with tracking.start_run(Workspace(), "exp") as inner:
            outer.log_metrics({"a": 1.0})
            inner.log_metrics({"a": 2.0})
        outer.log_metrics({"b": 3.0})
    assert run_of(inner).data.tags["mlflow.parentRunId"] == outer.run_id
    assert run_of(outer).data.metrics == {"a": 1.0, "b": 3.0}
    assert run_of(inner).data.metrics == {"a": 2.0}


def test_what_mlflow_refuses_is_a_tracking_error(mlflow_root):
    with tracking.start_run(Workspace(), "exp") as tracker:
        tracker.log_params({"seed": 1})
        with pytest.raises(TrackingError, match=r"cannot record params.*seed"):
            tracker.log_params({"seed": 2})
        with pytest.raises(TrackingError, match=r"must end in \.parquet, got 'x.csv'"):
            tracker.log_frame(pd.DataFrame(), "x.csv")
    client().delete_experiment(client().get_experiment_by_name("exp").experiment_id)
    with pytest.raises(TrackingError, match="'exp' was deleted"), tracking.start_run(Workspace(), "exp"):
        pass


def test_runs_begun_at_once_share_one_new_experiment(mlflow_root):
    uri, found = tracking.configure(Workspace()), []
    threads = [
        threading.Thread(target=lambda: found.append(runs.experiment_id("new", uri, Workspace()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_the_environment_of_a_run(tmp_path):
    found = tracking.environment(Workspace(tmp_path))
    assert "git.commit" not in found
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["version.numpy"] == np.__version__
    assert int(found["cpus"]) >= 1

    def git(*command):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    found = tracking.environment(Workspace(tmp_path))
    assert found["git.commit"] == git("rev-parse", "HEAD").stdout.strip()
    assert found["git.dirty"] == "false"
    (tmp_path / "new.py").touch()
    assert tracking.environment(Workspace(tmp_path))["git.dirty"] == "true"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git.commit" not in tracking.environment(Workspace())


def test_the_null_tracker_records_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = tracking.Tracker()
    tracker.log_epoch({"epoch": 1.0, "loss": 2.0})
    tracker.log_data(DATA)
    tracker.log_text("hello", "a.txt")
    assert tracker.register("toy") is None
    assert (tracker.run_id, tracker.registered, tracker.waiting) == (None, {}, None)
    assert not list(tmp_path.iterdir())


def test_our_calls_are_quiet_and_leave_logging_alone(mlflow_root, capfd, monkeypatch):
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", None)]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    filters, variables = list(warnings.filters), dict(os.environ)
    with tracking.start_run(Workspace(), "exp"):
        tracking.log_model(MODEL, name="quiet", examples=DATA)
        tracking.log_model(MODEL, name="quiet", examples=DATA)
    tracking.promote("quiet")
    assert capfd.readouterr() == ("", "")
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before
    assert (warnings.filters, dict(os.environ)) == (filters, variables)


# The registry


def test_versions_are_registered_with_their_run(served, registry):
    _, tracker, (first, second, third), _ = served
    assert (first.name, first.version, first.uri, first.run_id) == ("toy", 1, "models:/toy/1", tracker.run_id)
    assert (second.version, third.uri) == (2, "models:/rated/1")
    assert [version.version for version in tracking.model_versions("toy")] == [2, 1]
    assert run_of(tracker).data.metrics == {"ndcg_at_10": 0.25}
    logged = client().search_logged_models(
        [run_of(tracker).info.experiment_id], filter_string="metrics.ndcg_at_10 > 0.2"
    )
    assert [model.source_run_id for model in logged] == [tracker.run_id]


def test_promotion_moves_the_alias_and_leaves_a_trace(served, registry):
    first = tracking.promote("toy", 1, reason="the first")
    assert (first.version, first.previous, first.uri) == (1, None, "models:/toy@champion")
    second = tracking.promote("toy", reason="better")
    assert (second.version, second.previous) == (2, 1)
    assert [version.aliases for version in tracking.model_versions("toy")] == [("champion",), ()]
    tags = client().get_model_version("toy", "2").tags
    assert (tags["champion_reason"], tags["champion_previous"]) == ("better", "1")
    again = tracking.promote("toy", 2, reason="again")
    assert again.previous == 2
    assert client().get_model_version("toy", "2").tags == tags
    tracking.promote("toy", 1, alias="challenger")
    assert [version.aliases for version in tracking.model_versions("toy")] == [("champion",), ("challenger",)]


def test_a_promotion_leaves_no_tag_without_a_value(registry):
    tracking.promote("toy", 1)
    tracking.promote("toy", 2, reason="better")
    assert "champion_previous" in client().get_model_version("toy", "2").tags
    client().delete_registered_model_alias("toy", "champion")
    tracking.promote("toy", 2)  # the first to hold it again, for no reason given
    tags = client().get_model_version("toy", "2").tags
    assert all(tags.values())
    assert not tags.keys() & {"champion_reason", "champion_previous"}
    with pytest.raises(TrackingError, match="was the first champion"):
        tracking.rollback("toy")


def test_what_cannot_be_promoted(registry):
    with pytest.raises(TrackingError, match="no model 'toi' is registered; did you mean 'toy'"):
        tracking.promote("toi")
    with pytest.raises(TrackingError, match="'toy' has no version 7; versions: 2, 1"):
        tracking.promote("toy", 7)
    with pytest.raises(TrackingError, match="cannot give 'latest'"):
        tracking.promote("toy", alias="latest")


def test_an_empty_registry_says_so(mlflow_root):
    tracking.configure(Workspace())
    with pytest.raises(TrackingError, match="no model 'toy' is registered, nor any other"):
        tracking.load("models:/toy/1")


def test_a_model_is_found_natively_wherever_it_is(served, registry, tmp_path):
    _, tracker, _, rated = served
    tracking.promote("toy", 1, alias="found")
    MODEL.save(tmp_path / "bundle")
    histories = DATA.matrix[:5]
    wanted = MODEL.recommend(np.arange(5), histories)
    for uri in ("models:/toy@found", "models:/toy/2", f"runs:/{tracker.run_id}/model", tmp_path / "bundle"):
        got = tracking.load(uri).recommend(np.arange(5), histories)
        assert (got[0] == wanted[0]).all()
        assert (got[1] == wanted[1]).all()
    folder = tracking.resolve("models:/toy@found")
    assert folder.is_relative_to(registry / "mlruns" / "artifacts")  # in place, not a copy
    assert tracking.resolve(f"runs:/{tracker.run_id}/model") == folder
    assert json.loads((folder / "metrics.json").read_text()) == {"ndcg@10": 0.25}
    about = json.loads((folder / "config.json").read_text())["about"]
    assert about == {"data": {"name": "generated"}, "run_id": tracker.run_id}
    assert type(tracking.load("models:/rated/1")) is type(rated)


def test_a_bundle_stored_as_a_plain_artifact_is_found(mlflow_root):
    MODEL.save(mlflow_root / "bundle")
    with tracking.start_run(Workspace(), "exp") as tracker:
        client().log_artifacts(tracker.run_id, str(mlflow_root / "bundle"), "mine")
        client().log_text(tracker.run_id, "x", "other/file.txt")
    assert tracking.load(f"runs:/{tracker.run_id}/mine").params() == MODEL.params()
    with pytest.raises(BundleError, match="holds no saved model"):
        tracking.load(f"runs:/{tracker.run_id}/other")


def test_what_is_not_there_is_named(served, registry, tmp_path):
    _, tracker, _, _ = served
    for uri, error, message in [
        ("models:/toy@nobody", TrackingError, r"no alias 'nobody'; versions: 2, 1; aliases: "),
        ("models:/toy/9", TrackingError, r"no version 9; versions: 2, 1"),
        ("models:/toy", TrackingError, r"expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/toy/latest", TrackingError, r"expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        (f"runs:/{tracker.run_id}/other", TrackingError, r"holds no 'other'; it holds model"),
        (f"runs:/{'0' * 32}/model", TrackingError, r"cannot fetch runs:/0000"),
        (tmp_path / "nothing", BundleError, r"there is no such folder"),
        (tmp_path, BundleError, r"holds no saved model$"),
    ]:
        with pytest.raises(error, match=message):
            tracking.load(uri)


def test_models_that_cannot_be_logged(mlflow_root):
    with pytest.raises(TrackingError, match="no run is active"):
        tracking.log_model(MODEL, name="x", examples=DATA)
    dates = Interactions.from_frame(table().assign(item_id=lambda f: pd.to_datetime(f["item_id"], unit="D")))
    with tracking.start_run(Workspace(), "exp"):
        with pytest.raises(NotFittedError):
            tracking.log_model(EASE(), name="x", examples=DATA)
        with pytest.raises(TrackingError, match="does not know its ids"):
            tracking.log_model(EASE().fit(DATA.matrix, show_progress=False), name="x", examples=DATA)
        with pytest.raises(TrackingError, match="item ids must be integers or strings"):
            tracking.log_model(EASE().fit(dates, show_progress=False), name="x", examples=dates)


def test_a_logged_model_is_registered_later_with_what_was_measured_since(mlflow_root):
    with tracking.start_run(Workspace(), "exp") as tracker:
        with pytest.raises(TrackingError, match="has logged no model to register as 'later'"):
            tracking.register(tracker.run_id, "later")
        tracking.log_model(MODEL, name=None, examples=DATA, metrics={"validation_ndcg@10": 0.5})
        tracker.log_metrics({"ndcg@10": 0.25})
        found = tracking.register(tracker.run_id, "later")
    assert (found.uri, found.run_id) == ("models:/later/1", tracker.run_id)
    assert client().get_model_version("later", "1").tags == {"model": "EASE"}
    (logged,) = client().search_logged_models([run_of(tracker).info.experiment_id])
    assert {metric.key: metric.value for metric in logged.metrics} == {
        "validation_ndcg_at_10": 0.5,
        "ndcg_at_10": 0.25,
    }
    assert run_of(tracker).data.metrics == {"validation_ndcg_at_10": 0.5, "ndcg_at_10": 0.25}


def test_an_address_that_stays(served, registry, tmp_path, monkeypatch):
    tracking.promote("toy", 1, alias="pinned")
    assert tracking.pin("models:/toy@pinned") == "models:/toy/1"
    for uri in ("models:/toy/2", "runs:/0123/model"):
        assert tracking.pin(uri) == uri
    monkeypatch.chdir(tmp_path)
    assert tracking.pin("bundle") == str(tmp_path / "bundle")
    with pytest.raises(TrackingError, match="no alias 'nobody'"):
        tracking.pin("models:/toy@nobody")


@pytest.mark.parametrize("empty", [False, True])
def test_a_model_without_a_name_is_logged_and_not_registered(mlflow_root, empty):
    nothing = sp.csr_matrix((9, DATA.shape[1]), dtype=np.float32)
    histories = nothing if empty else DATA.matrix[:9]
    part = Part(histories, nothing, DATA.users.take(range(9)), np.full(9, -1, dtype=np.int32))
    with tracking.start_run(Workspace(), "exp") as tracker:
        assert tracking.log_model(MODEL, name=None, examples=part) is None
    example = tracking.resolve(f"runs:/{tracker.run_id}/model").parents[1] / "serving_input_example.json"
    assert example.exists() != empty, "histories without entries give no example"
    assert tracking.load(f"runs:/{tracker.run_id}/model").params() == MODEL.params()
    assert client().search_registered_models() == []


# The served model


def requests(data, model, n=8):
    """The first users' histories as a table of text, and what `recommend` makes of them."""
    rows = data.matrix[:n]
    frame = pd.DataFrame(
        {
            "user_id": [str(user) for user in data.users.ids(np.arange(n))],
            "items": [[str(item) for item in data.items.ids(rows[r].indices)] for r in range(n)],
            "ratings": [rows[r].data.tolist() for r in range(n)],
        }
    )
    return frame, model.recommend(np.arange(n), rows, N=5)


def load_pyfunc(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.load_model(uri)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("uri", "data"), [("models:/toy/1", DATA), ("models:/rated/1", RATED)])
def test_the_served_model_gives_what_recommend_gives(served, registry, monkeypatch, uri, data):
    model = MODEL if data is DATA else served[3]
    frame, (ids, scores) = requests(data, model)
    if data is DATA:
        frame = frame.drop(columns="ratings")
    served_model = load_pyfunc(uri, monkeypatch)
    got = served_model.predict(frame, params={"n": 5})
    assert got.columns.tolist() == ["user_id", "items", "scores", "source"]
    assert got["user_id"].tolist() == frame["user_id"].tolist()
    assert got["items"].tolist() == [[str(item) for item in data.items.ids(row)] for row in ids]
    np.testing.assert_allclose(np.array(got["scores"].tolist()), scores, rtol=1e-5, atol=1e-6)
    assert [len(items) for items in served_model.predict(frame)["items"]] == [10] * 8
    assert sys.modules["recsys"] is recsys
    assert Path(tracking.__file__).is_relative_to(Path(recsys.__file__).parent)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_edges_of_a_request(registry, monkeypatch):
    model = load_pyfunc("models:/toy/1", monkeypatch)
    seen = [str(item) for item in DATA.items.ids([0, 3])]
    frame = pd.DataFrame(
        {
            "user_id": ["100", "nobody", "a", "b", "c"],
            "items": [seen, seen, [*seen, "unknown", "007"], [seen[0], seen[0], seen[1]], []],
        }
    )
    got = model.predict(frame)
    first = got.loc[0, "items"], got.loc[0, "scores"]
    for row in (1, 2, 3):  # an unknown user, unknown items, an item listed twice
        assert (got.loc[row, "items"], got.loc[row, "scores"]) == first
    assert len(got.loc[4, "items"]) == 10
    everything = model.predict(frame, params={"n": 99})
    assert [len(items) for items in everything["items"]] == [28, 28, 28, 28, 30]
    assert not set(seen) & set(everything.loc[0, "items"])
    assert [len(items) for items in model.predict(frame, params={"n": 99, "exclude_seen": False})["items"]] == [30] * 5
    last = pd.DataFrame({"user_id": ["a", "b"], "items": [[str(DATA.items.ids([29])[0])], ["unknown", seen[0]]]})
    both, alone = model.predict(last), model.predict(last[:1])
    assert (both.loc[0, "items"], both.loc[0, "scores"]) == (alone.loc[0, "items"], alone.loc[0, "scores"])
    few = [str(item) for item in DATA.items.ids([0, 5, 9])]
    for items, wanted in ((few, [2, 2, 2, 2, 3]), ([*few, "unknown"], [2, 2, 2, 2, 3]), (["unknown"], [0] * 5)):
        got = model.predict(frame, params={"items": items})
        assert [len(row) for row in got["items"]] == [len(row) for row in got["scores"]] == wanted
        assert not set(got["items"].explode().dropna()) - set(few)
    assert model.predict(frame, params={"items": []}).equals(model.predict(frame))
    assert len(model.predict(frame[:0])) == 0
    with pytest.raises(mlflow.MlflowException, match="items"):
        model.predict(frame.drop(columns="items"))
    for n in (0, -3):
        with pytest.raises(mlflow.MlflowException, match=f"n must be a whole number of at least 1, got {n}") as caught:
            model.predict(frame, params={"n": n})
        assert caught.value.get_http_status_code() == 400


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_ratings_are_asked_for_where_the_model_reads_them(registry, monkeypatch):
    model = load_pyfunc("models:/rated/1", monkeypatch)
    item = str(RATED.items.ids([0])[0])
    frame = pd.DataFrame({"user_id": ["a", "b", "c"], "items": [[item], [item], [item, item]]})
    with pytest.raises(mlflow.MlflowException, match="ratings"):
        model.predict(frame)
    got = model.predict(frame.assign(ratings=[[1.0], [5.0], [1.0, 5.0]]))
    assert got.loc[0, "scores"] != got.loc[1, "scores"]
    assert got.loc[2, "scores"] == got.loc[1, "scores"]  # of an item listed twice the last counts
    with pytest.raises(mlflow.MlflowException, match="as many ratings as items"):
        model.predict(frame.assign(ratings=[[1.0], [5.0], [1.0]]))


def test_no_pickle_is_stored_and_the_signature_is_the_promised_one(registry):
    folder = tracking.resolve("models:/toy/1").parents[1]
    # Whoever has loaded the model from its code since left bytecode beside it.
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in files} <= {
        ".py",
        ".zip",
        ".json",
        ".yaml",
        ".txt",
        ".parquet",
        ".safetensors",
        "",
    }
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]
    with zipfile.ZipFile(folder / "code" / "recsys.zip") as archive:
        names = archive.namelist()
        assert {Path(name).suffix for name in names} == {".py", ".pyi", ".css", ".js", ".typed"}
        assert "recsys/models/linear.py" in names
    info = mlflow.models.get_model_info("models:/toy/1")
    assert info.signature == adapter.signature(rated=False)
    assert [column.name for column in info.signature.inputs] == ["user_id", "items"]
    assert {param.name: param.default for param in info.signature.params} == {
        "n": 10,
        "exclude_seen": True,
        "items": [],
        "rules": "",
    }
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert example["params"] == {"n": 10, "exclude_seen": True, "items": [], "rules": ""}
    assert example["dataframe_split"]["columns"] == ["user_id", "items"]
    needed = (folder / "requirements.txt").read_text().split()
    assert f"numpy=={np.__version__}" in needed
    assert not [line for line in needed if "+" in line]


def test_a_fresh_process_serves_the_model_from_its_own_code(registry, tmp_path):
    code = """
import sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import recsys
print(recsys.__file__)
print(model.predict(pd.DataFrame({"user_id": ["a"], "items": [["7", "9"]]}), params={"n": 3})["items"][0])
"""
    folder = tracking.resolve("models:/toy/1").parents[1]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=tmp_path,
        env={**variables, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    home, items = done.stdout.splitlines()
    assert Path(home).is_relative_to(folder)
    histories = DATA.matrix[:1].copy()
    histories = type(histories)(
        (np.ones(2, dtype=np.float32), DATA.items.codes([7, 9]), np.array([0, 2])), shape=histories.shape
    )
    assert items == str([str(item) for item in DATA.items.ids(MODEL.recommend(0, histories, N=3)[0])])


def test_one_file_imports_mlflow_and_few_import_that():
    package = Path(recsys.__file__).parent
    importing, using = set(), set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ())] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name.split(".")[0] == "mlflow" for name in names):
                importing.add(file.relative_to(package).as_posix())
            if any(name.startswith("recsys.tracking") for name in names):
                using.add(file.relative_to(package).parts[0])
    assert importing == {"tracking/_mlflow.py"}
    assert "pyfunc_model.py" in using
    # Importing MLflow takes seconds: nothing that a model, an evaluation or a scoring job needs may do it.
    assert not using & {"models", "scoring", "evaluation.py", "report", "__init__.py", "training", "nn"}
