"""Whole items held out: what training sees, what lists may hold, and how warm and cold items are measured."""

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import splits
from recsys.config import check_config
from recsys.errors import DataError, UnsupportedError
from recsys.evaluation import Validation, evaluate
from recsys.interactions import Interactions
from recsys.models import EASE, WithFeatures
from recsys.splits import Part

METRICS = ("recall@3", "ndcg@3", "coverage@3")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(rng.random((60, 40)) < 0.3)
    liked = (rows % 2 == columns % 2) | (rng.random(len(rows)) < 0.1)
    frame = pd.DataFrame({"user_id": rows[liked], "item_id": columns[liked]})
    part = np.where(np.arange(40) % 7 == 0, "test", np.where(np.arange(40) % 7 == 3, "val", "train"))
    about = pd.DataFrame({"item_id": np.arange(40), "part": part, "kind": [["even", "odd"][n % 2] for n in range(40)]})
    return Interactions.from_frame(frame, items=about)


def entries(matrix):
    return {(int(row), int(column)) for row, column in zip(*matrix.nonzero(), strict=True)}


@pytest.mark.parametrize("options", [{"item_column": "part"}, {"test": 0.15, "validation": 0.15, "seed": 3}])
def test_training_sees_no_entry_of_a_held_out_item(data, options):
    split = splits.cold_items(data, **options)
    cold = {name: set(part.candidates.tolist()) for name, part in (("v", split.validation), ("t", split.test))}
    assert len(cold["t"]) == len(cold["v"]) == 6
    assert not cold["t"] & cold["v"]
    trained = set(split.train.matrix.indices.tolist())
    assert not trained & (cold["t"] | cold["v"])
    assert split.train.shape == data.shape
    assert entries(split.test.target) == {pair for pair in entries(data.matrix) if pair[1] in cold["t"]}
    assert entries(split.validation.target) == {pair for pair in entries(data.matrix) if pair[1] in cold["v"]}
    assert entries(split.validation.context) == entries(split.train.matrix)
    assert entries(split.test.context) == entries(split.train.matrix) | entries(split.validation.target)
    if "item_column" in options:
        assert cold["t"] == set(range(0, 40, 7))


def test_warm_items_are_measured_with_and_without_cold_ones(data):
    options = {"item_column": "part", "entries": 0.2}
    found = {among: splits.cold_items(data, **options, among=among) for among in ("cold", "warm", "all")}
    cold, warm, everything = (found[among].test for among in ("cold", "warm", "all"))
    for among in found.values():
        assert entries(among.train.matrix) == entries(found["all"].train.matrix)
    assert entries(everything.target) == entries(cold.target) | entries(warm.target)
    assert not set(cold.target.indices) & set(warm.target.indices)
    assert len(everything.candidates) == 40 - 6  # all but the items of the validation part
    held = len(entries(warm.target))
    of_warm = sum(column % 7 not in (0, 3) for _, column in entries(data.matrix))
    assert 0.1 < held / of_warm < 0.3
    again = everything.of_items(warm.candidates)
    assert entries(again.target) == entries(warm.target)
    assert again.candidates.tolist() == everything.candidates.tolist()
    assert everything.of_items(warm.candidates, warm.candidates).candidates.tolist() == warm.candidates.tolist()


def test_lists_hold_candidates_alone(data):
    split = splits.cold_items(data, item_column="part")
    model = WithFeatures(model={"name": "EASE", "regularization": 1.0}, columns={"kind": "category"})
    model.fit(split.train, show_progress=False, validation=Validation(split.validation, "ndcg@3"))
    found = evaluate(model, split.test, METRICS)
    able = split.test.candidates
    ids, _ = model.recommend(split.test.user_index, split.test.context, N=3, items=able)
    target = split.test.target.toarray()
    users = np.flatnonzero(target.sum(1))
    expected = [target[user, ids[user]].sum() / target[user].sum() for user in users]
    assert found.values["recall@3"] == pytest.approx(np.mean(expected))
    assert found.values["coverage@3"] == len(np.unique(ids[users])) / len(able)
    everything = evaluate(model, splits.cold_items(data, item_column="part", entries=0.2, among="all").test, METRICS)
    assert everything.values["recall@3"] != found.values["recall@3"]
    longer = evaluate(model, split.test, ("recall@20",))
    assert longer.values["recall@20"] == 1.0  # lists of all six


