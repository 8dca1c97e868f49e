"""Lists of an index beside the exact ones: all of them with every probe, most of them with few, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys import cli
from recsys.approximate import ItemIndex, share_found
from recsys.errors import ConfigError, DataError, NotFittedError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import ALS, MODELS, Popularity
from recsys.scoring import score
from recsys.scoring.output import OutputFolder
from tests.contract import CASES, NO_SCORE, csr, fitted, new_model, quick, ratings
from tests.scoring.test_local import table

pytest.importorskip("faiss")
MATRIX = ratings(60, 40)
USERS = np.arange(60)
ABLE = [
    name
    for name in CASES
    if name
    not in {
        *("UAutoRec", "IAutoRec", "DeepAutoRec", "DeepRecommender", "SparseFC", "GLocalK", "MacridVAE", "VASP", "ELSA"),
        *("EASE", "EDLAE", "DLAE", "RDLAE", "DEQL", "HigherOrderEASE", "SANSA", "InfiniteAE"),
        *("ItemKNN", "Popularity", "Blend", "ContentKNN", "FEASE", "WithFeatures", "WithUserFeatures"),
    }
]


def whole(model, **options):
    index = ItemIndex(model, **options)
    index.probes = index.lists
    return index


def check_same(found, exact, tolerance=2e-5):
    """The same lists, except where the scores of neighbors are equal up to rounding."""
    np.testing.assert_allclose(found[1], exact[1], rtol=tolerance, atol=tolerance)
    assert ((found[0] == exact[0]) | np.isclose(found[1], exact[1], rtol=1e-4, atol=1e-4)).all()
    assert (found[0] == exact[0]).mean() > 0.97


@pytest.mark.parametrize("name", CASES)
def test_every_probe_gives_the_lists_of_the_model_or_it_says_that_it_has_none(name):
    model = fitted(name, MATRIX, **quick(MODELS[name]))
    if name not in ABLE:
        with pytest.raises(UnsupportedError, match=f"{name} scores items by more than products of vectors"):
            ItemIndex(model)
        return
    index = whole(model, lists=5)
    for options in ({}, {"N": 3}, {"N": 45}, {"filter_already_liked_items": False}, {"recalculate_user": True}):
        check_same(index.recommend(USERS, MATRIX, **options), model.recommend(USERS, MATRIX, **options))
    strangers = np.full(60, -1)
    check_same(index.recommend(strangers, MATRIX), model.recommend(strangers, MATRIX))
    check_same(index.recommend(7, MATRIX[7]), model.recommend(7, MATRIX[7]))


def test_a_model_of_ones_own_that_scores_otherwise_has_none():
    class Twice(MODELS["MultVAE"]):
        def _scores(self, histories, userid, items, out):
            return 2.0 * super()._scores(histories, userid, items, out)

    model = Twice(**{**CASES["MultVAE"], "epochs": 2}).fit(MATRIX, show_progress=False)
    with pytest.raises(UnsupportedError, match="Twice scores items by more than products"):
        ItemIndex(model)


@pytest.mark.parametrize("name", ["MultVAE", "ALS", "BPR"])
def test_histories_with_nothing_to_read_and_what_was_seen_elsewhere(name):
    model = fitted(name, MATRIX, **quick(MODELS[name]))
    index = whole(model)
    some = MATRIX.tolil()
    some[3] = 0.0
    some[5, :30] = 1.0
    some = sp.csr_matrix(some)
    users = np.full(60, -1)
    check_same(index.recommend(users, some, N=8), model.recommend(users, some, N=8))
    half = csr(np.where((MATRIX.toarray() > 0) & (np.arange(40) % 2 == 0), MATRIX.toarray(), np.nan))
    check_same(index.recommend(users, half, seen=MATRIX), model.recommend(users, half, seen=MATRIX))
    everything = csr(np.ones((1, 40)))
    assert (index.recommend(-1, everything)[1] == NO_SCORE).all()


def test_few_probes_find_most_and_never_give_a_shorter_list():
    matrix, users = ratings(200, 600, density=0.03), np.arange(200)
    model = fitted("ALS", matrix, factors=8, iterations=10)
    index = ItemIndex(model, lists=30)
    exact = model.recommend(users, matrix)[0]
    index.probes = 1
    few = index.recommend(users, matrix)[0]
    assert (few >= 0).all()
    assert all(len(set(row)) == 10 for row in few.tolist())
    assert not np.asarray(matrix[np.repeat(users, 10), few.ravel()]).any()
    found = index.calibrate(users, matrix, recall=0.95)
    assert found >= 0.95 > share_found(exact, few)
    assert 1 < index.probes < 30
    assert share_found(exact, index.recommend(users, matrix)[0]) >= found
    assert index.calibrate(users, matrix, recall=1.0) == pytest.approx(1.0, abs=2e-3)


def test_the_same_seed_gives_the_same_lists():
    model = fitted("MultVAE", MATRIX)
    one, other = (ItemIndex(model, lists=8, seed=3) for _ in range(2))
    one.probes = other.probes = 2
    for left, right in zip(one.recommend(USERS, MATRIX), other.recommend(USERS, MATRIX), strict=True):
        np.testing.assert_array_equal(left, right)


def test_what_cannot_be_is_refused():
    with pytest.raises(NotFittedError):
        ItemIndex(new_model("MultVAE"))
    model = fitted("MultVAE", MATRIX)
    with pytest.raises(ConfigError, match=r"lists must be at most the number of items \(40\), got 41"):
        ItemIndex(model, lists=41)
    with pytest.raises(ConfigError, match="lists must"):
        ItemIndex(model, lists=0)
    index = ItemIndex(model)
    for wrong in (0.0, 1.1, float("nan"), "most"):
        with pytest.raises(ConfigError, match="recall must"):
            index.calibrate(USERS, MATRIX, recall=wrong)
    with pytest.raises(DataError, match="needs the users' histories"):
        index.recommend(USERS, None)
    with pytest.raises(DataError, match="one row per userid"):
        index.recommend([0, 1], MATRIX)
    with pytest.raises(DataError, match="seen must have one row per userid"):
        index.recommend(USERS, MATRIX, seen=MATRIX[:3])


def test_shares_of_lists_are_counted_by_hand():
    exact = np.array([[1, 2, 3], [4, -1, -1]])
    assert share_found(exact, np.array([[3, 1, 9], [4, 5, -1]])) == pytest.approx(3 / 4)
    assert share_found(np.full((2, 2), -1), np.full((2, 2), -1)) == 0.0


DATA = table(rows=900, items=60)


@pytest.fixture(scope="module")
def als():
    return ALS(factors=8, iterations=5).fit(Interactions.from_frame(DATA), show_progress=False)


def test_a_job_writes_what_the_index_finds_and_says_how_much_that_is(als, tmp_path):
    histories, out = Interactions.from_frame(DATA), tmp_path / "out"
    exact = score(als, histories, tmp_path / "exact", n=5)
    found = score(als, histories, out, n=5, recall=0.9, batch_size=20)
    assert exact.recall == 1.0
    assert 0.9 <= found.recall <= 1.0
    assert found.rows == exact.rows == 50 * 5
    manifest = json.loads((out / "_manifest.json").read_text())
    assert (manifest["recall"], manifest["measured_recall"]) == (0.9, found.recall)
    assert 1 <= manifest["index_probes"] <= manifest["index_lists"] == 15
    lists = [pd.read_parquet(folder).groupby("user_id")["item_id"].apply(list) for folder in (exact.output, out)]
    shares = [len(set(one) & set(other)) / 5 for one, other in zip(*lists, strict=True)]
    assert np.mean(shares) == pytest.approx(found.recall)
    seen = set(map(tuple, DATA.to_numpy().tolist()))
    assert not seen & {(user, item) for user, items in lists[1].items() for item in items}

    again = score(als, histories, out, n=5, recall=0.9, batch_size=20)
    assert (again.already_complete, again.recall) == (True, found.recall)
    other = score(als, histories, out, n=5, recall=1.0, batch_size=20)
    assert not other.already_complete
    assert other.recall == pytest.approx(1.0, abs=0.01)
    assert not score(als, histories, out, n=5, batch_size=20).already_complete


def test_an_interrupted_job_ends_with_the_same_lists(als, tmp_path, monkeypatch):
    histories, options = Interactions.from_frame(DATA), {"n": 5, "recall": 0.9, "batch_size": 20}
    whole = score(als, histories, tmp_path / "whole", **options)
    write, calls = OutputFolder.write_part, []

    def stop(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "write_part", stop)
        with pytest.raises(KeyboardInterrupt):
            score(als, histories, tmp_path / "out", **options)
    again = score(als, histories, tmp_path / "out", **options)
    assert again.resumed_parts == 2
    pd.testing.assert_frame_equal(pd.read_parquet(again.output), pd.read_parquet(whole.output))


def test_a_job_that_cannot_have_an_index_leaves_nothing_behind(als, tmp_path):
    histories = Interactions.from_frame(DATA)
    popular = Popularity().fit(histories, show_progress=False)
    with pytest.raises(UnsupportedError, match="Popularity scores items by more than products"):
        score(popular, histories, tmp_path / "out", recall=0.9)
    with pytest.raises(ConfigError, match="recall must be above 0"):
        score(als, histories, tmp_path / "out", recall=2.0)
    assert not list(tmp_path.iterdir())


def test_the_command_scores_by_an_index(als, tmp_path, capsys):
    als.save(tmp_path / "model")
    DATA.to_csv(tmp_path / "data.csv", index=False)
    call = ["score", str(tmp_path / "model"), "--data", str(tmp_path / "data.csv"), "--output", str(tmp_path / "out")]
    assert cli.main([*call, "--quiet", "--recall", "0.8", "-n", "5", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    share = 100 * manifest["measured_recall"]
    assert (f"found by an index: {share:.1f} % of what exact lists hold" in said) == (share < 100)
    assert manifest["recall"] == 0.8
    for wrong in ("0", "1.2", "most", "nan"):
        with pytest.raises(SystemExit):
            cli.main([*call, "--recall", wrong])
        assert "must be a number above 0 and at most 1" in capsys.readouterr().err
    assert cli.main([*call, "--engine", "spark", "--recall", "0.8", "--root", str(tmp_path)]) == 2
    assert "--recall is not for --engine spark" in capsys.readouterr().err
