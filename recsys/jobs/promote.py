"""Give a registered model version the alias that the scoring job follows: by hand, or because it earned it."""

from __future__ import annotations

from dataclasses import dataclass

from recsys import tracking
from recsys.errors import ConfigError, TrackingError
from recsys.jobs.common import config_of, load_model
from recsys.jobs.contest import contest
from recsys.promotion import Decision, Rule
from recsys.workspace import Workspace


@dataclass(frozen=True)
class Contest:
    """How a contest ended."""

    decision: Decision
    promotion: tracking.Promotion | None
    """None where the challenger did not earn it."""


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
        return challenge(workspace, name, challenger or None, alias=alias).promotion
    tracking.configure(workspace, create=False)
    promoted = tracking.promote(name, version, alias=alias, reason=reason)
    print(_changed(promoted))
    return promoted


def challenge(
    workspace: Workspace, name: str, version: int | None = None, *, alias: str = "champion", rule: Rule | None = None
) -> Contest:
    """Evaluate a challenger and the champion on the same held-out users, and promote it if it has earned that.

    The data and the split are those of the challenger's configuration; where no version holds the alias, the challenger
    must beat Popularity. The decision is written to the version as tags and as a note.

    Args:
        version: the challenger; the newest by default.
        rule: what it must show; by default `[promote]` of the configuration that it was trained with.

    Raises:
        TrackingError: no such model or version, the challenger is the champion, or another promotion was faster.
        DataError: a contestant may have been trained on what the test users are to be tested on.
    """
    tracking.configure(workspace, create=False)
    versions = tracking.model_versions(name)
    if not versions:
        raise TrackingError(f"model {name!r} has no versions")
    number = versions[0].version if version is None else version
    holder = next((found.version for found in versions if alias in found.aliases), None)
    if number == holder:
        raise TrackingError(f"version {number} of {name!r} is the {alias} already; name another challenger")
    challenger, uri = load_model(workspace, f"models:/{name}/{number}")
    champion = None if holder is None else load_model(workspace, f"models:/{name}/{holder}")[0]
    config = config_of(challenger, uri)
    rule = rule or config.promote.for_metric(config.train.metric)
    split = config.split.split(config.load_data(workspace.folder))
    decision = contest(
        workspace,
        challenger,
        champion,
        config,
        split,
        rule,
        names=(f"{name} version {holder}", f"{name} version {number}"),
    )
    print(decision.markdown())
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
        tracking.annotate(name, number, {**tags, "reason": decision.reason}, alias=alias, note=decision.markdown())
        kept = "no version" if holder is None else f"version {holder}"
        print(f"models:/{name}@{alias} stays with {kept}")
        return Contest(decision, None)
    promoted = tracking.promote(
        name,
        number,
        alias=alias,
        reason=decision.reason,
        instead_of=holder,
        note=decision.markdown(),
        tags=tags,
    )
    print(_changed(promoted))
    return Contest(decision, promoted)


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
    before = "no version" if promoted.previous is None else f"version {promoted.previous}"
    return f"models:/{promoted.name}@{promoted.alias} is now version {promoted.version} (was {before})"
