"""The night and the contest: earned, kept, repeated, interrupted, rolled back."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys import datasets, tracking
from recsys.cli import main
from recsys.config import SplitConfig, check_config
from recsys.datasets import synthetic
from recsys.error_budget import Place
from recsys.errors import ConfigError, DataError, DataWarning, TrackingError
from recsys.evaluation import evaluate
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.jobs import contest, contestants, nightly, train
from recsys.jobs.train import run as train_run
from recsys.models import ALS, EASE, UAutoRec
from recsys.scoring import local
from recsys.splits import by_time, hold_out_users
from recsys.workspace import Workspace

DATA = {"name": "synthetic", "users": 800, "items": 200, "interactions": 20000, "binary": True}


def config(**sections):
    return check_config(
        {
            "data": DATA,
            "split": {"kind": "hold_out_users", "n_users": 0.2, "stable": True},
            "model": {"name": "EASE", "regularization": 100.0},
            "evaluate": {"metrics": ["ndcg@10"]},
            "track": {"experiment": "night", "register": "night"},
            # Times of a few milliseconds vary by more than any limit on a busy machine.
            **sections,
            "promote": {"slowdown": 1000.0, **sections.get("promote", {})},
        }
    )


@pytest.fixture(autouse=True)
def _home(mlflow_root):
    """An MLflow home of the test's own."""


def night(root, **sections):
    return nightly.run(Workspace(root, False), config(**sections))


def summary(root):
    return json.loads((root / "mlruns" / "nightly" / "night.json").read_text())


def test_the_first_night_promotes_against_popularity_and_the_second_does_nothing(tmp_path, capsys):
    first = night(tmp_path)
    assert first.status == "promoted"
    assert "Popularity" in capsys.readouterr().out
    assert first.rows == 800 * 10
    frame = pd.read_parquet(first.output)
    assert len(frame) == first.rows
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("part-*")}
    second = night(tmp_path)
    assert second.status == "unchanged"
    assert [second.steps[step].partition(":")[0] for step in ("train", "promote", "score")] == ["skipped"] * 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("part-*")} == written
    assert len(tracking.model_versions("night")) == 1
    assert summary(tmp_path)["status"] == "unchanged"


@pytest.mark.parametrize("changed", [False, True])
def test_a_second_night_reads_splits_loads_and_fingerprints_once(tmp_path, monkeypatch, changed):
    sections = {"data": {**DATA, "min_rating": 2.0, "min_user": 2}}
    night(tmp_path, **sections)
    if changed:
        sections["data"]["interactions"] = 20_200
    counts = Counter()
    loaded = []

    def counting(owner, name, what):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[what] += 1
            if what == "loads":
                loaded.append(args[0])
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    counting(datasets, "synthetic", "reads")
    counting(SplitConfig, "split", "splits")
    counting(tracking, "load", "loads")
    counting(vars(Interactions)["_digest"], "func", "fingerprints")
    second = night(tmp_path, **sections)
    assert second.status == ("kept" if changed else "unchanged")
    assert counts["reads"] == 1
    assert counts["splits"] == int(changed)
    assert sorted(map(str, loaded)) == ["models:/night/1", "models:/night/2"][: 1 + changed]
    assert 0 < counts["fingerprints"] <= 3


def test_a_night_goes_on_where_a_new_id_makes_text_of_integers(tmp_path):
    """Champion, challenger, drift and lists are compared by what the ids mean."""
    rows = synthetic(users=800, items=200, interactions=20000).to_frame()[["user_id", "item_id"]]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    sections = {"data": {"name": "own", "file": str(tmp_path / "rows.csv")}}
    first = night(tmp_path, **sections)
    new = pd.DataFrame({"user_id": ["U1", "U1"], "item_id": ["1", "X1"]})
    pd.concat([rows.astype(str), new]).to_csv(tmp_path / "rows.csv", index=False)
    second = night(tmp_path, **sections)
    assert (first.status, second.status) == ("promoted", "kept")
    assert second.drift["new_users"] == pytest.approx(1 / 801, abs=2e-3)
    assert second.drift["new_items"] == pytest.approx(1 / 20002, abs=1e-5)
    assert (second.drift["overlap"], second.drift["scores"]) == (1.0, 0.0)
    lists = pd.read_parquet(second.output)
    assert (lists["user_id"].nunique(), lists["item_id"].dtype) == (801, np.int64)


