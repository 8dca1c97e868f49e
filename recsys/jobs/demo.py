"""The whole path on generated data: train, compare, register, promote, score, recommend."""

from __future__ import annotations

import time
from pathlib import Path

from recsys import tracking
from recsys.config import DataConfig, check_config
from recsys.errors import TrackingError
from recsys.evaluation import formatted, table
from recsys.jobs.origin import name_of_run
from recsys.jobs.serve import print_user, with_titles
from recsys.jobs.train import Trained, train_one
from recsys.models import ALS, EASE, IAutoRec, MultVAE, Popularity, Recommender, UAutoRec
from recsys.scoring import check_output, recommend_frame, score
from recsys.workspace import Workspace

NAME = "demo"
METRICS = ("ndcg@10", "recall@10", "truncated_recall@20", "hit_rate@10", "coverage@10", "novelty@10")


def models() -> list[Recommender]:
    """Return the models that the demo compares, with settings that suit its data."""
    return [
        Popularity(),
        ALS(factors=32, regularization=20.0, alpha=5.0),
        EASE(regularization=200.0),
        UAutoRec(hidden=128, unobserved_weight=0.3, weight_decay=5.0, learning_rate=3e-3, epochs=30, batch_size=128),
        IAutoRec(hidden=128, unobserved_weight=0.3, weight_decay=5.0, learning_rate=3e-3, epochs=30, batch_size=128),
        MultVAE(hidden=300, latent=100, epochs=50, batch_size=200, patience=8),
    ]


def run(workspace: Workspace) -> Path:
    """Run the demo and return the folder of recommendations; all its files go into the workspace."""
    began = time.perf_counter()
    output = workspace.scored / NAME
    check_output(output)
    config = check_config(
        {
            "data": {"min_rating": 3.0, "min_user": 5, "binary": True},
            "split": {"kind": "hold_out_users", "n_users": 0.1},
            "train": {"metric": "ndcg@10"},
            "evaluate": {"metrics": METRICS},
            "track": {"experiment": NAME, "register": NAME},
        }
    ).repeat(0)
    ratings = DataConfig().load()
    data = config.load_data()
    split = config.split.split(data)
    print(f"generated {ratings}")
    print(f"liked (rated 3 or more): {data}")
    print(f"held out: {split.test}; users that no model sees in training\n")

    trained: dict[str, Trained] = {}
    for model in models():
        name = type(model).__name__
        job = config.model_copy(update={"model": {"name": name, **model.params()}})
        trained[name] = train_one(workspace, job, split, data, run_name=name_of_run(job))
        trained[name].done()
        print(f"{name:<11} validation nDCG@10 {trained[name].validation['ndcg@10']:.4f}")

    print("\nTest users, mean ± standard error")
    compared = {name: result.test for name, result in trained.items()}
    print(formatted(table(compared, sort_by="ndcg@10")).to_string())

    best = max(trained.values(), key=lambda result: result.validation["ndcg@10"])
    registered = best.registered
    if registered is None:
        raise TrackingError(f"the model could not be registered: {tracking.trouble(workspace)}; see recsys sync")
    reason = f"best validation nDCG@10 of {len(trained)}: {best.validation['ndcg@10']:.4f}"
    tracking.promote(NAME, registered.version, reason=reason)
    print(f"\npromoted {registered.uri} ({type(best.model).__name__}) to models:/{NAME}@champion: {reason}")

    champion = tracking.load(f"models:/{NAME}@champion")
    histories, seen = config.data.histories(workspace.folder)
    progress, uri = workspace.progress, registered.uri
    result = score(champion, histories, output, seen=seen, model_uri=uri, show_progress=progress)
    user = data.users.ids([0])[0]
    frame = with_titles(champion, histories, recommend_frame(champion, histories, [user], n=10, seen=seen))
    print_user(ratings, user, frame)

    print(f"\nrecommendations  {result.output}  ({result.users:,} users, {result.rows:,} rows)")
    print(f"runs             {tracking.describe(workspace)}")
    print(f"done in {time.perf_counter() - began:.0f} s")
    return result.output
