"""Whatever is passed to a verb of a model: the right result, or the package's own error that says what to pass."""

import io
import warnings
from zlib import crc32

import numpy as np
import pytest
import scipy.sparse as sp

import recsys
from recsys import cli, tracking
from recsys.artifacts import read_bundle
from recsys.config import load_config, load_configs
from recsys.errors import ConfigError, DataError, DataWarning, OutOfRangeError, UnsupportedError
from recsys.models import MODELS
from tests.contract import same
from tests.verbs import DATA, N_USERS, PART, TABLE, Caller, model
from tests.verbs_of_codes import CodeCaller
from tests.verbs_of_frames import FrameCaller

QUICK = ["EASE", "SANSA", "InfiniteAE", "ItemKNN", "ALS", "Popularity", "UAutoRec", "IAutoRec", "MultVAE", "CDAE"]


def called(name, calls, seed, caller=Caller):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return caller(model(name), seed + crc32(name.encode())).run(calls)  # other calls for each model


@pytest.mark.parametrize("name", QUICK)
def test_arguments_of_every_kind_are_taken_right_or_refused_with_the_reason(name):
    caller = called(name, 150, seed=1)
    assert not caller.faults, "\n".join(caller.faults[:5])
    assert min(caller.refused, caller.lists) > 10  # both happened


@pytest.mark.parametrize("name", ["EASE", "ALS", "UAutoRec", "MultDAE", "MultVAE", "VAE", "HVamp", "AAE", "MacridVAE"])
def test_verbs_of_codes_take_arguments_right_or_refuse_them_with_the_reason(name):
    caller = called(name, 100, seed=1, caller=CodeCaller)
    assert not caller.faults, "\n".join(caller.faults[:5])
    assert caller.refused > 10
    assert caller.lists > 10 or name == "EASE"  # which has no codes


@pytest.mark.parametrize("name", QUICK)
def test_verbs_that_return_frames_answer_as_those_of_indices_or_refuse_with_the_reason(name):
    caller = called(name, 80, seed=1, caller=FrameCaller)
    assert not caller.faults, "\n".join(caller.faults[:5])
    assert min(caller.refused, caller.lists) > 10


@pytest.mark.slow
@pytest.mark.parametrize("caller", [Caller, CodeCaller, FrameCaller])
@pytest.mark.parametrize("name", MODELS)
def test_many_calls_of_every_model(name, caller):
    made = called(name, 600, seed=2, caller=caller)
    assert not made.faults, f"{len(made.faults)} of {made.called} calls\n" + "\n".join(made.faults[:5])


@pytest.fixture(scope="module")
def ease():
    return recsys.EASE(regularization=1.0).fit(DATA, show_progress=False)


@pytest.mark.parametrize("n", [None, float("nan"), True, "3", np.True_])
def test_a_length_that_is_no_number_is_refused_by_every_verb(ease, n, tmp_path):
    for call in (
        lambda: ease.recommend(0, TABLE[0], N=n),
        lambda: ease.recommend_users(0, TABLE, N=n),
        lambda: ease.similar_items(0, N=n),
    ):
        with pytest.raises(DataError, match="N must be a whole number, got"):
            call()
    for call in (
        lambda: recsys.recommend_frame(ease, DATA, n=n),
        lambda: recsys.score(ease, DATA, tmp_path / "out", n=n),
    ):
        with pytest.raises(ConfigError, match="n must be a whole number, got"):
            call()
    with pytest.raises(ConfigError, match="batch_size must be a whole number, got"):
        recsys.score(ease, DATA, tmp_path / "out", batch_size=n)


def test_a_whole_number_in_another_type_is_that_number(ease, tmp_path):
    for n in (2.0, np.float32(2), np.int64(2), np.array(2)):
        same(ease.recommend([0, 1], TABLE[:2], N=n), ease.recommend([0, 1], TABLE[:2], N=2))
        assert recsys.recommend_frame(ease, DATA, n=n).equals(recsys.recommend_frame(ease, DATA, n=2))
        assert recsys.score(ease, DATA, tmp_path / "out", n=n).rows == 2 * N_USERS


def test_indices_are_one_or_a_flat_list(ease):
    two = [[0, 1]]
    for call in (
        lambda: ease.recommend(two, TABLE[:2]),
        lambda: ease.recommend_users(two, TABLE),
        lambda: ease.similar_items(two),
        lambda: ease.recommend(0, TABLE[0], items=two),
    ):
        with pytest.raises(
            DataError, match=r"must be one index or a flat list of them, got an array of shape \(1, 2\)"
        ):
            call()
    with pytest.raises(DataError, match="userid must be numbers in a list or an array"):
        ease.recommend([[0], [0, 1]], TABLE[:2])
    for name in ("EASE", "ALS", "Popularity"):
        fitted = model(name)
        for histories in (TABLE, None) if name != "EASE" else (TABLE,):
            ids, scores = fitted.recommend_users([], histories, N=4)
            assert ids.shape == scores.shape == (0, 4)
            assert (ids.dtype, scores.dtype) == (np.int32, np.float32)