def test_a_test_user_by_another_type_of_id_is_the_same_user(tmp_path, capsys):
    data = synthetic(users=200, items=60, interactions=4000, seed=0).binarized()
    text = Interactions(data.matrix, IdMap(map(str, data.users)), IdMap(map(str, data.items)))
    split = hold_out_users(text, n_users=0.2, stable=True)
    every = EASE(regularization=50.0).fit(data, show_progress=False)
    with pytest.raises(DataError, match=r"EASE was trained on other entries .* 45 of the 45 test users among them"):
        contestants.refuse_seen(every, split, "EASE")
    others = data.take_users(data.users.codes(list(split.train.users)))
    model = EASE(regularization=50.0).fit(others, show_progress=False)
    contestants.refuse_seen(model, split, "EASE")
    shown = contestants.RemappedModel(model, split.train.users, split.train.items)
    found = shown.recommend(np.full(45, -1), split.test.context, N=5)
    expected = model.recommend(np.full(45, -1), split.test.context[:, text.items.codes_of(data.items, "item")], N=5)
    assert text.items.ids(found[0]).tolist() == data.items.ids(expected[0]).astype(str).tolist()
    dated = Interactions(data.matrix, IdMap(pd.date_range("2020-01-01", periods=200)), data.items)
    with pytest.raises(DataError, match=r"user ids of type Timestamp, .* user ids of type int"):
        contestants.refuse_seen(every, hold_out_users(dated, n_users=0.2), "EASE")


def test_a_contestant_that_knows_little_of_the_data_is_named():
    data = synthetic(users=200, items=60, interactions=4000, seed=0).binarized()
    split = hold_out_users(data, n_users=0.2, stable=True)
    few = split.train.take_items(np.arange(0, 60, 9))
    model = EASE(regularization=50.0).fit(few, show_progress=False)
    model.about_ = {"trained_on": {"fingerprint": few.fingerprint()}}
    rule = config().promote.for_metric("ndcg@10")
    workspace = Workspace(progress=False)
    with pytest.warns(DataWarning, match="interactions of this table are with known items"):
        contest.contest(workspace, model, None, config(), split, rule)


def test_a_challenger_that_is_no_better_is_kept_out_with_its_reason_and_not_asked_twice(tmp_path):
    night(tmp_path)
    kept = night(tmp_path, model={"name": "EASE", "regularization": 101.0})
    assert kept.status == "kept"
    assert "must lie above" in kept.reason
    assert kept.champion == "models:/night/1"
    tags = tracking.version_tags("night", 2)
    assert tags["champion_decision"] == "kept"
    assert float(tags["champion_value"]) == pytest.approx(float(tags["champion_value_against"]), rel=0.05)
    again = night(tmp_path, model={"name": "EASE", "regularization": 101.0})
    assert again.status == "unchanged"
    assert "has already lost against version 1" in again.steps["promote"]


def test_a_better_model_takes_over_and_can_be_undone(tmp_path):
    trained = train_run(Workspace(tmp_path, False), config(model={"name": "Popularity"}))
    contest.promote(Workspace(tmp_path), "night", version=trained[0].registered.version)
    alone = {"error_budget": 1.0}  # so few users show no gain with the certainty of a year's contest
    assert night(tmp_path).status == "kept"
    found = night(tmp_path, promote=alone)
    assert found.status == "promoted"
    assert found.champion == "models:/night/2"
    assert main(["rollback", "night", "--root", str(tmp_path)]) == 0
    assert tracking.pin("models:/night@champion") == "models:/night/1"
    assert tracking.version_tags("night", 2)["champion_rolled_back"]
    with pytest.raises(TrackingError, match="was the first champion"):
        contest.rollback(Workspace(tmp_path), "night")
    after = night(tmp_path, promote=alone)
    assert (after.status, after.champion) == ("unchanged", "models:/night/1")  # not promoted once more
    assert "rolled back" in after.steps["promote"]
    assert "promote it by hand" in after.reason
    contest.promote(Workspace(tmp_path), "night", version=2)
    assert "champion_rolled_back" not in tracking.version_tags("night", 2)
    assert night(tmp_path, promote=alone).champion == "models:/night/2"


