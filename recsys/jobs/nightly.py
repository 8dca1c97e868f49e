"""The night's work: train a challenger, hold a contest, score with the champion; each step once per change of input."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from recsys import tracking
from recsys.columns import USER
from recsys.config import JobConfig
from recsys.drift import Limits, data_drift, list_drift, warnings_of
from recsys.errors import ConfigError, DataError, TrackingError
from recsys.files import locked, sha256_of_json, write_text
from recsys.interactions import Interactions
from recsys.jobs import promote, train
from recsys.jobs.common import load_model
from recsys.jobs.contest import refuse_seen
from recsys.scoring import score
from recsys.scoring.local import MANIFEST
from recsys.workspace import Workspace

ALIAS = "champion"
_TAG = "night"
_LOOKED_AT = 5_000
"""Users whose lists are compared with the last night's."""


@dataclass
class Night:
    """What a night did; its JSON is for a scheduler."""

    status: str = "running"
    """`promoted`, `kept` (the challenger did not earn it), `unchanged` (no new challenger), or `failed`."""
    steps: dict[str, str] = field(default_factory=dict)
    """`prepare`, `train`, `promote`, `drift`, `score`: `done`, `skipped: why`, or `failed: why`."""
    champion: str | None = None
    challenger: str | None = None
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    drift: dict[str, float] = field(default_factory=dict)
    output: str | None = None
    users: int = 0
    rows: int = 0
    seconds: float = 0.0

    def as_json(self) -> str:
        """Return the summary; a measure of drift that there is none of is null."""
        drift = {name: value if math.isfinite(value) else None for name, value in self.drift.items()}
        return json.dumps({**vars(self), "drift": drift}, indent=1, allow_nan=False) + "\n"


def run(
    workspace: Workspace, config: JobConfig, *, output: Path | None = None, summary: Path | None = None, n: int = 10
) -> Night:
    """Train a challenger if data or configuration have changed, let it earn the alias, and score with the champion.

    Every step can be repeated: a challenger of the same data, configuration and version of this package is not trained
    twice, a contest is held once by the rule of `[promote]`, a version that was rolled back is not promoted again, and
    recommendations that are complete are left as they are. A night that died goes on where it stopped.

    Args:
        output: folder of the recommendations; `data/scored/NAME` by default.
        summary: file for the summary as JSON; `mlruns/nightly/NAME.json` by default. It is written when
            the night fails, too.
        n: length of each list.

    Raises:
        ConfigError: the configuration has no `track.register`, or another night of that name is running.
    """
    name = config.track.register_as
    if name is None:
        raise ConfigError("the night needs a name in the registry: set track.register")
    config.check()
    output = output or workspace.scored / name
    summary = summary or workspace.mlruns / "nightly" / f"{name}.json"
    night, began = Night(), time.perf_counter()
    try:
        with locked(workspace.mlruns / "locks" / f"night-{name}.lock", wait=False):
            _run(workspace, night, config, name, output, n)
    except BlockingIOError:
        raise ConfigError(f"another night of {name!r} is running; wait for it to end") from None
    except BaseException as error:
        night.status, night.reason = "failed", "".join(traceback.format_exception_only(error)).strip()
        raise
    finally:
        night.seconds = round(time.perf_counter() - began, 3)
        if night.status != "running":
            write_text(summary, night.as_json())
    print(f"\n{night.status}: {night.reason}" if night.reason else f"\n{night.status}")
    for warning in night.warnings:
        print(f"warning: {warning}")
    print(f"champion         {night.champion}")
    print(f"recommendations  {night.output}  ({night.users:,} users, {night.rows:,} rows)")
    print(f"summary          {summary}\ndone in {night.seconds:.0f} s")
    return night


def _run(workspace: Workspace, night: Night, config: JobConfig, name: str, output: Path, n: int) -> None:
    def step(what: str, work: Callable[[], str]) -> None:
        try:
            night.steps[what] = work()
        except BaseException as error:
            night.steps[what] = f"failed: {error}"
            raise
        print(f"{what:<8} {night.steps[what]}")

    data = config.load_data(workspace.folder)
    tracking.configure(workspace)
    digest = _digest(config, data)
    step("prepare", lambda: f"done: {data}")
    step("train", lambda: _train(workspace, night, config, name, data, digest))
    step("promote", lambda: _promote(workspace, night, config, name))
    champion, uri = load_model(workspace, f"models:/{name}@{ALIAS}")
    night.champion = uri
    step("drift", lambda: _data_drift(workspace, night, config, champion, data, name))
    before = _first_lists(output)

    def scoring() -> str:
        histories, seen = config.data.histories(workspace.folder)
        result = score(
            champion,
            histories,
            output,
            n=n,
            seen=seen,
            model_uri=uri,
            asked_uri=f"models:/{name}@{ALIAS}",
            show_progress=workspace.progress,
        )
        night.output, night.users, night.rows = str(result.output), result.users, result.rows
        if result.already_complete:
            return "skipped: complete already"
        if before is not None:
            moved = list_drift(before, pd.read_parquet(output, filters=[(USER, "in", before[USER].unique().tolist())]))
            night.drift |= moved
            night.warnings += warnings_of(moved, _limits(config))
        return f"done: {result.users:,} users"

    step("score", scoring)


