"""Compare models fairly: the same split, one look at the test part each, and a paired test of the differences.

python pipelines/compare.py pipelines/configs/uautorec-ml1m.toml pipelines/configs/iautorec-ml1m.toml

Without files it compares two models on generated data. `recsys compare` does the same, and tunes each model with the
same budget first, draws a figure, and continues after an interruption.
"""

import sys
from pathlib import Path

from recsys import Comparison, Workspace, compare
from recsys.config import JobConfig, load_config, load_configs
from recsys.evaluation import table
from recsys.jobs.train import train_one

POPULARITY = 'model = {name = "Popularity"}'


def compare_all(workspace: Workspace, configs: dict[str, JobConfig]) -> Comparison:
    # Figures of different data or splits cannot be compared, so all models share the first configuration's.
    jobs = {name: config.repeat(0) for name, config in configs.items()}
    first = next(iter(jobs.values()))
    for name, job in jobs.items():
        if (job.data, job.split, job.evaluate) != (first.data, first.split, first.evaluate):
            sys.exit(f"[data], [split] and [evaluate] of {name} differ from those of the first configuration")
    data = first.load_data(workspace.folder)
    split = first.split.split(data)

    results = {}
    for name, job in jobs.items():
        # Nothing is registered: the last model compared would pass for the newest challenger of that name.
        job = job.model_copy(update={"track": job.track.model_copy(update={"register_as": None})})
        # One MLflow run each: fit, choose on validation, test once. `train.py` shows what happens in it.
        results[name] = train_one(workspace, job, split, data, run_name=name).test

    # All models recommend to the same users, so differences are tested user by user. That finds much smaller ones
    # than a look at the standard errors of the table would.
    metric = first.train.metric
    print(f"\n{table(results, sort_by=metric).to_string()}\n")
    comparison = compare(results, metric)
    print("\n".join(comparison.verdicts()))
    return comparison


if __name__ == "__main__":
    if len(sys.argv) > 1:
        configs = load_configs(sys.argv[1:])
    else:
        file = Path(__file__).parent / "configs" / "nightly.toml"
        configs = {"EASE": load_config(file), "Popularity": load_config(file, [POPULARITY])}
    compare_all(Workspace(), configs)
