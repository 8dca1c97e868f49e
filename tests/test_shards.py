"""Shards: what is written is read, damage is named, and nobody's files are removed."""

import datetime
import json
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import recsys
from recsys import shards
from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.mapped import MappedMatrix, Piece
from recsys.splits import Part, Split, by_time, hold_out_ratings, hold_out_users, leave_last_out

DATA = recsys.datasets.synthetic(120, 40, 1500)
SPLITS = {
    "users": hold_out_users(DATA, stable=True, n_users=0.2),
    "time": by_time(DATA),
    "time without validation": by_time(DATA, validation=0.0),
    "last": leave_last_out(DATA),
    "ratings": hold_out_ratings(DATA.binarized()),
}


def same(one, other):
    assert one.shape == other.shape
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("most", [100, 2**31 - 1])
@pytest.mark.parametrize("kind", SPLITS)
def test_a_split_is_read_as_it_was_written(tmp_path, kind, most):
    split = SPLITS[kind]
    opened = shards.open(shards.write(split, tmp_path / "out", most_entries=most))
    train = opened.train.load()
    assert train.fingerprint() == opened.train.fingerprint() == split.train.fingerprint()
    assert opened.train.summary() == split.train.summary()
    assert list(train.titles) == list(split.train.titles)
    again = opened.split()
    assert (again.first_test_time, again.notes) == (split.first_test_time, split.notes)
    for part, wanted in ((again.validation, split.validation), (again.test, split.test)):
        assert (part is None) == (wanted is None)
        if part is not None:
            same(part.context, wanted.context)
            same(part.target, wanted.target)
            assert part.users == wanted.users
            np.testing.assert_array_equal(part.user_index, wanted.user_index)


def test_values_of_one_take_no_file_and_contexts_of_training_none(tmp_path):
    names = {file.name for file in shards.write(SPLITS["ratings"], tmp_path / "out").iterdir()}
    assert not any("values" in name or "context" in name for name in names)
    names = {file.name for file in shards.write(SPLITS["time"], tmp_path / "out").iterdir()}
    assert {"train-00000-values.bin", "train-00000-times.bin"} <= names


def test_parts_of_some_users_with_more_seen_than_read(tmp_path):
    """A split made by hand: its held-out users are some of training and some others, in an order of its own."""
    train = DATA.take_users(np.arange(50))
    rows = np.array([60, 3, 7])
    context = DATA.matrix[rows]
    unseen = np.setdiff1d(np.arange(40), context.indices[: context.indptr[1]])[:2]
    target = sp.csr_matrix((np.array([0.0, 2.0], np.float32), unseen, [0, 2, 2, 2]), shape=context.shape)
    part = Part(context, target, DATA.users.take(rows), np.array([-1, 3, 7], np.int32), context, True)
    shards.write(Split(train, None, part, allow_overlap=True, notes=("by hand",)), tmp_path / "out")
    opened = shards.open(tmp_path / "out").split()
    same(opened.test.seen, context)
    same(opened.test.target, target)
    assert opened.test.user_index.tolist() == [-1, 3, 7]
    assert (opened.test.users, opened.notes, opened.allow_overlap) == (part.users, ("by hand",), True)


def test_columns_of_items_and_ids_of_days(tmp_path):
    days = [datetime.date(2026, 8, day) for day in (1, 2, 3)]
    ones = sp.csr_matrix(np.eye(3, dtype=np.float32))
    columns = {"price": np.array([1.5, np.nan, 2.0]), "genre": np.array(["a", None, "b"], object)}
    data = recsys.Interactions(ones, IdMap(days), IdMap(["ä", "b", "c"]), item_columns=columns)
    shards.write(data, tmp_path / "out")
    train = shards.open(tmp_path / "out").train.load()
    assert (train.users, train.items) == (data.users, data.items)
    np.testing.assert_array_equal(train.item_columns["price"], columns["price"])
    assert list(train.item_columns["genre"]) == ["a", None, "b"]
    with pytest.raises(DataError, match="tuple cannot be stored"):
        shards.write(recsys.Interactions(ones, IdMap([(1, 2), (3, 4), (5, 6)]), data.items), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_of_a_mapped_matrix_are_those_of_scipy(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = data.draw(st.integers(1, 12))
    matrix = sp.random(rows, 7, density=0.4, format="csr", dtype=np.float32, random_state=rng)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    ends = [0, *(int(matrix.indptr[cut]) for cut in cuts), matrix.nnz]
    pieces = [Piece(matrix.indices[a:b], matrix.data[a:b]) for a, b in pairwise(ends)]
    mapped = MappedMatrix(matrix.indptr.astype(np.int64), pieces, 7)
    asked = data.draw(st.lists(st.integers(-rows, rows - 1), max_size=8))
    same(mapped[np.array(asked, dtype=np.int64)], matrix[np.array(asked, dtype=np.int64)])
    low, high = sorted((data.draw(st.integers(0, rows)), data.draw(st.integers(0, rows))))
    same(mapped[low:high], matrix[low:high])
    same(mapped.to_csr(), matrix)
    blocks = list(mapped.blocks(data.draw(st.integers(1, 9))))
    assert [row for row, _ in blocks] == np.cumsum([0, *(len(b.indptr) - 1 for _, b in blocks)]).tolist()[:-1]
    same(sp.csr_matrix(sp.vstack([block for _, block in blocks])), matrix)


@pytest.fixture(autouse=True)
def _not_synced(monkeypatch):
    monkeypatch.setattr("recsys.files.sync", lambda path: None)


def damaged(file, where, change):
    content = bytearray(file.read_bytes())
    content[where] ^= change
    file.write_bytes(bytes(content))


def test_damage_is_named(tmp_path):
    folder = shards.write(SPLITS["users"], tmp_path / "out", most_entries=600)
    for file in sorted(folder.iterdir()):
        before = file.read_bytes()
        for where in (0, len(before) // 2, -1):
            damaged(file, where, 1)
            with pytest.raises(DataError, match=file.name):
                shards.open(folder)
        file.write_bytes(before[:-2])
        with pytest.raises(DataError, match=file.name):
            shards.open(folder, check=False)
        file.unlink()
        with pytest.raises(DataError, match=file.name):
            shards.open(folder, check=False)
        file.write_bytes(before)
    shards.open(folder)


def forge(folder, name, change):
    """Change an array, and the checksums with it."""
    array = np.fromfile(folder / name, np.int32)
    change(array)
    array.tofile(folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = recsys.files.sha256_of_file(folder / name)
    del manifest["checksum"]
    manifest["checksum"] = recsys.files.sha256_of_json(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("value", [-1, 10**6, 0])
def test_columns_outside_the_catalog_are_refused_whatever_the_checksums_say(tmp_path, value):
    folder = shards.write(SPLITS["time"], tmp_path / "out")
    forge(folder, "train-00000-indices.bin", lambda array: array.__setitem__(5, value))
    with pytest.raises(DataError, match="train has columns out of order"):
        shards.open(folder)


def test_newer_and_other_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no shards"):
        shards.open(tmp_path)
    folder = shards.write(DATA, tmp_path / "out")
    with pytest.raises(DataError, match="holds no test part"):
        shards.open(folder).split()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(DataError, match="upgrade recsys"):
        shards.open(folder)


def test_only_shards_are_replaced(tmp_path):
    folder = shards.write(DATA, tmp_path / "out")
    shards.write(SPLITS["time"], folder)
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(DataError, match=r"mine\.txt"):
        shards.write(DATA, folder)
    assert (folder / "mine.txt").read_text() == "kept"
    shards.open(folder)