def _train(workspace: Workspace, night: Night, config: JobConfig, name: str, data: Interactions, digest: str) -> str:
    versions = tracking.versions_if_any(name)
    known = {v.version: tracking.version_tags(name, v.version) for v in versions}
    for version, tags in known.items():
        if tags.get(f"{_TAG}_digest") == digest:
            night.challenger = f"models:/{name}/{version}"
            return f"skipped: version {version} is of these data and this configuration"
    if any(ALIAS in version.aliases for version in versions):
        champion, uri = load_model(workspace, f"models:/{name}@{ALIAS}")
        try:
            refuse_seen(champion, config.repeat(0).split.split(data), uri)
        except DataError as error:  # before a training that no contest could follow
            night.status, night.reason = "kept", f"no fair contest is possible: {error}"
            night.warnings.append(night.reason)
            return "skipped: no fair contest is possible"
    trained = train.run(
        workspace,
        config.model_copy(update={"train": config.train.model_copy(update={"repeats": 1})}),
        tags={f"{_TAG}_digest": digest},  # there as soon as the version is, whenever the night or the server dies
    )
    registered = trained[0].registered
    if registered is None:
        raise TrackingError(
            "the new model could not be registered: the tracking server does not answer; run recsys sync when it does, "
            "then promote the model by hand or leave it to the next night"
        )
    night.challenger = registered.uri
    return f"done: version {registered.version}"


def _promote(workspace: Workspace, night: Night, config: JobConfig, name: str) -> str:
    if night.challenger is None:
        return "skipped: there is no challenger"
    version = int(night.challenger.rpartition("/")[2])
    holder = next((v.version for v in tracking.model_versions(name) if ALIAS in v.aliases), None)
    if version == holder:
        night.status, night.reason = "unchanged", f"data and configuration are those of version {version}"
        return f"skipped: version {version} is the champion"
    tags = tracking.version_tags(name, version)
    rule = config.promote.for_metric(config.train.metric)
    decided = {"decision": "kept", "against": str(holder or "Popularity"), "rule": rule.as_text()}
    if holder is not None and f"{ALIAS}_rolled_back" in tags:
        night.status = "unchanged"
        night.reason = (
            f"version {version} was rolled back at {tags[f'{ALIAS}_rolled_back']}; change the data or the "
            "configuration for a new challenger, or promote it by hand"
        )
        return f"skipped: version {version} was rolled back, version {holder} stays"
    if all(tags.get(f"{ALIAS}_{tag}") == value for tag, value in decided.items()):
        night.status, night.reason = "unchanged", tags.get(f"{ALIAS}_reason", "")
        if holder is not None:
            return f"skipped: version {version} has lost against version {holder} already"
    else:
        found = promote.challenge(workspace, name, version, rule=rule)
        night.reason = found.decision.reason
        if found.promotion is not None:
            night.status = "promoted"
            return f"done: version {version} is the champion now"
        night.status = "kept"
    if holder is None:
        raise ConfigError(
            f"there is no champion to score with: version {version} of {name!r} is not better than Popularity "
            f"({night.reason}); mend the model, or promote it by hand"
        )
    return f"done: version {holder} stays"


def _data_drift(
    workspace: Workspace, night: Night, config: JobConfig, champion: Any, data: Interactions, name: str
) -> str:
    night.drift |= data_drift(champion, data)
    found = warnings_of(night.drift, _limits(config))
    night.warnings += found
    with tracking.start_run(workspace, config.track.experiment, f"night {name}", {"champion": night.champion}) as run:
        run.log_metrics({f"drift_{key}": value for key, value in night.drift.items()})
    return "done: " + ", ".join(f"{key} {value:.3f}" for key, value in night.drift.items())


def _limits(config: JobConfig) -> Limits:
    return config.drift


def _first_lists(output: Path) -> pd.DataFrame | None:
    """Return the lists of some users of an output; None where there is no output."""
    if not (output / MANIFEST).is_file():
        return None
    try:
        frame = pd.read_parquet(min(output.glob("part-*.parquet")))
    except (OSError, ValueError):  # damaged: scoring writes it anew
        return None
    return frame[frame[USER].isin(frame[USER].unique()[:_LOOKED_AT])]


def _digest(config: JobConfig, data: Interactions) -> str:
    facts = config.as_dict()
    for section in ("track", "promote", "drift", "tune"):
        facts.pop(section, None)
    facts["model"].pop("device", None)
    return sha256_of_json([facts, data.fingerprint(), tracking.version("recsys")])
