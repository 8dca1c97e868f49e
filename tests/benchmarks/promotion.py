"""How often a challenger is promoted that is as good as the champion, and one that is better, over real trainings.

python -m tests.benchmarks.promotion [--data ml-1m] [--repeats 40]

Each repeat holds out other users, trains a champion (Mult-VAE, `--epochs` epochs), an equal challenger (the same with
another seed), a better one by longer training (`--longer` epochs) and a better model (EASE), and decides each contest
by the shipped rule, as `recsys promote` does, but for the time of scoring, which other jobs would change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time

from recsys.config import JobConfig
from recsys.datasets import load
from recsys.interactions import Interactions
from recsys.jobs.contest import contest
from recsys.models import EASE, MultVAE
from recsys.promotion import Rule
from recsys.splits import hold_out_users


def main() -> None:
    """Run the contests, print a line each and the shares at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-1m")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--users", type=int, default=1000, help="held-out users")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--longer", type=int, default=60)
    parser.add_argument("--regularization", type=float, default=500.0, help="of EASE")
    asked = parser.parse_args()
    data = load(asked.data).binarized()
    config = JobConfig.model_validate({"data": {"name": asked.data}, "model": {"name": "MultVAE"}})
    rule = dataclasses.replace(Rule(), slowdown=None)
    promoted = {"equal": 0, "longer": 0, "better": 0}
    began = time.perf_counter()
    for repeat in range(asked.repeats):
        split = hold_out_users(data, n_users=asked.users, seed=repeat)

        def trained(epochs: int, seed: int, train: Interactions = split.train) -> MultVAE:
            model = MultVAE(hidden=100, latent=32, epochs=epochs, batch_size=250, seed=seed)
            model.fit(train, show_progress=False)
            return model

        champion = trained(asked.epochs, 2 * repeat)
        challengers = {
            "equal": trained(asked.epochs, 2 * repeat + 1),
            "longer": trained(asked.longer, 2 * repeat + 1),
            "better": EASE(regularization=asked.regularization, precision="float32").fit(
                split.train, show_progress=False
            ),
        }
        for name, challenger in challengers.items():
            decision = contest(challenger, champion, config, split, rule, show_progress=False)
            promoted[name] += decision.earned
            print(f"{repeat} {name}: {'promoted' if decision.earned else 'kept out'}; {decision.reason}", flush=True)
    print(json.dumps({**promoted, "of": asked.repeats, "seconds": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
