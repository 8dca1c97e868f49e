"""Training with oneDNN's float32 products beside MKL's: `python -m tests.benchmarks.products ml-1m gowalla-lightgcn`.

Both take turns in one process and on one thread; seconds are those of the processor, so that other work beside does not
count. Only processors where `recsys.devices.fast_products` changes something show a difference.
"""

from __future__ import annotations

import argparse
import json
import time
from unittest import mock

import torch

from recsys import EASE, MultVAE, datasets, devices
from tests.benchmarks import machine


def main() -> None:
    """Train and print a line for each turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["ml-1m"])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--ease", action="store_true", help="EASE in float32 too: items³ operations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine.name("cpu"))
    chosen = devices._mkl_is_slower()
    for name in arguments.data:
        data = datasets.load(name).binarized()
        for turn in range(2 * arguments.turns):
            used = chosen and bool(turn % 2)
            marks = [time.process_time()]
            losses: list[float] = []

            def told(entry: dict[str, float], marks: list[float] = marks, losses: list[float] = losses) -> None:
                marks.append(time.process_time())
                losses.append(entry["loss"])

            with mock.patch.object(devices, "_mkl_is_slower", lambda used=used: used):
                MultVAE(epochs=2).fit(data, show_progress=False, on_epoch=told)
                began = time.process_time()
                if arguments.ease:
                    EASE(precision="float32").fit(data, show_progress=False)
            found = {"data": name, "products": "oneDNN" if used else "MKL", "epoch_s": round(marks[2] - marks[1], 2)}
            ease = {"ease_s": round(time.process_time() - began, 2)} if arguments.ease else {}
            print(json.dumps({**found, **ease, "loss": round(losses[-1], 4)}), flush=True)


if __name__ == "__main__":
    main()
