"""Held-out log-likelihoods of variational autoencoders on MovieLens-1M, in nats.

python -m tests.benchmarks.analysis_density

x are the whole histories of the 500 test users of `generative_models`, as multinomial counts given their number.
`--samples` lists numbers of importance samples K: the bound grows with K.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from recsys.analysis import compare_likelihoods, held_out_users
from tests.benchmarks import generative_models, machine


def main() -> None:
    """Print a table per number of samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--models", type=Path, default=None, help="folder in which trained models are kept")
    parser.add_argument("--only", nargs="*", default=list(generative_models.MADE))
    options = parser.parse_args()
    parts = generative_models.split()
    users = held_out_users(parts.test, parts.train)
    models = {name: generative_models.model(name, parts, options.models) for name in options.only}
    print(machine.name("cpu"))
    for samples in options.samples:
        began = time.perf_counter()
        table = compare_likelihoods(models, users, samples=samples, seed=0)
        print(f"\nK = {samples} ({time.perf_counter() - began:.0f} s)\n{table.round(4).to_string()}", flush=True)


if __name__ == "__main__":
    main()
