"""Scoring of users whose histories and ids stay on disk: the lists of the table, in memory that does not grow."""

import datetime
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys import Rules, shards
from recsys.errors import ConfigError, DataError, DataWarning, UnknownIdError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.mapped import MappedMatrix, Offsets, Piece
from recsys.models import ALS, EASE, MultVAE, Popularity
from recsys.scoring import score

USERS, ITEMS = 700, 40
RNG = np.random.default_rng(0)
MATRIX = sp.random(USERS, ITEMS, density=0.2, format="csr", dtype=np.float32, random_state=RNG)
MATRIX.data[:] = np.ceil(MATRIX.data * 5)
NUMBERS = np.arange(USERS) * 3
IDS = {
    "int": NUMBERS,
    "text": [f"user-{number:05d}" for number in NUMBERS],
    "unordered": RNG.permutation(NUMBERS),
    "days": [datetime.date(2000, 1, 1) + datetime.timedelta(days=int(number)) for number in NUMBERS],
}
MODELS = {
    "EASE": EASE(),
    "ALS": ALS(factors=4, iterations=2),
    "MultVAE": MultVAE(hidden=8, latent=4, epochs=1, device="cpu"),
}


def data_of(kind):
    return Interactions(MATRIX, IdMap(IDS[kind]), IdMap(np.arange(ITEMS)))


def written(folder):
    """Return the parts of an output, and its manifest without times."""
    manifest = json.loads((folder / "_manifest.json").read_text())
    parts = [(folder / part["file"]).read_bytes() for part in manifest["parts"]]
    return parts, {name: value for name, value in manifest.items() if name not in ("started", "finished")}


@pytest.mark.parametrize("kind", list(IDS))
@pytest.mark.parametrize("name", list(MODELS))
def test_the_output_is_that_of_the_table_bit_for_bit(tmp_path, name, kind):
    data = data_of(kind)
    model = MODELS[name].fit(data.take_users(np.arange(0, USERS, 2)), show_progress=False)
    folder = shards.write(data, tmp_path / "shards", most_entries=2_000)
    some = list(data.users.take([500, 3, 77]))
    for number, options in enumerate(({}, {"users": some}, {"n": 50, "exclude_seen": False})):
        score(model, data, tmp_path / f"table-{number}", batch_size=99, **options)
        score(model, shards.open(folder).train, tmp_path / f"shards-{number}", batch_size=99, **options)
        assert written(tmp_path / f"shards-{number}") == written(tmp_path / f"table-{number}")


@pytest.mark.parametrize("kind", ["int", "text"])
def test_reasons_rules_and_an_index_read_the_same_users(tmp_path, kind):
    data = data_of(kind)
    model = ALS(factors=4, iterations=2).fit(data, show_progress=False)
    stored = shards.open(shards.write(data, tmp_path / "shards")).train
    hidden = [(user, int(item)) for user, item in zip(data.users.take([5, 600]), (1, 2), strict=True)]
    wanted = {"rules": {"rules": Rules(exclude_pairs=hidden)}}
    ease = EASE().fit(data, show_progress=False)
    for name, options in {"reasons": {"reasons": 2}, **wanted}.items():
        chosen = ease if name == "reasons" else model
        score(chosen, data, tmp_path / f"{name}-table", batch_size=300, **options)
        score(chosen, stored, tmp_path / name, batch_size=300, **options)
        assert written(tmp_path / name) == written(tmp_path / f"{name}-table")


def test_ids_that_mean_nothing_to_the_model_are_refused_and_strangers_are_warned_of(tmp_path):
    stored = shards.open(shards.write(data_of("int"), tmp_path / "shards")).train
    of_days = ALS(factors=4, iterations=1).fit(data_of("days"), show_progress=False)
    with pytest.raises(DataError, match="cannot mean the same"):
        score(of_days, stored, tmp_path / "out")
    others = Interactions(MATRIX, IdMap(NUMBERS + 1), IdMap(np.arange(ITEMS)))
    of_others = ALS(factors=4, iterations=1).fit(others, show_progress=False)
    message = r"was trained on 0 of these 700 users .* ids are like 0, those of its users like 1"
    with pytest.warns(DataWarning, match=message):
        score(of_others, stored, tmp_path / "out")
    model = EASE().fit(data_of("int"), show_progress=False)
    with pytest.raises(UnknownIdError):
        score(model, stored, tmp_path / "out", users=[1])
    with pytest.raises(ConfigError, match="on_unknown"):
        score(model, stored, tmp_path / "out", on_unknown="skip")


