"""One measurement per case; each runs in a process of its own, so that its peak memory is its own too.

    python -m tests.benchmarks.cases multvae gowalla --device cpu

prints one JSON object. Every case reports its time, the time that its dense products alone would take at the machine's
rate (`floor_seconds`, measured in the same process), and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recsys import evaluate
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import EASE, IAutoRec, MultDAE, MultVAE, UAutoRec
from recsys.models.base import Recommender
from recsys.splits import Part
from recsys.workspace import Workspace
from tests.benchmarks import machine, matrices

ACCURACY = ("ndcg", "recall", "truncated_recall", "precision", "map", "mrr", "hit_rate")
METRICS = [f"{kind}@{k}" for kind in ACCURACY for k in (10, 100)]
BEYOND = ["coverage@100", "novelty@100", "gini@100", "average_popularity@100"]


def training(model: Recommender, rows: sp.csr_matrix, *, hidden: int, epochs: int) -> dict[str, Any]:
    """Time epochs of a fit on `rows`, what the network reads; its floor is three products with the output layer."""
    matrix = sp.csr_matrix(rows.T) if isinstance(model, IAutoRec) else rows
    base = machine.peak_bytes()
    model.epochs = epochs
    model.fit(matrix, show_progress=False)
    seconds = [entry["seconds"] for entry in model.record_.epochs]
    steps = -(-rows.shape[0] // model.batch_size)
    return {
        "seconds": min(seconds[1:] or seconds),
        "steps": steps,
        "operations": 6 * rows.shape[0] * rows.shape[1] * hidden,
        "loss": model.record_.epochs[-1]["loss"],
        "training_bytes": machine.peak_bytes() - base,
    }


def multvae(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """Mult-VAE I-600-200-600-I, batch 500."""
    return training(MultVAE(device=device), matrix, hidden=600, epochs=epochs)


def uautorec(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """U-AutoRec, 500 hidden, batch 500, the masked loss."""
    return training(UAutoRec(batch_size=500, device=device), _rated(matrix), hidden=500, epochs=epochs)


def iautorec(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """I-AutoRec, 500 hidden, batch 500, the masked loss."""
    return training(IAutoRec(batch_size=500, device=device), sp.csr_matrix(_rated(matrix).T), hidden=500, epochs=epochs)


def wholematrix(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """U-AutoRec, 500 hidden, batch 2,000, the squared loss over the whole matrix."""
    model = UAutoRec(batch_size=2000, unobserved_weight=0.1, device=device)
    return training(model, matrix, hidden=500, epochs=epochs)


def topn(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """Top-100 of 10,000 users by a 200-dimensional head, against its product alone."""
    model, users = _head(matrix, device), min(10_000, matrix.shape[0])
    history = matrix[:users]
    seconds = machine.best(lambda: model.recommend(np.arange(users), history, N=100), device)
    return {"seconds": seconds, **_product(users, matrix.shape[1], device), "users": users}


def evaluation(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """Top-100 and all ranking metrics of 10,000 users."""
    model, users = _head(matrix, device), min(10_000, matrix.shape[0])
    half = matrix[:users].tocoo()
    held = np.random.default_rng(0).random(half.nnz) < 0.2
    context, target = (
        sp.csr_matrix((half.data[chosen], (half.row[chosen], half.col[chosen])), shape=half.shape)
        for chosen in (~held, held)
    )
    part = Part(context, target, IdMap(range(users)), np.full(users, -1, dtype=np.int32))
    seconds = machine.best(lambda: evaluate(model, part, [*METRICS, *BEYOND]), device)
    lists = machine.best(lambda: model.recommend(np.full(users, -1), context, N=100), device)
    return {"seconds": seconds, **_product(users, matrix.shape[1], device), "top_n_seconds": lists, "users": users}


def scoring(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """From the registry to Parquet, all users, N = 10, a 200-dimensional head: the whole job after imports."""
    from recsys import tracking
    from recsys.scoring import score

    data = Interactions(matrix, IdMap(range(matrix.shape[0])), IdMap(range(matrix.shape[1])))
    model = MultDAE(epochs=1, device=device).fit(_some(data), show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with tracking.start_run(Workspace(root), "benchmark", "scoring"):
            tracking.log_model(model, name="benchmark", examples=data.take_users(np.arange(10)))
        began = time.perf_counter()
        loaded = tracking.load("models:/benchmark/1")
        result = score(loaded, data, root / "scored", n=10)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, **_product(matrix.shape[0], matrix.shape[1], device), "users": result.users}


def ease(matrix: sp.csr_matrix, device: str, epochs: int) -> dict[str, Any]:
    """EASE in float32, whose floor is the n³ operations of factor and inverse."""
    base = machine.peak_bytes()
    began = time.perf_counter()
    EASE(precision="float32", device=device).fit(matrix, show_progress=False)
    n = matrix.shape[1]
    return {
        "seconds": time.perf_counter() - began,
        "operations": n**3,
        "training_bytes": machine.peak_bytes() - base,
        "squares": (machine.peak_bytes() - base) / (4 * n * n),
    }


def _rated(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return ratings 1 to 5 at the stored places: a masked loss refuses ratings that are all alike."""
    ratings = np.random.default_rng(0).integers(1, 6, matrix.nnz).astype(np.float32)
    return sp.csr_matrix((ratings, matrix.indices, matrix.indptr), shape=matrix.shape)


def _some(data: Interactions, users: int = 500) -> Interactions:
    return data.take_users(np.arange(users))


def _head(matrix: sp.csr_matrix, device: str) -> Recommender:
    return MultDAE(epochs=1, device=device).fit(matrix[:500], show_progress=False)


def _product(users: int, items: int, device: str, width: int = 200) -> dict[str, float]:
    """Time the bare product of that size, in blocks of 2,000 users."""
    hidden, weight = torch.randn(users, width, device=device), torch.randn(items, width, device=device)
    out = torch.empty(min(users, 2000), items, device=device)

    def product() -> None:
        for some in hidden.split(2000):
            torch.mm(some, weight.T, out=out[: len(some)])

    return {"product_seconds": machine.best(product, device), "operations": 2 * users * items * width}


CASES: dict[str, Callable[[sp.csr_matrix, str, int], dict[str, Any]]] = {
    case.__name__: case for case in (multvae, uautorec, iautorec, wholematrix, topn, evaluation, scoring, ease)
}


def main() -> None:
    """Run one case and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("matrix", help=f"{', '.join(matrices.SIZES)}, or users,items,stored of a generated one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if arguments.matrix in matrices.SIZES:
        matrix = matrices.matrix(arguments.matrix)
    else:
        matrix = matrices.generated(*map(int, arguments.matrix.split(",")))
    rate = machine.gemm_rate(arguments.device)
    found = CASES[arguments.case](matrix, arguments.device, arguments.epochs)
    rate = (rate + machine.gemm_rate(arguments.device)) / 2
    found |= {"case": arguments.case, "matrix": arguments.matrix, "device": arguments.device, "gemm_rate": rate}
    found |= {"users_items_stored": [*matrix.shape, matrix.nnz], "floor_seconds": found["operations"] / rate}
    print(json.dumps(found | {"peak_bytes": machine.peak_bytes()}))


if __name__ == "__main__":
    main()
