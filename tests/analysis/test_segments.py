"""Segments: clusters that are known, the arithmetic of their names and of their number, what is refused."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from recsys.analysis import ANALYSES, Subject, segments
from recsys.analysis.clusters import (
    agreement,
    chosen,
    counts_by,
    held_out_gain,
    log_odds,
    pairs_kept,
    prediction_strength,
    tokens,
)
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import EASE, BottleneckAE, ClusteringAE
from recsys.splits import hold_out_ratings
from tests.models.test_clustering import planted

GROUPS, ITEMS = 3, 12
OPTIONS = {"epochs": 15, "batch_size": 30, "learning_rate": 0.02, "latent": 8}


def data():
    """Users of three groups with ids of their own, items of a genre each and one that all share, and the groups."""
    matrix, group = planted()
    rows, columns = matrix.nonzero()
    frame = pd.DataFrame({"user_id": [f"u{i:03}" for i in rows], "item_id": [f"i{j:02}" for j in columns]})
    genres = [f"{'abc'[j // ITEMS]}|all" for j in range(GROUPS * ITEMS)]
    items = pd.DataFrame({"item_id": [f"i{j:02}" for j in range(GROUPS * ITEMS)], "genres": genres})
    items["title"] = [f"Title {j}" for j in range(GROUPS * ITEMS)]
    return Interactions.from_frame(frame, rating=None, timestamp=None, items=items), group


@pytest.fixture(scope="module")
def fitted():
    interactions, group = data()
    return BottleneckAE(**OPTIONS).fit(interactions, show_progress=False), interactions, group


def test_planted_groups_are_found_and_named(fitted):
    model, interactions, group = fitted
    made = segments(model, interactions, candidates=(2, 3, 4, 5))
    assert made.users["user_id"].tolist() == list(interactions.users.ids())
    assert adjusted_rand_score(group, made.users["segment"]) == 1.0
    assert made.choice.set_index("clusters")["strength"][3] == 1.0
    assert made.stability == 1.0
    assert not made.learned
    for segment, row in enumerate(made.segments.to_dict("records")):
        of = "abc"[group[made.users["segment"].to_numpy() == segment][0]]
        assert row["genres"] == of  # `all` is typical of none
        assert row["name"] == f"{segment + 1}: {of}"
        places = [int(title.removeprefix("Title ")) // ITEMS for title in row["items"].split("; ")]
        assert set(places) == {"abc".index(of)}
    items = made.typical[made.typical["kind"] == "item"]
    assert (items["lift"] > 2).all()
    assert (items["z"] > 0).all()


def test_segments_of_others_are_those_of_the_nearest_center(fitted):
    model, interactions, _ = fitted
    made = segments(model, interactions, clusters=3)
    np.testing.assert_array_equal(made.assign(model, interactions), made.users["segment"])
    assert made.assign(model, sp.csr_matrix((2, GROUPS * ITEMS))).tolist() == [-1, -1]
    assert made.choice.empty
    assert made.segments["users"].is_monotonic_decreasing


def test_what_the_model_learned_is_taken():
    interactions, group = data()
    model = ClusteringAE(**OPTIONS, clusters=3).fit(interactions, show_progress=False)
    made = segments(model, interactions)
    assert made.learned
    assert adjusted_rand_score(model.cluster(interactions), made.users["segment"]) == 1.0
    assert adjusted_rand_score(group, made.users["segment"]) == 1.0
    assert len(segments(model, interactions, clusters=2).segments) == 2  # k-means, as asked


def test_users_without_history_are_in_no_segment(fitted):
    model, interactions, _ = fitted
    kept = interactions.select(np.repeat(np.arange(90) > 4, np.diff(interactions.matrix.indptr)))
    made = segments(model, kept, clusters=3)
    assert (made.users["segment"][:5] == -1).all()
    assert made.segments["users"].sum() == 85


def test_log_odds_are_those_of_the_paper():
    counts = np.array([[10.0, 0, 5], [2, 3, 0], [1, 1, 20]])
    found, prior = log_odds(counts, 4.0), 4.0
    for k in range(3):
        for w in range(3):
            here, n = counts[k, w], counts[k].sum()
            there, m = counts[:, w].sum() - here, counts.sum() - n
            alpha = prior * counts[:, w].sum() / counts.sum()
            delta = np.log((here + alpha) / (n + prior - here - alpha))
            delta -= np.log((there + alpha) / (m + prior - there - alpha))
            expected = delta / np.sqrt(1 / (here + alpha) + 1 / (there + alpha))
            assert found[k, w] == pytest.approx(expected)
    assert log_odds(np.array([[1.0, 0], [1, 0]]), 1.0)[:, 1].tolist() == [0, 0]


def test_pairs_kept_are_counted_by_hand():
    rng = np.random.default_rng(0)
    own, other = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    shares = []
    for k in range(3):
        members = np.flatnonzero(own == k)
        pairs = [(i, j) for i in members for j in members if i != j]
        shares.append(np.mean([other[i] == other[j] for i, j in pairs]))
    assert pairs_kept(own, other, 3) == pytest.approx(min(shares))
    assert pairs_kept(np.array([0, 0, 1]), np.array([1, 1, 0]), 2) == 0.0  # a single code has no pair


def test_strength_is_high_where_there_are_clusters_and_low_where_there_are_none():
    rng = np.random.default_rng(0)
    apart = np.repeat(np.eye(3) * 10, 40, axis=0) + rng.normal(size=(120, 3))
    found = prediction_strength(apart, [2, 3, 5], repeats=3, rng=rng)
    assert found["strength"][1] == 1.0
    assert found["strength"][2] < 0.8
    assert chosen(found) == 3
    none = pd.DataFrame({"clusters": [2, 3], "strength": [0.4, 0.5], "standard_error": [0.1, 0.2]})
    assert chosen(none) == 3
    assert chosen(none.assign(strength=[0.75, 0.5])) == 2


def test_counts_tokens_and_agreement():
    matrix = sp.csr_matrix(np.array([[1.0, 0, 2], [0, 3, 0], [4, 0, 0]]))
    counts = counts_by(np.array([1, -1, 1]), 2, matrix)
    assert counts.tolist() == [[0, 0, 0], [2, 0, 1]]
    table, names = tokens(np.array(["x|y", None, "y| z", "y|y"], dtype=object))
    assert names == ["x", "y", "z"]
    assert table.toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert agreement([np.array([0, 0, 1]), np.array([1, 1, 0])]) == 1.0
    assert np.isnan(agreement([np.array([0, 1])]))


def test_the_gain_of_held_out_entries_is_that_of_their_shares():
    counts = np.array([[8.0, 2, 0], [0, 2, 8]])
    target = sp.csr_matrix(np.array([[1.0, 0, 0], [0, 1, 1], [1, 1, 1]]))
    share, prior = counts.sum(0) / 20, 5.0
    smoothed = (counts + prior * share) / 15
    expected = np.mean([np.log(smoothed[k, i] / share[i]) for k, i in ((0, 0), (1, 1), (1, 2))])
    assert held_out_gain(counts, np.array([0, 1, -1]), target, prior) == pytest.approx(expected)


def test_what_cannot_work_is_refused(fitted):
    model, interactions, _ = fitted
    with pytest.raises(UnsupportedError, match="EASE has no embeddings of users; use a model that has"):
        segments(EASE().fit(interactions, show_progress=False), interactions)
    few = interactions.take_users([0, 1, 40])
    with pytest.raises(DataError, match="4 clusters need as many users with interactions, got 3; ask for fewer"):
        segments(model, few, clusters=4)
    with pytest.raises(DataError, match=r"3 users with interactions are too few to choose .* give clusters"):
        segments(model, few)
    with pytest.raises(ConfigError, match="candidates must be numbers of clusters of at least 2"):
        segments(model, interactions, candidates=(1, 2))


def test_the_section_of_the_page(fitted):
    _, interactions, group = fitted
    split = hold_out_ratings(interactions, test=0.2, validation=0.0, seed=0)
    model = ClusteringAE(**OPTIONS, clusters=3).fit(split.train, show_progress=False)
    users = pd.DataFrame({"group": group, "alone": np.arange(90)}, index=interactions.users.ids())
    users["even"] = np.where(np.arange(90) % 2, "odd", "even")
    found = ANALYSES["segments"].findings(Subject(model=model, split=split, users=users))
    assert found.metrics["segments"] == 3
    assert found.metrics["segments_nmi_group"] > 0.9
    assert found.metrics["segments_nmi_even"] < 0.05
    assert found.metrics["segments_gain_nats"] > 0.5
    assert found.tables["segments"]["test_users"].sum() == np.count_nonzero(np.diff(split.test.target.indptr))
    assert "learned by the model" in found.summary
    assert any("<svg" in part for part in found.content)
