"""`make bench-peers`: recsys and other libraries on the same matrix, network and batch, one after the other in one run.

Every program is a process of its own. The peers' run in an environment of their own (see peers/requirements.txt), by
the interpreter named with --python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, matrices
from tests.benchmarks.__main__ import measure, write

PEERS = Path(__file__).parent / "peers"


def pairs(size: str) -> list[tuple[str, str, str, list[str]]]:
    """Return what to compare at a size: our case, its title, the peer's name, the peer's command."""
    steps = [] if size == "ml-1m" else ["--max-steps", "12"]  # an epoch of theirs takes minutes there; steps are alike
    plain = ["plain_torch.py", "--batch", "500", "--model", "autorec", "--orientation"]
    found = [
        ("uautorec", "U-AutoRec epoch", "plain torch, dense batches", [*plain, "users", *steps]),
        ("iautorec", "I-AutoRec epoch", "plain torch, dense batches", [*plain, "items", *steps]),
    ]
    if size != "ml-20m":
        found = [
            ("multvae", "Mult-VAE epoch", "RecBole 1.2.1 MultiVAE", ["recbole_multivae.py", *steps]),
            ("multvae", "Mult-VAE epoch", "Cornac 3.0.1 VAECF", ["cornac_vaecf.py", *steps]),
            (
                "multvae",
                "Mult-VAE epoch",
                "plain torch, dense batches",
                ["plain_torch.py", "--model", "multvae", *steps],
            ),
            *found,
        ]
    if size == "gowalla":
        whole = ["plain_torch.py", "--model", "wrmf", "--batch", "2000", *steps[:1], "4"]
        found.append(("wholematrix", "whole-matrix squared loss", "plain torch, dense batches", whole))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the peers' environment")
    parser.add_argument("--sizes", default=",".join(matrices.SIZES))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="its JSON lies beside it")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes.split(","):
        file = matrices.file_of(size).absolute()
        ours: dict[str, dict[str, Any]] = {}
        epochs = 2 * arguments.epochs + 1 if size == "ml-1m" else arguments.epochs  # of a second or so each
        for case, what, peer, command in pairs(size):
            if case not in ours:
                ours[case] = measure(case, size, "cpu", epochs)
            theirs = run_peer(arguments.python, [*command, "--epochs", str(epochs)], file)
            if "error" in ours[case] or "error" in theirs:
                raise SystemExit(f"{what} at {size}: {ours[case].get('error') or theirs['error']}")
            full = -(-(theirs["items"] if "items" in command else theirs["users"]) // theirs["batch"])
            seconds = min(theirs["epoch_seconds"][1:] or theirs["epoch_seconds"]) * full / theirs["steps"]
            print(f"{'':12} {peer:28}{seconds:9.2f} s   {seconds / ours[case]['seconds']:6.1f} times ours")
            row = {
                "what": what,
                "matrix": size,
                "peer": peer,
                "seconds": ours[case]["seconds"],
                "peer_seconds": seconds,
            }
            row |= {"floor_seconds": ours[case]["floor_seconds"], "peer_steps": theirs["steps"], "steps": full}
            row |= {"peak_bytes": ours[case]["peak_bytes"], "peer_peak_bytes": theirs["peak_rss_bytes"]}
            row |= {"base_bytes": ours[case]["peak_bytes"] - ours[case]["training_bytes"]}
            rows.append(row | {"peer_base_bytes": theirs["rss_before_training_bytes"]})
            results = {"machine": machine.name("cpu"), "date": datetime.now(UTC).date().isoformat(), "results": rows}
            write(arguments.out, "peers", results)  # after each, as a run takes long


def run_peer(python: Path, command: list[str], matrix: Path) -> dict[str, Any]:
    """Run a peer's script; its report, or `error` with the last line of what it said."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        script, *options = command
        line = [str(python.absolute()), str(PEERS / script), *options, "--matrix", str(matrix), "--out", str(out)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
        report: dict[str, Any] = json.loads(out.read_text())
        return report


if __name__ == "__main__":
    main()