def test_a_contest_is_held_again_by_another_rule(tmp_path, capsys):
    night(tmp_path)
    model = {"name": "EASE", "regularization": 101.0}
    assert night(tmp_path, model=model).status == "kept"
    other = {"metric": "recall@10", "minimum_gain": 0.5}
    assert night(tmp_path, model=model).status == "unchanged"
    found = night(tmp_path, model=model, promote=other)
    assert (found.status, found.reason[:9]) == ("kept", "recall@10")
    assert night(tmp_path, model=model, promote=other).status == "unchanged"
    assert len(tracking.model_versions("night")) == 2


def place(version):
    """What the version's last contest wrote of its place in the year."""
    text = tracking.version_tags("night", version).get("champion_contest")
    return None if text is None else Place.read(text)


def test_the_contests_of_a_year_share_an_error_budget_and_the_same_again_spends_nothing(tmp_path, capsys):
    def regularized(value, **promote):
        return night(tmp_path, model={"name": "EASE", "regularization": value}, promote=promote)

    night(tmp_path)
    assert place(1) is None  # there was no champion to lose
    regularized(101.0)
    assert (place(2).number, place(2).level) == (1, 0.05 / 200)
    assert "contest 1 of the year, which has spent 0.5% of its error budget of 0.05" in capsys.readouterr().out
    regularized(102.0)
    assert place(3).number == 2
    for version in (2, 3, 2):
        contest.challenge(Workspace(tmp_path, False), "night", version)
    assert (place(2).number, place(3).number) == (1, 2)
    regularized(102.0, error_budget=0.1)
    assert (place(3).number, place(3).error_budget) == (3, 0.1)
    assert place(3).since == place(2).since
    train_run(Workspace(tmp_path, False), config(model={"name": "EASE", "regularization": 103.0}))
    capsys.readouterr()
    contest.challenge(Workspace(tmp_path, False), "night", dry_run=True)
    assert "contest 4 of the year" in capsys.readouterr().out
    assert place(4) is None
    for version in (2, 3):
        tracking.delete_version("night", version)
    contest.challenge(Workspace(tmp_path, False), "night")
    assert place(4).number == 3  # of each of the two that are gone one is known


def test_a_contest_that_died_before_its_decision_was_written_spends_once(tmp_path, monkeypatch):
    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    night(tmp_path)
    other = {"name": "EASE", "regularization": 101.0}
    with monkeypatch.context() as patched:
        patched.setattr(tracking, "annotate", dies)
        with pytest.raises(KeyboardInterrupt):
            night(tmp_path, model=other)
    before = place(2)
    assert "champion_decision" not in tracking.version_tags("night", 2)
    assert night(tmp_path, model=other).status == "kept"
    assert place(2) == before
    assert before.number == 1


def test_decisions_of_earlier_releases_count_as_contests(tmp_path):
    for regularization in (100.0, 101.0, 102.0, 103.0):
        train_run(Workspace(tmp_path, False), config(model={"name": "EASE", "regularization": regularization}))
    tracking.annotate("night", 1, {"decision": "promoted", "against": "Popularity"})
    tracking.promote("night", 1)
    tracking.annotate("night", 2, {"decision": "kept", "against": "1"})
    contest.challenge(Workspace(tmp_path, False), "night", 4)
    assert place(4).number == 2


