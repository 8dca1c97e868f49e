"""What a training says of itself: the origin that its bundle keeps, and the tags of its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from recsys import tracking
from recsys.config import JobConfig
from recsys.interactions import Interactions
from recsys.splits import Split


def origin(
    job: JobConfig,
    split: Split,
    trained_on: Interactions,
    data: Interactions,
    model_tags: Mapping[str, str] | None,
    start: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a saved model says of its origin, and the tags of its run."""
    # Of a split by time: nothing that a model was trained on is as late as its test entries.
    first = split.first_test_time
    until = (
        {} if first is None else {"until": first - 1 if isinstance(first, int) else math.nextafter(first, -math.inf)}
    )
    about: dict[str, Any] = {
        "config": job.as_dict(),
        "data": data.summary(),
        "trained_on": {"refit": job.train.refit, "fingerprint": trained_on.fingerprint(), **until},
    }
    if start:
        about["start"] = start
    if model_tags:
        about["tags"] = dict(model_tags)
    tags = {
        "model": str(job.model["name"]),
        "data.fingerprint": about["data"]["fingerprint"],
        "split.kind": job.split.kind,
        tracking.NOTE: _note(job, split, data),
        "protocol": "new users" if (split.test.user_index < 0).all() else "training users",
    }
    return about, tags


def name_of_run(job: JobConfig) -> str:
    """Return a name that says what a run trains, on what and when; `track.run_name` where that is given."""
    return job.track.run_name or dated(f"{job.model['name']} on {job.data.name}")


def dated(text: str) -> str:
    """Return a name with the time behind it, so that runs of one job differ in theirs."""
    return f"{text}, {datetime.now():%Y-%m-%d %H:%M}"


def _note(job: JobConfig, split: Split, data: Interactions) -> str:
    """Return the description of a run, as Markdown: what was trained and tested, and what its metrics are of."""
    new = (split.test.user_index < 0).all()
    return (
        f"{job.model['name']} on {job.data.name}: {data.shape[0]:,} users, {data.shape[1]:,} items, {data.nnz:,} "
        f"interactions. Split `{job.split.kind}`; tested on {len(split.test.users):,} "
        f"{'users that training did not see' if new else 'users of the training'}.\n\n"
        "Metrics `test/` are of the test part, which is read once; `validation/` are of the part that chose epochs and "
        "settings; `popularity/` and `biases/` are of the baseline on the test part; `loss`, `seconds` and `epoch_` "
        "are of each epoch, `best_` of the best one. The page with all figures is the artifact `report.html`."
    )
