"""Ranking metrics against hand-computed cases, Python loops and four peers."""

import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError, OutOfRangeError
from recsys.metrics import RANKING
from recsys.metrics.ranking import hits

ITEMS = {name: code for code, name in enumerate("abcdewxyz")}
CASES = {  # relevant items | list, each with a known answer at k = 3
    "u1": ("ab", "xabyz"),
    "u2": ("a", "xyzwa"),
    "u3": ("abcd", "axbyc"),
    "u4": ("", "abcde"),
    "u5": ("ab", "a"),
    "u6": ("ab", "axbyz"),
    "u7": ("ay", "xabyz"),
}
NAN = math.nan
AT_3 = {
    "ndcg": [0.6934, 0, 0.7039, NAN, 0.6131, 0.9197, 0.3869],
    "recall": [1, 0, 0.5, NAN, 0.5, 1, 0.5],
    "truncated_recall": [1, 0, 0.6667, NAN, 0.5, 1, 0.5],
    "precision": [0.6667, 0, 0.6667, NAN, 0.3333, 0.6667, 0.3333],
    "map": [0.5833, 0, 0.5556, NAN, 0.5, 0.8333, 0.25],
    "mrr": [0.5, 0, 1, NAN, 1, 1, 0.5],
    "hit_rate": [1, 0, 1, NAN, 1, 1, 1],
}


def csr(relevant, n_items):
    """Targets with a stored 0.0 for every relevant item: stored is what counts."""
    rows = np.repeat(np.arange(len(relevant)), [len(items) for items in relevant])
    cols = np.array([item for items in relevant for item in sorted(items)], dtype=np.int32)
    return sp.csr_matrix((np.zeros(len(cols), dtype=np.float32), (rows, cols)), shape=(len(relevant), n_items))


def padded(lists):
    ids = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=np.int32)
    for row, items in enumerate(lists):
        ids[row, : len(items)] = items
    return ids


def computed(name, lists, relevant, n_items, k):
    target = csr(relevant, n_items)
    return RANKING[name](hits(padded(lists), target), np.diff(target.indptr), k)


def brute(name, items, relevant, k):
    """One user's value, by the definition, as a loop."""
    size = len(relevant)
    if not size:
        return NAN
    found, first, gain, precisions = 0, 0.0, 0.0, 0.0
    for rank, item in enumerate(items[:k], start=1):
        if item in relevant:
            found += 1
            first = first or 1 / rank
            gain += 1 / math.log2(rank + 1)
            precisions += found / rank
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, size) + 1))
    return {
        "ndcg": gain / ideal,
        "recall": found / size,
        "truncated_recall": found / min(k, size),
        "precision": found / k,
        "map": precisions / min(k, size),
        "mrr": first,
        "hit_rate": float(found > 0),
    }[name]


@pytest.mark.parametrize("name", RANKING)
def test_known_answers(name):
    relevant = [{ITEMS[item] for item in case[0]} for case in CASES.values()]
    lists = [[ITEMS[item] for item in case[1]] for case in CASES.values()]
    np.testing.assert_allclose(computed(name, lists, relevant, len(ITEMS), 3), AT_3[name], atol=5e-5)


