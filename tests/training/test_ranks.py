"""Several processes that train one network: the weights of one process, checkpoints, and what happens if one ends."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import recsys
from recsys import cli, ranks, tracking
from recsys.errors import ConfigError
from recsys.models import MODELS
from recsys.scoring.local import model_checksum
from tests.training.ranks_script import QUICK

ROOT = Path(__file__).parents[2]


def start(arguments, size=2, **options):
    """Start the processes as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for number in range(size):
        own = {"WORLD_SIZE": size, "RANK": number, "LOCAL_RANK": number, "MASTER_ADDR": "127.0.0.1"}
        told = {**own, "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        yield subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, **options
        )


def said_by_two(file, *options):
    processes = list(start(["-m", "tests.training.ranks_script", str(file), *options]))
    errors = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return said_by_two(tmp_path_factory.mktemp("ranks") / "found.json")


def check_equal(found):
    far = {title: one for title, one in found["equal"].items() if not (one["difference"] < 1e-4 and one["losses"])}
    assert not far
    assert all(one["best"] for one in found["equal"].values())


def test_two_processes_find_the_weights_of_one(found):
    check_equal(found)
    assert set(found["equal"]) == set(QUICK)


def test_an_interrupted_training_goes_on_in_as_many_processes_or_in_one(found):
    assert found["continued"]["by several, with noise"] == 0.0
    assert found["continued"]["by one, without noise"] < 1e-4


def test_processes_with_other_data_are_refused(found):
    assert found["refused"].startswith("1 of 2 processes have other training rows than the first; give all of them")


def test_numbers_are_summed_and_the_first_is_heard(found):
    assert found["sums"] == [[2.0, 1.0], {"é": [0, None]}]


@pytest.mark.slow
def test_two_processes_find_the_weights_of_one_for_every_model_that_says_so(tmp_path):
    found = said_by_two(tmp_path / "found.json", "--all")
    check_equal(found)
    assert {title.split(",")[0] for title in found["equal"]} == {
        name for name, cls in MODELS.items() if cls.capabilities.in_ranks
    }


CONFIG = """
[data]
name = "synthetic"
users = 400
items = 60
interactions = 6000

[split]
kind = "hold_out_ratings"

[model]
name = "MultVAE"
epochs = 60
hidden = 16
latent = 8
learning_rate = 0.01
batch_size = 50
dropout = 0.5
device = "cpu"

[train]
refit = true

[track]
register = "shop"
"""


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(tmp_path):
    (tmp_path / "job.toml").write_text(CONFIG)

    def command(root):
        own = {"stdout": subprocess.PIPE}
        return list(
            start(
                ["-m", "recsys", "train", str(tmp_path / "job.toml"), "--root", str(tmp_path / root), "--quiet"], **own
            )
        )

    def finish(processes):
        return [(*process.communicate(timeout=300), process.returncode) for process in processes]

    first, second = command("killed")
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed/mlruns/checkpoints").glob("*.safetensors")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second.kill()
    [(_, said, status), _] = finish([first, second])
    assert status == 3
    assert said.count("\n") == 1
    assert "another of the 2 processes has ended" in said
    assert "the same command goes on where it stopped" in said
    for root in ("killed", "whole"):
        [(out, said, status), (silent, also, other)] = finish(command(root))
        assert (status, said, silent, also, other) == (0, "", "", "", 0)
        assert ("continuing from epoch" in out) == (root == "killed")
    models = [recsys.Workspace(tmp_path / root) for root in ("killed", "whole")]
    loaded = []
    for workspace in models:
        tracking.configure(workspace)
        loaded.append(tracking.load("models:/shop/1"))
    assert model_checksum(loaded[0]) == model_checksum(loaded[1])


def test_other_commands_run_in_one_process(monkeypatch, capsys):
    told = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {**told, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["registry", "list"]) == 2
    told = "recsys registry list: it runs in one process, and torchrun started 2; they can share recsys train\n"
    assert capsys.readouterr().err == told
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(cli, "_MOMENT", 0.0)  # the first says it within that
    assert cli.main(["registry", "list"]) == 2
    assert capsys.readouterr().err == told


def test_one_process_sums_nothing(monkeypatch):
    for name in (*ranks.ENVIRONMENT, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.asked(), ranks.size(), ranks.number(), ranks.first()) == (1, 1, 0, True)
    assert ranks.totals([2.5]) == [2.5]
    with pytest.raises(ConfigError, match="start the processes with torchrun"), ranks.joined():
        pass
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="missing here: RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        ranks.asked()
