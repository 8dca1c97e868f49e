"""What the scripts of this folder share: their arguments, the matrix they read, and the JSON they write (Linux only).

Each script runs by itself in the environment of requirements.txt; none imports recsys.
"""

import argparse
import json
import math
import resource
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch


def argument_parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every script takes; `--threads` left out keeps torch's own choice."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--matrix", type=Path, required=True, help="users x items CSR of scipy.sparse.save_npz")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to time, the first one included")
    parser.add_argument("--max-steps", type=int, default=None, help="stop every epoch after so many steps")
    parser.add_argument("--batch", type=int, default=500, help="rows of a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's learning rate")
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    return parser


def add_vae_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the widths of the network items-hidden-latent-hidden-items."""
    parser.add_argument("--hidden", type=int, default=600)
    parser.add_argument("--latent", type=int, default=200)


def load_matrix(arguments: argparse.Namespace) -> scipy.sparse.csr_matrix:
    """Read the matrix and set torch's threads.

    Returns:
        (n_users, n_items) csr, float32, as stored.

    Raises:
        SystemExit: a number that must be at least 1 is not, or the folder of `--out` is missing (said before hours of
            training, not after).
    """
    for name in ("epochs", "max_steps", "batch", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise SystemExit(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not arguments.out.absolute().parent.is_dir():
        raise SystemExit(f"the folder of --out {arguments.out} does not exist; create it first")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    return scipy.sparse.csr_matrix(scipy.sparse.load_npz(arguments.matrix), dtype=np.float32)


def steps_of(n_rows: int, arguments: argparse.Namespace) -> int:
    """Steps of an epoch over `n_rows` rows."""
    full = math.ceil(n_rows / arguments.batch)
    return full if arguments.max_steps is None else min(full, arguments.max_steps)


def counted(batches: Iterable[Any], max_steps: int | None, sizes: list[int]) -> Iterator[Any]:
    """Pass on the first `max_steps` batches, or all, and append the length of each to `sizes`."""
    for step, batch in enumerate(batches):
        if step == max_steps:
            return
        sizes.append(len(batch))
        yield batch


def check_steps(sizes: list[int], n_rows: int, arguments: argparse.Namespace) -> int:
    """Verify that the peer took the steps asked for.

    Args:
        sizes: rows of each step, all epochs one after the other.
        n_rows: rows of an epoch.

    Returns:
        Steps of one epoch.

    Raises:
        SystemExit: the number of steps, or the rows of an epoch's first step, differ from what was asked for.
    """
    steps = steps_of(n_rows, arguments)
    firsts = set(sizes[::steps])
    if len(sizes) != steps * arguments.epochs or firsts != {min(arguments.batch, n_rows)}:
        raise SystemExit(
            f"expected {arguments.epochs} epochs of {steps} steps of {arguments.batch} rows, "
            f"got {len(sizes)} steps, the first of an epoch with {sorted(firsts)} rows"
        )
    return steps


def resident_bytes() -> int:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def write_report(
    arguments: argparse.Namespace,
    *,
    peer: str,
    version: str,
    what: str,
    matrix: scipy.sparse.csr_matrix,
    network: torch.nn.Module,
    steps: int,
    epoch_seconds: list[float],
    rss_before_training: int,
) -> None:
    """Write the measurement to `--out`.

    `seconds_per_step` is the median epoch, the first left out where there are more, divided by its steps.
    """
    report = {
        "peer": peer,
        "version": version,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "users": matrix.shape[0],
        "items": matrix.shape[1],
        "stored": int(matrix.nnz),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "batch": arguments.batch,
        "steps": steps,
        "epoch_seconds": epoch_seconds,
        "seconds_per_step": statistics.median(epoch_seconds[1:] or epoch_seconds) / steps,
        "rss_before_training_bytes": rss_before_training,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts in KiB
        "what": what,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
