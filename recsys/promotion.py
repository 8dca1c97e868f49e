"""Whether a challenger has earned the champion's place: a paired test with a minimum gain, and guard-rails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recsys.comparison import compare
from recsys.errors import ConfigError
from recsys.evaluation import Evaluation
from recsys.metrics import CATALOGUE, RATING, higher_is_better, parse


@dataclass(frozen=True)
class Rule:
    """What a challenger must show."""

    metric: str | None = None
    """The metric that decides; it needs a value per user. By default the metric that chose the weights."""
    minimum_gain: float = 0.01
    """Share of the champion's value that must be gained, for certain: the whole interval of the difference lies above
    it. A gain that two seeds of one model may show is no reason to change what users see."""
    confidence: float = 0.95
    """Of the interval and the test."""
    guards: Mapping[str, float] = field(default_factory=lambda: {"coverage@10": 0.5, "truncated_recall@50": 0.05})
    """Metrics that may not get worse by more than this share of the champion's value."""
    slowdown: float | None = 5.0
    """How many times the champion's scoring time the challenger may take; None: any."""

    def __post_init__(self) -> None:
        if self.metric is not None and parse(self.metric)[0] in CATALOGUE:
            raise ConfigError(f"promote.metric needs a value per user, which {self.metric} has not")
        if self.minimum_gain < 0:
            raise ConfigError(f"promote.minimum_gain must not be negative, got {self.minimum_gain}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"promote.confidence must lie between 0 and 1, got {self.confidence}")
        for name, share in self.guards.items():
            parse(name)
            if share < 0:
                raise ConfigError(f"promote.guards.{name} must not be negative, got {share}")
        if self.slowdown is not None and self.slowdown <= 0:
            raise ConfigError(f"promote.slowdown must be positive, got {self.slowdown}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that must be measured."""
        return tuple(dict.fromkeys((*filter(None, [self.metric]), *self.guards)))

    def for_metric(self, metric: str) -> Rule:
        """Return the rule with this metric if it names none; for a metric of ratings without the default guards."""
        lists = parse(metric)[0] in RATING and self.guards == Rule().guards
        return replace(self, metric=self.metric or metric, guards={} if lists else self.guards)

    def as_text(self) -> str:
        """Return the rule as one line of JSON, the same for equal rules."""
        return json.dumps({**vars(self), "guards": dict(self.guards)}, sort_keys=True)


@dataclass(frozen=True)
class Measured:
    """A contestant on the held-out users."""

    name: str
    evaluation: Evaluation
    seconds: float | None = None
    """What scoring the users took."""


@dataclass(frozen=True)
class Check:
    """One condition of a rule, and how it came out."""

    passed: bool
    what: str


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is to be promoted, and why."""

    champion: str
    challenger: str
    metric: str
    champion_value: float
    challenger_value: float
    low: float
    """Lower end of the interval of the challenger's gain."""
    high: float
    p: float
    n: int
    """Users."""
    checks: tuple[Check, ...]

    @property
    def earned(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """One line: the gain if earned, else what stood against it."""
        if self.earned:
            return self.checks[0].what
        return "; ".join(check.what for check in self.checks if not check.passed)

    def markdown(self) -> str:
        """Return the decision with its figures as a note for people."""
        verdict = "earned the promotion" if self.earned else "did not earn the promotion"
        lines = [
            f"**{self.challenger} {verdict}** against {self.champion}, on {self.n:,} held-out users.",
            "",
            f"| | {self.metric} |",
            "|---|--:|",
            f"| {self.champion} | {self.champion_value:.4f} |",
            f"| {self.challenger} | {self.challenger_value:.4f} |",
            f"| gain, interval, p | {self.challenger_value - self.champion_value:+.4f}, {self.low:+.4f} to "
            f"{self.high:+.4f}, {self.p:.4f} |",
            "",
            *(f"- {'passed' if check.passed else 'failed'}: {check.what}" for check in self.checks),
        ]
        return "\n".join(lines) + "\n"


def decide(champion: Measured, challenger: Measured, rule: Rule, *, seed: int = 0) -> Decision:
    """Hold the challenger against the champion, both evaluated on the same users with `rule.metrics`.

    The gain is that of the metric, in the direction that is better; its interval and p-value are `compare`'s. It is
    earned when the whole interval lies above `minimum_gain` times the champion's value and no guard-rail is crossed.

    Raises:
        DataError: the evaluations are of different users.
        ConfigError: a metric was not evaluated.
    """
    rule = rule.for_metric(rule.metric or "ndcg@10")
    assert rule.metric is not None
    models = {"champion": champion.evaluation, "challenger": challenger.evaluation}
    row = compare(models, rule.metric, confidence=rule.confidence, seed=seed).pairs.iloc[0]
    sign = 1.0 if row["better"] == "challenger" else -1.0
    low, high = sorted((sign * row["low"], sign * row["high"]))
    before, after = champion.evaluation[rule.metric], challenger.evaluation[rule.metric]
    needed = rule.minimum_gain * abs(before)
    checks = [
        Check(
            bool(low > needed and row["p"] < 1 - rule.confidence),
            f"{rule.metric} {before:.4f} -> {after:.4f}: gain {sign * row['difference']:+.4f}, {rule.confidence:.0%} "
            f"interval {low:+.4f} to {high:+.4f}, must lie above {needed:+.4f}",
        )
    ]
    for name, share in rule.guards.items():
        checks.append(_guard(name, champion.evaluation[name], challenger.evaluation[name], share))
    if rule.slowdown is not None and champion.seconds and challenger.seconds is not None:
        times = challenger.seconds / champion.seconds
        checks.append(
            Check(
                times <= rule.slowdown,
                f"scoring takes {times:.2f} times the {champion.seconds:.2f} s of {champion.name}, may take "
                f"{rule.slowdown:g} times",
            )
        )
    return Decision(
        champion.name,
        challenger.name,
        rule.metric,
        before,
        after,
        float(low),
        float(high),
        float(row["p"]),
        int(row["n"]),
        tuple(checks),
    )


def _guard(name: str, before: float, after: float, share: float) -> Check:
    if higher_is_better(name):
        bound, passed = before - share * abs(before), after >= before - share * abs(before)
        return Check(bool(passed), f"{name} {before:.4f} -> {after:.4f}, must not fall below {bound:.4f}")
    bound, passed = before + share * abs(before), after <= before + share * abs(before)
    return Check(bool(passed), f"{name} {before:.4f} -> {after:.4f}, must not rise above {bound:.4f}")
