"""What is made of a table at first sight: how it is read, a split and models that suit it, as configurations."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.columns import ITEM
from recsys.config import JobConfig, check_config, settings_of
from recsys.datasets.recognize import Recognized, recognize
from recsys.errors import ConfigError, DataError, DataWarning
from recsys.jobs.common import Sources
from recsys.jobs.first_items import RecognizedItems, recognize_items
from recsys.jobs.first_models import Suited, suited_models, suited_split
from recsys.workspace import as_path

METRICS = ("ndcg@10", "recall@10", "hit_rate@10", "coverage@10")


def setting(key: str, value: Any) -> str:
    """Return how the commands are told a key of `[data]`."""
    if isinstance(value, list | tuple):
        value = "[" + ", ".join(f'"{one}"' for one in value) + "]"
        return f"--set 'data.{key}={value}'"
    text = f"data.{key}={value}"
    return f"--set {text}" if re.fullmatch(r"[\w.=-]+", text) else f"--set {text!r}"


@dataclass(eq=False)
class Plan:
    """A table, understood, and the sections of the configurations that suit it."""

    name: str
    """Of the data set, the experiment and the model in the registry."""
    recognized: Recognized
    items: RecognizedItems
    sections: dict[str, dict[str, Any]]
    """All but `[model]`."""
    models: list[Suited]
    """The sections `[model]`; the first is to begin with."""
    split_reason: str
    sources: Sources = field(repr=False)
    """The data, as they were read."""

    def job(self, model: Mapping[str, Any]) -> JobConfig:
        """Return the configuration of a model."""
        return check_config({**self.sections, "model": dict(model)})

    def __str__(self) -> str:
        everything = Recognized(
            self.recognized.file,
            facts=[
                *self.recognized.facts,
                *self.items.facts,
                ("training", f"{self.sources.data}"),
                ("split", self.split_reason),
            ],
            doubts=[*self.recognized.doubts, *self.items.doubts],
        )
        return str(everything)


def plan_for(events: Path, items: Path | None, settings: Sequence[str]) -> Plan:
    """Look at a table, and at one of items, and return what suits it.

    Args:
        settings: `section.key=value`, in place of what is found.

    Raises:
        ConfigError: a setting is wrong.
        DataError: a table cannot be read, or something must be said that it does not tell.
    """
    given = settings_of(settings)
    for part, keys in given.items():
        if part not in JobConfig.model_fields or not isinstance(keys, dict):
            raise ConfigError(f"--set takes section.key=value, such as data.user=customer, got {part}={keys!r}")
    said = given.get("data", {})
    if said.get("items") is not None:
        items, said = as_path(said["items"]), {key: value for key, value in said.items() if key != "items"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # each of them is a fact or a doubt here
        recognized = recognize(events, said=said, say=setting)
        section: dict[str, Any] = {"file": str(events), **recognized.options}
        section |= {key: value for key, value in said.items() if key != "weights"}
        raw = check_config({"data": section}).data.read()
        about = RecognizedItems()
        if items is not None:
            name, encoding = section.get("item", ITEM), section.get("encoding")
            about = recognize_items(items, raw.items, item=name, encoding=encoding, said=said, say=setting)
            section |= about.options
            raw = check_config({"data": section}).data.read()
        data = check_config({"data": section}).data
        filtered = data.training_data(raw)
        if filtered.nnz < 20 or min(filtered.shape) < 3:
            raise DataError(f"{filtered} is what counts as liked, too little to learn from; give more data")
        split = suited_split(filtered)
    name = re.sub(r"[^\w.-]+", "-", data.name).strip("-.") or "first"
    sections: dict[str, dict[str, Any]] = {"data": section, "split": {**split.section, **given.get("split", {})}}
    if "kind" in given.get("split", {}):
        sections["split"] = given["split"]
    sections["train"] = {"metric": "ndcg@10"} | ({"refit": True} if _can_refit(sections["split"]) else {})
    sections["evaluate"] = {"metrics": list(METRICS)}
    sections["track"] = {"experiment": name, "register": name}
    for key in given.keys() - {"data", "split", "model"}:
        sections[key] = {**sections.get(key, {}), **given[key]}
    models = suited_models(filtered, about.columns)
    if "model" in given:
        known = next(
            (m.section for m in models if m.section["name"] == given["model"].get("name", m.section["name"])), {}
        )
        models = [Suited({**known, **given["model"]}, "as it was named")]
    job = check_config({**sections, "model": models[0].section})
    reason = split.reason if sections["split"] == split.section else "as it was named"
    sources = Sources(job.repeat(0), raw)
    name = str(job.track.register_as or name)
    return Plan(name, recognized, about, sections, models, f"{job.split.kind}: {reason}", sources)


def _can_refit(split: Mapping[str, Any]) -> bool:
    return split.get("kind") != "hold_out_users" and split.get("validation") != 0
