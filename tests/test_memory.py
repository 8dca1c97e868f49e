"""What does not fit into memory is refused before it is allocated, with the need and what to use instead."""

import time
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import recsys
from recsys import cli, memory
from recsys.config import check_config
from recsys.errors import ConfigError, DataError
from recsys.export import export_onnx
from recsys.jobs import compare, train, tune
from recsys.models import MODELS
from recsys.workspace import Workspace
from tests.contract import CASES, new_model
from tests.verbs import DATA, N_ITEMS


@pytest.fixture
def eight_gib(monkeypatch):
    monkeypatch.setenv("RECSYS_MEMORY", "8")


def catalog(n_items, n_users=1000):
    """A few interactions in a large catalog."""
    users = np.arange(n_users)
    return sp.csr_matrix((np.ones(n_users, np.float32), (users, users % n_items)), shape=(n_users, n_items))


@pytest.mark.parametrize(
    ("name", "options", "n_items", "message"),
    [
        ("EASE", {}, 60_000, r"EASE for 1,000 users and 60,000 items needs 40\.9 GiB .* 8\.0 GiB are free; use SANSA"),
        ("EASE", {"precision": "float32"}, 60_000, r"needs 13\.8 GiB"),
        ("EASE", {}, 500_000, r"needs 2,799\.7 GiB"),
        ("HigherOrderEASE", {}, 60_000, r"needs 69\.\d GiB .* SANSA"),
        ("VASP", {}, 60_000, r"needs 68\.\d GiB .* use FLVAE"),
        ("MultVAE", {}, 500_000, r"needs 12\.\d GiB .* narrower layers"),
        ("ELSA", {"factors": 1024}, 500_000, r"needs 1\d\.\d GiB"),
        ("ALS", {"factors": 10**6}, 500_000, r"needs 2,7\d\d\.\d GiB .* fewer factors"),
        ("ItemKNN", {"neighbors": 1000}, 500_000, r"needs 15\.8 GiB .* fewer neighbors"),
    ],
)
def test_a_catalog_that_does_not_fit_is_refused_at_once(eight_gib, name, options, n_items, message):
    matrix = catalog(n_items)
    model, began = MODELS[name](**options), time.perf_counter()
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        model.fit(matrix, show_progress=False)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    assert time.perf_counter() - began < 30
    assert not hasattr(model, "n_items_")


def test_many_users_are_too_many_for_the_infinite_autoencoder_alone(eight_gib):
    with pytest.raises(DataError, match=r"163,840 users and 100 items needs 201\.9 GiB .* sample of the users"):
        recsys.InfiniteAE().check_memory(catalog(100, 163_840))
    recsys.SANSA().check_memory(catalog(500_000))  # what others name in their place


@pytest.mark.parametrize("name", CASES)
def test_every_model_says_what_it_takes(name, monkeypatch):
    monkeypatch.setenv("RECSYS_MEMORY", "1e-6")
    model = new_model(name)
    if name == "Popularity":  # a number per item
        model.check_memory(catalog(5000, 4000))
        return
    with pytest.raises(DataError, match=f"^{name} for 4,000 users and 5,000 items needs .* of memory"):
        model.check_memory(catalog(5000, 4000))
    assert not vars(model).keys() & {"n_users_", "n_items_", "network_"}
    monkeypatch.setenv("RECSYS_MEMORY", "inf")
    new_model(name).check_memory(catalog(5000, 4000))


def test_a_network_that_cannot_be_measured_is_not_refused(monkeypatch):
    class Own(MODELS["MultDAE"]):
        def _network(self, n_in, generator):
            network = super()._network(n_in, generator)
            network.output.weight.detach().numpy()  # which weights without values do not have
            return network

    monkeypatch.setenv("RECSYS_MEMORY", "1e-6")
    model = Own(epochs=1).fit(DATA, show_progress=False)
    assert np.isfinite(model.recommend(0, DATA.matrix[0], N=3)[1]).all()


def test_lists_longer_than_memory_are_refused_and_frames_end_with_the_catalog(eight_gib):
    model = recsys.EASE().fit(DATA, show_progress=False)
    few = DATA.matrix[:2]
    message = r"2 lists of 1,000,000,000,000 need 14,901\.2 GiB .* ask for 15, which is all there is"
    with pytest.raises(DataError, match=message):
        model.recommend([0, 1], few, N=10**12)
    for call in (lambda: model.similar_items(0, N=10**12), lambda: model.recommend_users(0, few, N=10**12)):
        with pytest.raises(DataError, match=r"1 lists of 1,000,000,000,000 need 7,450\.6 GiB"):
            call()
    assert model.recommend([0, 1], few, N=40)[0].shape == (2, 40)
    whole = recsys.recommend_frame(model, DATA, n=N_ITEMS)
    assert recsys.recommend_frame(model, DATA, n=10**12).equals(whole)
    part = recsys.splits.hold_out_ratings(DATA, test=0.3).test
    values = recsys.evaluate(model, part, [f"ndcg@{N_ITEMS}", "ndcg@1000000000"]).values
    assert values["ndcg@1000000000"] == values[f"ndcg@{N_ITEMS}"]


