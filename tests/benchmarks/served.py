"""Time of one user's request inside a served model: `python -m tests.benchmarks.served`.

Models of MovieLens-1M are logged and loaded as MLflow's server does it; each request holds the history of one user whom
the model does not know. The time is that of `predict`, without HTTP.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd

import recsys
from recsys import tracking
from recsys.workspace import Workspace
from tests.benchmarks import machine

REQUESTS = 300


def main() -> None:
    """Fit, log, load, ask and print a line for each model."""
    data = recsys.datasets.load("ml-1m").binarized()
    histories = [np.asarray(data.items.ids(data.matrix[row].indices)).astype(str).tolist() for row in range(REQUESTS)]
    frames = [pd.DataFrame({"user_id": [f"nobody {row}"], "items": [own]}) for row, own in enumerate(histories)]
    with tempfile.TemporaryDirectory() as root:
        for model in (recsys.EASE(), recsys.MultVAE(epochs=1)):
            model.fit(data, show_progress=False)
            with tracking.start_run(Workspace(Path(root)), "served", "run", {}) as tracker:
                tracking.log_model(model, name=None, examples=data)
            served = mlflow.pyfunc.load_model(f"runs:/{tracker.run_id}/model")
            seconds = []
            for frame in [*frames[:20], *frames]:
                began = time.perf_counter()
                served.predict(frame, params={"n": 10})
                seconds.append(time.perf_counter() - began)
            timed = 1e3 * np.array(seconds[20:])
            found = {"median_ms": np.median(timed), "p95_ms": np.percentile(timed, 95)}
            print(json.dumps({"model": type(model).__name__, **{key: round(value, 2) for key, value in found.items()}}))
    print(machine.name("cpu"))


if __name__ == "__main__":
    main()