def test_a_blend_chooses_its_weights_among_candidates(data):
    split = splits.cold_items(data, item_column="part")
    options = {"columns": {"kind": "category"}}
    parts = (
        {"name": "ContentKNN", **options},
        {"name": "WithFeatures", "model": "ItemKNN", **options},
        {"name": "EASE"},
    )
    model = recsys.Blend(parts=parts)
    validation = Validation(split.validation, "ndcg@3")
    model.fit(split.train, show_progress=False, validation=validation)
    assert sum(model.weights_) == pytest.approx(1.0)
    assert model.weights_[2] < 1.0  # EASE alone knows nothing of these
    assert validation(model)["ndcg@3"] >= max(validation(part)["ndcg@3"] for part in model.parts_) - 1e-9


def test_a_configuration_can_hold_out_items():
    config = check_config({"split": {"kind": "cold_items", "test": 0.3, "entries": 0.1, "among": "all"}})
    assert config.split.kind == "cold_items"


def test_rules_hold_among_candidates(data):
    split = splits.cold_items(data, item_column="part")
    model = WithFeatures(model={"name": "EASE", "regularization": 1.0}, columns={"kind": "category"})
    model.fit(split.train, show_progress=False)
    able = split.test.candidates
    rules = recsys.Rules(exclude=[int(able[0])])
    ruled = recsys.rules.Ruled(model, recsys.rules.bind(rules, None, model.items_))
    ids, scores = ruled.recommend(split.test.user_index, split.test.context, N=3, items=able)
    expected = model.recommend(split.test.user_index, split.test.context, N=3, items=able[1:])
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    costs = recsys.rules.costs(model, split.test, rules, k=3)
    assert costs["coverage@3"].iloc[1] == len(np.unique(ids[np.diff(split.test.target.indptr) > 0])) / len(able)


def test_shards_would_lose_the_candidates(data, tmp_path):
    with pytest.raises(
        DataError, match="shards do not say which items the lists of a part may hold, as the validation"
    ):
        recsys.shards.write(splits.cold_items(data, item_column="part"), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_what_is_refused(data):
    with pytest.raises(DataError, match="needs held-out entries of warm items: give entries"):
        splits.cold_items(data, among="warm")
    with pytest.raises(DataError, match="the items have no column 'parts'; did you mean 'part'"):
        splits.cold_items(data, item_column="parts")
    with pytest.raises(DataError, match="marks no item as 'test'"):
        splits.cold_items(data, item_column="kind")
    with pytest.raises(DataError, match="test part would be empty"):
        splits.cold_items(data, test=0.0)
    part = splits.cold_items(data, item_column="part").test
    with pytest.raises(DataError, match="no target entry is of these items"):
        part.of_items([1])
    with pytest.raises(DataError, match="target entries are of items that no list may hold"):
        Part(part.context, part.target, part.users, part.user_index, candidates=np.array([1]))
    for wrong in ([], [-1], [40], [[1]], [0.5]):
        with pytest.raises(DataError, match=r"items must be indices of 0\.\.39"):
            part.of_items(wrong)

    class Peer:
        def recommend(self, userid, user_items, N, filter_already_liked_items, recalculate_user):
            return np.zeros((len(userid), N), int), np.zeros((len(userid), N))

    with pytest.raises(UnsupportedError, match="recommend of Peer takes no items="):
        evaluate(Peer(), part, METRICS)


def test_a_model_of_the_matrix_alone_has_nothing_to_say_of_cold_items(data):
    split = splits.cold_items(data, item_column="part")
    plain = EASE(regularization=1.0).fit(split.train, show_progress=False)
    own = WithFeatures(model={"name": "EASE", "regularization": 1.0}, columns={"kind": "category"})
    own.fit(split.train, show_progress=False)
    values = [evaluate(model, split.test, "ndcg@1").values["ndcg@1"] for model in (plain, own)]
    assert values[1] > values[0] + 0.1
