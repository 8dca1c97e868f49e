"""`make bench`: every case at every size, each in its own process, into docs/benchmarks.md and a JSON beside it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import machine, matrices
from tests.benchmarks.cases import CASES
from tests.benchmarks.page import render

GROWTH = {
    "users": ["5000,10000,400000", "10000,10000,800000", "20000,10000,1600000"],
    "items": ["10000,5000,500000", "10000,10000,500000", "10000,20000,500000"],
    "stored entries": ["10000,10000,250000", "10000,10000,500000", "10000,10000,1000000"],
}
"""Generated matrices of which one thing doubles; stored entries per user stay the same where users double."""


SLOW = {("ease", "gowalla")}
"""Run with --slow alone: an inverse of 40,981 columns takes a quarter of an hour on two cores."""


def measure(case: str, matrix: str, device: str, epochs: int = 3) -> dict[str, Any]:
    """Run one case in a process of its own; its figures, or `error` with the last line of what it said."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.cases",
        case,
        matrix,
        "--device",
        device,
        "--epochs",
        str(epochs),
    ]
    print(f"{case:12} {matrix:28}", end="", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print("failed")
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"case": case, "matrix": matrix, "device": device, "error": last}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{found['seconds']:9.2f} s   {100 * found['floor_seconds'] / found['seconds']:6.0f} % of the machine's rate")
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default=",".join(matrices.SIZES))
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--growth", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--slow", action="store_true", help="also what takes a quarter of an hour")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="its JSON lies beside it")
    arguments = parser.parse_args()
    head = {
        "machine": machine.name(arguments.device),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
    found = [
        measure(case, size, arguments.device, arguments.epochs)
        for size in arguments.sizes.split(",")
        for case in arguments.cases.split(",")
        if (case, size) not in SLOW or arguments.slow
    ]
    growth = []
    if arguments.growth:
        for what, shapes in GROWTH.items():
            for case in ("multvae", "uautorec"):
                growth += [{"grows": what, **measure(case, shape, arguments.device, 2)} for shape in shapes]
    results = {**head, "results": found, "growth": growth}
    write(arguments.out, "cpu" if arguments.device == "cpu" else "cuda", results)


def write(page: Path, section: str, results: dict[str, Any]) -> None:
    """Put a section's figures into the JSON beside the page, and make the page of all sections.

    What was measured replaces what was there of the same case and matrix; the rest stays.
    """
    file = page.with_suffix(".json")
    everything = json.loads(file.read_text()) if file.exists() else {}
    before = everything.get(section, {})
    merged = {name: _merged(before.get(name, []), results.get(name, [])) for name in ("results", "growth")}
    everything[section] = {**results, **merged}
    page.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(everything, indent=1) + "\n")
    page.write_text(render(everything))
    print(f"\n{page}")


def _merged(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(row: dict[str, Any]) -> tuple[str | None, ...]:
        return tuple(row.get(name) for name in ("case", "what", "peer", "matrix", "grows"))

    fresh = {key(row): row for row in now}
    kept = [fresh.pop(key(row), row) for row in before]
    return kept + list(fresh.values())


if __name__ == "__main__":
    main()
