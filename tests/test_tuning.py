"""The search for hyperparameters: what it tries, keeps, prunes and continues."""

import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import optuna
import pandas as pd
import pytest

from recsys import tracking
from recsys.config import JobConfig, TrainConfig, check_config
from recsys.errors import ConfigError, DataWarning, TrainingError
from recsys.files import locked
from recsys.jobs import tune as tune_job
from recsys.models import EASE
from recsys.tuning import study_name, tune
from recsys.workspace import Workspace

DATA = {"name": "synthetic", "users": 60, "items": 30, "interactions": 900, "binary": True}
SPACE = {"regularization": {"low": 1.0, "high": 1000.0, "log": True}}


def job(model=None, space=SPACE, **settings):
    return check_config(
        {
            "data": DATA,
            "split": {"kind": "hold_out_ratings"},
            "model": model or {"name": "EASE", "regularization": 30.0},
            "tune": {"trials": 4, "space": space, **settings},
        }
    )


def search(config, root, **options):
    data = config.load_data()
    split = config.split.split(data)
    return tune(Workspace(root, False), config, split, fingerprint=data.fingerprint(), **options)


@pytest.fixture(autouse=True)
def _home(mlflow_root):
    """An MLflow home of the test's own."""


def test_the_best_of_the_trials_is_returned_and_the_given_setting_is_tried_first(tmp_path):
    config = job()
    found = search(config, tmp_path)
    assert list(found.trials["state"]) == ["complete"] * 4
    assert found.trials["regularization"][0] == 30.0
    assert found.trials["regularization"].between(1, 1000).all()
    assert found.trials["regularization"].nunique() == 4
    assert found.value == found.trials["value"].max()
    best = found.trials["regularization"][found.trials["value"].idxmax()]
    assert found.job.model == {"name": "EASE", "regularization": best}
    # The value is that of a fit by hand.
    from recsys.evaluation import Validation

    data = config.load_data()
    split = config.split.split(data)
    model = EASE(regularization=best).fit(split.train, show_progress=False)
    assert Validation(split.validation, "ndcg@10")(model)["ndcg@10"] == pytest.approx(found.value, abs=1e-12)


def first_setting(config, root):
    return search(config, root).trials.iloc[0].to_dict()


def test_a_search_begins_at_the_configuration_the_defaults_or_a_sample(tmp_path):
    model = {"name": "EASE", "regularization": 30.0}
    space = {**SPACE, "item_exponent": [0.0, 0.5], "user_exponent": {"low": 0.0, "high": 0.5}}
    found = first_setting(job(model, space, trials=1, start="configuration"), tmp_path)
    assert [found[name] for name in space] == [30.0, 0.0, 0.0]  # what it does not name has its default
    found = first_setting(job(model, space, trials=1), tmp_path)  # which names a part of a space that is given
    assert found["regularization"] != 30.0
    found = first_setting(job(model, space, trials=1, start="defaults"), tmp_path)
    assert [found[name] for name in space] == [500.0, 0.0, 0.0]
    found = first_setting(job(model, space, trials=1, start="sample"), tmp_path)
    assert found["user_exponent"] > 0
    assert found["regularization"] not in (30.0, 500.0)


def test_what_the_space_does_not_hold_of_the_first_setting_is_sampled(tmp_path):
    space = {"regularization": {"low": 1.0, "high": 20.0}, "item_exponent": [0, 0.5], "user_exponent": [0.1, 0.2]}
    found = first_setting(job({"name": "EASE"}, space, trials=1, start="defaults"), tmp_path)
    assert found["item_exponent"] == 0  # 0 is 0.0
    assert 1.0 <= found["regularization"] <= 20.0
    assert found["user_exponent"] in (0.1, 0.2)


