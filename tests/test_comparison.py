"""Comparing models: against scipy's resampling, by hand, and against the chance level that the test claims."""

import numpy as np
import pandas as pd
import pytest
import scipy
from scipy import stats

from recsys.errors import ConfigError, DataError
from recsys.evaluation import Evaluation, compare, holm, intervals

N = 200


def seed(number):
    """The argument that seeds scipy's resampling, which had another name before 1.15."""
    new = tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15)
    return {"rng" if new else "random_state": number}


def evaluation(values=None, **columns):
    """An evaluation with these values per user, nDCG by default; rmse and mae come with their numbers of ratings."""
    if values is not None:
        columns["ndcg@10"] = values
    frame = pd.DataFrame({"user_id": np.arange(len(next(iter(columns.values())))), **columns})
    rows = []
    for name in columns:
        if name == "ratings":
            continue
        values, weights = frame[name], frame.get("ratings", pd.Series(np.ones(len(frame))))
        known = values.notna()
        squared = values[known] ** 2 if name == "rmse" else values[known]
        mean = np.average(squared, weights=weights[known] if name in ("rmse", "mae") else None)
        rows.append((name, np.sqrt(mean) if name == "rmse" else mean, np.nan, int(known.sum())))
    return Evaluation(frame, pd.DataFrame(rows, columns=["metric", "value", "standard_error", "n"]))


def drawn(seed, n=N, shift=0.0):
    return np.clip(np.random.default_rng(seed).beta(0.6, 1.4, n) + shift, 0, 1)


def test_a_better_model_is_found_better_and_the_verdict_says_so():
    base = drawn(0)
    better = np.clip(base + np.random.default_rng(1).normal(0.03, 0.05, N), 0, 1)
    found = compare({"old": evaluation(**{"ndcg@10": base}), "new": evaluation(**{"ndcg@10": better})})
    row = found.pairs.iloc[0]
    assert (row["better"], row["worse"], row["different"], row["n"]) == ("new", "old", True, N)
    assert row["difference"] == pytest.approx((better - base).mean())
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert "new is better than old by" in repr(found)
    assert "95% interval" in repr(found)


def test_equal_models_show_no_difference():
    values = drawn(0)
    found = compare({"a": evaluation(**{"ndcg@10": values}), "b": evaluation(**{"ndcg@10": values.copy()})})
    row = found.pairs.iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p"], row["different"]) == (0, 0, 0, 1, False)
    assert "no difference shown between" in found.verdicts()[0]


def test_interval_and_p_value_are_those_of_scipy():
    one, other = drawn(2), np.clip(drawn(2) + np.random.default_rng(3).normal(0.008, 0.08, N), 0, 1)
    row = compare({"a": evaluation(other), "b": evaluation(one)}, resamples=20_000).pairs.iloc[0]
    sign = 1 if row["better"] == "a" else -1
    gaps = sign * (other - one)
    expected = stats.bootstrap((gaps,), np.mean, n_resamples=20_000, method="percentile", **seed(4)).confidence_interval
    np.testing.assert_allclose((row["low"], row["high"]), expected, atol=0.15 * (expected.high - expected.low) / 2)
    test = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=20_000, **seed(5))
    assert row["p"] == pytest.approx(test.pvalue, abs=0.015)


def test_all_exchanges_of_a_tiny_example_by_hand():
    # Gaps 1, 2, 3: only all-plus and all-minus of the 8 sign patterns reach 6, so p = 2/8.
    found = compare({"a": evaluation(np.array([1.0, 2, 3])), "b": evaluation(np.zeros(3))}, resamples=40_000)
    assert found.pairs["p"][0] == pytest.approx(0.25, abs=0.01)


def test_values_may_be_negative():
    one, other = drawn(2), drawn(2) + np.random.default_rng(3).normal(0.008, 0.08, N)
    p = [
        compare({"a": evaluation(one + shift), "b": evaluation(other + shift)}).pairs["p"][0]
        for shift in (0, -4.0, 4.0)
    ]
    assert 0 < p[0] < 0.9
    assert p == pytest.approx([p[0]] * 3, abs=1e-3)


