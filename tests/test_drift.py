"""Drift of data and lists: measures by hand, limits, sentences."""

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from recsys.drift import Limits, data_drift, list_drift, warnings_of
from recsys.errors import ConfigError, DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Popularity
from tests.contract import csr


def interactions(cells, users, items):
    return Interactions(csr(np.where(np.array(cells) > 0, 1.0, np.nan)), IdMap(users), IdMap(items))


OLD = interactions([[1, 1, 0], [1, 0, 1]], ["a", "b"], ["x", "y", "z"])


def trained(data=OLD):
    return Popularity().fit(data, show_progress=False)


def test_the_same_data_have_not_moved():
    assert data_drift(trained(), OLD) == {"new_users": 0.0, "new_items": 0.0, "popularity": 0.0}


def test_new_users_items_and_popularity_by_hand():
    # Then x 1/2, y 1/4, z 1/4; now x 1/4, y 2/4, w 1/4, and two of three users are new.
    now = interactions([[1, 1, 0], [0, 1, 0], [0, 0, 1]], ["a", "c", "d"], ["x", "y", "w"])
    found = data_drift(trained(), now)
    assert found["new_users"] == pytest.approx(2 / 3)
    assert found["new_items"] == pytest.approx(1 / 4)
    assert found["popularity"] == pytest.approx(0.5 * (1 / 4 + 1 / 4 + 1 / 4 + 1 / 4))


def test_users_that_were_held_out_are_not_new():
    model = trained()
    model.about_ = {"data": {"users": 3}}  # of which one was held out
    now = interactions([[1, 1, 0], [1, 0, 1], [0, 1, 1]], ["a", "b", "c"], ["x", "y", "z"])
    assert data_drift(model, now)["new_users"] == 0.0
    model.about_ = {}
    assert data_drift(model, now)["new_users"] == pytest.approx(1 / 3)


def test_a_model_without_ids_is_refused():
    with pytest.raises(DataError, match="does not know its ids"):
        data_drift(Popularity().fit(OLD.matrix, show_progress=False), OLD)


def lists(rows):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "score"])
    return frame.assign(rank=frame.groupby("user_id").cumcount() + 1)


BEFORE = lists([("a", "x", 1.0), ("a", "y", 0.5), ("b", "x", 2.0), ("b", "z", 1.0), ("gone", "x", 1.0)])


def test_overlap_and_scores_by_hand():
    now = lists([("a", "x", 1.0), ("a", "z", 0.5), ("b", "y", 9.0), ("b", "w", 1.0), ("new", "x", 1.0)])
    found = list_drift(BEFORE, now)
    assert found["overlap"] == pytest.approx((0.5 + 0.0) / 2)
    assert found["scores"] == pytest.approx(0.5)  # first scores 1, 2 then 1, 9
    assert list_drift(BEFORE, BEFORE) == {"overlap": 1.0, "scores": 0.0}


def test_ids_that_mean_the_same_have_not_drifted():
    before = lists([(1, 7, 1.0), (1, 8, 0.5), (12, 7, 2.0), (12, 9, 1.0), (3, 7, 1.0)])
    now = lists([(1, 7, 1.0), (1, 9, 0.5), (12, 8, 9.0), (12, 10, 1.0), (4, 7, 1.0)])
    one = {"user_id": ["U1"], "item_id": ["X1"], "score": [1.0], "rank": [1]}
    text = pd.concat([now.astype({"user_id": str, "item_id": str}), pd.DataFrame(one)])
    assert list_drift(before, text) == list_drift(before, now)
    assert list_drift(text, before)["scores"] == list_drift(now, before)["scores"]
    assert np.isnan(list_drift(before.assign(user_id=[(user,) for user in before["user_id"]]), now)["overlap"])
    old = Interactions.from_frame(before[["user_id", "item_id"]])
    new = Interactions.from_frame(text[["user_id", "item_id"]])
    expected = data_drift(trained(old), Interactions.from_frame(now[["user_id", "item_id"]]))
    assert data_drift(trained(old), new)["new_users"] == pytest.approx(2 / 4)  # 4 and U1 of 1, 12, 4, U1
    assert expected["new_users"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match=r"item ids of type tuple, .* item ids of type str"):
        data_drift(trained(interactions([[1]], ["a"], ["x"])), interactions([[1]], ["a"], [(1,)]))


def test_without_a_common_user_nothing_is_known_and_nothing_warned():
    found = list_drift(BEFORE, lists([("other", "x", 1.0)]))
    assert np.isnan(found["overlap"])
    assert warnings_of(found, Limits()) == []


def test_what_is_beyond_a_limit_is_said():
    measured = {"new_users": 0.5, "new_items": 0.05, "popularity": 0.5, "overlap": 0.1, "scores": 0.1}
    found = warnings_of(measured, Limits())
    assert found == [
        "50.0% of the users are new since the champion was trained (limit 30.0%)",
        "the popularity of items has drifted by 0.500 (limit 0.200)",
        "only 10.0% of the items of the last lists are in the new ones (limit 30.0%)",
    ]


def test_limits_lie_in_0_to_1():
    with pytest.raises(ConfigError, match="overlap of Limits must be a finite number ≥ 0 and ≤ 1, got 30"):
        Limits(overlap=30)
    assert TypeAdapter(Limits).validate_python({"overlap": 1}) == Limits(overlap=1.0)
    with pytest.raises(ValidationError, match="overlapp"):
        TypeAdapter(Limits).validate_python({"overlapp": 0.5})