def test_without_a_space_the_declared_one_is_searched_and_another_space_is_another_search(tmp_path, monkeypatch):
    config = job({"name": "EASE", "regularization": 30.0}, {}, trials=3)
    found = search(config, tmp_path)
    assert set(config.declared_space()) == {"regularization", "item_exponent", "user_exponent"} < set(found.trials)
    assert found.trials["regularization"][0] == 30.0
    assert found.trials["regularization"].nunique() == 3
    given = job({"name": "EASE", "regularization": 30.0}, config.declared_space(), trials=3, start="configuration")
    same = search(given, tmp_path)
    pd.testing.assert_frame_equal(found.trials, same.trials)
    before = study_name(config, "data")
    monkeypatch.setattr(EASE, "search_space", {"item_exponent": [0.0, 0.5]})
    assert study_name(config, "data") != before
    assert set(search(config, tmp_path).trials) == {"trial", "state", "value", "seconds", "item_exponent"}


def test_the_command_searches_a_model_without_a_section_of_its_own(tmp_path, capsys):
    config = check_config({"data": DATA, "split": {"kind": "hold_out_ratings"}, "model": {"name": "EASE"}})
    found = tune_job.run(Workspace(tmp_path, False), config, trials=2)
    assert len(found.trials) == 2
    assert found.trials["regularization"][0] == 500.0
    assert "best validation ndcg@10" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"the budget: tune.minutes = -1.0"):
        tune_job.run(Workspace(tmp_path, False), config, minutes=-1.0)


def test_searches_of_version_0_2_0_are_found_by_their_names():
    one = check_config(
        {
            "data": {"name": "synthetic", "users": 60},
            "split": {"kind": "hold_out_ratings"},
            "model": {"name": "EASE", "regularization": 30.0},
            "tune": {
                "trials": 4,
                "minutes": 2.0,
                "space": {
                    **SPACE,
                    "item_exponent": [0.0, 0.2],
                    "user_exponent": {"low": 0.0, "high": 0.4, "step": 0.1},
                },
            },
        }
    )
    space = {"latent": {"low": 8, "high": 64}, "schedule": ["constant", "cosine"]}
    other = check_config(
        {"model": {"name": "MultVAE"}, "tune": {"sampler": "random", "prune": False, "seed": 3, "space": space}}
    )
    assert study_name(one, "data") == "EASE-1e2ef54eea56a3d8cc9a86b1"
    assert study_name(other, "data") == "MultVAE-e5ffc668d8b32a7b9eb51752"


