"""Density by brute force, groups that are what they say, and weights against density."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import recsys
from recsys.analysis import ANALYSES, Subject, coverage, inverse_density_weights
from recsys.analysis.representation import log_density
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.evaluation import evaluate
from recsys.splits import hold_out_users

DATA = recsys.datasets.synthetic(users=400, items=60, interactions=6000, seed=2).binarized()
SPLIT = hold_out_users(DATA, n_users=100, min_items=1, seed=0)
VAE = recsys.MultVAE(hidden=16, latent=4, epochs=4, batch_size=50).fit(SPLIT.train, show_progress=False)
EASE = recsys.EASE(regularization=20.0).fit(SPLIT.train, show_progress=False)
RNG = np.random.default_rng(0)
ABOUT = pd.DataFrame(
    {"sex": RNG.choice(["f", "m"], 400), "income": RNG.normal(size=400), "town": RNG.integers(0, 90, 400).astype(str)},
    index=DATA.users.ids(),
).drop(index=DATA.users.ids()[:20])


def test_density_is_the_mean_distance_to_the_nearest_others():
    points, among = RNG.normal(size=(30, 3)), RNG.normal(size=(50, 3))
    distances = np.sort(np.linalg.norm(points[:, None] - among, axis=2), axis=1)
    np.testing.assert_allclose(log_density(points, among), -np.log(distances[:, :20].mean(1)))
    own = np.sort(np.linalg.norm(among[:, None] - among, axis=2), axis=1)[:, 1:21]
    np.testing.assert_allclose(log_density(among, among, leave_out=np.arange(50)), -np.log(own.mean(1)))


def test_points_at_one_place_are_no_reason_to_fail():
    same = np.zeros((40, 2))
    assert np.isfinite(log_density(same, same, leave_out=np.arange(40))).all()


def rows_of(frame, by):
    return frame[frame["by"] == by].set_index("group")


def test_groups_are_those_of_the_users_and_values_those_of_evaluate():
    frame = coverage(VAE, SPLIT.train, SPLIT.test, ABOUT, cells=5)
    values = evaluate(VAE, SPLIT.test, "ndcg@10").per_user.set_index("user_id")["ndcg@10"]
    n = int(values.notna().sum())
    whole = rows_of(frame, "all").loc["all"]
    assert (whole["n"], whole["value"], whole["gap"]) == (n, pytest.approx(values.mean()), 0.0)
    for by in ("density", "cell", "sex", "income", "town"):
        own = rows_of(frame, by)
        assert own["n"].sum() == n, by
        assert own["share"].sum() == pytest.approx(1.0)
        assert (own["value"] * own["n"]).sum() == pytest.approx(values.sum())
        if by != "density":
            assert own["trained"].sum() == pytest.approx(1.0), by
    sex = ABOUT["sex"].reindex(values.index).fillna("unknown")
    for level, own in values.groupby(sex):
        found = rows_of(frame, "sex").loc[level]
        assert found["n"] == own.notna().sum()
        assert found["value"] == pytest.approx(own.mean())
        assert found["standard_error"] == pytest.approx(own.std() / np.sqrt(own.notna().sum()), nan_ok=True)
        assert found["gap"] == pytest.approx(own.mean() - values.mean())
    trained = ABOUT["sex"].reindex(SPLIT.train.users.ids()).fillna("unknown").value_counts(normalize=True)
    assert rows_of(frame, "sex")["trained"].to_dict() == pytest.approx(trained.to_dict())
    income = rows_of(frame, "income").index.tolist()
    assert [text.split()[0] for text in income] == ["up", "above", "above", "above", "unknown"]
    low = float(income[0].removeprefix("up to "))
    assert income[1].startswith(f"above {low:g} to ")
    share = (ABOUT["income"].reindex(SPLIT.train.users.ids()) <= low).mean()
    assert rows_of(frame, "income")["trained"].iloc[0] == pytest.approx(share, abs=0.01)
    assert len(rows_of(frame, "town")) == 26  # the most frequent, others, and unknown
    worst = np.sort(values.dropna())[: round(0.1 * n)].mean()
    assert rows_of(frame, "quality")["value"].item() == pytest.approx(worst)


def test_tenths_and_cells_are_in_order():
    frame = coverage(VAE, SPLIT.train, SPLIT.test, cells=4)
    density, cells = rows_of(frame, "density"), rows_of(frame, "cell")
    assert list(density.index) == [f"tenth {k}" for k in range(1, 11)]
    np.testing.assert_allclose(density["density"], np.arange(0.05, 1, 0.1), atol=0.01)
    assert cells["trained"].is_monotonic_increasing
    codes, own = VAE.encode(SPLIT.train), VAE.encode(SPLIT.test.context)
    thin = np.sort(np.linalg.norm(own[:, None].astype(float) - codes, axis=2), axis=1)[:, :20].mean(1)
    values = evaluate(VAE, SPLIT.test, "ndcg@10").per_user["ndcg@10"].to_numpy()
    known = np.flatnonzero(np.isfinite(values))
    sparsest = known[np.argsort(-thin[known])][: density["n"].iloc[0]]
    assert density["value"].iloc[0] == pytest.approx(values[sparsest].mean())


def test_users_of_training_do_not_count_themselves():
    split = recsys.splits.hold_out_ratings(DATA, test=0.2, validation=0.0, seed=1)
    model = recsys.MultVAE(hidden=16, latent=4, epochs=4).fit(split.train, show_progress=False)
    frame = coverage(model, split.train, split.test)
    values = evaluate(model, split.test, "ndcg@10").per_user["ndcg@10"].to_numpy()
    known = np.flatnonzero(np.isfinite(values))
    assert (split.test.user_index[known] >= 0).all()
    codes = model.encode(split.train)[np.diff(split.train.matrix.indptr) > 0].astype(float)
    distances = np.sort(np.linalg.norm(model.encode(split.test.context)[known][:, None] - codes, axis=2), axis=1)
    sparsest = known[np.argsort(-distances[:, 1:21].mean(1))][: rows_of(frame, "density")["n"].iloc[0]]
    assert rows_of(frame, "density")["value"].iloc[0] == pytest.approx(values[sparsest].mean())


def test_another_model_may_be_measured_in_the_same_groups():
    own, other = coverage(VAE, SPLIT.train, SPLIT.test), coverage(EASE, SPLIT.train, SPLIT.test, codes=VAE)
    np.testing.assert_array_equal(own["density"].iloc[:-1], other["density"].iloc[:-1])
    np.testing.assert_array_equal(own["n"], other["n"])
    assert other["value"][0] == pytest.approx(evaluate(EASE, SPLIT.test, "ndcg@10").values["ndcg@10"])


def test_weights_rise_where_there_are_few():
    codes = VAE.encode(SPLIT.train)
    lengths = np.exp(-log_density(codes.astype(float), codes.astype(float), leave_out=np.arange(len(codes))))
    weights = inverse_density_weights(VAE, SPLIT.train, power=2.0, ratio=1e9)
    np.testing.assert_allclose(weights, lengths**2 / np.mean(lengths**2))
    bounded = inverse_density_weights(VAE, SPLIT.train, power=3.0, ratio=2.0)
    assert bounded.max() / bounded.min() == pytest.approx(2.0)
    assert bounded.mean() == pytest.approx(1.0)
    assert (np.argsort(bounded, kind="stable")[:30] == np.argsort(weights, kind="stable")[:30]).all()
    flat = inverse_density_weights(VAE, SPLIT.train, ratio=1.0)
    np.testing.assert_allclose(flat, 1.0)


def test_a_user_without_entries_has_the_least_weight():
    matrix = sp.vstack([sp.csr_matrix((1, 60), dtype=np.float32), SPLIT.train.matrix]).tocsr()
    weights = inverse_density_weights(VAE, matrix)
    assert weights[0] == weights.min()
    rest = weights[1:] / weights[1:].mean()
    np.testing.assert_allclose(rest, inverse_density_weights(VAE, SPLIT.train), rtol=1e-5)


def test_weighted_training_moves_what_is_learned_to_the_sparse():
    """Two kinds of users, of which one is rare: with weights the rare ones' likelihood gains."""
    rng = np.random.default_rng(3)
    rare = np.arange(300) >= 285
    cells = rng.random((300, 20)) < np.where((np.arange(20) < 10) ^ rare[:, None], 0.5, 0.03)
    matrix = sp.csr_matrix(cells.astype(np.float32))
    options = {"hidden": 16, "latent": 2, "epochs": 30, "batch_size": 50, "learning_rate": 0.01}
    first = recsys.MultVAE(**options).fit(matrix, show_progress=False)
    weights = np.where(rare, 19.0, 1.0)
    second = recsys.MultVAE(**options).fit(matrix, show_progress=False, user_weights=weights)
    from recsys.analysis.reconstruction import entry_errors

    def error(model):
        return entry_errors(model, matrix[rare], "likelihood", 1, rng).mean()

    assert error(second) < error(first) - 0.05