def test_pairs_need_a_row_each():
    fitted = recsys.UAutoRec(epochs=1).fit(TABLE, show_progress=False)
    with pytest.raises(DataError, match="one pair each, got 2 rows and 3 items"):
        fitted.predict_pairs([0, 1], TABLE[:2], [0, 1], [1, 2, 3])
    with pytest.raises(OutOfRangeError, match=r"rows must lie in 0\.\.1"):
        fitted.predict_pairs([0, 1], TABLE[:2], [2], [1])


def test_tables_and_single_ids_are_named_with_what_to_pass(ease, tmp_path):
    frame = DATA.to_frame()
    with pytest.raises(DataError, match=r"histories must be Interactions.* got DataFrame; .*Interactions\.from_frame"):
        recsys.recommend_frame(ease, frame)
    with pytest.raises(DataError, match=r"seen must be Interactions.* got csr_matrix"):
        recsys.recommend_frame(ease, DATA, seen=TABLE)
    for call in (lambda: recsys.EASE().fit(frame), lambda: ease.recommend(0, frame), lambda: ease.encode(frame)):
        with pytest.raises((DataError, UnsupportedError), match=r"Interactions\.from_frame|no embeddings"):
            call()
    for one in (3, "3", 100.0, np.array(100)):
        with pytest.raises(DataError, match=r"takes a collection of ids, got the single .*; pass"):
            recsys.recommend_frame(ease, DATA, one)
    with pytest.raises(DataError, match=r"a flat collection of ids, got an array of shape \(1, 2\)"):
        recsys.recommend_frame(ease, DATA, np.array([[100, 101]]))
    part = recsys.splits.hold_out_ratings(DATA, test=0.3).test
    with pytest.raises(DataError, match=r"popularity must be Interactions with the part's 15 items.* got csr_matrix"):
        recsys.evaluate(ease, part, popularity=TABLE)
    with pytest.raises(UnsupportedError, match=r"a model to measure has a method recommend.*; got Interactions"):
        recsys.evaluate(DATA, part)


def test_seeds_of_functions_are_checked():
    evaluations = {name: recsys.evaluate(model(name), PART, ["ndcg@5"]) for name in ("EASE", "Popularity")}
    for seed in (-1, "3", 1.5, True, [1]):
        for call in (
            lambda seed=seed: recsys.splits.hold_out_ratings(DATA, seed=seed),
            lambda seed=seed: recsys.splits.hold_out_users(DATA, n_users=3, seed=seed),
            lambda seed=seed: recsys.splits.hold_out_users(DATA, n_users=0.3, stable=True, seed=seed),
            lambda seed=seed: recsys.intervals(evaluations["EASE"], seed=seed),
            lambda seed=seed: recsys.compare(evaluations, seed=seed),
            lambda seed=seed: recsys.cold_user_curve(model("EASE"), PART, [1], seed=seed),
            lambda seed=seed: recsys.MultVAE(seed=seed).fit(DATA, show_progress=False),
        ):
            with pytest.raises((ConfigError, DataError), match=r"seed.* must be a whole number"):
                call()
    for splitter in (recsys.splits.hold_out_users, recsys.splits.hold_out_ratings):
        with pytest.raises(DataError, match=r"seed must be a whole number ≥ 0 and < 4294967296, got 4294967296"):
            splitter(DATA, seed=2**32)
    draws = [recsys.splits.hold_out_ratings(DATA, seed=seed).train.fingerprint() for seed in (7, np.int64(7))]
    assert draws[0] == draws[1]


