"""Batch scoring: the rows of `recommend`, parts, resumption, and an output that is complete or absent."""

import json
import sys
import threading
import uuid

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.errors import ConfigError, DataError, NotFittedError, ScoringError, UnknownIdError
from recsys.files import locked
from recsys.interactions import Interactions
from recsys.models import EASE, IAutoRec, UAutoRec, load
from recsys.scoring import recommend_frame, score
from recsys.scoring.local import MANIFEST, model_checksum
from tests.contract import new_model


def table(seed=0, users=50, items=30, rows=500, text=False):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user_id": rng.integers(100, 100 + users, rows), "item_id": rng.integers(7, 7 + items, rows)})
    frame = frame.drop_duplicates()
    return frame.astype(str) if text else frame


DATA = Interactions.from_frame(table())
MODEL = EASE(regularization=5.0).fit(DATA, show_progress=False)


def read(folder):
    return pd.read_parquet(folder)


def expected(model, data, n, exclude_seen=True, userid=None):
    """The same rows through `recommend`, one user at a time."""
    rows = []
    histories = data.histories(model.items_)
    for code in range(data.shape[0]):
        index = -1 if userid is None else userid[code]
        ids, scores = model.recommend(index, histories[code], N=n, filter_already_liked_items=exclude_seen)
        for rank, (item, value) in enumerate(zip(ids, scores, strict=True), start=1):
            if item >= 0:
                rows.append((data.users.ids([code])[0], model.items_.ids([item])[0], value, rank))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "score", "rank"])


def assert_same(got, wanted):
    got = got.drop(columns="source", errors="ignore")  # of frames: see test_sources
    assert got.columns.tolist() == ["user_id", "item_id", "score", "rank"]
    for column in ("user_id", "item_id", "rank"):
        assert got[column].tolist() == wanted[column].tolist()
    np.testing.assert_allclose(got["score"], wanted["score"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "exclude_seen"), [(4, True), (40, True), (4, False)])
def test_the_output_is_what_recommend_returns_row_for_row(tmp_path, n, exclude_seen):
    result = score(MODEL, DATA, tmp_path / "out", n=n, exclude_seen=exclude_seen, batch_size=16)
    wanted = expected(MODEL, DATA, n, exclude_seen)
    assert_same(read(result.output), wanted)
    assert (result.users, result.rows, result.parts) == (50, len(wanted), 4)
    if n == 40:  # fewer candidates than asked for: fewer rows, never a seen item or a filler
        assert len(wanted) == 50 * 30 - DATA.nnz