def test_a_search_goes_on_where_it_stopped_and_a_finished_one_tries_nothing(tmp_path, monkeypatch):
    undisturbed = search(job(trials=6), tmp_path / "undisturbed")
    fitted = []
    fit = EASE.fit

    def counted(self, *args, **kwargs):
        fitted.append(self.regularization)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(EASE, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        search(job(), tmp_path)
    found = search(job(), tmp_path)
    assert fitted[2] == fitted[3]  # the trial that was interrupted is made again
    assert len(fitted) == 4 + 1
    same_trials(found, undisturbed, 4)
    again = search(job(), tmp_path)
    assert len(fitted) == 5
    assert again.job == found.job
    more = search(job(trials=6), tmp_path)  # a larger budget adds to what is there
    assert len(fitted) == 7
    same_trials(more, undisturbed, 6)


def same_trials(found, expected, count):
    kept = [frame.trials.drop(columns="seconds") for frame in (found, expected)]
    assert len(kept[0]) == count
    pd.testing.assert_frame_equal(kept[0], kept[1][:count], check_exact=True)


def test_a_search_whose_trials_are_damaged_begins_anew_and_ends_the_same(tmp_path):
    first = search(job(trials=3), tmp_path)
    (kept,) = (tmp_path / "mlruns" / "studies").iterdir()
    kept.write_bytes(b"\0" * 100)
    (tmp_path / "mlruns" / "studies.db").write_bytes(b"\0")  # of an earlier version: neither read nor changed
    with pytest.warns(DataWarning, match="begins anew"):
        again = search(job(trials=3), tmp_path)
    same_trials(again, first, 3)
    assert (tmp_path / "mlruns" / "studies.db").read_bytes() == b"\0"


def test_an_error_that_is_no_failed_training_stops_the_search_and_its_trial_is_made_again(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(EASE, "fit", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            search(job(trials=2), tmp_path)
    assert list(search(job(trials=2), tmp_path).trials["state"]) == ["complete"] * 2
    import mlflow

    tracking.configure(Workspace(tmp_path))
    runs = mlflow.search_runs(search_all_experiments=True)
    assert sorted(runs["tags.mlflow.runName"] + " " + runs["status"]) == ["trial 0 FINISHED", "trial 1 FINISHED"]


def test_the_run_of_a_trial_that_was_kept_is_ended_at_the_next_start(tmp_path, monkeypatch):
    """Its process was killed between the two; here the file that names the run is put back."""
    import mlflow

    from recsys.tuning.search import Search

    def unended(self, number, params, _run=Search._run):
        file = self._run_file(number, params)
        with _run(self, number, params) as tracker:
            named.append((file, file.read_text()))
            yield tracker

    named = []
    monkeypatch.setattr(EASE, "fit", lambda *_, **__: (_ for _ in ()).throw(TrainingError("the loss is nan")))
    with monkeypatch.context() as patched:
        patched.setattr(Search, "_run", contextmanager(unended))
        with pytest.raises(ConfigError, match="none of 1 trials"):
            search(job(trials=1), tmp_path)
    ((file, text),) = named
    file.write_text(text)
    with pytest.raises(ConfigError, match="none of 1 trials"):
        search(job(trials=1), tmp_path)
    assert not file.exists()
    tracking.configure(Workspace(tmp_path))
    runs = mlflow.search_runs(search_all_experiments=True)
    assert list(runs["status"]) == ["FAILED"]
    assert list(runs["tags.error"]) == ["the loss is nan"]
    assert runs["tags.resumed"].notna().all()


def test_other_settings_or_data_are_another_search(tmp_path):
    one = search(job(), tmp_path)
    other = search(job(seed=1), tmp_path)
    assert not np.allclose(one.trials["regularization"], other.trials["regularization"])


def test_measuring_the_last_epoch_in_place_of_the_best_is_another_search():
    one, other = (job().model_copy(update={"train": TrainConfig(validate_epochs=each)}) for each in (True, False))
    assert study_name(one, "data") != study_name(other, "data")


def test_a_smaller_budget_looks_at_its_own_trials_where_that_is_asked(tmp_path):
    many = search(job(), tmp_path)
    few = search(job(trials=2), tmp_path, within_budget=True)
    pd.testing.assert_frame_equal(few.trials, many.trials[:2])
    assert few.value == many.trials["value"][:2].max()
    assert len(search(job(minutes=1e-6), tmp_path, within_budget=True).trials) == 1
    assert len(search(job(trials=2), tmp_path).trials) == 4


def test_choices_may_be_lists_and_whole_numbers_stay_whole(tmp_path):
    space = {"hidden": [8, 12], "latent": {"low": 2, "high": 4}, "dropout": [0.0, 0.5]}
    found = search(job({"name": "MultVAE", "epochs": 2, "batch_size": 30}, space, prune=False), tmp_path)
    assert set(found.trials["hidden"]) <= {8, 12}
    assert set(found.trials["latent"]) <= {2, 3, 4}
    assert isinstance(found.job.model["latent"], int)
    found.job.check()


def test_a_poor_curve_is_pruned_and_says_so(tmp_path, monkeypatch):
    # Validation is made to fall with the learning rate's trial, so that every later trial lies below the median.
    from recsys.evaluation import Validation

    calls = []

    def falling(self, model):
        calls.append(model)
        return {"ndcg@10": 1.0 / len(calls)}

    monkeypatch.setattr(Validation, "__call__", falling)
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    model = {"name": "MultVAE", "hidden": 4, "latent": 2, "epochs": 6, "batch_size": 60}
    found = search(job(model, space, trials=6), tmp_path)
    assert list(found.trials["state"]) == ["complete"] * 4 + ["pruned"] * 2
    assert found.value == 1.0
    assert len(calls) < 6 * 6


def test_a_training_that_fails_is_left_out(tmp_path, monkeypatch):
    fit = EASE.fit

    def fails_once(self, *args, **kwargs):
        if self.regularization == 30.0:
            raise TrainingError("the loss is nan")
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(EASE, "fit", fails_once)
    found = search(job(), tmp_path)
    assert list(found.trials["state"]) == ["fail"] + ["complete"] * 3
    monkeypatch.setattr(EASE, "fit", lambda *args, **kwargs: (_ for _ in ()).throw(TrainingError("the loss is nan")))
    with pytest.raises(ConfigError, match="none of 4 trials could be trained: the loss is nan"):
        search(job(seed=5), tmp_path)


def test_no_further_trial_begins_when_the_time_is_up(tmp_path):
    found = search(job(minutes=1e-6), tmp_path)
    assert len(found.trials) == 1


def test_trials_are_runs_and_the_global_verbosity_stays(tmp_path):
    before = optuna.logging.get_verbosity()
    search(job(trials=2), tmp_path)
    assert optuna.logging.get_verbosity() == before
    import mlflow

    tracking.configure(Workspace(tmp_path))
    runs = mlflow.search_runs(search_all_experiments=True)
    assert sorted(runs["tags.mlflow.runName"]) == ["trial 0", "trial 1"]
    assert runs["metrics.validation_ndcg.10"].notna().all() if "metrics.validation_ndcg.10" in runs else True


def test_two_at_the_same_search_are_told(tmp_path, monkeypatch):
    from recsys import tuning

    config = job()
    name = tuning.study_name(config, config.load_data().fingerprint())
    with (
        locked(Workspace(tmp_path).mlruns / "studies" / f"{name}.lock"),
        pytest.raises(ConfigError, match="same search"),
    ):
        search(config, tmp_path)


def test_what_cannot_be_searched_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing to tune: Popularity declares no search space"):
        search(job({"name": "Popularity"}, {}), tmp_path)
    config = job()
    data = config.load_data()
    split = config.model_copy(update={"split": config.split.model_copy(update={"validation": 0.0})}).split.split(data)
    with pytest.raises(ConfigError, match="tuning needs a validation part"):
        tune(Workspace(tmp_path), config, split, fingerprint="x")


def test_the_job_refuses_before_it_reads_data(tmp_path, monkeypatch):
    monkeypatch.setattr(JobConfig, "load_data", lambda *_: pytest.fail("read the data first"))
    with pytest.raises(ConfigError, match="nothing to tune"):
        tune_job.run(Workspace(tmp_path), job({"name": "Popularity"}, {}))


def test_without_the_extra_it_says_how_to_install_it_before_it_reads_data(tmp_path, monkeypatch):
    for name in ("optuna", "tomli_w"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(JobConfig, "load_data", lambda *_: pytest.fail("read the data first"))
    message = r"tuning needs optuna and tomli-w: pip install 'recsys\[tune\]'"
    with pytest.raises(ConfigError, match=message):
        tune_job.run(Workspace(tmp_path), job())
    with pytest.raises(ConfigError, match=message):
        tune(Workspace(tmp_path), job(), None, fingerprint="x")


def test_the_package_and_its_command_need_no_extra():
    hidden = "import sys; sys.modules.update(dict.fromkeys(['optuna', 'tomli_w']))"
    jobs = "import recsys.tuning, recsys.jobs.tune, recsys.jobs.compare, recsys.jobs.demo"
    subprocess.run([sys.executable, "-c", f"{hidden}; {jobs}"], check=True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"regularisation": [1.0]}, "regularisation"),
        ({"regularization": {"low": -1.0, "high": 5.0}}, "regularization of EASE must be a finite number > 0"),
        ({"regularization": {"low": 5.0, "high": 5.0}}, "low must lie below high"),
        ({"regularization": {"low": 0.0, "high": 5.0, "log": True}}, "log = true needs low above 0"),
        ({"regularization": []}, "has no choices"),
        ({"regularization": {"low": 1.0, "high": 5.0, "logarithmic": True}}, "logarithmic"),
    ],
)
def test_a_space_that_cannot_work_is_refused_before_any_trial(space, message):
    with pytest.raises(ConfigError, match=message):
        job(space=space)
