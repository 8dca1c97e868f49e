"""Whether a challenger has earned the champion's place: a paired test with a minimum gain, and guard-rails.

One contest in a year is decided by an interval. Of many, on the same users, some would be won by chance alone, so their
levels share the error budget of the year: see `recsys.error_budget`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Annotated, Any, Final

import pandas as pd
from annotated_types import Gt, Le
from pydantic import ConfigDict

from recsys.error_budget import Place
from recsys.errors import ConfigError
from recsys.evaluation import Evaluation, compare, p_in_words
from recsys.metrics import higher_is_better, of
from recsys.params import NotNegative, OpenFraction, Positive, Real, check

Chance = Annotated[Real, Gt(0), Le(1)]
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
    """Coverage of the intervals; 1 − confidence is the level of a contest's test."""
    error_budget: Chance = 0.05
    """Chance with which a year of contests may promote any challenger that is no better than the champion. Each
    contest spends a share of what is left of it, and its one-sided p-value may be no greater; see docs/design.md. 1
    sets no such bound: each contest is decided by itself."""
    guards: Mapping[str, NotNegative] | None = None
    """Metrics that may not get worse by more than a share of the champion's value, such as `{"coverage@10" = 0.5}`; by
    default `coverage@10` by 0.5 and `truncated_recall@50` by 0.05, none if the weights were chosen by an error of
    ratings. The whole interval of the difference must lie within the limit; of metrics of all lists together, such as
    coverage, which have no interval, the value."""
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
    """Time that scoring some of the users takes."""
    elsewhere: Evaluation | None = None
    """On other held-out users, who have no say."""


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
    place: Place | None = None
    """Among the contests of the year."""
    detectable: float = 0.0
    """True gain that such a contest would promote with a chance of 90 %."""
    elsewhere: tuple[float, float, int] | None = None
    """Values of champion and challenger on other held-out users, who had no say, and their number."""

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
            f"| gain, interval, test | {self.gain:+.4f}, {self.low:+.4f} to {self.high:+.4f}, {p_in_words(self.p)} |",
            "",
            *(f"- {'passed' if passed else 'failed'}: {what}" for passed, what in self.checks),
            "",
            self._power(),
            self._curse(),
        ]
        return "\n".join(lines) + "\n"

    def _power(self) -> str:
        share = self.detectable / abs(self.champion_value) if self.champion_value else float("nan")
        return (
            f"A true gain of {self.detectable:.4f} ({share:.1%}) has a chance of 90 % on so many users; more held-out "
            "users show smaller ones."
        )

    def _curse(self) -> str:
        known = "The value of a winner is too high on average on the users who chose it (the winner's curse)"
        if self.elsewhere is None:
            return f"{known}, and this split has no others."
        before, after, n = self.elsewhere
        return (
            f"{known}. On {n:,} validation users, who may have chosen epochs and settings but had no say here: "
            f"{self.champion} {before:.4f}, {self.challenger} {after:.4f}."
        )


