"""What several jobs need: a model and the data that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys import tracking
from recsys.config import JobConfig, check_config
from recsys.datasets import NAMES
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.splits import Split
from recsys.workspace import Workspace


def load_model(workspace: Workspace, uri: str) -> tuple[Recommender, str]:
    """Read a model natively, from a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `runs:/ID/model`.

    Returns:
        The model, and the address that it keeps when the alias moves on: `models:/NAME/VERSION`.

    Raises:
        TrackingError: there is no store, or no such model.
    """
    if uri.startswith(("models:/", "runs:/")):
        tracking.configure(workspace, create=False)
    pinned = tracking.pin(uri)
    return tracking.load(pinned), pinned


def config_of(model: Recommender, uri: str) -> JobConfig:
    """Return the configuration that the model was trained with.

    Raises:
        ConfigError: the model does not say.
    """
    about: dict[str, Any] = dict(model.about_)
    if not about.get("config"):
        raise ConfigError(f"{uri} does not say how it was trained; name a configuration file or a data set")
    return check_config(about["config"], f"the configuration stored in {uri}")


def histories_for(
    workspace: Workspace, model: Recommender, uri: str, data: str | None
) -> tuple[Interactions, Interactions | None]:
    """Return what to recommend from, of the named data set or file, read as for training: see `DataConfig.histories`.

    Users with few interactions are there too; a user without any that the model reads (all below `min_rating`, say) is
    not.

    Raises:
        ConfigError: `data` is neither a file or folder nor the name of a data set.
    """
    if data is None:
        return config_of(model, uri).data.histories(workspace.folder)
    section = dict(model.about_.get("config", {}).get("data", {}))
    section.pop("file", None)
    if Path(data).exists():
        section["file"] = data
    elif data in NAMES:
        section["name"] = data
    else:
        raise ConfigError(f"there is no file or folder {data}, nor a data set of that name{did_you_mean(data, NAMES)}")
    return check_config({"data": section}, "--data").data.histories(workspace.folder)


def why_unseen(model: Recommender, split: Split) -> str | None:
    """Return why the model cannot have been trained on the test targets of the split; None where it may have been.

    Either its training part was this split's, with or without the validation entries; or it was trained on none of the
    test users; or on nothing as late as the first test entry, where the split cuts by time.
    """
    trained: dict[str, Any] = dict(model.about_.get("trained_on") or {})
    try:
        part = split.refit() if trained.get("refit") else split.train
        if trained and part.fingerprint() == trained["fingerprint"]:
            return "it was trained on this split's training part"
    except DataError:  # this split has no part to refit on
        pass
    if model.users_ is not None and (model.users_.codes(split.test.users.ids(), on_unknown="mark") < 0).all():
        return "it was trained on none of the test users"
    until, first = trained.get("until"), split.first_test_time
    if until is not None and first is not None and until < first:
        return "it was trained on nothing as late as the test part"
    return None
