"""Training from shards: the weights of a training in memory, and what is not kept of the users."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import recsys
from recsys import mapped, shards
from recsys.config import check_config
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.jobs import prepare, serve, train
from recsys.mapped import MappedMatrix
from recsys.models import MODELS
from recsys.sparse import Rows
from recsys.training.order import epoch_order
from recsys.workspace import Workspace
from tests.contract import COMPOSED

RATED = recsys.datasets.synthetic(150, 40, 2500)
SHORT = {"epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    return {
        binary: shards.write(RATED.binarized() if binary else RATED, root / str(binary), most_entries=500)
        for binary in (False, True)
    }


def fitted(name, data, **params):
    cls = MODELS[name]
    short = {knob: value for knob, value in SHORT.items() if knob in cls().get_params()}
    return cls(**short, **params).fit(data, show_progress=False)


@pytest.mark.parametrize(("name", "binary"), [("UAutoRec", False), ("MultVAE", True), ("EASE", False), ("ALS", True)])
def test_weights_are_those_of_a_training_in_memory(folders, monkeypatch, name, binary):
    in_memory = fitted(name, RATED.binarized() if binary else RATED)
    if in_memory.reads_shards():
        monkeypatch.setattr(MappedMatrix, "to_csr", lambda matrix: pytest.fail("read everything into memory"))
    monkeypatch.setattr(mapped, "BLOCK", 300)
    from_disk = fitted(name, shards.open(folders[binary]).train)
    monkeypatch.undo()
    one, other = in_memory.learned_arrays(), from_disk.learned_arrays()
    assert one.keys() == other.keys()
    for array in one:
        np.testing.assert_array_equal(one[array], other[array])
    assert (in_memory.users_, in_memory.items_) == (from_disk.users_, from_disk.items_)
    assert in_memory.record_.epochs[-1].get("loss") == from_disk.record_.epochs[-1].get("loss")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in COMPOSED])
def test_every_model_takes_shards(folders, name):
    in_memory, from_disk = fitted(name, RATED), fitted(name, shards.open(folders[False]).train)
    for array, values in in_memory.learned_arrays().items():
        np.testing.assert_array_equal(values, from_disk.learned_arrays()[array])


def test_sums_do_not_depend_on_where_entries_lie(folders, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK", 333)
    values = np.random.default_rng(0).normal(size=RATED.nnz).astype(np.float32)
    matrix = RATED.matrix.copy()
    matrix.data[:] = values
    ends = [int(matrix.indptr[row]) for row in (0, 20, 70, 150)]
    pieces = [mapped.Piece(matrix.indices[a:b], values[a:b]) for a, b in pairwise(ends)]
    on_disk = MappedMatrix(matrix.indptr.astype(np.int64), pieces, 40)

    def third(part):
        part = part.copy()
        part.data /= np.float32(3)
        return part

    for one, other in ((on_disk, matrix), (on_disk.through(third), third(matrix))):
        assert mapped.total(one) == mapped.total(other) == pytest.approx(other.data.sum(dtype=float))
        assert mapped.squares(one) == mapped.squares(other) == pytest.approx((other.data.astype(float) ** 2).sum())
        assert mapped.extremes(one) == (other.data.min(), other.data.max())
        assert Rows(one).typical_length() == Rows(other).typical_length()
    np.testing.assert_array_equal(mapped.column_counts(on_disk), np.bincount(matrix.indices, minlength=40))


def test_rows_on_disk_are_visited_block_by_block(folders, monkeypatch):
    matrix = shards.open(folders[True]).train.matrix
    whole = epoch_order(Rows(matrix), None, torch.Generator().manual_seed(1))
    assert whole.tolist() == torch.randperm(150, generator=torch.Generator().manual_seed(1)).tolist()
    monkeypatch.setattr(mapped, "SHUFFLED", 400)
    order = epoch_order(Rows(matrix), None, torch.Generator().manual_seed(1)).numpy()
    assert sorted(order) == list(range(150))
    blocks = matrix.indptr[:-1][order] // 400
    assert len(set(blocks)) > 4
    assert np.count_nonzero(np.diff(blocks)) == len(set(blocks)) - 1  # each block in one piece
    for block in set(blocks):  # and within it in the order in memory
        own = [row for row in whole.tolist() if matrix.indptr[row] // 400 == block]
        assert order[blocks == block].tolist() == own
    weights = np.linspace(1, 3, 150)
    drawn = epoch_order(Rows(matrix), weights, torch.Generator().manual_seed(1)).numpy()
    assert np.count_nonzero(np.diff(matrix.indptr[:-1][drawn] // 400)) == len(set(blocks)) - 1


def test_a_model_that_keeps_no_users(tmp_path, folders):
    data = shards.open(folders[True]).train
    kept, nobody = (fitted("MultVAE", data, keep_users=keep) for keep in (True, False))
    assert not len(nobody.users_)
    assert not set(nobody.learned_arrays()) & {"embeddings"}
    nobody.save(tmp_path / "model")
    again = recsys.load(tmp_path / "model")
    assert (again.users_, again.n_users_) == (nobody.users_, 150)
    history = RATED.binarized().matrix[:20]
    users = np.arange(20)
    for model in (nobody, again):
        for one, other in zip(kept.recommend(users, history), model.recommend(users, history), strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(UnsupportedError, match="keep_users=False"):
            model.similar_users(0)
    frame = recsys.recommend_frame(again, RATED.binarized().take_users([3, 4]))
    assert set(frame.user_id) == set(RATED.users.ids([3, 4]))
    with pytest.raises(ConfigError, match="leave out keep_users"):
        fitted("CDAE", data, keep_users=False)


def test_what_needs_all_entries_loads_them(folders):
    stored = shards.open(folders[False]).train
    assert stored.binarized().fingerprint() == RATED.binarized().fingerprint()
    np.testing.assert_array_equal(stored.take_users([5, 2]).matrix.toarray(), RATED.matrix[[5, 2]].toarray())
    assert stored.filter(min_rating=4.0).nnz == RATED.filter(min_rating=4.0).nnz
    assert stored.to_frame().equals(RATED.to_frame())


def test_memory_that_is_not_there_is_refused(folders, monkeypatch):
    monkeypatch.setenv("RECSYS_MEMORY", "1e-6")
    with pytest.raises(DataError, match="entries that this model takes in memory need"):
        fitted("EASE", shards.open(folders[False]).train)


DATA = {"name": "synthetic", "users": 300, "items": 60, "interactions": 5000, "binary": True}
SPLIT = {"kind": "hold_out_users", "n_users": 0.2, "stable": True}
MODEL = {"name": "MultVAE", "hidden": 8, "latent": 4, **SHORT}


def test_a_job_on_shards_finds_what_the_job_on_the_table_finds(mlflow_root):
    workspace = Workspace(mlflow_root, progress=False)
    table = check_config({"data": DATA, "split": SPLIT, "model": MODEL})
    prepare.run(workspace, table, mlflow_root / "shards", engine="local")
    on_disk = check_config({"data": {"shards": str(mlflow_root / "shards")}, "model": MODEL})
    assert on_disk.split.kind == "prepared"
    (one,), (other,) = train.run(workspace, table), train.run(workspace, on_disk)
    assert one.test.values == other.test.values
    models = [recsys.tracking.load(f"runs:/{trained.run_id}/model") for trained in (one, other)]
    assert models[0].about_["data"] == models[1].about_["data"]
    assert models[0].about_["trained_on"] == models[1].about_["trained_on"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"shards": "s", "min_rating": 3.0}}, r"data\.min_rating does not go with data\.shards"),
        ({"data": {"shards": "s", "file": "t.csv"}}, r"data\.file does not go with data\.shards"),
        ({"data": {"shards": "s"}, "split": SPLIT}, "shards are split already"),
        ({"data": DATA, "split": {"kind": "prepared"}}, "shards are split already"),
        ({"data": {"shards": "s"}, "train": {"refit": True}}, r"train\.refit needs all entries in memory"),
    ],
)
def test_what_does_not_go_with_shards_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_config({"model": MODEL, **changes})


GROWTH = """
import sys
import numpy as np
import pandas as pd
from recsys import shards
from recsys.models import MultVAE

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

