"""Ranking metrics against hand-computed cases, Python loops and four peers."""

import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError, OutOfRangeError
from recsys.metrics import METRICS
from recsys.metrics.lists import Lists

RANKING = {name: metric.function for name, metric in METRICS.items() if metric.needs == ("hits", "n_relevant")}
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


def hits(ids, target):
    return Lists(None, ids, target, None).hits


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


# Properties


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_every_metric_keeps_its_range_and_rises_where_it_says_so(world):
    lists, relevant, n_items, k = world
    sizes = np.array([len(wanted) for wanted in relevant], dtype=np.float64)
    highest = {"recall": np.minimum(k, sizes) / np.maximum(sizes, 1), "precision": np.minimum(k, sizes) / k}
    for name, metric in RANKING.items():
        now, next_ = (computed(name, lists, relevant, n_items, cut) for cut in (k, k + 1))
        has = sizes > 0
        assert (now[has] >= 0).all(), name
        assert (now[has] <= highest.get(name, np.ones(len(sizes)))[has] + 1e-12).all(), name
        assert np.isnan(now[~has]).all(), name
        if "never falls with k" in metric.__doc__:
            assert (next_[has] >= now[has]).all(), name


@pytest.mark.parametrize("name", [name for name, metric in RANKING.items() if "rises or falls" in metric.__doc__])
def test_what_is_said_to_fall_with_k_does(name):
    # A hit at rank 1 and a second relevant item that no list finds.
    values = [computed(name, [[0, 2, 3]], [{0, 1}], 4, k)[0] for k in (1, 2)]
    assert values[1] < values[0]


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_users_may_come_in_any_order_and_items_under_any_number(world, random):
    lists, relevant, n_items, k = world
    users = random.sample(range(len(lists)), len(lists))
    number = random.sample(range(n_items), n_items)
    moved = [[number[item] for item in lists[user]] for user in users]
    wanted = [{number[item] for item in relevant[user]} for user in users]
    for name in RANKING:
        before = computed(name, lists, relevant, n_items, k)
        # A matrix product may sum a row in another order elsewhere in the matrix: the last bit is free.
        np.testing.assert_allclose(computed(name, moved, wanted, n_items, k), before[users], rtol=1e-14, err_msg=name)


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_what_the_metrics_say_of_each_other(world):
    lists, relevant, n_items, k = world
    found = {name: np.nan_to_num(computed(name, lists, relevant, n_items, k)) for name in RANKING}
    sizes = np.array([len(wanted) for wanted in relevant], dtype=np.int64)
    np.testing.assert_allclose(found["precision"] * k, found["recall"] * sizes, atol=1e-12)
    np.testing.assert_allclose(
        found["truncated_recall"], np.maximum(found["recall"], np.where(sizes > 0, found["precision"], 0)), atol=1e-12
    )
    assert (found["hit_rate"] == (found["mrr"] > 0)).all()
    assert (found["map"] <= found["truncated_recall"] + 1e-12).all()
    perfect = [sorted(wanted) + sorted(set(range(n_items)) - wanted) for wanted in relevant]
    for name in ("ndcg", "truncated_recall", "map", "mrr", "hit_rate"):
        best = computed(name, perfect, relevant, n_items, k)
        np.testing.assert_allclose(best[sizes > 0], 1, rtol=1e-12, err_msg=name)


# Where others count differently


def test_recpacks_calibrated_recall_is_the_truncated_one(random_lists):
    lists, relevant, n_items = random_lists
    for k in (3, 10):
        # recpack's CalibratedRecallK: the hits of a user over min(K, number of their relevant items).
        theirs = [
            sum(item in wanted for item in items[:k]) / min(k, len(wanted))
            for items, wanted in zip(lists, relevant, strict=True)
        ]
        np.testing.assert_allclose(computed("truncated_recall", lists, relevant, n_items, k), theirs, rtol=1e-12)


def test_trec_eval_divides_average_precision_by_all_relevant_items():
    import ir_measures
    from ir_measures import AP

    qrels = [ir_measures.Qrel("u", item, 1) for item in "abcd"]
    run = [ir_measures.ScoredDoc("u", item, -float(rank)) for rank, item in enumerate("axbyc")]
    theirs = ir_measures.calc_aggregate([AP @ 3], qrels, run)[AP @ 3]
    ours = computed("map", [[0, 4, 1, 5, 2]], [{0, 1, 2, 3}], 6, 3)[0]
    assert ours == pytest.approx((1 + 2 / 3) / 3)
    assert theirs == pytest.approx((1 + 2 / 3) / 4)


