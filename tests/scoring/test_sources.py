"""On what the list of a user rests, said beside it: the same answer of every door, and what a plain reading finds."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import recsys
from recsys import Interactions, tracking
from recsys.errors import DataWarning
from recsys.models import MODELS, sources
from recsys.models.saved import BUNDLE
from tests.contract import CASES, quick
from tests.verbs import DATA, N_ITEMS

UNTRAINED_USER, UNTRAINED_ITEM = 105, 30
ROWS = np.repeat(DATA.users.ids(), np.diff(DATA.matrix.indptr))
TRAINING = DATA.select((ROWS != UNTRAINED_USER) & (DATA.items.ids(DATA.matrix.indices) != UNTRAINED_ITEM))
"""Training has no entries of one user and of one item, which the model knows by their ids all the same."""


def fitted(name):
    cls = MODELS[name]
    changes = quick(cls) | ({"pretrain_epochs": 0} if "pretrain_epochs" in CASES[name] else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the table says nothing of its users
        return cls(**{**CASES[name], **changes}).fit(TRAINING, show_progress=False)


def tonight():
    """Histories as in training, grown, of strangers, and of all kinds that say nothing, as ids and as rows."""
    rows = {user: dict(zip(*row, strict=True)) for user, row in training_rows().items()}
    kept = {user: rows[user] for user in (100, 101, 102)}
    grown = {103: {**rows[103], next(i for i in DATA.items if i not in rows[103] and i != UNTRAINED_ITEM): 4.0}}
    unknown = {200: rows[104], 201: {999: 5.0}, 202: {UNTRAINED_ITEM: 5.0}, 203: {10: 0.0, 20: 0.0}, 105: {999: 5.0}}
    lost = {104: {999: 3.0}, 106: {0: 0.0, 10: 0.0}}
    return {**kept, **grown, **unknown, **lost}


def training_rows():
    frame = TRAINING.to_frame()
    return {user: (part["item_id"], part["rating"]) for user, part in frame.groupby("user_id")}


def matrix_of(row):
    dense = np.full(N_ITEMS, np.nan)
    for item, value in row.items():
        if item in DATA.items:
            dense[item // 10] = value
    stored = np.flatnonzero(~np.isnan(dense))
    return sp.csr_matrix((dense[stored].astype(np.float32), stored, [0, len(stored)]), shape=(1, N_ITEMS))


def plain(model, user, row):
    """What the list of one user rests on, from what `recommend` answers to them, to a stranger, and to nobody."""
    everything = {"N": N_ITEMS, "filter_already_liked_items": False}
    index = user - 100 if user in DATA.users else -1
    own, stranger, nobody = (
        model.recommend([at], matrix, **everything)
        for at, matrix in ((index, matrix_of(row)), (-1, matrix_of(row)), (-1, matrix_of({})))
    )

    def alike(one, other):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    if alike(own, nobody) or not model.capabilities.personal:
        return "popularity"
    return "history" if alike(own, stranger) else "learned"


@pytest.mark.parametrize("name", CASES)
def test_every_door_says_what_a_list_rests_on(name, tmp_path):
    model, asked = fitted(name), tonight()
    expected = {user: plain(model, user, row) for user, row in asked.items()}
    assert {"popularity"} <= set(expected.values())
    triples = [(user, item, value) for user, row in asked.items() for item, value in row.items()]
    data = Interactions.from_frame(pd.DataFrame(triples, columns=["user_id", "item_id", "rating"]))
    model.save(tmp_path / "artifacts" / BUNDLE)
    again = recsys.load(tmp_path / "artifacts" / BUNDLE)
    for one in (model, again):
        frame = recsys.recommend_frame(one, data, n=4)
        assert dict(zip(frame["user_id"], frame["source"], strict=True)) == expected
        assert frame.groupby("user_id")["source"].nunique().max() == 1
    served = tracking.RecommendationModel()
    served.load_context(SimpleNamespace(artifacts={BUNDLE: str(tmp_path / "artifacts" / BUNDLE)}))
    request = pd.DataFrame(
        {
            "user_id": list(map(str, asked)),
            "items": [list(map(str, row)) for row in asked.values()],
            "ratings": [list(row.values()) for row in asked.values()],
        }
    )
    answer = served.predict(None, request, params={"n": 4})
    assert dict(zip(answer["user_id"].astype(int), answer["source"], strict=True)) == expected
    lists = frame.groupby("user_id")["item_id"].agg(list)
    assert {
        int(user): list(map(int, items)) for user, items in zip(answer["user_id"], answer["items"], strict=True)
    } == (lists.to_dict())


def test_lists_like_those_of_popularity_are_scored_again_before_that_is_said(monkeypatch):
    """A user may have a list whose scores happen to be the shares of users."""
    model = fitted("EASE")
    data = Interactions.from_frame(TRAINING.to_frame())
    monkeypatch.setattr(sources, "popular_lists", lambda model, rows, items, scores, n: np.ones(n, bool))
    monkeypatch.setattr("recsys.scoring.sources.popular_lists", sources.popular_lists)
    assert set(recsys.recommend_frame(model, data)["source"]) == {"history"}
    monkeypatch.setattr(sources, "_SCORES", 1)
    assert set(recsys.recommend_frame(model, data)["source"]) == {"history"}


def test_users_without_a_sign_are_marked_where_users_are_ranked():
    asked = tonight()
    triples = [(user, item, value) for user, row in asked.items() for item, value in row.items()]
    data = Interactions.from_frame(pd.DataFrame(triples, columns=["user_id", "item_id", "rating"]))
    for name in ("EASE", "ALS", "MultVAE", "CDAE", "Popularity"):
        model = fitted(name)
        frame = recsys.recommend_users_frame(model, [10, 20], data, n=20, exclude_seen=False)
        found = dict(zip(frame["user_id"], frame["source"], strict=True))
        wanted = {user: plain(model, user, row).replace("popularity", "nothing") for user, row in asked.items()}
        assert found == wanted
        silent = frame[frame["source"] == "nothing"]
        assert silent.groupby("item_id")["score"].nunique().max() == 1
