"""Pieces of a report: escaping, groups of items and users, the plane of a map."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.errors import UnsupportedError
from recsys.evaluation import Evaluation, evaluate, intervals
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, IAutoRec, ItemKNN, MultDAE, Popularity, UAutoRec
from recsys.report.items import by_popularity, principal_plane, strata
from recsys.report.markup import Markup, tag
from recsys.report.users import by_activity
from recsys.splits import hold_out_ratings


def test_texts_and_attributes_are_escaped_once_and_markup_is_not():
    text = "<script>alert('1')</script> & \"more\""
    made = tag("p", text, tag("b", text), data_t=text, class_="x", id=None)
    read = ElementTree.fromstring(made)
    assert (read.text, read[0].text) == (text, text)
    assert read.attrib == {"data-t": text, "class": "x"}
    assert tag("ul", [Markup("<li/>"), None, 3], x=7) == '<ul x="7"><li/>3</ul>'
    assert tag("use", x=1) == '<use x="1"/>'


def test_characters_that_no_page_can_hold_are_replaced():
    made = tag("p", "a\x00b\x1b\ud800c\td")
    assert made == "<p>a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}?c\td</p>"
    assert made.encode("utf-8")


def test_strata_hold_a_fifth_of_the_interactions_each():
    popularity = np.array([1, 10, 2, 10, 0, 10, 3, 4, 10])
    np.testing.assert_array_equal(strata(popularity), [4, 0, 4, 1, 4, 2, 4, 4, 3])
    np.testing.assert_array_equal(strata(np.array([0, 100, 1])), [4, 2, 4])
    np.testing.assert_array_equal(strata(np.zeros(3, dtype=np.int64)), [4, 4, 4])


def test_shares_and_recall_by_popularity_by_hand():
    popularity = np.array([10, 10, 10, 10, 5, 5])
    per_item = pd.DataFrame(
        {"relevant": [4, 4, 0, 0, 1, 1], "recommended@2": [6, 2, 0, 0, 2, 0], "hits@2": [3, 1, 0, 0, 1, 0]}
    )
    found = by_popularity(popularity, per_item, 2)
    assert found["items"].tolist() == [1, 1, 1, 1, 2]
    np.testing.assert_allclose(found["training"], 0.2)
    np.testing.assert_allclose(found["held_out"], [0.4, 0.4, 0, 0, 0.2])
    np.testing.assert_allclose(found["recommended"], [0.6, 0.2, 0, 0, 0.2])
    np.testing.assert_allclose(found["recall"], [0.75, 0.25, np.nan, np.nan, 0.5])


def test_groups_of_activity_are_means_and_intervals_of_their_users():
    rng = np.random.default_rng(0)
    rows = [rng.choice(40, size=6 + user, replace=False) for user in range(30)]
    indptr = np.cumsum([0, *map(len, rows)])
    matrix = sp.csr_matrix((np.ones(indptr[-1]), np.concatenate(rows), indptr), shape=(30, 40))
    data = Interactions(matrix, IdMap(np.arange(30)), IdMap(np.arange(40)))
    part = hold_out_ratings(data, test=0.3).test
    evaluation = evaluate(Popularity().fit(data, show_progress=False), part, ["recall@5", "ndcg@5"])
    found = by_activity(evaluation, part, "recall@5", 500)
    assert len(found) == 4
    assert found["users"].sum() == evaluation.per_user["recall@5"].notna().sum()
    lengths = np.diff(part.context.indptr)
    low, high = map(int, str(found["group"][0]).removesuffix(" items").split("-"))
    first = evaluation.per_user["recall@5"][(lengths >= low) & (lengths <= high)].dropna()
    assert found["value"][0] == pytest.approx(first.mean())
    assert found["low"][0] < found["value"][0] < found["high"][0]


def test_the_plane_is_that_of_the_singular_values():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(60, 7)) * [5, 3, 1, 1, 1, 1, 1]).astype(np.float32)
    plane, shares = principal_plane(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(plane), np.abs(left[:, :2] * values[:2]), atol=1e-5)
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:2], rtol=1e-5)
    assert (plane[np.abs(plane).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("vectors", [np.ones((3, 1)), np.zeros((4, 3)), np.eye(2), np.ones((1, 5))])
def test_the_plane_of_almost_nothing_is_finite(vectors):
    plane, shares = principal_plane(vectors.astype(np.float32))
    assert plane.shape == (len(vectors), 2)
    assert np.isfinite(plane).all()
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize(
    "model",
    [
        ALS(factors=4, iterations=2),
        UAutoRec(hidden=5, epochs=1, unobserved_weight=0.1),
        IAutoRec(hidden=5, epochs=1, unobserved_weight=0.1),
        MultDAE(latent=5, epochs=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_similar_items_are_those_whose_vectors_have_the_largest_cosine(model):
    matrix = sp.random(60, 20, density=0.4, format="csr", random_state=0, dtype=np.float32)
    vectors = model.fit(matrix, show_progress=False).item_vectors()
    assert vectors.shape[0] == 20
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, scores = model.similar_items(3, N=20)
    np.testing.assert_allclose(scores, (unit @ unit[3])[ids], atol=1e-5)


@pytest.mark.parametrize("model", [EASE(), ItemKNN(), Popularity()], ids=lambda model: type(model).__name__)
def test_models_without_vectors_of_items_say_so(model):
    matrix = sp.random(60, 20, density=0.4, format="csr", random_state=0, dtype=np.float32)
    with pytest.raises(UnsupportedError, match="has no vectors of items"):
        model.fit(matrix, show_progress=False).item_vectors()


def test_metrics_share_their_draws_of_users():
    values = np.random.default_rng(0).random(80)
    frame = pd.DataFrame({"user_id": np.arange(80), "ndcg@5": values, "recall@5": 2 * values})
    summary = pd.DataFrame({"metric": ["ndcg@5", "recall@5"], "value": [values.mean(), 2 * values.mean()]})
    found = intervals(Evaluation(frame, summary), resamples=200).set_index("metric")
    np.testing.assert_allclose(found.loc["recall@5", ["low", "high"]], 2 * found.loc["ndcg@5", ["low", "high"]])
