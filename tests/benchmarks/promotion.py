"""How often a challenger is promoted that is as good as the champion, and one that is better, over real trainings.

python -m tests.benchmarks.promotion [--data ml-100k] [--repeats 40] [--number 180]

Each repeat holds out other users and trains Mult-VAE to the end of its schedule, a champion. Its challengers are the
same with another seed (equal) and EASE (better); and it challenges itself one trained for `--short` epochs (longer).
Each contest is decided by the shipped rule, as `recsys promote` does with the contest of this number in a year, but for
the time of scoring, which other jobs of the machine would change. Beside it stands what the rule decides without a
budget.
"""

from __future__ import annotations

import argparse
import json
import time

from recsys.config import JobConfig
from recsys.datasets import load
from recsys.error_budget import Place
from recsys.interactions import Interactions
from recsys.jobs.contest import contest
from recsys.models import EASE, MultVAE
from recsys.promotion import Rule
from recsys.splits import hold_out_users
from recsys.workspace import Workspace

ALONE = {name: f"{name} without a budget" for name in ("equal", "longer", "better")}


def main() -> None:
    """Run the contests, print a line each and the shares at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--users", type=int, default=300, help="held-out users")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--short", type=int, default=15)
    parser.add_argument("--number", type=int, default=180, help="of the contest in the year, which sets its level")
    parser.add_argument("--regularization", type=float, default=100.0, help="of EASE")
    asked = parser.parse_args()
    data = load(asked.data).binarized()
    config = JobConfig.model_validate({"data": {"name": asked.data}, "model": {"name": "MultVAE"}})
    rule = Rule("ndcg@10", slowdown=None)
    place = Place("", asked.number, "2026-01-01T00:00:00Z", rule.error_budget)
    promoted = dict.fromkeys(("equal", "longer", "better", *ALONE.values()), 0)
    began = time.perf_counter()
    for repeat in range(asked.repeats):
        split = hold_out_users(data, n_users=asked.users, seed=repeat)

        def trained(epochs: int, seed: int, train: Interactions = split.train) -> MultVAE:
            model = MultVAE(hidden=100, latent=32, epochs=epochs, batch_size=50, schedule="cosine", seed=seed)
            model.fit(train, show_progress=False)
            return model

        champion, short = trained(asked.epochs, 2 * repeat), trained(asked.short, 2 * repeat)
        contests = {
            "equal": (champion, trained(asked.epochs, 2 * repeat + 1)),
            "longer": (short, champion),
            "better": (
                champion,
                EASE(regularization=asked.regularization, precision="float32").fit(split.train, show_progress=False),
            ),
        }
        for name, (holder, challenger) in contests.items():
            decision = contest(Workspace(progress=False), challenger, holder, config, split, rule, place=place)
            promoted[name] += decision.earned
            promoted[ALONE[name]] += all(passed for passed, what in decision.checks if not what.startswith("one-sided"))
            print(f"{repeat} {name}: {'promoted' if decision.earned else 'kept out'}; {decision.reason}", flush=True)
    print(json.dumps({**promoted, "of": asked.repeats, "seconds": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
