"""Scoring on Spark beside the local job: `python -m tests.benchmarks.scale_spark --users 120000`.

Both read the same parquet file and write ten items for everyone by the same Mult-VAE, one core each, in turns in one
process; the first turn warms up and does not count. The lists are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import recsys
from recsys.scoring import score_spark
from recsys.scoring.spark_session import session
from tests.benchmarks import machine

ITEMS, EACH = 3_700, 40


def table(users: int) -> pd.DataFrame:
    """Return distinct rows of popular items."""
    rng = np.random.default_rng(0)
    items = np.exp(rng.random((users, EACH)) * np.log(ITEMS)).astype(np.int64) - 1
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(users), EACH), "item_id": items.ravel()})
    return frame.drop_duplicates(ignore_index=True)


def main() -> None:
    """Draw, fit, score in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=120_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault(
        "PYSPARK_SUBMIT_ARGS", "--conf spark.ui.enabled=false --conf spark.log.level=ERROR pyspark-shell"
    )
    times: dict[str, list[float]] = {"local": [], "spark": []}
    with tempfile.TemporaryDirectory() as scratch, session("local[1]") as spark:
        root = Path(scratch)
        frame = table(arguments.users)
        frame.to_parquet(root / "table.parquet", index=False)
        some = recsys.Interactions.from_frame(frame[frame["user_id"] < 5000])
        recsys.MultVAE(epochs=1, hidden=600, latent=200).fit(some, show_progress=False).save(root / "model")
        for turn in range(arguments.turns + 1):
            for engine, seconds in times.items():
                began, out = time.perf_counter(), root / f"{engine}-{turn}"
                if engine == "local":
                    recsys.score(recsys.load(root / "model"), recsys.datasets.read(root / "table.parquet"), out)
                else:
                    score_spark(spark, str(root / "model"), str(root / "table.parquet"), str(out), partitions=8)
                seconds.append(time.perf_counter() - began)
        order = ["user_id", "rank"]
        lists = [pd.read_parquet(root / f"{engine}-1").sort_values(order, ignore_index=True) for engine in times]
        pd.testing.assert_frame_equal(*lists, check_exact=True)
    best = {engine: min(seconds[1:]) for engine, seconds in times.items()}
    print(machine.name("cpu"))
    print(
        json.dumps(
            {"users": arguments.users, "entries": len(frame), "seconds": times, "ratio": best["spark"] / best["local"]}
        )
    )


if __name__ == "__main__":
    main()
