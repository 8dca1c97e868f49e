"""What several jobs need: a model and the data that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys import tracking
from recsys.config import JobConfig, check_config
from recsys.errors import ConfigError
from recsys.interactions import Interactions
from recsys.models import Recommender


def load_model(uri: str, root: Path | None = None) -> Recommender:
    """Read a model natively, from a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `runs:/ID/model`."""
    tracking.configure(root)
    return tracking.load(uri)


def config_of(model: Recommender, uri: str) -> JobConfig:
    """Return the configuration that the model was trained with.

    Raises:
        ConfigError: the model does not say.
    """
    about: dict[str, Any] = dict(model.about_)
    if not about.get("config"):
        raise ConfigError(f"{uri} does not say how it was trained; name a configuration file or a data set")
    return check_config(about["config"], f"the configuration stored in {uri}")


def histories_for(model: Recommender, uri: str, data: str | None) -> Interactions:
    """Return the interactions to recommend from: the named data set or file, read as for training.

    Users with few interactions are there too; a user without any that the model reads (all below `min_rating`, say) is
    not.
    """
    if data is None:
        return config_of(model, uri).data.histories()
    section = dict(model.about_.get("config", {}).get("data", {}))
    section.pop("file", None)
    if Path(data).exists():
        section["file"] = data
    else:
        section["name"] = data
    return check_config({"data": section}, "--data").data.histories()