@st.composite
def worlds(draw):
    n_items = draw(st.integers(1, 12))
    n_users = draw(st.integers(0, 6))
    codes = range(n_items)
    lists = [draw(st.permutations(codes))[: draw(st.integers(0, n_items))] for _ in range(n_users)]
    relevant = [draw(st.sets(st.sampled_from(codes))) for _ in range(n_users)]
    return lists, relevant, n_items, draw(st.integers(1, 15))


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_every_metric_equals_a_loop(world):
    lists, relevant, n_items, k = world
    for name in RANKING:
        expected = [brute(name, items, wanted, k) for items, wanted in zip(lists, relevant, strict=True)]
        np.testing.assert_allclose(computed(name, lists, relevant, n_items, k), expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", RANKING)
def test_results_are_float64_and_leave_their_input_alone(name):
    found = np.array([[True, False], [False, False]])
    before = found.copy()
    values = RANKING[name](found, np.array([1, 0], dtype=np.int32), 2)
    assert values.dtype == np.float64
    assert np.isnan(values).tolist() == [False, True]
    assert (found == before).all()


def test_an_empty_slot_never_hits():
    # The key of (row 1, item -1) is the key of (row 0, last item), which is relevant here.
    target = csr([{0, 3}, {0, 3}], 4)
    assert hits(np.array([[-1, 3], [-1, -1]], dtype=np.int32), target).tolist() == [[False, True], [False, False]]


def test_hits_read_unsorted_targets():
    target = sp.csr_matrix((np.ones(3), np.array([4, 0, 2]), np.array([0, 3])), shape=(1, 5))
    assert hits(np.array([[0, 1, 2, 3, 4]]), target).tolist() == [[True, False, True, False, True]]
    assert target.indices.tolist() == [4, 0, 2]


def test_hits_refuse_what_is_no_list_of_recommendations():
    target = csr([{0}, {1}], 3)
    with pytest.raises(OutOfRangeError, match=r"0\.\.3"):
        hits(np.array([[0], [3]]), target)
    with pytest.raises(OutOfRangeError, match=r"-2\.\.0"):
        hits(np.array([[0], [-2]]), target)
    with pytest.raises(DataError, match="one row per target row"):
        hits(np.array([[0]]), target)
    with pytest.raises(DataError, match="one row per target row"):
        hits(np.array([0, 1]), target)
    with pytest.raises(DataError, match="more than once"):
        hits(np.array([[0, 0], [1, 2]]), target)


@pytest.fixture(scope="module")
def random_lists():
    rng = np.random.default_rng(4)
    n_users, n_items, length = 40, 30, 12
    lists = [rng.permutation(n_items)[:length].tolist() for _ in range(n_users)]
    relevant = [set(rng.choice(n_items, rng.integers(1, 20), replace=False).tolist()) for _ in range(n_users)]
    return lists, relevant, n_items


def test_agrees_with_pytrec_eval(random_lists):
    lists, relevant, n_items = random_lists
    import pytrec_eval

    # trec_eval sorts by score and breaks ties by document, so the ranks are what it is given.
    run = {str(u): {f"i{item}": float(-rank) for rank, item in enumerate(items)} for u, items in enumerate(lists)}
    truth = {str(u): {f"i{item}": 1 for item in items} for u, items in enumerate(relevant)}
    asked = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
    measured = pytrec_eval.RelevanceEvaluator(truth, {f"{peer}.5,10" for peer in asked.values()}).evaluate(run)
    for k in (5, 10):
        for name, peer in asked.items():
            expected = [measured[str(u)][f"{peer}_{k}"] for u in range(len(lists))]
            np.testing.assert_allclose(computed(name, lists, relevant, n_items, k), expected, atol=1e-9, err_msg=name)


def test_agrees_with_ir_measures(random_lists):
    lists, relevant, n_items = random_lists
    import ir_measures
    from ir_measures import AP, RR

    qrels = [ir_measures.Qrel(str(u), f"i{item}", 1) for u, items in enumerate(relevant) for item in items]
    run = [
        ir_measures.ScoredDoc(str(u), f"i{item}", float(-rank))
        for u, items in enumerate(lists)
        for rank, item in enumerate(items)
    ]
    measured = {
        (str(m.measure), int(m.query_id)): m.value for m in ir_measures.iter_calc([AP @ 10, RR @ 10], qrels, run)
    }
    sizes = np.array([len(items) for items in relevant])
    for name, peer in (("mrr", "RR@10"), ("map", "AP@10")):
        expected = np.array([measured[peer, u] for u in range(len(lists))])
        if name == "map":  # trec_eval divides by |T|
            expected *= sizes / np.minimum(sizes, 10)
        np.testing.assert_allclose(computed(name, lists, relevant, n_items, 10), expected, atol=1e-9, err_msg=name)


def test_agrees_with_sklearn_on_complete_lists():
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(5)
    lists = [rng.permutation(20).tolist() for _ in range(15)]
    relevant = [set(rng.choice(20, rng.integers(1, 15), replace=False).tolist()) for _ in range(15)]
    for items, wanted, value in zip(lists, relevant, computed("ndcg", lists, relevant, 20, 7), strict=True):
        truth = np.array([[float(item in wanted) for item in range(20)]])
        scores = np.empty((1, 20))
        scores[0, items] = -np.arange(20.0)
        assert value == pytest.approx(ndcg_score(truth, scores, k=7, ignore_ties=True), abs=1e-12)


class Fixed:
    """Recommends fixed lists, in the way implicit's evaluation reads them."""

    def __init__(self, ids):
        self.ids = ids

    def recommend(self, userid, user_items, N=10, filter_already_liked_items=True, recalculate_user=False):
        ids = self.ids[np.asarray(userid)][:, :N]
        out = np.full((len(ids), N), -1, dtype=np.int32)
        out[:, : ids.shape[1]] = ids
        return out, np.zeros_like(out, dtype=np.float32)


def test_agrees_with_implicit(random_lists):
    lists, relevant, n_items = random_lists
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from implicit.evaluation import ranking_metrics_at_k

    relevant = [wanted if user % 7 else set() for user, wanted in enumerate(relevant)]
    lists = [items if user % 5 else items[:3] for user, items in enumerate(lists)]
    target = csr(relevant, n_items)
    target.data[:] = 1
    train = sp.csr_matrix(target.shape, dtype=np.float32)
    theirs = ranking_metrics_at_k(Fixed(padded(lists)), train, target, K=10, show_progress=False)
    for name in ("ndcg", "map"):
        assert np.nanmean(computed(name, lists, relevant, n_items, 10)) == pytest.approx(theirs[name], abs=1e-6)
    # Its "precision" is a truncated recall averaged over hits, not users: one user at a time they are the same.
    for user in (1, 2, 5, 8):
        model, row = Fixed(padded([lists[user]])), target[user]
        theirs = ranking_metrics_at_k(model, train[user], row, K=10, show_progress=False)
        ours = computed("truncated_recall", [lists[user]], [relevant[user]], n_items, 10)[0]
        assert ours == pytest.approx(theirs["precision"], abs=1e-6)
