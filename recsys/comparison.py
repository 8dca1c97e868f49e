"""Which of several evaluated models is better, and how sure that is: intervals, paired tests, a verdict in words.

The users are the sample. Every model was measured on the same users, so models are compared user by user: what makes a
user easy or hard for all models drops out of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.evaluation import RATINGS, Evaluation
from recsys.metrics import RATING, higher_is_better

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
"""Bootstrap samples and sign flips: a p-value of 0.05 is then known to ± 0.002."""
_BLOCK = 2**22
"""Draws held at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Every pair of models on every metric."""

    pairs: pd.DataFrame
    """`metric, better, worse, difference, low, high, p, p_holm, different, n`: the difference of the metric's values
    (positive: in favour of `better`), its bootstrap interval, the two-sided p-value of the permutation test, the same
    after Holm's correction over the pairs of the metric, whether that lies below 1 − confidence, and the users."""
    confidence: float
    """Coverage of the intervals; 1 − confidence is the level of the tests."""

    def verdicts(self) -> list[str]:
        """Return one sentence per metric and pair."""
        return [self._sentence(row) for _, row in self.pairs.iterrows()]

    def _sentence(self, row: pd.Series) -> str:
        interval = f"{self.confidence:.0%} interval {row['low']:+.4f} to {row['high']:+.4f}"
        chance = f"p = {row['p_holm']:.4f}" if row["p_holm"] >= 0.0001 else "p < 0.0001"
        if row["different"]:
            return (
                f"{row['metric']}: {row['better']} is better than {row['worse']} by {row['difference']:.4f} "
                f"({interval}, {chance})"
            )
        return (
            f"{row['metric']}: no difference shown between {row['better']} and {row['worse']} "
            f"({row['difference']:+.4f}, {interval}, {chance})"
        )

    def __repr__(self) -> str:
        return "\n".join(self.verdicts())


def compare(
    evaluations: Mapping[str, Evaluation],
    metrics: str | Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | np.random.Generator | None = 0,
) -> Comparison:
    """Compare models that were evaluated on the same part, pair by pair.

    The difference of two models is the difference of their values; of `rmse` and `mae` that of the errors over all
    ratings, users being resampled with all their ratings. The interval is the percentile bootstrap over users (Efron
    and Tibshirani 1993, ch. 13). The p-value is that of the permutation test which exchanges the two models' labels
    user by user (the sign-flip test; Smucker, Allan and Carterette 2007 on it against others): the share of exchanges
    that give a difference at least as large, the observed one counted in. Over the pairs of one metric the p-values
    are Holm's (1979).

    Args:
        evaluations: two or more, by the model's name.
        metrics: with a value per user; by default all that every evaluation has.
        confidence: coverage of the intervals.
        resamples: bootstrap samples, and label exchanges.
        seed: of the draws.

    Raises:
        DataError: fewer than two evaluations, other users, or other users without a value.
        ConfigError: a metric that was not evaluated, or has no value per user; numbers out of range.
    """
    names = list(evaluations)
    if len(names) < 2:
        raise DataError(f"expected at least two evaluations to compare, got {len(names)}")
    _check_numbers(confidence, resamples)
    first = evaluations[names[0]].per_user
    for name in names[1:]:
        if not evaluations[name].per_user[USER].equals(first[USER]):
            raise DataError(f"{name} was evaluated on other users than {names[0]}; evaluate all on the same part")
    rng = np.random.default_rng(seed)
    found = []
    for metric in _common(evaluations, metrics):
        sums, counts = _sums(evaluations, metric)
        found.append(_compare(metric, names, sums, counts, confidence, resamples, rng))
    return Comparison(pd.concat(found, ignore_index=True), confidence)


