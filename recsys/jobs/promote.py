"""Give a registered model version the alias that the scoring job follows: by hand, or because it earned it."""

from __future__ import annotations

from recsys import tracking
from recsys.config import JobConfig
from recsys.errors import ConfigError, TrackingError
from recsys.jobs.common import Sources, Versions, config_of
from recsys.jobs.contest import contest
from recsys.promotion import Decision, Rule
from recsys.splits import Split
from recsys.workspace import Workspace


def run(
    workspace: Workspace,
    name: str,
    *,
    version: int | None = None,
    challenger: int | None = None,
    alias: str = "champion",
    reason: str = "",
) -> tracking.Promotion | None:
    """Set `alias` on a version, unopposed, or let a challenger earn it; print what changed.

    Args:
        version: gets the alias unopposed; the newest by default.
        challenger: is tested against the holder of the alias in place of that, see `challenge`; 0 is the newest.
        reason: why, for a promotion by hand.

    Returns:
        What was promoted; None where a challenger did not earn it.

    Raises:
        ConfigError: `challenger` together with `version` or `reason`.
        TrackingError: there is no store, no such model or version, or MLflow refuses the alias.
    """
    if challenger is not None:
        if version is not None or reason:
            raise ConfigError("--challenger gives its own version and reason; leave out --version and --reason")
        return challenge(workspace, name, challenger or None, alias=alias)[1]
    tracking.configure(workspace, create=False)
    promoted = tracking.promote(name, version, alias=alias, reason=reason)
    print(_changed(promoted))
    return promoted


def challenge(
    workspace: Workspace, name: str, version: int | None = None, *, alias: str = "champion"
) -> tuple[Decision, tracking.Promotion | None]:
    """Evaluate a challenger and the champion on the same held-out users, and promote it if it has earned that.

    Data, split and rule are those of the challenger's configuration; where no version holds the alias, it must beat
    Popularity. The decision is written to the version as tags and as a note, and returned with the promotion, None
    where it was not earned.

    Args:
        version: the challenger; the newest by default.

    Raises:
        TrackingError: no such model or version, the challenger is the champion, or another promotion was faster.
        DataError: a contestant may have been trained on what the test users are to be tested on.
    """
    tracking.configure(workspace, create=False)
    versions = Versions(name, alias, tracking.model_versions(name))
    if not versions.numbers:
        raise TrackingError(f"model {name!r} has no versions")
    number = versions.numbers[0] if version is None else version
    if number == versions.holder:
        raise TrackingError(f"version {number} of {name!r} is the {alias} already; name another challenger")
    config = config_of(versions.load(number), versions.uri(number))
    rule = config.promote.for_metric(config.train.metric)
    return settle(workspace, versions, number, config, Sources.read(workspace, config).split, rule)


def settle(
    workspace: Workspace, versions: Versions, challenger: int, config: JobConfig, split: Split, rule: Rule
) -> tuple[Decision, tracking.Promotion | None]:
    """Hold a challenger against the holder of the alias, and record the decision; see `challenge`."""
    name, alias, holder = versions.name, versions.alias, versions.holder
    decision = contest(
        workspace,
        versions.load(challenger),
        None if holder is None else versions.load(holder),
        config,
        split,
        rule,
        names=(f"{name} version {holder}", f"{name} version {challenger}"),
    )
    note = decision.markdown()
    print(note)
    tags = {
        "decision": "promoted" if decision.earned else "kept",
        "metric": decision.metric,
        "rule": rule.as_text(),
        "against": holder or "Popularity",
        "value": decision.challenger_value,
        "value_against": decision.champion_value,
        "gain_low": decision.low,
        "gain_high": decision.high,
        "p": decision.p,
        "users": decision.n,
    }
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
    """Give the alias back to the version that held it before, and print it.

    Raises:
        TrackingError: no such model or alias, or there was none before.
    """
    tracking.configure(workspace, create=False)
    back = tracking.rollback(name, alias)
    print(_changed(back))
    return back


def _changed(promoted: tracking.Promotion) -> str:
    alias = f"models:/{promoted.name}@{promoted.alias}"
    return f"{alias} is now version {promoted.version} (was {_named(promoted.previous)})"


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
