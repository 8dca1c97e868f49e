"""Maps of MovieLens-1M's movies and users by a denoising autoencoder, and walks between held-out users.

python -m tests.benchmarks.analysis_map

The split is that of pipelines/configs/multvae-ml1m.toml: ratings of 4 or more, 600 users for testing whom training does
not see.
"""

from __future__ import annotations

import argparse

from recsys.analysis import ANALYSES, Subject
from recsys.datasets import load
from recsys.models import DenoisingAE
from recsys.splits import hold_out_users


def main() -> None:
    """Train, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    split = hold_out_users(load("ml-1m").filter(min_rating=4.0, min_user=5).binarized(), n_users=600)
    model = DenoisingAE(latent=arguments.latent, epochs=arguments.epochs, seed=arguments.seed)
    model.fit(split.train, show_progress=False)
    found = ANALYSES["map"].findings(Subject(model=model, split=split, seed=arguments.seed))
    print(found.summary)
    print(*(f"{name}: {value:.3f}" for name, value in found.metrics.items()), sep="\n")
    walks = found.tables["walks"].groupby("step")[["of_start", "of_end", "distance"]].agg(["mean", "std"])
    print(walks.to_string(float_format="{:.3f}".format))
    print(f"{sum(map(len, found.content)) / 2**20:.2f} MiB of the page")


if __name__ == "__main__":
    main()
