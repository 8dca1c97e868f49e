"""How real generated users of MovieLens-1M are, beside users without taste and copies of real ones.

python -m tests.benchmarks.analysis_generate

Each source makes as many users as training has (5,040). Real users are the 500 test users of `generative_models`, whom
no model saw; EASE (λ = 300) learns of each source and is tested on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recsys.analysis import bootstrapped_users, compare_generators, independent_users, sample_users
from tests.benchmarks import generative_models, machine


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=None, help="folder in which trained models are kept")
    parser.add_argument("--only", nargs="*", default=list(generative_models.MADE))
    parser.add_argument("--users", type=int, default=None, help="number of users of each source")
    options = parser.parse_args()
    parts = generative_models.split()
    n = options.users or parts.train.shape[0]
    sources = {"popularity": independent_users(parts.train, n, 0), "bootstrap": bootstrapped_users(parts.train, n, 0)}
    for name in options.only:
        sources[name] = sample_users(generative_models.model(name, parts, options.models), n, 0)
    print(machine.name("cpu"))
    print(compare_generators(sources, parts.train, parts.test, seed=0).round(4).to_string())


if __name__ == "__main__":
    main()