def test_the_command_recommends_the_whole_catalog_where_more_is_asked_for(tmp_path, capsys):
    recsys.EASE().fit(DATA, show_progress=False).save(tmp_path / "model")
    DATA.to_frame().to_csv(tmp_path / "data.csv", index=False)
    asked = ["--user", "100", "--data", str(tmp_path / "data.csv"), "--root", str(tmp_path), "-n", str(10**12)]
    assert cli.main(["recommend", str(tmp_path / "model"), *asked]) == 0
    shown = capsys.readouterr().out.partition("recommended")[2]
    assert shown.count("(") == 1 + N_ITEMS - np.diff(DATA.matrix.indptr)[0]


def test_a_graph_of_a_large_sparse_table_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_MEMORY", "1e-7")
    for name in ("ItemKNN", "SANSA"):
        with monkeypatch.context() as patch:
            patch.setenv("RECSYS_MEMORY", "1")
            model = new_model(name).fit(DATA, show_progress=False)
        with pytest.raises(DataError, match="a table of all pairs of 15 items needs"):
            export_onnx(model, tmp_path / "model.onnx")


def test_jobs_ask_before_they_train_or_track(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_MEMORY", "0.0003")
    data = {"name": "synthetic", "users": 60, "items": 100, "interactions": 900}
    space = {"space": {"factors": [2, 10**6]}}
    small, large = ({"name": "ALS", "iterations": 1, "factors": factors} for factors in (2, 10**6))
    job, too_large, searched = (
        check_config({"data": data, "split": {"kind": "hold_out_ratings"}, "model": model, **more})
        for model, more in ((small, {}), (large, {}), (small, {"tune": space}))
    )
    workspace = Workspace(tmp_path, progress=False)
    for call in (
        lambda: train.run(workspace, too_large),
        lambda: tune.run(workspace, searched),
        lambda: compare.run(workspace, {"small": job, "large": too_large}, tmp_path / "compared"),
    ):
        with pytest.raises(DataError, match=r"^ALS for 60 users and 100 items needs 0\.9 GiB"):
            call()
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("given", ["much", "0", "-1", "nan", ""])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, given):
    monkeypatch.setenv("RECSYS_MEMORY", given)
    with pytest.raises(ConfigError, match="RECSYS_MEMORY must be a number of GiB above 0"):
        memory.require(1, "this takes", "nothing")


def test_what_is_free_is_asked_for_large_needs_alone(monkeypatch):
    monkeypatch.delenv("RECSYS_MEMORY", raising=False)
    monkeypatch.setattr(memory, "free", lambda: 2.0**27)
    memory.require(2**26, "this takes", "nothing")
    memory.require(2**27, "this takes", "nothing")
    with pytest.raises(DataError, match=r"this takes 0\.2 GiB of memory, and 0\.1 GiB are free; less \(RECSYS_MEMORY"):
        memory.require(2**27.5, "this takes", "less")
    with pytest.raises(DataError, match=r"and 0\.0 GiB are free"):
        memory.require(2**27, "this takes", "less", available=1.0)


def test_what_is_free_is_the_least_of_the_machine_and_its_control_groups(monkeypatch, tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert list(memory._of_groups(tmp_path)) == []
    write("proc/self/cgroup", "9:cpu,cpuacct:/job\n4:memory:/job\n0::/outer/inner\n")
    write("sys/fs/cgroup/memory.max", "5000\n")
    write("sys/fs/cgroup/memory.current", "100\n")
    write("sys/fs/cgroup/outer/memory.max", "900\n")
    write("sys/fs/cgroup/outer/memory.current", "500\n")
    write("sys/fs/cgroup/outer/memory.stat", "anon 300\ninactive_file 150\n")
    write("sys/fs/cgroup/outer/inner/memory.max", "max\n")
    write("sys/fs/cgroup/outer/inner/memory.current", "400\n")
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "800\n")
    write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "500\n")
    write("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 30\n")
    assert sorted(memory._of_groups(tmp_path)) == [330, 550, 4900]
    monkeypatch.setattr(memory, "_of_groups", lambda: iter([550.0, 4900.0]))
    assert memory.free() == 550
    monkeypatch.setattr(memory, "_of_groups", lambda: iter([-5.0]))
    assert memory.free() == 0
    monkeypatch.setattr(memory, "_figures", lambda path: {})
    monkeypatch.setattr(memory, "_of_groups", lambda: iter(()))
    monkeypatch.setattr(memory.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 8, "SC_PAGE_SIZE": 4096}[name])
    assert memory.free() == 8 * 4096
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.free() == float("inf")