def test_the_champion_is_measured_again_on_users_who_have_no_say(tmp_path):
    data = synthetic(users=300, items=60, interactions=6000, seed=0).binarized()
    split = hold_out_users(data, n_users=0.2, stable=True)
    one, other = (EASE(regularization=value).fit(split.train, show_progress=False) for value in (50.0, 200.0))
    for model in (one, other):
        model.about_ = {"trained_on": {"fingerprint": split.train.fingerprint()}}
    workspace, rule = Workspace(progress=False), config().promote.for_metric("ndcg@10")
    found = contest.contest(workspace, other, one, config(), split, rule)
    expected = [evaluate(model, split.validation, "ndcg@10")["ndcg@10"] for model in (one, other)]
    assert found.elsewhere[:2] == pytest.approx(expected)
    assert found.elsewhere[2] == int((np.diff(split.validation.target.indptr) > 0).sum())
    # A model that was trained on these users, or a split whose validation users are the test users, tells nothing.
    part = split.validation
    wider = data.take_users(data.users.codes([*split.train.users, *part.users])).take_items(np.arange(60))
    knows = EASE(regularization=50.0).fit(wider, show_progress=False)
    assert contest.contest(workspace, knows, one, config(), split, rule).elsewhere is None
    timed = by_time(data)
    model = EASE(regularization=50.0).fit(timed.train, show_progress=False)
    model.about_ = {"trained_on": {"fingerprint": timed.train.fingerprint()}}
    assert contest.contest(workspace, model, None, config(), timed, rule).elsewhere is None


def test_the_contestants_are_timed_in_turns_when_both_are_warm(monkeypatch):
    data = synthetic(users=300, items=60, interactions=6000, seed=0).binarized()
    split = hold_out_users(data, n_users=0.2, stable=True)
    one, other = (EASE(regularization=value).fit(split.train, show_progress=False) for value in (50.0, 200.0))
    for model in (one, other):
        model.about_ = {"trained_on": {"fingerprint": split.train.fingerprint()}}
    asked, clock = [], [0.0]
    took = {id(one): iter([9.0, 9.0, 2.0, 4.0]), id(other): iter([9.0, 9.0, 7.0, 3.0])}
    original = EASE.recommend

    def recommend(self, *args, **kwargs):
        asked.append("champion" if self is one else "challenger")
        clock[0] += next(took[id(self)])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(EASE, "recommend", recommend)
    monkeypatch.setattr(contestants.time, "perf_counter", lambda: clock[0])
    rule = replace(config().promote.for_metric("ndcg@10"), slowdown=1.4)
    found = contest.contest(Workspace(progress=False), other, one, config(), split, rule)
    assert asked[4:] == ["champion", "challenger", "challenger", "champion"]
    passed, what = found.checks[-1]
    assert what == "scoring takes 1.50 times the 2 s of champion, at most 1.4 times is allowed"
    assert not passed
    asked.clear()
    took.update({id(one): iter([1.0] * 2), id(other): iter([1.0] * 2)})
    contest.contest(Workspace(progress=False), other, one, config(), split, replace(rule, slowdown=None))
    assert len(asked) == 4  # untimed: each on the test users and on the others


def test_a_night_that_died_after_the_registration_does_not_train_again(tmp_path, monkeypatch):
    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.report, "page", dies)  # the last step of a training
        with pytest.raises(KeyboardInterrupt):
            night(tmp_path)
    assert night(tmp_path).steps["train"].startswith("done: version 1")
    assert len(tracking.model_versions("night")) == 1


def test_another_version_of_the_package_trains_and_scores_anew(tmp_path, monkeypatch):
    night(tmp_path)
    monkeypatch.setattr(tracking, "version", lambda _: "99.0")
    monkeypatch.setattr(local, "version", lambda: "99.0")
    found = night(tmp_path)
    assert found.challenger == "models:/night/2"
    assert found.steps["score"].startswith("done")


def test_a_damaged_output_of_the_last_night_is_written_anew(tmp_path):
    part = min(Path(night(tmp_path).output).glob("part-*.parquet"))
    part.write_bytes(b"torn")
    assert night(tmp_path).steps["score"] == "done: 800 users"
    assert len(pd.read_parquet(part)) == 8000


def test_the_summary_is_json_where_nothing_was_measured():
    text = nightly.Night(drift={"overlap": float("nan"), "scores": 0.5}).as_json()
    assert json.loads(text, parse_constant=pytest.fail)["drift"] == {"overlap": None, "scores": 0.5}


def test_a_model_that_does_not_beat_popularity_leaves_no_champion(tmp_path):
    with pytest.raises(ConfigError, match="not better than Popularity"):
        night(tmp_path, model={"name": "Popularity"})
    assert summary(tmp_path)["status"] == "failed"
    assert summary(tmp_path)["steps"]["promote"].startswith("failed")


