"""Evaluation of a model on a part of a split."""

import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation import DEFAULT, Evaluation, Validation, along_k, evaluate, formatted, table
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.metrics import METRICS, parse
from recsys.splits import Part, Split

LOWEST = -np.finfo(np.float32).max


class Scores:
    """Ranks items by fixed scores, the user's history masked; rates a pair by user row plus item."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=np.float32)
        self.calls = []

    def recommend(self, userid, user_items, N=10, filter_already_liked_items=True, recalculate_user=False):
        assert filter_already_liked_items
        assert user_items.shape == (len(userid), len(self.scores))
        self.calls.append((np.asarray(userid).tolist(), user_items.indices.tolist(), N, recalculate_user))
        scores = np.tile(self.scores, (len(userid), 1))
        scores[user_items.nonzero()] = LOWEST
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :N].astype(np.int32)
        top = np.take_along_axis(scores, ids, axis=1)
        ids[top == LOWEST] = -1
        return ids, top


class Ratings(Scores):
    def predict_pairs(self, userid, user_items, rows, items):
        return (np.diff(user_items.indptr)[rows] + items).astype(np.float32)


def dense(rows):
    """A csr from nested lists where None is unstored and 0.0 is stored."""
    cells = [(r, c, value) for r, row in enumerate(rows) for c, value in enumerate(row) if value is not None]
    r, c, values = zip(*cells, strict=True) if cells else ((), (), ())
    return sp.csr_matrix((np.array(values, dtype=np.float32), (r, c)), shape=(len(rows), len(rows[0])))


def part_of(context, target, user_index=None):
    context, target = dense(context), dense(target)
    n = context.shape[0]
    index = np.arange(n) if user_index is None else user_index
    return Part(context, target, IdMap([f"u{row}" for row in range(n)]), np.array(index, dtype=np.int32))


_ = None
SMALL = part_of(
    #  0  1  2  3  4
    [[1, _, _, _, _], [_, 1, _, _, _], [1, 1, _, _, _], [_, _, _, _, _]],
    [[_, 5, _, 2, _], [_, _, _, _, 0], [_, _, _, _, _], [_, _, 4, _, 3]],
)
MODEL = Scores([5, 4, 3, 2, 1])
# The lists at N = 5: 1 2 3 4 -, 0 2 3 4 -, (no target), 0 1 2 3 4.


def test_a_small_part_by_hand():
    result = evaluate(MODEL, SMALL, ["ndcg@2", "recall@3", "mrr@5", "hit_rate@1"])
    ideal = 1 + 1 / math.log2(3)
    expected = {
        "user_id": ["u0", "u1", "u2", "u3"],
        "ndcg@2": [1 / ideal, 0, np.nan, 0],
        "recall@3": [1, 0, np.nan, 0.5],
        "mrr@5": [1, 1 / 4, np.nan, 1 / 3],
        "hit_rate@1": [1, 0, np.nan, 0],
    }
    pd.testing.assert_frame_equal(result.per_user, pd.DataFrame(expected), check_dtype=False)
    assert result["recall@3"] == 0.5
    assert result.values == dict(zip(result.summary["metric"], result.summary["value"], strict=True))
    assert list(result.values) == ["ndcg@2", "recall@3", "mrr@5", "hit_rate@1"]


def test_the_standard_error_is_that_of_a_mean_over_users_with_relevant_items():
    line = evaluate(MODEL, SMALL, "mrr@5").summary.iloc[0]
    values = np.array([1, 1 / 4, 1 / 3])
    assert line["n"] == 3
    assert line["value"] == pytest.approx(values.mean(), rel=1e-12)
    assert line["standard_error"] == pytest.approx(values.std(ddof=1) / math.sqrt(3), rel=1e-12)


def test_a_stored_zero_is_a_target_and_counts_as_relevant():
    assert evaluate(MODEL, SMALL, "recall@4").per_user["recall@4"][1] == 1
    assert evaluate(MODEL, SMALL, "recall@4", min_relevance=1).per_user["recall@4"].isna().tolist() == [0, 1, 1, 0]


def test_min_relevance_drops_weak_targets_from_hits_and_denominators():
    strict = evaluate(MODEL, SMALL, ["recall@3", "truncated_recall@3"], min_relevance=3)
    assert strict.per_user["recall@3"].tolist()[0] == 1  # of {1: 5.0, 3: 2.0} only item 1 is left
    assert strict.per_user["recall@3"].tolist()[3] == 0.5
    assert strict.summary["n"].tolist() == [2, 2]
    assert SMALL.target.nnz == 5
    with pytest.raises(DataError, match="largest is 5"):
        evaluate(MODEL, SMALL, "ndcg@3", min_relevance=6)


def test_one_pass_reads_each_user_once_and_only_as_deep_as_needed():
    model = Scores([5, 4, 3, 2, 1])
    evaluate(model, SMALL, ["ndcg@2", "recall@3", "coverage@1"], batch_size=2)
    assert model.calls == [([0, 1], [0, 1], 3, False), ([3], [], 3, False)]
    model.calls.clear()
    evaluate(model, SMALL, "ndcg@100")
    assert [call[2] for call in model.calls] == [5]  # never more than there are items


def test_users_that_training_never_saw_go_by_their_history():
    part = Part(SMALL.context, SMALL.target, SMALL.users, np.array([7, -1, 8, 9], dtype=np.int32))
    model = Scores([5, 4, 3, 2, 1])
    mixed = evaluate(model, part, "mrr@5")
    assert model.calls == [([7, 9], [0], 5, False), ([-1], [1], 5, True)]
    pd.testing.assert_frame_equal(mixed.per_user, evaluate(MODEL, SMALL, "mrr@5").per_user)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_the_block_size_changes_nothing(batch_size):
    rng = np.random.default_rng(2)
    everything = sp.csr_matrix(rng.random((31, 40), dtype=np.float32) * (rng.random((31, 40)) < 0.3))
    everything.data[:] = rng.integers(1, 6, everything.nnz)
    is_target = rng.random(everything.nnz) < 0.3
    rows = np.repeat(np.arange(31), np.diff(everything.indptr))

    def pick(mask):
        entries = (everything.data[mask], (rows[mask], everything.indices[mask]))
        return sp.csr_matrix(entries, shape=everything.shape)

    index = np.where(np.arange(31) % 4, np.arange(31), -1).astype(np.int32)
    part = Part(pick(~is_target), pick(is_target), IdMap(range(31)), index)
    model = Ratings(rng.normal(size=40))
    names = [*DEFAULT, "gini@5", "average_popularity@5", "rmse", "mae"]
    whole, blocks = evaluate(model, part, names), evaluate(model, part, names, batch_size=batch_size)
    pd.testing.assert_frame_equal(whole.per_user, blocks.per_user, rtol=1e-12)
    pd.testing.assert_frame_equal(whole.summary, blocks.summary, rtol=1e-12)
    assert np.isfinite(whole.summary["value"]).all()


def test_beyond_accuracy_by_hand():
    result = evaluate(MODEL, SMALL, ["coverage@2", "gini@2", "novelty@2", "average_popularity@2"])
    # Lists at 2: 1 2, 0 2, 0 1; the user without a target has none. Context: item 0 twice, item 1 twice, of 4 users.
    assert result["coverage@2"] == 3 / 5
    assert result["gini@2"] == pytest.approx((-4 * 0 - 2 * 0 + 0 * 2 + 2 * 2 + 4 * 2) / (5 * 6))
    np.testing.assert_allclose(result.per_user["novelty@2"], [1.5, 1.5, np.nan, 1])
    np.testing.assert_allclose(result.per_user["average_popularity@2"], [1, 1, np.nan, 2])
    assert list(result.per_user) == ["user_id", "novelty@2", "average_popularity@2"]
    by_metric = result.summary.set_index("metric")
    assert by_metric["standard_error"].isna().tolist() == [True, True, False, False]
    assert by_metric["n"].tolist() == [3, 3, 3, 3]


def test_popularity_may_come_from_the_training_data():
    matrix = sp.csr_matrix(np.array([[1, 0, 1, 0, 0]] * 8, dtype=np.float32))
    train = Interactions(matrix, IdMap(range(8)), IdMap(range(5)))
    result = evaluate(MODEL, SMALL, ["average_popularity@2", "novelty@2"], popularity=train)
    np.testing.assert_allclose(result.per_user["average_popularity@2"], [4, 8, np.nan, 4])
    np.testing.assert_allclose(result.per_user["novelty@2"], [1.5, 0, np.nan, 1.5])
    other = Interactions(matrix[:, :4].tocsr(), IdMap(range(8)), IdMap(range(4)))
    with pytest.raises(DataError, match="the part's 5 items as columns, got 4"):
        evaluate(MODEL, SMALL, "novelty@2", popularity=other)


def test_rating_errors_are_over_all_entries():
    result = evaluate(Ratings([0] * 5), SMALL, ["rmse", "mae"], min_relevance=3)
    # Predictions: 1 + 1 and 1 + 3 for u0, 1 + 4 for u1, 0 + 2 and 0 + 4 for u3.
    errors = np.array([2 - 5, 4 - 2, 5 - 0, 2 - 4, 4 - 3], dtype=float)
    assert result["rmse"] == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-12)
    assert result["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert result.summary["n"].tolist() == [3, 3]
    np.testing.assert_allclose(result.per_user["mae"], [2.5, 5, np.nan, 1.5])
    np.testing.assert_allclose(result.per_user["rmse"], [math.sqrt(6.5), 5, np.nan, math.sqrt(2.5)])
    sums, counts = np.array([5, 5, 3.0]), np.array([2, 1, 2])
    residual = sums - result["mae"] * counts
    expected = math.sqrt(3 / 2 * (residual**2).sum()) / 5
    assert result.summary["standard_error"][1] == pytest.approx(expected, rel=1e-12)


def test_a_model_without_ratings():
    with pytest.raises(UnsupportedError, match="Scores predicts no ratings"):
        evaluate(MODEL, SMALL, ["rmse"])

    class Refuses(Scores):
        def predict_pairs(self, userid, user_items, rows, items):
            raise UnsupportedError("its own words")

    with pytest.raises(UnsupportedError, match="its own words"):
        evaluate(Refuses([1] * 5), SMALL, "mae")


def test_a_user_with_an_empty_list():
    part = part_of([[1, 1, _]], [[_, _, 1]])

    class Silent(Scores):
        def recommend(self, userid, user_items, N=10, **_):
            shape = (len(userid), N)
            return np.full(shape, -1, dtype=np.int32), np.full(shape, LOWEST, dtype=np.float32)

    result = evaluate(Silent([0] * 3), part, ["recall@2", "coverage@2", "novelty@2"])
    assert result.values["recall@2"] == 0
    assert result.values["coverage@2"] == 0
    assert np.isnan(result["novelty@2"])
    assert result.summary["n"].tolist() == [1, 1, 0]


def test_answers_of_a_wrong_shape_are_refused():
    class Short(Scores):
        def recommend(self, userid, user_items, N=10, **_):
            return np.zeros((len(userid), N - 1), dtype=np.int32), None

    class Few(Ratings):
        def predict_pairs(self, userid, user_items, rows, items):
            return np.zeros(len(rows) - 1, dtype=np.float32)

    class Unsure(Ratings):
        def predict_pairs(self, userid, user_items, rows, items):
            return np.append(np.zeros(len(rows) - 1), np.nan)

    with pytest.raises(DataError, match=re.escape("shape (3, 2), empty slots -1, got (3, 1)")):
        evaluate(Short([1] * 5), SMALL, "ndcg@2")
    with pytest.raises(DataError, match="one prediction per rating"):
        evaluate(Few([1] * 5), SMALL, "rmse")
    with pytest.raises(DataError, match=r"1 of \d+ predicted ratings are NaN or infinite"):
        evaluate(Unsure([1] * 5), SMALL, "rmse")


def test_refusals():
    empty = part_of([[1, _]], [[_, _]])
    with pytest.raises(DataError, match="no target entries"):
        evaluate(MODEL, empty)
    with pytest.raises(ConfigError, match="did you mean 'ndcg@10'"):
        evaluate(MODEL, SMALL, ["recall@3", "nddcg@10"])
    with pytest.raises(ConfigError, match="at least one metric"):
        evaluate(MODEL, SMALL, [])
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        evaluate(MODEL, SMALL, "ndcg@3", batch_size=0)
    with pytest.raises(ConfigError, match="not evaluated; did you mean 'ndcg@3'"):
        evaluate(MODEL, SMALL, "ndcg@3")["ndcg@30"]


def test_the_default_metrics_are_one_pass():
    model = Scores([5, 4, 3, 2, 1])
    result = evaluate(model, SMALL)
    assert tuple(result.summary["metric"]) == DEFAULT
    assert len(model.calls) == 1
    of_hits = {name for name, metric in METRICS.items() if metric.needs == ("hits", "n_relevant")}
    assert {parse(name)[0] for name in DEFAULT} >= of_hits - {"precision"}


def test_an_evaluation_reads_as_a_table():
    text = repr(evaluate(Ratings([5, 4, 3, 2, 1]), SMALL, ["ndcg@2", "coverage@10", "rmse"]))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["metric", "value", "±", "s.e.", "users"]
    assert lines[2] == ["coverage@10", "1.0000", "-", "3"]
    assert lines[3][:2] == ["rmse", "2.9326"]


def test_progress_is_shown_only_on_demand(capsys):
    evaluate(MODEL, SMALL, "ndcg@2")
    assert capsys.readouterr() == ("", "")
    evaluate(MODEL, SMALL, "ndcg@2", show_progress=True)
    assert "3/3" in capsys.readouterr().err


def test_validation_is_a_function_of_the_model():
    validation = Validation(SMALL, "mrr@5", also=("recall@3", "mrr@5"), min_relevance=3)
    expected = evaluate(MODEL, SMALL, ["mrr@5", "recall@3"], min_relevance=3).values
    assert validation(MODEL) == expected
    assert list(expected) == ["mrr@5", "recall@3"]
    assert validation.metric == "mrr@5"
    assert validation.higher_is_better
    assert not Validation(SMALL, "rmse").higher_is_better
    assert Validation(SMALL).metric == "ndcg@10"


def test_validation_is_checked_before_training():
    with pytest.raises(DataError, match="no validation part"):
        Validation(None)
    with pytest.raises(ConfigError, match="unknown metric"):
        Validation(SMALL, "auc")
    with pytest.raises(ConfigError, match="unknown metric"):
        Validation(SMALL, also=("auc",))


@pytest.fixture
def evaluations():
    best, worst = Scores([1, 5, 2, 4, 3]), Scores([5, 1, 4, 2, 3])
    return {
        "worst": evaluate(worst, SMALL, ["ndcg@2", "coverage@2"]),
        "best": evaluate(best, SMALL, ["ndcg@2", "coverage@2"]),
        "rater": evaluate(Ratings([5, 4, 3, 2, 1]), SMALL, ["ndcg@2", "rmse"]),
    }


def test_a_table_compares_models_best_first(evaluations):
    frame = table(evaluations)
    assert frame.index.tolist() == ["best", "rater", "worst"]
    assert frame.columns.get_level_values(0).unique().tolist() == ["ndcg@2", "coverage@2", "rmse"]
    assert frame.loc["best", ("ndcg@2", "value")] == evaluations["best"]["ndcg@2"]
    line = evaluations["rater"].summary.iloc[1]
    assert frame.loc["rater", ("rmse", "standard_error")] == line["standard_error"]
    assert np.isnan(frame.loc["best", ("rmse", "value")])
    with pytest.raises(ConfigError, match="no model was evaluated on 'mae'"):
        table(evaluations, sort_by="mae")
    with pytest.raises(DataError, match="at least one evaluation"):
        table({})


def test_a_table_sorts_errors_upwards():
    lines = {
        name: Evaluation(
            pd.DataFrame({"user_id": [1]}),
            pd.DataFrame([("rmse", value, 0.1, 9)], columns=["metric", "value", "standard_error", "n"]),
        )
        for name, value in (("b", 0.9), ("a", 0.8), ("c", 1.0))
    }
    assert table(lines).index.tolist() == ["a", "b", "c"]


def test_a_table_as_text(evaluations):
    text = formatted(table(evaluations, sort_by="coverage@2"), digits=2)
    best = evaluations["best"].summary.iloc[0]
    assert text.loc["best", "ndcg@2"] == f"{best['value']:.2f} ± {best['standard_error']:.2f}"
    assert text.loc["best", "coverage@2"] == f"{evaluations['best']['coverage@2']:.2f}"
    assert text.loc["rater", "coverage@2"] == "-"
    assert text.index[-1] == "rater"


def test_models_of_implicit_are_evaluated_as_they_are():
    from implicit.als import AlternatingLeastSquares

    context = sp.csr_matrix(np.kron(np.eye(2), np.ones((6, 4))).astype(np.float32))
    target = context.copy()
    is_target = np.arange(context.nnz) % 4 == np.repeat(np.arange(12) % 4, 4)
    context.data[is_target] = 0
    context.eliminate_zeros()
    target.data[~is_target] = 0
    target.eliminate_zeros()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about the threads of the BLAS
        model = AlternatingLeastSquares(factors=4, iterations=5, random_state=0)
        model.fit(context, show_progress=False)
    known = Part(context, target, IdMap(range(12)), np.arange(12, dtype=np.int32))
    unseen = Part(context, target, IdMap(range(12)), np.full(12, -1, dtype=np.int32))
    for part in (known, unseen):
        assert evaluate(model, part, ["hit_rate@1", "recall@100"]).values == {"hit_rate@1": 1, "recall@100": 1}


def test_a_whole_split_is_not_a_part():
    part = part_of([[1, None, None]], [[None, 1, None]])
    split = Split(Interactions(part.context, part.users, IdMap(range(3))), None, part)
    with pytest.raises(DataError, match=r"expected one part of a split, got a whole split; pass split\.test"):
        evaluate(Scores([3, 2, 1]), split)
    with pytest.raises(DataError, match=r"got csr_matrix; pass split\.test"):
        evaluate(Scores([3, 2, 1]), part.target)
    with pytest.raises(DataError, match=r"got a whole split; pass split\.validation"):
        Validation(split)


def test_curves_ask_for_further_cut_offs_and_only_gives_back_what_was_asked():
    names = along_k(["ndcg@10", "rmse", "coverage@3"], 40)
    assert names[:3] == ["ndcg@10", "rmse", "coverage@3"]
    assert {"ndcg@1", "ndcg@20", "coverage@5"} < set(names)
    assert "ndcg@50" not in names
    assert sum(name.startswith("rmse") for name in names) == 1
    per_user = pd.DataFrame({"user_id": [1], "ndcg@10": [0.5], "ndcg@1": [0.0]})
    rows = [("ndcg@10", 0.5, 0.1, 1), ("ndcg@1", 0.0, 0.1, 1), ("coverage@3", 0.2, np.nan, 1)]
    whole = Evaluation(per_user, pd.DataFrame(rows, columns=["metric", "value", "standard_error", "n"]))
    part = whole.only(["coverage@3", "ndcg@10"])
    assert part.values == {"coverage@3": 0.2, "ndcg@10": 0.5}
    assert part.per_user.columns.tolist() == ["user_id", "ndcg@10"]


# Groups of users


def test_groups_are_summaries_of_their_users():
    result = evaluate(Ratings([5, 4, 3, 2, 1]), SMALL, ["recall@3", "coverage@3", "rmse", "mae"])
    groups = pd.Series({"u3": "b", "u0": "a", "u1": "a", "u2": "c", "stranger": "d"}, name="country")
    found = result.by(groups).set_index(["metric", "group"])
    assert found.index.tolist() == [(metric, group) for metric in ("recall@3", "rmse", "mae") for group in "abc"]
    own = result.per_user.set_index("user_id")
    values = own.loc[["u0", "u1"], "recall@3"]
    line = found.loc["recall@3", "a"]
    assert (line["value"], line["n"]) == (values.mean(), 2)
    assert line["standard_error"] == pytest.approx(values.std(ddof=1) / math.sqrt(2))
    # Errors of ratings are over the ratings of the group: u0 has two and u1 one.
    assert found.loc[("mae", "a"), "value"] == pytest.approx((2 * own["mae"]["u0"] + own["mae"]["u1"]) / 3)
    squares = 2 * own["rmse"]["u0"] ** 2 + own["rmse"]["u1"] ** 2
    assert found.loc[("rmse", "a"), "value"] == pytest.approx(math.sqrt(squares / 3))
    for metric in ("recall@3", "rmse", "mae"):
        assert np.isnan(found.loc[(metric, "c"), "value"])  # no relevant item
        assert found.loc[(metric, "c"), "n"] == 0
    everyone = result.by(pd.Series("all", index=[f"u{row}" for row in range(4)])).set_index("metric")
    same = result.summary.set_index("metric").loc[everyone.index]
    pd.testing.assert_frame_equal(everyone.drop(columns="group"), same, rtol=1e-12)


def test_groups_keep_the_order_of_a_categorical():
    users = ["u0", "u1", "u2", "u3"]
    sizes = pd.Categorical(["small", "large", "large", "small"], categories=["small", "large", "huge"], ordered=True)
    found = evaluate(MODEL, SMALL, "recall@3").by(pd.Series(sizes, index=users))
    assert found["group"].tolist() == ["small", "large"]
    assert found["n"].sum() == 3


@pytest.mark.parametrize(
    ("groups", "order"),
    [
        ([2, 1, 2, 10], [1, 2, 10]),
        ([0.5, -1.0, 0.5, 2.0], [-1.0, 0.5, 2.0]),
        (np.array([0.5, -1.0, 0.5, 2.0], dtype=np.float32), [-1.0, 0.5, 2.0]),
        ([True, False, True, True], [False, True]),
        (pd.array([3, 1, 3, 2], dtype="Int64"), [1, 2, 3]),
        (pd.array([True, False, True, True], dtype="boolean"), [False, True]),
        (pd.Series(["b", 7, "b", (1, 2)], dtype=object).array, ["b", 7, (1, 2)]),
        ([1 + 1j, 2, 1 + 1j, 2], [1 + 1j, 2]),
        (pd.array(["b", "a", "b", "a"], dtype="string"), ["a", "b"]),
        (pd.Categorical(["7", 7, "7", 7], categories=[7, "7", 8]), [7, "7"]),
        (pd.to_datetime(["2026-02-01", "2026-01-01"] * 2), list(pd.to_datetime(["2026-01-01", "2026-02-01"]))),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")) or None,
)
def test_groups_of_any_type_are_summaries_of_their_users(groups, order):
    users = ["u0", "u1", "u2", "u3"]
    result = evaluate(MODEL, SMALL, "recall@3")
    series = pd.Series(groups, index=users)
    found = result.by(series)
    assert found["group"].tolist() == order
    assert found["group"].dtype == series.dtype
    own = result.per_user.set_index("user_id")["recall@3"]
    expected = [own[[user for user in users if series[user] == group]].mean() for group in order]
    np.testing.assert_allclose(found["value"], expected)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", "b", "a", "b"], "a Series of groups indexed by user id, got list"),
        (pd.Series("a", index=["u0", "u1", "u1", "u3"]), "1 rows of the groups repeat a user, for instance 'u1'"),
        (pd.Series("a", index=["u0", "u1", "u3"]), "1 of the 4 evaluated users have no group, for instance 'u2'"),
        (pd.Series(["a", None, "b", "b"], index=["u0", "u1", "u2", "u3"]), "1 of the 4 .* for instance 'u1'"),
        (pd.Series("a", index=[0, 1, 2, 3]), "4 of the 4 evaluated users have no group"),
        (pd.Series([[1]] * 4, index=["u0", "u1", "u2", "u3"]), "groups must be hashable.* unhashable type: 'list'"),
        (pd.Series([1.5] * 4, index=["u0", "u1", "u2", "u3"], dtype="float16"), "groups must be hashable.* float16"),
    ],
)
def test_groups_that_leave_a_user_out_are_refused(groups, message):
    with pytest.raises(DataError, match=message):
        evaluate(MODEL, SMALL, "recall@3").by(groups)


# Popularity, variety, and what is masked


def test_popularity_adjusted_metrics_by_hand():
    # Context of all: item 0 twice, item 1 twice. Of the popular, the users do not know: 1 2, 0 2, -, 0 1.
    model = Scores([1, 2, 3, 5, 4])  # lists 3 4 2 1, 3 4 2 0, -, 3 4 2 1 0
    result = evaluate(model, SMALL, ["serendipity@2", "stratified_recall@2"])
    # u0 wants 1 and 3 and finds 3; u1 wants 4 and finds it; u3 wants 2 and 4 and finds 4, none of them popular.
    assert result.per_user["serendipity@2"].tolist()[:2] == [0.5, 0.5]
    assert result.per_user["serendipity@2"].isna().tolist() == [False, False, True, False]
    weight = 2**-0.5
    np.testing.assert_allclose(result.per_user["stratified_recall@2"], [1 / (1 + weight), 1, np.nan, 0.5])
    # u0 has seen item 0, so that item 1, a hit, is the most popular one to expect.
    np.testing.assert_array_equal(evaluate(MODEL, SMALL, "serendipity@1").per_user["serendipity@1"], [0, 0, np.nan, 0])


def test_diversity_takes_vectors_of_the_items():
    genres = sp.csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]]))
    result = evaluate(MODEL, SMALL, ["diversity@2", "diversity@3"], item_vectors=genres)
    # Lists: 1 2 3, 0 2 3, none, 0 1 2.
    np.testing.assert_allclose(result.per_user["diversity@2"], [1, 1, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(result.per_user["diversity@3"], [2 / 3, 2 / 3, np.nan, 2 / 3])
    assert Validation(SMALL, "diversity@2", item_vectors=genres)(MODEL) == {"diversity@2": result["diversity@2"]}
    for call in (lambda: evaluate(MODEL, SMALL, "diversity@2"), lambda: Validation(SMALL, "diversity@2")):
        with pytest.raises(ConfigError, match=r"diversity@2 needs item vectors; pass item_vectors="):
            call()
    with pytest.raises(DataError, match="one row for each of the 5 items"):
        evaluate(MODEL, SMALL, "diversity@2", item_vectors=genres[:4])


def test_the_block_size_changes_nothing_adjusted_for_popularity():
    rng = np.random.default_rng(8)
    entries = rng.random((23, 30))
    context, target = (sp.csr_matrix(mask.astype(np.float32)) for mask in (entries < 0.2, entries > 0.85))
    part = Part(context, target, IdMap(range(23)), np.arange(23, dtype=np.int32))
    names = ["serendipity@5", "stratified_recall@5", "diversity@5", "diversity@40"]
    results = [
        evaluate(Scores(rng.normal(size=30)), part, names, item_vectors=rng.normal(size=(30, 4)), batch_size=size)
        for size in (1000, 4)
        for rng in [np.random.default_rng(9)]
    ]
    pd.testing.assert_frame_equal(results[0].per_user, results[1].per_user, rtol=1e-9)
    assert results[0].summary["value"].notna().all()


def test_what_was_seen_is_masked_and_not_read():
    from recsys.models import EASE

    rng = np.random.default_rng(3)
    entries = rng.random((40, 20))
    known, target = (sp.csr_matrix(mask.astype(np.float32)) for mask in (entries < 0.4, entries > 0.8))
    read = known.multiply(sp.csr_matrix((entries < 0.2).astype(np.float32))).tocsr()
    new = np.full(40, -1, dtype=np.int32)
    model = EASE().fit(known, show_progress=False)
    part = Part(read, target, IdMap(range(40)), new, seen=known)
    ids, _ = model.recommend(new, read, N=5, seen=known)
    hits = np.array([[item in row.indices for item in items] for row, items in zip(target, ids, strict=True)])
    wanted = np.diff(target.indptr)
    np.testing.assert_allclose(
        evaluate(model, part, "recall@5").per_user["recall@5"],
        np.where(wanted, hits.sum(1) / np.maximum(wanted, 1), np.nan),
    )
    assert (
        evaluate(model, Part(read, target, IdMap(range(40)), new), "recall@5")["recall@5"] < hits.sum() / wanted.sum()
    )
    with pytest.raises(UnsupportedError, match="recommend of Scores takes no seen="):
        evaluate(Scores(np.ones(20)), part, "recall@5")
