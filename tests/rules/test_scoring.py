"""Rules in what writes lists: frames, folders and batches of rows hold the same; other rules are another job."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from recsys.errors import ConfigError, DataError, DataWarning, ScoringError
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.rules import Ruled, Rules, bind
from recsys.scoring import local, recommend_frame, score
from recsys.scoring.kernel import Kernel
from tests.rules.test_ruled import rules_of_any_kind
from tests.rules.worlds import DATA, MODELS, TABLE
from tests.scoring.worlds import assert_same_lists, frame_of, sorted_batches

RULES = Rules(
    allow="stock > 0 or genres contains 'war'",
    exclude=(3, 4),
    exclude_pairs=[(user, item) for user in range(20) for item in range(10, 20)],
    at_most={"brand": 2},
    calibration={"genres": 0.4},
)
LONG = DATA.to_frame().drop(columns="rating")


def read(folder):
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


@settings(deadline=None, max_examples=40)
@given(rules_of_any_kind())
@pytest.mark.filterwarnings("ignore:rules:recsys.errors.DataWarning")
def test_frames_and_batches_of_rows_hold_the_same_lists(rules):
    try:
        bound = bind(rules, TABLE, DATA.items)
    except DataError:
        return
    for model in MODELS.values():
        wanted = recommend_frame(model, DATA, n=6, rules=rules, items=TABLE)
        for size in (7, 1000):
            assert_same_lists(frame_of(Kernel(model, 6, rules=bound).batches(sorted_batches(LONG, size))), wanted)


def test_lists_are_those_of_the_model_under_the_same_rules():
    frame = recommend_frame(MODELS["ALS"], DATA, n=5, rules=RULES, items=TABLE)
    bound = bind(RULES, TABLE, DATA.items)
    ids, scores = Ruled(MODELS["ALS"], bound).recommend(
        np.arange(len(DATA.users)), DATA.matrix, 5, seen=bound.hide(DATA.users, DATA.matrix)
    )
    assert frame["item_id"].tolist() == DATA.items.ids(ids[ids >= 0]).tolist()
    assert frame["score"].tolist() == scores[ids >= 0].tolist()
    assert frame.groupby("user_id")["rank"].apply(list).map(lambda ranks: ranks == list(range(1, len(ranks) + 1))).all()


def test_pairs_are_excluded_beside_what_was_seen_and_without_it():
    pairs = {(user, item) for user in range(0, 40, 2) for item in range(30)}
    rules = Rules(exclude_pairs=sorted(pairs))
    seen = Interactions.from_frame(pd.concat([LONG, LONG.assign(item_id=(LONG["item_id"] + 1) % 60)]).drop_duplicates())
    both = set(seen.to_frame()[["user_id", "item_id"]].itertuples(index=False, name=None))
    for options, hidden in (({}, set(LONG.itertuples(index=False, name=None))), ({"seen": seen}, both)):
        for exclude_seen in (True, False):
            frame = recommend_frame(MODELS["EASE"], DATA, n=60, rules=rules, exclude_seen=exclude_seen, **options)
            found = set(frame[["user_id", "item_id"]].itertuples(index=False, name=None))
            everything = {(user, item) for user in range(40) for item in range(60)}
            assert found == everything - pairs - (hidden if exclude_seen else set())
    with pytest.warns(DataWarning, match=r"rules.exclude_pairs is of other users: ids there are like 'u1', those of"):
        recommend_frame(MODELS["EASE"], DATA, rules=Rules(exclude_pairs=[("u1", 2)]))


def test_columns_of_the_histories_are_the_table_by_default():
    described = Interactions.from_frame(LONG, items=TABLE)
    wanted = recommend_frame(MODELS["EASE"], DATA, rules=Rules(at_most={"brand": 1}), items=TABLE)
    found = recommend_frame(MODELS["EASE"], described, rules=Rules(at_most={"brand": 1}))
    pd.testing.assert_frame_equal(found, wanted)
    assert not found.equals(recommend_frame(MODELS["EASE"], described))
    pd.testing.assert_frame_equal(
        recommend_frame(MODELS["EASE"], described, rules=Rules()), recommend_frame(MODELS["EASE"], DATA)
    )


def test_the_manifest_records_the_rules_and_other_rules_are_another_job(tmp_path):
    out = tmp_path / "out"
    first = score(MODELS["ALS"], DATA, out, n=5, rules=RULES, items=TABLE, batch_size=7)
    assert_same_lists(read(out), recommend_frame(MODELS["ALS"], DATA, n=5, rules=RULES, items=TABLE))
    manifest = json.loads((out / "_manifest.json").read_text())
    digest = manifest["rules"].pop("digest")
    assert Rules.of(manifest["rules"]) == RULES
    assert manifest["identity"]["rules"]["digest"] == digest == bind(RULES, TABLE, DATA.items).digest
    bound = bind(RULES, TABLE, DATA.items)
    fewer = bound.only(np.flatnonzero(bound.allowed)[:3])
    assert (fewer == bound, fewer.digest == bound.digest) == (False, False)
    assert bound.only(np.arange(len(DATA.items))) == bound
    assert not first.already_complete
    assert score(MODELS["ALS"], DATA, out, n=5, rules=RULES, items=TABLE, batch_size=7).already_complete
    sold = TABLE.assign(stock=0)  # the same rules of another day
    assert not score(MODELS["ALS"], DATA, out, n=5, rules=RULES, items=sold, batch_size=7).already_complete
    assert not score(MODELS["ALS"], DATA, out, n=5, batch_size=7).already_complete
    assert "rules" not in json.loads((out / "_manifest.json").read_text())


def test_an_interrupted_job_goes_on_under_its_rules_alone(tmp_path, monkeypatch):
    options = {"n": 5, "items": TABLE, "batch_size": 10}

    def interrupted(rules):
        calls = []
        write = local.OutputFolder.write_part

        def stopping(self, name, table, users):
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(name)
            return write(self, name, table, users)

        with monkeypatch.context() as patch:
            patch.setattr(local.OutputFolder, "write_part", stopping)
            with pytest.raises(KeyboardInterrupt):
                score(MODELS["EASE"], DATA, tmp_path / "out", rules=rules, **options)

    interrupted(RULES)
    assert score(MODELS["EASE"], DATA, tmp_path / "out", rules=RULES, **options).resumed_parts == 2
    interrupted(Rules(at_most={"brand": 1}))
    assert score(MODELS["EASE"], DATA, tmp_path / "out", rules=RULES, **options).already_complete
    result = score(MODELS["EASE"], DATA, tmp_path / "out", rules=Rules(at_most={"brand": 3}), **options)
    assert (result.resumed_parts, result.already_complete) == (0, False)


def test_what_does_not_go_together_is_refused_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="no rules hold there; leave out recall"):
        score(MODELS["ALS"], DATA, tmp_path / "out", rules=Rules(allow=(1, 2)), recall=0.9)
    with pytest.raises(ConfigError, match=r"rules must be recsys\.Rules, got dict; make them by Rules\(at_most=...\)"):
        recommend_frame(MODELS["ALS"], DATA, rules={"at_most": {"brand": 1}})
    with pytest.raises(ConfigError, match="the rules read 'brand' of the items, and there is no table of items"):
        score(MODELS["ALS"], DATA, tmp_path / "out", rules=Rules(at_most={"brand": 1}))
    other = EASE().fit(DATA.take_items(np.arange(20)), show_progress=False)
    with pytest.raises(DataError, match="bound to other items"):
        recommend_frame(other, DATA, rules=bind(RULES, TABLE, DATA.items))
    with pytest.raises((ScoringError, DataError), match="does not know"):
        recommend_frame(EASE().fit(DATA.matrix, show_progress=False), DATA, rules=RULES, items=TABLE)
    assert not list(tmp_path.glob("out"))


def test_reasons_stand_beside_lists_under_rules():
    frame = recommend_frame(MODELS["EASE"], DATA, n=4, rules=RULES, items=TABLE, reasons=2)
    assert frame["reasons"].map(len).max() == 2
    plain = recommend_frame(MODELS["EASE"], DATA, n=4, rules=RULES, items=TABLE)
    pd.testing.assert_frame_equal(frame.drop(columns="reasons"), plain)
