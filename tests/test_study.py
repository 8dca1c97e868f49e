"""What a search keeps, and that a trial's proposal follows from it: replayed, continued, damaged."""

import json
import math
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from recsys.config import check_config
from recsys.errors import ConfigError, DataWarning
from recsys.tuning import study
from recsys.tuning.search import Search, _pruner, _quiet, _sampler
from recsys.tuning.study import Trial
from recsys.workspace import Workspace

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


def new_search(space=RATE, root=".", *, model=None, higher=True, **options):
    job = check_config({"model": {"name": "MultVAE", **(model or {})}, "tune": {"space": space, **options}})
    validation = SimpleNamespace(metric="ndcg@10", higher_is_better=higher)
    return Search(Workspace(root, False), "MultVAE-1", job, job.tune, None, validation)


def settled(search, number, params, outcome=0.5):
    """A complete trial with that value, one pruned after epochs with these values, or one that failed."""
    params = {n: json.loads(v) if isinstance(search.settings.space[n], list) else v for n, v in params.items()}
    if outcome is None:
        return Trial(number, "fail", None, 1.0, params, [(1, math.nan)], "the loss is nan")
    if isinstance(outcome, list):
        return Trial(number, "pruned", None, 1.0, params, list(enumerate(outcome, 1)), None)
    return Trial(
        number, "complete", outcome, 1.0, params, [(epoch, outcome / (6 - epoch)) for epoch in range(1, 6)], None
    )


SPACES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": st.just(RATE["learning_rate"]),
        "dropout": st.sampled_from([[0.0, 0.5], {"low": 0.0, "high": 0.9}, {"low": 0.0, "high": 0.75, "step": 0.25}]),
        "hidden": st.sampled_from(
            [[8, 12, 600], {"low": 8, "high": 4096, "log": True}, {"low": 8, "high": 80, "step": 4}]
        ),
        "schedule": st.just(["constant", "cosine"]),
        "latent": st.sampled_from([[16], {"low": 2, "high": 64}]),
    },
).filter(bool)
VALUES = st.floats(0, 1)
OUTCOMES = st.one_of(VALUES, VALUES, st.lists(VALUES | st.just(math.nan), min_size=1, max_size=5), st.none())


@settings(max_examples=25, deadline=None)
@given(
    SPACES,
    st.lists(OUTCOMES, min_size=1, max_size=14),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["tpe", "random"]),
    st.booleans(),
    st.booleans(),
)
def test_a_search_that_continues_from_its_file_proposes_and_prunes_as_one_that_never_stopped(
    tmp_path_factory, space, outcomes, seed, sampler, prune, higher
):
    """The one that never stopped is a study of Optuna's own that asks and tells, with the sampler of each trial."""
    root = tmp_path_factory.mktemp("study")
    options = {"seed": seed, "sampler": sampler, "prune": prune, "trials": 12}
    given_ = {"learning_rate": 0.01, "dropout": 0.5, "hidden": 12, "schedule": "cosine", "latent": 16}
    search = new_search(space, root, model=given_, higher=higher, **options)
    with _quiet():
        whole = optuna.create_study(direction="maximize" if higher else "minimize", pruner=_pruner(search.settings))
        whole.enqueue_trial({n: json.dumps(given_[n]) if isinstance(v, list) else given_[n] for n, v in space.items()})
        for number, outcome in enumerate([*outcomes, 0.5]):
            whole.sampler = _sampler(search.settings, number)
            expected = whole.ask(search.space)
            kept = study.read(search.file, search._frozen)
            found = search.propose(kept)
            assert (found.number, found.params) == (number, expected.params)
            trial = settled(search, number, expected.params, outcome)
            for epoch, value in trial.epochs:
                for asked in (found, expected):
                    asked.report(value, epoch)
                assert found.should_prune() == expected.should_prune()
            whole.tell(expected, trial.value, state=optuna.trial.TrialState[trial.state.upper()])
            study.write(search.file, [*kept, trial])
    again = study.read(search.file, search._frozen)
    assert repr(again[-1]) == repr(trial)
    assert all(type(value) is type(again[-1].params[name]) for name, value in trial.params.items())


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_first_draws_of_all_trials_and_seeds_are_distinct_uniform_and_independent(sampler):
    space = {"dropout": {"low": 0.0, "high": 0.9}, "latent": {"low": 1, "high": 1000}}
    draws = []
    with _quiet():
        for seed in range(60):
            search, ended = new_search(space, seed=seed, sampler=sampler, trials=30), []
            for number in range(10):
                params = search.propose(ended).params
                ended.append(settled(search, number, params))
                draws.append((params["dropout"] / 0.9, params["latent"]))
    drawn, latent = np.array(draws).T
    assert len(set(drawn)) == 600
    assert kstest(drawn, "uniform").pvalue > 0.01
    assert kstest((latent - 0.5) / 1000, "uniform").pvalue > 0.01
    grid = drawn.reshape(60, 10)
    pairs = {
        "a trial and the next": (grid[:, :-1], grid[:, 1:]),
        "a seed and the next": (grid[:-1], grid[1:]),
        "a trial and that before it of the next seed": (grid[:-1, 1:], grid[1:, :-1]),
        "two parameters": (drawn, latent),
    }
    for what, (one, other) in pairs.items():
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.12, what  # three standard errors


