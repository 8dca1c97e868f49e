"""Codes of Mult-VAE, a denoising autoencoder and UAE beside PCA, truncated SVD and Isomap, on MovieLens-1M.

python -m tests.benchmarks.analysis_reduction

The split is that of pipelines/configs/multvae-ml1m.toml: ratings of 4 or more, 600 users for testing whom training does
not see. Each model is trained once per width, the epoch chosen by ndcg@100 on the 600 validation users.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys.analysis import intrinsic_dimension, reduction
from recsys.analysis.plain_codes import unit_rows
from recsys.datasets import load
from recsys.models import UAE, DenoisingAE, MultVAE, Recommender
from recsys.splits import hold_out_users

COLUMNS = ["unexplained", "own_unexplained", "nll", "own_nll", "target_nll", "own_target_nll"]
KEPT = ["trustworthiness", "continuity"]


def models(width: int, epochs: int, seed: int) -> list[Recommender]:
    """Return the models of a width, unfitted."""
    shared: dict[str, Any] = {"latent": width, "epochs": epochs, "seed": seed}
    return [
        MultVAE(hidden=200, decoder="affine", learning_rate=3e-3, batch_size=250, schedule="cosine", **shared),
        DenoisingAE(**shared),
        UAE(hidden=(64,), learning_rate=3e-3, batch_size=250, schedule="cosine", **shared),
    ]


def markdown(frame: pd.DataFrame) -> str:
    """Return the frame as a table of the documentation, with a row per method and dimension."""
    heads = ["method", "d", *(name.replace("_", " ") for name in COLUMNS + KEPT)]
    lines = [" | ".join(heads), " | ".join(["---", *["--:"] * (len(heads) - 1)])]
    for row in frame.to_dict("records"):
        cells = ["" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in COLUMNS + KEPT]
        lines.append(" | ".join([row["method"], str(row["dimension"]), *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def figure(frame: pd.DataFrame, path: Path) -> None:
    """Draw what the table says against d, in an SVG file."""
    import matplotlib
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 3.4), layout="constrained")
    shown = {
        "unexplained": "squared error of rows, share of variance",
        "target_nll": "held-out entries, nats per entry",
        "trustworthiness": "trustworthiness of 10 neighbors",
    }
    codes = frame[frame["dimension"] > 0]
    for panel, (column, title) in zip(drawn.subplots(1, 3), shown.items(), strict=True):
        for (method, group), marker in zip(codes.groupby("method", sort=False), "os^Dvx", strict=True):
            panel.plot(group["dimension"], group[column], marker=marker, label=method, linewidth=1.5, markersize=5)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted(codes["dimension"].unique()))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set(title=title, xlabel="d, numbers of the code")
        panel.title.set_fontsize(10)
        panel.grid(visible=True, axis="y", alpha=0.4)
        panel.spines[["top", "right"]].set_visible(False)
    drawn.axes[0].legend(fontsize=8)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reduction"}):  # equal figures, equal files
        drawn.savefig(path, metadata={"Date": None})


def estimates(points: Any) -> list[str]:
    """Return the intrinsic dimension by TwoNN and by maximum likelihood, with one decimal."""
    return [f"{intrinsic_dimension(points, method=method):.1f}" for method in ("two-nn", "mle")]


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 8, 32, 128])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    data = load("ml-1m").filter(min_rating=4.0, min_user=5).binarized()
    split = hold_out_users(data, n_users=600)
    part, frames = split.test, []
    rows = split.train.matrix[np.sort(np.random.default_rng(arguments.seed).choice(split.train.shape[0], 2000, False))]
    print("intrinsic dimension of rows of length 1:", *estimates(unit_rows(rows)), flush=True)
    for width in arguments.widths:
        fitted = models(width, arguments.epochs, arguments.seed)
        for model in fitted:
            began = time.perf_counter()
            model.fit(split.train, show_progress=False)
            print(f"{type(model).__name__} {width}: {time.perf_counter() - began:.0f} s;", end=" ")
            print("intrinsic dimension of its codes:", *estimates(model.encode(rows)), flush=True)
        began = time.perf_counter()
        frames.append(
            reduction(fitted, split.train, part.context, target=part.target, dimensions=[width], seed=arguments.seed)
        )
        print(f"measured in {time.perf_counter() - began:.0f} s\n{markdown(frames[-1])}\n", flush=True)
    frame = pd.concat(frames).drop_duplicates(["method", "dimension"]).sort_values("dimension", kind="stable")
    print(markdown(frame))
    if arguments.figure:
        figure(frame, arguments.figure)


if __name__ == "__main__":
    main()