def test_errors_of_ratings_are_compared_over_all_ratings():
    counts = np.random.default_rng(0).integers(1, 30, N)
    good, bad = 0.8 + 0.1 * drawn(1), 0.9 + 0.1 * drawn(2)
    models = {"good": evaluation(rmse=good, ratings=counts), "bad": evaluation(rmse=bad, ratings=counts)}
    row = compare(models).pairs.iloc[0]
    expected = [np.sqrt((values**2 * counts).sum() / counts.sum()) for values in (good, bad)]
    assert (row["better"], row["worse"], row["different"]) == ("good", "bad", True)
    assert row["difference"] == pytest.approx(expected[1] - expected[0])
    assert row["low"] < row["difference"] < row["high"]


def test_users_without_a_value_take_no_part_and_must_be_the_same():
    values, other = drawn(0), drawn(1)
    values[:5] = other[:5] = np.nan
    found = compare({"a": evaluation(values), "b": evaluation(other)})
    assert found.pairs["n"][0] == N - 5
    other[7] = np.nan
    with pytest.raises(DataError, match="for some users in one evaluation and not in another"):
        compare({"a": evaluation(values), "b": evaluation(other)})


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.005]), [0.06, 0.03, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


def test_pairs_of_a_metric_are_corrected_together():
    models = {name: evaluation(drawn(0) + np.random.default_rng(i).normal(0, 0.1, N)) for i, name in enumerate("abcd")}
    pairs = compare(models).pairs
    assert len(pairs) == 6
    np.testing.assert_allclose(pairs["p_holm"], holm(pairs["p"]))
    np.testing.assert_array_equal(pairs["different"], pairs["p_holm"] < 0.05)


def test_under_a_null_one_test_in_twenty_finds_a_difference():
    # The labels of two models are exchanged at random user by user, so that neither is better: 400 times.
    one = drawn(0)
    other = np.clip(one + np.random.default_rng(1).normal(0, 0.1, N), 0, 1)
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(400):
        swap = rng.random(N) < 0.5
        a, b = np.where(swap, other, one), np.where(swap, one, other)
        models = {"a": evaluation(a), "b": evaluation(b)}
        found += bool(compare(models, resamples=500, seed=rng).pairs["different"][0])
    assert 0.03 <= found / 400 <= 0.07


def test_seeds_decide_the_draws():
    models = {"a": evaluation(drawn(0)), "b": evaluation(drawn(1))}
    pd.testing.assert_frame_equal(compare(models, seed=3).pairs, compare(models, seed=3).pairs)
    assert compare(models, seed=3).pairs["low"][0] != compare(models, seed=4).pairs["low"][0]


def test_intervals_of_one_evaluation():
    values, counts = drawn(0), np.random.default_rng(0).integers(1, 30, N)
    found = intervals(evaluation(**{"ndcg@10": values, "rmse": 0.5 + values, "ratings": counts})).set_index("metric")
    expected = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", **seed(0)).confidence_interval
    width = expected.high - expected.low
    np.testing.assert_allclose(found.loc["ndcg@10", ["low", "high"]].to_numpy(float), expected, atol=0.08 * width)
    assert found.loc["rmse", "low"] < found.loc["rmse", "value"] < found.loc["rmse", "high"]


def test_a_metric_without_a_value_per_user_has_no_interval():
    one = evaluation(drawn(0))
    summary = pd.concat([one.summary, pd.DataFrame([("coverage@10", 0.5, np.nan, 9)], columns=one.summary.columns)])
    found = intervals(Evaluation(one.per_user, summary)).set_index("metric")
    assert np.isnan(found.loc["coverage@10", "low"])
    assert found.loc["coverage@10", "value"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": "ndcg@5"}, "'ndcg@5' has no value per user in every evaluation"),
        ({"confidence": 95}, "confidence must lie between 0 and 1"),
        ({"resamples": 10}, "resamples must be at least 100"),
        ({"metrics": []}, "no metric"),
    ],
)
def test_wrong_requests(change, message):
    with pytest.raises(ConfigError, match=message):
        compare({"a": evaluation(drawn(0)), "b": evaluation(drawn(1))}, **change)


def test_one_model_or_other_users_are_refused():
    with pytest.raises(DataError, match="at least two"):
        compare({"a": evaluation(drawn(0))})
    with pytest.raises(DataError, match="b was evaluated on other users than a"):
        compare({"a": evaluation(drawn(0)), "b": evaluation(drawn(1, n=N - 1))})
