"""Generated users: what they are drawn by, what they keep, and what tells them from real ones."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.special

import recsys
from recsys.analysis import (
    ANALYSES,
    Subject,
    bootstrapped_users,
    compare_generators,
    complete_users,
    held_out_users,
    independent_users,
    interpolate_users,
    length_fit,
    memorization,
    pair_fit,
    popularity_fit,
    sample_users,
    train_on_generated,
    two_sample_test,
)
from recsys.analysis.generate import draw_histories
from recsys.errors import ConfigError, DataError, NotFittedError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import MultVAE
from tests.contract import checkerboard, fitted, new_model


def interactions(matrix):
    rows, columns = matrix.nonzero()
    return Interactions.from_frame(pd.DataFrame({"user_id": rows, "item_id": [f"i{c:02}" for c in columns]}))


BOARD = interactions(checkerboard())


def parity(matrix):
    """Share of each user's items that are even."""
    even = np.asarray(matrix[:, ::2].sum(1)).ravel()
    return even / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)


@pytest.fixture(scope="module")
def board_model():
    return new_model("MultVAE", beta=1.0, epochs=60).fit(BOARD, show_progress=False)


def test_users_have_the_lengths_and_items_of_training_and_its_taste(board_model, tmp_path):
    data = sample_users(board_model, 300, 0)
    assert data.shape == (300, 20)
    assert list(data.items) == list(BOARD.items)
    assert (np.diff(data.matrix.indptr) == 9).all()  # all training users have 9
    assert (data.matrix.data == 1).all()
    table = data.to_frame()
    assert len(table) == 2700
    assert table[["user_id", "item_id"]].duplicated().sum() == 0
    assert table["item_id"].isin(BOARD.to_frame()["item_id"]).all()
    even = parity(data.matrix)
    assert ((even < 0.1) | (even > 0.9)).mean() > 0.5  # users without taste are near a half
    assert (even < 0.5).any()
    assert (even > 0.5).any()
    pd.testing.assert_frame_equal(table, sample_users(board_model, 300, 0).to_frame())
    assert not table.equals(sample_users(board_model, 300, 1).to_frame())
    board_model.save(tmp_path / "model")
    again = recsys.load(tmp_path / "model")
    pd.testing.assert_frame_equal(table, sample_users(again, 300, 0).to_frame())


def test_draws_without_replacement_have_the_chances_of_a_list_of_draws():
    """Of 3 items with chances p, two in order: the pair {i, j} has p_i p_j (1 / (1 − p_i) + 1 / (1 − p_j))."""
    model = fitted("MultVAE", sp.csr_matrix(np.array([[3, 1, 2], [1, 1, 0]], dtype=np.float32)))
    code = model.encode(sp.csr_matrix(np.array([[1, 0, 2]], dtype=np.float32)))
    p = scipy.special.softmax(model.decode(code)[0].astype(float))
    n = 40_000
    drawn = draw_histories(model, np.repeat(code, n, 0), np.full(n, 2), np.random.default_rng(0)).toarray()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        chance = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
        share = (drawn[:, i] * drawn[:, j]).mean()
        assert abs(share - chance) < 5 * (chance * (1 - chance) / n) ** 0.5


