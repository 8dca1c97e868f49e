"""Memory of scoring from shards: `python -m tests.benchmarks.scale_score --users 1000000`.

Histories of 50 items of 2,000 are drawn into shards; an EASE that is fitted to 20,000 of them writes ten items for
everyone, in a process of its own whose memory is read every 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

import recsys
from recsys import shards
from tests.benchmarks.scale_prepare import watched

ITEMS, EACH = 2_000, 50
SCORE = """
import sys
import recsys
from recsys import shards
model = recsys.load(sys.argv[1])
recsys.score(model, shards.open(sys.argv[2]).train, sys.argv[3], show_progress=False)
"""


def draw(folder: Path, users: int) -> None:
    """Write histories as shards, 10,000 users at a time."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with shards.Builder(folder) as builder:
        builder.users([pa.array(np.arange(users))])
        builder.items(recsys.IdMap(np.arange(ITEMS)))
        writer = builder.matrix("train")
        for start in range(0, users, 10_000):
            n = min(10_000, users - start)
            columns = np.cumsum(rng.integers(1, ITEMS // EACH, size=(n, EACH)), axis=1) - 1
            writer.add(np.full(n, EACH), columns.ravel(), np.ones(columns.size, np.float32))
        writer.close()
        usual = {"parts": {}, "first_test_time": None, "allow_overlap": False, "notes": []}
        builder.finish({**usual, "train": {"fingerprint": f"{users} drawn users"}})


def main() -> None:
    """Draw, fit, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        draw(root / "shards", arguments.users)
        some = shards.open(root / "shards", check=False).train.take_users(np.arange(20_000))
        recsys.EASE().fit(some, show_progress=False).save(root / "model")
        peaks = watched([sys.executable, "-c", SCORE, *(str(root / name) for name in ("model", "shards", "out"))], root)
        print(json.dumps({**vars(arguments), **peaks, "users_a_second": arguments.users / peaks["seconds"]}))


if __name__ == "__main__":
    main()