def test_a_night_that_died_goes_on_where_it_stopped(tmp_path, monkeypatch):
    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(nightly, "score", dies)
        with pytest.raises(KeyboardInterrupt):
            night(tmp_path)
    assert summary(tmp_path)["status"] == "failed"
    found = night(tmp_path)
    assert found.steps["train"] == "done: version 1"
    assert found.status == "promoted"
    assert found.steps["score"].startswith("done")
    assert len(tracking.model_versions("night")) == 1


def test_the_challenger_of_a_contest_may_know_other_items_and_users():
    data = synthetic(users=300, items=60, interactions=6000, seed=0).binarized()
    split = hold_out_users(data, n_users=0.2, stable=True)
    fewer = split.train.take_items(np.arange(0, len(split.train.items), 2))
    model = EASE(regularization=50.0).fit(fewer, show_progress=False)
    shown = contestants.RemappedModel(model, split.train.users, split.train.items)
    ids, scores = shown.recommend(np.full(5, -1), split.test.context[:5], N=10)
    own = model.items_.codes(split.train.items.ids(), on_unknown="mark")
    assert (own[ids] >= 0).all()
    history = split.test.context[:5][:, np.flatnonzero(own >= 0)]
    expected, values = model.recommend(np.full(5, -1), history, N=10)
    np.testing.assert_array_equal(own[ids], expected)
    np.testing.assert_array_equal(scores, values)
    ids, scores = shown.recommend(np.full(5, -1), split.test.context[:5], N=40)
    assert ids.shape == (5, 40)
    assert (ids[:, 30:] == -1).all()
    assert (scores[ids == -1] == -np.finfo(np.float32).max).all()


def test_a_contestant_with_the_same_items_may_know_other_users():
    data = synthetic(users=300, items=60, interactions=6000, seed=0).binarized()
    split = by_time(data)
    until = {"fingerprint": "", "until": split.first_test_time - 1}
    every, last = (
        ALS(factors=8).fit(train, show_progress=False)
        for train in (split.train, split.train.take_users(np.arange(100, 300)))
    )
    assert last.items_ == split.train.items
    for model in (every, last):
        model.about_ = {"trained_on": until}
    found = contest.contest(
        Workspace(progress=False), every, last, config(), split, config().promote.for_metric("ndcg@10")
    )
    part = split.test
    own = last.users_.codes(part.users.ids(), on_unknown="mark")
    expected = evaluate(last, replace(part, user_index=own), "ndcg@10")
    assert found.champion_value == pytest.approx(expected["ndcg@10"], rel=1e-6)


def test_behind_another_catalog_a_changed_history_is_folded_in():
    """What the model does not know is no change; what the other catalog lacks of a training row is one."""
    data = synthetic(users=100, items=60, interactions=2000, seed=0).binarized()
    model = ALS(factors=8).fit(data.take_items(np.arange(40)).take_users(np.arange(20, 100)), show_progress=False)
    users, options = np.arange(25, 45), {"N": 10, "recalculate_user": False, "filter_already_liked_items": True}
    for shown_items, whole in ((np.arange(60), True), (np.arange(5, 60), False)):
        theirs = data.take_items(shown_items)
        shown = contestants.RemappedModel(model, theirs.users, theirs.items)
        ids, scores = shown.recommend(users, theirs.matrix[users], **options)
        own = data.matrix[users][:, :40].tolil()
        if not whole:
            own[:, :5] = 0
        unchanged = whole | (data.matrix[users][:, :5].getnnz(axis=1) == 0)
        assert unchanged.any()
        expected = model.recommend(
            np.where(unchanged, users - 20, -1), own.tocsr(), N=10, items=np.intersect1d(shown_items, np.arange(40))
        )
        np.testing.assert_array_equal(np.where(ids >= 0, shown_items[ids], -1), expected[0])
        np.testing.assert_array_equal(scores, expected[1])