def test_lenskits_first_two_ranks_weigh_the_same():
    # Not installed: NDCG of lenskit by its definition, the weight 1 / max(log2(rank), 1) in list and ideal.
    def theirs(ranks, n_relevant, k):
        weight = [1 / max(math.log2(rank), 1) for rank in range(1, k + 1)]
        return sum(weight[rank - 1] for rank in ranks) / sum(weight[: min(n_relevant, k)])

    assert theirs([1], 1, 3) == theirs([2], 1, 3) == 1
    assert theirs([1, 3], 2, 3) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    first, second, both = computed("ndcg", [[0, 1, 2], [1, 0, 2], [0, 1, 2]], [{0}, {0}, {0, 2}], 3, 3)
    assert first == 1
    assert second == pytest.approx(1 / math.log2(3))
    assert both == pytest.approx((1 + 1 / 2) / (1 + 1 / math.log2(3)))
    assert both > theirs([1, 3], 2, 3)


def test_torchmetrics_divides_average_precision_by_the_hits_in_the_list():
    # Not installed: RetrievalMAP(top_k=3) of torchmetrics by its definition, the mean of the precisions at hits.
    def theirs(ranks):
        return sum((place + 1) / rank for place, rank in enumerate(ranks)) / len(ranks)

    assert theirs([1]) == 1
    assert theirs([1, 3]) == pytest.approx((1 + 2 / 3) / 2)
    ours = computed("map", [[0, 4, 5], [0, 4, 1]], [{0, 1, 2, 3}, {0, 1, 2, 3}], 6, 3)
    assert ours.tolist() == pytest.approx([1 / 3, (1 + 2 / 3) / 3])


def test_trec_eval_sorts_ties_by_document_and_ours_reads_ranks():
    import pytrec_eval

    tied = {"u": dict.fromkeys(["i1", "i2", "i3"], 1.0)}
    measured = pytrec_eval.RelevanceEvaluator({"u": {"i1": 1}}, {"ndcg_cut.1"}).evaluate(tied)
    assert measured["u"]["ndcg_cut_1"] == 0  # the last document comes first
    assert computed("ndcg", [[1, 2, 3]], [{1}], 4, 1)[0] == 1


def test_ir_measures_count_users_without_relevant_items_as_0():
    import ir_measures
    from ir_measures import R

    qrels = [ir_measures.Qrel("u", "a", 1), ir_measures.Qrel("v", "a", 0)]
    run = [ir_measures.ScoredDoc(user, "a", 1.0) for user in "uv"]
    assert ir_measures.calc_aggregate([R @ 1], qrels, run)[R @ 1] == 0.5
    ours = computed("recall", [[0], [0]], [{0}, set()], 1, 1)
    assert np.isnan(ours).tolist() == [False, True]
    assert np.nanmean(ours) == 1


def test_implicits_precision_is_a_truncated_recall_over_hits_and_not_over_users():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from implicit.evaluation import ranking_metrics_at_k

    # One of one found, and one of three: 2 hits of 4 possible, where the mean over users is (1 + 1/3) / 2.
    lists, relevant = [[0, 1, 2], [3, 4, 5]], [{0}, {3, 6, 7}]
    target = csr(relevant, 8)
    target.data[:] = 1
    train = sp.csr_matrix(target.shape, dtype=np.float32)
    theirs = ranking_metrics_at_k(Fixed(padded(lists)), train, target, K=3, show_progress=False)
    assert theirs["precision"] == pytest.approx(2 / 4)
    assert computed("truncated_recall", lists, relevant, 8, 3).mean() == pytest.approx(2 / 3)
    assert computed("precision", lists, relevant, 8, 3).mean() == pytest.approx(1 / 3)


def test_sklearn_scores_complete_lists_and_shares_gains_between_ties():
    from sklearn.metrics import ndcg_score

    # A list that ends before the second relevant item: sklearn must be given a score for it, which puts it at rank 2.
    assert ndcg_score([[1, 1]], [[2.0, 1.0]], k=2) == 1
    assert computed("ndcg", [[0]], [{0, 1}], 2, 2)[0] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    tied = ndcg_score([[1, 0]], [[1.0, 1.0]], k=2)
    assert tied == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert computed("ndcg", [[0, 1]], [{0}], 2, 2)[0] == 1


def test_agrees_with_ranx(random_lists):
    # Not in the dev extra: numba and what comes with it are ten times the size of all other test dependencies.
    ranx = pytest.importorskip("ranx", reason="ranx is not installed; it brings numba, some 400 MB")
    lists, relevant, n_items = random_lists
    truth = {str(u): {f"i{item}": 1 for item in wanted} for u, wanted in enumerate(relevant)}
    run = {str(u): {f"i{item}": float(99 - rank) for rank, item in enumerate(items)} for u, items in enumerate(lists)}
    names = ("ndcg", "recall", "precision", "mrr", "hit_rate", "map")
    scored = ranx.Run(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx.evaluate(ranx.Qrels(truth), scored, [f"{name}@10" for name in names])
    sizes = np.array([len(wanted) for wanted in relevant])
    for name in names:
        theirs = [scored.scores[f"{name}@10"][str(u)] for u in range(len(lists))]
        ours = computed(name, lists, relevant, n_items, 10)
        if name == "map":  # divided by |T| there
            ours = ours * np.minimum(sizes, 10) / sizes
        np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=name)
