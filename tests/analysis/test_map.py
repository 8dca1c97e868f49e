"""Maps and walks: coordinates and groups by other ways, what a walk holds at its ends, UMAP by a stand-in."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from recsys import analysis, datasets
from recsys.analysis import Subject, walk
from recsys.analysis.map_findings import findings
from recsys.errors import ConfigError, DataError, OutOfRangeError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, ELSA, MultVAE
from recsys.report.groups import category_column, grouped
from recsys.report.items import principal_plane
from recsys.splits import hold_out_users


@pytest.fixture(scope="module")
def data():
    """Liked items of generated users, with titles and genres."""
    frame = datasets.synthetic(160, 40, 3000).filter(min_rating=3.0, min_user=5).binarized().to_frame()
    items = pd.DataFrame({"item_id": np.sort(frame["item_id"].unique())})
    items["title"] = [f"film {item}" for item in items["item_id"]]
    items["genres"] = [("Drama", "Comedy|Drama", None)[item % 3] for item in items["item_id"]]
    return Interactions.from_frame(frame, items=items)


@pytest.fixture(scope="module")
def split(data):
    return hold_out_users(data, n_users=0.25)


@pytest.fixture(scope="module")
def model(split):
    return MultVAE(hidden=10, latent=4, epochs=3, batch_size=20).fit(split.train, show_progress=False)


def test_items_lie_at_the_principal_components_of_their_vectors(split, model):
    frame = analysis.map(model, split.train, clusters=3)
    assert len(frame) == split.train.shape[1]
    plane, shares = principal_plane(model.item_vectors())
    assert frame[["x", "y"]].to_numpy() == pytest.approx(plane)
    assert frame.attrs == {"shown": 40, "total": 40, "explained": shares.tolist()}
    assert frame["interactions"].tolist() == np.bincount(split.train.matrix.indices, minlength=40).tolist()
    assert frame["title"].tolist() == [f"film {item}" for item in frame["item_id"]]
    sizes = frame["cluster"].value_counts(sort=False).sort_index()
    assert sizes.index.tolist() == [1, 2, 3]
    assert sizes.is_monotonic_decreasing


def test_users_lie_at_those_of_their_codes_and_too_many_are_drawn(split, model):
    frame = analysis.map(model, split.train, of="users", points=30, clusters=2, seed=3)
    assert frame.attrs["shown"] == 30
    assert frame.attrs["total"] == split.train.shape[0]
    codes = model.encode(split.train.matrix[frame["index"]])
    assert frame[["x", "y"]].to_numpy() == pytest.approx(principal_plane(codes)[0])
    assert frame["user_id"].tolist() == split.train.users.ids(frame["index"]).tolist()
    pd.testing.assert_frame_equal(frame, analysis.map(model, split.train, of="users", points=30, clusters=2, seed=3))
    other = analysis.map(model, split.train, of="users", points=30, clusters=2, seed=4)
    assert other["index"].tolist() != frame["index"].tolist()
    most = analysis.map(model, split.train, points=5, clusters=2)
    counts = np.bincount(split.train.matrix.indices, minlength=40)
    assert most["interactions"].min() >= np.sort(counts)[-5]


def test_clusters_are_found_where_there_are_some(split, model, monkeypatch):
    group = np.arange(40) % 3 % 2  # 27 of one direction, 13 of the other
    vectors = np.eye(4, dtype=np.float32)[group] + 0.01
    monkeypatch.setattr(type(model), "_item_vectors", lambda self: __import__("torch").from_numpy(vectors))
    assert (analysis.map(model, split.train, clusters=2)["cluster"] == group + 1).all()


def test_umap_is_asked_as_its_documentation_says(split, model, monkeypatch):
    calls = []

    class UMAP:
        def __init__(self, **options):
            calls.append(options)

        def fit_transform(self, vectors):
            return vectors[:, :2] * 2

    monkeypatch.setitem(sys.modules, "umap", types.ModuleType("umap"))
    sys.modules["umap"].UMAP = UMAP
    monkeypatch.setattr("recsys.extras.find_spec", lambda name: object())
    frame = analysis.map(model, split.train, method="umap", seed=7)
    assert calls == [{"n_components": 2, "metric": "cosine", "random_state": 7, "n_jobs": 1}]
    assert frame[["x", "y"]].to_numpy() == pytest.approx(2 * model.item_vectors()[:, :2])
    assert np.isnan(frame.attrs["explained"]).all()
    monkeypatch.setattr(UMAP, "fit_transform", lambda self, vectors: np.full((len(vectors), 2), np.nan))
    with pytest.raises(DataError, match="no place"):
        analysis.map(model, split.train, method="umap")


def test_what_cannot_be_mapped_is_refused(split, model, monkeypatch):
    monkeypatch.setattr("recsys.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"a map by UMAP needs umap: pip install 'recsys\[umap\]'"):
        analysis.map(model, split.train, method="umap")
    ease = EASE().fit(split.train)
    with pytest.raises(UnsupportedError, match="EASE has no vectors of items to map; use a model"):
        analysis.map(ease, split.train)
    with pytest.raises(UnsupportedError, match="EASE has no embeddings of users; use"):
        analysis.map(ease, split.train, of="users")
    with pytest.raises(UnsupportedError, match="EASE"):
        findings(Subject(model=ease, split=split))
    with pytest.raises(ConfigError, match="of must be"):
        analysis.map(model, split.train, of="people")
    with pytest.raises(DataError, match="50 clusters needs at least 50 items, got 40"):
        analysis.map(model, split.train, clusters=50)


def test_a_walk_begins_and_ends_with_what_the_users_get(split, model):
    users = split.train
    steps = walk(model, users, 2, 9, steps=5, n=6)
    codes = model.encode(users)
    scores = model.decode((0.75 * codes[2] + 0.25 * codes[9])[None])[0]
    assert sorted(steps["items"][1]) == sorted(np.argsort(-scores)[:6])
    assert steps["position"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    for row, end in ((0, 2), (4, 9)):
        ids, _ = model.recommend([end], users.matrix[[end]], N=6, filter_already_liked_items=False)
        assert steps["items"][row].tolist() == ids[0].tolist()
        assert steps["titles"][row] == " · ".join(users.title(item) for item in ids[0])
    history = set(users.matrix[2].indices)
    assert steps["of_start"].tolist() == [len(history & set(items)) / 6 for items in steps["items"]]
    history = set(users.matrix[9].indices)
    assert steps["of_end"].tolist() == [len(history & set(items)) / 6 for items in steps["items"]]
    distances = np.linalg.norm(codes - (codes[2] + codes[9]) / 2, axis=1)
    distances[[2, 9]] = np.inf
    assert steps["nearest"][2] == distances.argmin()
    assert steps["nearest_id"][2] == users.users.ids([distances.argmin()])[0]
    assert steps["distance"][2] == pytest.approx(distances.min() / np.linalg.norm(codes[9] - codes[2]))
    assert walk(model, users.matrix, 2, 9)["nearest_id"].tolist() == walk(model, users.matrix, 2, 9)["nearest"].tolist()


def test_walks_that_cannot_be_are_refused(split, model):
    with pytest.raises(OutOfRangeError, match="rows 0 to 49 of the users, got 50"):
        walk(model, split.train.take_users(np.arange(50)), 0, 50)
    with pytest.raises(ConfigError, match="at least 2 steps between two users, got 7 from row 3 to row 3"):
        walk(model, split.train, 3, 3)
    with pytest.raises(ConfigError, match="at least 2 steps"):
        walk(model, split.train, 0, 1, steps=1)
    with pytest.raises(DataError, match="third user"):
        walk(model, split.train.matrix[:2], 0, 1)
    elsa = ELSA(factors=4, epochs=1).fit(split.train, show_progress=False)
    with pytest.raises(UnsupportedError, match="ELSA has no scores of a code alone; use MultVAE"):
        walk(elsa, split.train, 0, 1)


def test_groups_of_categories_numbers_and_lists():
    kinds, names = grouped(["a|b", "b", "a", "c", "d", "e", "f", None])
    assert names == ["a", "b", "c", "d", "other"]
    assert kinds.tolist() == [0, 1, 0, 2, 3, 4, 4, 4]
    assert [part if isinstance(part, list) else part.tolist() for part in grouped([1, 2, np.nan, 2])] == [
        [1, 0, 2, 0],
        ["2", "1", "unknown"],
    ]
    kinds, names = grouped(np.arange(100))
    assert np.bincount(kinds).tolist() == [20] * 5
    assert names == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 to 99"]
    kinds, names = grouped([*range(10), None])
    assert names[-1] == "unknown"
    assert kinds[-1] == len(names) - 1 <= 4
    assert grouped([["x", "y"], [], ["y"]])[1] == ["x", "y", "unknown"]
    skewed, names = grouped([1] * 50 + [2, 3, 4, 5, 6, 7])
    assert set(skewed) == set(range(len(names)))


def test_a_category_is_text_that_repeats():
    ids = [f"id {n}" for n in range(40)]
    columns = {"price": np.arange(40.0), "code": np.array(ids, object), "genre": np.array(["a", "b|c"] * 20, object)}
    assert category_column(columns) == "genre"
    assert category_column({"price": np.arange(40.0)}) is None
    assert category_column({}) is None


def test_findings_of_a_job(split, model, monkeypatch):
    monkeypatch.setattr("recsys.analysis.map_findings._SHORTEST", 4)
    users = pd.DataFrame({"age": np.arange(160) % 70, "sex": ["f", "m"] * 80}, index=range(160)).loc[5:]
    users.index.name = "user_id"
    found = findings(Subject(model=model, split=split, users=users))
    assert set(found.tables) == {"map_items", "map_users", "walks"}
    text = "".join(found.content)
    for name in ("Items by popularity", "Items by genres", "Items by cluster", "Users by activity", "Users by age"):
        assert f"<b>{name}" in text
    assert "Users by sex" in text
    assert "film 1 (" in text
    walks = found.tables["walks"]
    assert found.metrics["walk_middle_of_start"] == walks.query("position == 0.5")["of_start"].mean()
    assert (walks.query("position == 0")["distance"] >= 0).all()
    assert text.count("<article") == 2
    assert found.metrics["map_explained_items"] == pytest.approx(sum(found.tables["map_items"].attrs["explained"]))
    als = findings(Subject(model=ALS(factors=4, iterations=2).fit(split.train, show_progress=False), split=split))
    assert set(als.tables) == {"map_items", "map_users", "walks"}
    vectors_alone = findings(
        Subject(model=ELSA(factors=4, epochs=1).fit(split.train, show_progress=False), split=split)
    )
    assert "walks" not in vectors_alone.tables