def test_ratings_of_a_champion_with_other_items_and_users():
    data = synthetic(users=200, items=60, interactions=4000, seed=0)
    fewer = data.take_items(np.arange(0, 60, 2)).take_users(np.arange(50, 200))
    model = UAutoRec(hidden=8, epochs=2).fit(fewer, show_progress=False)
    shown = contestants.RemappedModel(model, data.users, data.items)
    userid, rows, items = np.array([10, 60]), np.array([0, 1, 1]), np.array([2, 2, 3])
    found = shown.predict_pairs(userid, data.matrix[userid], rows, items)
    history = data.matrix[userid][:, np.arange(0, 60, 2)]
    np.testing.assert_array_equal(found[:2], model.predict_pairs(np.array([-1, 10]), history, rows[:2], items[:2] // 2))
    assert found[2] == np.float32(model.cold_rating_)


def test_without_a_champion_errors_of_ratings_have_no_baseline():
    data = synthetic(users=200, items=60, interactions=4000, seed=0)
    split = hold_out_users(data, n_users=0.2, stable=True)
    model = UAutoRec(hidden=8, epochs=2).fit(split.train, show_progress=False)
    with pytest.raises(ConfigError, match=r"measure rmse of; promote challenger by hand"):
        contest.contest(Workspace(progress=False), model, None, config(), split, config().promote.for_metric("rmse"))


def test_a_contestant_that_may_have_seen_the_test_is_refused():
    data = synthetic(users=300, items=60, interactions=6000, seed=0).binarized()
    split = hold_out_users(data, n_users=0.2, stable=True)
    sees_all = EASE(regularization=50.0).fit(data, show_progress=False)
    fair = EASE(regularization=50.0).fit(split.train, show_progress=False)
    rule = config().promote.for_metric("ndcg@10")
    with pytest.raises(DataError, match=r"challenger was trained on other entries .* may have seen"):
        contest.contest(Workspace(progress=False), sees_all, fair, config(), split, rule)
    with pytest.raises(DataError, match="champion was trained on other entries"):
        contest.contest(Workspace(progress=False), fair, sees_all, config(), split, rule)
    assert contest.contest(Workspace(progress=False), fair, None, config(), split, rule).champion == "Popularity"


def test_a_promotion_is_refused_when_another_was_faster(tmp_path):
    for regularization in (50.0, 60.0, 70.0):
        train_run(Workspace(tmp_path, False), config(model={"name": "EASE", "regularization": regularization}))
    tracking.promote("night", 1)
    tracking.promote("night", 2)
    with pytest.raises(TrackingError, match="is held by version 2 and no longer by version 1"):
        tracking.promote("night", 3, instead_of=1)
    assert tracking.pin("models:/night@champion") == "models:/night/2"


def test_held_out_users_stay_held_out_when_data_are_added():
    few, many = (synthetic(users=n, items=60, interactions=20 * n, seed=0).binarized() for n in (200, 300))
    one, other = (hold_out_users(data, n_users=0.2, stable=True) for data in (few, many))
    for part in ("validation", "test"):
        before, after = (set(getattr(split, part).users) for split in (one, other))
        assert before < after
    assert set(one.train.users) < set(other.train.users)
    with pytest.raises(DataError, match=r"share between 0 and 0\.5"):
        hold_out_users(few, n_users=20, stable=True)


def test_where_no_fair_contest_is_possible_nothing_is_trained_and_the_champion_scores(tmp_path):
    """Users drawn anew from more data: the champion may have seen what they are tested on."""
    drawn = {"kind": "hold_out_users", "n_users": 0.2}
    first = night(tmp_path, split=drawn)
    found = night(tmp_path, split=drawn, data={**DATA, "users": 820, "interactions": 20_400})
    assert found.status == "kept"
    assert "use a split that stays when data are added" in found.reason
    assert found.warnings[0] == found.reason
    assert found.champion == first.champion
    assert found.steps["promote"] == "skipped: there is no challenger"
    assert found.steps["score"].startswith("done")
    assert len(tracking.model_versions("night")) == 1
    assert summary(tmp_path)["warnings"]


def test_wrong_requests(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"set track\.register"):
        nightly.run(Workspace(tmp_path), config(track={"experiment": "night"}))
    night(tmp_path)
    with pytest.raises(TrackingError, match="is the champion already"):
        contest.challenge(Workspace(tmp_path), "night", 1)
    assert main(["promote", "night", "--challenger", "1", "--version", "1", "--root", str(tmp_path)]) == 2
    assert "leave out --version" in capsys.readouterr().err
