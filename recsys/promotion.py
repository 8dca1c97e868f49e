"""Whether a challenger has earned the champion's place: a paired test with a minimum gain, and guard-rails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pydantic import ConfigDict

from recsys.errors import ConfigError
from recsys.evaluation import Evaluation, compare
from recsys.metrics import higher_is_better, of
from recsys.params import NotNegative, OpenFraction, Positive, check

GUARDS: Final = {"coverage@10": 0.5, "truncated_recall@50": 0.05}
"""Guard-rails of list metrics, unless others are given."""


@dataclass(frozen=True)
class Rule:
    """What a challenger must show to take the champion's place.

    Raises:
        ConfigError: a value out of range, an unknown metric, or a deciding metric without a value per user.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    metric: str | None = None
    """The metric that decides; by default the one that chose the weights, `train.metric`. It needs a value per user."""
    minimum_gain: NotNegative = 0.01
    """Share of the champion's value that must certainly be gained: the whole interval of the difference lies above it.
    A gain that two seeds of one model may show is no reason to change what users see."""
    confidence: OpenFraction = 0.95
    """Coverage of the interval; 1 − confidence is the level of the test."""
    guards: Mapping[str, NotNegative] | None = None
    """Metrics that may not get worse by more than a share of the champion's value, such as `{"coverage@10" = 0.5}`; by
    default `coverage@10` by 0.5 and `truncated_recall@50` by 0.05, none if the weights were chosen by an error of
    ratings."""
    slowdown: Positive | None = 5.0
    """How many times the champion's scoring time the challenger may take; None: any."""

    def __post_init__(self) -> None:
        check(Rule, vars(self))
        for name in self.guards or ():
            of(name)
        if self.metric is not None and not of(self.metric).per_user:
            raise ConfigError(f"promote.metric must have a value per user, and {self.metric} has none")

    def for_metric(self, metric: str | None = None) -> Rule:
        """Return the rule with its defaults filled in for the metric that chose the weights.

        Raises:
            ConfigError: neither the rule nor the argument names a metric.
        """
        chosen = metric or self.metric
        if chosen is None:
            raise ConfigError("the rule names no metric; pass one, such as rule.for_metric('ndcg@10')")
        guards = ({} if of(chosen).rates else GUARDS) if self.guards is None else self.guards
        return replace(self, metric=self.metric or metric, guards=guards)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that must be measured."""
        rule = self.for_metric()
        return tuple(dict.fromkeys((str(rule.metric), *(rule.guards or ()))))

    def as_text(self) -> str:
        """Return the rule as one line of JSON, the same for equal rules."""
        return json.dumps(check(Rule, vars(self)), sort_keys=True, default=dict)


@dataclass(frozen=True)
class Measured:
    """A contestant on the held-out users."""

    name: str
    evaluation: Evaluation
    seconds: float | None = None
    """Time that scoring the users took."""


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
    """Number of users."""
    checks: tuple[tuple[bool, str], ...]
    """Of each condition of the rule whether it is met, and a sentence with its figures."""

    @property
    def earned(self) -> bool:
        """Whether every condition is met."""
        return all(passed for passed, _ in self.checks)

    @property
    def gain(self) -> float:
        """How much better the challenger is; negative if it is worse, whatever the metric's direction."""
        change = self.challenger_value - self.champion_value
        return change if higher_is_better(self.metric) else -change

    @property
    def reason(self) -> str:
        """One line: the gain if earned, else the conditions that are not met."""
        return self.checks[0][1] if self.earned else "; ".join(what for passed, what in self.checks if not passed)

    def markdown(self) -> str:
        """Return the decision with its figures as a readable note."""
        verdict = "earned the promotion" if self.earned else "did not earn the promotion"
        lines = [
            f"**{self.challenger} {verdict}** against {self.champion}, on {self.n:,} held-out users.",
            "",
            f"| | {self.metric} |",
            "|---|--:|",
            f"| {self.champion} | {self.champion_value:.4f} |",
            f"| {self.challenger} | {self.challenger_value:.4f} |",
            f"| gain, interval, p | {self.gain:+.4f}, {self.low:+.4f} to {self.high:+.4f}, {self.p:.4f} |",
            "",
            *(f"- {'passed' if passed else 'failed'}: {what}" for passed, what in self.checks),
        ]
        return "\n".join(lines) + "\n"


def decide(champion: Measured, challenger: Measured, rule: Rule, *, seed: int = 0) -> Decision:
    """Compare the challenger with the champion, both evaluated on the same users with `rule.metrics`.

    The gain is that of the deciding metric, positive if better; its interval and p-value are those of `compare`.

    Raises:
        DataError: the evaluations are of different users.
        ConfigError: a metric was not evaluated, or the rule names none.
    """
    rule = rule.for_metric()
    metric = str(rule.metric)
    models = {"champion": champion.evaluation, "challenger": challenger.evaluation}
    row = compare(models, metric, confidence=rule.confidence, seed=seed).pairs.iloc[0]
    sign = 1.0 if row["better"] == "challenger" else -1.0
    low, high = sorted((sign * float(row["low"]), sign * float(row["high"])))
    before, after = champion.evaluation[metric], challenger.evaluation[metric]
    needed = rule.minimum_gain * abs(before)
    clear = bool(low > needed and row["p"] < 1 - rule.confidence)
    gain = f"gain {sign * row['difference']:+.4f}, {rule.confidence:.0%} interval {low:+.4f} to {high:+.4f}"
    checks = [(clear, f"{metric} {before:.4f} -> {after:.4f}: {gain}, must lie above {needed:+.4f}")]
    for name, share in (rule.guards or {}).items():
        old, new = champion.evaluation[name], challenger.evaluation[name]
        up, verb = (1, "fall below") if higher_is_better(name) else (-1, "rise above")
        bound = old - up * share * abs(old)
        checks.append((up * new >= up * bound, f"{name} {old:.4f} -> {new:.4f}, must not {verb} {bound:.4f}"))
    if rule.slowdown is not None and champion.seconds and challenger.seconds is not None:
        times = challenger.seconds / champion.seconds
        what = f"scoring takes {times:.2f} times the {champion.seconds:.2f} s of {champion.name}, at most"
        checks.append((times <= rule.slowdown, f"{what} {rule.slowdown:g} times is allowed"))
    test = float(row["p"]), int(row["n"])
    return Decision(champion.name, challenger.name, metric, before, after, low, high, *test, tuple(checks))
