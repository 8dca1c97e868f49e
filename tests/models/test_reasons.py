"""What the items of a history contribute to a score: against brute force, for every model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from implicit.cpu.als import AlternatingLeastSquares

import recsys
from recsys.errors import ConfigError, DataError, NotFittedError, OutOfRangeError, UnsupportedError
from recsys.models import MODELS, Autoencoder, Capabilities, Recommender, reasons
from recsys.nn import paths
from tests.contract import CASES, csr, fitted, quick, ratings

TASTES = ratings(n_users=24, n_items=15, density=0.3)
UNSEEN = ratings(n_users=6, n_items=15, density=0.4, seed=1)
EMPTY = sp.csr_matrix((1, 15), dtype=np.float32)
ITEMS = np.arange(15)
EXPLAINED = [name for name in CASES if MODELS[name].capabilities.explains]
EXACT = ["EASE", "EDLAE", "DLAE", "RDLAE", "DEQL", "HigherOrderEASE", "ELSA", "SANSA", "ALS", "ItemKNN"]
EXACT += ["ContentKNN", "FEASE", "WithFeatures"]
NETWORKS = [
    name
    for name in EXPLAINED
    if issubclass(MODELS[name], Autoencoder) and MODELS[name].capabilities.new_users == "history" and name not in EXACT
]


@functools.cache
def on_tastes(name):
    """Fitted once; no test may change it."""
    return fitted(name, TASTES, **quick(MODELS[name]))


def scores_of(model, history, user=-1):
    """The scores of all items, as `recommend` gives them to who is no training user."""
    with torch.inference_mode():
        return model._checked(history, np.array([user]), None, None)[0].double().numpy()


def by_item(one, n_items=15):
    """Contributions as an array over all items."""
    found = np.zeros(n_items)
    found[one.contributions["item_id"]] = one.contributions["contribution"]
    return found


def without(history, item):
    cells = np.full(history.shape, np.nan)
    cells[0, history.indices] = history.data
    cells[0, item] = np.nan
    return csr(cells)


@pytest.mark.parametrize("name", EXPLAINED)
def test_leave_one_out_is_the_score_less_that_without_the_item(name):
    model = on_tastes(name)
    for row in UNSEEN[:2]:
        found = model.explain(-1, row, ITEMS, method="leave-one-out")
        whole, nothing = scores_of(model, row), scores_of(model, EMPTY)
        expected = {item: whole - scores_of(model, without(row, item)) for item in row.indices}
        for item, one in enumerate(found):
            assert one.item_id == item
            assert one.method == "leave-one-out"
            assert (one.score, one.baseline) == pytest.approx((whole[item], nothing[item]), abs=1e-6)
            np.testing.assert_allclose(
                by_item(one)[row.indices], [expected[i][item] for i in row.indices], atol=1e-6, rtol=1e-6
            )
            total = one.baseline + one.contributions["contribution"].sum() + one.remainder
            assert total == pytest.approx(one.score, abs=1e-9)


@pytest.mark.parametrize("name", EXPLAINED)
def test_exact_where_scores_are_sums_and_leave_one_out_elsewhere(name):
    model = on_tastes(name)
    one = model.explain(-1, UNSEEN[0], 3)
    assert one.method == ("exact" if name in EXACT else "leave-one-out")
    if name not in EXACT:
        with pytest.raises(UnsupportedError, match="are no sums over the history; use method='leave-one-out'"):
            model.explain(-1, UNSEEN[0], 3, method="exact")


@pytest.mark.parametrize("name", EXACT)
def test_exact_contributions_add_up_to_the_score(name):
    model = on_tastes(name)
    rng = np.random.default_rng(0)
    for row in UNSEEN:
        row = row.copy()
        row.data = rng.integers(0, 4, row.nnz).astype(np.float32)  # some of them stored zeros
        for one in model.explain(-1, row, ITEMS):
            values = one.contributions["contribution"]
            assert len(values) == row.nnz
            assert one.baseline == 0.0
            assert abs(one.remainder) <= 1e-5 * max(values.abs().max(), 1e-3)
            assert one.score == pytest.approx(scores_of(model, row)[one.item_id], abs=1e-6)


@pytest.mark.parametrize("name", [name for name in EXACT if name not in ("ALS", "HigherOrderEASE")])
def test_in_a_sum_over_single_items_leave_one_out_is_exact(name):
    model = on_tastes(name)
    for exact, left in zip(
        model.explain(-1, UNSEEN[0], ITEMS),
        model.explain(-1, UNSEEN[0], ITEMS, method="leave-one-out"),
        strict=True,
    ):
        np.testing.assert_allclose(by_item(exact), by_item(left), atol=2e-5)


def test_those_of_als_are_implicits_own():
    model = recsys.ALS(factors=3, iterations=4, regularization=0.5, alpha=2.5).fit(TASTES, show_progress=False)
    theirs = AlternatingLeastSquares(factors=3, regularization=0.5, alpha=2.5)
    theirs.item_factors = model.item_factors_.numpy()
    row = UNSEEN[0].copy()
    row.data[:3] = [0.0, -2.0, 0.4]
    for item in (0, 7):
        score, top, _ = theirs.explain(0, row, item, N=15)
        one = model.explain(5, row, item)
        expected = np.zeros(15)
        expected[[i for i, _ in top]] = [value for _, value in top]
        np.testing.assert_allclose(by_item(one), expected, atol=1e-6)
        assert one.score == pytest.approx(score, abs=1e-5)
        _, recalculated = model.recommend(5, row, N=1, items=[item], filter_already_liked_items=False)
        assert one.score == pytest.approx(float(recalculated[0]), abs=1e-6)


def test_a_pair_s_term_goes_to_its_items_by_halves_which_are_the_shapley_values():
    model = on_tastes("HigherOrderEASE")
    row = UNSEEN[0]
    rng = np.random.default_rng(0)
    expected = np.zeros(15)
    for _ in range(400):  # the mean over orders of what an item adds to those before it
        kept, before = np.full(15, np.nan), 0.0
        for item in rng.permutation(row.indices):
            kept[item] = row[0, item]
            now = scores_of(model, csr(kept[None]))[2]
            expected[item] += (now - before) / 400
            before = now
    found = by_item(model.explain(-1, row, 2))
    assert found.sum() == pytest.approx(expected.sum(), abs=1e-5)
    np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(found).max())


def test_those_of_ease_are_the_entries_times_the_weights():
    model = on_tastes("EASE")
    row = UNSEEN[0]
    expected = np.zeros(15)
    expected[row.indices] = row.data * model.weights_.numpy()[row.indices, 4]
    np.testing.assert_allclose(by_item(model.explain(-1, row, 4)), expected, rtol=1e-6)


# Gradients


@pytest.mark.parametrize("name", NETWORKS)
def test_integrated_gradients_add_up_to_the_score_less_the_baseline(name):
    model = fitted(name, TASTES)
    for user in (-1, 3):
        for one in model.explain(user, UNSEEN[1], [0, 7, 14], method="gradients"):
            assert one.method == "gradients"
            scale = max(one.contributions["contribution"].abs().max(), 1e-3)
            assert abs(one.remainder) <= 2e-3 * scale
            assert one.contributions["contribution"].any()


def test_integrated_gradients_are_those_of_finite_differences():
    model = fitted("MultVAE", TASTES)
    row, item, steps = UNSEEN[1], 7, 400
    network, values = model.network_, row.data / np.linalg.norm(row.data)
    columns = torch.from_numpy(row.indices.astype(np.int64))

    def score(x):
        with torch.no_grad():
            hidden = torch.from_numpy(x).float() @ network.input.weight[columns] + network.input.bias
            mean, _ = network.posterior_layer(torch.tanh(hidden[None])).chunk(2, 1)
            return float(network.output(network.decode(mean))[0, item])

    expected = np.zeros(row.nnz)
    for alpha in (np.arange(steps) + 0.5) / steps:
        for k in range(row.nnz):
            step = 1e-2 * (np.arange(row.nnz) == k)
            slope = score(alpha * values + step) - score(alpha * values - step)
            expected[k] += values[k] * slope / 2e-2 / steps
    found = by_item(model.explain(-1, row, item, method="gradients"))[row.indices]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_gradients_leave_the_model_as_it_is():
    model = fitted("MultVAE", TASTES)
    model.network_.zero_grad()
    before = {name: tensor.clone() for name, tensor in model.network_.state_dict().items()}
    model.explain(-1, UNSEEN[0], ITEMS, method="gradients")
    assert all(parameter.grad is None for parameter in model.network_.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network_.state_dict().items())


@pytest.mark.parametrize("name", ["EASE", "ELSA", "ALS", "IAutoRec", "InfiniteAE", "BPR", "Blend"])
def test_where_no_network_reads_the_history_there_are_no_gradients(name):
    use = "exact" if name in EXACT else "leave-one-out"
    with pytest.raises(UnsupportedError, match=f"{name} has no network that reads a history; use method='{use}'"):
        on_tastes(name).explain(-1, UNSEEN[0], 3, method="gradients")


def test_the_bias_of_a_user_is_what_gradients_leave():
    model = fitted("UAutoRec", TASTES, biases=5.0, unobserved_weight=0.0)
    one = model.explain(-1, UNSEEN[1], 3, method="gradients")
    bias = float(model.biases_.users(UNSEEN[1])[0])
    assert one.remainder == pytest.approx(bias, abs=1e-3)


# What is given, and what comes back


@pytest.mark.parametrize("name", ["EASE", "ALS", "ItemKNN", "MultVAE", "CDAE", "IAutoRec", "Blend"])
def test_an_empty_history_has_the_baseline_and_no_reasons(name):
    model = on_tastes(name)
    methods = [None, "leave-one-out", *(["gradients"] if name in NETWORKS else [])]
    for method in methods:
        one = model.explain(-1, EMPTY, 3, method=method)
        assert one.contributions.empty
        assert one.contributions.columns.tolist() == ["item_id", "contribution"]
        assert one.score == one.baseline
        assert one.remainder == 0.0


@pytest.mark.parametrize("name", ["EASE", "ALS", "MultVAE", "UAutoRec"])
@pytest.mark.parametrize("method", [None, "leave-one-out", "gradients"])
def test_items_that_no_training_user_has_say_nothing(name, method):
    if method == "gradients" and name not in NETWORKS:
        pytest.skip("no network")
    cells = TASTES.toarray()
    cells[:, 4] = 0.0
    model = fitted(name, sp.csr_matrix(cells), **quick(MODELS[name]))
    history = csr(np.where(np.arange(15) == 4, 2.0, np.nan)[None])
    one = model.explain(-1, history, 3, method=method)
    assert one.contributions.values.tolist() == [[4, 0.0]]
    assert one.score == one.baseline


@pytest.mark.parametrize("name", ["CDAE", "ALS", "MultVAE"])
def test_a_training_user_and_a_stranger(name):
    model = on_tastes(name)
    known, stranger = (model.explain(user, TASTES[3], 5) for user in (3, -1))
    other = model.explain(900, TASTES[3], 5)
    assert stranger.score == other.score
    _, (score,) = model.recommend(
        3, TASTES[3], N=1, items=[5], filter_already_liked_items=False, recalculate_user=name == "ALS"
    )
    assert known.score == pytest.approx(float(score), abs=1e-6)
    assert (known.score != stranger.score) == (name == "CDAE")  # which reads a vector of the user beside the history


@pytest.mark.parametrize("name", ["MultVAE", "EASE", "Blend", "ALS", "VASP"])
def test_blocks_do_not_matter(name, monkeypatch):
    model = on_tastes(name)

    def found():
        methods = ["leave-one-out", *(["gradients"] if name in NETWORKS else [])]
        return [[by_item(one) for one in model.explain(-1, UNSEEN[1], ITEMS, method=m)] for m in methods]

    whole = found()
    small = functools.partial(paths.integrated_gradients, memory=40)
    monkeypatch.setattr("recsys.models.autoencoder.integrated_gradients", small)
    for entries in (1, 13, 20):
        monkeypatch.setattr(reasons, "_ENTRIES", entries)
        np.testing.assert_array_equal(found()[0], whole[0])
        np.testing.assert_allclose(found(), whole, atol=1e-6)


def test_a_history_of_thousands_of_items_is_left_out_in_blocks(monkeypatch):
    n = 5000
    rng = np.random.default_rng(0)
    table = sp.random(60, n, density=0.02, format="csr", rng=rng, dtype=np.float32)
    model = recsys.ItemKNN(neighbors=5).fit(table, show_progress=False)
    most, score = 0, model._scores

    def scores(histories, *others):
        nonlocal most
        most = max(most, histories.nnz)
        return score(histories, *others)

    monkeypatch.setattr(model, "_scores", scores)
    history = sp.csr_matrix(np.ones((1, n), np.float32))
    one = model.explain(-1, history, 7, method="leave-one-out")
    assert len(one.contributions) == n
    assert most <= 2**20
    np.testing.assert_allclose(by_item(one, n), by_item(model.explain(-1, history, 7), n), atol=1e-4)


def test_more_than_memory_holds_is_refused(monkeypatch):
    model = on_tastes("EASE")
    monkeypatch.setenv("RECSYS_MEMORY", "0.0000001")
    with pytest.raises(DataError, match="explain fewer items at a time"):
        model.explain(-1, UNSEEN[1], ITEMS)


def test_the_largest_contribution_is_first_and_equal_ones_go_by_index():
    model = on_tastes("ItemKNN")
    cells = np.where(np.arange(15) < 9, 0.0, np.nan)
    cells[[2, 5]] = [3.0, 1.0]
    one = model.explain(-1, csr(cells[None]), 2)
    values = one.contributions["contribution"].to_numpy()
    assert (np.diff(values) <= 0).all()
    zeros = one.contributions["item_id"][values == 0]
    assert zeros.is_monotonic_increasing
    assert len(zeros) >= 7


def test_several_items_are_several_explanations():
    model = on_tastes("EASE")
    found = model.explain(-1, UNSEEN[0], [7, 3, 7])
    assert [one.item_id for one in found] == [7, 3, 7]
    for one in found:
        alone = model.explain(-1, UNSEEN[0], one.item_id)
        pd.testing.assert_frame_equal(alone.contributions, one.contributions)
        assert alone.score == one.score
    assert model.explain(-1, UNSEEN[0], []) == ()


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_ids_are_those_of_the_data(kind):
    table = TASTES.tocoo()
    items = np.array([f"item {i:02d}" for i in range(15)]) if kind == "text" else 10 * np.arange(15)
    frame = pd.DataFrame({"user_id": table.row, "item_id": items[table.col], "rating": table.data})
    data = recsys.Interactions.from_frame(frame)
    model = recsys.EASE(regularization=1.0).fit(data, show_progress=False)
    one = model.explain(2, data.matrix[2], 4)
    assert one.item_id == items[4]
    assert set(one.contributions["item_id"]) == set(items[TASTES[2].indices])
    plain = recsys.EASE(regularization=1.0).fit(TASTES, show_progress=False).explain(2, TASTES[2], 4)
    assert items[plain.contributions["item_id"]].tolist() == one.contributions["item_id"].tolist()
    assert type(one.item_id) is (str if kind == "text" else int)


def test_what_cannot_be_explained_is_refused():
    model = on_tastes("EASE")
    with pytest.raises(UnsupportedError, match=r"Popularity gives no reasons: .* use EASE, ALS or MultVAE"):
        on_tastes("Popularity").explain(-1, UNSEEN[0], 3)
    with pytest.raises(NotFittedError):
        recsys.EASE().explain(-1, UNSEEN[0], 3)
    for item in (15, -1):
        with pytest.raises(OutOfRangeError, match=r"itemid must lie in 0\.\.14"):
            model.explain(-1, UNSEEN[0], item)
    with pytest.raises(DataError, match="one user at a time, got 2"):
        model.explain([0, 1], UNSEEN[:2], 3)
    with pytest.raises(DataError, match="must have one row, the history of that user, got 6 rows"):
        model.explain(0, UNSEEN, 3)
    for name in ("EASE", "CDAE"):
        with pytest.raises(DataError, match="pass it as user_items"):
            on_tastes(name).explain(0, None, 3)
    with pytest.raises(ConfigError, match="method must be one of exact, leave-one-out, gradients, got 'shap'"):
        model.explain(0, UNSEEN[0], 3, method="shap")


@dataclass(kw_only=True, eq=False)
class Neighbors(Recommender):
    """Gives nothing but scores."""

    capabilities: ClassVar[Capabilities] = Capabilities(encodes=False, keeps_users=False, compares_items=False)

    def _fit(self, matrix, options):
        self.shares_ = np.asarray((matrix.T @ matrix).todense())

    def _scores(self, histories, userid, items, out):
        found = np.sqrt(np.asarray(histories @ self.shares_))
        return torch.from_numpy(found if items is None else found[:, items])

    def _arrays(self) -> dict[str, Any]:
        return {"shares": self.shares_}

    def _restore(self, arrays, state):
        self.shares_ = arrays["shares"]


def test_a_model_of_one_s_own_needs_no_more_than_scores():
    model = Neighbors().fit(TASTES, show_progress=False)
    one = model.explain(-1, UNSEEN[0], 3)
    assert one.method == "leave-one-out"
    first = one.contributions.iloc[0]
    left = scores_of(model, without(UNSEEN[0], int(first["item_id"])))
    assert first["contribution"] == pytest.approx(scores_of(model, UNSEEN[0])[3] - left[3], abs=1e-4)


class Never(Neighbors):
    """Never recommends item 3."""

    def _scores(self, histories, userid, items, out):
        found = super()._scores(histories, userid, None, out)
        found[:, 3] = -torch.inf
        return found if items is None else found[:, items]


def test_what_is_never_recommended_has_no_reasons():
    model = Never().fit(TASTES, show_progress=False)
    with pytest.raises(DataError, match="Never never recommends item 3 to this user: its score is -inf"):
        model.explain(-1, UNSEEN[0], [2, 3])
    assert model.explain(-1, UNSEEN[0], 2).score > 0


class Squared(recsys.EASE):
    """Scores in a way of its own, so that what EASE says of its sums does not hold."""

    def _scores(self, histories, userid, items, out):
        return super()._scores(histories, userid, items, out).square()


def test_sums_of_a_parent_are_not_believed_of_other_scores():
    model = Squared(regularization=1.0).fit(TASTES, show_progress=False)
    assert model.explain(-1, UNSEEN[0], 3).method == "leave-one-out"


# What reasons are good for


def drop_of_rank(model, data, rng, most, *, count):
    """How many places the best item falls when the `most` reasons are removed, and when as many random items are."""
    falls = []
    for row in range(data.shape[0]):
        history = data[row]
        if history.nnz < 3 * most:
            continue
        best, _ = model.recommend(-1, history, N=1)
        one = model.explain(-1, history, int(best[0]))
        named = one.contributions["item_id"].to_numpy()[:most]
        random = rng.choice(history.indices, most, replace=False)
        places = []
        for gone in (named, random):
            cells = np.full(data.shape[1], np.nan)
            cells[history.indices] = history.data
            cells[gone] = np.nan
            kept = csr(cells[None])
            allowed = np.setdiff1d(np.arange(data.shape[1]), history.indices)
            ids, _ = model.recommend(-1, kept, N=data.shape[1], items=allowed)
            places.append(int(np.flatnonzero(ids == best[0])[0]))
        falls.append(places)
        if len(falls) == count:
            break
    return np.mean(falls, axis=0)


@pytest.mark.parametrize(
    "model",
    [
        recsys.EASE(regularization=20.0),
        recsys.ALS(factors=16, regularization=1.0),
        pytest.param(recsys.MultVAE(hidden=32, latent=16, epochs=30, batch_size=50), marks=pytest.mark.slow),
    ],
    ids=lambda model: type(model).__name__,
)
def test_without_its_reasons_an_item_falls_further_than_without_random_items(model):
    data = recsys.datasets.synthetic(400, 120, 12_000, seed=1).filter(min_rating=3).binarized().matrix
    model.fit(data, show_progress=False)
    named, random = drop_of_rank(model, data, np.random.default_rng(0), 3, count=60)
    assert named > 2 * random
