"""LensKit's scorers here and models of this package there: both doors give the same lists and the same figures."""

import warnings

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys.adapters import from_lenskit, to_lenskit

pytest.importorskip("lenskit", reason="LensKit is not installed; make test-neighbors installs it")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs are their business
    from lenskit import batch
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import ItemList, ItemListCollection, RecQuery, from_interactions_df
    from lenskit.knn import EASEScorer
    from lenskit.metrics import NDCG, Hit, Recall, RecipRank, RunAnalysis
    from lenskit.metrics.ranking import LogRankWeight
    from lenskit.pipeline import Pipeline, topn_pipeline

pytestmark = pytest.mark.filterwarnings("default")


def trained(scorer, interactions, n=10):
    pipeline = topn_pipeline(scorer, n=n)
    pipeline.train(from_interactions_df(interactions.to_frame().drop(columns="timestamp")))
    return pipeline


def lists_of(table):
    return {user: rows.sort_values("rank").item_id.tolist() for user, rows in table.groupby("user_id")}


def known_users(split):
    return split.train.users.ids()[np.diff(split.train.matrix.indptr) > 0].tolist()


def test_a_model_of_this_package_makes_the_same_lists_there(split):
    pipeline, users = trained(to_lenskit(recsys.EASE(regularization=20.0)), split.train), known_users(split)
    found = batch.recommend(pipeline, users, n_jobs=1).to_df()
    model = recsys.EASE(regularization=20.0).fit(split.train)
    expected = recsys.recommend_frame(model, split.train, users=users, n=10)
    assert lists_of(found) == lists_of(expected)
    scores = found.merge(expected, on=["user_id", "item_id"])
    np.testing.assert_allclose(scores.score_x, scores.score_y, rtol=1e-4)
    assert lists_of(found) == lists_of(
        batch.recommend(trained(EASEScorer(regularization=20.0), split.train), users, n_jobs=1).to_df()
    )


def test_the_configuration_of_a_pipeline_makes_the_model_again(split):
    pipeline = trained(to_lenskit(recsys.ALS(factors=8, iterations=3)), split.train)
    again = Pipeline.from_config(pipeline.config)
    again.train(from_interactions_df(split.train.to_frame().drop(columns="timestamp")))
    users = known_users(split)[:20]
    found, expected = (batch.recommend(one, users, n_jobs=1).to_df() for one in (again, pipeline))
    pd.testing.assert_frame_equal(found, expected)
    before = pipeline.node("scorer").component.fitted_
    assert before.get_params()["factors"] == 8


def test_ratings_are_read_on_request_and_unknown_items_have_no_score():
    ratings = recsys.datasets.synthetic(users=200, items=60, interactions=5_000, seed=4)
    there = trained(to_lenskit(recsys.UAutoRec(hidden=8, epochs=2), use_ratings=True), ratings)
    model = recsys.UAutoRec(hidden=8, epochs=2).fit(ratings, show_progress=False)
    user = ratings.users.ids()[7]
    history = ItemList(item_ids=ratings.items.ids(ratings.matrix[7].indices), rating=ratings.matrix[7].data)
    asked = [*ratings.items.ids()[:3].tolist(), 10**6]
    found = there.run("scorer", query=RecQuery(user_id=user, history_items=history), items=ItemList(item_ids=asked))
    expected = model.predict(7, ratings.matrix[7], np.arange(3))
    np.testing.assert_allclose(found.scores()[:3], expected, rtol=1e-5)
    assert np.isnan(found.scores()[3])
    assert found.ids().tolist() == asked


def test_a_stranger_gets_the_most_popular_items(split):
    there = trained(to_lenskit(recsys.ItemKNN()), split.train, n=5)
    found = there.run("ranker", query=10**6)
    popular = recsys.Popularity().fit(split.train).recommend(0, split.train.matrix[0], 5, False)[0]
    assert found.ids().tolist() == split.train.items.ids(popular).tolist()


def test_their_metrics_of_our_lists_are_our_figures(split):
    pipeline = trained(to_lenskit(recsys.EASE(regularization=20.0)), split.train)
    held_out = split.test.target.tocoo()
    truth = pd.DataFrame(
        {"user_id": split.test.users.ids(held_out.row), "item_id": split.train.items.ids(held_out.col)}
    )
    truth = ItemListCollection.from_df(truth, ["user_id"])
    analysis = RunAnalysis()
    analysis.add_metric(NDCG(10, weight=LogRankWeight(offset=1)))
    for metric in (Recall(10), RecipRank(10), Hit(10)):
        analysis.add_metric(metric)
    users = [key.user_id for key in truth.keys()]  # noqa: SIM118  # it is no mapping
    found = analysis.measure(batch.recommend(pipeline, users, n_jobs=1), truth).list_summary()["mean"]
    names = {
        "NDCG@10": "ndcg@10",
        "Recall@10": "truncated_recall@10",
        "RecipRank@10": "mrr@10",
        "Hit@10": "hit_rate@10",
    }
    model = recsys.EASE(regularization=20.0).fit(split.train)
    expected = recsys.evaluate(model, split.test, list(names.values()))
    assert len(found) == len(names)
    for theirs, ours in names.items():
        assert found[theirs] == pytest.approx(expected[ours], abs=1e-9), ours


def test_their_scorer_gives_their_lists_here(split):
    here, users = from_lenskit(EASEScorer(regularization=20.0)).fit(split.train), known_users(split)
    found = recsys.recommend_frame(here, split.train, users=users, n=10)
    expected = batch.recommend(trained(EASEScorer(regularization=20.0), split.train), users, n_jobs=1).to_df()
    assert lists_of(found) == lists_of(expected)
    ours = recsys.EASE(regularization=20.0).fit(split.train)
    names = ["ndcg@10", "recall@20"]
    assert recsys.evaluate(here, split.test, names).values == pytest.approx(
        recsys.evaluate(ours, split.test, names).values, abs=1e-9
    )


def test_new_users_are_served_from_their_history_here(data):
    whole = recsys.splits.hold_out_users(data, n_users=0.2)
    here = from_lenskit(topn_pipeline(EASEScorer(regularization=20.0))).fit(whole.train)
    ours = recsys.EASE(regularization=20.0).fit(whole.train)
    names = ["ndcg@10", "recall@20"]
    assert recsys.evaluate(here, whole.test, names).values == pytest.approx(
        recsys.evaluate(ours, whole.test, names).values, abs=1e-9
    )
    factors = from_lenskit(ImplicitMFScorer(embedding_size=8)).fit(whole.train)
    assert recsys.evaluate(factors, whole.test, "ndcg@10")["ndcg@10"] > 0.1
    nothing = data.matrix[:1] * 0
    nothing.eliminate_zeros()
    np.testing.assert_array_equal(here.recommend([-1], nothing)[0], ours.recommend([-1], nothing)[0])


def test_it_cannot_be_saved_here(split, tmp_path):
    here = from_lenskit(EASEScorer()).fit(split.train)
    with pytest.raises(recsys.errors.UnsupportedError, match="cannot be saved: what EASEScorer learned"):
        here.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