@pytest.mark.parametrize("value", [0.3, 1.5, None])
def test_a_given_value_that_the_space_does_not_hold_is_not_tried_first(value):
    search = new_search({"dropout": {"low": 0.0, "high": 0.75, "step": 0.25}})
    search.job.model["dropout"] = value
    with _quiet():
        assert search.propose([]).params["dropout"] in (0.0, 0.25, 0.5, 0.75)


def filled(root, count=3):
    search, trials = new_search(root=root), []
    with _quiet():
        for number in range(count):
            trials.append(settled(search, number, search.propose(trials).params, [0.1, None, 0.3][number % 3]))
    study.write(search.file, trials)
    return search, trials


def changed(text, **facts):
    return json.dumps({**json.loads(text), **facts})


def forged(file, change):
    """The text of a file whose trials were changed, with the checksum that fits."""
    trials = json.loads(file.read_text())["trials"]
    change(trials)
    return changed(file.read_text(), trials=trials, sha256=study._digest(file, trials))


DAMAGE = {
    "empty": lambda file: "",
    "zeros": lambda file: "\0" * file.stat().st_size,
    "not text": lambda file: b"\xff\xfe\x00SQLite",
    "a list": lambda file: "[]",
    "without a schema": lambda file: "{}",
    "a schema that is true": lambda file: changed(file.read_text(), schema=True),
    "without trials": lambda file: '{"schema": 1, "sha256": ""}',
    "deep": lambda file: "[" * 100_000,
    "another value": lambda file: file.read_text().replace('"value": 0.1', '"value": 0.9'),
    "a trial less": lambda file: forged(file, lambda trials: trials.pop(0)),
    "text as seconds": lambda file: forged(file, lambda trials: trials[0].update(seconds="1")),
    "an unknown state": lambda file: forged(file, lambda trials: trials[0].update(state="running")),
    "complete without a value": lambda file: forged(file, lambda trials: trials[0].update(value=None)),
    "failed with a value": lambda file: forged(file, lambda trials: trials[1].update(value=0.5)),
    "outside the space": lambda file: forged(file, lambda trials: trials[0]["params"].update(learning_rate=5.0)),
    "another parameter": lambda file: forged(file, lambda trials: trials[0]["params"].update(latent=5)),
    "trials that are no list": lambda file: changed(file.read_text(), trials=5, sha256=study._digest(file, 5)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_set_aside_with_a_warning_and_the_search_begins_anew(tmp_path, damage):
    search, _ = filled(tmp_path)
    for number in (1, 2):
        study.write(search.file, filled(tmp_path)[1])
        content = damage(search.file)
        content = content if isinstance(content, bytes) else content.encode()
        search.file.write_bytes(content)
        with pytest.warns(DataWarning, match="the search begins anew") as told:
            assert study.read(search.file, search._frozen) == []
        aside = search.file.with_name(f"MultVAE-1.damaged-{number}")
        assert aside.read_bytes() == content
        assert aside.name in str(told[0].message)
        assert "\n" not in str(told[0].message)
        assert not search.file.exists()


def test_a_file_cut_or_changed_anywhere_is_not_believed(tmp_path):
    search, _ = filled(tmp_path, 1)
    whole = search.file.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        search.file.write_bytes(whole[:length])
        with pytest.warns(DataWarning, match="begins anew"):
            study.read(search.file, search._frozen)
    place = whole.index(b'"params"') + 40
    search.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.warns(DataWarning, match="begins anew"):
        study.read(search.file, search._frozen)


def test_the_file_of_another_search_is_not_taken(tmp_path):
    search, _ = filled(tmp_path)
    other = search.file.with_name("MultVAE-2.json")
    search.file.rename(other)
    with pytest.warns(DataWarning, match=r"checksum differs.*MultVAE-2.damaged-1"):
        assert study.read(other, search._frozen) == []


def test_a_file_of_a_newer_version_is_refused_and_stays(tmp_path):
    search, _ = filled(tmp_path)
    text = changed(search.file.read_text(), schema=2, trials="of another form")
    search.file.write_text(text)
    with pytest.raises(ConfigError, match=r"has schema 2, and this version of recsys reads schema 1; update recsys"):
        study.read(search.file, search._frozen)
    assert search.file.read_text() == text


def test_what_cannot_be_read_is_refused_and_stays(tmp_path):
    search = new_search(root=tmp_path)
    search.file.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        study.read(search.file, search._frozen)
    assert search.file.is_dir()