def test_columns_have_plain_types_and_zstd(tmp_path):
    score(MODEL, DATA, tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet")
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {"user_id": "int64", "item_id": "int64", "score": "float", "rank": "int32"}
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_histories_with_other_items_and_text_ids_are_aligned(tmp_path):
    model = EASE(regularization=5.0).fit(Interactions.from_frame(table(text=True)), show_progress=False)
    other = Interactions.from_frame(table(seed=1, users=60, items=45, text=True))
    result = score(model, other, tmp_path / "out", n=5, batch_size=17)
    assert_same(read(result.output), expected(model, other, 5))


def test_trained_users_keep_their_vectors_and_new_and_changed_histories_are_folded_in():
    model = IAutoRec(hidden=4, epochs=2, seed=0, unobserved_weight=0.1).fit(DATA, show_progress=False)
    later = table(seed=2, users=20, rows=30).assign(user_id=lambda rows: rows["user_id"] + 40)  # 10 of them are new
    later = later[~later.apply(tuple, axis=1).isin(table().apply(tuple, axis=1))]
    data = Interactions.from_frame(pd.concat([table().sample(frac=1, random_state=0), later]))
    index = model.users_.codes(data.users.ids(), on_unknown="mark")
    grown = np.isin(data.users.ids(), later["user_id"])
    assert (index < 0).sum() > 5
    assert (grown & (index >= 0)).sum() > 5
    got = recommend_frame(model, data, n=3)
    assert_same(got, expected(model, data, 3, userid=np.where(grown, -1, index)))
    everyone = expected(model, data, 3)
    trained = ~np.isin(got["user_id"], later["user_id"])
    assert not np.allclose(got["score"][trained], everyone["score"][trained], atol=1e-4)  # so the mapping matters


def test_a_frame_holds_the_rows_of_the_output_for_the_users_asked(tmp_path):
    users = [130, 101, 117]
    frame = recommend_frame(MODEL, DATA, users, n=3)
    assert frame["user_id"].tolist() == [user for user in users for _ in range(3)]
    everyone = expected(MODEL, DATA, 3).set_index("user_id")
    assert_same(frame, pd.concat([everyone.loc[[user]] for user in users]).reset_index())
    score(MODEL, DATA, tmp_path / "out", n=3, users=users, batch_size=2)
    pd.testing.assert_frame_equal(read(tmp_path / "out"), frame.drop(columns="source"))


def test_unknown_users_are_refused_or_dropped(tmp_path):
    with pytest.raises(UnknownIdError, match="99999"):
        score(MODEL, DATA, tmp_path / "out", users=[101, 99999])
    assert score(MODEL, DATA, tmp_path / "out", users=[101, 99999], on_unknown="drop").users == 1
    with pytest.raises(ScoringError, match="no users to score"):
        score(MODEL, DATA, tmp_path / "none", users=[99999], on_unknown="drop")
    assert not (tmp_path / "none").exists()


def test_wrong_calls_are_refused(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(NotFittedError):
        score(EASE(), DATA, out)
    with pytest.raises(ScoringError, match="fit it on Interactions"):
        score(EASE().fit(DATA.matrix, show_progress=False), DATA, out)
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        score(MODEL, DATA, out, n=0)
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        score(MODEL, DATA, out, batch_size=0)
    with pytest.raises(ConfigError, match="on_unknown"):
        score(MODEL, DATA, out, on_unknown="mark")
    with pytest.raises(DataError, match="1 repeats"):
        score(MODEL, DATA, out, users=[101, 101])
    assert not list(tmp_path.iterdir())


def test_the_manifest_says_what_was_done(tmp_path):
    options = {"model_uri": "models:/toy/1", "asked_uri": "models:/toy@champion"}
    score(MODEL, DATA, tmp_path / "out", n=3, batch_size=20, **options)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert {name: manifest[name] for name in options} == options
    assert manifest["run_id"] is None
    assert manifest["identity"]["seen"] is None
    assert manifest["model"] == "EASE"
    assert (manifest["users"], manifest["rows"], manifest["n"]) == (50, 150, 3)
    assert [part["users"] for part in manifest["parts"]] == [20, 20, 10]
    assert manifest["identity"]["data"] == DATA.fingerprint()
    assert manifest["started"] <= manifest["finished"]
    assert manifest["started"].endswith("+00:00")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    names = [MANIFEST, "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def seen_data():
    """All that the users of DATA have seen: their items, two more each, and a user who is not in DATA."""
    extra = table(seed=3, rows=120).assign(user_id=lambda frame: frame["user_id"].clip(upper=149))
    return Interactions.from_frame(
        pd.concat([table(), extra, pd.DataFrame({"user_id": [999], "item_id": [7]})]).drop_duplicates()
    )


def test_what_users_have_seen_is_masked_and_what_they_liked_is_read(tmp_path):
    seen = seen_data()
    assert seen.nnz > DATA.nnz + 20
    rows = seen.take_users(seen.users.codes(DATA.users.ids()))
    ids, scores = MODEL.recommend(np.full(50, -1), DATA.matrix, N=30, seen=rows.histories(MODEL.items_))
    frame = recommend_frame(MODEL, DATA, n=30, seen=seen)
    assert frame["item_id"].tolist() == MODEL.items_.ids(ids[ids >= 0]).tolist()
    np.testing.assert_array_equal(frame["score"], scores[ids >= 0])
    assert not len(frame.merge(seen.to_frame(), on=["user_id", "item_id"]))
    # The scores are those of the histories alone.
    plain = recommend_frame(MODEL, DATA, n=30).merge(frame, on=["user_id", "item_id"])
    assert len(plain) == len(frame)
    np.testing.assert_array_equal(plain["score_x"], plain["score_y"])
    first = score(MODEL, DATA, tmp_path / "out", n=30, seen=seen)
    pd.testing.assert_frame_equal(read(first.output), frame.drop(columns="source"))
    assert score(MODEL, DATA, tmp_path / "out", n=30, seen=seen).already_complete
    assert not score(MODEL, DATA, tmp_path / "out", n=30).already_complete
    with pytest.raises(DataError, match=r"seen must hold every user of the histories, 1 are missing, such as \[100\]"):
        recommend_frame(MODEL, DATA, seen=seen.take_users(seen.users.codes(list(seen.users)[1:])))


@pytest.mark.parametrize("kind", ["uuid", "tuple"])
def test_ids_of_any_kind_come_back_in_memory_and_are_kept_out_of_files(tmp_path, kind):
    def convert(number):
        return uuid.UUID(int=number) if kind == "uuid" else (number, number + 1)

    frame = table(users=9, items=8, rows=60)
    data = Interactions.from_frame(frame.map(convert))
    model = EASE(regularization=5.0).fit(data, show_progress=False)
    got = recommend_frame(model, data, n=3)
    plain = Interactions.from_frame(frame)
    wanted = recommend_frame(EASE(regularization=5.0).fit(plain, show_progress=False), plain, n=3)
    for column in ("user_id", "item_id"):
        assert got[column].tolist() == wanted[column].map(convert).tolist()
    with pytest.raises(
        ScoringError, match=f"user ids of type {'UUID' if kind == 'uuid' else 'tuple'} cannot be stored"
    ):
        score(model, data, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_dates_come_back_from_files(tmp_path):
    frame = table(users=9, items=8, rows=60)
    frame["user_id"] = pd.to_datetime(frame["user_id"], unit="D").dt.as_unit("ns")
    data = Interactions.from_frame(frame)
    score(EASE().fit(data, show_progress=False), data, tmp_path / "out")
    assert read(tmp_path / "out")["user_id"].unique().tolist() == list(data.users)


class Killed(BaseException):
    pass


def breaking(after, monkeypatch, model=MODEL):
    """Make the model die at its block number `after`; return the sizes of the blocks that it answered."""
    calls = []
    recommend = type(model).recommend

    def flaky(*args, **kwargs):
        if len(calls) == after:
            raise Killed
        calls.append(len(args[0]))
        return recommend(model, *args, **kwargs)

    monkeypatch.setattr(model, "recommend", flaky, raising=False)
    return calls


def interrupt(tmp_path, monkeypatch, **options):
    with monkeypatch.context() as patch:
        breaking(2, patch)
        with pytest.raises(Killed):
            score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10, **options)


def test_a_killed_job_continues_from_its_finished_parts(tmp_path, monkeypatch):
    interrupt(tmp_path, monkeypatch)
    partial = tmp_path / ".out.partial"
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in partial.glob("part-*")) == ["part-00000.parquet", "part-00001.parquet"]
    (partial / ".part-00002.parquet").write_bytes(b"half of")
    calls = breaking(99, monkeypatch)
    result = score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10)
    assert (result.resumed_parts, result.parts, calls) == (2, 5, [10, 10, 10])
    assert_same(read(result.output), expected(EASE(regularization=5.0).fit(DATA, show_progress=False), DATA, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert len(list(result.output.iterdir())) == 6


def test_a_damaged_part_and_a_torn_journal_are_done_again(tmp_path, monkeypatch):
    interrupt(tmp_path, monkeypatch)
    partial = tmp_path / ".out.partial"
    (partial / "part-00000.parquet").write_bytes(b"PAR1")
    with (partial / ".parts.jsonl").open("a") as journal:
        journal.write('\n{"file": "part-00')
    interrupt(tmp_path, monkeypatch)  # writes parts 0 and 2 after the torn line, dies at 3
    calls = breaking(99, monkeypatch)
    result = score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10)
    assert (result.resumed_parts, len(calls)) == (3, 2)
    assert_same(read(result.output), recommend_frame(MODEL, DATA, n=3))


@pytest.mark.parametrize("change", ["model", "data", "users", "n", "exclude_seen", "batch_size", "seen"])
def test_an_interrupted_job_of_another_identity_starts_over(tmp_path, monkeypatch, change):
    interrupt(tmp_path, monkeypatch)
    model = EASE(regularization=6.0).fit(DATA, show_progress=False) if change == "model" else MODEL
    data = Interactions.from_frame(table().iloc[:-3]) if change == "data" else DATA
    options = {"n": 3, "batch_size": 10, "exclude_seen": True, "users": None}
    options |= {"users": list(DATA.users)[::-1]} if change == "users" else {}
    options |= {"n": 4} if change == "n" else {}
    options |= {"exclude_seen": False} if change == "exclude_seen" else {}
    options |= {"batch_size": 11} if change == "batch_size" else {}
    options |= {"seen": seen_data()} if change == "seen" else {}
    result = score(model, data, tmp_path / "out", **options)
    assert result.resumed_parts == 0
    options.pop("batch_size")
    assert_same(read(result.output), recommend_frame(model, data, **options))


def test_a_digest_of_the_caller_stands_for_the_data(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Interactions, "fingerprint", lambda self: pytest.fail("computed a fingerprint"))
        score(MODEL, DATA, tmp_path / "out", n=3, seen=seen_data(), data_id="monday")
        assert score(MODEL, DATA, tmp_path / "out", n=3, seen=seen_data(), data_id="monday").already_complete
        assert not score(MODEL, DATA, tmp_path / "out", n=3, seen=seen_data(), data_id="tuesday").already_complete
    identity = json.loads((tmp_path / "out" / MANIFEST).read_text())["identity"]
    assert (identity["data"], identity["seen"]) == ("tuesday", None)
    assert not score(MODEL, DATA, tmp_path / "out", n=3, seen=seen_data()).already_complete


def test_a_job_that_died_before_the_rename_only_renames(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def die(*folders):
            raise Killed

        patch.setattr("recsys.scoring.output.replace_folder", die)
        with pytest.raises(Killed):
            score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10)
    calls = breaking(99, monkeypatch)
    result = score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10)
    assert (result.resumed_parts, calls) == (5, [])


def test_a_complete_output_is_left_as_it_is(tmp_path, monkeypatch):
    first = score(MODEL, DATA, tmp_path / "out", n=3)
    MODEL.save(tmp_path / "model")
    again = load(tmp_path / "model")
    calls = breaking(99, monkeypatch, again)
    result = score(again, DATA, tmp_path / "out", n=3)
    assert (result.already_complete, first.already_complete, result.rows, calls) == (True, False, first.rows, [])
    assert not score(again, DATA, tmp_path / "out", n=3, overwrite=True).already_complete
    assert len(calls) == 1
    (tmp_path / "out" / "part-00000.parquet").write_bytes(b"damaged")
    assert not score(again, DATA, tmp_path / "out", n=3).already_complete
    assert len(read(tmp_path / "out")) == first.rows


def test_an_output_of_another_job_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    old = EASE(regularization=50.0).fit(DATA, show_progress=False)
    score(old, DATA, tmp_path / "out", n=3)
    before = read(tmp_path / "out")
    interrupt(tmp_path, monkeypatch)
    pd.testing.assert_frame_equal(read(tmp_path / "out"), before)
    score(MODEL, DATA, tmp_path / "out", n=3, batch_size=10)
    assert_same(read(tmp_path / "out"), recommend_frame(MODEL, DATA, n=3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ScoringError, match="not a scoring output"):
        score(MODEL, DATA, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_two_jobs_do_not_write_the_same_output(tmp_path):
    with locked(tmp_path / ".out.lock"), pytest.raises(ScoringError, match="another job is writing"):
        score(MODEL, DATA, tmp_path / "out")
    assert score(MODEL, DATA, tmp_path / "out").users == 50


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1
    assert not (tmp_path / "lock").exists()


def test_no_block_is_larger_than_asked_for(tmp_path, monkeypatch):
    calls = breaking(99, monkeypatch)
    score(MODEL, DATA, tmp_path / "out", batch_size=7)
    assert calls == [7] * 7 + [1]


def test_the_checksum_of_a_model_is_of_what_it_recommends(tmp_path):
    def train(**options):
        return UAutoRec(hidden=4, epochs=1, unobserved_weight=0.1, **options).fit(DATA, show_progress=False)

    model = train(seed=0)
    model.save(tmp_path / "model", metrics={"ndcg@10": 0.1}, about={"note": "anything"})
    assert model_checksum(model) == model_checksum(load(tmp_path / "model")) == model_checksum(train(seed=0))
    assert model_checksum(model) != model_checksum(train(seed=1))
    text = Interactions.from_frame(table(text=True))
    assert text.shape == DATA.shape
    assert model_checksum(MODEL) != model_checksum(EASE(regularization=5.0).fit(text, show_progress=False))


def test_progress_is_shown_on_request(tmp_path, capsys):
    score(MODEL, DATA, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    score(MODEL, DATA, tmp_path / "loud", show_progress=True)
    assert "50.0/50.0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["MultVAE", "IAutoRec", "ALS", "InfiniteAE"])
def test_the_size_of_parts_changes_no_bit_of_the_lists(tmp_path, name):
    model = new_model(name).fit(DATA, show_progress=False)
    whole = read(score(model, DATA, tmp_path / "whole", n=30).output)
    for size in (1, 7, 33):
        parts = read(score(model, DATA, tmp_path / str(size), n=30, batch_size=size).output)
        pd.testing.assert_frame_equal(parts, whole, check_exact=True)
