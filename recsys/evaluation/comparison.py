"""Which of several evaluated models is better, and how certain that is: intervals, paired tests, verdicts in words.

Users are the sample. All models were measured on the same users, so models are compared user by user: what makes a user
easy or hard for every model cancels in the difference.
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
from recsys.evaluation.resampling import RESAMPLES, holm, interval, means, p_values, resampled
from recsys.evaluation.results import RATINGS, Evaluation
from recsys.metrics import higher_is_better, of, rating

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Every pair of models on every metric."""

    pairs: pd.DataFrame
    """`metric, better, worse, difference, low, high, p, p_holm, different, n`: the difference of the metric's values
    (positive: in favor of `better`), its bootstrap interval, the two-sided p-value of the permutation test, the same
    after Holm's correction over the metric's pairs, whether that is below 1 − confidence, and the number of users."""
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

    The difference of two models is the difference of their values; for errors of ratings that of the errors over all
    ratings, where users are resampled with all their ratings. The interval is the percentile bootstrap over users
    (Efron and Tibshirani 1993, ch. 13). The p-value is that of the permutation test that swaps the two models' labels
    user by user (the sign-flip test; Smucker, Allan and Carterette 2007 compare it with others): the share of swaps
    that give a difference at least as large, counting the observed one. The p-values of one metric's pairs are
    corrected by Holm's procedure (1979).

    Args:
        evaluations: two or more, by the model's name.
        metrics: metrics with a value per user; by default all that every evaluation has.
        confidence: coverage of the intervals.
        resamples: number of bootstrap samples, and of label swaps.
        seed: seed of the draws.

    Raises:
        DataError: fewer than two evaluations, or different users, or users with a value in one evaluation only.
        ConfigError: a metric that was not evaluated, or has no value per user; numbers out of range.
    """
    names = list(evaluations)
    if len(names) < 2:
        raise DataError(f"expected at least two evaluations to compare, got {len(names)}")
    _check_numbers(confidence, resamples)
    first = evaluations[names[0]].per_user
    for name in names[1:]:
        if not evaluations[name].per_user[USER].equals(first[USER]):
            raise DataError(
                f"{name} was evaluated on other users than {names[0]}; evaluate all models on the same part"
            )
    rng = np.random.default_rng(seed)
    pairs = []
    for metric in _common(evaluations, metrics):
        sums, counts = _sums(evaluations, metric)
        pairs.append(_compare(metric, names, sums, counts, confidence, resamples, rng))
    return Comparison(pd.concat(pairs, ignore_index=True), confidence)


def intervals(
    evaluation: Evaluation,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return `metric, value, low, high`: each metric with its percentile bootstrap interval over users.

    Metrics of the same users share their draws. Metrics without a value per user, such as `coverage`, have no interval
    (NaN).

    Raises:
        ConfigError: numbers out of range.
    """
    _check_numbers(confidence, resamples)
    rng = np.random.default_rng(seed)
    together: dict[
        bytes, dict[str, tuple[Floats, Floats]]
    ] = {}  # metrics that are means over the same users and weights
    for metric in evaluation.values:
        if metric in evaluation.per_user and evaluation.per_user[metric].notna().any():
            sums, counts = _sums({"": evaluation}, metric)
            key = evaluation.per_user[metric].notna().to_numpy().tobytes() + counts.tobytes()
            together.setdefault(key, {})[metric] = sums, counts
    ends: dict[str, tuple[float, float]] = {}
    for group in together.values():
        sums = np.concatenate([sums for sums, _ in group.values()], axis=1)
        _, counts = next(iter(group.values()))
        drawn, drawn_counts = resampled(sums, counts, resamples, rng)
        for place, metric in enumerate(group):
            ends[metric] = interval(means(drawn[:, [place]], drawn_counts, root=of(metric).root)[:, 0], confidence)
    none = (float("nan"), float("nan"))
    rows = [(metric, value, *ends.get(metric, none)) for metric, value in evaluation.values.items()]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


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
    root = of(metric).root
    values = sign * means(sums.sum(0)[None], counts.sum()[None], root=root)[0]
    drawn = sign * means(*resampled(sums, counts, resamples, rng), root=root)
    pairs = [(a, b) if values[a] >= values[b] else (b, a) for a, b in combinations(range(len(names)), 2)]
    chances = p_values(sums, counts, pairs, resamples, rng, root=root)
    corrected = holm(chances)
    rows = []
    for (better, worse), p, p_holm in zip(pairs, chances, corrected, strict=True):
        low, high = interval(drawn[:, better] - drawn[:, worse], confidence)
        difference = values[better] - values[worse]
        different = bool(p_holm < 1 - confidence)
        rows.append((metric, names[better], names[worse], difference, low, high, p, p_holm, different, len(counts)))
    columns = ["metric", "better", "worse", "difference", "low", "high", "p", "p_holm", "different", "n"]
    return pd.DataFrame(rows, columns=columns)


def _sums(evaluations: Mapping[str, Evaluation], metric: str) -> tuple[Floats, Floats]:
    """Return (n_users, n_models) sums and (n_users,) counts of users with a value; the metric is their ratio."""
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
    if not of(metric).rates:
        return table, np.ones(len(table))
    counts = next(iter(evaluations.values())).per_user[RATINGS].to_numpy(dtype=np.float64)[known.all(1)]
    return rating.sums_of(table, counts[:, None], root=of(metric).root), counts


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
                "evaluate all models on it (metrics of all lists together, such as coverage, have none)"
            )
    if not wanted:
        raise ConfigError("the evaluations have no metric with a value per user in common")
    return wanted


def _check_numbers(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1, got {confidence}")
    if resamples < 100:
        raise ConfigError(f"resamples must be at least 100, got {resamples}")
