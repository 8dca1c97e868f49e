"""RecTools' models here and models of this package there: both doors give the same lists and the same figures."""

import numpy as np
import pandas as pd
import pytest
from implicit.als import AlternatingLeastSquares

import recsys
from recsys.adapters import from_rectools, to_rectools

pytest.importorskip("rectools", reason="RecTools is not installed; make test-neighbors installs it")
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, HitRate, Precision, Recall
from rectools.model_selection import RandomSplitter, cross_validate
from rectools.models import EASEModel, ImplicitALSWrapperModel, PopularModel, model_from_config

pytestmark = pytest.mark.filterwarnings("default")  # theirs are their business


def dataset_of(interactions):
    frame = interactions.to_frame().rename(columns={"rating": Columns.Weight, "timestamp": Columns.Datetime})
    return Dataset.construct(frame.assign(**{Columns.Datetime: pd.to_datetime(frame[Columns.Datetime], unit="s")}))


class Straight(EASEModel):
    """RecTools' EASE with the weights of the paper. Theirs scores a history x by x Bᵀ, which is not x B."""

    def _fit(self, dataset):
        super()._fit(dataset)
        self.weight = np.ascontiguousarray(self.weight.T)


def lists_of(table):
    return {user: rows.sort_values("rank").item_id.tolist() for user, rows in table.groupby("user_id")}


