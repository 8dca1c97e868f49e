"""Which of several evaluated models is better, and how certain that is: intervals, paired tests, verdicts in words.

Users are the sample. All models were measured on the same users, so models are compared user by user: what makes a user
easy or hard for every model cancels in the difference. Each user contributes a row of `sums` (n_users, n_models) and of
`counts` (n_users,); a model's value is Σ sums / Σ counts, or the root of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.evaluation.permutation import blocks, p_in_words, p_values
from recsys.evaluation.results import RATINGS, Evaluation
from recsys.metrics import higher_is_better, of, rating
from recsys.params import random_generator

Floats = npt.NDArray[np.float64]
RESAMPLES: Final = 10_000
"""Bootstrap samples and label swaps: enough to estimate a p-value of 0.05 to ± 0.002."""


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
        sentences = []
        for _, row in self.pairs.iterrows():
            interval = f"{self.confidence:.0%} interval {row['low']:+.4f} to {row['high']:+.4f}"
            if row["different"]:
                verdict = f"{row['better']} is better than {row['worse']} by {row['difference']:.4f} ("
            else:
                verdict = f"no difference shown between {row['better']} and {row['worse']} ({row['difference']:+.4f}, "
            sentences.append(f"{row['metric']}: {verdict}{interval}, {p_in_words(row['p_holm'])})")
        return sentences

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
    that give a difference at least as large, counting the observed one. Where that is below 100 of the swaps, it is
    estimated from swaps that favor the observed difference (importance sampling by exponential tilting, Siegmund 1976),
    with a standard error of a tenth or so however small it is. So any number of pairs can differ after the p-values of
    one metric's pairs are corrected by Holm's procedure (1979).

    Args:
        evaluations: two or more, by the model's name.
        metrics: metrics with a value per user; by default all that every evaluation has.
        confidence: coverage of the intervals.
        resamples: number of bootstrap samples, and of label swaps; a tenth as many favor a difference, 1,000 at least.
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
    rng = random_generator(seed)
    rows = []
    for metric in _common(evaluations, metrics):
        sums, counts = _sums(evaluations, metric)
        sign, root = 1.0 if higher_is_better(metric) else -1.0, of(metric).root
        values = sign * _means(sums.sum(0), counts.sum(), root)
        drawn = sign * _means(*_resampled(sums, counts, resamples, rng), root)
        pairs = [(a, b) if values[a] >= values[b] else (b, a) for a, b in combinations(range(len(names)), 2)]
        chances = p_values(sums, pairs, resamples, rng)
        for (better, worse), p, p_holm in zip(pairs, chances, holm(chances), strict=True):
            ends = _interval(drawn[:, better] - drawn[:, worse], confidence)
            difference, different = values[better] - values[worse], bool(p_holm < 1 - confidence)
            rows.append((metric, names[better], names[worse], difference, *ends, p, p_holm, different, len(counts)))
    columns = ["metric", "better", "worse", "difference", "low", "high", "p", "p_holm", "different", "n"]
    return Comparison(pd.DataFrame(rows, columns=columns), confidence)


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
    rng = random_generator(seed)
    sums = {
        metric: _sums({"": evaluation}, metric)
        for metric in evaluation.values
        if metric in evaluation.per_user and evaluation.per_user[metric].notna().any()
    }
    together: dict[bytes, list[str]] = {}  # metrics over the same users with the same weights
    for metric, (_, counts) in sums.items():
        users = evaluation.per_user[metric].notna().to_numpy()
        together.setdefault(users.tobytes() + counts.tobytes(), []).append(metric)
    ends = dict.fromkeys(evaluation.values, (float("nan"), float("nan")))
    for group in together.values():
        both = np.concatenate([sums[metric][0] for metric in group], axis=1)
        drawn, counts = _resampled(both, sums[group[0]][1], resamples, rng)
        for metric, values in zip(group, drawn.T, strict=True):
            ends[metric] = _interval(_means(values, counts[:, 0], of(metric).root), confidence)
    rows = [(metric, value, *ends[metric]) for metric, value in evaluation.values.items()]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


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
    first, *others = evaluations.values()
    shared = [metric for metric in first.values if all(metric in one.per_user for one in (first, *others))]
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


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values corrected for multiple tests by Holm's step-down procedure (1979), in the same order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _means(sums: Floats, counts: Floats, root: bool) -> Floats:
    values: Floats = sums / counts
    return np.sqrt(values.clip(0)) if root else values  # rounding may leave a sum of squares below 0


def _resampled(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return (resamples, n_models) sums and (resamples, 1) counts of users drawn with replacement."""
    n = len(counts)
    both = np.column_stack([sums, counts])
    drawn = np.empty((resamples, both.shape[1]))
    done = 0
    for size in blocks(resamples, n):
        places = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        drawn[done : done + size] = times.astype(np.float64) @ both  # integers would take ten times as long
        done += size
    return drawn[:, :-1], drawn[:, -1:]


def _interval(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