folder = sys.argv[1]
small = shards.open(sys.argv[2]).train
options = dict(hidden=8, latent=4, epochs=1, batch_size=2000, keep_users=False)
MultVAE(**options).fit(small, show_progress=False)  # libraries and threads
before, most = anonymous(), 0
opened = shards.open(folder)

import threading, time
def watch():
    global most
    while True:
        most = max(most, anonymous())
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
MultVAE(**options).fit(opened.train, show_progress=False)
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_grows_by_a_quarter_of_the_shards_at_most(tmp_path):
    """50 million entries of 500,000 users in shards of 0.4 GB with their values."""
    users, items, each = 500_000, 2_000, 100
    folder = tmp_path / "big"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with shards.Builder(folder) as builder:
        builder.users([pa.array(np.arange(users))])
        builder.items(recsys.IdMap(np.arange(items)))
        writer = builder.matrix("train")
        for _ in range(0, users, 10_000):
            steps = rng.integers(1, items // each, size=(10_000, each))
            columns = np.cumsum(steps, axis=1) - 1
            ratings = rng.integers(1, 6, size=columns.size).astype(np.float32)
            writer.add(np.full(10_000, each), columns.ravel(), ratings)
        writer.close()
        usual = {"parts": {}, "first_test_time": None, "allow_overlap": False, "notes": []}
        builder.finish({**usual, "train": {"fingerprint": "none"}})
    size = sum(file.stat().st_size for file in folder.iterdir())
    small = shards.write(RATED, tmp_path / "small")
    command = [sys.executable, "-c", GROWTH, str(folder), str(small)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{grown / 2**20:.0f} MiB of {size / 2**20:.0f}")
    assert grown <= size / 4


@pytest.mark.parametrize("name", ["MultVAE", "EASE", "ALS"])
def test_lists_from_shards_are_those_from_memory(folders, tmp_path, name):
    data, stored = RATED.binarized(), shards.open(folders[True]).train
    some = data.take_users(np.arange(0, 150, 2))
    model = fitted(name, some.take_items(np.flatnonzero(some.matrix.getnnz(axis=0))[:30]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MappedMatrix, "to_csr", lambda matrix: pytest.fail("read everything into memory"))
        recsys.score(model, stored, tmp_path / "disk", batch_size=40, show_progress=False)
    recsys.score(model, data, tmp_path / "memory", batch_size=40, show_progress=False)
    parts = sorted(file.name for file in (tmp_path / "memory").glob("part-*"))
    assert len(parts) == 4
    for part in parts:
        assert (tmp_path / "disk" / part).read_bytes() == (tmp_path / "memory" / part).read_bytes()


def test_the_scoring_job_reads_histories_that_were_prepared_alike(mlflow_root):
    workspace = Workspace(mlflow_root, progress=False)
    table = check_config({"data": DATA, "split": SPLIT, "model": {"name": "EASE"}})
    (trained,) = train.run(workspace, table)
    uri = f"runs:/{trained.run_id}/model"
    prepare.run(workspace, table, mlflow_root / "all", engine="local", unsplit=True)
    prepare.run(workspace, table, mlflow_root / "split", engine="local")
    serve.score(workspace, uri, mlflow_root / "from-table")
    serve.score(workspace, uri, mlflow_root / "from-shards", data=str(mlflow_root / "all"))
    frames = [pd.read_parquet(mlflow_root / folder) for folder in ("from-table", "from-shards")]
    pd.testing.assert_frame_equal(*frames)
    with pytest.raises(ConfigError, match="holds parts of a split"):
        serve.score(workspace, uri, mlflow_root / "out", data=str(mlflow_root / "split"))
    rated = check_config({"data": {**DATA, "binary": False}})
    prepare.run(workspace, rated, mlflow_root / "rated", engine="local", unsplit=True)
    with pytest.raises(ConfigError, match=r"prepared with data\.binary = False"):
        serve.score(workspace, uri, mlflow_root / "out", data=str(mlflow_root / "rated"))
    liked = check_config({"data": {**DATA, "min_rating": 3.0}})
    with pytest.raises(ConfigError, match="would forget what users have seen"):
        prepare.run(workspace, liked, mlflow_root / "liked", engine="local", unsplit=True)