def decide(
    champion: Measured, challenger: Measured, rule: Rule, *, place: Place | None = None, seed: int = 0
) -> Decision:
    """Compare the challenger with the champion, both evaluated on the same users with `rule.metrics`.

    The gain is that of the deciding metric, positive if better; intervals and p-value are those of `compare`.

    Args:
        place: the contest's among those of a year; without one it is decided by itself.
        seed: of the draws of `compare`.

    Raises:
        DataError: the evaluations are of different users.
        ConfigError: a metric was not evaluated, or the rule names none.
    """
    rule = rule.for_metric()
    metric, guards = str(rule.metric), rule.guards or {}
    models = {"champion": champion.evaluation, "challenger": challenger.evaluation}
    measured = [name for name in guards if name != metric and all(name in one.per_user for one in models.values())]
    pairs = compare(models, [metric, *measured], confidence=rule.confidence, seed=seed).pairs
    rows = {str(row["metric"]): row for _, row in pairs.iterrows()}
    gain, low, high = _gain(rows[metric])
    p, n = float(rows[metric]["p"]), int(rows[metric]["n"])
    before, after = champion.evaluation[metric], challenger.evaluation[metric]
    needed = rule.minimum_gain * abs(before)
    clear = bool(low > needed and p < 1 - rule.confidence)
    shown = f"gain {gain:+.4f}, {rule.confidence:.0%} interval {low:+.4f} to {high:+.4f}"
    checks = [(clear, f"{metric} {before:.4f} -> {after:.4f}: {shown}, must lie above {needed:+.4f}")]
    if place is not None and place.level < 1:
        checks.append(_within_budget(p / 2 if gain > 0 else 1 - p / 2, place))
    checks += [_guarded(name, share, models, rows.get(name)) for name, share in guards.items()]
    checks += _in_time(champion, challenger, rule.slowdown)
    return Decision(
        champion=champion.name,
        challenger=challenger.name,
        metric=metric,
        champion_value=before,
        challenger_value=after,
        low=low,
        high=high,
        p=p,
        n=n,
        checks=tuple(checks),
        place=place,
        detectable=_detectable((high - low) / 2, needed, rule.confidence, place),
        elsewhere=_elsewhere(champion.elsewhere, challenger.elsewhere, metric),
    )


def _gain(row: pd.Series[Any]) -> tuple[float, float, float]:
    """Return the challenger's gain and its interval, from a row of `Comparison.pairs`."""
    sign = 1.0 if row["better"] == "challenger" else -1.0
    low, high = sorted((sign * float(row["low"]), sign * float(row["high"])))
    return sign * float(row["difference"]), low, high


def _within_budget(p: float, place: Place) -> tuple[bool, str]:
    what = f"one-sided p = {p:.2g}, must be at most {place.level:.2g}: contest {place.number} of the year"
    return p <= place.level, f"{what}, which has spent {place.spent:.1%} of its error budget of {place.error_budget:g}"


def _guarded(name: str, share: float, models: Mapping[str, Evaluation], row: pd.Series[Any] | None) -> tuple[bool, str]:
    """Return whether the challenger is certainly not worse than the limit; by the values alone without a row."""
    old, new = (models[one][name] for one in ("champion", "challenger"))
    up, verb = (1, "fall below") if higher_is_better(name) else (-1, "rise above")
    bound = old - up * share * abs(old)
    if row is None:
        return up * new >= up * bound, f"{name} {old:.4f} -> {new:.4f}, must not {verb} {bound:.4f}"
    worst = old + up * _gain(row)[1]
    what = f"{name} {old:.4f} -> {new:.4f}, by its interval {worst:.4f} at worst, must not {verb} {bound:.4f}"
    return up * worst >= up * bound, what


def _in_time(champion: Measured, challenger: Measured, slowdown: float | None) -> list[tuple[bool, str]]:
    if slowdown is None or not champion.seconds or challenger.seconds is None:
        return []
    times = challenger.seconds / champion.seconds
    what = f"scoring takes {times:.2f} times the {champion.seconds:.3g} s of {champion.name}, at most"
    return [(times <= slowdown, f"{what} {slowdown:g} times is allowed")]


def _detectable(margin: float, needed: float, confidence: float, place: Place | None) -> float:
    """Return the true gain that passes with a chance of 90 %, if the interval is ± `margin` wide."""
    quantile = NormalDist().inv_cdf
    error = margin / quantile((1 + confidence) / 2)
    least = needed + margin
    if place is not None and place.level < 0.5:
        least = max(least, -quantile(place.level) * error)
    return least + quantile(0.9) * error


def _elsewhere(
    champion: Evaluation | None, challenger: Evaluation | None, metric: str
) -> tuple[float, float, int] | None:
    if champion is None or challenger is None:
        return None
    return champion[metric], challenger[metric], int(challenger.per_user[metric].notna().sum())
