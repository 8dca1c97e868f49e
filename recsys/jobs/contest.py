"""Give a registered model version the alias that the scoring job follows: by hand, or because it won a contest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recsys import tracking
from recsys.config import JobConfig
from recsys.error_budget import Place, place_of
from recsys.errors import ConfigError, TrackingError
from recsys.files import sha256_of_json
from recsys.interactions import Interactions
from recsys.jobs.common import Sources, Versions, config_of
from recsys.jobs.contestants import measure_both
from recsys.models import Recommender
from recsys.promotion import Decision, Rule, decide
from recsys.splits import Split
from recsys.workspace import Workspace

_PLACE: Final = "contest"
"""Tag of a version with the place of its last contest."""
_OF_BASELINE: Final = ("popularity/", "biases/", "popularity_", "biases_")
"""How names of stored figures of the baseline begin; the latter two in earlier versions."""
POPULARITY: Final = "Popularity"
"""Who stands in for a champion."""


def promote(
    workspace: Workspace,
    name: str,
    *,
    version: int | None = None,
    challenger: int | None = None,
    alias: str = "champion",
    reason: str = "",
    dry_run: bool = False,
) -> tracking.Promotion | None:
    """Set `alias` on a version, unopposed, or let a challenger earn it; print what changed.

    Returns None where a challenger did not earn it.

    Args:
        version: gets the alias unopposed; the newest by default.
        challenger: is tested against the holder of the alias in place of that, see `challenge`; 0 is the newest.
        reason: why, for a promotion by hand.
        dry_run: print and return what would change, and write nothing.

    Raises:
        ConfigError: `challenger` together with `version` or `reason`.
        TrackingError: there is no store, no such model or version, or MLflow refuses the alias.
    """
    if challenger is not None:
        if version is not None or reason:
            raise ConfigError("--challenger gives its own version and reason; leave out --version and --reason")
        return challenge(workspace, name, challenger or None, alias=alias, dry_run=dry_run)
    tracking.configure(workspace, create=False)
    versions = Versions(name, alias, tracking.model_versions(name))
    number = versions.newest() if version is None else version
    print(stored_figures(name, number, versions.holder))  # which says what there is, if not that version
    if dry_run:
        return _planned(versions, number)
    promoted = tracking.promote(name, number, alias=alias, reason=reason)
    print(_changed(promoted))
    return promoted


def stored_figures(name: str, version: int, holder: int | None) -> str:
    """Return the figures that two versions were registered with as text: what a promotion by hand rests on.

    Raises:
        TrackingError: there is no such version.
    """
    versions = [version] if holder in (None, version) else [version, holder]
    facts = [tracking.version_facts(name, number) for number in versions]
    names = [metric for metric in facts[0]["metrics"] if not metric.startswith(("system/", *_OF_BASELINE))]
    heads = [f"version {number}" for number in versions]
    width = max((len(metric) for metric in names), default=0)
    lines = [f"{'':<{width}}  " + "  ".join(f"{head:>12}" for head in heads)]
    for metric in sorted(names):
        values = [found["metrics"].get(metric) for found in facts]
        cells = (f"{'-' if value is None else format(value, '.4f'):>12}" for value in values)
        lines.append(f"{metric:<{width}}  " + "  ".join(cells))
    if len(facts) > 1:
        lines.append("as registered, each on its own test part; --challenger measures both on the same users")
    return "\n".join(lines)


def challenge(
    workspace: Workspace,
    name: str,
    version: int | None = None,
    *,
    alias: str = "champion",
    dry_run: bool = False,
) -> tracking.Promotion | None:
    """Evaluate a challenger and the champion on the same held-out users, and promote it if it has earned that.

    Data, split and rule are those of the challenger's configuration; where no version holds the alias, it must beat
    Popularity. The decision is written to the version as tags and as a note. Returns None where it was not earned.

    Args:
        version: the challenger; the newest by default.
        dry_run: print and return the decision and what would change, and write nothing.

    Raises:
        TrackingError: no such model or version, the challenger is the champion, or another promotion was faster.
        DataError: a contestant may have been trained on what the test users are to be tested on.
    """
    tracking.configure(workspace, create=False)
    versions = Versions(name, alias, tracking.model_versions(name))
    number = versions.newest() if version is None else version
    if number == versions.holder:
        raise TrackingError(f"version {number} of {name!r} is the {alias} already; name another challenger")
    config = config_of(versions.load(number), versions.uri(number))
    rule = config.promote.for_metric(config.train.metric)
    sources = Sources.read(workspace, config)
    return settle(workspace, versions, number, config, sources, rule, dry_run=dry_run)[1]


def settle(
    workspace: Workspace,
    versions: Versions,
    challenger: int,
    config: JobConfig,
    sources: Sources,
    rule: Rule,
    *,
    dry_run: bool = False,
) -> tuple[Decision, tracking.Promotion | None]:
    """Hold a challenger against the holder of the alias, and record the decision unless `dry_run`; see `challenge`."""
    name, alias, holder = versions.name, versions.alias, versions.holder
    measured = measure_both(
        workspace,
        versions.load(challenger),
        None if holder is None else versions.load(holder),
        config,
        sources.split,
        rule,
        names=(f"{name} version {holder}", f"{name} version {challenger}"),
    )
    place = enter(name, challenger, holder, rule, sources.data, alias=alias, dry_run=dry_run)
    decision = decide(*measured, rule, place=place)
    note = decision.markdown()
    print(note)
    if dry_run:
        if decision.earned:
            return decision, _planned(versions, challenger)
        print(f"models:/{name}@{alias} would stay with {_named(holder)}; nothing was written (--dry-run)")
        return decision, None
    tags: dict[str, Any] = {
        "decision": "promoted" if decision.earned else "kept",
        "metric": decision.metric,
        "rule": rule.as_text(),
        "against": holder or POPULARITY,
        "value": decision.challenger_value,
        "value_against": decision.champion_value,
        "gain_low": decision.low,
        "gain_high": decision.high,
        "p": decision.p,
        "users": decision.n,
    }
    if decision.elsewhere is not None:
        elsewhere = ("value_against_elsewhere", "value_elsewhere", "users_elsewhere")
        tags |= dict(zip(elsewhere, decision.elsewhere, strict=True))
    if not decision.earned:
        tracking.annotate(name, challenger, {**tags, "reason": decision.reason}, alias=alias, note=note)
        print(f"models:/{name}@{alias} stays with {_named(holder)}")
        return decision, None
    promoted = tracking.promote(
        name, challenger, alias=alias, reason=decision.reason, instead_of=holder, note=note, tags=tags
    )
    versions.holder = challenger
    print(_changed(promoted))
    return decision, promoted


def rollback(workspace: Workspace, name: str, *, alias: str = "champion") -> tracking.Promotion:
    """Give the alias back to the version that held it before, and print it; a TrackingError where there was none."""
    tracking.configure(workspace, create=False)
    back = tracking.rollback(name, alias)
    print(_changed(back))
    return back


def _planned(versions: Versions, version: int) -> tracking.Promotion:
    """Print and return what a promotion would change."""
    name, alias, holder = versions.name, versions.alias, versions.holder
    planned = tracking.Promotion(name, version, alias, holder, f"models:/{name}@{alias}")
    print(f"{planned.uri} would be version {version} (is {_named(holder)}); nothing was written (--dry-run)")
    return planned


def _changed(promoted: tracking.Promotion) -> str:
    alias = f"models:/{promoted.name}@{promoted.alias}"
    return f"{alias} is now version {promoted.version} (was {_named(promoted.previous)})"


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def contest(
    workspace: Workspace,
    challenger: Recommender,
    champion: Recommender | None,
    config: JobConfig,
    split: Split,
    rule: Rule,
    *,
    names: tuple[str, str] = ("champion", "challenger"),
    place: Place | None = None,
) -> Decision:
    """Evaluate both on the test part and decide; see `measure_both`, and `enter` for the place among other contests."""
    measured = measure_both(workspace, challenger, champion, config, split, rule, names=names)
    return decide(*measured, rule, place=place)


def enter(
    name: str,
    challenger: int,
    holder: int | None,
    rule: Rule,
    data: Interactions,
    *,
    alias: str = "champion",
    dry_run: bool = False,
) -> Place | None:
    """Return the place of a contest among those of the year, which is read off the versions' tags, and write it there.

    A contest that was entered before, of the same versions by the same rule on the same data, keeps its place. A
    contest against Popularity has none, for there is no champion to lose.

    Args:
        holder: of the alias; None for the contest against Popularity.
        data: all that the split was made of.
        dry_run: write nothing.

    Raises:
        TrackingError: no such model or version, or MLflow refuses.
    """
    if holder is None:
        return None
    contest = sha256_of_json([holder, rule.as_text(), data.fingerprint()])

    def told(tags: Mapping[str, str]) -> str | None:
        # Earlier releases wrote no place: the decision tells that there was a contest.
        against_popularity = tags.get(f"{alias}_against") == POPULARITY
        return tags.get(f"{alias}_{_PLACE}") or (None if against_popularity else tags.get(f"{alias}_decision"))

    def chosen(tags: Mapping[int, Mapping[str, str]]) -> str:
        records = {version: told(found) for version, found in tags.items()}
        return place_of(records, challenger, contest, rule.error_budget, tracking.now()).as_text()

    return Place.read(tracking.tag_by(name, challenger, f"{alias}_{_PLACE}", chosen, dry_run=dry_run))