def test_ids_twice_in_a_file_are_refused(tmp_path):
    with shards.Builder(tmp_path) as builder:
        builder.users([pa.array([1, 2, 2])])
        builder.items(IdMap([0, 1]))
        builder.matrix("train").add(np.ones(3, np.int64), np.zeros(3, np.int32), np.ones(3, np.float32))
        facts = {"parts": {}, "first_test_time": None, "allow_overlap": False, "notes": []}
        builder.finish({**facts, "train": {"fingerprint": "three"}})
    model = Popularity().fit(Interactions(MATRIX[:, :2], IdMap(NUMBERS), IdMap([0, 1])), show_progress=False)
    with pytest.raises(DataError, match="damaged: an id map needs each id once"):
        score(model, shards.open(tmp_path).train, tmp_path / "out")


def test_ids_are_found_in_groups_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.shards.writer._GROUP", 64)
    data = data_of("text")
    ids = shards.open(shards.write(data, tmp_path / "shards")).users_on_disk
    rows = RNG.integers(USERS, size=50)
    assert ids.arrow(rows).to_pylist() == data.users.ids(rows).tolist()
    assert ids.arrow([]).to_pylist() == []
    assert [id for part in ids.parts(33) for id in part] == list(data.users)


def test_offsets_of_pieces_are_those_of_the_whole():
    pieces = [np.array([0, 2, 2, 5]), np.array([0]), np.array([0, 0, 4]), np.array([0, 1])]
    whole = np.array([0, 2, 2, 5, 5, 9, 10])
    offsets = Offsets(pieces)
    assert len(offsets) == len(whole)
    assert np.array_equal(np.asarray(offsets), whole)
    assert np.array_equal(np.diff(offsets), np.diff(whole))
    for key in (slice(None), slice(1, 4), slice(None, None, 2), slice(-3, None), slice(4, 2), np.array([6, 0, -1, 3])):
        assert np.array_equal(offsets[key], whole[key])
    assert [offsets[row] for row in range(-7, 7)] == [whole[row] for row in range(-7, 7)]


def test_a_mapped_file_is_let_go_of_as_it_is_read(tmp_path):
    n = 2**21
    np.arange(n, dtype=np.int32).tofile(tmp_path / "columns")
    columns = np.memmap(tmp_path / "columns", np.int32, "r")
    matrix = MappedMatrix(np.arange(0, n + 1, 2**10), [Piece(columns, None)], n)

    def of_files():
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []  # without it nothing is seen
        return next((int(line.split()[1]) for line in lines if line.startswith("RssFile")), 0)

    before = of_files()
    total = sum(int(block.indices.sum(dtype=np.int64)) for _, block in matrix.blocks(2**16))
    assert total == n * (n - 1) // 2
    assert of_files() - before < n * 4 / 1024 / 4  # KiB


@pytest.mark.parametrize("text", [False, True])
def test_memory_does_not_grow_with_the_users(tmp_path, text):
    model = Popularity().fit(Interactions(MATRIX, IdMap(NUMBERS), IdMap(np.arange(ITEMS))), show_progress=False)
    peaks = {}
    for users in (80_000, 240_000):
        folder = tmp_path / str(users)
        folder.mkdir()
        with shards.Builder(folder) as builder:
            ids = np.arange(users)
            builder.users([pa.array(np.char.zfill(ids.astype(str), 9).astype(object) if text else ids)])
            builder.items(IdMap(np.arange(ITEMS)))
            builder.matrix("train").add(np.ones(users, np.int64), np.zeros(users, np.int32), np.ones(users, np.float32))
            facts = {"parts": {}, "first_test_time": None, "allow_overlap": False, "notes": []}
            builder.finish({**facts, "train": {"fingerprint": str(users)}})
        tracemalloc.start()
        try:
            arrow = pa.total_allocated_bytes()
            result = score(
                model, shards.open(folder, check=False).train, tmp_path / f"out-{users}", n=1, batch_size=10_000
            )
            peaks[users] = tracemalloc.get_traced_memory()[1]
            assert pa.total_allocated_bytes() - arrow < 2**23
        finally:
            tracemalloc.stop()
        assert result.users == users
    assert peaks[240_000] - peaks[80_000] < 160_000 * 4