def intervals(
    evaluation: Evaluation,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return `metric, value, low, high`: the percentile bootstrap interval over users of each metric.

    Metrics of the same users share their draws. Those without a value per user (`coverage`, `gini`) have no interval:
    NaN.

    Raises:
        ConfigError: numbers out of range.
    """
    _check_numbers(confidence, resamples)
    rng = np.random.default_rng(seed)
    together: dict[bytes, dict[str, tuple[Floats, Floats]]] = {}  # metrics by the users and weights they are means over
    for metric in evaluation.values:
        if metric in evaluation.per_user and evaluation.per_user[metric].notna().any():
            sums, counts = _sums({"": evaluation}, metric)
            key = evaluation.per_user[metric].notna().to_numpy().tobytes() + counts.tobytes()
            together.setdefault(key, {})[metric] = sums, counts
    found: dict[str, tuple[float, float]] = {}
    for group in together.values():
        sums = np.concatenate([sums for sums, _ in group.values()], axis=1)
        _, counts = next(iter(group.values()))
        drawn, drawn_counts = _resampled(sums, counts, resamples, rng)
        for place, metric in enumerate(group):
            found[metric] = _interval(_means(metric, drawn[:, [place]], drawn_counts)[:, 0], confidence)
    nowhere = (float("nan"), float("nan"))
    rows = [(metric, value, *found.get(metric, nowhere)) for metric, value in evaluation.values.items()]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values corrected for their number, in the same order: Holm's step-down procedure (1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _compare(
    metric: str,
    names: Sequence[str],
    sums: Floats,
    counts: Floats,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    sign = 1.0 if higher_is_better(metric) else -1.0
    values = sign * _means(metric, sums.sum(0)[None], counts.sum()[None])[0]
    drawn = sign * _means(metric, *_resampled(sums, counts, resamples, rng))
    pairs = [(a, b) if values[a] >= values[b] else (b, a) for a, b in combinations(range(len(names)), 2)]
    p_values = _exchanged(metric, sums, counts, pairs, resamples, rng)
    corrected = holm(p_values)
    rows = []
    for (better, worse), p, p_holm in zip(pairs, p_values, corrected, strict=True):
        low, high = _interval(drawn[:, better] - drawn[:, worse], confidence)
        difference = values[better] - values[worse]
        different = bool(p_holm < 1 - confidence)
        rows.append((metric, names[better], names[worse], difference, low, high, p, p_holm, different, len(counts)))
    columns = ["metric", "better", "worse", "difference", "low", "high", "p", "p_holm", "different", "n"]
    return pd.DataFrame(rows, columns=columns)


def _sums(evaluations: Mapping[str, Evaluation], metric: str) -> tuple[Floats, Floats]:
    """Return (n_users, n_models) sums and (n_users,) counts of the users with a value, whose ratio the metric is."""
    table = np.stack([e.per_user[metric].to_numpy(dtype=np.float64) for e in evaluations.values()], axis=1)
    known = ~np.isnan(table)
    if (known.any(1) != known.all(1)).any():
        raise DataError(
            f"{metric} has a value for some users in one evaluation and not in another; "
            "evaluate all models on the same part with the same min_relevance"
        )
    table = table[known.all(1)]
    if not len(table):
        raise DataError(f"no user has a value of {metric}")
    if metric not in RATING:
        return table, np.ones(len(table))
    counts = next(iter(evaluations.values())).per_user[RATINGS].to_numpy(dtype=np.float64)[known.all(1)]
    return (table**2 if metric == "rmse" else table) * counts[:, None], counts


def _means(metric: str, sums: Floats, counts: Floats) -> Floats:
    means = sums / counts[:, None]
    return np.sqrt(means) if metric == "rmse" else means


def _resampled(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return (resamples, n_models) sums and (resamples,) counts of users drawn with replacement."""
    n = len(counts)
    both = np.column_stack([sums, counts])
    drawn = np.empty((resamples, both.shape[1]))
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        places = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        drawn[start : start + size] = times.astype(np.float64) @ both  # whole numbers take ten times as long
    return drawn[:, :-1], drawn[:, -1]


def _exchanged(
    metric: str,
    sums: Floats,
    counts: Floats,
    pairs: Sequence[tuple[int, int]],
    resamples: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the p-value of each pair: how often exchanging labels at random gives as large a difference."""
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    gaps, totals = sums[:, left] - sums[:, right], sums[:, left].sum(0) + sums[:, right].sum(0)

    def statistic(gap: Floats) -> Floats:
        one, other = (totals + gap) / 2, (totals - gap) / 2
        every = np.broadcast_to(counts.sum(), len(gap))
        result: Floats = np.abs(_means(metric, one.clip(0), every) - _means(metric, other.clip(0), every))
        return result

    observed = statistic(gaps.sum(0)[None])[0] * (1 - 1e-9)  # rounding must not tell equal differences apart
    reached, n = np.ones(len(pairs)), len(counts)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        bits = np.unpackbits(rng.integers(0, 256, size=(size, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]
        reached += (statistic((2.0 * bits - 1.0) @ gaps) >= observed).sum(0)
    result: Floats = reached / (resamples + 1)
    return result


def _interval(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _common(evaluations: Mapping[str, Evaluation], metrics: str | Sequence[str] | None) -> list[str]:
    """Return the metrics to compare, each with a value per user in every evaluation."""
    shared = [
        metric
        for metric in next(iter(evaluations.values())).summary["metric"]
        if all(metric in evaluation.per_user for evaluation in evaluations.values())
    ]
    wanted = shared if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in wanted:
        if metric not in shared:
            raise ConfigError(
                f"{metric!r} has no value per user in every evaluation{did_you_mean(metric, shared)}; "
                "evaluate all models on it (coverage and gini have none)"
            )
    if not wanted:
        raise ConfigError("the evaluations have no metric with a value per user in common")
    return wanted


def _check_numbers(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1, got {confidence}")
    if resamples < 100:
        raise ConfigError(f"resamples must be at least 100, got {resamples}")
