"""What a training says of itself: the origin that its bundle keeps, and the tags of its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
        "protocol": "new users" if (split.test.user_index < 0).all() else "training users",
    }
    return about, tags