def test_paths_begin_at_home_and_open_files_are_none(ease, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ease.save("~/here/model", metrics={"ndcg@10": np.float32(0.5)}, about={"n": np.int64(3), "list": np.arange(2)})
    assert (tmp_path / "here/model/config.json").is_file()
    for loaded in (recsys.load("~/here/model"), recsys.EASE.load("~/here/model"), tracking.load("~/here/model")):
        same(loaded.recommend(0, TABLE[0]), ease.recommend(0, TABLE[0]))
        assert loaded.about_ == {"n": 3, "list": [0, 1]}
    assert read_bundle(tmp_path / "here/model").metrics == {"ndcg@10": 0.5}
    assert tracking.pin("~/here/model") == str(tmp_path / "here/model")
    assert recsys.score(ease, DATA, "~/scored").output == tmp_path / "scored"
    assert recsys.export.export_onnx(ease, "~/graph.onnx") == tmp_path / "graph.onnx"
    assert recsys.Workspace("~/work").root == tmp_path / "work"
    recsys.MultDAE(epochs=2).fit(DATA, show_progress=False, checkpoint="~/checkpoints/run.safetensors")
    assert (tmp_path / "checkpoints").is_dir()
    (tmp_path / "job.toml").write_text('[model]\nname = "EASE"\n')
    assert load_config("~/job.toml").model == {"name": "EASE"}
    assert len(load_configs(["~/job.toml"])) == 1
    DATA.to_frame().to_csv(tmp_path / "data.csv", index=False)
    options = ["--data=~/data.csv", "--output=~/lists", "--root=~/work", "--quiet"]
    assert cli.main(["score", "~/here/model", *options]) == 0
    assert (tmp_path / "lists" / "_manifest.json").is_file()
    assert not (tmp_path / "~").exists()
    with io.BytesIO() as file:
        for call in (
            lambda: ease.save(file),
            lambda: recsys.load(file),
            lambda: recsys.EASE.load(file),
            lambda: recsys.score(ease, DATA, file),
            lambda: recsys.export.export_onnx(ease, file),
            lambda: recsys.Workspace(file),
            lambda: load_config(file),
        ):
            with pytest.raises(ConfigError, match="expected a path as text or as a Path, got BytesIO"):
                call()
    alone = "\udd00"  # half of a character
    for call in (recsys.load, recsys.Workspace, load_config, ease.save, lambda path: recsys.score(ease, DATA, path)):
        with pytest.raises(ConfigError, match="expected a path of characters that a file system can hold"):
            call(alone)
    with pytest.raises(SystemExit):  # of the parser
        cli.main(["registry", "list", "--root", alone])
    with pytest.raises(DataError, match="metrics must be JSON values"):
        ease.save(tmp_path / "other", metrics={"ndcg@10": object()})
    assert not (tmp_path / "other").exists()


def test_values_whose_squares_overflow_and_damaged_matrices_are_refused(ease):
    great = TABLE[:2].copy()
    great.data[1] = 1e30
    for call in (lambda: ease.recommend([0, 1], great), lambda: recsys.MultVAE().fit(great, show_progress=False)):
        with pytest.raises(DataError, match=r"holds 1 stored values beyond ±1e\+15"):
            call()
    great.data[1] = 1e15
    ids, scores = model("MultVAE").recommend([0, 1], great)
    assert np.isfinite(scores).all()
    assert (ids[:, 0] >= 0).all()
    far, backwards = TABLE[:2].copy(), TABLE[:2].copy()
    far.indices[0] = 10**6
    backwards.indptr[1] = 10**6
    for damaged in (far, backwards, far.tocsr().T):
        with pytest.raises(DataError, match="user_items is damaged"):
            ease.recommend([0, 1], damaged)
    with pytest.raises(DataError, match="real numbers in two dimensions, got complex128"):
        ease.recommend([0, 1], TABLE[:2].astype(np.complex128))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(ease, value):
    broken = recsys.EASE(regularization=1.0).fit(DATA, show_progress=False)
    broken.weights_[3] = value
    row = int(np.flatnonzero(TABLE[:, [3]].toarray()[:, 0])[0])
    for call in (lambda: broken.recommend(row, TABLE[row]), lambda: broken.recommend_users(0, TABLE)):
        with pytest.raises(DataError, match="EASE gives scores that are NaN or infinite"):
            call()
    broken.weights_[3] = -np.inf  # never recommended
    broken.recommend(row, TABLE[row])


@pytest.mark.parametrize("name", ["EASE", "ALS", "MultVAE", "CDAE"])
def test_users_who_have_seen_an_item_are_left_out_by_what_they_have_seen(name):
    fitted, liked = model(name), DATA.select(DATA.matrix.data >= 4).matrix
    items, users = np.array([0, 3, 7]), np.arange(N_USERS)
    ids, scores = fitted.recommend_users(items, liked, N_USERS, False, userid=users)
    found = fitted.recommend_users(items, liked, N_USERS, userid=users, seen=TABLE)
    stored = sp.csr_matrix((np.ones(TABLE.nnz), TABLE.indices, TABLE.indptr), shape=TABLE.shape).toarray() > 0
    for row, item in enumerate(items):
        left = [place for place, user in enumerate(ids[row]) if not stored[user, item]]
        assert 0 < len(left) < N_USERS
        same((found[0][row, : len(left)], found[1][row, : len(left)]), (ids[row, left], scores[row, left]))
        assert (found[0][row, len(left) :] == -1).all()
    with pytest.raises(DataError, match=r"seen must have one row per user \(24\), got 3 rows"):
        fitted.recommend_users(items, liked, seen=TABLE[:3])
