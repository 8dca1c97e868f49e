"""A bundle that somebody changed, checksums included, is refused, or loads and answers: see `bundle_mutations`."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.bundle_mutations import MUTATIONS, Verdict, write_bases

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    # Each of these would reserve address space of its own, which the limit counts.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    write_bases(folder)
    return folder


def judged(folder: Path, seed: int, count: int) -> list[Verdict]:
    """Change bundles in processes of their own; one that dies is an outcome, and the next goes on behind it."""
    command = [sys.executable, "-m", "tests.bundle_mutations", str(folder), str(seed), str(count)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=3000)
    verdicts = []
    for line in done.stdout.splitlines():
        what, _, found = line.partition("\t")
        verdicts.append(Verdict(*json.loads(what), json.loads(found) if found else f"crash: {done.returncode}"))
    assert done.returncode == 0 or verdicts, done.stderr
    if done.returncode:
        assert verdicts[-1].outcome.startswith("crash"), done.stderr
    return verdicts


def check(verdicts: list[Verdict]) -> None:
    wrong = [verdict for verdict in verdicts if verdict.outcome not in ("refused", "same", "other")]
    assert not wrong, wrong[:20]
    counts = Counter((verdict.expected, verdict.outcome) for verdict in verdicts)
    assert min(counts["refuse", "refused"], counts["same", "same"], counts["may", "other"]) > 0, counts


def test_a_changed_bundle_is_refused_or_answers(bases):
    verdicts = judged(bases, 0, 300)
    check(verdicts)
    assert {verdict.name for verdict in verdicts} == {change.__name__ for change in MUTATIONS}


@pytest.mark.slow
def test_thousands_of_changed_bundles_are_refused_or_answer(bases):
    verdicts = [verdict for start in range(1_000, 4_000, 500) for verdict in judged(bases, start, 500)]
    assert len(verdicts) >= 2_000
    check(verdicts)