def test_bernoulli_items_are_drawn_on_their_own():
    model = fitted("VAE", likelihood="bernoulli", prior="standard")
    code, n = model.encode(checkerboard()[:1]), 20_000
    p = scipy.special.expit(model.decode(code)[0].astype(float))
    drawn = draw_histories(model, np.repeat(code, n, 0), np.zeros(n, int), np.random.default_rng(0)).toarray()
    assert (np.abs(drawn.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-4).all()
    together = (drawn[:, 0] * drawn[:, 2]).mean()
    assert abs(together - p[0] * p[2]) < 0.02
    with pytest.raises(DataError, match="leave out lengths"):
        sample_users(model, 3, lengths=[2])


def test_gaussian_users_are_the_largest_means():
    model = fitted("VAE", likelihood="gaussian", prior="standard")
    codes = model.draw_prior(5, 1)
    drawn = draw_histories(model, codes, np.full(5, 4), np.random.default_rng(0)).toarray()
    for row, scores in zip(drawn, model.decode(codes), strict=True):
        assert set(np.flatnonzero(row)) == set(np.argsort(-scores)[:4])


def test_a_completed_history_keeps_its_entries_and_its_taste(board_model):
    history = sp.csr_matrix(3.0 * checkerboard()[:2].toarray() * (np.arange(20) < 10))
    lengths = np.diff(history.indptr)
    data = complete_users(board_model, sp.csr_matrix(history), 0, lengths=[8])
    assert (np.diff(data.matrix.indptr) == 8).all()
    kept = data.matrix.toarray()[history.nonzero()]
    assert (kept == 3.0).all()
    new = data.matrix.toarray() * (history.toarray() == 0)
    assert (np.count_nonzero(new, axis=1) == 8 - lengths).all()
    assert parity(sp.csr_matrix(new > 0))[0] > 0.7
    assert parity(sp.csr_matrix(new > 0))[1] < 0.3
    same = complete_users(board_model, sp.csr_matrix(history), 0, lengths=[1])
    np.testing.assert_array_equal(same.matrix.toarray(), history.toarray())  # long enough already
    anew = complete_users(board_model, BOARD, 0, keep=False)
    assert (np.diff(anew.matrix.indptr) == 9).all()
    assert (anew.matrix != BOARD.matrix).nnz > 0


def test_models_without_a_prior_complete_histories_all_the_same():
    for name in ("RecVAE", "MacridVAE"):
        model = fitted(name)
        assert (np.diff(complete_users(model, checkerboard(), 0, lengths=[12]).matrix.indptr) == 12).all()
        with pytest.raises(UnsupportedError, match=f"{name} .*; use MultVAE"):
            sample_users(model, 3)


def test_a_line_between_two_users_goes_from_one_taste_to_the_other(board_model):
    data = interpolate_users(board_model, checkerboard()[:2], 5, 0)
    even = parity(data.matrix)
    assert even[0] > 0.8
    assert even[-1] < 0.2
    assert next(iter(data.users)) == "between-0"
    with pytest.raises(DataError, match="two histories"):
        interpolate_users(board_model, checkerboard()[:3])


def test_what_cannot_be_drawn_is_refused(board_model):
    with pytest.raises(UnsupportedError, match="EASE has no posterior"):
        sample_users(fitted("EASE"), 3)
    with pytest.raises(NotFittedError):
        sample_users(MultVAE(), 3)
    for lengths in ([], [0], [1.5], [[1]]):
        with pytest.raises(DataError, match="flat list of whole numbers"):
            sample_users(board_model, 3, lengths=lengths)
    for call in (lambda: sample_users(board_model, 3, -1), lambda: board_model.draw_prior(3, "seed")):
        with pytest.raises(ConfigError, match="seed"):
            call()
    with pytest.raises(DataError, match="n must be at least 1"):
        sample_users(board_model, 0)
    old = fitted("MultVAE", BOARD)
    old.user_counts_ = np.broadcast_to(np.int64(1), 20)  # as of a bundle that says nothing
    with pytest.raises(DataError, match="saved by an earlier version"):
        sample_users(old, 3)
    assert (np.diff(sample_users(old, 3, lengths=[2]).matrix.indptr) == 2).all()


# How real they are


@pytest.fixture(scope="module")
def world():
    """Two tastes with items of unequal popularity, split by users."""
    rng = np.random.default_rng(0)
    chances = np.array([1.0, 0.02])[(np.arange(240)[:, None] + np.arange(40)) % 2] * np.linspace(0.5, 0.1, 40)
    stored = rng.random(chances.shape) < chances
    stored[:, :2] = True
    return recsys.splits.hold_out_users(interactions(sp.csr_matrix(stored)), n_users=60, seed=0)


def test_users_without_taste_are_told_from_real_ones_and_copies_are_flagged(world):
    train, real = world.train, held_out_users(world.test, world.train)
    sources = {"independent": independent_users(train, 120, 0), "bootstrap": bootstrapped_users(train, 120, 0)}
    table = compare_generators(sources, train, world.test).set_index("source")
    assert table.loc["independent", "popularity"] > 0.9
    assert table.loc["bootstrap", "popularity"] > 0.9
    assert table.loc["independent", "auc_components"] > 0.8 > 0.65 > table.loc["bootstrap", "auc_components"]
    assert table.loc["bootstrap", "pairs"] > 0.9 > 0.5 > table.loc["independent", "pairs"]
    assert table.loc["bootstrap", "ease_share"] > 0.9 > table.loc["independent", "ease_share"]
    assert table.loc["bootstrap", "distance"] == pytest.approx(0.0, abs=1e-12)
    assert table.loc["independent", "flagged"] < 0.2
    assert table["real_length"].nunique() == 1
    assert table["real_length"].iloc[0] == pytest.approx(real.nnz / real.shape[0])


def test_the_section_has_the_table_of_the_users_and_its_figures(world):
    model = fitted("MultVAE", world.train, beta=1.0)
    found = ANALYSES["generate"].findings(Subject(model=model, split=world, seed=3))
    assert set(found.tables) == {"generated", "generators", "memorization"}
    assert found.tables["generated"]["user_id"].nunique() == world.train.shape[0]
    frame = found.tables["generators"].set_index("source")
    assert found.metrics["generate_ease_share"] == frame.loc["model", "ease_share"]
    assert frame.loc["copies of real users", "flagged"] > frame.loc["model", "flagged"]
    assert f"{frame.loc['model', 'ease_share']:.1%} of what as many real users teach" in found.summary
    assert "generated-0" in "".join(found.content)
    with pytest.raises(UnsupportedError, match="use MultVAE"):
        ANALYSES["generate"].findings(Subject(model=fitted("EASE", world.train), split=world))


def test_the_section_of_likelihoods_stands_beside_popularity(world):
    model = fitted("MultVAE", world.train, beta=1.0)
    found = ANALYSES["density"].findings(Subject(model=model, split=world, seed=3))
    frame = found.tables["density"]
    real = held_out_users(world.test, world.train)
    assert sorted(frame["user_id"]) == sorted(real.users)
    np.testing.assert_array_equal(frame["entries"], np.diff(real.matrix.indptr))
    assert not frame["in_training"].any()
    assert found.metrics["density_log_likelihood"] == pytest.approx(frame["log_likelihood"].mean())
    assert found.metrics["density_log_likelihood"] > found.metrics["density_popularity"] == frame["popularity"].mean()
    assert f"{frame['log_likelihood'].mean():,.1f} nats" in found.summary
    with pytest.raises(UnsupportedError, match="RecVAE with its composite prior has a prior of codes"):
        ANALYSES["density"].findings(Subject(model=fitted("RecVAE", world.train, epochs=2), split=world))


def test_distances_and_flags_are_those_of_a_loop(world):
    train, held_out = world.train, held_out_users(world.test, world.train)
    frame = memorization(bootstrapped_users(train, 10, 1), train, held_out, level=0.5)
    assert frame["flagged"].all()
    generated = independent_users(train, 12, 2)
    frame = memorization(generated, train, held_out, level=0.5)

    def nearest(row):
        sets = [set(train.matrix[u].indices) for u in range(train.shape[0])]
        own = set(row.indices)
        return min(1 - len(own & s) / (len(own) * len(s)) ** 0.5 for s in sets)

    expected = [nearest(generated.matrix[u]) for u in range(12)]
    np.testing.assert_allclose(frame["distance"], expected, atol=1e-6)
    threshold = np.quantile([nearest(held_out.matrix[u]) for u in range(held_out.shape[0])], 0.5)
    np.testing.assert_allclose(frame["threshold"], threshold, atol=1e-6)
    np.testing.assert_array_equal(frame["flagged"], np.array(expected) < threshold)


def test_each_question_has_its_frame(world):
    train = world.train
    copies = bootstrapped_users(train, 2000, 0)
    shares = popularity_fit(copies, train)
    np.testing.assert_allclose(shares["real"], np.diff(train.matrix.tocsc().indptr) / train.shape[0])
    assert (shares["real"] - shares["generated"]).abs().max() < 0.06
    lengths = length_fit(copies, train)
    assert (lengths["real"] == lengths["generated"]).all() or (lengths["real"] - lengths["generated"]).abs().max() <= 1
    pairs = pair_fit(train, train, items=5)
    np.testing.assert_array_equal(pairs["real"], pairs["generated"])
    row = pairs.iloc[0]
    dense = pd.DataFrame(train.matrix.toarray(), columns=list(train.items))
    both, n = (dense[row["first"]] * dense[row["second"]]).sum(), len(dense)
    assert row["real"] == pytest.approx(n * (both + 0.5) / (dense[row["first"]].sum() * dense[row["second"]].sum()))
    learned = train_on_generated({"copies": copies}, train, world.test)
    assert learned["users"].nunique() == 1
    assert learned["share"].iloc[0] == 1.0
    assert set(two_sample_test(copies, train)["classifier"]) == {"items", "components"}
    other = Interactions.from_frame(pd.DataFrame({"user_id": [0, 1], "item_id": ["x", "y"]}))
    with pytest.raises(DataError, match="same items"):
        popularity_fit(other, train)
    with pytest.raises(DataError, match="needs 6 users of each kind"):
        two_sample_test(train.take_users([0, 1]), train)
