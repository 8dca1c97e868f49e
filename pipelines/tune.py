"""Search for hyperparameters on the validation part, and write the best configuration.

python pipelines/tune.py pipelines/configs/compare-ml1m-infae/ease.toml best.toml

Without arguments it searches for EASE's regularization on generated data. A configuration that names no [tune.space] is
searched over the space that its model declares. Needs the extra `tune`.
`recsys tune` does the same, and takes another budget.
"""

import sys
from pathlib import Path

import tomli_w

from recsys import Workspace, tracking
from recsys.config import JobConfig, load_config
from recsys.tuning import Tuned, tune

SPACE = "tune = {trials = 8, space = {regularization = {low = 10.0, high = 1000.0, log = true}}}"


def search(workspace: Workspace, config: JobConfig, output: Path) -> Tuned:
    job = config.repeat(0)
    data = job.load_data(workspace.folder)
    split = job.split.split(data)

    # Every trial is a run of its own below this one. Trials are fitted on the training part and compared on the
    # validation part; the test part stays unread until `train.py` is called with the winner. A search that is called
    # again on the same data (hence the fingerprint) continues where it stopped.
    with tracking.start_run(workspace, job.track.experiment, f"tune {job.model['name']}") as run:
        tuned = tune(workspace, job, split, fingerprint=data.fingerprint())
        run.log_frame(tuned.trials, "trials.parquet")
        run.log_metrics({f"validation/{job.train.metric}": tuned.value})

    print(tuned.trials.to_string(index=False))
    print(f"best validation {job.train.metric} {tuned.value:.4f}: {tuned.job.model}")
    best = tuned.job.as_dict()
    best.pop("tune", None)
    output.write_text(tomli_w.dumps(best), encoding="utf-8")
    print(f"written to {output}; python pipelines/train.py {output}")
    return tuned


if __name__ == "__main__":
    if len(sys.argv) > 1:
        config = load_config(sys.argv[1])
    else:
        config = load_config(Path(__file__).parent / "configs" / "nightly.toml", [SPACE])
    search(Workspace(), config, Path(sys.argv[2] if len(sys.argv) > 2 else "best.toml"))
