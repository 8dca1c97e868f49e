"""The nightly job: train a challenger, test it against the champion, score with the winner; skip what is up to date."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from recsys import tracking
from recsys.columns import USER
from recsys.config import JobConfig
from recsys.drift import data_drift, list_drift, warnings_of
from recsys.errors import ConfigError, DataError, TrackingError, refused
from recsys.files import locked, sha256_of_file, sha256_of_json, write_text
from recsys.jobs.arrivals import night_arrivals, reads_features
from recsys.jobs.common import Sources, Versions
from recsys.jobs.contest import POPULARITY, settle
from recsys.jobs.contestants import refuse_seen
from recsys.jobs.list_rules import items_for
from recsys.jobs.night_files import Files, digest_of
from recsys.jobs.origin import dated, name_of_run
from recsys.jobs.train import Trained, train_one
from recsys.jobs.train_files import files_of, forget
from recsys.models import Recommender
from recsys.scoring import check_output, score
from recsys.workspace import Workspace, output_file

ALIAS = "champion"
_TAG = "night"


@dataclass
class Night:
    """What a nightly run did; written as JSON for a scheduler."""

    status: str = "running"
    """`promoted`, `kept` (the challenger did not win), `unchanged` (no new challenger), or `failed`."""
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

    def record(self, step: str, work: Callable[[], str]) -> None:
        """Run a step, and record and print its outcome."""
        try:
            self.steps[step] = work()
        except BaseException as error:
            self.steps[step] = f"failed: {error}"
            raise
        print(f"{step:<8} {self.steps[step]}")

    def as_json(self) -> str:
        """Return the fields as JSON; drift that could not be measured becomes null."""
        drift = {name: value if math.isfinite(value) else None for name, value in self.drift.items()}
        return json.dumps({**vars(self), "drift": drift}, indent=1, allow_nan=False) + "\n"


def run(
    workspace: Workspace, config: JobConfig, *, output: Path | None = None, summary: Path | None = None, n: int = 10
) -> Night:
    """Train a challenger if data or configuration have changed, promote it if it wins, and score with the champion.

    Every step is safe to repeat: a challenger is not trained twice on the same data, configuration and version of this
    package, two versions are compared once per `[promote]` rule, a version that was rolled back is not promoted again,
    and complete recommendations are left as they are. A night that was killed continues where it stopped.

    Args:
        output: folder of the recommendations; `data/scored/NAME` by default.
        summary: file for the summary as JSON, also of a failed night; `mlruns/nightly/NAME.json` by default.
        n: length of each list.

    Raises:
        ConfigError: the configuration has no `track.register`, `summary` cannot be written, or another night of that
            name is running.
        ScoringError: `output` is or holds what no scoring job has written; nothing is trained then.
    """
    name = config.track.register_as
    if name is None:
        raise ConfigError("nightly needs a name for the model in the registry: set track.register")
    config.check()
    output = output or workspace.scored / name
    files = Files.of(workspace, name)
    summary = summary or files.summary
    file = output_file(summary, "--summary")
    night, began = Night(), time.perf_counter()
    busy = ConfigError(f"another night of {name!r} is running; wait for it to end")
    with locked(workspace.mlruns / "locks" / f"night-{name}.lock", busy=busy):
        try:
            found = _run(workspace, night, config, files, output, n)
        except BaseException as error:
            night.status, night.reason = "failed", "".join(traceback.format_exception_only(error)).strip()
            raise
        finally:
            night.seconds = round(time.perf_counter() - began, 3)
            write_text(file, night.as_json(), durable=True)
        files.end(found, vars(night))
    print(f"\n{night.status}: {night.reason}" if night.reason else f"\n{night.status}")
    for warning in night.warnings:
        print(f"warning: {warning}")
    print(f"champion         {night.champion}")
    print(f"recommendations  {night.output}  ({night.users:,} users, {night.rows:,} rows)")
    print(f"summary          {summary}\ndone in {night.seconds:.0f} s")
    return night


def _run(workspace: Workspace, night: Night, config: JobConfig, files: Files, output: Path, n: int) -> dict[str, Any]:
    """Run the five steps in order, which share the data and the loaded models; return what the night found."""
    check_output(output)
    name = str(config.track.register_as)
    tracking.configure(workspace)  # first, since a server that does not answer makes all else vain
    sources = Sources.read(workspace, config.repeat(0))
    versions = Versions(name, ALIAS, tracking.versions_if_any(name))
    new = night_arrivals(config, sources.raw)  # refused before the training
    items = items_for(config.rules or None, None, config.data, sources.raw, new=new)
    digest = _training_digest(config, sources)
    facts: list[Any] = [digest, config.promote.as_text(), str(output), n]
    facts += [config.rules.as_dict()] if config.rules else []
    facts += [] if new is None else [sha256_of_file(Path(str(config.nightly.items)))]
    began = files.begin(sha256_of_json(facts), versions)
    if "night" in began:  # it had ended, and was killed before it had removed its files
        vars(night).update(began["night"])
        return began
    steps = _Steps(workspace, night, config, sources, versions, files, digest, began, (items, new))
    night.record("prepare", lambda: f"done: {sources.data}")
    night.record("train", steps.train)
    night.record("promote", steps.promote)
    holder = versions.holder
    assert holder is not None  # without a champion, promote has raised an error
    night.champion, champion = versions.uri(holder), versions.load(holder)
    note = f"What the night did after training: how far the data have moved (`drift_`), and lists by {night.champion}."
    experiment, tags = config.track.experiment, {"champion": night.champion, tracking.NOTE: note}
    title = dated(f"night {name}")
    with tracking.start_run(workspace, experiment, title, tags, resume=files.run, keep=True) as tracker:
        night.record("drift", lambda: steps.measure_drift(champion, tracker))
        night.record("score", lambda: steps.score(champion, output, n))
    return began


@dataclass(frozen=True, eq=False)
class _Steps:
    """The steps of a night; each returns its outcome, such as `done: version 3`."""

    workspace: Workspace
    night: Night
    config: JobConfig
    sources: Sources
    versions: Versions
    files: Files
    digest: str
    """Of what the training depends on."""
    began: dict[str, Any]
    """What the night found when it began, see `Files`; more than it finds now if it was killed in between."""
    tables: tuple[pd.DataFrame | None, pd.DataFrame | None] = (None, None)
    """What the rules for the lists read, and the items that nobody has met."""

    def train(self) -> str:
        night, versions, sources = self.night, self.versions, self.sources
        tags = {f"{_TAG}_digest": self.digest}
        for version in versions.numbers:
            if tracking.version_tags(versions.name, version).get(f"{_TAG}_digest") == self.digest:
                night.challenger = versions.uri(version)
                files = files_of(self.workspace, sources.job, sources.data, tags)
                if self._is_new(version):
                    if files[-1].exists():  # killed after it was registered: what its run lacks is added
                        self._train(tags)
                    return f"done: version {version}"
                forget(files)
                return f"skipped: version {version} was trained on these data with this configuration"
        if versions.holder is not None:
            try:
                refuse_seen(versions.load(versions.holder), sources.split, versions.uri(versions.holder))
            except DataError as error:  # found before training, which would be wasted
                night.status, night.reason = "kept", f"no fair contest is possible: {error}"
                night.warnings.append(night.reason)
                return "skipped: no fair contest is possible"
        trained = self._train(tags)
        if trained.refused:
            night.status, night.reason = "kept", f"{trained.refused}; recsys train --force does it all the same"
            night.warnings.append(night.reason)
            return "done: not registered"
        if trained.registered is None:
            raise TrackingError(
                f"the new model could not be registered: {tracking.trouble(self.workspace)}; run recsys sync when that "
                "has changed, then promote the model by hand or leave it to the next night"
            )
        versions.numbers.insert(0, trained.registered.version)
        night.challenger = trained.registered.uri
        return f"done: version {trained.registered.version}"

    def _train(self, tags: Mapping[str, str]) -> Trained:
        """Train the challenger; its version gets the tags when it is created, so that a crash leaves none without."""
        run_name = self.config.track.run_name or self.config.model["name"]
        job, split = self.sources.job, self.sources.split
        print(f"\n{run_name}: train {split.train}, test {split.test}")
        trained = train_one(
            self.workspace, job, split, self.sources.data, run_name=name_of_run(self.config), model_tags=tags
        )
        print(trained.table)
        if trained.registered is not None:
            trained.done()
        return trained

    def promote(self) -> str:
        night, versions, config = self.night, self.versions, self.config
        if night.challenger is None:
            if versions.holder is None:
                raise refused(ConfigError(f"there is no champion to score with: {night.reason}"))
            return "skipped: there is no challenger"
        name, holder = versions.name, versions.holder
        version = int(night.challenger.rpartition("/")[2])
        tags = tracking.version_tags(name, version)
        if version == holder and self.began["holder"] != holder:  # promoted before the night was killed
            night.status, night.reason = "promoted", tags.get(f"{ALIAS}_reason", "")
            return f"done: version {version} is the champion now"
        if version == holder:
            night.status, night.reason = "unchanged", f"data and configuration are those of version {version}"
            return f"skipped: version {version} is the champion"
        rule = config.promote.for_metric(config.train.metric)
        decision_tags = {"decision": "kept", "against": str(holder or POPULARITY), "rule": rule.as_text()}
        if holder is not None and f"{ALIAS}_rolled_back" in tags:
            night.status = "unchanged"
            night.reason = (
                f"version {version} was rolled back at {tags[f'{ALIAS}_rolled_back']}; change the data or the "
                "configuration for a new challenger, or promote it by hand"
            )
            return f"skipped: version {version} was rolled back, version {holder} stays"
        if not self._is_new(version) and all(tags.get(f"{ALIAS}_{t}") == value for t, value in decision_tags.items()):
            night.status, night.reason = "unchanged", tags.get(f"{ALIAS}_reason", "")
            if holder is not None:
                return f"skipped: version {version} has already lost against version {holder}"
        else:
            decision, promotion = settle(self.workspace, versions, version, config, self.sources, rule)
            night.reason = decision.reason
            if promotion is not None:
                night.status = "promoted"
                return f"done: version {version} is the champion now"
            night.status = "kept"
        if holder is None:
            raise refused(
                ConfigError(
                    f"there is no champion to score with: version {version} of {name!r} is not better than Popularity "
                    f"({night.reason}); improve the model, or promote it by hand"
                )
            )
        return f"done: version {holder} stays"

    def measure_drift(self, champion: Recommender, tracker: tracking.Tracker) -> str:
        night = self.night
        night.drift |= data_drift(champion, self.sources.data)
        night.warnings += warnings_of(night.drift, self.config.drift)
        tracker.log_metrics({f"drift_{name}": value for name, value in night.drift.items()})
        return "done: " + ", ".join(f"{name} {value:.3f}" for name, value in night.drift.items())

    def score(self, champion: Recommender, output: Path, n: int) -> str:
        night, previous = self.night, self.files.replaced_lists(output, self.began)
        items, new = self.tables
        champion, said = self._with_arrivals(champion, new)
        histories, seen = self.sources.histories
        result = score(
            champion,
            histories,
            output,
            n=n,
            seen=seen,
            rules=self.config.rules,
            items=items,
            data_id=self.sources.identity,
            model_uri=night.champion,
            asked_uri=f"models:/{self.versions.name}@{ALIAS}",
            show_progress=self.workspace.progress,
        )
        night.output, night.users, night.rows = str(result.output), result.users, result.rows
        if result.already_complete and self.began["output"] == digest_of(output):
            return "skipped: already complete"
        # Ids may be integers in one night and text in the next.
        codes = histories.users.codes([] if previous is None else previous[USER].unique(), on_unknown="drop")
        if previous is not None and len(codes):
            users = list(histories.users.take(codes))
            drift = list_drift(previous, pd.read_parquet(output, filters=[(USER, "in", users)]))
            night.drift |= drift
            night.warnings += warnings_of(drift, self.config.drift)
        return f"done: {result.users:,} users{said}"

    def _with_arrivals(self, champion: Recommender, new: pd.DataFrame | None) -> tuple[Recommender, str]:
        """Return the champion with the new items, and how many it had not known, to be said."""
        if new is None:
            return champion, ""
        if not reads_features(champion):  # of an earlier configuration
            self.night.warnings.append(
                f"{self.night.champion} reads no features of items, so that the new items of nightly.items are not in "
                "the lists; they are when a model that reads features holds the alias"
            )
            return champion, ""
        whole = champion.with_items(new)
        return whole, f", with {whole.n_items_ - champion.n_items_:,} new items"

    def _is_new(self, version: int) -> bool:
        """Return whether a version was registered in this night."""
        return version not in self.began["versions"]


def _training_digest(config: JobConfig, sources: Sources) -> str:
    """Return a digest of what a training depends on: data, configuration and version of this package."""
    facts = config.as_dict()
    for section in ("track", "promote", "drift", "tune", "rules", "nightly"):
        facts.pop(section, None)
    facts["model"].pop("device", None)
    return sha256_of_json([facts, sources.data.fingerprint(), tracking.version("recsys")])