def test_a_model_of_this_package_makes_the_same_lists_there(data):
    dataset, users = dataset_of(data), [5, 3, 17, 40]
    there = to_rectools(recsys.EASE(regularization=20.0)).fit(dataset)
    model = recsys.EASE(regularization=20.0).fit(data)
    found = there.recommend(users, dataset, k=7, filter_viewed=True)
    expected = recsys.recommend_frame(model, data, users=users, n=7)
    assert lists_of(found) == lists_of(expected)
    scores = found.merge(expected, on=["user_id", "item_id"])
    np.testing.assert_allclose(scores.score_x, scores.score_y, rtol=1e-4)
    some = data.items.ids()[10:50].tolist()
    found = there.recommend(users, dataset, k=7, filter_viewed=False, items_to_recommend=some)
    expected = recsys.recommend_frame(
        model, data, users=users, n=7, exclude_seen=False, rules=recsys.Rules(allow=tuple(some))
    )
    assert lists_of(found) == lists_of(expected)
    assert found["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7] * 4


def test_the_same_equation_gives_the_same_lists_in_both_libraries(data):
    dataset, users = dataset_of(data), data.users.ids().tolist()
    ours = to_rectools(recsys.EASE(regularization=20.0)).fit(dataset)
    theirs = Straight(regularization=20.0).fit(dataset)
    asked = {"users": users, "dataset": dataset, "k": 10, "filter_viewed": True}
    assert lists_of(ours.recommend(**asked)) == lists_of(theirs.recommend(**asked))


def test_a_user_whom_the_data_does_not_hold_gets_the_most_popular_items(data):
    dataset = dataset_of(data)
    there = to_rectools(recsys.ItemKNN()).fit(dataset)
    found = there.recommend([10**6, 5], dataset, k=5, filter_viewed=True)
    ids, _ = recsys.Popularity().fit(data).recommend(0, data.matrix[0], 5, False)
    assert lists_of(found)[10**6] == data.items.ids(ids).tolist()


def test_other_data_than_that_of_training_are_read_by_their_ids(data):
    there = to_rectools(recsys.EASE(regularization=20.0)).fit(dataset_of(data))
    users = data.users.ids()[[9, 2, 30]].tolist()
    some = data.take_users([9, 2, 30])  # other numbers of users and of items
    other = dataset_of(some)
    found = there.recommend(users, other, k=5, filter_viewed=True)
    allow = tuple(other.item_id_map.external_ids.tolist())
    expected = recsys.recommend_frame(there.model, some, users=users, n=5, rules=recsys.Rules(allow=allow))
    assert lists_of(found) == lists_of(expected)


def test_similar_items_and_the_configuration_go_along(data):
    dataset = dataset_of(data)
    there = to_rectools(recsys.ItemKNN(neighbors=30)).fit(dataset)
    found = there.recommend_to_items([7, 3], dataset, k=4)
    expected = recsys.similar_items_frame(there.model, [7, 3], n=4)
    assert found.groupby("target_item_id").item_id.apply(list).to_dict() == (
        expected.groupby("item_id").similar_item_id.apply(list).to_dict()
    )
    again = model_from_config(there.get_config(simple_types=True))
    assert again.model.get_params() == there.model.get_params()


METRICS = {
    "ndcg@10": NDCG(k=10, divide_by_achievable=True),
    "recall@10": Recall(k=10),
    "precision@10": Precision(k=10),
    "mrr@10": MRR(k=10),
    "hit_rate@10": HitRate(k=10),
}
"""Where the definitions agree. RecTools' MAP divides by all relevant items, `map@k` by at most k of them."""


def test_their_cross_validation_gives_our_figures(data):
    models = {"ours": to_rectools(recsys.EASE(regularization=20.0)), "theirs": Straight(regularization=20.0)}
    splitter = RandomSplitter(test_fold_frac=0.2, random_state=1, n_splits=2, filter_cold_users=True)
    dataset = dataset_of(data)
    found = cross_validate(dataset, splitter, METRICS, models, k=10, filter_viewed=True)
    table = pd.DataFrame(found["metrics"]).set_index(["model", "i_split"])
    pd.testing.assert_frame_equal(table.loc["ours"], table.loc["theirs"])
    for fold, (train, test, _) in enumerate(splitter.split(dataset.interactions)):
        split = split_of(data, dataset, train, test)
        result = recsys.evaluate(recsys.EASE(regularization=20.0).fit(split.train), split.test, list(METRICS))
        for name in METRICS:
            assert result[name] == pytest.approx(table.loc[("ours", fold), name], abs=1e-9), name


def split_of(data, dataset, train, test):
    """Return the split of this package that holds what RecTools' fold does."""

    def of(rows):
        entries = dataset.interactions.df.iloc[rows]
        names = {"user_id": dataset.user_id_map, "item_id": dataset.item_id_map}
        return pd.DataFrame({name: ids.convert_to_external(entries[name]) for name, ids in names.items()})

    marks = of(test).assign(test=True)
    marked = data.to_frame().merge(marks, how="left", on=["user_id", "item_id"]).test.notna().to_numpy()
    assert marked.sum() == len(test)
    return recsys.splits.parts.by_entries(data, None, marked)


def test_their_model_gives_their_lists_here(data, split):
    dataset = dataset_of(split.train)
    theirs = Straight(regularization=20.0).fit(dataset)
    users = split.train.users.ids()[np.diff(split.train.matrix.indptr) > 0].tolist()
    here = from_rectools(Straight(regularization=20.0)).fit(split.train)
    found = recsys.recommend_frame(here, split.train, users=users, n=10)
    assert lists_of(found) == lists_of(theirs.recommend(users, dataset, k=10, filter_viewed=True))
    ours = recsys.EASE(regularization=20.0).fit(split.train)
    of_theirs, of_ours = (recsys.evaluate(model, split.test, list(METRICS)) for model in (here, ours))
    assert of_theirs.values == pytest.approx(of_ours.values, abs=1e-9)
    assert "theirs" in str(recsys.compare({"theirs": of_theirs, "ours": of_ours}, "ndcg@10"))


def test_a_history_is_an_argument_here_too(data):
    whole = recsys.splits.hold_out_users(data, n_users=0.2)
    here = from_rectools(Straight(regularization=20.0)).fit(whole.train)
    ours = recsys.EASE(regularization=20.0).fit(whole.train)
    assert (
        here.recommend(3, whole.test.context[:1], 5)[0].tolist()
        == ours.recommend(-1, whole.test.context[0], 5)[0].tolist()
    )
    twice = np.array([3, 3, 3])  # one user by three histories
    np.testing.assert_array_equal(
        here.recommend(twice, whole.test.context[:3])[0], ours.recommend(twice, whole.test.context[:3])[0]
    )
    assert recsys.evaluate(here, whole.test, "ndcg@10").values == pytest.approx(
        recsys.evaluate(ours, whole.test, "ndcg@10").values, abs=1e-9
    )
    nothing = data.matrix[:1] * 0
    nothing.eliminate_zeros()
    np.testing.assert_array_equal(here.recommend([-1], nothing)[0], ours.recommend([-1], nothing)[0])


def test_vectors_of_training_users_serve_these_alone(data, split):
    als = AlternatingLeastSquares(factors=8, iterations=5, random_state=1, num_threads=1)
    here = from_rectools(ImplicitALSWrapperModel(als)).fit(split.train)
    users, items = here.model.get_vectors()
    known = np.flatnonzero(np.diff(split.train.matrix.indptr))
    scores = np.full((len(known), 90), -np.inf, dtype=np.float32)
    scores[:, here.known_items_] = users @ items.T
    scores[split.train.matrix[known].nonzero()] = -np.inf
    found, values = here.recommend(known, split.train.matrix[known], 10)
    np.testing.assert_array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(values, np.take_along_axis(scores, found, 1), rtol=1e-4)
    assert recsys.evaluate(here, split.test, "ndcg@10")["ndcg@10"] > 0.05
    with pytest.raises(recsys.errors.UnsupportedError, match="ImplicitALSWrapperModel of RecTools knows the users"):
        here.recommend([-1], data.matrix[0])


def sasrec():
    """Return what stands for a transformer of RecTools, which needs PyTorch Lightning."""
    return type("SASRecModel", (), {"__module__": "rectools.models.nn.transformers.sasrec"})()


def test_what_cannot_be_is_refused(data, tmp_path):
    here = from_rectools(PopularModel()).fit(data)
    with pytest.raises(recsys.errors.UnsupportedError, match="cannot be saved: what PopularModel learned"):
        here.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(recsys.errors.UnsupportedError, match="SASRecModel reads the order of a history"):
        from_rectools(sasrec()).fit(data)
