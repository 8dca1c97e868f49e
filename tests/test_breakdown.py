"""Groups of users by activity, and quality against the length of a history."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import activity_groups, cold_user_curve, datasets, splits
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation import evaluate
from recsys.ids import IdMap
from recsys.models import EASE
from recsys.splits import Part


def part_with(lengths, n_items=60):
    """Users with contexts of these lengths, and the last item as target."""
    indptr = np.append(0, np.cumsum(lengths))
    indices = np.concatenate([np.arange(length) for length in lengths] or [[]]).astype(np.int32)
    context = sp.csr_matrix((np.ones(indptr[-1], dtype=np.float32), indices, indptr), shape=(len(lengths), n_items))
    target = sp.csr_matrix(
        (np.ones(len(lengths), dtype=np.float32), np.full(len(lengths), n_items - 1), np.arange(len(lengths) + 1)),
        shape=context.shape,
    )
    users = IdMap([f"u{row}" for row in range(len(lengths))])
    return Part(context, target, users, np.full(len(lengths), -1, dtype=np.int32))


def test_quartiles_of_activity():
    groups = activity_groups(part_with([8, 1, 2, 3, 4, 5, 6, 7]))
    assert groups.cat.categories.tolist() == ["1-2 items", "3-4 items", "5-6 items", "7-8 items"]
    assert groups["u0"] == "7-8 items"
    assert groups.value_counts().tolist() == [2, 2, 2, 2]
    assert groups.index.name == "user_id"


def test_users_alike_stay_together():
    groups = activity_groups(part_with([3, 3, 3, 3, 3, 9]))
    assert groups.cat.categories.tolist() == ["3 items", "9 items"]
    assert activity_groups(part_with([5, 5])).unique().tolist() == ["5 items"]
    with pytest.raises(ConfigError, match="n_groups must be at least 2, got 1"):
        activity_groups(part_with([5, 5]), 1)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_groups_are_ranges_in_order(lengths, n_groups):
    groups = activity_groups(part_with(lengths), n_groups)
    assert not groups.isna().any()
    assert 1 <= len(groups.cat.categories) <= n_groups
    order = np.argsort(lengths, kind="stable")
    assert (np.diff(groups.cat.codes.to_numpy()[order]) >= 0).all()
    for _, members in pd.Series(lengths).groupby(groups.to_numpy(), observed=True):
        others = set(lengths) - set(members)
        assert not any(members.min() <= other <= members.max() for other in others)


@pytest.fixture(scope="module")
def trained():
    split = splits.hold_out_users(datasets.synthetic(500, 120, 12_000, seed=2), n_users=120)
    return EASE(regularization=30.0).fit(split.train, show_progress=False), split


class Recorder:
    """Passes on what is asked of a model, and keeps it."""

    def __init__(self, model):
        self.model = model
        self.asked = []

    def recommend(self, userid, user_items, N=10, *, seen=None, **options):
        self.asked.append((np.asarray(userid), user_items.copy(), seen.copy()))
        return self.model.recommend(userid, user_items, N=N, seen=seen, **options)


def test_the_same_users_stand_at_every_length(trained):
    model, split = trained
    recorder = Recorder(model)
    part = split.test
    curve = cold_user_curve(recorder, part, (4, 1, 8), ["ndcg@10", "recall@5"], popularity=split.train)
    assert curve["length"].tolist() == [1, 1, 4, 4, 8, 8]
    assert curve["metric"].tolist() == ["ndcg@10", "recall@5"] * 3
    enough = (np.diff(part.context.indptr) >= 8) & (np.diff(part.target.indptr) > 0)
    assert set(curve["n"]) == {np.count_nonzero(enough)}
    assert 0 < np.count_nonzero(enough) < len(enough)
    before = None
    for (userid, read, seen), length in zip(recorder.asked, (1, 4, 8), strict=True):
        assert (userid == -1).all()
        assert (np.diff(read.indptr) == length).all()
        assert (seen != part.context[enough]).nnz == 0
        assert (seen.multiply(read > 0) != read).nnz == 0  # a part of the history, with its values
        if before is not None:
            assert (read.multiply(before > 0) != before).nnz == 0  # a longer one holds the shorter
        before = read
    more = curve[curve["metric"] == "ndcg@10"]["value"].tolist()
    assert more[0] < more[-1]


def test_the_whole_history_gives_what_evaluate_gives(trained):
    model, _ = trained
    rng = np.random.default_rng(0)
    places = np.argsort(rng.random((30, 120)), axis=1)
    context, target = (
        sp.csr_matrix(
            (np.ones(chosen.size), (np.repeat(np.arange(30), chosen.shape[1]), chosen.ravel())), shape=(30, 120)
        )
        for chosen in (places[:, :6], places[:, 6:10])
    )
    part = Part(
        context.astype(np.float32), target.astype(np.float32), IdMap(range(30)), np.full(30, -1, dtype=np.int32)
    )
    line = cold_user_curve(model, part, [6]).iloc[0]
    whole = evaluate(model, part, "ndcg@10").summary.iloc[0]
    assert (line["value"], line["standard_error"]) == (whole["value"], whole["standard_error"])


def test_the_draw_follows_the_seed(trained):
    model, split = trained
    curves = [cold_user_curve(model, split.test, (1, 3), seed=seed)["value"].tolist() for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


def test_curve_refusals(trained):
    model, split = trained
    with pytest.raises(DataError, match=r"no user with a target has 1000 items in the context \(the most is \d+\)"):
        cold_user_curve(model, split.test, (1, 1000))
    for lengths in ((), (0, 1), (-1,), (1.5,)):
        with pytest.raises(ConfigError, match="lengths must be positive whole numbers"):
            cold_user_curve(model, split.test, lengths)

    class Plain:
        def recommend(self, userid, user_items, N=10, filter_already_liked_items=True, recalculate_user=False):
            raise AssertionError

    with pytest.raises(UnsupportedError, match="takes no seen="):
        cold_user_curve(Plain(), split.test, (1,))
