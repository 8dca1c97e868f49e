"""Popularity-stratified recall and serendipity, against loops."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.metrics import Catalog, Lists, ranking
from tests.metrics.test_ranking import csr, padded


@st.composite
def worlds(draw):
    n_items, n_users = draw(st.integers(1, 10)), draw(st.integers(0, 5))
    codes = range(n_items)
    known, relevant, lists = [], [], []
    for _ in range(n_users):
        mine = draw(st.sets(st.sampled_from(codes)))
        rest = [item for item in draw(st.permutations(codes)) if item not in mine]
        known.append(mine)
        relevant.append(set(draw(st.lists(st.sampled_from(rest), unique=True))) if rest else set())
        lists.append(rest[: draw(st.integers(0, len(rest)))])
    popularity = np.array(draw(st.lists(st.integers(0, 6), min_size=n_items, max_size=n_items)))
    return lists, relevant, known, popularity, draw(st.integers(1, 12))


def popular_list(popularity, known, k):
    unknown = [item for item in range(len(popularity)) if item not in known]
    return sorted(unknown, key=lambda item: (-popularity[item], item))[:k]


def catalog(popularity):
    """Users of whom `popularity[i]` have item i."""
    return Catalog(sp.csr_matrix(np.arange(max(popularity, default=0))[:, None] < popularity))


def stratified_recall(found, k):
    return ranking.stratified_recall(found.hits, found.ids, found.relevant, found.catalog.popularity_weights, k)


def measured(world, k=None):
    lists, relevant, known, popularity, cut = world
    k = k or cut
    found = Lists(catalog(popularity), padded(lists), csr(relevant, len(popularity)), csr(known, len(popularity)))
    return (
        stratified_recall(found, k),
        ranking.serendipity(found.hits, found.popular_places, found.n_relevant, k),
        found.hits,
        found.n_relevant,
    )


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_both_equal_loops(world):
    lists, relevant, known, popularity, k = world
    recall, serendipity, hits, sizes = measured(world)
    for user, (items, wanted) in enumerate(zip(lists, relevant, strict=True)):
        if not wanted:
            assert np.isnan([recall[user], serendipity[user]]).all()
            continue
        weight = {item: max(popularity[item], 1) ** -0.5 for item in wanted}
        found = [item for item in items[:k] if item in wanted]
        assert recall[user] == pytest.approx(sum(weight[i] for i in found) / sum(weight.values()), rel=1e-12)
        expected = set(popular_list(popularity, known[user], k))
        assert serendipity[user] == pytest.approx(len(set(found) - expected) / k)
    has = sizes > 0
    assert ((recall[has] >= 0) & (recall[has] <= 1)).all()
    assert (measured(world, k + 1)[0][has] >= recall[has] - 1e-12).all()
    assert (serendipity[has] <= ranking.precision(hits, sizes, k)[has]).all()


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_with_equal_popularities_it_is_recall_and_a_popular_list_has_no_serendipity(world):
    lists, relevant, known, popularity, k = world
    level = np.full_like(popularity, 4)
    recall, _, hits, sizes = measured((lists, relevant, known, level, k))
    np.testing.assert_allclose(recall, ranking.recall(hits, sizes, k), rtol=1e-12)
    popular = [popular_list(popularity, mine, k) for mine in known]
    assert not np.nan_to_num(measured((popular, relevant, known, popularity, k))[1]).any()


def test_a_rare_hit_weighs_more():
    popularity = np.array([100, 100, 4])
    ids, target = np.array([[0], [2]]), csr([{0, 2}, {0, 2}], 3)
    values = stratified_recall(Lists(catalog(popularity), ids, target, None), 1)
    np.testing.assert_allclose(values, [0.1 / 0.6, 0.5 / 0.6])


def test_the_popular_list_is_that_of_the_model_of_that_name():
    from recsys.models import Popularity

    rng = np.random.default_rng(0)
    train = sp.csr_matrix((rng.random((60, 25)) < rng.random(25) ** 2).astype(np.float32))
    ids, _ = Popularity().fit(train, show_progress=False).recommend(np.arange(60), train, N=6)
    places = Lists(Catalog(train), ids, train, train).popular_places
    assert (places == np.where(ids >= 0, np.arange(6), places)).all()
