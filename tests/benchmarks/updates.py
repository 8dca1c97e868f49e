"""Closed forms made of yesterday's, beside full fits: `python -m tests.benchmarks.updates [--model NAME]`.

Yesterday's model lacks the last `k` users; today's has all. Both ways are timed to the same weights, and the largest
difference of a weight is given per largest weight. Sizes of up to a few thousand items take seconds; `--items` keeps
the most popular ones.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys import datasets
from recsys.models import model_class, updating
from tests.benchmarks import machine

COUNTS = (1, 10, 50, 100, 200, 500, 1000, 2000)
OPTIONS: dict[str, dict[str, Any]] = {"EASE": {}, "EDLAE": {"dropout": 0.3}, "DLAE": {"dropout": 0.3}}


def matrix_of(name: str, n_items: int | None) -> sp.csr_matrix:
    """Return binary interactions of the items that most users have, users in random order."""
    matrix = datasets.load(name).binarized().matrix
    if n_items is not None:
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
        matrix = matrix[:, np.sort(np.argsort(-counts, kind="stable")[:n_items])]
    return sp.csr_matrix(matrix[np.random.default_rng(0).permutation(matrix.shape[0])])


def measured(matrix: sp.csr_matrix, name: str, count: int, regularization: float, precision: str) -> dict[str, Any]:
    """Return seconds of a full fit and of an update by the last `count` users, and how far the two are apart."""
    options = {"regularization": regularization, "precision": precision, "device": "cpu", **OPTIONS[name]}
    start = model_class(name)(keep_rows=True, **options).fit(matrix[:-count], show_progress=False)
    began = time.perf_counter()
    found = model_class(name)(keep_rows=True, **options).fit(matrix, show_progress=False, start=start)
    update = time.perf_counter() - began
    began = time.perf_counter()
    full = model_class(name)(**options).fit(matrix, show_progress=False)
    whole = time.perf_counter() - began
    difference = float((found.weights_ - full.weights_).abs().max() / full.weights_.abs().max())
    return {
        "users": count,
        "updated": found.updated_rows_ is not None,
        "update, seconds": round(update, 2),
        "full fit, seconds": round(whole, 2),
        "difference": f"{difference:.1e}",
    }


def main() -> None:
    """Print a line for each number of new users."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.updates", description=__doc__)
    parser.add_argument("--data", default="ml-1m", help="name of a data set")
    parser.add_argument("--items", type=int, help="how many items to keep; default: all")
    parser.add_argument("--model", choices=OPTIONS, default="EASE")
    parser.add_argument("--regularization", type=float, default=500.0)
    parser.add_argument("--precision", choices=("float64", "float32"), default="float64")
    parser.add_argument("--users", type=int, nargs="*", default=COUNTS, help="numbers of new users")
    parser.add_argument("--always", action="store_true", help="update also where it does not pay")
    options = parser.parse_args()
    if options.always:
        updating.PAYS_BELOW = np.inf
    matrix = matrix_of(options.data, options.items)
    print(machine.name("cpu"), f"{options.model}, {matrix.shape[0]:,} users × {matrix.shape[1]:,} items", flush=True)
    for count in options.users:
        print(measured(matrix, options.model, count, options.regularization, options.precision), flush=True)


if __name__ == "__main__":
    main()
