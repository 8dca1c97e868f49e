"""Errors of entries by hand, p-values that hold, lists of odd users, and the items that make them so."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

import recsys
from recsys.analysis import anomalies, log_likelihood, odd_entries, odd_items, plant_attack
from recsys.analysis.conformal import adjusted, conformal_p, conformal_p_within, standardized
from recsys.analysis.reconstruction import entry_errors, row_means
from recsys.errors import ConfigError, DataError, NotFittedError, UnsupportedError
from tests.contract import fitted, ratings

WORLD = recsys.datasets.synthetic(users=2400, items=150, interactions=60_000, seed=5).binarized()
TRAIN, NORMAL, TEST = (WORLD.take_users(range(*ends)) for ends in ((0, 1000), (1000, 1800), (1800, 2400)))
MODEL = recsys.EASE(regularization=50.0).fit(TRAIN, show_progress=False)
TOY = ratings(n_users=9, n_items=12, density=0.4)


def errors_of(model, matrix, kind, folds=1, seed=0):
    return entry_errors(model, matrix, kind, folds, np.random.default_rng(seed))


def scores_of(model, matrix):
    ids, scores = model.recommend(
        np.full(matrix.shape[0], -1), matrix, N=matrix.shape[1], filter_already_liked_items=False
    )
    dense = np.empty(matrix.shape)
    np.put_along_axis(dense, ids.astype(int), scores.astype(float), axis=1)
    return dense


# Errors of entries


@pytest.mark.parametrize("kind", ["rank", "likelihood", "squared"])
def test_errors_are_those_of_a_loop(kind):
    model = fitted("MultVAE", TOY)
    scores, found, k = scores_of(model, TOY), errors_of(model, TOY, kind), 0
    for row in range(TOY.shape[0]):
        own = TOY[row].indices
        others = np.setdiff1d(np.arange(12), own)
        for item, value in zip(own, TOY[row].data, strict=True):
            above = sum(scores[row, other] > scores[row, item] for other in others)
            expected = {
                "rank": np.log(1 + above) / np.log(1 + len(others)),
                "likelihood": np.log(np.exp(scores[row]).sum()) - scores[row, item],
                "squared": (value - scores[row, item]) ** 2,
            }[kind]
            assert found[k] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            k += 1
    assert k == len(found)


def test_equal_scores_count_half():
    model = fitted("Popularity", sp.csr_matrix(np.ones((4, 11), np.float32)))  # all items are as popular
    histories = sp.csr_matrix(np.array([[1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32))
    assert errors_of(model, histories, "rank")[0] == pytest.approx(np.log(6) / np.log(11))


def test_with_folds_an_entry_is_scored_without_its_part():
    model, folds = fitted("MultVAE", TOY), 100  # more than any history is long: each entry alone is left out
    found, k = errors_of(model, TOY, "likelihood", folds), 0
    for row in range(TOY.shape[0]):
        for item in TOY[row].indices:
            rest = TOY[row].copy()
            rest.data[rest.indices == item] = 0.0
            rest.eliminate_zeros()
            logits = scores_of(model, rest)[0]
            assert found[k] == pytest.approx(np.log(np.exp(logits).sum()) - logits[item], rel=1e-4)
            k += 1


def test_a_part_of_a_history_is_as_large_as_the_others():
    from recsys.analysis.reconstruction import _folds

    parts = _folds(TOY, 3, np.random.default_rng(0))
    for row in range(TOY.shape[0]):
        counts = np.bincount(parts[TOY.indptr[row] : TOY.indptr[row + 1]], minlength=3)
        assert counts.max() - counts.min() <= 1


def test_blocks_change_nothing(monkeypatch):
    whole = errors_of(MODEL, TEST.matrix, "rank")
    monkeypatch.setattr("recsys.analysis.reconstruction._MOST", 150 * 7)
    np.testing.assert_array_equal(errors_of(MODEL, TEST.matrix, "rank"), whole)


def test_means_of_rows():
    matrix = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], np.float32))
    np.testing.assert_array_equal(row_means(np.array([2.0, 4.0, 5.0]), matrix), [3.0, np.nan, 5.0])


# p-values


def test_p_is_the_share_of_calibration_at_least_as_odd():
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 6, 50).astype(float), rng.integers(0, 6, 30).astype(float)
    expected = [(1 + sum(c >= s for c in calibration)) / 51 for s in scores]
    np.testing.assert_allclose(conformal_p(scores, calibration), expected)


def test_p_within_lengths_is_that_of_the_stratum():
    rng = np.random.default_rng(1)
    lengths, others = rng.integers(1, 40, 60).astype(float), rng.integers(1, 40, 200).astype(float)
    scores, calibration = rng.random(60), rng.random(200)
    found = conformal_p_within(scores, lengths, calibration, others, 2)
    middle = np.sort(others)[99]
    for score, length, p in zip(scores, lengths, found, strict=True):
        own = calibration[(others <= middle) == (length <= middle)]
        assert p == pytest.approx((1 + (own >= score).sum()) / (len(own) + 1))
    few = conformal_p_within(scores, lengths, calibration[:30], others[:30], 5)
    np.testing.assert_allclose(few, conformal_p(scores, calibration[:30]))  # 6 in a stratum would be too few


def test_length_is_taken_out():
    """Errors whose mean and spread depend on the length have neither afterwards."""
    rng = np.random.default_rng(2)
    lengths, others = (np.exp(rng.uniform(1, 6, n)).round() for n in (3000, 3000))

    def scores(n):
        return np.log(n) ** 2 + rng.normal(size=len(n)) * np.sqrt(n)

    z = standardized(scores(lengths), lengths, scores(others), others)
    for part in np.array_split(np.argsort(lengths), 5):
        assert abs(z[part].mean()) < 0.25
        assert 0.8 < z[part].std() < 1.2
    assert standardized(np.array([3.0]), np.array([5.0]), np.full(30, 1.0), np.full(30, 5.0))[0] > 1e9


def test_benjamini_hochberg_is_the_step_up_rule():
    p = np.random.default_rng(3).random(200) ** 3
    ordered = np.sort(p)
    for level in (0.01, 0.05, 0.2):
        below = np.flatnonzero(ordered <= level * np.arange(1, 201) / 200)
        expected = p <= ordered[below[-1]] if len(below) else np.zeros(200, bool)
        np.testing.assert_array_equal(adjusted(p) <= level, expected)


def is_uniform(p, n):
    """The test of Kolmogorov and Smirnov at 1 %, for p-values against n users who are drawn as well."""
    return kstest(p, "uniform").statistic < 1.63 * np.sqrt(1 / len(p) + 1 / n)


def test_on_clean_users_p_is_uniform():
    """Generated users, none of them odd: false alarms come at the nominal rate, among short and long histories."""
    frame = anomalies(MODEL, TEST, NORMAL)
    assert len(frame) == 600
    assert is_uniform(frame["p"], 400)
    short = frame["length"] <= frame["length"].median()
    for part in (frame, frame[short], frame[~short]):
        for level in (0.05, 0.2, 0.5):
            spread = np.sqrt(level * (1 - level) * (1 / len(part) + 1 / 400))  # the calibration is drawn too
            assert abs((part["p"] <= level).mean() - level) < 3 * spread
    assert frame["flagged"].sum() <= 3


def test_training_users_against_each_other_have_uniform_p_too():
    assert is_uniform(anomalies(MODEL, TRAIN)["p"], 250)


def test_a_score_without_the_correction_would_not_be_fair_to_lengths():
    """Why lengths are taken out: the raw errors of long histories are smaller."""
    frame = anomalies(MODEL, TEST, NORMAL)
    assert abs(np.corrcoef(np.log(frame["length"]), frame["error"])[0, 1]) > 0.25
    assert abs(np.corrcoef(np.log(frame["length"]), frame["z"])[0, 1]) < 0.12


# Lists


@pytest.mark.parametrize(("kind", "level"), [("random", 0.1), ("average", 0.2)])
def test_planted_users_are_found(kind, level):
    found = plant_attack(TEST, kind, 0.1, seed=1)
    frame = anomalies(MODEL, found.interactions, NORMAL, level=level)
    odd = set(found.interactions.users.ids()[found.planted].tolist())
    flagged = frame.loc[frame["flagged"], "user_id"]
    assert len(frame) == 660
    assert sum(user in odd for user in flagged) > 25
    assert sum(user not in odd for user in flagged) < 2 * level * len(flagged)
    assert frame["p"].is_monotonic_increasing


def test_the_columns_say_what_they_are():
    frame = anomalies(MODEL, TEST, NORMAL)
    assert list(frame) == ["user_id", "length", "error", "z", "p", "q", "flagged"]
    by_user = frame.set_index("user_id").loc[TEST.users.ids()]
    np.testing.assert_array_equal(by_user["length"], np.diff(TEST.matrix.indptr))
    np.testing.assert_allclose(by_user["error"], row_means(errors_of(MODEL, TEST.matrix, "rank"), TEST.matrix))
    np.testing.assert_allclose(frame["q"], adjusted(frame["p"].to_numpy()))
    assert (frame["flagged"] == (frame["q"] <= 0.05)).all()
    of_rows = anomalies(MODEL, TEST.matrix, NORMAL.matrix).set_index("user_id").loc[range(600)]
    np.testing.assert_array_equal(of_rows["p"], by_user["p"])


def test_the_error_is_that_of_the_model():
    vae = fitted("MultVAE", WORLD.take_users(range(200)), epochs=1)
    few, many = WORLD.take_users(range(100)), WORLD.take_users(range(100, 300))
    chosen = {name: anomalies(vae, few, many, error=name)["error"].sum() for name in (None, "rank", "likelihood")}
    assert chosen[None] == chosen["likelihood"] != chosen["rank"]
    assert anomalies(MODEL, few, many).equals(anomalies(MODEL, few, many, error="rank"))


def test_density_is_minus_the_log_likelihood_per_entry():
    vae = recsys.MultVAE(hidden=24, latent=6, beta=1.0, epochs=15, batch_size=50).fit(TRAIN, show_progress=False)
    planted = plant_attack(TEST, "random", 0.1, seed=1)
    scored = planted.interactions
    frame = anomalies(vae, scored, NORMAL, error="density", seed=3)
    by_user = frame.set_index("user_id").loc[scored.users.ids()]
    expected = -log_likelihood(vae, scored, samples=20, seed=3)["per_entry"]
    np.testing.assert_allclose(by_user["error"], expected)
    assert roc_auc_score(planted.planted, by_user["z"]) > 0.9
    assert (by_user["p"].to_numpy()[~planted.planted] <= 0.1).mean() == pytest.approx(0.1, abs=0.06)


def test_users_without_entries_are_left_out():
    matrix = sp.vstack([TEST.matrix[:5], sp.csr_matrix((2, 150), dtype=np.float32)]).tocsr()
    assert sorted(anomalies(MODEL, matrix, NORMAL.matrix)["user_id"]) == [0, 1, 2, 3, 4]


def test_shares_of_entries_add_up_to_the_user():
    few = TEST.take_users([3, 0, 7])
    frame = odd_entries(MODEL, few)
    assert len(frame) == few.nnz
    assert list(dict.fromkeys(frame["user_id"])) == few.users.ids().tolist()
    whole = anomalies(MODEL, few, NORMAL).set_index("user_id")["error"]
    for user, own in frame.groupby("user_id", sort=False):
        assert own["share"].sum() == pytest.approx(1.0)
        assert own["error"].mean() == pytest.approx(whole[user])
        assert own["error"].is_monotonic_decreasing
        code = TEST.users.codes([user])[0]
        assert set(own["item_id"]) == set(TEST.items.ids(TEST.matrix[code].indices).tolist())
    assert frame["title"].tolist() == [TEST.title(code) for code in TEST.items.codes(frame["item_id"])]


def test_an_item_that_fits_nowhere_is_the_oddest():
    """An item that users have whatever else they have, among items of tastes."""
    rng = np.random.default_rng(4)
    taste = rng.integers(0, 4, size=(800, 1))
    cells = rng.random((800, 80)) < np.where(np.arange(80) % 4 == taste, 0.5, 0.02)
    cells[:, 13] = rng.random(800) < cells.mean()
    matrix = sp.csr_matrix(cells.astype(np.float32))
    model = recsys.EASE(regularization=20.0).fit(matrix, show_progress=False)
    frame = odd_items(model, matrix)
    assert frame["item_id"][0] == 13
    assert frame["z"][0] > frame["z"][1] + 1
    np.testing.assert_array_equal(frame["users"], cells.sum(0)[frame["item_id"]])
    errors = errors_of(model, matrix, "rank")
    assert frame["error"][0] == pytest.approx(errors[matrix.indices == 13].mean())


def test_bad_input_is_refused():
    with pytest.raises(NotFittedError):
        anomalies(recsys.EASE(), TEST, NORMAL)
    with pytest.raises(DataError, match=r"normal must hold at least 40 users with entries to .* against, got 39"):
        anomalies(MODEL, TEST, NORMAL.take_users(range(39)))
    with pytest.raises(DataError, match="user_items must hold at least 80 users"):
        anomalies(MODEL, TEST.take_users(range(79)))
    with pytest.raises(DataError, match="no user has an entry"):
        odd_entries(MODEL, sp.csr_matrix((3, 150), dtype=np.float32))
    with pytest.raises(DataError, match="items are held against items of as many users"):
        odd_items(MODEL, TEST, min_users=10_000)
    with pytest.raises(ConfigError, match="density is of whole histories: folds must be 1, got 3"):
        anomalies(MODEL, TEST, NORMAL, error="density", folds=3)
    with pytest.raises(UnsupportedError, match="EASE"):
        anomalies(MODEL, TEST, NORMAL, error="density")
    for options in ({"error": "mean"}, {"folds": 0}, {"strata": 0}, {"level": 1.0}, {"seed": "a"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            anomalies(MODEL, TEST, NORMAL, **options)


# The section


def test_the_section_shows_the_oddest_users_and_what_makes_them_odd():
    from recsys.analysis import ANALYSES, Subject
    from recsys.splits import hold_out_users

    planted = plant_attack(WORLD.take_users(range(1000)), "random", 0.05, seed=2)
    split = hold_out_users(planted.interactions, n_users=100, min_items=1, seed=1)
    model = recsys.EASE(regularization=50.0).fit(split.train, show_progress=False)
    found = ANALYSES["anomalies"].findings(Subject(model=model, split=split))
    users, entries, items = (found.tables[name] for name in ("odd_users", "odd_entries", "odd_items"))
    assert set(users["user_id"]) == set(split.train.users.ids().tolist())
    assert entries["user_id"].unique().tolist() == users["user_id"][:10].tolist()
    assert found.metrics["anomalies_flagged"] == users["flagged"].sum()
    text = "".join(found.content)
    for part in (entries["title"][0], items["title"][0], str(users["user_id"][0])):
        assert str(part) in text
    assert text.count("<table") == 2
    assert text.count("<svg") == 1
    attackers = set(planted.interactions.users.ids()[planted.planted].tolist())
    assert roc_auc_score(users["user_id"].isin(attackers), users["z"]) > 0.85
