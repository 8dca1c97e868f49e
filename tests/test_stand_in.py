"""Every model on a device beside the host (`tests.stand_in`): the numbers of the CPU, and no wait that is not known."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from recsys.models import MODELS
from tests.contract import COMPOSED

NAMES = [
    *(n for n, cls in MODELS.items() if n not in COMPOSED and "device" in {f.name for f in fields(cls)}),
    "MultVAE negatives=20",
    'DenoisingAE corruption="salt-and-pepper"',
    'VAE prior="composite"',
    "UAutoRec unobserved_weight=0.5",
    "MultDAE keep_users=false",
]
IN_STEPS = {
    "FLVAE": {"sparse.py:where"},
    "VASP": {"sparse.py:where"},
    "MultVAE negatives=20": {"sparse.py:compact", "nn/sampled.py:draw", "nn/sampled.py:_sum"},
    'DenoisingAE corruption="salt-and-pepper"': {"nn/corruption.py:salt_and_pepper", "nn/corruption.py:random_places"},
}
"""Where the host waits in every step: sizes that depend on a draw. All other waits are a few for a whole epoch."""


@pytest.fixture(scope="module")
def seen():
    command = [sys.executable, "-W", "ignore", "-m", "tests.stand_in", *NAMES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_computes_there_what_it_computes_here(name, seen):
    found = seen[name]
    assert "error" not in found, found["error"]
    assert {"scores", "few", "metrics"} <= set(found["differences"])
    assert max(found["differences"].values()) < 1e-4, found["differences"]


@pytest.mark.parametrize("name", NAMES)
def test_no_step_waits_for_the_device(name, seen):
    assert set(seen[name]["in steps"]) == IN_STEPS.get(name, set())


def test_the_stand_in_sees_waits_and_mixed_devices():
    script = """
import json, os, sys, torch
from tests import stand_in
stand_in.begin()
with stand_in.watched() as waits:
    there, here = torch.ones(3, 2, device=stand_in.NAME), torch.ones(3, 2)
    refused = []
    for mixed in (lambda: there + here, lambda: torch.cat([here, there]), lambda: there.numpy(), there.tolist):
        try:
            mixed()
        except (RuntimeError, TypeError):
            refused.append(True)
    counts = []
    for read in (there.sum().item, there.cpu, there[0, 0].__bool__, lambda: there[there > 0],
                 lambda: there.nonzero(), lambda: torch.unique(there), lambda: there + 1, lambda: there @ there.T,
                 lambda: there[:, 0] * here[0, 0], lambda: torch.where(there > 0, there, 0.0)):
        before = sum(waits.values())
        read()
        counts.append(sum(waits.values()) - before)
json.dump([refused, counts], sys.stdout)
sys.stdout.flush()
os._exit(0)
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr[-3000:]
    refused, counts = json.loads(run.stdout)
    assert refused == [True] * 4
    assert [count > 0 for count in counts] == [True] * 6 + [False] * 4