def test_the_section_has_its_tables():
    found = ANALYSES["coverage"].findings(Subject(model=VAE, split=SPLIT, users=ABOUT[["sex"]]))
    groups = found.tables["coverage"]
    assert set(groups["by"]) == {"all", "density", "cell", "sex", "quality"}
    whole, low = (groups[groups["group"] == name]["value"].item() for name in ("all", "tenth 1"))
    assert found.metrics["coverage_sparsest_tenth"] == pytest.approx(low / whole)
    assert f"{low:.4f}" in found.summary
    assert "".join(found.content).count("<svg") == 1


def test_bad_input_is_refused():
    with pytest.raises(UnsupportedError, match=r"EASE has no embeddings of users.*MultVAE"):
        coverage(EASE, SPLIT.train, SPLIT.test)
    with pytest.raises(UnsupportedError, match="EASE has no embeddings"):
        inverse_density_weights(EASE, SPLIT.train)
    with pytest.raises(DataError, match="holds none of the training users"):
        coverage(VAE, SPLIT.train, SPLIT.test, ABOUT.set_axis(ABOUT.index + 10_000))
    with pytest.raises(DataError, match="must have a row per user; 21 has two"):
        coverage(VAE, SPLIT.train, SPLIT.test, pd.concat([ABOUT, ABOUT.head(1)]))
    with pytest.raises(DataError, match="cells must be at most the number of training users"):
        coverage(VAE, SPLIT.train, SPLIT.test, cells=1000)
    with pytest.raises(DataError, match="density among 15 users cannot be told"):
        inverse_density_weights(VAE, SPLIT.train.take_users(range(15)))
    with pytest.raises(ConfigError, match="ratio must be at least 1"):
        inverse_density_weights(VAE, SPLIT.train, ratio=0.5)
    with pytest.raises(ConfigError, match="power"):
        inverse_density_weights(VAE, SPLIT.train, power=0)
