"""Recovery of held-out users' rows of MovieLens-1M from m measurements: UAE against PCA and LASSO.

python -m tests.benchmarks.uae

The rows are binary: 1 where the user has rated the movie, 0 elsewhere. Of the users, a tenth is for testing, a tenth
for choosing (epochs of UAE, penalty of LASSO) and the rest for training. The error is the root mean squared one over
all entries of the test rows, users × movies. No method's measurements are disturbed when it is tested.

- UAE: m learned measurements, recovered by its decoder.
- PCA: the m first principal components of the training rows and their mean, the best linear recovery in training.
- LASSO: m random Gaussian measurements, recovered as argmin over x of ‖y − A x‖² / 2m + α ‖x‖₁ (scikit-learn): what
  compressed sensing does without a training set. Other than the two it knows no mean row.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.linear_model import Lasso

from recsys.datasets import load
from recsys.models import UAE

OPTIONS: dict[str, Any] = {
    "likelihood": "bernoulli",
    "acquisition": "linear",
    "hidden": (600,),
    "noise": 0.1,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "epochs": 40,
    "schedule": "cosine",
}
PENALTIES = (3e-3, 1e-2, 3e-2, 1e-1)


@dataclass(frozen=True)
class Recovery:
    """Chooses an epoch by the error on the validation users."""

    rows: sp.csr_matrix
    metric: str = "rmse"
    higher_is_better: bool = False

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the error of the model as it is now."""
        return {"rmse": rmse(uae_recovers(model, self.rows), self.rows)}


def rmse(recovered: np.ndarray, rows: sp.csr_matrix) -> float:
    """Return the root mean squared error over all entries."""
    return float(np.sqrt(np.mean((recovered - rows.toarray()) ** 2, dtype=np.float64)))


def uae_recovers(model: UAE, rows: sp.csr_matrix) -> np.ndarray:
    """Return the rows that the decoder recovers from measurements without noise."""
    with torch.inference_mode():
        measured = torch.from_numpy(model.encode(rows)).to(model.network_.output.weight.device)
        output = model.network_.output(model.network_.decode(measured))
        recovered: np.ndarray = (output.sigmoid() if model.likelihood == "bernoulli" else output).cpu().numpy()
    return recovered


def pca_recovers(train: sp.csr_matrix, rows: sp.csr_matrix, m: int) -> np.ndarray:
    """Return the projections of the rows on the affine space of the first m principal components."""
    dense = train.toarray().astype(np.float64)
    mean = dense.mean(0)
    dense -= mean
    components = sp.linalg.eigsh(dense.T @ dense, k=m)[1]
    recovered: np.ndarray = (rows.toarray() - mean) @ components @ components.T + mean
    return recovered


def lasso_recovers(rows: sp.csr_matrix, m: int, penalty: float, seed: int = 0) -> np.ndarray:
    """Return what LASSO recovers of m random measurements of each row."""
    matrix = np.random.default_rng(seed).normal(size=(m, rows.shape[1])) / np.sqrt(m)
    model = Lasso(alpha=penalty, fit_intercept=False, max_iter=5000, tol=1e-3)
    return np.atleast_2d(model.fit(matrix, matrix @ rows.T.toarray()).coef_)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measurements", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=json.loads, default={}, help="JSON object of options of UAE")
    parser.add_argument("--choose", action="store_true", help="UAE alone, and its error on the validation users")
    arguments = parser.parse_args()
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in {**OPTIONS, **arguments.options}.items()}

    rows = load("ml-1m").binarized().matrix
    tenth = rows.shape[0] // 10
    order = np.random.default_rng(arguments.seed).permutation(rows.shape[0])
    test, validation, train = (rows[part] for part in np.split(order, [tenth, 2 * tenth]))
    print(f"{train.shape[0]} users train, {validation.shape[0]} validate, {test.shape[0]} test; {rows.shape[1]} movies")
    mean = np.broadcast_to(np.asarray(train.mean(0)), test.shape)
    print(f"mean row: {rmse(mean, validation if arguments.choose else test):.4f}", flush=True)
    for m in arguments.measurements:
        started = time.perf_counter()
        model = UAE(latent=m, seed=arguments.seed, **options)
        model.fit(train, show_progress=False, validation=Recovery(validation))
        best = model.record_.epochs[model.record_.best_epoch - 1]
        seconds = time.perf_counter() - started
        line = f"m = {m:4d}: UAE epoch {best['epoch']:.0f}, validation {best['rmse']:.4f} ({seconds:.0f} s)"
        if arguments.choose:
            line += f", PCA validation {rmse(pca_recovers(train, validation, m), validation):.4f}"
        else:
            few = validation[:100]
            penalty = min(PENALTIES, key=lambda alpha: rmse(lasso_recovers(few, m, alpha), few))
            line += (
                f"; test: UAE {rmse(uae_recovers(model, test), test):.4f}"
                f", PCA {rmse(pca_recovers(train, test, m), test):.4f}"
                f", LASSO {rmse(lasso_recovers(test, m, penalty), test):.4f} (α = {penalty:g})"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
