"""Measure a registered model again, on the test part that it was trained beside.

python pipelines/evaluate.py models:/nightly/1

`recsys evaluate` does the same, and takes other metrics, another configuration, and writes a report.
"""

import sys

from recsys import Evaluation, Workspace, evaluate, tracking
from recsys.config import check_config
from recsys.evaluation import DEFAULT


def measure(workspace: Workspace, uri: str) -> Evaluation:
    tracking.configure(workspace, create=False)
    model = tracking.load(uri)

    # A model carries its configuration: the same data and the same seed give the same split.
    job = check_config(model.about_["config"])
    data = job.load_data(workspace.folder)
    split = job.split.split(data)

    # If the data have changed since, so has the split, and the model may have been trained on what it is tested on.
    trained_on = model.about_["trained_on"]
    part = split.refit() if trained_on["refit"] else split.train
    if part.fingerprint() != trained_on["fingerprint"]:
        sys.exit(f"{uri} was trained on other entries than this training part; it may have seen the test part")

    test = evaluate(
        model,
        split.test,
        job.evaluate.metrics or DEFAULT,
        min_relevance=job.evaluate.min_relevance,
        popularity=split.train,
        show_progress=workspace.progress,
    )
    print(f"{uri}, {type(model).__name__}, {split.test}\n{test}")
    return test


if __name__ == "__main__":
    measure(Workspace(), sys.argv[1] if len(sys.argv) > 1 else "models:/nightly@champion")
